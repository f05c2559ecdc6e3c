"""The timeline: all that happened in many runs, in the order of its time."""

import heapq
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry
from loopotel_prom.errors import DocumentError
from loopotel_prom.replay.moments import Moment, moments_of

# Some seventy thousand iterations; with what Python adds, twice that in memory.
CHUNK_BYTES = 32 * 1024**2
# Read at once of each sorted part.
_BLOCK_BYTES = 64 * 1024

# The key of a moment, and all of it.
_Keyed = tuple[int, int, int, int, bytes]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Moment).decode


class Timeline:
    """
    Sorts the moments of an archive's runs, in constant memory.

    A context manager: on leaving it, what it wrote is gone. What does not fit into
    memory is in one file without a name, gone with the process as well.

    Args:
        folder: Where that file is; the system's place for such if None.
        chunk_bytes: How much is sorted in memory.

    Attributes:
        runs: How many runs there are.
        moments: How many moments.
        begin_ns: The earliest, Unix nanoseconds; None if there is none.
        end_ns: The latest, likewise.
    """

    def __init__(
        self, *, folder: Path | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self._folder = folder
        self._chunk_bytes = chunk_bytes
        self._chunk: list[_Keyed] = []
        self._room = chunk_bytes
        self._file: IO[bytes] | None = None
        self._parts: list[tuple[int, int]] = []
        self._refused: set[int] = set()
        self._documents = 0
        self.runs = 0
        self.moments = 0
        self.begin_ns: int | None = None
        self.end_ns: int | None = None

    def read(
        self, items: Iterable[Entry | BadLine], refuse: Callable[[BadLine], None]
    ) -> None:
        """
        Take in documents; `refuse` is told of each that is no trace.

        Raises:
            ArchiveError: Reading failed.
            OSError: There is no room for what does not fit into memory.
        """
        for item in items:
            if isinstance(item, BadLine):
                refuse(item)
                continue
            try:
                self._take(item)
            except DocumentError as error:
                line = item.line
                refuse(BadLine(line.file, line.number, line.offset, str(error)))

    def __iter__(self) -> Iterator[Moment]:
        """Give the moments in order. May be called again, one after the other."""
        self._chunk.sort()
        if self._file is not None:
            self._file.flush()
        parts = [map(_decode, self._lines(*part)) for part in self._parts]
        latest = (_decode(line) for *_, line in self._chunk)
        ordered = heapq.merge(*parts, latest) if parts else latest
        refused = self._refused
        return (moment for moment in ordered if moment.run not in refused)

    def close(self) -> None:
        """Forget everything."""
        self._chunk, self._parts = [], []
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self, entry: Entry) -> None:
        number, count = self._documents, 0
        self._documents += 1
        begin_ns = end_ns = 0
        try:
            for moment in moments_of(entry.line, number):
                begin_ns = begin_ns if count else moment.time_ns
                end_ns = moment.time_ns
                count += 1
                self._add(moment)
        except DocumentError:
            # Some of it may be in a part that is sorted already.
            self._refused.add(number)
            raise
        self.runs += 1
        self.moments += count
        known = self.begin_ns is not None
        self.begin_ns = min(begin_ns, self.begin_ns or 0) if known else begin_ns
        self.end_ns = max(end_ns, self.end_ns or 0) if known else end_ns

    def _add(self, moment: Moment) -> None:
        line = _encode(moment) + b"\n"
        self._chunk.append((*moment[:4], line))
        self._room -= len(line)
        if self._room < 0:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed by close
        begin = self._file.tell()
        self._chunk.sort()
        self._file.writelines(line for *_, line in self._chunk)
        self._parts.append((begin, self._file.tell()))
        self._chunk, self._room = [], self._chunk_bytes

    def _lines(self, position: int, end: int) -> Iterator[bytes]:
        """Read a part; others are read from the same file meanwhile."""
        assert self._file is not None  # noqa: S101 - it has the part
        rest = b""
        while position < end:
            self._file.seek(position)
            block = self._file.read(min(_BLOCK_BYTES, end - position))
            position += len(block)
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
