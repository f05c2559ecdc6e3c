"""The snapshot: what one scrape sees, immutable."""

from dataclasses import dataclass
from typing import NamedTuple

from loopotel_prom.metrics.catalogue import Metric


class HistogramValue(NamedTuple):
    """
    The state of one histogram series.

    `cumulative` counts the observations up to each bucket's bound and, last,
    all of them.
    """

    cumulative: tuple[int, ...]
    sum: float


class Sample(NamedTuple):
    """One series: its label values, in the metric's order, and its value."""

    labels: tuple[str, ...]
    value: float | HistogramValue


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one metric."""

    metric: Metric
    samples: tuple[Sample, ...]


Snapshot = tuple[Family, ...]
