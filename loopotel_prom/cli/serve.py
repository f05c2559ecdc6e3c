"""The command `loopotel-prom serve`: one page for all processes of an archive."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
)

from loopotel_prom.archive.layout import CHECKPOINT
from loopotel_prom.board import BoardProcessor
from loopotel_prom.cli.ending import told_to_stop
from loopotel_prom.cli.log import LogFormat, LogLevel, start_log
from loopotel_prom.cli.output import new_folder
from loopotel_prom.cli.places import folder_of
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.settings import DEFAULT_LISTEN, Settings
from loopotel_prom.version import __version__
from loopotel_prom.web import (
    Access,
    Endpoint,
    MetricsPage,
    Scrapes,
    build_site,
    parse_address,
)
from loopotel_prom.web.pages import add_pages

if TYPE_CHECKING:
    from loopotel_prom.sidecar import Sidecar

_log = logging.getLogger("loopotel_prom")

_DEFAULT = Settings()
# Beyond it, more would be of no use.
_MOST_DESCRIPTORS = 65_536
_SECONDS_TO_NOTICE = 0.2


def serve(
    *,
    archive: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            parser=folder_of,
            help="Folder of the archive to follow; made if absent.",
        ),
    ],
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--web.listen-address",
            help="Where to listen: HOST:PORT, :PORT, unix:PATH, systemd; repeatable.",
            show_default=DEFAULT_LISTEN,
        ),
    ] = None,
    telemetry_path: Annotated[
        str, typer.Option("--web.telemetry-path", help="Where the metrics are.")
    ] = _DEFAULT.telemetry_path,
    web_config: Annotated[
        Path | None,
        typer.Option(
            "--web.config.file", help="TLS, users, headers: exporter-toolkit's YAML."
        ),
    ] = None,
    allow_unauthenticated: Annotated[
        bool,
        typer.Option(
            "--web.allow-unauthenticated",
            help="Let other machines ask without having to say who they are.",
        ),
    ] = False,
    max_requests: Annotated[
        int,
        typer.Option(
            "--web.max-requests", min=0, help="Scrapes at a time; 0 for any number."
        ),
    ] = _DEFAULT.max_requests,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Where the counters are kept over a restart.",
            show_default=f"ARCHIVE/{CHECKPOINT}",
        ),
    ] = None,
    max_concurrent_runs: Annotated[
        int, typer.Option(min=0, help="Runs of one loop that are shown apart.")
    ] = _DEFAULT.max_concurrent_runs,
    max_series: Annotated[
        int, typer.Option(min=1, help="Series that the loops have in all.")
    ] = _DEFAULT.max_series,
    linger_seconds: Annotated[
        float, typer.Option(min=0.0, help="How long an ended run is shown at most.")
    ] = _DEFAULT.linger_seconds,
    run_labels: Annotated[
        str,
        typer.Option(help="More labels, with commas between: task_id, metadata keys."),
    ] = "",
    log_level: Annotated[
        LogLevel, typer.Option("--log.level", help="The least that is logged.")
    ] = LogLevel.INFO,
    log_format: Annotated[
        LogFormat, typer.Option("--log.format", help="How a line is spelled.")
    ] = LogFormat.LOGFMT,
) -> None:
    """
    Serve the metrics of all processes that share an archive.

    Follows their journals, live, and recovers those of dead ones. Its counters go on
    over its own restarts.
    """
    if sys.platform == "win32":
        raise ConfigError("serve needs file locks that Windows does not have; use WSL")
    settings = Settings(
        listen=tuple(listen or (DEFAULT_LISTEN,)),
        telemetry_path=telemetry_path,
        web_config=None if web_config is None else str(web_config),
        web_allow_unauthenticated=allow_unauthenticated,
        max_requests=max_requests,
        archive=str(archive),
        max_concurrent_runs=max_concurrent_runs,
        max_series=max_series,
        linger_seconds=linger_seconds,
        run_labels=tuple(each.strip() for each in run_labels.split(",") if each),
    )
    start_log(log_level, log_format)
    with told_to_stop() as stop, _serving(settings, checkpoint):
        # Not stop.wait(): a signal that another thread receives would not end it, for
        # its handler runs when this thread does; and one that comes while it holds
        # the event's lock would wait for that lock, here, for ever.
        while not stop.is_set():
            time.sleep(_SECONDS_TO_NOTICE)
    _log.info("stopped")


@contextlib.contextmanager
def _serving(settings: Settings, checkpoint: Path | None) -> Iterator[None]:
    """Follow and serve, until it is left."""
    folder = Path(settings.archive or "")
    with ExitStack() as stack:
        # For the beginning alone: what has served has a checkpoint worth keeping.
        with (
            new_folder(folder, CHECKPOINT, f"{CHECKPOINT}.lock"),
            ExitStack() as begun,
        ):
            _begin(settings, folder, checkpoint, begun)
            stack.enter_context(begun.pop_all())
        yield


def _begin(
    settings: Settings, folder: Path, checkpoint: Path | None, stack: ExitStack
) -> None:
    """Begin to; `stack` is told how it is ended."""
    # Not on Windows; and it takes the archive's part of the import.
    from loopotel_prom.sidecar import CheckpointFile, Sidecar  # noqa: PLC0415

    health = Health()
    processor = MetricsProcessor(
        health=health,
        max_concurrent_runs=settings.max_concurrent_runs,
        linger_seconds=settings.linger_seconds,
        run_labels=settings.run_labels,
        max_series=settings.max_series,
    )
    board = BoardProcessor()
    file = CheckpointFile(checkpoint or folder / CHECKPOINT)
    sidecar = Sidecar(
        folder,
        processor,
        health=health,
        file=file,
        board=board,
        most_open=_descriptors() // 2,
    )
    stack.callback(sidecar.close)
    # Before anyone can ask: no counter is to be less than it was.
    sidecar.catch_up()
    endpoint = _endpoint(settings, sidecar, board, health)
    stack.callback(endpoint.close)
    sidecar.start()
    _log.info(
        "loopotel-prom %s follows %s, listening on %s",
        __version__,
        folder,
        endpoint.url,
    )


def _endpoint(
    settings: Settings, sidecar: "Sidecar", board: BoardProcessor, health: Health
) -> Endpoint:
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    own = LoopCollector(sidecar.snapshot)
    registry.register(own)
    scrapes = Scrapes()
    site = build_site(
        MetricsPage(registry, own, sidecar, health),
        scrapes,
        telemetry_path=settings.telemetry_path,
        max_requests=settings.max_requests,
    )
    add_pages(
        site,
        board,
        archive=Path(settings.archive or ""),
        telemetry_path=settings.telemetry_path,
    )
    config = settings.web_config
    access = Access(
        web_config=None if config is None else Path(config),
        allow_unauthenticated=settings.web_allow_unauthenticated,
    )
    addresses = [parse_address(each) for each in settings.listen]
    return Endpoint(addresses, site, scrapes, access)


def _descriptors() -> int:
    """Have as many descriptors as may be had; give how many."""
    import resource  # noqa: PLC0415 - not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    wanted = max(soft, min(most, _MOST_DESCRIPTORS))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
