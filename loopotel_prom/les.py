"""
LES, the Loop Engineering Score: the point-in-loop values of LES 1.0.

All scores are normalised to 0..1. The display form is 100 times that.
"""

from collections.abc import Iterable

DEFAULT_GOAL_TARGET = 0.8
_PLACES = 4


def effectiveness(goal_score: float, goal_target: float = DEFAULT_GOAL_TARGET) -> float:
    """
    How far a score reaches towards its target: score / target, within 0..1.

    A target of zero or less cannot be reached towards and gives 0.0. NaN gives
    0.0 as well.
    """
    if goal_target <= 0:
        return 0.0
    reach = goal_score / goal_target
    if reach >= 1.0:
        return 1.0
    # A comparison with NaN is false.
    if reach > 0.0:
        return reach
    return 0.0


def cumulative_les(
    scores: Iterable[float], goal_target: float = DEFAULT_GOAL_TARGET
) -> float:
    """
    Mean effectiveness of the scores so far, rounded to 4 places; 0.0 for none.

    For scores that arrive one at a time use `RunningLes`, which does constant
    work for each.
    """
    running = RunningLes()
    for score in scores:
        running.add(score, goal_target)
    return round(running.value, _PLACES)


class RunningLes:
    """
    Cumulative LES along a run: the mean effectiveness of the scores so far.

    The sum is compensated (Neumaier), so the mean of a million values is as
    exact as that of ten, and equals what ``sum(values) / len(values)`` gives on
    Python 3.12 and later. Not thread-safe.

    Attributes:
        value: The mean so far, unrounded; 0.0 before the first score.
    """

    __slots__ = ("_compensation", "_count", "_sum", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0
        self._sum = 0.0
        self._compensation = 0.0

    def add(self, goal_score: float, goal_target: float) -> float:
        """Take in one score and return its effectiveness."""
        # As `effectiveness` has it; a call would cost more than the rest of it.
        value = goal_score / goal_target if goal_target > 0 else 0.0
        if value >= 1.0:
            value = 1.0
        elif not value > 0.0:
            value = 0.0
        old = self._sum
        total = old + value
        # Neither is negative: no absolute values to take.
        if old >= value:
            self._compensation += (old - total) + value
        else:
            self._compensation += (value - total) + old
        self._sum = total
        self._count = count = self._count + 1
        self.value = (total + self._compensation) / count
        return value
