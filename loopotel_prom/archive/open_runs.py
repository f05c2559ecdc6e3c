"""The runs that stand in journals: under way, or ended and not yet sealed."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from loopotel_prom.archive import layout, owner, record
from loopotel_prom.archive.files import RegularFile, is_locked, read_file
from loopotel_prom.archive.lines import BadLine, Item, Line
from loopotel_prom.archive.reader import Seen
from loopotel_prom.archive.record import Header, Record
from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.span import IterationSpan, RunSpan, Span

_HEADER = b'{"journal"'


@dataclass(slots=True)
class OpenRun:
    """
    One run in a journal; of its spans only what is the latest.

    Attributes:
        trace_id: The run.
        journal: The name of the journal that it is in.
        is_live: The journal's owner lives.
        run: Its start, or its end once that is there; None if both are lost.
        spans: How many have ended.
        iterations: How many of them are iterations.
        goal_score: The latest, unrounded.
        les_cumulative: The latest, unrounded.
        tokens: The sum so far.
        cost_usd: The sum so far; None if none was reported.
        latest_ns: When the latest span ended, or the run began.
    """

    trace_id: str
    journal: str
    is_live: bool
    run: RunSpan | None = None
    spans: int = 0
    iterations: int = 0
    goal_score: float | None = None
    les_cumulative: float | None = None
    tokens: int = 0
    cost_usd: float | None = None
    latest_ns: int = 0
    _records: int = 0
    _next_seq: int = 0

    @property
    def missing(self) -> int:
        """Count the records that are lost."""
        return self._next_seq - self._records

    @property
    def has_ended(self) -> bool:
        """Tell whether it waits to be sealed only."""
        return self.run is not None and self.run.end_ns is not None

    def add(self, seq: int, span: Span) -> bool:
        """Take in a record; False if it stood there before."""
        if seq < self._next_seq:
            return False
        self._next_seq = seq + 1
        self._records += 1
        if isinstance(span, RunSpan):
            self.run = span
            self.latest_ns = max(self.latest_ns, span.end_ns or span.start_ns)
            return True
        self.spans += 1
        self.latest_ns = max(self.latest_ns, span.end_ns)
        if isinstance(span, IterationSpan):
            self._add_iteration(span)
        return True

    def _add_iteration(self, span: IterationSpan) -> None:
        self.iterations += 1
        self.tokens += span.tokens_delta or 0
        self.les_cumulative = span.les_cumulative
        if span.goal_score is not None:
            self.goal_score = span.goal_score
        if span.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + span.cost_usd


@dataclass(frozen=True, slots=True)
class Journal:
    """
    The segments of one journal, in order.

    Attributes:
        name: What their names begin with.
        segments: The files.
    """

    name: str
    segments: tuple[Path, ...]


class Place(NamedTuple):
    """One record, and where it stands."""

    line: Line
    record: Record


@dataclass(slots=True)
class JournalReader:
    """
    Reads one journal's records, and learns about its owner on the way.

    Attributes:
        journal: What to read.
        about: Passes over the lines in which these bytes are not; headers count.
        is_live: The owner lives; known once the first record has been read.
    """

    journal: Journal
    about: bytes = b""
    is_live: bool = False

    def read(self) -> Iterator[Place | BadLine]:
        """
        Yield all records in order; damage in its place.

        The last line of a living owner's journal may be half written: that is
        no damage, and not told.
        """
        for path in self.journal.segments:
            try:
                file = RegularFile(path)
            except FileNotFoundError:
                continue  # reaped since it was listed
            except OSError as error:
                yield BadLine(str(path), 0, 0, error.strerror or str(error))
                continue
            with file:
                is_held = is_locked(file.fileno())
                file.left = file.status().st_size
                yield from self._segment(file, is_held=is_held)

    def _segment(
        self, file: RegularFile, *, is_held: bool
    ) -> Iterator[Place | BadLine]:
        self.is_live = is_held
        bad: BadLine | None = None
        for item in read_file(file):
            if bad is not None:
                yield bad
                bad = None
            if self._is_passed_over(item):
                continue
            place = _place(item)
            bad = place if isinstance(place, BadLine) else None
            if isinstance(place, Place):
                self._meet(place.record.journal, is_held=is_held)
                yield place
        if bad is not None and not (is_held and bad.number):
            yield bad

    def _is_passed_over(self, item: Item) -> bool:
        return (
            self.about != b""
            and isinstance(item, Line)
            and self.about not in item.data
            and not item.data.startswith(_HEADER)
        )

    def _meet(self, header: Header | None, *, is_held: bool) -> None:
        if header is not None:
            self.is_live = is_held and owner.lives(
                header.pid,
                header.boot_id,
                header.process_start,
                header.pid_namespace,
            )


def journals(folder: Path) -> list[Journal]:
    """
    List an archive's journals, the oldest name first.

    Raises:
        ArchiveError: The folder cannot be read.
    """
    try:
        return [Journal(name, parts) for name, parts in layout.journals(folder)]
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "read it as a user who may"
        raise ArchiveError(reason, path=str(folder), hint=hint) from error


def read_open_runs(folder: Path, *, prefix: str = "") -> Iterator[OpenRun | BadLine]:
    """
    Find the runs that no mark says are sealed; damage where it is met.

    Holds one `OpenRun` for each such run, and 16 bytes for each marked one. With
    a prefix only the runs whose id begins so are looked for.

    Raises:
        ArchiveError: The folder cannot be read.
    """
    for journal in journals(folder):
        reader = JournalReader(journal, about=prefix.encode())
        runs: dict[str, OpenRun] = {}
        sealed = Seen()
        for place in reader.read():
            if isinstance(place, BadLine):
                yield place
            else:
                _sort_in(place.record, journal, runs, sealed)
        for run in runs.values():
            run.is_live = reader.is_live
            if run.trace_id.startswith(prefix):
                yield run


def read_spans(folder: Path, trace_id: str) -> Iterator[Span]:
    """
    Yield the spans of one run from the journals, in the order they were written.

    Workers and evaluators come before their iteration. Damage is passed over.

    Raises:
        ArchiveError: The folder cannot be read.
    """
    for journal in journals(folder):
        known = OpenRun(trace_id, journal.name, is_live=False)
        for place in JournalReader(journal, about=trace_id.encode()).read():
            if isinstance(place, BadLine) or place.record.trace_id != trace_id:
                continue
            seq, span = place.record.seq, place.record.span
            if seq is not None and span is not None and known.add(seq, span):
                yield span


def _sort_in(
    item: Record, journal: Journal, runs: dict[str, OpenRun], sealed: Seen
) -> None:
    if item.sealed is not None:
        sealed.add(item.sealed)
        runs.pop(item.sealed, None)
    elif item.span is not None and item.seq is not None:
        run = runs.get(item.span.trace_id)
        if run is None:
            # Records may be written again, behind the mark too, after a failed sync.
            if item.span.trace_id in sealed:
                return
            run = OpenRun(item.span.trace_id, journal.name, is_live=False)
            runs[run.trace_id] = run
        run.add(item.seq, item.span)


def _place(item: Item) -> Place | BadLine:
    if isinstance(item, BadLine):
        return item
    if not isinstance(item, Line):
        return BadLine(item.file, item.number, item.offset, "too long for a record")
    try:
        return Place(item, record.decode(item.data))
    except DocumentError as error:
        return BadLine(item.file, item.number, item.offset, str(error))
