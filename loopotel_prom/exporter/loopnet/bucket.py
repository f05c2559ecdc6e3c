"""A long trajectory made short enough for a record, its totals kept."""

from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from math import fsum

from loopotel_prom.exporter.loopnet.step import Step
from loopotel_prom.exporter.loopnet.terms import MAX_STEPS


def bucketed(steps: list[Step]) -> list[Step]:
    """
    Put neighbouring steps together so that at most 50 are left.

    The first stays by itself, so that the first score does; the others are shared
    out evenly, and each bucket has the score of its last step. Costs, latencies
    and tokens are summed, so their totals are those of the run. A cost or a
    latency that is unknown of one step is unknown of its bucket.
    """
    rest = len(steps) - 1
    if rest < MAX_STEPS:
        return steps
    parts = MAX_STEPS - 1
    bounds = [1 + rest * part // parts for part in range(parts + 1)]
    parts_of = (steps[begin:end] for begin, end in pairwise(bounds))
    return [steps[0], *map(_together, parts_of)]


def _together(steps: Sequence[Step]) -> Step:
    last = steps[-1]
    tokens = [step.tokens for step in steps if step.tokens is not None]
    return Step(
        iteration=last.iteration,
        goal_score=last.goal_score,
        cost_usd=_sum(step.cost_usd for step in steps),
        latency_seconds=_sum(step.latency_seconds for step in steps),
        tokens=sum(tokens) if tokens else None,
        failure_codes=_unique(step.failure_codes for step in steps),
        other_codes=_unique(step.other_codes for step in steps),
        safety_events=sum(step.safety_events for step in steps),
        is_human=any(step.is_human for step in steps),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    """Sum what is known of all; rounded to a billionth, as sums of decimals."""
    known = list(values)
    if None in known:
        return None
    return round(fsum(value for value in known if value is not None), 9)


def _unique(codes: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(codes)))
