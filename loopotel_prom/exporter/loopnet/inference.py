"""
What a run does not say in LoopNet's words, told from what it did.

Every rule stands in ``specs/loopnet.md``; of each list the first that holds
decides.
"""

from collections import Counter
from collections.abc import Sequence

from loopotel_prom.exporter.loopnet.run import Run
from loopotel_prom.exporter.loopnet.score import regressions
from loopotel_prom.exporter.loopnet.step import Step
from loopotel_prom.exporter.loopnet.terms import SAFETY_BYPASS
from loopotel_prom.termination import OTHER, reason_of

# Who stopped a run that was getting somewhere: a human, or a budget.
_STOPS = (
    "human_stop",
    "budget_exhausted",
    "cost_exceeded",
    "timeout",
    "max_iterations",
)
_OSCILLATING = 2

_MODE_OF_REASON = {
    "safety_violation": SAFETY_BYPASS,
    "evaluator_error": "fail.evaluator_drift",
    "goal_met": "fail.false_pass",
    "human_stop": "fail.tau_omission",
    "error": "fail.state_corruption",
    "budget_exhausted": "fail.resource_bleed",
    "cost_exceeded": "fail.resource_bleed",
    "timeout": "fail.resource_bleed",
    "max_iterations": "fail.resource_bleed",
    "stall": "fail.meta_instability",
}
# Reasons that say more of a failure than the course of its scores does.
_TELLING = ("safety_violation", "evaluator_error", "error")


def termination_reason(run: Run, *, goal_target: float, budget: int | None) -> str:
    """Say why a run ended, in a word of the closed set."""
    said = reason_of(run.reason)
    if said != OTHER:
        return said
    last = run.steps[-1]
    signs = (
        ("error", run.has_error),
        ("goal_met", run.outcome == "success"),
        ("safety_violation", last.safety_events > 0),
        ("human_stop", last.is_human),
        ("goal_met", run.outcome == "unknown" and _reached(run, goal_target)),
        ("max_iterations", budget is not None and len(run.steps) >= budget),
        ("stall", not _is_improving(run.steps)),
        ("budget_exhausted", run.outcome == "partial"),
    )
    return next((reason for reason, holds in signs if holds), "error")


def outcome(run: Run, reason: str, *, goal_target: float) -> str:
    """Give the outcome; of an unknown one by LoopNet's own labels."""
    if run.outcome != "unknown":
        return run.outcome
    if reason == "goal_met" or (reason in _STOPS and _reached(run, goal_target)):
        return "success"
    gained = _score(run.steps[-1]) > _score(run.steps[0])
    return "partial" if reason in _STOPS and gained else "failure"


def failure_modes(
    steps: Sequence[Step], *, outcome: str, reason: str, goal_target: float
) -> tuple[str, ...]:
    """List how it failed, the mode that counts most first; none for a success."""
    codes = [code for step in steps for code in step.failure_codes]
    if codes:
        recorded = Counter(codes)
        # The sort is stable: of two as frequent the one that came first.
        return tuple(sorted(recorded, key=lambda code: _rank(code, recorded[code])))
    if outcome == "success":
        return ()
    return (_inferred_mode(steps, reason, goal_target),)


def _rank(code: str, times: int) -> tuple[bool, int]:
    return code != SAFETY_BYPASS, -times


def _inferred_mode(steps: Sequence[Step], reason: str, goal_target: float) -> str:
    if reason in _TELLING:
        return _MODE_OF_REASON[reason]
    if reason != "goal_met" and _score(steps[-1]) >= goal_target:
        return "fail.false_fail"
    if regressions([_score(step) for step in steps]) >= _OSCILLATING:
        return "fail.oscillation"
    return _MODE_OF_REASON[reason]


def patterns(
    steps: Sequence[Step], *, worker_count: int, evaluator_count: int
) -> list[str]:
    """Name the patterns that show in a trace; there is always one."""
    signs = (
        ("human-in-the-loop", any(step.is_human for step in steps)),
        ("safety-constrained-loop", any(step.safety_events for step in steps)),
        ("multi-agent-coordination", worker_count > 1),
        ("verification-loop", evaluator_count > 0),
    )
    return [slug for slug, shows in signs if shows] or ["optimization-loop"]


def _is_improving(steps: Sequence[Step]) -> bool:
    """Tell whether the score rose in 60 % of the last third, as LES says."""
    scores = [_score(step) for step in steps]
    latest = range(max(1, len(scores) - max(1, len(scores) // 3)), len(scores))
    rises = sum(scores[at] > scores[at - 1] for at in latest)
    return bool(latest) and rises >= 0.6 * len(latest)


def _reached(run: Run, goal_target: float) -> bool:
    return _score(run.steps[-1]) >= goal_target


def _score(step: Step) -> float:
    return step.goal_score or 0.0
