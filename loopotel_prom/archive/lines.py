"""
Lines of a file or stream: plain, gzip or zstd, whole or damaged.

Memory stays constant however long the input: what a caller is given is at
most one line, and a line that is longer than it wants to hold comes in pieces.
"""

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias, cast

from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.zstandard import zstd

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
_Buffered: TypeAlias = "io.BufferedReader[Any]"

# What is held in one: a trace of sixty thousand iterations.
MAX_LINE_BYTES = 64 * 1024**2
# What is read in pieces: fourteen million iterations. A line beyond it is no
# trace, but what unpacks from a file made to fill a memory or an evening.
MAX_DOCUMENT_BYTES = 16 * 1024**3

_BUFFER_BYTES = 256 * 1024
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAGICS = (_GZIP_MAGIC, _ZSTD_MAGIC)
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
class LongLine:
    """
    One line too long to be held. The first four attributes are as in `Line`.

    Attributes:
        pieces: Its bytes without the newline, in pieces of at most 256 KiB, to
            be read once, before the next line is asked for; what is left then
            is skipped. Raises a `DocumentError` where the line becomes longer
            than the limit or its stream is torn, an `ArchiveError` where
            reading fails.
        whole: It is all there is: the input is one document.
    """

    file: str
    number: int
    offset: int
    pieces: Iterator[bytes] = field(repr=False, compare=False)
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


Item: TypeAlias = Line | LongLine | BadLine


def read_lines(
    source: Source,
    *,
    max_line_bytes: int = MAX_DOCUMENT_BYTES,
    held_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Item]:
    """
    Read the lines that are not blank, one after the other.

    A line of more than `held_bytes` is a `LongLine`, one of more than
    `max_line_bytes` is not read: it is a `BadLine` if that is the lesser of the
    two. Compression is told by the first bytes. A stream is read from where it
    stands and left open. A last line without a line ending is a line.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_line_bytes, held_bytes) as reader:
        yield from reader.guard(reader.lines())


def read_part(
    source: _Buffered, *, offset: int, held_bytes: int, tally: Callable[[int], None]
) -> Iterator[Item]:
    """
    Read the lines of a part of a plain file, which begins at `offset` in it.

    As `read_lines`; but lines are counted from the part's first, and `tally` is told
    at the end how many there were, blank ones included.

    Raises:
        ArchiveError: Reading it failed.
    """
    name = str(source.name)
    reader = _Reader(name, source, MAX_DOCUMENT_BYTES, held_bytes, part_at=offset)
    yield from reader.guard(reader.lines())
    tally(reader.line_count)


def read_documents(
    source: Source,
    *,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    held_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Item]:
    """
    Read documents: one a line, or the whole input as one.

    The whole is one document if the source's name ends in ``.json`` (or
    ``.json.gz``, ``.json.zst``), or if the first line is nothing but ``{``, as
    a pretty-printer leaves it. Else this is `read_lines`.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_document_bytes, held_bytes) as reader:
        name = reader.file.removesuffix(".gz").removesuffix(".zst")
        whole = name.endswith(".json")
        yield from reader.guard(reader.whole() if whole else reader.sniffed())


def read_whole(
    source: Source,
    *,
    max_bytes: int = MAX_DOCUMENT_BYTES,
    held_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Item]:
    """
    Read all of the source as one document; nothing if it is blank.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    with _opened(source, max_bytes, held_bytes) as reader:
        yield from reader.guard(reader.whole())


class _TornError(Exception):
    """The compressed stream cannot be read on."""


class _Reader:
    """One open input, and where reading stands in it."""

    def __init__(
        self,
        file: str,
        stream: _Buffered,
        limit: int,
        held: int,
        *,
        part_at: int | None = None,
    ) -> None:
        self.file = file
        self._limit = limit
        self._held = min(held, limit)
        self._number = 1
        self._offset = part_at or 0  # where the line starts
        self._read = self._offset  # where reading stands, in or after it
        self._torn = False  # and the caller has been told
        self._format = "plain"
        self._stream: _Buffered | gzip.GzipFile | zstd.ZstdFile = stream
        # A part of a plain file may begin with anything.
        magic = self._try(stream.peek, 4) if part_at is None else b""
        if magic.startswith(_GZIP_MAGIC):
            self._format, self._stream = "gzip", gzip.GzipFile(fileobj=stream)
        elif magic.startswith(_ZSTD_MAGIC):
            self._format, self._stream = "zstd", zstd.ZstdFile(stream)

    @property
    def line_count(self) -> int:
        """How many lines have been read."""
        return self._number - 1

    def guard(self, items: Iterator[Item]) -> Iterator[Item]:
        """Pass the items on; a torn stream becomes the last of them."""
        try:
            yield from items
        except _TornError as error:
            yield self._bad(str(error))

    def lines(self) -> Iterator[Item]:
        """Yield the lines one by one."""
        while data := self._take(self._stream.readline, self._held + 1):
            if len(data) > self._held and not data.endswith(b"\n"):
                rest = self._rest_of_line()
                item = self._too_long(data, rest, "longer")
                del data  # not to be held while the rest is read
                yield item
                if self._torn:
                    return
                for _ in rest:
                    pass  # skips what the caller has left
            elif data.strip():
                data = data.rstrip(b"\r\n")
                yield Line(self.file, self._number, self._offset, data)
            elif data == b"\n":
                self._skip_blank_lines()
            self._number += 1
            self._offset = self._read

    def _skip_blank_lines(self) -> None:
        """Pass over many at once: two kilobytes may unpack to hours of them."""
        while ahead := self._try(self._stream.peek, _BUFFER_BYTES):
            count = len(ahead) - len(ahead.lstrip(b"\n"))
            self._number += count
            self._take(self._stream.read, count)
            if count < len(ahead):
                return

    def sniffed(self) -> Iterator[Item]:
        """Yield lines, or the whole as one where its first line is a brace."""
        first = True
        for line in self.lines():
            if first and isinstance(line, Line) and line.data.strip() == b"{":
                yield from self.whole(line.data + b"\n")
                return
            yield line
            first = False

    def whole(self, head: bytes = b"") -> Iterator[Item]:
        """Yield what is left, after `head`, as one; nothing if it is blank."""
        room = max(self._held - len(head), 0)
        data = head + self._take(self._stream.read, room + 1)
        if len(data) > self._held:
            item = self._too_long(data, self._rest(), "a document longer", whole=True)
            del data  # as above
            yield item
        elif data := data.rstrip():
            yield Line(self.file, self._number, self._offset, data, whole=True)

    def _bad(self, fault: str) -> BadLine:
        return BadLine(self.file, self._number, self._offset, fault)

    def _too_long(
        self, head: bytes, rest: Iterator[bytes], what: str, *, whole: bool = False
    ) -> LongLine | BadLine:
        """Make an item of what is too long to be held."""
        fault = f"{what} than {self._limit} bytes"
        if self._held == self._limit:
            return self._bad(fault)
        pieces = self._pieces(head, rest, fault)
        return LongLine(self.file, self._number, self._offset, pieces, whole)

    def _pieces(
        self, head: bytes, rest: Iterator[bytes], fault: str
    ) -> Iterator[bytes]:
        """Yield what has been read and what is left, as far as it may be read."""
        size = len(head)
        for begin in range(0, size, _BUFFER_BYTES):
            yield head[begin : begin + _BUFFER_BYTES]
        del head
        try:
            for piece in rest:
                size += len(piece)
                if size > self._limit:
                    raise DocumentError(fault)
                yield piece
        except _TornError as error:
            self._torn = True
            raise DocumentError(str(error), offset=size) from error

    def _rest_of_line(self) -> Iterator[bytes]:
        while piece := self._take(self._stream.readline, _BUFFER_BYTES):
            yield piece.removesuffix(b"\n")
            if piece.endswith(b"\n"):
                return

    def _rest(self) -> Iterator[bytes]:
        while piece := self._take(self._stream.read, _BUFFER_BYTES):
            yield piece

    def _take(self, read: Callable[[int], bytes], size: int) -> bytes:
        data = self._try(read, size)
        self._read += len(data)
        return data

    def _try(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            return read(size)
        except EOFError as error:
            raise _TornError(f"the {self._format} stream ends here, torn") from error
        except _DAMAGE as error:
            raise _TornError(f"damaged {self._format} stream: {error}") from error
        except OSError as error:
            raise _unreadable(self.file, error) from error


@contextmanager
def _opened(source: Source, limit: int, held: int) -> Iterator[_Reader]:
    if isinstance(source, str | os.PathLike):
        with _open(os.fspath(source)) as file:
            yield _Reader(os.fspath(source), file, limit, held)
        return
    name = str(getattr(source, "name", "<stream>"))
    if isinstance(source, io.BufferedReader):
        yield _Reader(name, source, limit, held)
        return
    # Only a buffered reader can peek. Detached, as the stream is not ours.
    buffered = io.BufferedReader(cast("io.RawIOBase", source), _BUFFER_BYTES)
    try:
        yield _Reader(name, buffered, limit, held)
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
