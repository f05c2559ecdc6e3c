"""Document to spans: the inverse of `fold`."""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.ltf.shape import copy_mapping
from loopotel_prom.ltf.wire import common_attributes
from loopotel_prom.plain import count, number, text
from loopotel_prom.rfc3339 import parse_time
from loopotel_prom.span import (
    ChildSpan,
    EvaluatorSpan,
    Event,
    IterationSpan,
    Outcome,
    RunSpan,
    Span,
    WorkerSpan,
)

_TOO_MANY = 2**63
_Completions = set[tuple[str, str, str]]


def unfold(document: Mapping[str, Any]) -> list[Span]:
    """
    Take a valid document apart into its spans, the run span first.

    What the typed fields cannot hold stays in a span's `attributes` and
    `events`, so that folding the result gives the document back: exactly for
    one that `fold` made, with the derived attributes and events completed for
    any other.

    Raises:
        DocumentError: The document has no span of kind 'loop', or a time in it
            cannot be read. Validate it first for a fuller answer.
    """
    trace_id = str(document.get("trace_id"))
    raw = [item for item in document.get("spans") or () if isinstance(item, Mapping)]
    root = next((item for item in raw if item.get("kind") == "loop"), None)
    if root is None:
        raise DocumentError("this document holds no span of kind 'loop'")
    run = _read_run(document, root, trace_id)
    readers: dict[object, Callable[..., ChildSpan]] = {
        "iteration": _read_iteration,
        "worker": _read_worker,
        "evaluator": _read_evaluator,
    }
    common = common_attributes(run)
    completions = _derived_completions(raw)
    spans: list[Span] = [run]
    for item in raw:
        read = readers.get(item.get("kind"))
        if read is not None:
            spans.append(read(item, _Fields(item, run, common), run, completions))
    return spans


class _Fields:
    """The parts of one raw span, its known attributes taken out one by one."""

    def __init__(
        self, item: Mapping[str, Any], run: RunSpan | None, common: Mapping[str, Any]
    ) -> None:
        self.span_id = str(item.get("span_id"))
        self.parent_span_id = item.get("parent_span_id")
        self.start_ns = parse_time(str(item.get("start_time")))
        end = item.get("end_time")
        self.end_ns = self.start_ns if end is None else parse_time(str(end))
        if end is None and run is not None and run.end_ns is not None:
            self.end_ns = max(run.end_ns, self.start_ns)
        self.rest = dict(item.get("attributes") or {})
        for key, value in common.items():
            if key in self.rest and self.rest[key] == value:
                del self.rest[key]

    def take_text(self, key: str) -> str | None:
        """Take an attribute out if it is text."""
        value = self.rest.get(key)
        if not isinstance(value, str):
            return None
        del self.rest[key]
        return value

    def take_number(self, key: str) -> float | None:
        """Take an attribute out if it is a finite number."""
        value = self.rest.get(key)
        # The common cases first, at a tenth of what `number` would cost.
        if type(value) is not float or not isfinite(value):
            value = None if value is None else number(value)
        if value is not None:
            del self.rest[key]
        return value

    def take_count(self, key: str) -> int | None:
        """Take an attribute out if it is a whole number from 0 up."""
        value = self.rest.get(key)
        if type(value) is not int or not 0 <= value < _TOO_MANY:
            value = None if value is None else count(value)
        if value is not None:
            del self.rest[key]
        return value


def _read_run(
    document: Mapping[str, Any], root: Mapping[str, Any], trace_id: str
) -> RunSpan:
    fields = _Fields(root, None, {})
    for key in (
        *(semconv.LOOP_NAME, semconv.ENV_ID, semconv.TASK_ID),
        *(semconv.LSS_VERSION_KEY, semconv.LES_VERSION_KEY),
        *(semconv.OUTCOME, semconv.TERMINATION_REASON),
    ):
        fields.rest.pop(key, None)
    target = fields.take_number(semconv.GOAL_TARGET)
    outcome: Outcome = document.get("outcome", "unknown")
    ended_at = document.get("ended_at")
    return RunSpan(
        trace_id=trace_id,
        span_id=fields.span_id,
        start_ns=parse_time(str(document.get("started_at"))),
        loop_name=str(document.get("loop_name")),
        goal_target=DEFAULT_GOAL_TARGET if target is None else target,
        env_id=document.get("env_id"),
        task_id=document.get("task_id"),
        end_ns=parse_time(str(ended_at)),
        outcome=outcome,
        termination_reason=document.get("termination_reason", ""),
        tokens_total=fields.take_count(semconv.TOKENS_TOTAL) or 0,
        error_type=fields.take_text(semconv.ERROR_TYPE),
        parent_span_id=fields.parent_span_id,
        metadata=copy_mapping(document.get("metadata") or {}),
        attributes=copy_mapping(fields.rest),
        events=tuple(_read_event(event) for event in root.get("events") or ()),
    )


def _read_iteration(
    item: Mapping[str, Any],
    fields: _Fields,
    run: RunSpan,
    completions: Mapping[str, _Completions],
) -> IterationSpan:
    target = fields.take_number(semconv.GOAL_TARGET)
    worker_id = fields.take_text(semconv.WORKER_ID)
    evaluator_id = fields.take_text(semconv.EVALUATOR_ID)
    derived = set(completions.get(fields.span_id, ()))
    end_time = str(item.get("end_time"))
    ids = {name for _, name, _ in derived}
    if worker_id is not None and worker_id not in ids:
        derived.add((semconv.WORKER_COMPLETE, worker_id, end_time))
    if evaluator_id is not None and evaluator_id not in ids:
        derived.add((semconv.EVALUATOR_COMPLETE, evaluator_id, end_time))
    return IterationSpan(
        trace_id=run.trace_id,
        span_id=fields.span_id,
        parent_span_id=fields.parent_span_id,
        start_ns=fields.start_ns,
        end_ns=fields.end_ns,
        iteration=fields.take_count(semconv.ITERATION) or 0,
        goal_score=fields.take_number(semconv.GOAL_SCORE),
        goal_target=run.goal_target if target is None else target,
        effectiveness=fields.take_number(semconv.LES_EFFECTIVENESS),
        les_cumulative=fields.take_number(semconv.LES_CUMULATIVE) or 0.0,
        tokens_delta=fields.take_count(semconv.TOKENS_DELTA),
        cost_usd=fields.take_number(semconv.COST_USD),
        latency_ms=fields.take_number(semconv.LATENCY_MS),
        worker_id=worker_id,
        evaluator_id=evaluator_id,
        input_tokens=fields.take_count(semconv.INPUT_TOKENS),
        output_tokens=fields.take_count(semconv.OUTPUT_TOKENS),
        error_type=fields.take_text(semconv.ERROR_TYPE),
        attributes=copy_mapping(fields.rest),
        events=tuple(
            _read_event(event)
            for event in item.get("events") or ()
            if not _is_derived(event, derived)
        ),
    )


def _read_worker(
    item: Mapping[str, Any], fields: _Fields, run: RunSpan, _completions: object
) -> WorkerSpan:
    return WorkerSpan(
        trace_id=run.trace_id,
        span_id=fields.span_id,
        parent_span_id=fields.parent_span_id,
        start_ns=fields.start_ns,
        end_ns=fields.end_ns,
        worker_id=fields.take_text(semconv.WORKER_ID),
        role=fields.take_text(semconv.WORKER_ROLE),
        input_tokens=fields.take_count(semconv.USAGE_INPUT_TOKENS),
        output_tokens=fields.take_count(semconv.USAGE_OUTPUT_TOKENS),
        cost_usd=fields.take_number(semconv.COST_USD),
        error_type=fields.take_text(semconv.ERROR_TYPE),
        attributes=copy_mapping(fields.rest),
        events=tuple(_read_event(event) for event in item.get("events") or ()),
    )


def _read_evaluator(
    item: Mapping[str, Any], fields: _Fields, run: RunSpan, _completions: object
) -> EvaluatorSpan:
    return EvaluatorSpan(
        trace_id=run.trace_id,
        span_id=fields.span_id,
        parent_span_id=fields.parent_span_id,
        start_ns=fields.start_ns,
        end_ns=fields.end_ns,
        evaluator_id=fields.take_text(semconv.EVALUATOR_ID),
        type=fields.take_text(semconv.EVALUATOR_TYPE),
        goal_score=fields.take_number(semconv.GOAL_SCORE),
        input_tokens=fields.take_count(semconv.USAGE_INPUT_TOKENS),
        output_tokens=fields.take_count(semconv.USAGE_OUTPUT_TOKENS),
        cost_usd=fields.take_number(semconv.COST_USD),
        error_type=fields.take_text(semconv.ERROR_TYPE),
        attributes=copy_mapping(fields.rest),
        events=tuple(_read_event(event) for event in item.get("events") or ()),
    )


def _read_event(event: Mapping[str, Any]) -> Event:
    return Event(
        name=text(event.get("name")),
        time_ns=parse_time(str(event.get("timestamp"))),
        attributes=copy_mapping(event.get("attributes") or {}),
    )


def _derived_completions(
    raw: Iterable[Mapping[str, Any]],
) -> dict[str, _Completions]:
    """List, by parent, the completion events that `fold` makes of child spans."""
    derived: dict[str, _Completions] = {}
    for item in raw:
        attributes = item.get("attributes") or {}
        if item.get("kind") == "worker":
            name, key = semconv.WORKER_COMPLETE, semconv.WORKER_ID
        elif item.get("kind") == "evaluator":
            name, key = semconv.EVALUATOR_COMPLETE, semconv.EVALUATOR_ID
        else:
            continue
        event = (name, str(attributes.get(key, "")), str(item.get("end_time")))
        derived.setdefault(str(item.get("parent_span_id")), set()).add(event)
    return derived


def _is_derived(event: Mapping[str, Any], completions: _Completions) -> bool:
    """Tell whether `fold` makes this event of the span's own fields."""
    name = event.get("name")
    if name in (semconv.ITERATION_START, semconv.ITERATION_END):
        return True
    attributes = event.get("attributes") or {}
    key = semconv.WORKER_ID if name == semconv.WORKER_COMPLETE else semconv.EVALUATOR_ID
    identity = (str(name), str(attributes.get(key)), str(event.get("timestamp")))
    return identity in completions
