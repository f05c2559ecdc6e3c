"""The command `loopotel-prom replay`: recorded runs, live once more."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from threading import Event
from typing import Annotated, Any

import typer

from loopotel_prom import pipeline
from loopotel_prom.cli.ending import await_scrape, told_to_stop
from loopotel_prom.cli.history import (
    MaxConcurrentRuns,
    MaxSeries,
    RunLabels,
    Temp,
    read_timeline,
    run_labels_of,
)
from loopotel_prom.cli.places import Places, places_of
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo, is_terminal
from loopotel_prom.cli.wording import duration, moment
from loopotel_prom.configuration import configure
from loopotel_prom.errors import ConfigError
from loopotel_prom.handle import Configuration
from loopotel_prom.replay import Pace, Player, Timeline
from loopotel_prom.settings import DEFAULT_LISTEN, Settings

_DEFAULT = Settings()
_MOST_SECONDS = 86_400.0
_LOOK_SECONDS = 0.1


class Times(StrEnum):
    """When a replayed span ends: as it is replayed, or as it was recorded."""

    NOW = "now"
    RECORDED = "recorded"


def replay(
    paths: Places = None,
    *,
    speed: Annotated[
        str,
        typer.Option(metavar="N|max", help="How many times faster than it was."),
    ] = "1",
    max_gap: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Wait no longer than this while nothing runs."
        ),
    ] = None,
    times: Annotated[
        Times, typer.Option(help="Let spans end now, or when they did.")
    ] = Times.NOW,
    listen: Annotated[
        str, typer.Option(help="HOST:PORT of the endpoint; port 0 takes a free one.")
    ] = DEFAULT_LISTEN,
    drain: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="At the end, wait this long for one more scrape."
        ),
    ] = 0.0,
    max_concurrent_runs: MaxConcurrentRuns = _DEFAULT.max_concurrent_runs,
    max_series: MaxSeries = _DEFAULT.max_series,
    run_labels: RunLabels = "",
    temp: Temp = None,
    rejects: RejectsFile = None,
    strict: Strict = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON lines: begin, then a summary.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the summary only.")
    ] = False,
) -> None:
    """
    Let the runs of an archive happen again, on a live /metrics.

    At the pace of their recorded times, or faster, through what live loops go
    through. Ctrl-C ends it; so does the end of the last run.
    """
    pace_speed = _speed(speed)
    if max_gap is not None:
        _check("--max-gap", max_gap)
    _check("--drain", drain)
    labels, places = run_labels_of(run_labels), places_of(paths)
    with (
        Rejects.opened(rejects, target=None, sources=places) as refused,
        read_timeline(places, temp=temp, refuse=refused.add) as timeline,
        configure(
            listen=listen,
            archive=None,
            otlp=None,
            max_concurrent_runs=max_concurrent_runs,
            max_series=max_series,
            run_labels=labels,
        ) as configuration,
        told_to_stop() as stop,
    ):
        face = _Face(timeline, as_json=as_json, quiet=quiet)
        face.begin(configuration, pace_speed)
        pace = Pace(
            speed=pace_speed,
            max_gap_seconds=max_gap,
            wait=_waiting(stop),
            monotonic=time.monotonic,
        )
        now_ns = time.time_ns if times is Times.NOW else None
        player = Player(pipeline.installed(), pace, now_ns)
        with face.bar(player) as tell:
            complete = player.play(timeline, tell)
        await_scrape(configuration, drain, stop)
        face.end(player, refused.count, complete=complete)
    refused.end(strict=strict)


def _waiting(stop: Event) -> Callable[[float], bool]:
    """Wait, if there is something to wait for; an event takes long for nothing."""

    def wait(seconds: float) -> bool:
        return stop.wait(seconds) if seconds else stop.is_set()

    return wait


def _speed(typed: str) -> float:
    """
    Read a speed; 0 is as fast as can be.

    Raises:
        ConfigError: It is none.
    """
    if typed == "max":
        return 0.0
    try:
        speed = float(typed)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed >= 0):
        raise ConfigError(f"--speed {typed}: a number such as 60, or max, is needed")
    return speed


def _check(option: str, seconds: float) -> None:
    if not 0 <= seconds <= _MOST_SECONDS:
        raise ConfigError(
            f"{option} {seconds:g}: from 0 to {_MOST_SECONDS:g} seconds are possible"
        )


class _Face:
    """Where the replay tells what happens."""

    def __init__(self, timeline: Timeline, *, as_json: bool, quiet: bool) -> None:
        self._timeline = timeline
        self._as_json = as_json
        self._quiet = quiet
        self._began = time.monotonic()

    def begin(self, configuration: Configuration, speed: float) -> None:
        """Say where to look."""
        timeline, url = self._timeline, f"{configuration.url}/metrics"
        first, last = moment(timeline.begin_ns), moment(timeline.end_ns)
        if self._as_json:
            self._print(
                event="begin", url=url, runs=timeline.runs, first=first, last=last
            )
        elif not self._quiet:
            pace = f"{speed:g} times as fast" if speed else "as fast as can be"
            echo(f"metrics   {url}")
            echo(f"replay    {timeline.runs} runs, {first} to {last}, {pace}")

    @contextmanager
    def bar(self, player: Player) -> Iterator[Callable[[], None]]:
        """Show how far it came, on a terminal."""
        timeline = self._timeline
        wanted = not (self._as_json or self._quiet) and is_terminal(sys.stderr)
        if not wanted or timeline.begin_ns is None or timeline.end_ns is None:
            yield lambda: None
            return
        # Here, not above: half a second to import.
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import Progress  # noqa: PLC0415

        begin_ns = timeline.begin_ns
        console = Console(stderr=True)
        with Progress(console=console, transient=True, redirect_stdout=False) as bar:
            task = bar.add_task("replay", total=timeline.end_ns - begin_ns)
            latest = 0.0

            def tell() -> None:
                nonlocal latest
                if time.monotonic() - latest < _LOOK_SECONDS:
                    return
                latest = time.monotonic()
                time_ns = player.time_ns or begin_ns
                words = f"{moment(time_ns)}  {player.runs} of {timeline.runs} runs"
                bar.update(task, completed=time_ns - begin_ns, description=words)

            yield tell

    def end(self, player: Player, rejected: int, *, complete: bool) -> None:
        """Sum up."""
        seconds = time.monotonic() - self._began
        if self._as_json:
            self._print(
                event="summary",
                runs=player.runs,
                iterations=player.iterations,
                active=player.active,
                rejected=rejected,
                seconds=round(seconds, 3),
                complete=complete,
            )
            return
        until = "" if complete else f", stopped at {moment(player.time_ns)}"
        echo(
            f"{player.runs} of {self._timeline.runs} runs, {player.iterations}"
            f" iterations replayed in {duration(seconds)}{until}; {rejected} rejected"
        )

    def _print(self, **values: Any) -> None:
        typer.echo(json.dumps(values))
