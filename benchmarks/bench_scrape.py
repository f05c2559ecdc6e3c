"""
What does a scrape cost?

`Renderer` against prometheus_client's ``generate_latest`` on equal samples, at
1,000, 10,000 and 100,000 of them. The peer renders both the same snapshot, by our
collector, and families that it is given ready-made: its exposition alone. Before each
measurement the snapshot is made anew, as it is for a scrape: with other values.

Run: ``python -m benchmarks.bench_scrape [--quick]``
"""

import argparse
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from prometheus_client import Metric as PrometheusMetric
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_openmetrics,
)
from prometheus_client.registry import Collector

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom.metrics.catalogue import CATALOGUE, Metric
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.metrics.exposition import (
    OPENMETRICS_1_0_0,
    TEXT_0_0_4,
    Format,
    Renderer,
    render,
)
from loopotel_prom.metrics.snapshot import (
    Exemplar,
    Family,
    HistogramValue,
    Sample,
    Snapshot,
)

GOAL = 10.0
OF_A_LOOP = [metric for metric in CATALOGUE if metric.identity]
# The dearest for us: each float is a line of its own, with no text to share.
GAUGES = [metric for metric in OF_A_LOOP if metric.type == "gauge"]


class Peer(NamedTuple):
    """prometheus_client's rendering in one of our formats."""

    content_format: Format
    generate: Callable[[Collector], bytes]


TEXT = Peer(TEXT_0_0_4, generate_latest)
OPENMETRICS = Peer(OPENMETRICS_1_0_0, generate_openmetrics)


class Ready(Collector):
    """Families that are there already."""

    def __init__(self, collector: Collector) -> None:
        self._families = list(collector.collect())

    def collect(self) -> Iterable[PrometheusMetric]:
        """Give them."""
        return self._families


def lines(metric: Metric) -> int:
    """Count the lines of one series: those that Prometheus counts as samples."""
    return len(metric.buckets) + 3 if metric.type == "histogram" else 1


def snapshot(metrics: Sequence[Metric], size: int) -> Snapshot:
    """Make a snapshot of as many loops as give about `size` lines."""
    loops = max(1, round(size / sum(map(lines, metrics))))
    return tuple(
        Family(metric, tuple(sample(metric, loop) for loop in range(loops)))
        for metric in metrics
    )


def sample(metric: Metric, loop: int) -> Sample:
    """Make a series as a loop has it, with a value by chance."""
    # A loop keeps its name from scrape to scrape, not the tuple of its labels.
    loop_name = sys.intern(f"code-repair-{loop}")
    named = {"loop_name": loop_name, "env_id": "prod/agent", "slot": "0"}
    labels = tuple(named.get(name, name) for name in metric.label_names)
    exemplar = Exemplar(f"ltf-{loop:032x}", random.random(), 1.79e9)
    if metric.type == "gauge":
        return Sample(labels, round(random.random(), 4))
    if metric.type == "counter":
        return Sample(labels, random.randrange(1_000_000), exemplar)
    counts = [random.randrange(100) for _ in range(len(metric.buckets) + 1)]
    exemplars = (exemplar, *[None] * len(metric.buckets))
    cumulative = tuple(itertools.accumulate(counts))
    return Sample(labels, HistogramValue(cumulative, random.random() * 1e3, exemplars))


def contenders(
    peer: Peer, make: Callable[[], Snapshot]
) -> dict[str, Callable[[], float]]:
    """Give what each takes, in microseconds a line, for a snapshot of its own."""
    renderer = Renderer()
    size = sum(lines(family.metric) * len(family.samples) for family in make())

    def warm() -> float:
        state = make()
        return seconds(lambda: renderer.render(state, peer.content_format))

    def cold() -> float:
        state = make()
        return seconds(lambda: render(state, peer.content_format))

    def theirs() -> float:
        state = make()
        collector = LoopCollector(lambda: state)
        return seconds(lambda: peer.generate(collector))

    def theirs_ready() -> float:
        ready = Ready(LoopCollector(make))
        return seconds(lambda: peer.generate(ready))

    warm()
    named = {"warm": warm, "cold": cold, "peer": theirs, "peer, ready": theirs_ready}
    return {name: _per(measure, size) for name, measure in named.items()}


def _per(measure: Callable[[], float], size: int) -> Callable[[], float]:
    return lambda: measure() / size * 1e6


def compare(
    name: str, peer: Peer, metrics: Sequence[Metric], size: int
) -> dict[str, float]:
    """Measure one kind of page at one size, and print it."""
    rounds = 9 if size < 100_000 else 3  # noqa: PLR2004 - seconds a round from there
    figures = fastest(contenders(peer, lambda: snapshot(metrics, size)), rounds)
    columns = "".join(f"{figure:12.3f}" for figure in figures.values())
    print(f"  {name:<28}{size:>9,}{columns}", flush=True)
    return figures


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out 100,000")
    sizes = [1_000, 10_000] if parser.parse_args().quick else [1_000, 10_000, 100_000]
    print_machine("prometheus-client")
    pages = {
        "all metrics, text": (TEXT, OF_A_LOOP),
        "all metrics, OpenMetrics": (OPENMETRICS, OF_A_LOOP),
        "gauges alone, text": (TEXT, GAUGES),
        "gauges alone, OpenMetrics": (OPENMETRICS, GAUGES),
    }
    header = "".join(f"{name:>12}" for name in ("warm", "cold", "peer", "peer, ready"))
    print(f"Microseconds a line:\n  {'':<28}{'lines':>9}{header}")
    found = {
        (name, size): compare(name, *page, size)
        for name, page in pages.items()
        for size in sizes
    }
    print()
    for (name, size), figures in found.items():
        if size >= 10_000:  # noqa: PLR2004 - the goal's least
            judge(f"{name}, {size:,}", figures)


def judge(question: str, figures: dict[str, float]) -> None:
    """Print the ratios of a renderer at work, whose first page was another."""
    for peer in ("peer", "peer, ready"):
        verdict(f"{question}: {peer}", figures[peer] / figures["warm"], GOAL)


if __name__ == "__main__":
    main()
