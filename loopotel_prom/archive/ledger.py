"""The ledger: what was taken of each run, so that nothing is counted twice."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec
from msgspec import Struct

from loopotel_prom.archive.reader import key_of
from loopotel_prom.span import (
    ChildSpan,
    EvaluatorSpan,
    IterationSpan,
    RunSpan,
    Span,
    WorkerSpan,
)

# More than overlap in one run, so that order within it need not be exact.
_LATEST = 64
# So many at least, and at most twice as many.
_FINISHED = 50_000
_KEY_BYTES = 16
_KINDS: dict[type, str] = {
    IterationSpan: "iteration",
    WorkerSpan: "worker",
    EvaluatorSpan: "evaluator",
}


class Sink(Protocol):
    """What spans are fed to; as a processor of the pipeline."""

    def on_start(self, span: RunSpan) -> None:
        """Take in a run that starts."""

    def on_end(self, span: Span) -> None:
        """Take in a span that ends."""


class Taken(Struct):
    """
    What was taken of a run under way.

    Attributes:
        trace_id: The run.
        next_seq: The record of it that is next in its journal.
        missing: Records that its journal should have had before that.
        counts: Spans, by kind.
        latest: The ids of the latest of each kind, as numbers.
    """

    trace_id: str
    next_seq: int = 0
    missing: int = 0
    counts: dict[str, int] = {}
    latest: dict[str, list[int]] = {}

    def add(self, span: ChildSpan) -> None:
        """Note a span."""
        kind = _KINDS[type(span)]
        self.counts[kind] = self.counts.get(kind, 0) + 1
        latest = self.latest.setdefault(kind, [])
        latest.append(int(span.span_id, 16))
        if len(latest) > _LATEST:
            del latest[0]


class Ledger:
    """
    Feeds each run's start, spans and end to a sink once, wherever they come from.

    Not thread-safe.

    Args:
        sink: What is fed.
        runs: Runs under way that the sink knows already.
    """

    def __init__(self, sink: Sink, runs: Iterable[Taken] = ()) -> None:
        self._sink = sink
        self._runs = {taken.trace_id: taken for taken in runs}
        # Two generations: the oldest of one set could not be found.
        self._older: set[bytes] = set()
        self._finished: set[bytes] = set()

    def runs(self) -> list[Taken]:
        """Give the runs under way."""
        return [*self._runs.values()]

    def finished(self) -> bytes:
        """Give the ids of the newest finished runs, 16 bytes each."""
        return b"".join(self._older | self._finished)

    def pass_over(self, finished: bytes) -> None:
        """Take nothing more of these runs; their ids have 16 bytes each."""
        for at in range(0, len(finished), _KEY_BYTES):
            self._older.add(finished[at : at + _KEY_BYTES])

    def is_finished(self, trace_id: str) -> bool:
        """Tell whether nothing more is to be taken of a run."""
        key = key_of(trace_id)
        return key in self._finished or key in self._older

    def record(self, seq: int, span: Span) -> None:
        """Take what is new in a journal's record."""
        taken = self._runs.get(span.trace_id)
        if taken is None:
            if seq == 0 and isinstance(span, RunSpan) and span.end_ns is None:
                self._begin(span)
            # Without its start, a run waits for its document.
            return
        if seq < taken.next_seq:
            return
        taken.missing += seq - taken.next_seq
        taken.next_seq = seq + 1
        if not isinstance(span, RunSpan):
            self._take(taken, span)
        elif span.end_ns is not None and not taken.missing:
            self._end(span)

    def document(
        self, run: RunSpan, groups: Iterable[list[ChildSpan]]
    ) -> Iterator[None]:
        """
        Take what is new in a document, a step for each group of its spans.

        After each step it may be left off, and begun again later.

        Args:
            run: Its root, ended.
            groups: Its other spans, in the order of the journal.
        """
        taken = self._runs.get(run.trace_id) or self._begin(run)
        if taken is None:
            return
        is_new = _Novelty(taken)
        for group in groups:
            for span in group:
                if is_new(span):
                    self._take(taken, span)
            yield
        self._end(run)

    def give_up(self, run: RunSpan) -> None:
        """End a run with what was taken of it; its document is damaged."""
        if run.trace_id in self._runs:
            self._end(run)

    def _begin(self, span: RunSpan) -> Taken | None:
        if self.is_finished(span.trace_id):
            return None
        taken = self._runs[span.trace_id] = Taken(span.trace_id, next_seq=1)
        self._sink.on_start(
            msgspec.structs.replace(
                span, end_ns=None, outcome="unknown", termination_reason=""
            )
        )
        return taken

    def _take(self, taken: Taken, span: ChildSpan) -> None:
        taken.add(span)
        self._sink.on_end(span)

    def _end(self, span: RunSpan) -> None:
        del self._runs[span.trace_id]
        self._finished.add(key_of(span.trace_id))
        if len(self._finished) >= _FINISHED:
            self._older, self._finished = self._finished, set()
        self._sink.on_end(span)


class _Novelty:
    """Tells the spans of a document that were not taken when it was begun."""

    def __init__(self, taken: Taken) -> None:
        self._known = {kind: set(ids) for kind, ids in taken.latest.items()}
        self._passed = {
            kind: count - len(taken.latest[kind])
            for kind, count in taken.counts.items()
        }

    def __call__(self, span: ChildSpan) -> bool:
        kind = _KINDS[type(span)]
        if self._passed.get(kind, 0) > 0:
            self._passed[kind] -= 1
            return False
        known = self._known.get(kind)
        return known is None or int(span.span_id, 16) not in known
