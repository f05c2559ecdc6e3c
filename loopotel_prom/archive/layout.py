"""
The names in an archive's folder (`specs/archive.md`), and nothing about content.

Names are made so that they sort by the time of their making, and are unique
whatever the clock says.
"""

import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

SEALED = "traces.jsonl"
JOURNAL = "journal"
QUARANTINE = "quarantine"
RESERVE = "reserve"
# The sidecar's, unless it is told another place (`specs/sidecar.md`).
CHECKPOINT = "sidecar.checkpoint"
COMPRESSED = ".zst"
UNFINISHED = ".tmp"

# Large enough to rotate rarely, small enough to copy and to look into.
ROTATE_BYTES = 64 * 1024**2
ROTATE_SECONDS = 86_400.0
# A longer document has a file of its own, and is not held to be read.
LONG_BYTES = 16 * 1024**2

_SEGMENT = re.compile(r"(.+)\.([0-9]{1,9})\.jsonl")
_ENDINGS = (".jsonl", ".jsonl.zst", ".jsonl.gz")


def stamp() -> str:
    """Give a name's variable part: UTC for people, random digits for the rest."""
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return f"{now}-{secrets.token_hex(8)}"


def rotated_name() -> str:
    """Name a sealed file that is complete."""
    return f"traces-{stamp()}.jsonl"


def journal_name() -> str:
    """Name a process's journal; segment ``n`` of it is ``NAME.n.jsonl``."""
    utc, random = stamp().split("-")
    return f"{utc}-{os.getpid()}-{random}"


def rotated_files(folder: Path) -> list[Path]:
    """
    List the complete sealed files, the oldest name first.

    Of a file and its compressed copy the file alone. An empty list where there is
    no folder.

    Raises:
        OSError: The folder cannot be read.
    """
    return [folder / name for name in rotated_names(_names(folder))]


def rotated_names(names: Iterable[str]) -> list[str]:
    """Pick, of the names in a folder, those that `rotated_files` lists."""
    traces = (name for name in names if name.startswith("traces-"))
    found = {name for name in traces if name.endswith(_ENDINGS)}
    copies = {name + ending for name in found for ending in (".zst", ".gz")}
    return sorted(found - copies)


def segments(folder: Path) -> list[Path]:
    """
    List the segments of all journals in the archive, in no particular order.

    Raises:
        OSError: The folder cannot be read.
    """
    journal = folder / JOURNAL
    return [journal / name for name in segment_names(folder)]


def segment_names(folder: Path) -> list[str]:
    """
    List the names of the segments alone: of many, a fifth of the work.

    Raises:
        OSError: The folder cannot be read.
    """
    return [name for name in _names(folder / JOURNAL) if name.endswith(".jsonl")]


def place_of(name: str) -> tuple[str, int]:
    """Give a segment's journal and number; 0 for a name that is not one of ours."""
    match = _SEGMENT.fullmatch(name)
    return (match[1], int(match[2])) if match else (name, 0)


def journals(folder: Path) -> list[tuple[str, tuple[Path, ...]]]:
    """
    List the journals by name, the oldest first, each with its segments in order.

    Raises:
        OSError: The folder cannot be read.
    """
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in segments(folder):
        name, number = place_of(path.name)
        found.setdefault(name, []).append((number, path))
    return [
        (name, tuple(path for _, path in sorted(parts)))
        for name, parts in sorted(found.items())
    ]


def leftovers(folder: Path) -> list[Path]:
    """
    List what a crash left unfinished.

    Raises:
        OSError: The folder cannot be read.
    """
    return [
        place / name
        for place in (folder, folder / JOURNAL)
        for name in _names(place)
        if name.endswith(UNFINISHED)
    ]


def _names(folder: Path) -> Iterator[str]:
    try:
        yield from sorted(os.listdir(folder))  # noqa: PTH208 - names are all we need
    except (FileNotFoundError, NotADirectoryError):
        return
