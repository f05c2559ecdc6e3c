"""Cells: what was said of a series last, and what a new value adds to that."""

from itertools import accumulate
from typing import TypeAlias

from loopotel_prom.metrics.catalogue import IDENTITY_LABELS, Metric
from loopotel_prom.metrics.exposition import upper_bounds
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.replay.options import HistoryOptions
from loopotel_prom.replay.points import STALE, Series

Points: TypeAlias = list[tuple[Series, float]]


class Scalar:
    """
    The series of a gauge or a counter.

    Attributes:
        series: The series.
        value: What was said last; None while it is not there.
    """

    __slots__ = ("_former", "series", "value")

    def __init__(self, series: Series, *, is_counter: bool) -> None:
        self.series = series
        self.value: float | None = None
        self._former: float | None = 0 if is_counter else None

    def change(self, value: float | None, points: Points, before: Points) -> None:
        """Say another value; of a counter that appears, also where it begins."""
        if value is None:
            points.append((self.series, STALE))
        else:
            if self._former is not None:
                if self.value is None and value != self._former:
                    before.append((self.series, self._former))
                self._former = value
            points.append((self.series, value))
        self.value = value

    def end(self, points: Points) -> None:
        """Say that it is not there any more."""
        if self.value is not None:
            points.append((self.series, STALE))
            self.value = None


class Distribution:
    """
    The series of one histogram: they are said together.

    Attributes:
        series: Those of the buckets, of the count and of the sum.
        histogram: Its state of now.
        counts: By bucket, as they were said last; None while it is not there.
        said: What was said last.
    """

    __slots__ = ("_former", "counts", "histogram", "said", "series")

    def __init__(self, series: tuple[Series, ...], histogram: Histogram) -> None:
        self.series = series
        self.histogram = histogram
        self.counts: list[int] | None = None
        self._former = [0] * len(histogram.counts)
        self.said: Points = [(each, 0) for each in series]

    def change(self, points: Points, before: Points) -> None:
        """Say what it is now; if it appears, also where it begins."""
        counts = self.histogram.counts
        if self.counts is None and counts != self._former:
            before += self.said
        cumulative = tuple(accumulate(counts))
        values = (*cumulative, cumulative[-1], self.histogram.sum)
        self.said = list(zip(self.series, values, strict=True))
        self.counts = self._former = counts.copy()
        points += self.said

    def end(self, points: Points) -> None:
        """Say that it is not there any more."""
        if self.counts is not None:
            points += [(each, STALE) for each in self.series]
            self.counts = None


class Naming:
    """Names the series of metrics."""

    def __init__(self, options: HistoryOptions) -> None:
        self._identity = (*IDENTITY_LABELS, *options.run_labels)
        self._constant = options.labels

    def of_scalar(self, metric: Metric, labels: tuple[str, ...]) -> Series:
        """Name the series of a gauge or counter, given its label values."""
        return Series(metric.name, self._pairs(metric, labels))

    def of_histogram(
        self, metric: Metric, labels: tuple[str, ...]
    ) -> tuple[Series, ...]:
        """Name those of a histogram: its buckets, its count, its sum."""
        own, name = self._pairs(metric, labels), metric.name
        bounds = upper_bounds(metric)
        buckets = [
            Series(f"{name}_bucket", tuple(sorted((*own, ("le", bound)))))
            for bound in bounds
        ]
        return (*buckets, Series(f"{name}_count", own), Series(f"{name}_sum", own))

    def _pairs(
        self, metric: Metric, labels: tuple[str, ...]
    ) -> tuple[tuple[str, str], ...]:
        names = (*self._identity, *metric.labels)
        pairs = [*zip(names, labels, strict=True), *self._constant]
        # To Prometheus, an empty label is none.
        return tuple(sorted(pair for pair in pairs if pair[1]))
