"""One segment of a journal: a file that is open, locked and appended to."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive import failpoint, layout
from loopotel_prom.archive.record import Header, encode_header

_write = os.write
sync_file = getattr(os, "fdatasync", os.fsync)
_CHUNK_BYTES = 1024 * 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Segment:
    """
    A file of records, made new, owned until it is closed.

    Not thread-safe; reading is, beside appending.

    Attributes:
        path: Where it was made.
        size_bytes: Up to here it holds whole lines.
        runs: The runs with records in it that are not marked as sealed.
        usable: False once it could not be brought back to whole lines.
        is_synced: All that is in it has been synced.
        is_suspect: A sync of it has failed; it is not to be synced again.
        marked: The number of its latest mark among the journal's lines.

    Raises:
        OSError: It cannot be made.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.size_bytes = 0
        self.runs: set[str] = set()
        self.usable = True
        self.is_synced = True
        self.is_suspect = False
        self.marked = 0
        # Locked before it has its name: else recovery could take it first.
        unfinished = path.with_name(path.name + layout.UNFINISHED)
        self._file = os.open(unfinished, _FLAGS, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            failpoint.reach("journal.made")
            self.append(encode_header(header))
            os.rename(unfinished, path)  # noqa: PTH104 - as the calls around it
            failpoint.reach("journal.named")
        except BaseException:
            os.close(self._file)
            unfinished.unlink(missing_ok=True)
            raise

    def append(self, line: bytes) -> None:
        """
        Add a line, ending included; on return it outlives this process.

        Raises:
            OSError: The write failed; the file is as it was before, or not
                `usable` any more.
        """
        if failpoint.is_armed("journal.half"):
            _write(self._file, line[: len(line) // 2])
            failpoint.reach("journal.half")
        try:
            written = _write(self._file, line)
            if written != len(line):
                written = self._go_on(line, written)
        except BaseException:
            self._cut()
            raise
        self.size_bytes += written

    def descriptor(self) -> int:
        """Give a descriptor of its own to whoever syncs it; to be closed."""
        return os.dup(self._file)

    def sync(self) -> None:
        """
        Bring it to the disk.

        Raises:
            OSError: It is not known to be there; not to be asked again.
        """
        sync_file(self._file)
        self.is_synced = True

    def is_in_place(self) -> bool:
        """Tell whether the file is still where it was made."""
        try:
            there = self.path.lstat()
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(self._file))

    def lines(self) -> Iterator[bytes]:
        """Yield the lines so far, without their endings, the header's too."""
        return lines_of(self._file, self.size_bytes)

    def close(self, *, remove: bool = False) -> None:
        """Let go of the file, or remove it; once."""
        if remove and self.is_in_place():
            self.path.unlink(missing_ok=True)
            failpoint.reach("journal.removed")
        os.close(self._file)
        self.usable = False

    def _go_on(self, line: bytes, written: int) -> int:
        # A disk that fills up, or a limit, cuts a write short first.
        while written < len(line):
            written += _write(self._file, line[written:])
        return written

    def _cut(self) -> None:
        try:
            os.ftruncate(self._file, self.size_bytes)
        except OSError:
            # What is torn stays; recovery passes over it.
            self.usable = False


def lines_of(file: int, size_bytes: int) -> Iterator[bytes]:
    """
    Yield the lines in the first bytes of a file, without their endings.

    Reads by position, so that others may use the descriptor. What follows the
    last ending is a line too.
    """
    # In pieces, as long as it goes on: joined each time it would take hours.
    rest: list[bytes] = []
    offset = 0
    while offset < size_bytes:
        chunk = os.pread(file, min(_CHUNK_BYTES, size_bytes - offset), offset)
        if not chunk:
            break
        offset += len(chunk)
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            yield b"".join(rest)
            rest = [others.pop()]
            yield from others
    if any(rest):
        yield b"".join(rest)
