"""
Lines of a file or stream: plain, gzip or zstd, whole or damaged.

Memory stays constant however long the input: what a caller is given is at
most one line, and a line beyond the limit is never held.
"""

import gzip
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, cast

from loopotel_prom.errors import ArchiveError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
_Buffered: TypeAlias = "io.BufferedReader[Any]"

# A trace of half a million spans; a line beyond it is no trace.
MAX_LINE_BYTES = 64 * 1024**2

_BUFFER_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# BadGzipFile is an OSError: it must be caught before the others are.
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)
_HINTS: dict[type[OSError], str] = {
    FileNotFoundError: "check the path",
    IsADirectoryError: "name the files in it",
    PermissionError: "read it as a user who may",
}


@dataclass(frozen=True, slots=True)
class Line:
    """
    One line that could be read, without its line ending.

    Attributes:
        file: The path, or the name of the stream.
        number: Counted from 1, blank lines included.
        offset: Where it starts, in bytes of the uncompressed input.
        data: The bytes; not yet known to be JSON, nor UTF-8.
        whole: It is all there is: the input is one document, on many lines.
    """

    file: str
    number: int
    offset: int
    data: bytes
    whole: bool = False


@dataclass(frozen=True, slots=True)
class BadLine:
    """
    One line that could not be read; `fault` says why. The rest is as in `Line`.

    After one that reports a torn or damaged compressed stream nothing follows.
    """

    file: str
    number: int
    offset: int
    fault: str


def read_lines(
    source: Source, *, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Line | BadLine]:
    """
    Read the lines that are not blank, one after the other.

    Compression is told by the first bytes. A stream is read from where it
    stands and left open. A last line without a line ending is a line.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_line_bytes) as reader:
        yield from reader.guard(reader.lines())


def read_documents(
    source: Source, *, max_document_bytes: int = MAX_LINE_BYTES
) -> Iterator[Line | BadLine]:
    """
    Read documents: one a line, or the whole input as one.

    The whole is one document if the source's name ends in ``.json`` (or
    ``.json.gz``, ``.json.zst``), or if the first line is nothing but ``{``, as
    a pretty-printer leaves it. Else this is `read_lines`.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_document_bytes) as reader:
        name = reader.file.removesuffix(".gz").removesuffix(".zst")
        whole = name.endswith(".json")
        yield from reader.guard(reader.whole() if whole else reader.sniffed())


def read_whole(
    source: Source, *, max_bytes: int = MAX_LINE_BYTES
) -> Line | BadLine | None:
    """
    Read all of the source as one document; None if it is blank.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_bytes) as reader:
        return next(reader.guard(reader.whole()), None)


class _TornError(Exception):
    """The compressed stream cannot be read on."""


class _Reader:
    """One open input, and where reading stands in it."""

    def __init__(self, file: str, stream: _Buffered, limit: int) -> None:
        self.file = file
        self._limit = limit
        self._number = 1
        self._offset = 0
        self._format = "plain"
        self._stream: io.BufferedIOBase = stream
        magic = self._take(stream.peek, 4)
        if magic.startswith(_GZIP_MAGIC):
            self._format, self._stream = "gzip", gzip.GzipFile(fileobj=stream)
        elif magic.startswith(_ZSTD_MAGIC):
            self._format, self._stream = "zstd", zstd.ZstdFile(stream)

    def guard(self, items: Iterator[Line | BadLine]) -> Iterator[Line | BadLine]:
        """Pass the items on; a torn stream becomes the last of them."""
        try:
            yield from items
        except _TornError as error:
            yield self._bad(str(error))

    def lines(self) -> Iterator[Line | BadLine]:
        """Yield the lines one by one."""
        while data := self._take(self._stream.readline, self._limit + 1):
            size = len(data)
            if size > self._limit and not data.endswith(b"\n"):
                del data  # not to be held while the rest is skipped
                yield self._bad(f"longer than {self._limit} bytes")
                size += self._skip_line()
            elif data.strip():
                data = data.rstrip(b"\r\n")
                yield Line(self.file, self._number, self._offset, data)
            self._number += 1
            self._offset += size

    def sniffed(self) -> Iterator[Line | BadLine]:
        """Yield lines, or the whole as one where its first line is a brace."""
        first = True
        for line in self.lines():
            if first and isinstance(line, Line) and line.data.strip() == b"{":
                yield from self.whole(line.data + b"\n")
                return
            yield line
            first = False

    def whole(self, head: bytes = b"") -> Iterator[Line | BadLine]:
        """Yield what is left, after `head`, as one; nothing if it is blank."""
        room = self._limit - len(head)
        rest = self._take(self._stream.read, max(room, 0) + 1)
        if len(rest) > room:
            yield self._bad(f"a document longer than {self._limit} bytes")
        elif data := (head + rest).rstrip():
            yield Line(self.file, self._number, self._offset, data, whole=True)

    def _bad(self, fault: str) -> BadLine:
        return BadLine(self.file, self._number, self._offset, fault)

    def _skip_line(self) -> int:
        """Read to the end of the line, a piece at a time; return its bytes."""
        size = 0
        while piece := self._take(self._stream.readline, _BUFFER_BYTES):
            size += len(piece)
            if piece.endswith(b"\n"):
                break
        return size

    def _take(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except EOFError as error:
            raise _TornError(f"the {self._format} stream ends here, torn") from error
        except _DAMAGE as error:
            raise _TornError(f"damaged {self._format} stream: {error}") from error
        except OSError as error:
            raise _unreadable(self.file, error) from error


@contextmanager
def _opened(source: Source, limit: int) -> Iterator[_Reader]:
    if isinstance(source, str | os.PathLike):
        with _open(os.fspath(source)) as file:
            yield _Reader(os.fspath(source), file, limit)
        return
    name = str(getattr(source, "name", "<stream>"))
    if isinstance(source, io.BufferedReader):
        yield _Reader(name, source, limit)
        return
    # Only a buffered reader can peek. Detached, as the stream is not ours.
    buffered = io.BufferedReader(cast("io.RawIOBase", source), _BUFFER_BYTES)
    try:
        yield _Reader(name, buffered, limit)
    finally:
        buffered.detach()


def _open(file: str) -> _Buffered:
    try:
        return io.BufferedReader(io.FileIO(file), _BUFFER_BYTES)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: str, error: OSError) -> ArchiveError:
    hint = _HINTS.get(type(error), "check the disk, then try again")
    return ArchiveError(error.strerror or str(error), path=file, hint=hint)
