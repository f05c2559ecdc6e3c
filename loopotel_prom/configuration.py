"""
The wiring: `configure`, and what a tracer gets where nobody configured.

Sinks and endpoint are built here and handed downwards. They are imported only
when they are built, so that importing the package stays cheap.
"""

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, cast
from weakref import WeakKeyDictionary

from loopotel_prom import exposed, pipeline
from loopotel_prom.errors import ConfigError
from loopotel_prom.exposed import Exposed
from loopotel_prom.handle import Configuration, Metrics, What
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline, Processor
from loopotel_prom.settings import (
    UNSET,
    Settings,
    Unset,
    is_disabled,
    parent_of,
    read_settings,
)

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from loopotel_prom.archive.processor import ArchiveProcessor
    from loopotel_prom.board import BoardProcessor
    from loopotel_prom.web import Endpoint


class _Process:
    """What this process has set up."""

    def __init__(self) -> None:
        self.current: Configuration | None = None
        self.health = Health()
        # What the pages show; made with the first endpoint.
        self.board: BoardProcessor | None = None
        # One set of counters for each registry, however often configured.
        self.metrics: WeakKeyDictionary[CollectorRegistry, Metrics] = (
            WeakKeyDictionary()
        )
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def release(self, configuration: Configuration) -> bool:
        """Give up a configuration; False if it is not the current one."""
        is_current = self.current is configuration
        if is_current:
            self.current = None
        return is_current

    def _after_fork(self) -> None:
        """Start clean in a child: its own counts, no endpoint, no held lock."""
        self.health.after_fork()
        for metrics in list(self.metrics.values()):
            metrics.processor.after_fork()
        if self.board is not None:
            self.board.after_fork()
        if self.current is not None:
            self.current.disown()
        pipeline.after_fork()


_process = _Process()


def configure(
    *,
    listen: str | Iterable[str] | Unset | None = UNSET,
    web_config: "str | os.PathLike[str] | Unset | None" = UNSET,
    web_allow_unauthenticated: bool | Unset = UNSET,
    telemetry_path: str | Unset = UNSET,
    max_requests: int | Unset = UNSET,
    archive: "str | os.PathLike[str] | Unset | None" = UNSET,
    durability: Literal["none", "process", "run", "power"] | Unset = UNSET,
    otlp: str | bool | Unset | None = UNSET,
    registry: "CollectorRegistry | None" = None,
    max_concurrent_runs: int | Unset = UNSET,
    linger_seconds: float | Unset = UNSET,
    max_series: int | Unset = UNSET,
    run_labels: Iterable[str] | Unset = UNSET,
    run_info: bool | Unset = UNSET,
) -> Configuration:
    """
    Set up where this process's loops can be seen. Call it once, at the start.

    Called again with the same arguments it changes nothing; with others, it
    takes down what it had set up and starts anew, counters kept. Runs under way
    stay with what they started with. A forked child keeps the archive, counts
    anew and has no endpoint.

    Each argument but `registry` can be left to a variable of the environment,
    ``LOOPOTEL_`` and its name in capitals; ``none`` stands for None. With
    ``LOOPOTEL_DISABLED=1`` nothing is set up and every tracer does nothing.

    Args:
        listen: ``HOST:PORT`` of an endpoint of our own, port 0 for a free one;
            ``:PORT``, ``[IPV6]:PORT``, ``unix:PATH``, ``systemd``; or several;
            None for no endpoint. By default ``127.0.0.1:10110``.
        web_config: A web configuration file as Prometheus' exporters have it: TLS,
            client certificates, users, headers. It is read again when it changes.
            By default None: no TLS, and only this machine may ask.
        web_allow_unauthenticated: Whether other machines may ask too where the web
            configuration has neither users nor client certificates.
        telemetry_path: Where the endpoint has the metrics; by default ``/metrics``.
        max_requests: How many scrapes are answered at a time, 0 for any number; by
            default 40.
        archive: Folder of the archive of LTF documents; by default None, for no
            archive.
        durability: What an iteration outlives once it has been reported, in the
            archive: by default ``process``, the death of this process; with
            ``run`` a loss of power too once its run has ended; with ``power`` at
            once, at the price of a sync; with ``none`` nothing before its run has
            ended.
        otlp: Where to send the traces, by OTLP/HTTP: a URL such as
            ``http://127.0.0.1:4318/v1/traces``; True for what OpenTelemetry's own
            ``OTEL_EXPORTER_OTLP_*`` variables say; by default None, for nowhere.
        registry: The prometheus_client registry to join; its own default if
            None.
        max_concurrent_runs: How many runs of one loop are shown apart; by
            default 16.
        linger_seconds: How long an ended run is shown at most; by default 300.
        max_series: How many series the loops have in all; beyond it, new names
            share ``__overflow__``. By default 4,500, which with ours stays below
            a ``sample_limit`` of 5,000 and suits some twenty loops.
        run_labels: Labels beyond ``loop_name`` and ``env_id`` on every metric of
            the loops: ``task_id``, or keys of a run's metadata. By default none;
            each multiplies the series.
        run_info: Whether ``loop_run_info`` shows the traces of active runs; by
            default not: each run is a new series.

    Raises:
        ConfigError: A value cannot work, or the address is taken.
        MissingExtraError: The web configuration has users, and bcrypt is not
            installed; or traces are to be sent, and OpenTelemetry is not.
    """
    from prometheus_client import REGISTRY  # noqa: PLC0415 - imported when needed

    disabled = is_disabled(os.environ)
    settings = read_settings(
        os.environ,
        listen=listen,
        web_config=web_config,
        web_allow_unauthenticated=web_allow_unauthenticated,
        telemetry_path=telemetry_path,
        max_requests=max_requests,
        archive=archive,
        durability=durability,
        otlp=otlp,
        max_concurrent_runs=max_concurrent_runs,
        linger_seconds=linger_seconds,
        max_series=max_series,
        run_labels=run_labels,
        run_info=run_info,
    )
    what = (disabled, settings, REGISTRY if registry is None else registry)
    with pipeline.wiring_lock():
        current = _process.current
        if current is not None and current.what == what:
            return current
        # The new first: if it cannot be, the old goes on.
        _process.current = new = _disabled(what) if disabled else _set_up(what, current)
        if current is not None:
            current.retire()
        return new


def _disabled(what: What) -> Configuration:
    installed = Pipeline(disabled=True)
    pipeline.install(installed)
    return Configuration(what, _process.release, None, None, installed)


def _set_up(what: What, current: Configuration | None) -> Configuration:
    _, settings, registry = what
    # The archive first: what is on a page should be on disk.
    metrics = _metrics(settings, registry)
    sealing = _archive(settings, _process.health)
    processors: list[Processor] = [metrics.processor]
    if sealing is not None:
        processors.insert(0, sealing)
    board = _board() if settings.listen else None
    if board is not None:
        processors.append(board)
    try:
        if settings.otlp:
            from loopotel_prom.otlp import (  # noqa: PLC0415 - imported when needed
                open_processor,
            )

            processors.append(open_processor(settings.otlp, _process.health))
        endpoint = _endpoint(what, metrics, board, current)
    except BaseException:
        for processor in processors:
            processor.close()
        raise
    installed = Pipeline(
        processors,
        health=_process.health,
        parent=parent_of(os.environ),
        keeper=sealing,
    )
    pipeline.install(installed)
    return Configuration(
        what,
        _process.release,
        settings.archive,
        endpoint,
        installed,
        metrics,
        sealing,
    )


def _archive(settings: Settings, health: Health) -> "ArchiveProcessor | None":
    if settings.archive is None:
        return None
    if sys.platform == "win32":
        raise ConfigError(
            "archive: it needs file locks that Windows does not have; choose None, or"
            " run the program under Linux, macOS or WSL"
        )
    from pathlib import Path  # noqa: PLC0415 - imported when needed

    from loopotel_prom.archive.processor import (  # noqa: PLC0415 - imported when needed
        ArchiveProcessor,
        Durability,
    )

    processor = ArchiveProcessor(
        Path(settings.archive),
        durability=cast("Durability", settings.durability),
        health=health,
    )
    try:
        processor.prepare()
    except OSError as error:
        raise ConfigError(
            f"archive {settings.archive}: {error.strerror or error}; choose a folder"
            " that can be written to"
        ) from error
    return processor


def _board() -> "BoardProcessor":
    """Give the process's board: it outlives a change of the configuration."""
    from loopotel_prom.board import (  # noqa: PLC0415 - imported when needed
        BoardProcessor,
    )

    if _process.board is None:
        _process.board = BoardProcessor()
    return _process.board


def _endpoint(
    what: What,
    metrics: Metrics,
    board: "BoardProcessor | None",
    current: Configuration | None,
) -> "Endpoint | None":
    """Open the endpoint, or take over the current one if it is the same."""
    _, settings, registry = what
    if not settings.listen:
        return None
    from pathlib import Path  # noqa: PLC0415 - imported when needed

    from loopotel_prom.web import (  # noqa: PLC0415 - imported when needed
        Access,
        Endpoint,
        MetricsPage,
        Scrapes,
        build_site,
        parse_address,
    )

    addresses = [parse_address(text) for text in settings.listen]
    if current is not None:
        _, before, shown = current.what
        if _endpoint_of(before) == _endpoint_of(settings) and shown is registry:
            return current.give_endpoint()
        if any(each in before.listen for each in settings.listen if _is_fixed(each)):
            # The same port for something else: both cannot have it.
            current.retire()
    scrapes = Scrapes()
    site = build_site(
        MetricsPage(registry, metrics.collector, metrics.processor, _process.health),
        scrapes,
        telemetry_path=settings.telemetry_path,
        max_requests=settings.max_requests,
        board=board,
        archive=Path(settings.archive) if settings.archive else None,
    )
    access = Access(
        web_config=Path(settings.web_config) if settings.web_config else None,
        allow_unauthenticated=settings.web_allow_unauthenticated,
    )
    return Endpoint(addresses, site, scrapes, access)


def _endpoint_of(settings: Settings) -> tuple[object, ...]:
    return (
        settings.listen,
        settings.web_config,
        settings.web_allow_unauthenticated,
        settings.telemetry_path,
        settings.max_requests,
        settings.archive,
    )


def _is_fixed(address: str) -> bool:
    return not address.endswith(":0")


def _metrics(settings: Settings, registry: "CollectorRegistry") -> Metrics:
    """Give the registry's metrics, registering them at the first call."""
    from prometheus_client import (  # noqa: PLC0415 - imported when needed
        CollectorRegistry,
    )

    from loopotel_prom.metrics import (  # noqa: PLC0415 - imported when needed
        MetricsProcessor,
    )
    from loopotel_prom.metrics.collector import (  # noqa: PLC0415 - imported when needed
        LoopCollector,
    )

    if not isinstance(registry, CollectorRegistry):
        raise ConfigError(
            f"registry must be a prometheus_client CollectorRegistry, got {registry!r}"
        )
    with pipeline.wiring_lock():
        metrics = _process.metrics.get(registry)
        if metrics is not None:
            if metrics.processor.run_labels != settings.run_labels:
                raise ConfigError(
                    "run_labels cannot change while the process lives: the metrics in"
                    f" this registry have {list(metrics.processor.run_labels)}"
                )
            metrics.processor.limit(
                max_concurrent_runs=settings.max_concurrent_runs,
                linger_seconds=settings.linger_seconds,
                run_info=settings.run_info,
                max_series=settings.max_series,
            )
            return metrics
        processor = MetricsProcessor(
            health=_process.health,
            max_concurrent_runs=settings.max_concurrent_runs,
            linger_seconds=settings.linger_seconds,
            run_labels=settings.run_labels,
            run_info=settings.run_info,
            max_series=settings.max_series,
        )
        metrics = Metrics(processor, LoopCollector(processor.snapshot))
        try:
            registry.register(metrics.collector)
        except ValueError as error:
            raise ConfigError(
                f"the registry has a metric of ours already: {error}; give configure"
                " a registry of its own"
            ) from error
        _process.metrics[registry] = metrics
        return metrics


def _default() -> Pipeline:
    """Mirror runs into prometheus_client's default registry, and no more."""
    if is_disabled(os.environ):
        return Pipeline(disabled=True)
    from prometheus_client import REGISTRY  # noqa: PLC0415 - imported when needed

    return Pipeline(
        [_metrics(Settings(), REGISTRY).processor],
        health=_process.health,
        parent=parent_of(os.environ),
    )


def _exposed() -> Exposed:
    """Find what the process shows: as configured, or as it is without."""
    current = _process.current
    if current is not None and current.metrics is not None:
        return Exposed(current.what[2], *current.metrics, _process.health)
    from prometheus_client import REGISTRY  # noqa: PLC0415 - imported when needed

    metrics = _process.metrics.get(REGISTRY) or _metrics(Settings(), REGISTRY)
    return Exposed(REGISTRY, *metrics, _process.health)


pipeline.provide_default(_default)
exposed.provide(_exposed)
