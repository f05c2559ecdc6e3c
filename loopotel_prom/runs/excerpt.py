"""A long sequence in bounded memory: its ends, and the shape of its values."""

from collections import deque
from typing import Generic, TypeVar

_T = TypeVar("_T")

_BUCKETS = 1024


class Ends(Generic[_T]):
    """
    The first and the last of a sequence.

    Args:
        each: So many at either end; None keeps all.
    """

    def __init__(self, each: int | None) -> None:
        self._each = each
        self._first: list[_T] = []
        self._last: deque[_T] = deque(maxlen=each)
        self.count = 0

    def add(self, item: _T) -> None:
        """Take in the next one."""
        self.count += 1
        if self._each is None or len(self._first) < self._each:
            self._first.append(item)
        else:
            self._last.append(item)

    @property
    def first(self) -> list[_T]:
        """The beginning; all of it if nothing is left out."""
        return self._first

    @property
    def last(self) -> list[_T]:
        """The end."""
        return list(self._last)

    @property
    def left_out(self) -> int:
        """How many stand between them."""
        return self.count - len(self._first) - len(self._last)


class Curve:
    """
    The lowest and the highest value of each part of a sequence.

    Parts are one value long at first; whenever there are too many, each two
    become one. So no peak is ever lost.
    """

    def __init__(self, buckets: int = _BUCKETS) -> None:
        self._most = 2 * buckets
        self._size = 1
        self._in_last = 0
        self.parts: list[tuple[float, float]] = []
        self.count = 0

    def add(self, value: float) -> None:
        """Take in the next value."""
        self.count += 1
        if self._in_last % self._size == 0:
            self._make_room()
            self.parts.append((value, value))
            self._in_last = 1
            return
        low, high = self.parts[-1]
        self.parts[-1] = (min(low, value), max(high, value))
        self._in_last += 1

    def _make_room(self) -> None:
        if len(self.parts) < self._most:
            return
        pairs = zip(self.parts[::2], self.parts[1::2], strict=True)
        self.parts = [(min(a, c), max(b, d)) for (a, b), (c, d) in pairs]
        self._size *= 2
