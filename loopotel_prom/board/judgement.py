"""How a run goes, in a word: the rules, and the order of runs that they make."""

from collections.abc import Sequence

from loopotel_prom.board.view import RunSummary

# Enough to tell a trend from one bad iteration, few enough to tell it in time.
STALL_ITERATIONS = 5
RECENT_ITERATIONS = 5
SLOPE_SCORES = 5
BURN_FACTOR = 2.0
_MIN_FOR_SLOPE = 3
_FALLING = -0.01

# The worst first; each with its rule, in the words of the pages.
RULES = {
    "stalled": f"no new best goal score in the last {STALL_ITERATIONS} scored"
    " iterations, and the target is not reached",
    "regressing": f"over the last {SLOPE_SCORES} scores, the goal score falls by more"
    f" than {-_FALLING:g} an iteration",
    "burning": f"the last {RECENT_ITERATIONS} iterations took more than"
    f" {BURN_FACTOR:.0f} times the tokens of those before, each",
    "": "none of these",
    "on target": "the latest goal score is at the target or above",
}
_ORDER = {mark: place for place, mark in enumerate(RULES)}


def mark_of(
    *,
    goal_score: float | None,
    goal_target: float | None,
    since_best: int,
    slope: float | None,
    burn: float,
) -> str:
    """
    Judge a run.

    Args:
        goal_score: The latest.
        goal_target: What it should reach.
        since_best: How many scores there were since the best one.
        slope: As `slope_of` gives it.
        burn: As `burn_of` gives it.
    """
    if goal_score is not None and goal_target is not None and goal_score >= goal_target:
        return "on target"
    if since_best >= STALL_ITERATIONS:
        return "stalled"
    if slope is not None and slope < _FALLING:
        return "regressing"
    return "burning" if burn > BURN_FACTOR else ""


def slope_of(scores: Sequence[float]) -> float | None:
    """Fit a line to the latest scores: its rise per score; None for under three."""
    scores = scores[-SLOPE_SCORES:]
    count = len(scores)
    if count < _MIN_FOR_SLOPE:
        return None
    middle = (count - 1) / 2
    spread = sum((place - middle) ** 2 for place in range(count))
    return sum((place - middle) / spread * s for place, s in enumerate(scores))


def burn_of(recent_tokens: Sequence[int], iterations: int, tokens: int) -> float:
    """
    Compare the tokens of the latest iterations with those of the ones before.

    Returns:
        The quotient of the means; 1.0 where there is too little to compare.
    """
    latest = recent_tokens[-RECENT_ITERATIONS:]
    before = iterations - len(latest)
    if before < RECENT_ITERATIONS or tokens <= sum(latest):
        return 1.0
    return (sum(latest) / len(latest)) / ((tokens - sum(latest)) / before)


def badness(run: RunSummary) -> tuple[int, float]:
    """Give the key that sorts the worst run first; of equals, who burns most."""
    return _ORDER.get(run.mark, len(_ORDER)), -(run.tokens_per_minute or 0.0)
