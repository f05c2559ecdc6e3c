"""The course of a run in at most 300 points, however long it is."""

import math
from array import array
from collections.abc import Callable, Iterable, Sequence

from loopotel_prom.board.view import Points

MOST_POINTS = 300
_NAN = math.nan


class Curve:
    """
    Scores, LES and tokens of a run's iterations; of many, one point stands for some.

    A point is one iteration at first; whenever there are too many, each two become
    one. It has the lowest, the highest and the latest score, so no peak is lost.
    """

    __slots__ = ("_filled", "_size", "count", "high", "last", "les", "low", "tokens")

    def __init__(self) -> None:
        self.count = 0
        self._size = 1
        # How many iterations the latest point stands for.
        self._filled = 1
        self.low = array("d")
        self.high = array("d")
        self.last = array("d")
        self.les = array("d")
        self.tokens = array("d")

    def extend(
        self, scores: Sequence[float], les: Sequence[float], tokens: Sequence[float]
    ) -> None:
        """
        Take in iterations.

        Args:
            scores: The goal score of each; NaN for none.
            les: The cumulative LES of each.
            tokens: The tokens so far, of each.
        """
        self.count += len(scores)
        if self._size == 1:
            self.low.extend(scores)
            self.high.extend(scores)
            self.last.extend(scores)
            self.les.extend(les)
            self.tokens.extend(tokens)
        else:
            self._fill(scores, les, tokens)
        while len(self.low) > MOST_POINTS:
            self._halve()

    def copy(self) -> "Curve":
        """Copy it as it is now."""
        other = Curve()
        other.count, other._size, other._filled = self.count, self._size, self._filled
        other.low, other.high, other.last = self.low[:], self.high[:], self.last[:]
        other.les, other.tokens = self.les[:], self.tokens[:]
        return other

    def points(self, most: int = MOST_POINTS) -> Points:
        """Give its columns, in at most so many points; the curve may lose its own."""
        while len(self.low) > most:
            self._halve()
        size, count = self._size, self.count
        return Points(
            iterations=[
                min((place + 1) * size, count) for place in range(len(self.low))
            ],
            low=_known(self.low),
            high=_known(self.high),
            last=_known(self.last),
            les=_known(self.les),
            tokens=self.tokens.tolist(),
        )

    def _fill(
        self, scores: Sequence[float], les: Sequence[float], tokens: Sequence[float]
    ) -> None:
        """Fill the latest point, then new ones."""
        begin = 0
        while begin < len(scores):
            if self._filled == self._size:
                self._open()
            end = min(begin + self._size - self._filled, len(scores))
            known = [score for score in scores[begin:end] if score == score]  # noqa: PLR0124 - NaN is not itself
            if known:
                self.low[-1] = _of_both(min, self.low[-1], min(known))
                self.high[-1] = _of_both(max, self.high[-1], max(known))
                self.last[-1] = known[-1]
            self.les[-1] = les[end - 1]
            self.tokens[-1] = tokens[end - 1]
            self._filled += end - begin
            begin = end

    def _open(self) -> None:
        for column in (self.low, self.high, self.last, self.les, self.tokens):
            column.append(_NAN)
        self._filled = 0

    def _halve(self) -> None:
        """Make one point of each two; the latest may be left with no other."""
        odd = len(self.low) % 2
        self._filled += 0 if odd else self._size
        self._size *= 2
        self.low = _paired(self.low, lambda a, b: _of_both(min, a, b))
        self.high = _paired(self.high, lambda a, b: _of_both(max, a, b))
        self.last = _paired(self.last, lambda a, b: a if math.isnan(b) else b)
        self.les = _paired(self.les, lambda _, b: b)
        self.tokens = _paired(self.tokens, lambda _, b: b)


def _paired(
    column: "array[float]", join: Callable[[float, float], float]
) -> "array[float]":
    joined = array("d", map(join, column[::2], column[1::2]))
    if len(column) % 2:
        joined.append(column[-1])
    return joined


def _of_both(choose: Callable[[float, float], float], a: float, b: float) -> float:
    """Choose of two, either of which may be NaN, for none."""
    if math.isnan(a):
        return b
    return a if math.isnan(b) else choose(a, b)


def _known(column: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else value for value in column]
