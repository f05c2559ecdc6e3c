"""A run, read from its document as far as a record needs it."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct, field

from loopotel_prom import semconv
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet.step import Step
from loopotel_prom.exporter.loopnet.terms import FAILURES, SAFETY_BYPASS
from loopotel_prom.plain import count, number, text
from loopotel_prom.rfc3339 import parse_time

_Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_FAILURES = frozenset(FAILURES)
# Latencies are told in milliseconds, and are back in seconds without a rest.
_PLACES = 9


class Run(Struct, kw_only=True):
    """
    What a document says, in the order of its iterations.

    Attributes:
        schema_version: As all texts here, empty if the document says nothing.
        trace_id: Whose run it is.
        loop_name: Its loop.
        env_id: Where it ran.
        ended_at: RFC 3339.
        outcome: One of the format's four.
        reason: Why it ended, in the loop's own words.
        goal_target: What was to be reached; None if nothing says.
        has_error: An error ended it.
        steps: One for each iteration.
        worker_count: How many different workers are named.
        evaluator_count: How many different evaluators are.
        metadata: The document's.
    """

    schema_version: str = ""
    trace_id: str = ""
    loop_name: str = ""
    env_id: str = ""
    ended_at: str = ""
    outcome: str = "unknown"
    reason: str = ""
    goal_target: float | None = None
    has_error: bool = False
    steps: list[Step]
    worker_count: int
    evaluator_count: int
    metadata: Mapping[str, Any]


class _Attributes(Struct, gc=False):
    iteration: _Count | None = field(default=None, name=semconv.ITERATION)
    goal_score: float | None = field(default=None, name=semconv.GOAL_SCORE)
    goal_target: float | None = field(default=None, name=semconv.GOAL_TARGET)
    tokens_delta: _Count | None = field(default=None, name=semconv.TOKENS_DELTA)
    cost_usd: float | None = field(default=None, name=semconv.COST_USD)
    latency_ms: float | None = field(default=None, name=semconv.LATENCY_MS)
    worker_id: str | None = field(default=None, name=semconv.WORKER_ID)
    evaluator_id: str | None = field(default=None, name=semconv.EVALUATOR_ID)
    error_type: str | None = field(default=None, name=semconv.ERROR_TYPE)


class _EventAttributes(Struct, gc=False, frozen=True):
    code: str | None = field(default=None, name=semconv.FAILURE_CODE)


_NO_EVENT_ATTRIBUTES = _EventAttributes()


class _Event(Struct, gc=False):
    name: str
    attributes: _EventAttributes = _NO_EVENT_ATTRIBUTES


class _Span(Struct, gc=False):
    kind: str
    attributes: _Attributes
    start_time: str | None = None
    end_time: str | None = None
    events: tuple[_Event, ...] = ()


class _Document(Struct, gc=False):
    spans: list[_Span]
    schema_version: str = ""
    trace_id: str = ""
    loop_name: str = ""
    env_id: str = ""
    ended_at: str = ""
    outcome: str = "unknown"
    termination_reason: str = ""
    metadata: Raw = Raw(b"{}")


_decode = msgspec.json.Decoder(_Document).decode
_decode_any = msgspec.json.Decoder().decode


def run_of_line(line: Line | LongLine) -> Run:
    """
    Read a line of an archive.

    Raises:
        DocumentError: It is no document that can be read.
        ArchiveError: Reading failed.
    """
    if isinstance(line, Line):
        try:
            document = _decode(line.data)
            metadata = _decode_any(document.metadata)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # an attribute of another type, for instance
        else:
            tally = _Tally()
            tally.add(document.spans)
            texts = {name: getattr(document, name) for name in _TEXTS}
            return tally.end(texts, metadata)
    return run_of(DocumentStream(line))


def run_of(trace: Mapping[str, Any] | DocumentStream) -> Run:
    """
    Read a document, whatever shape its spans have.

    Raises:
        DocumentError: As `run_of_line`.
        ArchiveError: As `run_of_line`.
    """
    tally = _Tally()
    if isinstance(trace, DocumentStream):
        for batch in trace.batches():
            tally.add(map(_lenient, batch))
        fields: Mapping[str, Any] = trace.fields
    else:
        fields = trace
        spans = trace.get("spans")
        if isinstance(spans, list | tuple):
            tally.add(map(_lenient, spans))
    texts = {name: _text(fields.get(name)) for name in _TEXTS}
    return tally.end(texts, fields.get("metadata"))


_TEXTS = (
    "schema_version",
    "trace_id",
    "loop_name",
    "env_id",
    "ended_at",
    "outcome",
    "termination_reason",
)


class _Tally:
    """Takes the spans in, in their order."""

    def __init__(self) -> None:
        self._steps: list[Step] = []
        self._workers: set[str | None] = set()
        self._evaluators: set[str | None] = set()
        self._target: float | None = None
        self._latest_target: float | None = None
        self._has_error = False

    def add(self, spans: Iterable[_Span]) -> None:
        workers, evaluators = self._workers, self._evaluators
        for span in spans:
            attributes = span.attributes
            # None among them is taken off at the end: cheaper than asking each.
            workers.add(attributes.worker_id)
            evaluators.add(attributes.evaluator_id)
            if span.kind == "iteration":
                self._steps.append(_step(span, len(self._steps) + 1))
                if attributes.goal_target is not None:
                    self._latest_target = attributes.goal_target
            elif span.kind == "loop":
                self._target = attributes.goal_target
                self._has_error = attributes.error_type is not None

    def end(self, texts: Mapping[str, str], metadata: object) -> Run:
        """Give the run, with what stands beside the spans."""
        self._steps.sort(key=lambda step: step.iteration)
        return Run(
            schema_version=texts["schema_version"],
            trace_id=texts["trace_id"],
            loop_name=texts["loop_name"],
            env_id=texts["env_id"],
            ended_at=texts["ended_at"],
            outcome=texts["outcome"] or "unknown",
            reason=texts["termination_reason"],
            goal_target=self._latest_target if self._target is None else self._target,
            has_error=self._has_error,
            steps=self._steps,
            worker_count=len(self._workers - {None}),
            evaluator_count=len(self._evaluators - {None}),
            metadata=metadata if isinstance(metadata, Mapping) else {},
        )


def _step(span: _Span, position: int) -> Step:
    attributes = span.attributes
    iteration = attributes.iteration
    step = Step(
        iteration=position if iteration is None else iteration,
        goal_score=attributes.goal_score,
        cost_usd=attributes.cost_usd,
        latency_seconds=_latency_seconds(span),
        tokens=attributes.tokens_delta,
    )
    if span.events:
        _take_events(step, span.events)
    return step


def _take_events(step: Step, events: Iterable[_Event]) -> None:
    codes: dict[str, None] = {}
    for event in events:
        name = event.name
        if name in (semconv.FAILURE, semconv.SAFETY_VIOLATION):
            if event.attributes.code is not None:
                codes[event.attributes.code] = None
            step.safety_events += name == semconv.SAFETY_VIOLATION
        elif name == semconv.HUMAN_INTERVENTION:
            step.is_human = True
    if step.safety_events:
        codes[SAFETY_BYPASS] = None
    if codes:
        step.failure_codes = tuple(code for code in codes if code in _FAILURES)
        step.other_codes = tuple(code for code in codes if code not in _FAILURES)


def _latency_seconds(span: _Span) -> float | None:
    """Give the latency that was told, else how long the span took."""
    told = span.attributes.latency_ms
    if told is not None:
        return round(told / 1000.0, _PLACES)
    if not (span.start_time and span.end_time):
        return None
    try:
        took = parse_time(span.end_time) - parse_time(span.start_time)
    except DocumentError:
        return None
    # Some writers begin and end a span in one instant, whatever it took.
    return took / 1e9 if took > 0 else None


def _lenient(span: Any) -> _Span:
    """Take of a span what is of use; of another kind if there is nothing."""
    raw = _mapping(_mapping(span).get("attributes"))
    return _Span(
        _text(_mapping(span).get("kind")),
        _Attributes(
            iteration=count(raw.get(semconv.ITERATION)),
            goal_score=number(raw.get(semconv.GOAL_SCORE)),
            goal_target=number(raw.get(semconv.GOAL_TARGET)),
            tokens_delta=count(raw.get(semconv.TOKENS_DELTA)),
            cost_usd=number(raw.get(semconv.COST_USD)),
            latency_ms=number(raw.get(semconv.LATENCY_MS)),
            worker_id=_text(raw.get(semconv.WORKER_ID)) or None,
            evaluator_id=_text(raw.get(semconv.EVALUATOR_ID)) or None,
            error_type=_text(raw.get(semconv.ERROR_TYPE)) or None,
        ),
        _text(_mapping(span).get("start_time")),
        _text(_mapping(span).get("end_time")),
        _lenient_events(_mapping(span).get("events")),
    )


def _lenient_events(events: object) -> tuple[_Event, ...]:
    if not isinstance(events, list | tuple):
        return ()
    return tuple(
        _Event(
            _text(event.get("name")),
            _EventAttributes(
                _text(_mapping(event.get("attributes")).get(semconv.FAILURE_CODE))
                or None
            ),
        )
        for event in events
        if isinstance(event, Mapping)
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    """Give a text as it is, safe to be written; an empty one for what is none."""
    return text(value) if isinstance(value, str) else ""
