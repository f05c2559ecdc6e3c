"""The metrics as a prometheus_client collector, in any registry."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric as PrometheusMetric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar as PrometheusExemplar

from loopotel_prom.metrics.catalogue import CATALOGUE, Metric
from loopotel_prom.metrics.exposition import upper_bounds
from loopotel_prom.metrics.snapshot import (
    Exemplar,
    Family,
    HistogramValue,
    Sample,
    Snapshot,
)


class LoopCollector(Collector):
    """
    Builds fresh families from a snapshot at each scrape.

    Register it as any other: ``registry.register(LoopCollector(snapshot))``.

    Args:
        snapshot: Gives what a scrape sees; it counts as one.
    """

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self.snapshot = snapshot

    def describe(self) -> Iterable[PrometheusMetric]:
        """Name the families without counting as a scrape."""
        return [_family(metric) for metric in CATALOGUE]

    def collect(self) -> Iterator[PrometheusMetric]:
        """Give all families as they are now."""
        for family in self.snapshot():
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
    for sample in family.samples:
        named = dict(zip(metric.label_names, sample.labels, strict=True))
        if isinstance(sample.value, HistogramValue):
            _add_histogram(result, metric, named, sample.value)
        else:
            _add_scalar(result, metric, named, sample, sample.value)
    return result


def _add_scalar(
    result: PrometheusMetric,
    metric: Metric,
    named: dict[str, str],
    sample: Sample,
    value: float,
) -> None:
    # Anywhere but on a counter it would cost the whole page.
    exemplar = _exemplar(sample.exemplar) if metric.type == "counter" else None
    result.add_sample(metric.name, named, value, exemplar=exemplar)


def _add_histogram(
    result: PrometheusMetric,
    metric: Metric,
    named: dict[str, str],
    value: HistogramValue,
) -> None:
    exemplars = value.exemplars or (None,) * len(value.cumulative)
    buckets = zip(upper_bounds(metric), value.cumulative, exemplars, strict=True)
    for bound, total, exemplar in buckets:
        result.add_sample(
            f"{metric.name}_bucket",
            {**named, "le": bound},
            total,
            exemplar=_exemplar(exemplar),
        )
    result.add_sample(f"{metric.name}_count", named, value.cumulative[-1])
    result.add_sample(f"{metric.name}_sum", named, value.sum)


def _exemplar(exemplar: Exemplar | None) -> PrometheusExemplar | None:
    if exemplar is None or not exemplar.is_valid:
        return None
    labels = {"trace_id": exemplar.trace_id}
    return PrometheusExemplar(labels, exemplar.value, exemplar.time_seconds)
