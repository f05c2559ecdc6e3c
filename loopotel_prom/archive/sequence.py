"""The numbers of one run's records: which have been seen, and which are missing."""

# Of more than so many that are missing at once, those beyond are given up.
_MOST_MISSING = 100_000


class Sequence:
    """
    Takes each number once, in nearly any order.

    After a sync that failed records are written again. Where the first copies are
    damaged, the second ones fill the gap, behind later records of the run.

    Attributes:
        next: The number after the highest so far.
    """

    __slots__ = ("_missing", "next")

    def __init__(self) -> None:
        self.next = 0
        self._missing: set[int] = set()

    def take(self, number: int) -> bool:
        """Take a number; False if it has been taken before."""
        if number >= self.next:
            if number > self.next:
                until = min(number, self.next + _MOST_MISSING)
                self._missing.update(range(self.next, until))
            self.next = number + 1
            return True
        if number in self._missing:
            self._missing.discard(number)
            return True
        return False
