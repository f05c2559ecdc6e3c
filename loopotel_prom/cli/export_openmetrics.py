"""The command `loopotel-prom export openmetrics`."""

import json
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from loopotel_prom.cli.history import (
    Idle,
    KeepAlive,
    Label,
    Linger,
    MaxConcurrentRuns,
    MaxSeries,
    Resolution,
    RunLabels,
    Temp,
    constant_labels,
    read_timeline,
    run_labels_of,
    told,
)
from loopotel_prom.cli.output import output_folder
from loopotel_prom.cli.places import Places, places_of
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo
from loopotel_prom.cli.wording import moment, parse_moment
from loopotel_prom.engine import Place, place_of
from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter.openmetrics import SUFFIX, OpenMetricsFiles
from loopotel_prom.replay import HistoryOptions, Timeline, history

_DEFAULT = HistoryOptions()
_MS = 1_000_000
# What Prometheus may still hold in memory: blocks must not reach into it.
_HEAD_MS = 3 * 3600 * 1000


def openmetrics(
    paths: Places = None,
    *,
    target: Annotated[
        str, typer.Option("--output", metavar="DIR", help="Folder for the files.")
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="No sample before: a time, or 2h, 7d for ago."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="No sample after that.", show_default="3h, for ago"
        ),
    ] = None,
    label: Label = None,
    resolution: Resolution = _DEFAULT.resolution_seconds,
    keep_alive: KeepAlive = _DEFAULT.keep_alive_seconds,
    linger: Linger = _DEFAULT.linger_seconds,
    idle: Idle = _DEFAULT.idle_seconds,
    max_concurrent_runs: MaxConcurrentRuns = _DEFAULT.max_concurrent_runs,
    max_series: MaxSeries = _DEFAULT.max_series,
    run_labels: RunLabels = "",
    temp: Temp = None,
    rejects: RejectsFile = None,
    strict: Strict = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Write the history of the metrics for `promtool tsdb create-blocks-from`.

    OpenMetrics files, each for two hours at most: what Prometheus would have stored,
    had it been there. Files appear when they are complete, and stay if all do. What is
    no trace is named, counted, and ends nothing.
    """
    newest_ms = time.time_ns() // _MS - _HEAD_MS
    options = HistoryOptions(
        resolution_seconds=resolution,
        keep_alive_seconds=keep_alive,
        linger_seconds=linger,
        idle_seconds=idle,
        since_ms=None if since is None else parse_moment(since) // _MS,
        until_ms=newest_ms if until is None else _until(until, newest_ms),
        labels=constant_labels(label),
        max_concurrent_runs=max_concurrent_runs,
        run_labels=run_labels_of(run_labels),
        max_series=max_series,
    )
    places = places_of(paths)
    with (
        _folder(target, places) as folder,
        Rejects.opened(rejects, target=None, sources=places) as refused,
        read_timeline(places, temp=temp, refuse=refused.add) as timeline,
    ):
        files = OpenMetricsFiles(folder)
        with told("write", timeline) as tell:
            files.write(map(tell, history(timeline, options)))
    _tell(files, timeline, refused.count, folder, as_json=as_json)
    if until is None:
        _tell_cut(timeline, newest_ms)
    refused.end(strict=strict)


def _until(typed: str, newest_ms: int) -> int:
    until_ms = parse_moment(typed) // _MS
    # A moment's grace for who types 3h.
    if until_ms > newest_ms + 60_000:
        raise ConfigError(
            f"--until {typed}: the last 3 hours do not belong into blocks, as"
            " Prometheus may have them in memory; send them by remote write"
        )
    return until_ms


@contextmanager
def _folder(name: str, places: list[Place]) -> Iterator[Path]:
    """
    See to the folder, so that files of two exports are never mixed.

    Raises:
        ConfigError: It is, or lies in, what is being read, or has such files already.
    """
    if not isinstance(place_of(name), Path):
        raise ConfigError(
            f"--output {name}: it is a URL, and promtool reads files; name a folder"
        )
    with output_folder(name, sources=places) as made:
        folder = Path(made)
        if any(folder.glob(f"*{SUFFIX}")):
            raise ConfigError(
                f"--output {name}: it has {SUFFIX} files already; name another, or"
                " remove them"
            )
        yield folder


def _tell(
    files: OpenMetricsFiles,
    timeline: Timeline,
    rejected: int,
    folder: Path,
    *,
    as_json: bool,
) -> None:
    command = _command(folder)
    if as_json:
        counts = {
            "runs": timeline.runs,
            "rejected": rejected,
            "samples": files.samples,
            "files": files.files,
            "first_ms": files.begin_ms,
            "last_ms": files.end_ms,
            "next": command,
        }
        typer.echo(json.dumps(counts))
        return
    if files.begin_ms is None or files.end_ms is None:
        echo(f"nothing written: no sample of {timeline.runs} runs, {rejected} rejected")
        return
    echo(
        f"{timeline.runs} runs, {rejected} rejected; {files.samples} samples in"
        f" {files.files} files, from {moment(files.begin_ms * _MS)} to"
        f" {moment(files.end_ms * _MS)}"
    )
    echo("next, with DATA as the folder of Prometheus' --storage.tsdb.path:")
    echo(f"  {command}")
    echo(
        "Prometheus shows them within a minute or two, or once it is restarted, if its"
        " --storage.tsdb.retention.time reaches back that far"
    )


def _command(folder: Path) -> str:
    files = f"{shlex.quote(str(folder))}/*{SUFFIX}"
    make = 'promtool tsdb create-blocks-from openmetrics "$file" DATA'
    return f"for file in {files}; do {make} || break; done"


def _tell_cut(timeline: Timeline, newest_ms: int) -> None:
    if timeline.end_ns is not None and timeline.end_ns // _MS > newest_ms:
        echo(
            f"left out: what is later than {moment(newest_ms * _MS)}, as the last 3"
            " hours do not belong into blocks; send them by remote write",
            err=True,
        )
