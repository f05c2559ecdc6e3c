"""The claim on dead processes' journals: who may recover them."""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from loopotel_prom.archive import layout, owner
from loopotel_prom.archive.record import decode
from loopotel_prom.archive.segment import lines_of
from loopotel_prom.errors import DocumentError

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """
    Claim all journals of an archive; False if another process has.

    A segment's own lock does not tell one who recovers from an orphan that has it
    open.

    Raises:
        OSError: The folder of the journals cannot be opened.
    """
    try:
        lock = os.open(folder / layout.JOURNAL, _FOLDER)
    except FileNotFoundError:
        yield True  # there are none
        return
    try:
        yield _try_lock(lock)
    finally:
        # Not by closing alone: a child forked just now has it open too.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


@contextlib.contextmanager
def taken(paths: Sequence[Path]) -> Iterator[list[tuple[Path, int]] | None]:
    """Open and lock the segments of a journal; None if its owner lives."""
    files: list[tuple[Path, int]] = []
    try:
        for path in paths:
            try:
                file = os.open(path, _FLAGS)
            except FileNotFoundError:
                continue  # seen to meanwhile
            files.append((path, file))
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield files if files and all(_is_dead(file) for _, file in files) else None
    finally:
        for _, file in files:
            os.close(file)


def size_bytes(journals: Iterable[Iterable[Path]]) -> int:
    """Give what there is to be read; a living process may remove some of it."""
    total = 0
    for path in chain.from_iterable(journals):
        with contextlib.suppress(FileNotFoundError):
            total += path.lstat().st_size
    return total


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_dead(file: int) -> bool:
    if not _try_lock(file):
        # A forked child may hold the lock of a parent that is gone.
        return not _owner_lives(file)
    # Removed between opening and locking: it is seen to.
    return os.fstat(file).st_nlink > 0


def _owner_lives(file: int) -> bool:
    first = next(lines_of(file, os.fstat(file).st_size), b"")
    try:
        header = decode(first).journal
    except DocumentError:
        return True
    if header is None:
        return True
    return owner.lives(
        header.pid, header.boot_id, header.process_start, header.pid_namespace
    )
