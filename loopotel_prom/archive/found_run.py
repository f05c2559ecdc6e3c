"""A run as the journal of a dead process has it."""

from bisect import bisect
from dataclasses import dataclass, field

import msgspec

from loopotel_prom.archive.record import SPAN_ID
from loopotel_prom.archive.sequence import Sequence
from loopotel_prom.span import ChildSpan, IterationSpan, RunSpan, Span

# Of a longer run the spans are not held.
_KEPT_SPANS = 1000
_UNKNOWN_LOOP = "unknown"
_ROOT_ID = "0" * 15 + "1"
_MOST_TOKENS = 2**63 - 1


@dataclass(slots=True)
class FoundRun:
    """
    A run in a dead journal: what its records come to, and the spans of a short one.

    Attributes:
        trace_id: Its id.
        start: The span of its first record; None if that is lost.
        end: That of its last; None if it had not ended.
        spans: The others in order; None once there are more than a thousand.
        first_spans: The first thousand and one, when that came about, if they are
            to be had in order; for whoever takes them at once.
        is_plain: Each record came once, in order, and none is missing.
    """

    trace_id: str
    start: RunSpan | None = None
    end: RunSpan | None = None
    first: ChildSpan | None = None
    spans: list[ChildSpan] | None = field(default_factory=list)
    start_ns: int = _MOST_TOKENS
    end_ns: int = 0
    tokens: int = 0
    records: int = 0
    first_spans: list[ChildSpan] | None = None
    is_plain: bool = True
    sequence: Sequence = field(default_factory=Sequence)
    # Those of the spans, which are kept in this order.
    seqs: list[int] = field(default_factory=list)

    def add(self, seq: int, span: Span) -> None:
        """Count a record, unless it was counted before."""
        sequence = self.sequence
        if seq == sequence.next:
            sequence.next = seq + 1  # as `take`, without the call
        else:
            self.is_plain = False
            if not sequence.take(seq):
                return  # written again after a sync that failed
        self.records += 1
        if span.start_ns < self.start_ns:  # noqa: PLR1730 - min() costs thrice that
            self.start_ns = span.start_ns
        if not isinstance(span, RunSpan):
            self._add_child(seq, span)
        elif span.end_ns is None:
            self.start = span
        else:
            self.end = span

    def _add_child(self, seq: int, span: ChildSpan) -> None:
        if self.first is None:
            self.first = span
        if span.end_ns > self.end_ns:  # noqa: PLR1730 - and max() too
            self.end_ns = span.end_ns
        if isinstance(span, IterationSpan) and span.tokens_delta:
            self.tokens += span.tokens_delta
        if self.spans is not None:
            place = bisect(self.seqs, seq)
            self.seqs.insert(place, seq)
            self.spans.insert(place, span)
            if len(self.spans) > _KEPT_SPANS:
                self.first_spans = self.spans if self.is_plain else None
                self.spans = None
                self.seqs.clear()

    def missing(self) -> int:
        """Tell how many records should have been there."""
        return self.sequence.next - self.records

    def run(self) -> RunSpan:
        """Make its span, ended."""
        run = self.end or self._abandoned()
        if self.missing():
            metadata = {**run.metadata, "missing_spans": self.missing()}
            run = msgspec.structs.replace(run, metadata=metadata)
        return run

    def _abandoned(self) -> RunSpan:
        start = self.start or self._nameless()
        return msgspec.structs.replace(
            start,
            start_ns=min(self.start_ns, start.start_ns),
            end_ns=max(self.end_ns, start.start_ns),
            outcome="unknown",
            termination_reason="abandoned",
            tokens_total=min(self.tokens, _MOST_TOKENS),
            metadata={**start.metadata, "recovered": True},
        )

    def _nameless(self) -> RunSpan:
        """Stand in for a start that is lost."""
        first = self.first
        target = first.goal_target if isinstance(first, IterationSpan) else 0.0
        parent = first.parent_span_id if isinstance(first, IterationSpan) else None
        # A parent may be called anything; the run itself may not.
        root = parent if parent and SPAN_ID(parent) else _ROOT_ID
        return RunSpan(
            trace_id=self.trace_id,
            span_id=root,
            start_ns=self.start_ns,
            loop_name=_UNKNOWN_LOOP,
            goal_target=target,
        )
