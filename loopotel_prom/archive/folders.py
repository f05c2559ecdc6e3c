"""Folders: made, and brought to the disk."""

import os
from contextlib import suppress
from pathlib import Path


def make_folder(folder: Path) -> None:
    """
    Make a folder, private, and those above it, and bring them to the disk.

    Raises:
        OSError: It cannot be made.
    """
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    if not folder.is_dir():
        # Traces hold what agents were told; nobody else's business.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in made:
        # A folder may be open to writing alone; then it cannot be synced.
        with suppress(PermissionError):
            sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """
    Bring a folder's names to the disk.

    Raises:
        OSError: It cannot be known that they are there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
