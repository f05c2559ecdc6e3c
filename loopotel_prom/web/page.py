"""The metrics page: our families by the fast renderer, the others beside them."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client import Metric as PrometheusMetric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from loopotel_prom.health import Health
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.metrics.exposition import Format, Renderer
from loopotel_prom.metrics.snapshot import Snapshot

_EOF = b"# EOF\n"
_SUFFIXES = ("", "_bucket", "_count", "_sum")

Names = frozenset[str]


class MetricsPage:
    """
    Renders a registry for a scrape.

    Ours are rendered from one snapshot, fast. Every other collector is asked and
    rendered by itself: one that fails costs its own families and is counted.
    Scrapers that come at the same time share a page, made after they came.
    Thread-safe.

    Args:
        registry: What the page shows.
        own: Our collector in it.
        health: Where failures are counted.
    """

    def __init__(
        self, registry: CollectorRegistry, own: LoopCollector, health: Health
    ) -> None:
        self._registry = registry
        self._own = own
        self._health = health
        self._renderer = Renderer()
        self._flights = _Flights()

    def render(self, wanted: Format, names: Names = frozenset()) -> bytes:
        """
        Give the page.

        Args:
            wanted: Its format.
            names: Only series of these names; all if empty.
        """
        return self._flights.join(
            (wanted, names), lambda: self._rendered(wanted, names)
        )

    def _rendered(self, wanted: Format, names: Names) -> bytes:
        begin = time.monotonic()
        own = self._renderer.render(_filtered(self._own.snapshot(), names), wanted)
        parts = [self._foreign(each, wanted, names) for each in self._others()]
        page = b"".join([*parts, own.removesuffix(_EOF)])
        if wanted.is_openmetrics:
            page += _EOF
        self._health.scraped(time.monotonic() - begin, len(page))
        return page

    def _others(self) -> list[Collector]:
        # There is no public way to ask a registry for its collectors.
        collectors = list(self._registry._collector_to_names)  # noqa: SLF001
        return [each for each in collectors if each is not self._own]

    def _foreign(self, collector: Collector, wanted: Format, names: Names) -> bytes:
        try:
            families = [
                family
                for family in collector.collect()
                if not names or any(sample.name in names for sample in family.samples)
            ]
            encode, _ = choose_encoder(wanted.content_type)
            return encode(_Families(families)).removesuffix(_EOF)
        except Exception as error:  # noqa: BLE001 - a stranger's collector may raise anything
            self._health.failed(type(collector).__name__, error)
            return b""


def _filtered(snapshot: Snapshot, names: Names) -> Snapshot:
    if not names:
        return snapshot
    return tuple(
        family
        for family in snapshot
        if any(family.metric.name + suffix in names for suffix in _SUFFIXES)
    )


class _Families(CollectorRegistry):
    """As much of a registry as an encoder asks for."""

    def __init__(self, families: list[PrometheusMetric]) -> None:
        self._families = families

    def collect(self) -> Iterable[PrometheusMetric]:
        """Give the families."""
        return self._families


class _Key(Protocol):
    def __hash__(self) -> int: ...


class _Flight:
    """One rendering under way, and what came of it."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.page = b""
        self.failed = True


class _Flights:
    """
    Lets those who ask for the same at the same time share one answer.

    Who comes while one is being made waits for the next: an answer shows nothing
    older than the question.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[_Key, _Flight] = {}
        self._next: dict[_Key, _Flight] = {}

    def join(self, key: _Key, make: Callable[[], bytes]) -> bytes:
        """Give an answer whose making began after this call."""
        with self._lock:
            before = self._under_way.get(key)
            if before is None:
                flight, mine = self._begin(key), True
            else:
                mine = key not in self._next
                flight = self._next.setdefault(key, _Flight())
        if not mine:
            flight.landed.wait()
            return make() if flight.failed else flight.page
        if before is not None:
            before.landed.wait()
            with self._lock:
                flight = self._begin(key)
        try:
            flight.page = make()
            flight.failed = False
        finally:
            with self._lock:
                if self._under_way.get(key) is flight:
                    del self._under_way[key]
            flight.landed.set()
        return flight.page

    def _begin(self, key: _Key) -> _Flight:
        flight = self._next.pop(key, None) or _Flight()
        self._under_way[key] = flight
        return flight
