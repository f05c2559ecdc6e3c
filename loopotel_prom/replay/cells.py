"""Cells: what was said of a series last, and what a new value adds to that."""

from collections.abc import Sequence
from itertools import accumulate
from typing import TypeAlias

from loopotel_prom.metrics.catalogue import IDENTITY_LABELS, Metric
from loopotel_prom.metrics.exposition import upper_bounds
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.replay.options import HistoryOptions
from loopotel_prom.replay.points import STALE, Instant, Series

Histogrammed: TypeAlias = tuple[tuple[Series, ...], Sequence[float]]


class Said:
    """What is said of an instant, as `Instant` has it."""

    __slots__ = ("histograms", "scalars")

    def __init__(self) -> None:
        self.scalars: list[tuple[Series, float]] = []
        self.histograms: list[Histogrammed] = []

    def __bool__(self) -> bool:
        return bool(self.scalars or self.histograms)

    def extend(self, more: "Said") -> None:
        """Say more of it."""
        self.scalars += more.scalars
        self.histograms += more.histograms

    def at(self, time_ms: int) -> Instant:
        """Give the instant."""
        return Instant(time_ms, self.scalars, self.histograms)


class Scalar:
    """
    The series of a gauge or a counter.

    Attributes:
        series: The series.
        value: What was said last; None while it is not there. Who says another that is
            there as well sets it.
    """

    __slots__ = ("_former", "series", "value")

    def __init__(self, series: Series, *, is_counter: bool) -> None:
        self.series = series
        self.value: float | None = None
        self._former: float | None = 0 if is_counter else None

    def begin(self, value: float, said: Said, before: Said) -> None:
        """Say that it is there, with a value; of a counter also where it begins."""
        if self._former is not None and value != self._former:
            before.scalars.append((self.series, self._former))
        said.scalars.append((self.series, value))
        self.value = value

    def end(self, said: Said) -> None:
        """Say that it is not there any more."""
        if self.value is not None:
            said.scalars.append((self.series, STALE))
            if self._former is not None:
                self._former = self.value
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
        self.said: Histogrammed = series, [0] * len(series)

    def change(self, said: Said, before: Said) -> None:
        """Say what it is now; if it appears, also where it begins."""
        counts = self.histogram.counts
        if self.counts is None and counts != self._former:
            before.histograms.append(self.said)
        values: list[float] = [*accumulate(counts)]
        values += (values[-1], self.histogram.sum)
        self.said = self.series, values
        self.counts = self._former = counts.copy()
        said.histograms.append(self.said)

    def end(self, said: Said) -> None:
        """Say that it is not there any more."""
        if self.counts is not None:
            said.histograms.append((self.series, [STALE] * len(self.series)))
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
