"""
The sealed files of an archive, read in the order that `specs/archive.md` gives.

A rotation, a compression or an append in the meantime neither hides a line nor
shows it twice. What cannot be read is reported in its place, as a `BadLine`.
"""

import errno
import fcntl
import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from loopotel_prom.archive.layout import (
    COMPRESSED,
    LONG_BYTES,
    SEALED,
    rotated_files,
)
from loopotel_prom.archive.lines import BadLine, Item, read_lines
from loopotel_prom.errors import ArchiveError

Advance: TypeAlias = Callable[[int], None]

LOCK = f"{SEALED}.lock"

_BUFFER_BYTES = 256 * 1024
# Non-blocking, so that a FIFO in a file's place is an error, no trap.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK_SECONDS = 1.0
_POLL_SECONDS = 0.001


class RegularFile(io.FileIO):
    """
    A file of an archive, opened for reading; no link, no pipe.

    Args:
        path: The file.
        advance: Is told of each piece that was read, in bytes on disk.

    Attributes:
        left: Reading ends after so many bytes more; None at the end of the file.

    Raises:
        OSError: It cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path, advance: Advance | None = None) -> None:
        super().__init__(path, opener=_open)
        self._advance = advance
        self.left: int | None = None
        if not stat.S_ISREG(self.status().st_mode):
            self.close()
            raise OSError(None, "not a regular file")

    def status(self) -> os.stat_result:
        """Ask the system about the open file."""
        return os.fstat(self.fileno())

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; as of `io.FileIO`."""
        size = super().readinto(memoryview(buffer)[: self.left]) or 0
        if self.left is not None:
            self.left -= size
        if self._advance is not None:
            self._advance(size)
        return size


def read_folder(
    folder: Path, *, newest_first: bool = False, advance: Advance | None = None
) -> Iterator[Item]:
    """
    Read the lines of all sealed files, the oldest file first, or the newest.

    A `BadLine` with the number 0 is about a file as a whole.

    Raises:
        ArchiveError: The folder cannot be read.
    """
    with ExitStack() as stack:
        # Opened before the others are listed: if it is rotated in the meantime,
        # it is known by its inode.
        active = stack.enter_context(_active(folder, advance))
        if newest_first and active is not None:
            yield from _lines(active)
        known = active if isinstance(active, RegularFile) else None
        for path in sorted(_list(folder), reverse=newest_first):
            yield from _rotated(path, known, advance)
        if not newest_first and active is not None:
            yield from _lines(active)


def folder_bytes(folder: Path) -> int:
    """Give the size on disk of what `read_folder` would read."""
    total = 0
    with suppress(OSError):
        for path in (*rotated_files(folder), folder / SEALED):
            with suppress(FileNotFoundError):
                total += path.lstat().st_size
    return total


def read_file(file: RegularFile) -> Iterator[Item]:
    """Read the lines of an open file; what the disk does not give is the last."""
    last = None
    buffered = io.BufferedReader(file, _BUFFER_BYTES)
    try:
        for last in read_lines(buffered, held_bytes=LONG_BYTES):
            yield last
    except ArchiveError as error:
        number, offset = (last.number, last.offset) if last else (0, 0)
        fault = str(error).removeprefix(f"{error.path}: ")
        yield BadLine(str(file.name), number, offset, fault)
    finally:
        # As garbage it would close the file, which is the caller's.
        buffered.detach()


def _open(path: str, _flags: int) -> int:
    try:
        return os.open(path, _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(
                errno.ELOOP, "a symbolic link, which is not followed"
            ) from None
        raise


def _lines(file: RegularFile | BadLine) -> Iterator[Item]:
    if isinstance(file, BadLine):
        yield file
    else:
        yield from read_file(file)


def _list(folder: Path) -> list[Path]:
    try:
        return rotated_files(folder)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "read it as a user who may"
        raise ArchiveError(reason, path=str(folder), hint=hint) from error


@contextmanager
def _active(
    folder: Path, advance: Advance | None
) -> Iterator[RegularFile | BadLine | None]:
    """Open the file being written, to be read to the end of its last append."""
    path = folder / SEALED
    try:
        file = RegularFile(path, advance)
    except FileNotFoundError:
        yield None
    except OSError as error:
        yield _bad(path, error)
    else:
        with file:
            with between_appends(folder):
                file.left = file.status().st_size
            yield file


@contextmanager
def between_appends(folder: Path) -> Iterator[None]:
    """
    Hold the lock for an instant, so that no append is half done.

    Who cannot have it reads all the same: at worst the last line looks torn.
    """
    try:
        lock = os.open(folder / LOCK, _FLAGS)
    except OSError:
        yield
        return
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _try_lock(lock) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        # Not by closing alone: a child forked just now has it open too.
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def is_locked(file: int) -> bool:
    """Tell whether another has locked an open file for writing."""
    if not _try_lock(file):
        return True
    fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _rotated(
    path: Path, active: RegularFile | None, advance: Advance | None
) -> Iterator[Item]:
    """Read one file that is complete, but not the one that is held open."""
    try:
        file = _open_rotated(path, advance)
    except OSError as error:
        yield _bad(path, error)
        return
    with file:
        same = active and os.path.samestat(active.status(), file.status())
        if not same:
            yield from read_file(file)


def _open_rotated(path: Path, advance: Advance | None) -> RegularFile:
    try:
        return RegularFile(path, advance)
    except FileNotFoundError:
        # Compressed since it was listed.
        return RegularFile(path.with_name(path.name + COMPRESSED), advance)


def _bad(path: Path, error: OSError) -> BadLine:
    return BadLine(str(path), 0, 0, error.strerror or str(error))
