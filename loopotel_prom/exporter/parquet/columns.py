"""The columns of both tables: their names, in order, and their types."""

from typing import Final, Literal, TypeAlias

Type: TypeAlias = Literal["text", "time", "real", "count", "truth", "texts"]
Columns: TypeAlias = dict[str, Type]

_IDENTITY: Final[Columns] = {
    "trace_id": "text",
    "loop_name": "text",
    "env_id": "text",
    "task_id": "text",
}

RUNS: Final[Columns] = {
    **_IDENTITY,
    "started_at": "time",
    "ended_at": "time",
    "duration_seconds": "real",
    "outcome": "text",
    "termination_reason": "text",
    "error_type": "text",
    "goal_target": "real",
    "goal_score_final": "real",
    "les_final": "real",
    "iteration_count": "count",
    "tokens_total": "count",
    "cost_usd": "real",
    "worker_ids": "texts",
    "evaluator_ids": "texts",
    "failure_codes": "texts",
    "safety_violation_count": "count",
    "human_intervention_count": "count",
    "is_recovered": "truth",
    "missing_span_count": "count",
    "metadata_json": "text",
}

ITERATIONS: Final[Columns] = {
    **_IDENTITY,
    "position": "count",
    "iteration": "count",
    "started_at": "time",
    "ended_at": "time",
    "goal_score": "real",
    "goal_target": "real",
    "les_effectiveness": "real",
    "les_cumulative": "real",
    "tokens": "count",
    "input_tokens": "count",
    "output_tokens": "count",
    "cost_usd": "real",
    "latency_seconds": "real",
    "worker_ids": "texts",
    "evaluator_ids": "texts",
    "failure_codes": "texts",
    "safety_violation_count": "count",
    "human_intervention_count": "count",
    "error_type": "text",
}
