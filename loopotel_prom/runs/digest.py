"""What is told of a run in a line: its end, and what it took to get there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field

from loopotel_prom import semconv
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line
from loopotel_prom.archive.open_runs import OpenRun
from loopotel_prom.archive.reader import Entry
from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import count, number, text
from loopotel_prom.rfc3339 import parse_time

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Digest(Struct, kw_only=True, gc=False):
    """
    A run in short; None for what its document does not say.

    Attributes:
        trace_id: The run.
        loop_name: Its loop.
        env_id: Where it ran.
        task_id: What it worked on.
        started_ns: Unix nanoseconds.
        ended_ns: Unix nanoseconds; of a run under way, of its latest span.
        outcome: One of the format's four, or `open`.
        reason: Why it ended.
        iterations: How many there were; None if the spans cannot be read.
        goal_score: The last that was reported.
        goal_target: What it should have reached.
        les: The last cumulative LES, 0 to 1.
        tokens: In total.
        cost_usd: In total; None if none was reported.
        is_recovered: Sealed by recovery, not by its own process.
        missing_spans: Spans that are known to be lost.
    """

    trace_id: str
    loop_name: str = ""
    env_id: str | None = None
    task_id: str | None = None
    started_ns: int | None = None
    ended_ns: int | None = None
    outcome: str = "unknown"
    reason: str = ""
    iterations: int | None = 0
    goal_score: float | None = None
    goal_target: float | None = None
    les: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    is_recovered: bool = False
    missing_spans: int = 0

    @property
    def duration_seconds(self) -> float | None:
        """From its start to its end."""
        if self.started_ns is None or self.ended_ns is None:
            return None
        return max(self.ended_ns - self.started_ns, 0) / 1e9


class _Attributes(Struct, gc=False):
    iteration: _Count | None = field(default=None, name=semconv.ITERATION)
    goal_score: float | None = field(default=None, name=semconv.GOAL_SCORE)
    goal_target: float | None = field(default=None, name=semconv.GOAL_TARGET)
    les: float | None = field(default=None, name=semconv.LES_CUMULATIVE)
    tokens_delta: _Count | None = field(default=None, name=semconv.TOKENS_DELTA)
    tokens_total: _Count | None = field(default=None, name=semconv.TOKENS_TOTAL)
    cost_usd: float | None = field(default=None, name=semconv.COST_USD)


class _Span(Struct, gc=False):
    kind: str
    attributes: _Attributes


class _Document(Struct, gc=False):
    spans: list[_Span]
    metadata: Raw = Raw(b"{}")


_decode = msgspec.json.Decoder(_Document).decode


def digest_of(entry: Entry) -> Digest:
    """
    Sum a document up. What is no number counts as absent.

    Raises:
        DocumentError: The spans of a long line cannot be read.
        ArchiveError: Reading failed.
    """
    tally = Tally(entry)
    if isinstance(entry.line, Line):
        try:
            document = _decode(entry.line.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # an attribute of another type, for instance
        else:
            tally.add(document.spans)
            empty = len(document.metadata) <= len(b"{}")
            return tally.end(None if empty else _mapping(document.metadata))
    stream = DocumentStream(entry.line)
    for _ in tally.count(stream.spans()):
        pass
    return tally.end(stream.fields.get("metadata"))


class Tally:
    """
    Sums a document up while someone else reads its spans.

    Args:
        entry: The document.
    """

    def __init__(self, entry: Entry) -> None:
        self._digest = _from_head(entry)
        self._tokens = 0
        self._total: int | None = None
        self._latest_target: float | None = None
        self._digest.iterations = 0

    def count(self, spans: Iterable[Any]) -> Iterator[Any]:
        """Pass the spans on, and count them."""
        for span in spans:
            self.add((_lenient(span),))
            yield span

    def add(self, spans: Sequence["_Span"]) -> None:
        """Count spans; in their order."""
        digest = self._digest
        for root in [span.attributes for span in spans if span.kind == "loop"]:
            self._total, digest.goal_target = root.tokens_total, root.goal_target
        steps = [span.attributes for span in spans if span.kind == "iteration"]
        if not steps:
            return
        digest.iterations = (digest.iterations or 0) + len(steps)
        self._tokens += sum(step.tokens_delta or 0 for step in steps)
        self._latest_target = steps[-1].goal_target
        costs = [step.cost_usd for step in steps if step.cost_usd is not None]
        if costs:
            digest.cost_usd = sum(costs, digest.cost_usd or 0.0)
        digest.goal_score = _last(
            (s.goal_score for s in reversed(steps)), digest.goal_score
        )
        digest.les = _last((s.les for s in reversed(steps)), digest.les)

    def end(self, metadata: object) -> Digest:
        """Give the sum, with what the document's metadata adds to it."""
        digest = self._digest
        digest.tokens = self._tokens if self._total is None else self._total
        if digest.goal_target is None:
            digest.goal_target = self._latest_target
        if isinstance(metadata, Mapping):
            digest.is_recovered = metadata.get("recovered") is True
            digest.missing_spans = count(metadata.get("missing_spans")) or 0
        return digest


def _last(newest_first: Iterable[float | None], before: float | None) -> float | None:
    return next((value for value in newest_first if value is not None), before)


def digest_of_open(run: OpenRun) -> Digest:
    """Sum up a run that stands in a journal."""
    digest = Digest(
        trace_id=run.trace_id,
        ended_ns=run.latest_ns,
        outcome="open",
        iterations=run.iterations,
        goal_score=run.goal_score,
        les=run.les_cumulative,
        tokens=run.tokens,
        cost_usd=run.cost_usd,
        missing_spans=run.missing,
    )
    if run.run is not None:
        digest.loop_name = run.run.loop_name
        digest.env_id, digest.task_id = run.run.env_id, run.run.task_id
        digest.started_ns = run.run.start_ns
        digest.goal_target = run.run.goal_target
        if run.run.end_ns is not None:
            digest.outcome, digest.reason = run.run.outcome, run.run.termination_reason
    return digest


def time_of(spelled: str | None) -> int | None:
    """Read a document's time as Unix nanoseconds; None if it is none."""
    try:
        return None if spelled is None else parse_time(spelled)
    except DocumentError:
        return None


def _from_head(entry: Entry) -> Digest:
    head = entry.head
    return Digest(
        trace_id=entry.trace_id,
        loop_name=head.loop_name or "",
        env_id=head.env_id,
        task_id=head.task_id,
        started_ns=time_of(head.started_at),
        ended_ns=time_of(head.ended_at),
        outcome=head.outcome or "unknown",
        reason=head.termination_reason or "",
    )


def _lenient(span: Any) -> _Span:
    """Take of a span what is of use; of another kind if there is nothing."""
    raw = span.get("attributes") if isinstance(span, dict) else None
    if not isinstance(raw, dict):
        raw = {}
    return _Span(
        text(span.get("kind")) if isinstance(span, dict) else "",
        _Attributes(
            iteration=count(raw.get(semconv.ITERATION)),
            goal_score=number(raw.get(semconv.GOAL_SCORE)),
            goal_target=number(raw.get(semconv.GOAL_TARGET)),
            les=number(raw.get(semconv.LES_CUMULATIVE)),
            tokens_delta=count(raw.get(semconv.TOKENS_DELTA)),
            tokens_total=count(raw.get(semconv.TOKENS_TOTAL)),
            cost_usd=number(raw.get(semconv.COST_USD)),
        ),
    )


def _mapping(raw: Raw) -> object:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
