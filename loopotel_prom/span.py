"""
The span: the one kind of thing that flows through the package.

A run is one `RunSpan`, its `IterationSpan` children, and the `WorkerSpan` and
`EvaluatorSpan` children of those. Spans are frozen and hold typed values; the
attribute dictionaries of LTF are made of them by `loopotel_prom.ltf.fold`, off
the loop's own path: a typed span costs a tenth of what its dictionaries would.

Times are integer Unix nanoseconds. Ids are spelled as in LTF: the trace id
``ltf-<uuid>``, a span id 16 lower-case hex digits.
"""

from typing import Any, Literal

from msgspec import Struct

Outcome = Literal["success", "failure", "partial", "unknown"]


class Event(Struct, frozen=True, gc=False):
    """Something that happened at one instant of a span."""

    name: str
    time_ns: int
    attributes: dict[str, Any] = {}


class RunSpan(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="loop"
):
    """
    One run of a loop: the root of its trace.

    Seen twice by a processor: at its start with ``end_ns`` None, and at its end
    whole. `metadata` becomes the document's; `attributes` the root span's own
    extra ones.
    """

    trace_id: str
    span_id: str
    start_ns: int
    loop_name: str
    goal_target: float
    env_id: str | None = None
    task_id: str | None = None
    end_ns: int | None = None
    outcome: Outcome = "unknown"
    termination_reason: str = ""
    tokens_total: int = 0
    error_type: str | None = None
    parent_span_id: str | None = None
    metadata: dict[str, Any] = {}
    attributes: dict[str, Any] = {}
    events: tuple[Event, ...] = ()


class IterationSpan(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="iteration"
):
    """
    One pass of a loop: observe, evaluate, decide, act.

    `goal_score`, `effectiveness` and `les_cumulative` are unrounded; a value
    that was not reported, or was no number, is None. Tokens and cost include
    those of its workers and evaluators. `events` holds what happened between
    start and end, which are not repeated there.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    iteration: int
    goal_score: float | None
    goal_target: float
    effectiveness: float | None
    les_cumulative: float
    tokens_delta: int | None = 0
    cost_usd: float | None = None
    latency_ms: float | None = None
    worker_id: str | None = None
    evaluator_id: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_type: str | None = None
    attributes: dict[str, Any] = {}
    events: tuple[Event, ...] = ()


class WorkerSpan(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="worker"
):
    """One call of a worker (an agent, a tool) inside an iteration."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    worker_id: str | None = None
    role: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error_type: str | None = None
    attributes: dict[str, Any] = {}
    events: tuple[Event, ...] = ()


class EvaluatorSpan(
    Struct, frozen=True, gc=False, omit_defaults=True, tag_field="kind", tag="evaluator"
):
    """One judgement of an evaluator inside an iteration."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    evaluator_id: str | None = None
    type: str | None = None
    goal_score: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error_type: str | None = None
    attributes: dict[str, Any] = {}
    events: tuple[Event, ...] = ()


ChildSpan = IterationSpan | WorkerSpan | EvaluatorSpan
Span = RunSpan | ChildSpan
