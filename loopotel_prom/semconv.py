"""
The wire names of LTF 0.1: span names, attribute keys, event names, constants.

Each spelling stands here once. ``specs/semantic-conventions.md`` explains them.
"""

from typing import Final

SCHEMA_VERSION: Final = "ltf/0.1"
LSS_VERSION: Final = "1.0.0"
LES_VERSION: Final = "1.0.0"
SPEC_PINS: Final = {"lss": "lss@1.0.0", "les": "les@1.0.0", "ltf": "ltf@0.1.0"}

OUTCOMES: Final = ("success", "failure", "partial", "unknown")
LOOP_NAME_MIN_LENGTH: Final = 3
LOOP_NAME_MAX_LENGTH: Final = 64

# Span names by kind.
SPAN_NAMES: Final = {
    "loop": "loop.run",
    "iteration": "loop.iteration",
    "worker": "loop.worker",
    "evaluator": "loop.evaluator",
}

# Attributes of every span.
LOOP_NAME: Final = "loop.name"
ENV_ID: Final = "loop.env_id"
TASK_ID: Final = "loop.task_id"
LSS_VERSION_KEY: Final = "loop.lss_version"
LES_VERSION_KEY: Final = "loop.les_version"
ERROR_TYPE: Final = "error.type"

# Attributes of a run.
OUTCOME: Final = "loop.outcome"
TERMINATION_REASON: Final = "loop.termination_reason"
TOKENS_TOTAL: Final = "loop.tokens_total"

# Attributes of an iteration.
ITERATION: Final = "loop.iteration"
GOAL_SCORE: Final = "loop.goal_score"
GOAL_TARGET: Final = "loop.goal_target"
TOKENS_DELTA: Final = "loop.tokens_delta"
INPUT_TOKENS: Final = "loop.tokens.input"
OUTPUT_TOKENS: Final = "loop.tokens.output"
COST_USD: Final = "loop.cost_usd"
LATENCY_MS: Final = "loop.latency_ms"
LES_CUMULATIVE: Final = "loop.les.cumulative_normalized"
LES_EFFECTIVENESS: Final = "loop.les.effectiveness"

# Attributes of a worker and of an evaluator.
WORKER_ID: Final = "loop.worker.id"
WORKER_ROLE: Final = "loop.worker.role"
EVALUATOR_ID: Final = "loop.evaluator.id"
EVALUATOR_TYPE: Final = "loop.evaluator.type"

# Usage of a worker or an evaluator, as OpenTelemetry's GenAI conventions have it.
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"

# Events of an iteration.
ITERATION_START: Final = "loop.iteration.start"
ITERATION_END: Final = "loop.iteration.end"
WORKER_COMPLETE: Final = "loop.worker.complete"
EVALUATOR_COMPLETE: Final = "loop.evaluator.complete"
SAFETY_VIOLATION: Final = "loop.safety.violation"
FAILURE: Final = "loop.failure"
HUMAN_INTERVENTION: Final = "loop.human_intervention"

# Attribute of the events that carry a failure code.
FAILURE_CODE: Final = "loop.failure.code"

# Key of a document's metadata that names the run it is nested in.
PARENT: Final = "parent"
