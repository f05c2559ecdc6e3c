"""Spans to document: the one way in which an LTF document comes to be."""

from collections.abc import Iterable, Mapping
from typing import Any

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf.codec import Document
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


def fold(spans: Iterable[Span]) -> Document:
    """
    Make the document of one run from its spans.

    The spans may come in any order. Of several run spans (a start and an end)
    the one that has ended counts. A run that has not ended yet ends, in the
    document, with its latest span. Iterations stand in the order given, each
    followed by its children. The document shares nothing with the spans.

    Raises:
        DocumentError: There is no run span.
    """
    run: RunSpan | None = None
    children: list[ChildSpan] = []
    for span in spans:
        if not isinstance(span, RunSpan):
            children.append(span)
        elif run is None or span.end_ns is not None:
            run = span
    if run is None:
        raise DocumentError("these spans hold no run span (kind 'loop')")
    return _document(run, children)


def _document(run: RunSpan, children: list[ChildSpan]) -> Document:
    ended_ns = run.end_ns
    if ended_ns is None:
        ended_ns = max((span.end_ns for span in children), default=run.start_ns)
    return {
        "schema_version": semconv.SCHEMA_VERSION,
        "trace_id": run.trace_id,
        "loop_name": run.loop_name,
        **_present(env_id=run.env_id, task_id=run.task_id),
        "started_at": format_time(run.start_ns),
        "ended_at": format_time(ended_ns),
        "outcome": run.outcome,
        "termination_reason": run.termination_reason,
        "spec_pins": dict(semconv.SPEC_PINS),
        "spans": [_run_span(run, ended_ns), *_child_spans(run, children)],
        "metadata": copy_mapping(run.metadata),
    }


def _present(**values: str | None) -> dict[str, str]:
    """Keep what is there: the format has no null for an absent id."""
    return {key: value for key, value in values.items() if value is not None}


def _run_span(run: RunSpan, ended_ns: int) -> dict[str, Any]:
    attributes = common_attributes(run)
    attributes[semconv.GOAL_TARGET] = run.goal_target
    attributes[semconv.OUTCOME] = run.outcome
    attributes[semconv.TERMINATION_REASON] = run.termination_reason
    attributes[semconv.TOKENS_TOTAL] = run.tokens_total
    _put(attributes, semconv.ERROR_TYPE, run.error_type)
    return _span(run, "loop", ended_ns, attributes, [_event(e) for e in run.events])


def _child_spans(run: RunSpan, children: list[ChildSpan]) -> Iterable[dict[str, Any]]:
    """Order the children: each iteration, then those that name it as parent."""
    nested: dict[str | None, list[ChildSpan]] = {}
    iterations: list[ChildSpan] = []
    for span in children:
        if isinstance(span, IterationSpan):
            iterations.append(span)
        else:
            nested.setdefault(span.parent_span_id, []).append(span)
    for iteration in iterations:
        inside = nested.pop(iteration.span_id, ())
        yield _child_span(run, iteration, inside)
        yield from (_child_span(run, span, ()) for span in inside)
    for orphans in nested.values():
        yield from (_child_span(run, span, ()) for span in orphans)


def _child_span(
    run: RunSpan, span: ChildSpan, inside: Iterable[ChildSpan]
) -> dict[str, Any]:
    if isinstance(span, IterationSpan):
        attributes = _iteration_attributes(run, span)
        events = _iteration_events(span, inside)
        return _span(span, "iteration", span.end_ns, attributes, events)
    kind = "worker" if isinstance(span, WorkerSpan) else "evaluator"
    events = [_event(event) for event in span.events]
    return _span(span, kind, span.end_ns, _leaf_attributes(run, span), events)


def _leaf_attributes(run: RunSpan, span: WorkerSpan | EvaluatorSpan) -> dict[str, Any]:
    attributes = common_attributes(run)
    if isinstance(span, WorkerSpan):
        _put(attributes, semconv.WORKER_ID, span.worker_id)
        _put(attributes, semconv.WORKER_ROLE, span.role)
    else:
        _put(attributes, semconv.EVALUATOR_ID, span.evaluator_id)
        _put(attributes, semconv.EVALUATOR_TYPE, span.type)
        _put(attributes, semconv.GOAL_SCORE, _rounded(span.goal_score))
    _put(attributes, semconv.USAGE_INPUT_TOKENS, span.input_tokens)
    _put(attributes, semconv.USAGE_OUTPUT_TOKENS, span.output_tokens)
    _put(attributes, semconv.COST_USD, span.cost_usd)
    _put(attributes, semconv.ERROR_TYPE, span.error_type)
    return attributes


def _span(
    span: Span,
    kind: str,
    end_ns: int,
    attributes: dict[str, Any],
    events: list[dict[str, Any]],
) -> dict[str, Any]:
    if span.attributes:
        attributes = {**copy_mapping(span.attributes), **attributes}
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "name": semconv.SPAN_NAMES[kind],
        "kind": kind,
        "start_time": format_time(span.start_ns),
        "end_time": format_time(end_ns),
        "attributes": attributes,
        "events": events,
    }


def common_attributes(run: RunSpan) -> dict[str, Any]:
    """Give the attributes that every span of the run carries."""
    attributes: dict[str, Any] = {
        semconv.LOOP_NAME: run.loop_name,
        semconv.LSS_VERSION_KEY: semconv.LSS_VERSION,
        semconv.LES_VERSION_KEY: semconv.LES_VERSION,
    }
    _put(attributes, semconv.ENV_ID, run.env_id)
    _put(attributes, semconv.TASK_ID, run.task_id)
    return attributes


def _iteration_attributes(run: RunSpan, span: IterationSpan) -> dict[str, Any]:
    attributes = common_attributes(run)
    attributes[semconv.ITERATION] = span.iteration
    _put(attributes, semconv.GOAL_SCORE, _rounded(span.goal_score))
    attributes[semconv.GOAL_TARGET] = span.goal_target
    _put(attributes, semconv.TOKENS_DELTA, span.tokens_delta)
    _put(attributes, semconv.INPUT_TOKENS, span.input_tokens)
    _put(attributes, semconv.OUTPUT_TOKENS, span.output_tokens)
    _put(attributes, semconv.COST_USD, span.cost_usd)
    _put(attributes, semconv.LATENCY_MS, span.latency_ms)
    attributes[semconv.LES_CUMULATIVE] = round(span.les_cumulative, _PLACES)
    _put(attributes, semconv.LES_EFFECTIVENESS, _rounded(span.effectiveness))
    _put(attributes, semconv.WORKER_ID, span.worker_id)
    _put(attributes, semconv.EVALUATOR_ID, span.evaluator_id)
    _put(attributes, semconv.ERROR_TYPE, span.error_type)
    return attributes


def _iteration_events(
    span: IterationSpan, inside: Iterable[ChildSpan]
) -> list[dict[str, Any]]:
    """Start, what the iteration and its children report in order of time, end."""
    happened = [*span.events, *(_completion(child) for child in inside)]
    # One that is only named here completes with the iteration.
    ids = {_id_of(child) for child in inside}
    if span.worker_id is not None and span.worker_id not in ids:
        happened.append(_worker_complete(span.worker_id, span.end_ns))
    if span.evaluator_id is not None and span.evaluator_id not in ids:
        happened.append(
            _evaluator_complete(span.evaluator_id, span.goal_score, span.end_ns)
        )
    happened.sort(key=lambda event: event.time_ns)
    number_of = {semconv.ITERATION: span.iteration}
    end = dict(number_of)
    _put(end, semconv.GOAL_SCORE, _rounded(span.goal_score))
    return [
        _event(Event(semconv.ITERATION_START, span.start_ns, number_of)),
        *(_event(event) for event in happened),
        _event(Event(semconv.ITERATION_END, span.end_ns, end)),
    ]


def _id_of(child: ChildSpan) -> str | None:
    return child.worker_id if isinstance(child, WorkerSpan) else child.evaluator_id


def _completion(child: ChildSpan) -> Event:
    name = _id_of(child) or ""
    if isinstance(child, WorkerSpan):
        return _worker_complete(name, child.end_ns)
    score = child.goal_score
    return _evaluator_complete(name, score, child.end_ns)


def _worker_complete(worker_id: str, time_ns: int) -> Event:
    return Event(semconv.WORKER_COMPLETE, time_ns, {semconv.WORKER_ID: worker_id})


def _evaluator_complete(name: str, score: float | None, time_ns: int) -> Event:
    attributes: dict[str, Any] = {semconv.EVALUATOR_ID: name}
    _put(attributes, semconv.GOAL_SCORE, _rounded(score))
    return Event(semconv.EVALUATOR_COMPLETE, time_ns, attributes)


def _event(event: Event) -> dict[str, Any]:
    return {
        "name": event.name,
        "timestamp": format_time(event.time_ns),
        "attributes": copy_mapping(event.attributes),
    }


def copy_mapping(value: Mapping[str, Any]) -> dict[str, Any]:
    """Copy plain values; nothing of the result is shared with the original."""
    return {key: _copy_value(item) for key, item in value.items()}


def _copy_value(value: Any) -> Any:
    if isinstance(value, dict):
        return copy_mapping(value)
    if isinstance(value, list | tuple):
        return [_copy_value(item) for item in value]
    return value


def _put(attributes: dict[str, Any], key: str, value: object) -> None:
    if value is not None:
        attributes[key] = value


def _rounded(value: float | None) -> float | None:
    # Adding 0.0 takes the sign off a zero.
    return None if value is None else round(value, _PLACES) + 0.0
