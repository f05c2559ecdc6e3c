"""What many runs have in common: totals and percentiles, group by group."""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from loopotel_prom.runs.digest import Digest

By: TypeAlias = Literal["loop", "env", "task", "outcome"]

# So many groups are told apart; the rest is one.
MAX_GROUPS = 1000
OTHERS = "(others)"
_MAX_VALUES = 20_000
_PLACES = 4
_DIGITS = 3

_KEYS: dict[By, Callable[[Digest], str]] = {
    "loop": lambda digest: digest.loop_name,
    "env": lambda digest: digest.env_id or "",
    "task": lambda digest: digest.task_id or "",
    "outcome": lambda digest: digest.outcome,
}


class Distribution:
    """
    Percentiles by counting: how often was each value met.

    Values are rounded to 4 places, as documents hold them, so scores and LES are
    exact, whatever their number. Only beyond 20,000 different values (of scores
    far above 1, or iterations) they are rounded to 3 digits: memory is bounded.
    """

    def __init__(self) -> None:
        self._counts: Counter[float] = Counter()
        self._is_rounded = False
        self.count = 0
        self.total = 0.0

    def add(self, value: float | None) -> None:
        """Count a value; None is none."""
        if value is None:
            return
        self.count += 1
        self.total += value
        self._counts[self._rounded(value)] += 1
        if len(self._counts) > _MAX_VALUES and not self._is_rounded:
            self._is_rounded = True
            counts, self._counts = self._counts, Counter()
            for old, times in counts.items():
                self._counts[self._rounded(old)] += times

    @property
    def mean(self) -> float | None:
        """The mean of the values as they were; None without any."""
        return self.total / self.count if self.count else None

    def percentile(self, share: float) -> float | None:
        """Give the smallest value that so large a share does not exceed."""
        rank = max(math.ceil(share * self.count), 1)
        for value in sorted(self._counts):
            rank -= self._counts[value]
            if rank <= 0:
                return value
        return None

    def _rounded(self, value: float) -> float:
        if self._is_rounded:
            return float(f"{value:.{_DIGITS - 1}e}")
        return round(value, _PLACES)


class Group:
    """
    The runs of one loop, or of whatever they are grouped by.

    Attributes:
        name: Of the group; empty for the runs that name none.
        runs: How many.
        outcomes: How many of each outcome.
        tokens: In total.
        cost_usd: In total; None if no run reported any.
        first_ns: When the first of them started, Unix nanoseconds.
        last_ns: When the last of them started.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.runs = 0
        self.outcomes: Counter[str] = Counter()
        self.iterations = Distribution()
        self.goal_score = Distribution()
        self.les = Distribution()
        self.tokens = 0
        self.cost_usd: float | None = None
        self.first_ns: int | None = None
        self.last_ns: int | None = None

    @property
    def successes(self) -> int:
        """How many runs reached their goal."""
        return self.outcomes["success"]

    def add(self, digest: Digest) -> None:
        """Take in a run."""
        self.runs += 1
        known = digest.outcome in self.outcomes or len(self.outcomes) < MAX_GROUPS
        self.outcomes[digest.outcome if known else OTHERS] += 1
        self.iterations.add(digest.iterations)
        self.goal_score.add(digest.goal_score)
        self.les.add(digest.les)
        self.tokens += digest.tokens or 0
        if digest.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + digest.cost_usd
        if digest.started_ns is not None:
            self._add_time(digest.started_ns)

    def _add_time(self, time_ns: int) -> None:
        first, last = self.first_ns, self.last_ns
        self.first_ns = time_ns if first is None else min(first, time_ns)
        self.last_ns = time_ns if last is None else max(last, time_ns)


class Statistics:
    """
    Groups of runs, in memory that does not grow with their number.

    Args:
        by: What tells the groups apart.
    """

    def __init__(self, by: By = "loop") -> None:
        self._key = _KEYS[by]
        self._groups: dict[str, Group] = {}
        self.all = Group("")

    def add(self, digest: Digest) -> None:
        """Take in a run."""
        name = self._key(digest)
        if name not in self._groups and len(self._groups) >= MAX_GROUPS:
            name = OTHERS
        self._groups.setdefault(name, Group(name)).add(digest)
        self.all.add(digest)

    def groups(self) -> Iterator[Group]:
        """Yield the groups by name."""
        for name in sorted(self._groups):
            yield self._groups[name]
