"""The reserve: space on the disk that is kept for the sealing of runs."""

import contextlib
import os
from pathlib import Path

from loopotel_prom.archive.folders import make_folder

RESERVE_BYTES = 256 * 1024
# Not taken from a disk that has next to nothing.
_TIMES_FREE = 8
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Reserve:
    """
    A file of some size, shared by the processes of an archive.

    Args:
        path: Where it is; its folder is made when it is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Take the space if nobody has, and there is plenty. Never raises."""
        with contextlib.suppress(OSError):
            if self._path.exists():
                return
            make_folder(self._path.parent)
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize >= RESERVE_BYTES * _TIMES_FREE:
                self._make()

    def _make(self) -> None:
        if self._path.parent.is_symlink():
            return
        file = os.open(self._path, _NEW, 0o600)
        try:
            _fill(file, RESERVE_BYTES)
        except OSError:
            self._path.unlink()
            raise
        finally:
            os.close(file)

    def release(self) -> bool:
        """Let go of the space; True if there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def _fill(file: int, size_bytes: int) -> None:
    allocate = getattr(os, "posix_fallocate", None)
    if allocate is not None:
        allocate(file, 0, size_bytes)
        return
    # macOS has no such call.
    written = 0
    while written < size_bytes:
        written += os.write(file, bytes(size_bytes - written))
