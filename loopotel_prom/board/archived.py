"""Runs that are not in memory: found in an archive, and read within bounds."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec import structs

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import BadLine, Line
from loopotel_prom.archive.open_runs import OpenRun, read_spans
from loopotel_prom.archive.reader import (
    Entry,
    entry_of,
    full_prefix,
    is_full,
    read_items,
)
from loopotel_prom.board.record import RunRecord, detail_of
from loopotel_prom.board.view import RunDetail
from loopotel_prom.errors import ArchiveError, ConfigError, DocumentError
from loopotel_prom.runs.digest import digest_of_open, time_of
from loopotel_prom.runs.lookup import open_runs
from loopotel_prom.span import ChildSpan, IterationSpan, RunSpan, Span

# A server's answer takes no longer; a command may.
SECONDS = 10.0
_READERS = 2
_GROUP_SPANS = 1000
_TOLD = 10


class BusyError(ArchiveError):
    """The archive is being read for others, or takes too long to be read."""


@dataclass(frozen=True, slots=True)
class Found:
    """
    A run of the archive: its document, or what a journal has of it.

    Attributes:
        trace_id: The run.
        entry: Its sealed document; its bytes may be read once.
        open_run: Where there is none: what the journals have.
    """

    trace_id: str
    entry: Entry | None = None
    open_run: OpenRun | None = None
    # What reads the file; closed with the last reference to it.
    _search: Iterator[Entry] | None = None


class Shelf:
    """
    An archive's runs, for a server: two are read at a time, ten seconds each.

    Args:
        folder: The archive.
        seconds: How long a search, or reading one run, may take.
    """

    def __init__(self, folder: Path, *, seconds: float = SECONDS) -> None:
        self.folder = folder
        self._seconds = seconds
        self._readers = threading.BoundedSemaphore(_READERS)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """
        Wait for one's turn, a moment.

        Raises:
            BusyError: It does not come.
        """
        if not self._readers.acquire(timeout=1.0):
            raise BusyError(
                "it is being read for others",
                path=str(self.folder),
                hint="try again in a few seconds",
            )
        try:
            yield
        finally:
            self._readers.release()

    def find(self, typed: str) -> list[Found]:
        """
        Find the runs whose id begins so; of a whole id, or many, not all are sought.

        The sealed document is given where there is one: it outlives the journal.

        Raises:
            ConfigError: It is the beginning of no id.
            BusyError: It takes too long.
            ArchiveError: The archive cannot be read.
        """
        prefix = full_prefix(typed)
        found: dict[str, Found] = {}
        search = self._entries(prefix)
        for entry in search:
            run = Found(entry.trace_id, entry, _search=search)
            found.setdefault(entry.trace_id, run)
            if is_full(prefix) or len(found) >= _TOLD:
                return [*found.values()]
        for open_run in open_runs(self.folder, prefix):
            run = Found(open_run.trace_id, open_run=open_run)
            found.setdefault(open_run.trace_id, run)
        only = next(iter(found), "")
        if len(found) == 1 and not is_full(prefix) and is_full(only):
            # The search has gone on from it: a long document must be met again.
            return self.find(only)
        return [*found.values()][:_TOLD]

    def detail(self, found: Found) -> RunDetail:
        """
        Read the whole course of a run, or as much as there is time for.

        Raises:
            ArchiveError: It cannot be read.
        """
        deadline = time.monotonic() + self._seconds
        if found.entry is None:
            assert found.open_run is not None  # noqa: S101 - one of both is there
            spans: Iterable[Span] = read_spans(self.folder, found.trace_id)
            record = RunRecord(_start_of(found.open_run))
        else:
            stream = DocumentStream(found.entry.line)
            spans = _in_order_of_ends(_spans(stream))
            record = RunRecord(_unread(found.entry))
        notes = _fill(record, spans, deadline)
        if found.entry is None:
            assert found.open_run is not None  # noqa: S101 - as above
            notes += _state(found.open_run)
        source = "journal" if found.entry is None else "archive"
        return detail_of(record.capture(whole=True), source=source, notes=notes)

    def document(self, found: Found) -> Iterator[bytes]:
        """
        Spell a run's document, byte for byte as it stands if it is sealed.

        One that is under way, as if it had ended with its latest span.

        Raises:
            ArchiveError: Its start is lost, or it cannot be read.
        """
        if found.entry is not None:
            return _all_of(found)
        run = found.open_run
        if run is None or run.run is None:
            raise ArchiveError(
                f"the start of {found.trace_id} is lost",
                path=str(self.folder),
                hint=f"let it be sealed: loopotel-prom archive recover {self.folder}",
            )
        ended = structs.replace(run.run, end_ns=run.latest_ns)
        spans = read_spans(self.folder, found.trace_id)
        return ltf.stream(ended, (s for s in spans if not isinstance(s, RunSpan)))

    def _entries(self, prefix: str) -> Iterator[Entry]:
        """Search the documents, the newest file first; damage is passed over."""
        deadline, needle = time.monotonic() + self._seconds, prefix.encode()

        def advance(_: int = 0) -> None:
            if time.monotonic() > deadline:
                raise BusyError(
                    f"searching it takes more than {self._seconds:g} s",
                    path=str(self.folder),
                    hint=f"loopotel-prom archive show {prefix} {self.folder}",
                )

        for item in read_items(self.folder, newest_first=True, advance=advance):
            advance()
            # Most lines are told apart without being decoded.
            if isinstance(item, Line) and needle not in item.data:
                continue
            entry = entry_of(item)
            if not isinstance(entry, BadLine) and entry.trace_id.startswith(prefix):
                yield entry


def _all_of(found: Found) -> Iterator[bytes]:
    """Give a document's bytes; what they are read from stays open meanwhile."""
    if found.entry is not None:
        yield from found.entry.pieces()


def one_of(found: list[Found], typed: str) -> Found | None:
    """
    Give the only one; None for none.

    Raises:
        ConfigError: There are several.
    """
    if len(found) > 1:
        raise ConfigError(f"several runs begin with {typed!r}; give more of the id")
    return found[0] if found else None


def _fill(record: RunRecord, spans: Iterable[Span], deadline: float) -> list[str]:
    """Read spans into a record; say what is missing."""
    try:
        for span in spans:
            if isinstance(span, RunSpan):
                record.finish(span)
            else:
                record.add(span)
            if time.monotonic() > deadline:
                note = (
                    f"Only the first {record.iterations} iterations: reading took too"
                    " long. loopotel-prom archive show reads them all."
                )
                return [note]
    except DocumentError as error:
        return [f"The rest of its document cannot be read: {error}"]
    return []


def _unread(entry: Entry) -> RunSpan:
    """Stand in for the run's own span until that is read."""
    head = entry.head
    started_ns = time_of(head.started_at) or 0
    return RunSpan(entry.trace_id, "", started_ns, head.loop_name or "", 0.0)


def _start_of(run: OpenRun) -> RunSpan:
    if run.run is not None:
        return run.run
    digest = digest_of_open(run)
    return RunSpan(run.trace_id, "", digest.ended_ns or 0, "", 0.0)


def _state(run: OpenRun) -> list[str]:
    notes = [f"{run.missing} of its records are lost."] if run.missing else []
    if not run.is_live:
        notes.append(
            "Its process is gone: the next one to open the archive, or loopotel-prom"
            " archive recover, seals it."
        )
    return notes


def _spans(stream: DocumentStream) -> Iterator[Span]:
    """Read a document's spans, the run's first, a thousand or so at a time."""
    root: Any = None
    group: list[Any] = []
    is_first = True
    for span in stream.spans():
        if is_first:
            root, is_first = span, False
            yield from ltf.unfold({**stream.fields, "spans": [root]})
            continue
        if len(group) >= _GROUP_SPANS and _starts(span):
            yield from _children(stream, root, group)
            group = []
        group.append(span)
    if group:
        yield from _children(stream, root, group)


def _children(
    stream: DocumentStream, root: Any, group: list[Any]
) -> Iterator[ChildSpan]:
    for span in ltf.unfold({**stream.fields, "spans": [root, *group]}):
        if not isinstance(span, RunSpan):
            yield span


def _starts(span: Any) -> bool:
    return isinstance(span, dict) and span.get("kind") == "iteration"


def _in_order_of_ends(spans: Iterable[Span]) -> Iterator[Span]:
    """Give what is inside an iteration before it: a document has it behind."""
    held: IterationSpan | None = None
    for span in spans:
        if isinstance(span, IterationSpan):
            if held is not None:
                yield held
            held = span
        else:
            yield span
    if held is not None:
        yield held
