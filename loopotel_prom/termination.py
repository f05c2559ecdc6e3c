"""
Why a run ended, in one of a closed set of words.

A loop says it in its own words (``max_iterations (6)``, ``quality_threshold (0.97
>= 0.8)``); metrics and LoopNet need a known few. The set is that of LoopNet's
``ln/record-v1``.
"""

from typing import Final

REASONS: Final = (
    "goal_met",
    "budget_exhausted",
    "human_stop",
    "error",
    "stall",
    "safety_violation",
    "timeout",
    "max_iterations",
    "cost_exceeded",
    "evaluator_error",
)
OTHER: Final = "other"

# The first of these that the words contain decides; the narrower stand first.
_SIGNS = (
    ("evaluator_error", "evaluator_error"),
    ("evaluator error", "evaluator_error"),
    ("safety", "safety_violation"),
    ("human", "human_stop"),
    ("max_iterations", "max_iterations"),
    ("max iterations", "max_iterations"),
    ("timeout", "timeout"),
    ("timed out", "timeout"),
    ("cost", "cost_exceeded"),
    ("budget", "budget_exhausted"),
    ("stall", "stall"),
    ("quality_threshold", "goal_met"),
    ("goal_met", "goal_met"),
    ("goal met", "goal_met"),
    ("error", "error"),
)


def reason_of(words: str) -> str:
    """Give the reason that the words mean; `OTHER` if they mean none."""
    if words in REASONS:
        return words
    lower = words[:256].lower()
    for sign, reason in _SIGNS:
        if sign in lower:
            return reason
    return OTHER
