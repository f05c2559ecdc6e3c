"""
Recovery: seals the runs of processes that died, from their journals.

The order of things, and why it may be interrupted anywhere, is told in
`specs/archive.md`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive import claim, layout
from loopotel_prom.archive.failpoint import reach
from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.found_run import FoundRun
from loopotel_prom.archive.headless import Headless
from loopotel_prom.archive.reader import newest_entries
from loopotel_prom.archive.record import Record, decode, decode_again
from loopotel_prom.archive.salvage import Quarantine, is_torn, whole_records
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.archive.segment import lines_of
from loopotel_prom.archive.sequence import Sequence
from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.span import ChildSpan, RunSpan

Progress = Callable[[int, int], None]

_PROGRESS_LINES = 20_000
# A file that is not finished may still be someone's.
_LEFTOVER_SECONDS = 3600.0
# So far the clock may have been set back between a run's start and its sealing.
_CLOCK_NS = 7 * 86_400 * 10**9


@dataclass(slots=True, kw_only=True)
class Recovery:
    """
    What a recovery did.

    Attributes:
        journals: Journals of dead processes that were seen to.
        runs: Trace ids of the runs that were sealed.
        abandoned: How many of these had not ended.
        already_sealed: Runs that the archive held, and only lacked their mark.
        missing_spans: Records that should have been there.
        torn: Last lines that the owner died in; never acknowledged.
        quarantined_lines: Damaged lines, put aside.
        quarantined_bytes: What they hold.
        skipped_live: Journals whose owners live.
        is_busy: Another process was at it, and nothing was done.
    """

    journals: int = 0
    runs: list[str] = field(default_factory=list)
    abandoned: int = 0
    already_sealed: int = 0
    missing_spans: int = 0
    torn: int = 0
    quarantined_lines: int = 0
    quarantined_bytes: int = 0
    skipped_live: int = 0
    is_busy: bool = False


def recover(folder: Path, *, progress: Progress | None = None) -> Recovery:
    """
    Seal what dead processes left in their journals, and remove these.

    May be killed and repeated; where several try, one does it. Journals of the
    living are left alone. Memory stays constant, however long a run is.

    Args:
        folder: The archive's folder.
        progress: Called with bytes read and bytes in all, now and then.

    Raises:
        ArchiveError: A journal cannot be read, or a document not written; what
            was not finished is still in its journal.
    """
    result = Recovery()
    try:
        with claim.claimed(folder) as is_ours:
            if is_ours:
                _recover_all(folder, result, progress)
            else:
                result.is_busy = True
    except OSError as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"recovery stopped: {error.strerror or error}",
            path=str(error.filename or folder),
            hint="nothing is lost; see to it, then run it again",
            errno=error.errno,
        ) from error
    return result


def _recover_all(folder: Path, result: Recovery, progress: Progress | None) -> None:
    journals = [parts for _, parts in layout.journals(folder)]
    total, read = claim.size_bytes(journals), 0
    for parts in journals:
        with claim.taken(parts) as files:
            if files is None:
                result.skipped_live += 1
                continue
            journal = _DeadJournal(folder, files)
            journal.seal_into(result, progress, read, total)
            read += sum(os.fstat(file).st_size for _, file in files)
    _remove_leftovers(folder)


def has_dead_journals(folder: Path) -> bool:
    """Tell whether `recover` might find something; cheap."""
    return bool(layout.segments(folder) or layout.leftovers(folder))


class _DeadJournal:
    """The segments of a process that is gone, locked."""

    def __init__(self, folder: Path, files: list[tuple[Path, int]]) -> None:
        self._folder = folder
        self._files = files
        # Lines, by file and number, that are no records.
        self._bad: set[tuple[int, int]] = set()
        # The document of the first run that turned out to be long.
        self._headless: Headless | None = None
        self._sealed = SealedFile(
            folder / layout.SEALED,
            rotate_bytes=layout.ROTATE_BYTES,
            rotate_seconds=layout.ROTATE_SECONDS,
        )

    def seal_into(
        self, result: Recovery, progress: Progress | None, read: int, total: int
    ) -> None:
        """Seal all runs, then remove the segments."""
        runs: dict[str, FoundRun] = {}
        reading = self._read(runs, result, progress, read, total)
        with contextlib.ExitStack() as stack:
            for found, _ in reading:
                if found.first_spans is not None and not self._headless:
                    self._headless = Headless(self._folder, found)
                    stack.callback(self._headless.drop)
                    # Reads on, most often to the end.
                    self._headless.write(_spans_of(found, reading))
                found.first_spans = None
            self._seal_all(runs, result)
        # The first last: it has the starts by which runs are known to be sealed.
        for path, _ in reversed(self._files):
            path.unlink(missing_ok=True)
            reach("recover.removed")
        with contextlib.suppress(FileNotFoundError):
            sync_folder(self._folder / layout.JOURNAL)
        result.journals += 1

    def _read(
        self,
        runs: dict[str, FoundRun],
        result: Recovery,
        progress: Progress | None,
        read: int,
        total: int,
    ) -> Iterator[tuple[FoundRun, ChildSpan]]:
        """Read all records; yield the spans of long runs, as far as these are plain."""
        marked: set[str] = set()
        for number, (record, offset) in enumerate(self._records(result)):
            found = _sort_in(record, runs, marked)
            if found is not None and found.spans is None and found.is_plain:
                span = record.span
                if span is not None and not isinstance(span, RunSpan):
                    yield found, span
            if progress is not None and number % _PROGRESS_LINES == 0:
                progress(min(read + offset, total), total)

    def _seal_all(self, runs: dict[str, FoundRun], result: Recovery) -> None:
        reach("recover.read")
        for found in self._unsealed(runs, result):
            self._seal(found, result)
            reach("recover.sealed")
        if runs:
            self._sealed.sync()
            sync_folder(self._folder)
        reach("recover.synced")

    def _records(self, result: Recovery) -> Iterator[tuple[Record, int]]:
        for path, file in self._files:
            quarantine = Quarantine(self._folder / layout.QUARANTINE / path.name)
            size = os.fstat(file).st_size
            offset = 0
            for number, line in enumerate(lines_of(file, size)):
                offset += len(line) + 1
                try:
                    yield decode(line), offset
                except DocumentError:
                    self._bad.add((file, number))
                    yield from ((each, offset) for each in whole_records(line))
                    if offset > size and is_torn(line):
                        result.torn += 1
                    elif line:
                        quarantine.add(line)
            quarantine.close()
            result.quarantined_lines += quarantine.lines
            result.quarantined_bytes += quarantine.size_bytes

    def _unsealed(
        self, runs: dict[str, FoundRun], result: Recovery
    ) -> Iterator[FoundRun]:
        """Pass over the runs that were sealed and died before their mark."""
        there = _sealed_already(self._folder, runs)
        for found in runs.values():
            if found.trace_id in there:
                result.already_sealed += 1
            else:
                yield found

    def _seal(self, found: FoundRun, result: Recovery) -> None:
        run = found.run()
        headless = self._headless
        if headless is None or headless.found is not found or not headless.seal(run):
            spans = found.spans
            pieces = ltf.stream(run, self._spans(found) if spans is None else spans)
            self._sealed.append_pieces(pieces)
        result.runs.append(found.trace_id)
        result.abandoned += found.end is None
        result.missing_spans += found.missing()

    def _spans(self, found: FoundRun) -> Iterator[ChildSpan]:
        """Read the spans of a long run once more."""
        sequence = None if found.is_plain else Sequence()
        trace_id = found.trace_id
        for record in self._records_again(trace_id.encode()):
            span, seq = record.span, record.seq
            if span is None or seq is None or span.trace_id != trace_id:
                continue
            if sequence is not None and not sequence.take(seq):
                continue
            if not isinstance(span, RunSpan):
                yield span

    def _records_again(self, wanted: bytes) -> Iterator[Record]:
        """Read the records on whose lines these bytes stand."""
        for _, file in self._files:
            lines = lines_of(file, os.fstat(file).st_size)
            if not self._bad:
                yield from map(decode_again, (x for x in lines if wanted in x))
                continue
            for number, line in enumerate(lines):
                if wanted not in line:
                    continue
                if (file, number) in self._bad:
                    yield from whole_records(line)
                else:
                    yield decode_again(line)


def _spans_of(
    found: FoundRun, reading: Iterator[tuple[FoundRun, ChildSpan]]
) -> Iterator[ChildSpan]:
    """Yield a run's spans so far, then those that are read."""
    first, found.first_spans = found.first_spans, None
    yield from first or ()
    for other, span in reading:
        if other is found:
            yield span
        else:
            other.first_spans = None


def _sort_in(
    record: Record, runs: dict[str, FoundRun], marked: set[str]
) -> FoundRun | None:
    """Add a record to its run; None if it does not count."""
    if record.sealed is not None:
        runs.pop(record.sealed, None)
        marked.add(record.sealed)
        return None
    if record.span is None or record.seq is None:
        return None
    trace_id = record.span.trace_id
    if record.seq == 0:
        marked.discard(trace_id)  # the id is used again
    if trace_id in marked:
        return None  # each segment has a mark of its own; this one's was lost
    found = runs.get(trace_id)
    if found is None:
        found = runs[trace_id] = FoundRun(trace_id)
    found.add(record.seq, record.span)
    return found


def _sealed_already(folder: Path, runs: dict[str, FoundRun]) -> set[str]:
    """Find the runs that the newest sealed files hold already."""
    there: set[str] = set()
    if not runs:
        return there
    begun = {found.trace_id: found.run().start_ns for found in runs.values()}
    starts = {trace_id: format_time(ns) for trace_id, ns in begun.items()}
    for entry in newest_entries(folder, since_ns=min(begun.values()) - _CLOCK_NS):
        if starts.get(entry.trace_id) == entry.head.started_at:
            there.add(entry.trace_id)
            if len(there) == len(runs):
                break
    return there


def _remove_leftovers(folder: Path) -> None:
    for path in layout.leftovers(folder):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _LEFTOVER_SECONDS:
                path.unlink()
