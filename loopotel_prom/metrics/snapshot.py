"""The snapshot: what one scrape sees, immutable."""

import re
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple

from loopotel_prom.metrics.catalogue import Metric

# OpenMetrics: "The combined length of the label names and values of an
# Exemplar's LabelSet MUST NOT exceed 128 UTF-8 character code points." That leaves
# 120. No id has quotes or spaces, over which some parsers lose the whole page.
_TRACE_ID = re.compile(r"[A-Za-z0-9._:-]{1,120}")


class Exemplar(NamedTuple):
    """One observation behind a number: which run, how much, and when."""

    trace_id: str
    value: float
    time_seconds: float

    @property
    def is_valid(self) -> bool:
        """Tell whether it may be exposed; otherwise only its sample may."""
        return (
            _TRACE_ID.fullmatch(self.trace_id) is not None
            and isfinite(self.value)
            and isfinite(self.time_seconds)
            and self.time_seconds > 0
        )


class HistogramValue(NamedTuple):
    """
    The state of one histogram series.

    `cumulative` counts the observations up to each bucket's bound and, last,
    all of them. `exemplars` are of the same buckets, or none at all.
    """

    cumulative: tuple[int, ...]
    sum: float
    exemplars: tuple[Exemplar | None, ...] = ()


class Sample(NamedTuple):
    """
    One series: its label values, in the metric's order, and its value.

    Only a counter may have an `exemplar` here; a histogram has its own.
    """

    labels: tuple[str, ...]
    value: float | HistogramValue
    exemplar: Exemplar | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """All series of one metric."""

    metric: Metric
    samples: tuple[Sample, ...]


Snapshot = tuple[Family, ...]
