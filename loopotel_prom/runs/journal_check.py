"""Checks journals: every record's checksum, headers, and gaps in runs."""

from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive.lines import BadLine, Line
from loopotel_prom.archive.open_runs import Journal, JournalReader, Place, journals
from loopotel_prom.archive.reader import key_of
from loopotel_prom.archive.record import VERSION, Header
from loopotel_prom.runs.problem import Problem, at_line

_TOLD_GAPS = 3


class JournalCheck:
    """
    One check of all journals of an archive.

    Attributes:
        files: Segments that were read.
        records: Records that are whole.
        open_runs: Runs that no mark says are sealed.
        marks: Runs that a mark says are sealed, 16 bytes each.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = 0
        self.records = 0
        self.open_runs = 0
        self.marks: set[bytes] = set()

    def run(self) -> Iterator[Problem]:
        """
        Read all of them and yield what is wrong.

        Raises:
            ArchiveError: The folder cannot be read.
        """
        for journal in journals(self._folder):
            self.files += len(journal.segments)
            one = _OneJournal(journal, self._folder)
            yield from one.run()
            self.records += one.records
            self.open_runs += len(one.runs)
            self.marks |= one.marks


class _Run:
    """The numbers of a run's records, as far as they are not in order."""

    __slots__ = ("gaps", "lost", "next_seq", "trace_id")

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.next_seq = 0
        self.lost = 0
        self.gaps: list[tuple[int, int, Line]] = []

    def add(self, seq: int, line: Line) -> None:
        # A number that was there before is written again, after a failed sync.
        if seq > self.next_seq:
            self.lost += seq - self.next_seq
            if len(self.gaps) < _TOLD_GAPS:
                self.gaps.append((self.next_seq, seq - 1, line))
        self.next_seq = max(self.next_seq, seq + 1)


class _OneJournal:
    def __init__(self, journal: Journal, folder: Path) -> None:
        self._reader = JournalReader(journal)
        self._folder = folder
        self._file = ""
        self._first: Header | None = None
        self.records = 0
        self.runs: dict[bytes, _Run] = {}
        self.marks: set[bytes] = set()

    def run(self) -> Iterator[Problem]:
        for place in self._reader.read():
            if isinstance(place, BadLine):
                # Whatever stands there: it was the place of the header.
                self._file = place.file if place.number == 1 else self._file
                yield at_line(place, place.fault, self._hint())
                continue
            self.records += 1
            yield from self._header(place)
            self._sort_in(place)
        for run in self.runs.values():
            yield from self._gaps(run)

    def _header(self, place: Place) -> Iterator[Problem]:
        """See that the first line, and no other, is a header that fits."""
        header, line = place.record.journal, place.line
        begins, self._file = line.file != self._file, line.file
        if begins and header is None:
            yield at_line(line, "the first line is no header", self._hint())
        elif header is not None:
            fault = self._fault(header, line, begins=begins)
            if fault:
                yield at_line(line, fault, "look at what has written to this folder")

    def _fault(self, header: Header, line: Line, *, begins: bool) -> str:
        first, self._first = self._first or header, self._first or header
        if not begins:
            return "a header in the middle: two segments in one file"
        if header.version != VERSION:
            return f"version {header.version} of the format; this knows {VERSION}"
        if header.id != first.id:
            return f"of another journal, {header.id[:64]}, by its header"
        if not line.file.endswith(f".{header.segment}.jsonl"):
            return f"segment {header.segment} by its header, another by its name"
        return ""

    def _sort_in(self, place: Place) -> None:
        record = place.record
        if record.sealed is not None:
            key = key_of(record.sealed)
            self.marks.add(key)
            # What was before may have been in a segment that is gone by right.
            self.runs.pop(key, None)
        elif record.span is not None and record.seq is not None:
            key = key_of(record.span.trace_id)
            if key not in self.marks:
                run = self.runs.get(key)
                if run is None:
                    run = self.runs[key] = _Run(record.span.trace_id)
                run.add(record.seq, place.line)

    def _gaps(self, run: _Run) -> Iterator[Problem]:
        hint = "they are lost; the run is sealed without them, and says so"
        for first, last, line in run.gaps:
            which = f"record {first}" if first == last else f"records {first} to {last}"
            missing = "is missing" if first == last else "are missing"
            yield at_line(
                line, f"{which} of {run.trace_id} {missing} before this", hint
            )
        told = sum(last - first + 1 for first, last, _ in run.gaps)
        if run.lost > told:
            what = f"{run.lost - told} more records of {run.trace_id} are missing"
            yield at_line(run.gaps[-1][2], what, hint)

    def _hint(self) -> str:
        if self._reader.is_live:
            return "its writer lives: wait until it has ended, then check again"
        command = f"loopotel-prom archive recover {self._folder}"
        return f"'{command}' keeps what is whole and puts this aside"
