"""Histograms as they grow: counts by bucket, their sum, and traces to look at."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from loopotel_prom.metrics.snapshot import Exemplar, HistogramValue


class Histogram:
    """Counts of observations by bucket, and their sum."""

    __slots__ = ("bounds", "counts", "exemplars", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.exemplars: dict[int, Exemplar] = {}

    def observe(self, value: float, exemplar: Exemplar | None = None) -> None:
        """Count one finite value."""
        bucket = bisect_left(self.bounds, value)
        self.counts[bucket] += 1
        self.sum += value
        if exemplar is not None:
            self.exemplars[bucket] = exemplar

    def show(self, exemplar: Exemplar) -> None:
        """Show the trace of a value that was counted, and of no other."""
        self.exemplars = {bisect_left(self.bounds, exemplar.value): exemplar}

    def observe_all(self, values: Iterable[float]) -> None:
        """Count finite values; many cost less so than one by one."""
        counts, bounds, total = self.counts, self.bounds, self.sum
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            total += value
        self.sum = total

    def value(self) -> HistogramValue:
        """Copy the state."""
        exemplars: tuple[Exemplar | None, ...] = ()
        if self.exemplars:
            row: list[Exemplar | None] = [None] * len(self.counts)
            for bucket, exemplar in self.exemplars.items():
                row[bucket] = exemplar
            exemplars = tuple(row)
        return HistogramValue(tuple(accumulate(self.counts)), self.sum, exemplars)


class Calls:
    """Calls of one worker or one evaluator of a loop."""

    __slots__ = ("count", "observed")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.count = 0
        self.observed = Histogram(bounds)
