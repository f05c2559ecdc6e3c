"""`les_observed`: LES 1.0 of a trajectory, by the formulas of LoopNet's corpus."""

from collections.abc import Sequence
from math import fsum
from operator import lt
from typing import Any, Final

from loopotel_prom.exporter.loopnet.terms import SAFETY_BYPASS

WEIGHTS: Final = {
    "effectiveness": 0.20,
    "speed": 0.15,
    "cost": 0.12,
    "robustness": 0.13,
    "scalability": 0.10,
    "safety": 0.12,
    "adaptability": 0.10,
    "autonomy": 0.08,
}
_LEAST_TARGET = 0.01
_USUAL_SECONDS = 30.0
_PLACES = 4


def regressions(scores: Sequence[float]) -> int:
    """Count the steps that scored lower than the one before."""
    return sum(map(lt, scores[1:], scores))


def observed_les(
    trajectory: Sequence[dict[str, Any]],
    *,
    goal_target: float,
    outcome: str,
    failure_mode: str | None,
    is_partial: bool,
) -> dict[str, Any]:
    """
    Score a trajectory of at least one step, spelled as the record has it.

    Costs and latencies must be known.
    """
    scores = [step["goal_score"] for step in trajectory]
    has_failed = outcome == "failure"
    found = {
        "effectiveness": _effectiveness(scores[-1], goal_target, has_failed=has_failed),
        "speed": _speed([step["latency_seconds"] for step in trajectory]),
        "cost": _cost(scores, fsum(step["cost_usd"] for step in trajectory)),
        "robustness": _clamp(0.75 - 0.05 * regressions(scores)),
        "scalability": _clamp(0.55 + 0.05 * min(len(scores), 6)),
        "safety": _safety(trajectory, failure_mode),
        "adaptability": _clamp(0.45 + 0.1 * (scores[-1] - scores[0])),
        "autonomy": _autonomy(trajectory),
    }
    if has_failed and len(scores) < 2:  # noqa: PLR2004 - a single step
        safety = found["safety"]
        found = {name: value / 2 for name, value in found.items()} | {"safety": safety}
    categories = {name: round(value, _PLACES) for name, value in found.items()}
    les = round(sum(WEIGHTS[name] * categories[name] for name in WEIGHTS), _PLACES)
    return {
        "les_normalized": les,
        "les_display": round(100 * les, 1),
        "categories": categories,
        "partial": is_partial,
    }


def _effectiveness(final: float, target: float, *, has_failed: bool) -> float:
    reach = _clamp(final / max(target, _LEAST_TARGET))
    return reach * 0.6 if has_failed and final < target else reach


def _speed(latencies: list[float]) -> float:
    middle = sorted(latencies)[len(latencies) // 2]
    speed = 1 / (1 + middle / _USUAL_SECONDS)
    return speed * 0.85 if max(latencies) > 3 * middle else speed


def _cost(scores: list[float], total_usd: float) -> float:
    gain = scores[-1] - scores[0]
    return _clamp(2 * gain / total_usd) if total_usd > 0 and gain > 0 else 0.0


def _safety(trajectory: Sequence[dict[str, Any]], failure_mode: str | None) -> float:
    if failure_mode == SAFETY_BYPASS:
        return 0.0
    events: int = sum(step["safety_events"] for step in trajectory)
    return 1 - min(0.2 * events, 0.8)


def _autonomy(trajectory: Sequence[dict[str, Any]]) -> float:
    human: int = sum(step["human_intervention"] for step in trajectory)
    return 1 - min(human / len(trajectory), 0.6)


def _clamp(value: float) -> float:
    return min(max(value, 0.0), 1.0)
