"""Before and after, by loop."""

from dataclasses import dataclass, field

from loopotel_prom.rescore.job import Rescored


@dataclass(slots=True)
class Sums:
    """
    The runs of one loop.

    Attributes:
        goal_target: Its new target; None if it has none.
        runs: How many.
        scored: How many of them have a score.
        reached_before: How many reached their target.
        reached_after: How many reach the new one.
    """

    goal_target: float | None
    runs: int = 0
    scored: int = 0
    reached_before: int = 0
    reached_after: int = 0
    _les_before: float = 0.0
    _les_after: float = 0.0

    def add(self, run: Rescored) -> None:
        """Count a run in."""
        self.runs += 1
        if run.les_before is None or run.les_after is None:
            return
        self.scored += 1
        self.reached_before += run.reached_before
        self.reached_after += run.reached_after
        self._les_before += run.les_before
        self._les_after += run.les_after

    @property
    def les_before(self) -> float | None:
        """The mean of the final cumulative LES, as recorded."""
        return self._les_before / self.scored if self.scored else None

    @property
    def les_after(self) -> float | None:
        """The same under the new target."""
        return self._les_after / self.scored if self.scored else None

    @property
    def share_before(self) -> float | None:
        """The share of runs that reached their target."""
        return self.reached_before / self.scored if self.scored else None

    @property
    def share_after(self) -> float | None:
        """The share of those that reach the new one."""
        return self.reached_after / self.scored if self.scored else None


@dataclass(slots=True)
class Comparison:
    """
    All loops.

    Attributes:
        loops: By name, in the order in which they were met.
    """

    loops: dict[str, Sums] = field(default_factory=dict)

    def add(self, run: Rescored) -> None:
        """Count a run in."""
        sums = self.loops.setdefault(run.loop_name, Sums(run.goal_target))
        sums.add(run)
