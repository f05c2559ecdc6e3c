"""The bytes of the lines that begin in a part of a file, as a stream."""

import io
from collections.abc import Callable
from typing import Any

from loopotel_prom.archive.files import Advance

_SCAN_BYTES = 256 * 1024


class Stretch(io.RawIOBase):
    """
    A part of a file, from where its first line begins to where its last line ends.

    Args:
        name: The file's.
        read_at: Gives bytes of the file, from an offset, at most so many; none at
            its end alone.
        begin: The first byte at which a line may begin; 0 is where one does.
        end: Behind the last one.
        size: The file's, or as much of it as is to be read.
        advance: Is told how much of the part has been read.

    Attributes:
        name: As given.
        begin: Where the first line begins; `end` or more if none does.

    Raises:
        OSError: Reading failed.
    """

    def __init__(
        self,
        name: str,
        read_at: Callable[[int, int], bytes],
        *,
        begin: int,
        end: int,
        size: int,
        advance: Advance | None = None,
    ) -> None:
        self.name = name
        self._read_at = read_at
        self._end = end
        self._size = size
        self._advance = advance
        self.begin = self._at = self._first_line(begin) if begin else 0
        self._tell(begin, self._at)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; as of `io.RawIOBase`."""
        if self._at >= self._size:
            return 0
        want = min(len(buffer), self._size - self._at)
        piece = self._read_at(self._at, want)
        # The last line is the one that the byte before the end belongs to.
        last = self._end - 1 - self._at
        if last < len(piece):
            line_end = piece.find(b"\n", max(last, 0))
            if line_end >= 0:
                piece = piece[: line_end + 1]
                self._size = self._at + len(piece)
        buffer[: len(piece)] = piece
        self._tell(self._at, self._at + len(piece))
        self._at += len(piece)
        return len(piece)

    def _first_line(self, begin: int) -> int:
        """Find the first newline before which, and behind which, the part lies."""
        at = begin - 1
        while at < self._end - 1:
            piece = self._read_at(at, min(_SCAN_BYTES, self._end - 1 - at))
            if not piece:
                break
            found = piece.find(b"\n")
            if found >= 0:
                return at + found + 1
            at += len(piece)
        return self._size

    def _tell(self, begin: int, end: int) -> None:
        if self._advance is not None:
            self._advance(max(min(end, self._end) - begin, 0))
