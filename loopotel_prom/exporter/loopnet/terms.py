"""The closed sets and limits of ``ln/record-v1`` that rules are made of."""

from typing import Final

SCHEMA_VERSION: Final = "ln/record-v1"
MIN_OBJECTIVE: Final = 10
MAX_STEPS: Final = 50

PATTERNS: Final = (
    "reflection-loop",
    "critique-loop",
    "planning-loop",
    "verification-loop",
    "research-loop",
    "simulation-loop",
    "debate-loop",
    "exploration-loop",
    "optimization-loop",
    "memory-augmented-loop",
    "human-in-the-loop",
    "safety-constrained-loop",
    "multi-agent-coordination",
    "recursive-improvement-loop",
)

SAFETY_BYPASS: Final = "fail.safety_bypass"
FAILURES: Final = (
    "fail.open_loop",
    "fail.self_grade",
    "fail.evaluator_drift",
    "fail.tau_omission",
    "fail.false_pass",
    "fail.false_fail",
    "fail.oscillation",
    "fail.resource_bleed",
    "fail.state_corruption",
    "fail.orchestration_deadlock",
    "fail.meta_instability",
    SAFETY_BYPASS,
)
