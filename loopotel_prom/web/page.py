"""The metrics page: our families by the fast renderer, the others beside them."""

import math
import threading
import time
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client import Metric as PrometheusMetric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from loopotel_prom.health import Health
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.metrics.exposition import Format, Renderer
from loopotel_prom.metrics.snapshot import Snapshot
from loopotel_prom.web.flights import Flights, PageTimeoutError

_EOF = b"# EOF\n"
_SUFFIXES = ("", "_bucket", "_count", "_sum")

# Prometheus' own time-out.
_TIMEOUT_SECONDS = 10.0

Names = frozenset[str]


class Source(Protocol):
    """What gives our own families."""

    def look(self) -> tuple[Snapshot, float]:
        """Give what can be seen now, and the moment of it."""

    def seen(self, moment: float) -> None:
        """Count a scrape that showed what there was at that moment."""


class Page(NamedTuple):
    """
    A page, and what it shows.

    Attributes:
        body: Its bytes.
        moment: When our families were looked at; by the source's clock.
    """

    body: bytes
    moment: float


class MetricsPage:
    """
    Renders a registry for a scrape.

    Ours are rendered from one snapshot, fast. Every other collector is asked and
    rendered by itself: one that fails costs its own families and is counted.
    Scrapers that come at the same time share a page, made after they came.
    Thread-safe.

    Args:
        registry: What the page shows.
        own: Our collector in it, which is passed over.
        source: Our families.
        health: Where failures are counted.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        own: LoopCollector,
        source: Source,
        health: Health,
    ) -> None:
        self._registry = registry
        self._own = own
        self._source = source
        self._health = health
        self._renderer = Renderer()
        self._flights = Flights[Page]()
        self._lock = threading.Lock()
        self._latest_seen = -math.inf

    def render(
        self,
        wanted: Format,
        names: Names = frozenset(),
        timeout_seconds: float = _TIMEOUT_SECONDS,
    ) -> Page:
        """
        Give the page. To look is not to scrape: `seen` counts that.

        Args:
            wanted: Its format.
            names: Only series of these names; all if empty.
            timeout_seconds: After this, other collectors are not asked any more;
                each counts as one that failed.

        Raises:
            PageTimeoutError: Another client's page was not ready by then.
        """
        return self._flights.join(
            # The time-out too: nobody gets a page that was cut for another's.
            (wanted, names, timeout_seconds),
            lambda: self._rendered(wanted, names, time.monotonic() + timeout_seconds),
            timeout_seconds,
        )

    def seen(self, page: Page) -> None:
        """Count a page as scraped; once, however many have shared it."""
        with self._lock:
            if page.moment <= self._latest_seen:
                return
            self._latest_seen = page.moment
        self._source.seen(page.moment)

    def _rendered(self, wanted: Format, names: Names, deadline: float) -> Page:
        begin = time.monotonic()
        snapshot, moment = self._source.look()
        own = self._renderer.render(_filtered(snapshot, names), wanted)
        parts = [
            self._foreign(each, wanted, names, deadline) for each in self._others()
        ]
        page = b"".join([*parts, own.removesuffix(_EOF)])
        if wanted.is_openmetrics:
            page += _EOF
        self._health.scraped(time.monotonic() - begin, len(page))
        return Page(page, moment)

    def _others(self) -> list[Collector]:
        # There is no public way to ask a registry for its collectors.
        collectors = list(self._registry._collector_to_names)  # noqa: SLF001
        return [each for each in collectors if each is not self._own]

    def _foreign(
        self, collector: Collector, wanted: Format, names: Names, deadline: float
    ) -> bytes:
        try:
            if time.monotonic() > deadline:
                raise PageTimeoutError("the scrape's time is over; not asked")  # noqa: TRY301 - counted as any other failure
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
