"""Spans to wire shapes: the part of a document's making that repeats by span."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from loopotel_prom import semconv
from loopotel_prom.ltf.wire import (
    CommonAttributes,
    EvaluatorAttributes,
    IterationAttributes,
    WireEvent,
    WireSpan,
    WorkerAttributes,
    attributes_dict,
    common_attributes,
)
from loopotel_prom.plain import plain_mapping
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.span import (
    ChildSpan,
    EvaluatorSpan,
    Event,
    IterationSpan,
    RunSpan,
    Span,
    WorkerSpan,
)

_PLACES = 4
_SCALE = 10_000.0
_MODEST = 1_000_000.0
# Nearer to a tie the product is not exact enough to tell which way to round.
_OFF_TIES = 0.499
_ITERATION_NAME = semconv.SPAN_NAMES["iteration"]
_Leaf = WorkerSpan | EvaluatorSpan


def run_shape(run: RunSpan, ended_ns: int) -> WireSpan:
    """Shape the root span."""
    attributes = common_attributes(run)
    attributes[semconv.GOAL_TARGET] = run.goal_target
    attributes[semconv.OUTCOME] = run.outcome
    attributes[semconv.TERMINATION_REASON] = run.termination_reason
    attributes[semconv.TOKENS_TOTAL] = run.tokens_total
    if run.error_type is not None:
        attributes[semconv.ERROR_TYPE] = run.error_type
    start, end = format_time(run.start_ns), format_time(ended_ns)
    return _shape(run, "loop", start, end, attributes, _events(run))


def child_shapes(run: RunSpan, children: Iterable[ChildSpan]) -> Iterator[WireSpan]:
    """
    Shape the children: each iteration, then those that name it as parent.

    Reads lazily, and holds only those whose iteration is still to come: they
    must come before it. Those whose iteration never comes stand at the end.
    """
    waiting: dict[str | None, list[_Leaf]] = {}
    for span in children:
        if not isinstance(span, IterationSpan):
            waiting.setdefault(span.parent_span_id, []).append(span)
            continue
        inside = waiting.pop(span.span_id, ())
        yield _iteration_shape(run, span, inside)
        for leaf in inside:
            yield _leaf_shape(run, leaf)
    for orphans in waiting.values():
        for leaf in orphans:
            yield _leaf_shape(run, leaf)


def _shape(
    span: Span,
    kind: str,
    start: str,
    end: str,
    attributes: CommonAttributes | dict[str, Any],
    events: list[WireEvent],
) -> WireSpan:
    return WireSpan(
        span.span_id,
        span.parent_span_id,
        semconv.SPAN_NAMES[kind],
        kind,
        start,
        end,
        _with_own(attributes, span.attributes) if span.attributes else attributes,
        events,
    )


def _with_own(
    attributes: CommonAttributes | dict[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a span's own attributes before the typed ones, which win."""
    if isinstance(attributes, CommonAttributes):
        attributes = attributes_dict(attributes)
    return {**copy_mapping(own), **attributes}


def _iteration_shape(
    run: RunSpan, span: IterationSpan, inside: Sequence[_Leaf]
) -> WireSpan:
    start = end = format_time(span.start_ns)
    if span.end_ns != span.start_ns:
        end = format_time(span.end_ns)
    score = _rounded(span.goal_score)
    # In the order of the fields: keywords would cost as much again.
    attributes: CommonAttributes | dict[str, Any] = IterationAttributes(
        run.loop_name,
        semconv.LSS_VERSION,
        semconv.LES_VERSION,
        run.env_id,
        run.task_id,
        span.iteration,
        score,
        span.goal_target,
        span.tokens_delta,
        span.input_tokens,
        span.output_tokens,
        span.cost_usd,
        span.latency_ms,
        _rounded(span.les_cumulative),
        _rounded(span.effectiveness),
        span.worker_id,
        span.evaluator_id,
        span.error_type,
    )
    if span.attributes:
        attributes = _with_own(attributes, span.attributes)
    return WireSpan(
        span.span_id,
        span.parent_span_id,
        _ITERATION_NAME,
        "iteration",
        start,
        end,
        attributes,
        _iteration_events(span, inside, score, start, end),
    )


def _leaf_shape(run: RunSpan, span: _Leaf) -> WireSpan:
    start, end = format_time(span.start_ns), format_time(span.end_ns)
    if isinstance(span, WorkerSpan):
        attributes: CommonAttributes = _worker_attributes(run, span)
        return _shape(span, "worker", start, end, attributes, _events(span))
    attributes = _evaluator_attributes(run, span)
    return _shape(span, "evaluator", start, end, attributes, _events(span))


def _worker_attributes(run: RunSpan, span: WorkerSpan) -> WorkerAttributes:
    return WorkerAttributes(
        run.loop_name,
        semconv.LSS_VERSION,
        semconv.LES_VERSION,
        run.env_id,
        run.task_id,
        span.worker_id,
        span.role,
        span.input_tokens,
        span.output_tokens,
        span.cost_usd,
        span.error_type,
    )


def _evaluator_attributes(run: RunSpan, span: EvaluatorSpan) -> EvaluatorAttributes:
    return EvaluatorAttributes(
        run.loop_name,
        semconv.LSS_VERSION,
        semconv.LES_VERSION,
        run.env_id,
        run.task_id,
        span.evaluator_id,
        span.type,
        _rounded(span.goal_score),
        span.input_tokens,
        span.output_tokens,
        span.cost_usd,
        span.error_type,
    )


def _iteration_events(
    span: IterationSpan,
    inside: Sequence[_Leaf],
    score: float | None,
    start: str,
    end: str,
) -> list[WireEvent]:
    """Start, what the iteration and its children report in order of time, end."""
    number = span.iteration
    events = [WireEvent(semconv.ITERATION_START, start, {semconv.ITERATION: number})]
    if span.events or inside:
        events += _in_order(span, inside, score, end)
    else:
        _complete_named(events, span, (), score, end)
    last: dict[str, Any] = {semconv.ITERATION: number}
    if score is not None:
        last[semconv.GOAL_SCORE] = score
    events.append(WireEvent(semconv.ITERATION_END, end, last))
    return events


def _in_order(
    span: IterationSpan, inside: Sequence[_Leaf], score: float | None, end: str
) -> list[WireEvent]:
    named: list[WireEvent] = []
    _complete_named(named, span, {_id_of(child) for child in inside}, score, end)
    happened = [
        *((event.time_ns, _event(event)) for event in span.events),
        *((child.end_ns, _completion(child)) for child in inside),
        *((span.end_ns, event) for event in named),
    ]
    happened.sort(key=itemgetter(0))
    return [event for _, event in happened]


def _complete_named(
    events: list[WireEvent],
    span: IterationSpan,
    ids: Container[str | None],
    score: float | None,
    end: str,
) -> None:
    """Complete, with the iteration, who is named there and has no span in it."""
    name = span.worker_id
    if name is not None and name not in ids:
        events.append(_worker_complete(name, end))
    name = span.evaluator_id
    if name is not None and name not in ids:
        events.append(_evaluator_complete(name, score, end))


def _id_of(child: _Leaf) -> str | None:
    return child.worker_id if isinstance(child, WorkerSpan) else child.evaluator_id


def _completion(child: _Leaf) -> WireEvent:
    name, end = _id_of(child) or "", format_time(child.end_ns)
    if isinstance(child, WorkerSpan):
        return _worker_complete(name, end)
    return _evaluator_complete(name, _rounded(child.goal_score), end)


def _worker_complete(name: str, time: str) -> WireEvent:
    return WireEvent(semconv.WORKER_COMPLETE, time, {semconv.WORKER_ID: name})


def _evaluator_complete(name: str, score: float | None, time: str) -> WireEvent:
    attributes: dict[str, Any] = {semconv.EVALUATOR_ID: name}
    if score is not None:
        attributes[semconv.GOAL_SCORE] = score
    return WireEvent(semconv.EVALUATOR_COMPLETE, time, attributes)


def _events(span: Span) -> list[WireEvent]:
    return [_event(event) for event in span.events]


def _event(event: Event) -> WireEvent:
    attributes = copy_mapping(event.attributes) if event.attributes else {}
    return WireEvent(event.name, format_time(event.time_ns), attributes)


def copy_mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    """
    Copy plain values; nothing of the result is shared with the original.

    A mapping that cannot be copied so (it holds itself, say) is made plain.
    """
    try:
        return _copy_items(value)
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return plain_mapping(value)


def _copy_items(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy_value(item) for key, item in value.items()}


def _copy_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _copy_items(value)
    if isinstance(value, list | tuple):
        return [_copy_value(item) for item in value]
    return value


def _rounded(value: float | None) -> float | None:
    """Round to four places, as `round` does, at half its cost."""
    if value is None:
        return None
    if 0.0 <= value < _MODEST:
        scaled = value * _SCALE
        nearest = int(scaled + 0.5)
        if -_OFF_TIES < scaled - nearest < _OFF_TIES:
            return nearest / _SCALE
    # Adding 0.0 takes the sign off a zero.
    return round(value, _PLACES) + 0.0
