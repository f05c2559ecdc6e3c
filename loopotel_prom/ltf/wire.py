"""
The wire shapes of LTF: spans, events and attributes as a document spells them.

Structs, not dictionaries: they are made and encoded in half the time. Fields
stand in the order of the document's keys. An attribute that is None is absent:
the format has no null for it.
"""

from typing import Any

from msgspec import Struct, field, structs

from loopotel_prom import semconv
from loopotel_prom.span import RunSpan


class CommonAttributes(Struct, frozen=True, gc=False, omit_defaults=True):
    """What every span of a run carries."""

    loop_name: str = field(name=semconv.LOOP_NAME)
    lss_version: str = field(name=semconv.LSS_VERSION_KEY)
    les_version: str = field(name=semconv.LES_VERSION_KEY)
    env_id: str | None = field(default=None, name=semconv.ENV_ID)
    task_id: str | None = field(default=None, name=semconv.TASK_ID)


class IterationAttributes(CommonAttributes, frozen=True, gc=False, omit_defaults=True):
    """What an iteration reports."""

    iteration: int | None = field(default=None, name=semconv.ITERATION)
    goal_score: float | None = field(default=None, name=semconv.GOAL_SCORE)
    goal_target: float | None = field(default=None, name=semconv.GOAL_TARGET)
    tokens_delta: int | None = field(default=None, name=semconv.TOKENS_DELTA)
    input_tokens: int | None = field(default=None, name=semconv.INPUT_TOKENS)
    output_tokens: int | None = field(default=None, name=semconv.OUTPUT_TOKENS)
    cost_usd: float | None = field(default=None, name=semconv.COST_USD)
    latency_ms: float | None = field(default=None, name=semconv.LATENCY_MS)
    les_cumulative: float | None = field(default=None, name=semconv.LES_CUMULATIVE)
    effectiveness: float | None = field(default=None, name=semconv.LES_EFFECTIVENESS)
    worker_id: str | None = field(default=None, name=semconv.WORKER_ID)
    evaluator_id: str | None = field(default=None, name=semconv.EVALUATOR_ID)
    error_type: str | None = field(default=None, name=semconv.ERROR_TYPE)


class WorkerAttributes(CommonAttributes, frozen=True, gc=False, omit_defaults=True):
    """What a worker reports."""

    worker_id: str | None = field(default=None, name=semconv.WORKER_ID)
    role: str | None = field(default=None, name=semconv.WORKER_ROLE)
    input_tokens: int | None = field(default=None, name=semconv.USAGE_INPUT_TOKENS)
    output_tokens: int | None = field(default=None, name=semconv.USAGE_OUTPUT_TOKENS)
    cost_usd: float | None = field(default=None, name=semconv.COST_USD)
    error_type: str | None = field(default=None, name=semconv.ERROR_TYPE)


class EvaluatorAttributes(CommonAttributes, frozen=True, gc=False, omit_defaults=True):
    """What an evaluator reports."""

    evaluator_id: str | None = field(default=None, name=semconv.EVALUATOR_ID)
    type: str | None = field(default=None, name=semconv.EVALUATOR_TYPE)
    goal_score: float | None = field(default=None, name=semconv.GOAL_SCORE)
    input_tokens: int | None = field(default=None, name=semconv.USAGE_INPUT_TOKENS)
    output_tokens: int | None = field(default=None, name=semconv.USAGE_OUTPUT_TOKENS)
    cost_usd: float | None = field(default=None, name=semconv.COST_USD)
    error_type: str | None = field(default=None, name=semconv.ERROR_TYPE)


class WireEvent(Struct, frozen=True, gc=False):
    """One event of a span."""

    name: str
    timestamp: str
    attributes: dict[str, Any]


class WireSpan(Struct, frozen=True, gc=False):
    """One span; `attributes` is a dictionary where it has some of its own."""

    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    start_time: str
    end_time: str
    attributes: CommonAttributes | dict[str, Any]
    events: list[WireEvent]


def common_attributes(run: RunSpan) -> dict[str, Any]:
    """Give the attributes that every span of the run carries."""
    return attributes_dict(
        CommonAttributes(
            run.loop_name,
            semconv.LSS_VERSION,
            semconv.LES_VERSION,
            run.env_id,
            run.task_id,
        )
    )


def attributes_dict(attributes: CommonAttributes) -> dict[str, Any]:
    """Give the attributes that are there, by their wire names."""
    # Not msgspec.to_builtins: it refuses values, such as numpy's, that a program
    # may have put into a typed field.
    names, values = attributes.__struct_encode_fields__, structs.astuple(attributes)
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if value is not None
    }


def span_dict(span: WireSpan) -> dict[str, Any]:
    """Give a span as its document holds it, dictionaries throughout."""
    parts = structs.asdict(span)
    if isinstance(span.attributes, CommonAttributes):
        parts["attributes"] = attributes_dict(span.attributes)
    parts["events"] = [structs.asdict(event) for event in span.events]
    return parts
