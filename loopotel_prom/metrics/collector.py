"""The metrics as a prometheus_client collector, in any registry."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric as PrometheusMetric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from loopotel_prom.metrics.catalogue import CATALOGUE, Metric
from loopotel_prom.metrics.snapshot import Family, HistogramValue, Snapshot


class LoopCollector(Collector):
    """
    Builds fresh families from a snapshot at each scrape.

    Register it as any other: ``registry.register(LoopCollector(snapshot))``.

    Args:
        snapshot: Gives what a scrape sees.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[PrometheusMetric]:
        """Name the families without counting as a scrape."""
        return [_family(metric) for metric in CATALOGUE]

    def collect(self) -> Iterator[PrometheusMetric]:
        """Give all families as they are now."""
        for family in self._snapshot():
            yield _filled(family)


def _family(metric: Metric) -> PrometheusMetric:
    labels = metric.label_names
    if metric.type == "gauge":
        return GaugeMetricFamily(metric.name, metric.help, labels=labels)
    if metric.type == "counter":
        return CounterMetricFamily(metric.name, metric.help, labels=labels)
    return HistogramMetricFamily(metric.name, metric.help, labels=labels)


def _filled(family: Family) -> PrometheusMetric:
    metric = family.metric
    result = _family(metric)
    bounds = (*(str(float(bound)) for bound in metric.buckets), "+Inf")
    for labels, value in family.samples:
        if isinstance(value, HistogramValue):
            _add_histogram(result, metric, labels, value, bounds)
        else:
            named = dict(zip(metric.label_names, labels, strict=True))
            result.add_sample(metric.name, named, value)
    return result


def _add_histogram(
    result: PrometheusMetric,
    metric: Metric,
    labels: tuple[str, ...],
    value: HistogramValue,
    bounds: tuple[str, ...],
) -> None:
    named = dict(zip(metric.label_names, labels, strict=True))
    for bound, total in zip(bounds, value.cumulative, strict=True):
        result.add_sample(f"{metric.name}_bucket", {**named, "le": bound}, total)
    result.add_sample(f"{metric.name}_count", named, value.cumulative[-1])
    result.add_sample(f"{metric.name}_sum", named, value.sum)
