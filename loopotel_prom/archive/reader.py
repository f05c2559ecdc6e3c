"""
Reading an archive: every run once, in order, in constant memory.

What is no document is reported in its place (`BadLine`) and never stops what
stands beside it. A run costs 16 bytes of its id and what a set adds to them:
that is how a second copy is told.
"""

import re
import stat
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, cast

from loopotel_prom.archive.document import DocumentStream, Head, read_head
from loopotel_prom.archive.files import Advance, RegularFile, read_folder
from loopotel_prom.archive.layout import (
    COMPRESSED,
    LONG_BYTES,
    SEALED,
    rotated_files,
)
from loopotel_prom.archive.lines import (
    MAX_LINE_BYTES,
    BadLine,
    Item,
    Line,
    LongLine,
    read_lines,
)
from loopotel_prom.errors import ArchiveError, ConfigError, DocumentError
from loopotel_prom.ltf import unfold
from loopotel_prom.plain import text
from loopotel_prom.span import ChildSpan, RunSpan

_UUID = re.compile(r"ltf-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_MIN_DIGITS = 4
_ALL_DIGITS = 32
_DASHES = (20, 16, 12, 8)
_GROUP_SPANS = 1000
_PEEK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One document of the archive.

    Attributes:
        trace_id: Its run.
        head: What else it says of it, as it is spelled there.
        line: Where it stands, and its bytes; those of a `LongLine` can be read
            once, before the next entry is asked for.
    """

    trace_id: str
    head: Head
    line: Line | LongLine

    def pieces(self) -> Iterator[bytes]:
        """Give its bytes as they stand in the file; of a `LongLine` likewise once."""
        line = self.line
        return iter((line.data,)) if isinstance(line, Line) else line.pieces


class Seen:
    """The runs met so far, 16 bytes each."""

    def __init__(self) -> None:
        self._ids: set[bytes] = set()

    def add(self, trace_id: str) -> bool:
        """Remember a run; True if it is new."""
        before = len(self._ids)
        self._ids.add(key_of(trace_id))
        return len(self._ids) > before

    def __contains__(self, trace_id: str) -> bool:
        return key_of(trace_id) in self._ids


def key_of(trace_id: str) -> bytes:
    """Pack a trace id into 16 bytes: its UUID, of any other text a hash."""
    match = _UUID.fullmatch(trace_id)
    if match is not None:
        return bytes.fromhex(match[1].replace("-", ""))
    return blake2b(trace_id.encode(errors="replace"), digest_size=16).digest()


def read_archive(
    *paths: Path, newest_first: bool = False, advance: Advance | None = None
) -> Iterator[Entry | BadLine]:
    """
    Read the documents of archives, and of files named singly, each run once.

    Of the copies of a run the first is given. With `newest_first` the files are
    read from the newest to the oldest, but each from its beginning. `advance`
    is told of each piece of an archive that was read, in bytes on disk.

    A `BadLine` with the number 0 is about a file as a whole.

    Raises:
        ArchiveError: There is nothing at a path, or it may not be read.
    """
    seen = Seen()
    for item in read_items(*paths, newest_first=newest_first, advance=advance):
        entry = entry_of(item)
        if isinstance(entry, BadLine) or seen.add(entry.trace_id):
            yield entry


def read_items(
    *paths: Path, newest_first: bool = False, advance: Advance | None = None
) -> Iterator[Item]:
    """
    Read the lines in the same order, not yet known to be documents.

    Raises:
        ArchiveError: As `read_archive`.
    """
    for path in reversed(paths) if newest_first else paths:
        if _is_folder(path):
            yield from read_folder(path, newest_first=newest_first, advance=advance)
        else:
            # What a user names may be a link, or a pipe; it was meant.
            yield from read_lines(path, held_bytes=LONG_BYTES)


def matches(*paths: Path, trace_id: str) -> Iterator[Entry]:
    """
    Find the runs whose id begins so, as `full_prefix` spells it.

    The newest file first. Damage is passed over.

    Raises:
        ArchiveError: As `read_archive`.
    """
    needle, seen = trace_id.encode(), Seen()
    for item in read_items(*paths, newest_first=True):
        # Most lines are told apart without being decoded.
        if isinstance(item, Line) and needle not in item.data:
            continue
        entry = entry_of(item)
        if isinstance(entry, BadLine) or not entry.trace_id.startswith(trace_id):
            continue
        if seen.add(entry.trace_id):
            yield entry


def newest_entries(folder: Path, *, since_ns: int = 0) -> Iterator[Entry]:
    """
    Yield the documents of the files that were written to since then; copies too.

    The newest file first. Of a compressed one the first document alone: a long
    document has a file to itself, and of others those not compressed yet are
    enough. Damage is passed over.

    Raises:
        OSError: The folder cannot be listed.
    """
    yield from _newest(folder / SEALED, since_ns)
    for path in reversed(rotated_files(folder)):
        yield from _newest(path, since_ns)


def _newest(path: Path, since_ns: int) -> Iterator[Entry]:
    with suppress(OSError), RegularFile(path) as file:
        if file.status().st_mtime_ns < since_ns:
            return
        is_compressed = path.suffix == COMPRESSED
        # Not to unpack more of it than its head.
        held_bytes = _PEEK_BYTES if is_compressed else LONG_BYTES
        lines = cast("Generator[Item]", read_lines(file, held_bytes=held_bytes))
        # Before the file, if nobody asks on.
        with closing(lines):
            for entry in map(entry_of, islice(lines, 1 if is_compressed else None)):
                if isinstance(entry, Entry):
                    yield entry


def spans_of(folder: Path, trace_id: str) -> Iterator[ChildSpan]:
    """
    Yield the spans of a run from its document; none if there is no such run.

    In the order of the document: each iteration before what is in it. Holds the
    line, or of a long one about a thousand spans.

    Raises:
        ArchiveError: As `read_archive`.
        DocumentError: The document is damaged.
    """
    for entry in matches(folder, trace_id=trace_id):
        stream = DocumentStream(entry.line)
        spans = stream.spans()
        root = next(spans, None)
        for group in _groups(spans):
            for span in unfold({**stream.fields, "spans": [root, *group]}):
                if not isinstance(span, RunSpan):
                    yield span
        return


def _groups(spans: Iterator[Any]) -> Iterator[list[Any]]:
    """Cut between iterations, so that what belongs to one stays together."""
    group: list[Any] = []
    for span in spans:
        starts = isinstance(span, dict) and span.get("kind") == "iteration"
        if starts and len(group) >= _GROUP_SPANS:
            yield group
            group = []
        group.append(span)
    yield group


def full_prefix(typed: str) -> str:
    """
    Spell what a user typed as the beginning of a trace id.

    At least 4 hex digits, with or without ``ltf-``, with or without dashes.

    Raises:
        ConfigError: It is the beginning of none.
    """
    digits = typed.strip().lower().removeprefix("ltf-").replace("-", "")
    if not re.fullmatch(f"[0-9a-f]{{{_MIN_DIGITS},{_ALL_DIGITS}}}", digits):
        raise ConfigError(
            f"{text(typed, limit=64)!r} is no trace id; give the whole of one, or at"
            f" least the first {_MIN_DIGITS} hex digits after 'ltf-'"
        )
    for place in _DASHES:
        if len(digits) > place:
            digits = f"{digits[:place]}-{digits[place:]}"
    return f"ltf-{digits}"


def is_full(trace_id: str) -> bool:
    """Tell whether a prefix is a whole trace id."""
    return _UUID.fullmatch(trace_id) is not None


def entry_of(item: Item) -> Entry | BadLine:
    """Make an entry of a line, or say why it is none."""
    if isinstance(item, BadLine):
        return item
    try:
        return _entry(item) if isinstance(item, Line) else _long_entry(item)
    except DocumentError as error:
        fault = str(error)
        if error.offset is not None:
            fault += f", at byte {error.offset} of it"
        return BadLine(item.file, item.number, item.offset, fault)


def _entry(line: Line | LongLine) -> Entry:
    head = read_head(line)
    if head.trace_id is None:
        raise DocumentError("no LTF document: it has no trace_id")
    return Entry(head.trace_id, head, line)


def _long_entry(line: LongLine) -> Entry:
    """Read as much of it as tells whose it is, and make that readable again."""
    tape = _Tape(line.pieces)
    entry = _entry(replace(line, pieces=tape))
    return replace(entry, line=replace(line, pieces=tape.rewound()))


class _Tape(Iterator[bytes]):
    """Pieces that can be read again from the beginning, if not too many."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._kept: list[bytes] = []
        self._room = MAX_LINE_BYTES

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._room -= len(piece)
        if self._room < 0:
            raise DocumentError(
                f"it says whose run it is behind the first {MAX_LINE_BYTES} bytes only"
            )
        self._kept.append(piece)
        return piece

    def rewound(self) -> Iterator[bytes]:
        return chain(self._kept, self._pieces)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "name an archive's folder, or a file of documents"
        raise ArchiveError(reason, path=str(path), hint=hint) from error
