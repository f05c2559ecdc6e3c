"""The handle: what `configure` gives, to reach what it set up and to take it down."""

import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self, TypeAlias

from loopotel_prom import pipeline
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from loopotel_prom.archive.processor import ArchiveProcessor
    from loopotel_prom.metrics import MetricsProcessor
    from loopotel_prom.metrics.collector import LoopCollector
    from loopotel_prom.web import Endpoint

# Disabled or not, the settings, and the registry.
What: TypeAlias = "tuple[bool, Settings, CollectorRegistry]"


class Metrics(NamedTuple):
    """The metrics of one registry."""

    processor: "MetricsProcessor"
    collector: "LoopCollector"


class Configuration:
    """
    What `configure` set up: a handle to reach it and to take it down.

    A context manager; leaving it closes.

    Attributes:
        url: Base URL of the endpoint, such as ``http://127.0.0.1:10110``; None
            without one.
        archive: The archive's folder; None without one.
        what: What was asked for.
        metrics: The metrics of its registry; None where all is disabled.
    """

    def __init__(
        self,
        what: What,
        release: "Callable[[Configuration], bool]",
        archive: str | None,
        endpoint: "Endpoint | None",
        installed: Pipeline,
        metrics: Metrics | None = None,
        sealing: "ArchiveProcessor | None" = None,
    ) -> None:
        self.what = what
        self._release = release
        self.metrics = metrics
        self._endpoint = endpoint
        self._pipeline = installed
        self._health = installed.health
        self._sealing = sealing
        self.url = None if endpoint is None else endpoint.url
        self.archive = archive

    def drain(self, timeout_seconds: float, *, since: int | None = None) -> bool:
        """
        Wait for one more scrape, so that Prometheus sees how things ended.

        Args:
            timeout_seconds: How long to wait.
            since: What `scrapes_begun` gave when there was nothing more to come;
                by default, that is now.

        Returns:
            True once a scrape that began after that has been answered; False if
            none came in time, or there is no endpoint.
        """
        if self._endpoint is None:
            return False
        return self._endpoint.wait_for_scrape(timeout_seconds, since=since)

    def scrapes_begun(self) -> int:
        """Give the number of scrapes so far; 0 without an endpoint."""
        return 0 if self._endpoint is None else self._endpoint.scrapes_begun()

    def write_textfile(self, path: "str | os.PathLike[str]") -> None:
        """
        Write the page to a file, for the node_exporter's textfile collector.

        The file is replaced whole, so that a scrape sees no half of it.

        Raises:
            DeliveryError: The file cannot be written.
        """
        from loopotel_prom.web.deliver import (  # noqa: PLC0415 - imported when needed
            write_textfile,
        )

        if self.metrics is not None:
            write_textfile(
                path,
                self.what[2],
                self.metrics.collector,
                self.metrics.processor,
                self._health,
            )

    def push(
        self,
        gateway: str,
        *,
        job: str,
        grouping_key: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        """
        Push the page to a Pushgateway, for a job too short to be scraped.

        Args:
            gateway: ``HOST:PORT`` or URL of the Pushgateway.
            job: The job to push as; what it pushed before is replaced.
            grouping_key: More labels that tell this pusher from others.
            timeout_seconds: How long to wait for it.

        Raises:
            DeliveryError: It cannot be reached, or refuses.
        """
        from loopotel_prom.web.deliver import (  # noqa: PLC0415 - imported when needed
            push,
        )

        if self.metrics is not None:
            push(self.what[2], gateway, job, grouping_key, timeout_seconds)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Pass on what is held back; True if all of it was, in time."""
        return self._pipeline.flush(timeout_seconds)

    def unwritten(self) -> int:
        """Give the number of finished runs that the archive could not take yet."""
        return 0 if self._sealing is None else self._sealing.unwritten()

    def close(self) -> None:
        """
        Stop the endpoint, flush and close the archive; safe to call again.

        Tracers go back to the default pipeline. The metrics stay registered:
        a counter does not go back while the process lives.
        """
        with pipeline.wiring_lock():
            if self._release(self):
                pipeline.install(None)
                self.retire()

    def give_endpoint(self) -> "Endpoint | None":
        """Hand the endpoint over to the configuration that follows."""
        endpoint, self._endpoint = self._endpoint, None
        return endpoint

    def retire(self) -> None:
        """Take down the endpoint, if it is still here, and close the processors."""
        endpoint = self.give_endpoint()
        if endpoint is not None:
            endpoint.close()
        self._pipeline.close()

    def disown(self) -> None:
        """Leave the endpoint to the parent, in a forked child."""
        if self._endpoint is not None:
            self._endpoint.abandon()
        self._endpoint = None
        self.url = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
