"""
The wiring: `configure`, and what a tracer gets where nobody configured.

Sinks and endpoint are built here and handed downwards. They are imported only
when they are built, so that importing the package stays cheap.
"""

import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self
from weakref import WeakKeyDictionary

from loopotel_prom import pipeline
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline, Processor

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from loopotel_prom.metrics import MetricsProcessor
    from loopotel_prom.web import Endpoint

DEFAULT_LISTEN = "127.0.0.1:10110"


@dataclass(frozen=True, slots=True)
class _Options:
    listen: str | None
    archive: Path | None
    registry: "CollectorRegistry"
    max_concurrent_runs: int
    linger_seconds: float

    def __post_init__(self) -> None:
        if self.max_concurrent_runs < 0:
            raise ConfigError(
                f"max_concurrent_runs must be 0 or more, got {self.max_concurrent_runs}"
            )
        if not self.linger_seconds >= 0:
            raise ConfigError(
                f"linger_seconds must be 0 or more, got {self.linger_seconds}"
            )


class Configuration:
    """
    What `configure` set up: a handle to reach it and to take it down.

    A context manager; leaving it closes.

    Attributes:
        url: Base URL of the endpoint, such as ``http://127.0.0.1:10110``; None
            without one.
        archive: The archive's folder; None without one.
    """

    def __init__(
        self, options: _Options, endpoint: "Endpoint | None", installed: Pipeline
    ) -> None:
        self._options = options
        self._endpoint = endpoint
        self._pipeline = installed
        self.url = None if endpoint is None else endpoint.url
        self.archive = options.archive

    def drain(self, timeout_seconds: float) -> bool:
        """
        Wait for one more scrape, so that Prometheus sees how things ended.

        Returns:
            True once a scrape that began after this call has been answered;
            False if none came in time, or there is no endpoint.
        """
        if self._endpoint is None:
            return False
        return self._endpoint.wait_for_scrape(timeout_seconds)

    def close(self) -> None:
        """
        Stop the endpoint, flush and close the archive; safe to call again.

        Tracers go back to the default pipeline. The metrics stay registered:
        a counter does not go back while the process lives.
        """
        _close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Process:
    """What this process has set up."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.current: Configuration | None = None
        self.health = Health()
        # One set of counters for each registry, however often configured.
        self.metrics: WeakKeyDictionary[CollectorRegistry, MetricsProcessor] = (
            WeakKeyDictionary()
        )


_process = _Process()


def configure(
    *,
    listen: str | None = DEFAULT_LISTEN,
    archive: str | Path | None = None,
    registry: "CollectorRegistry | None" = None,
    max_concurrent_runs: int = 16,
    linger_seconds: float = 300.0,
) -> Configuration:
    """
    Set up where this process's loops can be seen. Call it once, at the start.

    Called again with the same arguments it changes nothing; with others, it
    takes down what it had set up and starts anew, counters kept. Runs under way
    stay with what they started with.

    Args:
        listen: ``HOST:PORT`` of an endpoint of our own, port 0 for a free one;
            None for no endpoint.
        archive: Folder of the archive of LTF documents; None for no archive.
        registry: The prometheus_client registry to join; its own default if
            None.
        max_concurrent_runs: How many runs of one loop are shown apart.
        linger_seconds: How long an ended run is shown at most.

    Raises:
        ConfigError: A value cannot work, or the address is taken.
    """
    from prometheus_client import REGISTRY  # noqa: PLC0415 - imported when needed

    options = _Options(
        listen=listen,
        archive=None if archive is None else Path(archive),
        registry=REGISTRY if registry is None else registry,
        max_concurrent_runs=max_concurrent_runs,
        linger_seconds=linger_seconds,
    )
    with _process.lock:
        current = _process.current
        if current is not None and current._options == options:  # noqa: SLF001 - of this module
            return current
        if current is not None:
            _close(current)
        _process.current = _set_up(options)
        return _process.current


def _set_up(options: _Options) -> Configuration:
    endpoint = _endpoint(options)
    processors: list[Processor] = []
    if options.archive is not None:
        from loopotel_prom.archive.processor import (  # noqa: PLC0415 - imported when needed
            ArchiveProcessor,
        )

        # The archive first: what is on a page should be on disk.
        processors.append(ArchiveProcessor(options.archive))
    processors.append(
        _metrics(options.registry, options.max_concurrent_runs, options.linger_seconds)
    )
    installed = Pipeline(processors, health=_process.health)
    pipeline.install(installed)
    return Configuration(options, endpoint, installed)


def _endpoint(options: _Options) -> "Endpoint | None":
    if options.listen is None:
        return None
    from loopotel_prom.web import (  # noqa: PLC0415 - imported when needed
        Endpoint,
        parse_address,
    )

    return Endpoint(parse_address(options.listen), options.registry)


def _metrics(
    registry: "CollectorRegistry", max_concurrent_runs: int, linger_seconds: float
) -> "MetricsProcessor":
    """Give the registry's metrics, registering them at the first call."""
    from loopotel_prom.metrics import (  # noqa: PLC0415 - imported when needed
        MetricsProcessor,
    )
    from loopotel_prom.metrics.collector import (  # noqa: PLC0415 - imported when needed
        LoopCollector,
    )

    with _process.lock:
        metrics = _process.metrics.get(registry)
        if metrics is None:
            metrics = MetricsProcessor(
                health=_process.health,
                max_concurrent_runs=max_concurrent_runs,
                linger_seconds=linger_seconds,
            )
            registry.register(LoopCollector(metrics.snapshot))
            _process.metrics[registry] = metrics
        else:
            metrics.limit(
                max_concurrent_runs=max_concurrent_runs, linger_seconds=linger_seconds
            )
        return metrics


def _close(configuration: Configuration) -> None:
    with _process.lock:
        if _process.current is not configuration:
            return
        _process.current = None
        pipeline.install(None)
    if configuration._endpoint is not None:  # noqa: SLF001 - of this module
        configuration._endpoint.close()  # noqa: SLF001 - of this module
    configuration._pipeline.close()  # noqa: SLF001 - of this module


def _default() -> Pipeline:
    """Mirror runs into prometheus_client's default registry, and no more."""
    from prometheus_client import REGISTRY  # noqa: PLC0415 - imported when needed

    return Pipeline([_metrics(REGISTRY, 16, 300.0)], health=_process.health)


pipeline.provide_default(_default)
