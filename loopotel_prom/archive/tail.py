"""The tail of a file that others append to: whole lines, from where reading stood."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from loopotel_prom.archive.files import RegularFile
from loopotel_prom.archive.layout import LONG_BYTES
from loopotel_prom.archive.lines import Line, LongLine

_PIECE_BYTES = 256 * 1024


class Piece(NamedTuple):
    """
    Some lines in a row.

    Attributes:
        lines: Whole ones, without their endings; their numbers are all 0.
        end: Where the next one begins.
    """

    lines: list[Line | LongLine]
    end: int


class Tail:
    """
    Reads what is appended to a file. Takes no lock.

    The descriptor is held from `open` to `close`: what is unlinked meanwhile can be
    read to its end.

    Args:
        path: The file.
        offset: Where a line begins that has not been read.

    Attributes:
        offset: Likewise; moved by whoever has done with what was read.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        self._file: RegularFile | None = None
        # Up to here the line that is begun is known to have no end.
        self._searched = 0

    @property
    def is_open(self) -> bool:
        """Tell whether the descriptor is held."""
        return self._file is not None

    def open(self) -> None:
        """
        Hold the file.

        Raises:
            OSError: It is gone, cannot be read, or is no regular file.
        """
        if self._file is None:
            self._file = RegularFile(self.path)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def fileno(self) -> int:
        """Give the descriptor of a file that is open."""
        return self._opened().fileno()

    def status(self) -> os.stat_result:
        """
        Ask the system about the file.

        Raises:
            OSError: It is not held, and gone.
        """
        return self.path.stat() if self._file is None else self._file.status()

    def has_more(self) -> bool:
        """
        Tell whether its size is another than what was read; cheap.

        Raises:
            OSError: As `status`.
        """
        return self.status().st_size != self.offset

    def read(self) -> Piece:
        """
        Read the next lines, about 256 KiB of them, and at least one; none at the end.

        A file that has shrunk is read from its start again.

        Raises:
            OSError: It cannot be read.
        """
        size = self.status().st_size
        if size < self.offset:
            self.offset = self._searched = 0
        data = self._bytes(self.offset, min(_PIECE_BYTES, size - self.offset))
        last = data.rfind(b"\n")
        if last >= 0:
            return Piece(self._split(data[:last]), self.offset + last + 1)
        if len(data) < _PIECE_BYTES:
            return Piece([], self.offset)
        return self._long(size)

    def head(self, size_bytes: int) -> bytes:
        """Read the first bytes of a file that is open."""
        return self._bytes(0, size_bytes)

    def _opened(self) -> RegularFile:
        assert self._file is not None  # noqa: S101 - `open` comes first
        return self._file

    def _bytes(self, offset: int, size_bytes: int) -> bytes:
        return os.pread(self.fileno(), size_bytes, offset)

    def _split(self, data: bytes) -> list[Line | LongLine]:
        lines: list[Line | LongLine] = []
        offset = self.offset
        for line in data.split(b"\n"):
            lines.append(Line(str(self.path), 0, offset, line))
            offset += len(line) + 1
        return lines

    def _long(self, size: int) -> Piece:
        """Look for the end of a line that is longer than a piece."""
        at = max(self._searched, self.offset)
        while at < size and (data := self._bytes(at, _PIECE_BYTES)):
            found = data.find(b"\n")
            if found >= 0:
                return Piece([self._line(self.offset, at + found)], at + found + 1)
            at += len(data)
        self._searched = at
        return Piece([], self.offset)

    def _line(self, begin: int, end: int) -> Line | LongLine:
        name = str(self.path)
        if end - begin <= LONG_BYTES:
            return Line(name, 0, begin, self._bytes(begin, end - begin))
        return LongLine(name, 0, begin, self._pieces(begin, end))

    def _pieces(self, begin: int, end: int) -> Iterator[bytes]:
        for at in range(begin, end, _PIECE_BYTES):
            yield self._bytes(at, min(_PIECE_BYTES, end - at))
