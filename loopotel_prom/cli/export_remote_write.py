"""The command `loopotel-prom export remote-write`."""

import json
import time
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
from loopotel_prom.cli.places import Places, places_of
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo
from loopotel_prom.cli.wording import moment, parse_moment
from loopotel_prom.engine import Place
from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter.remote_write import (
    BATCH_SAMPLES,
    Address,
    Credentials,
    Encoder,
    HttpReceiver,
    Position,
    PositionFile,
    Sender,
    Transferred,
    basic,
    bearer,
    beginning,
    encode_metadata,
    shown_url,
    transfer,
)
from loopotel_prom.metrics.catalogue import CATALOGUE
from loopotel_prom.replay import HistoryOptions, Timeline, history

_DEFAULT = HistoryOptions()
_POSITION = Path("loopotel-remote-write.json")
_MS = 1_000_000
_METRICS = [metric for metric in CATALOGUE if metric.name.startswith("loop_")]


def remote_write(  # noqa: PLR0913 - a command has the options that it has
    paths: Places = None,
    *,
    url: Annotated[
        str,
        typer.Option(
            help="Of the receiver, such as http://127.0.0.1:9090/api/v1/write."
        ),
    ],
    position: Annotated[
        Path, typer.Option(metavar="FILE", help="Where it is kept how far it came.")
    ] = _POSITION,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'NAME: VALUE'",
            help="To add to each request, such as 'X-Scope-OrgID: team'; repeatable.",
        ),
    ] = None,
    bearer_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with a token.")
    ] = None,
    basic_auth_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with USER:PASSWORD.")
    ] = None,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Certificates to trust instead of the system's."
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="For one answer.")
    ] = 30.0,
    patience: Annotated[
        float,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="How long what the receiver does not take for now is repeated.",
        ),
    ] = 600.0,
    batch_samples: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most in one request.")
    ] = BATCH_SAMPLES,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="No sample before: a time, or 2h, 7d for ago."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="No sample after that.")
    ] = None,
    resolution: Resolution = _DEFAULT.resolution_seconds,
    keep_alive: KeepAlive = _DEFAULT.keep_alive_seconds,
    linger: Linger = _DEFAULT.linger_seconds,
    idle: Idle = _DEFAULT.idle_seconds,
    label: Label = None,
    run_labels: RunLabels = "",
    max_concurrent_runs: MaxConcurrentRuns = _DEFAULT.max_concurrent_runs,
    max_series: MaxSeries = _DEFAULT.max_series,
    temp: Temp = None,
    rejects: RejectsFile = None,
    strict: Strict = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Send the history of the metrics to a receiver of Prometheus remote write.

    From where it stopped, if it did: what is acknowledged is not sent again. The
    receiver's 5xx, 429 and silence are waited out; any other refusal ends it, with
    exit code 1, and leaves nothing out.
    """
    address = Address(
        url=url,
        headers=dict(_header(typed) for typed in header or ()),
        credentials=_credentials(bearer_token_file, basic_auth_file),
        ca_file=ca_file,
        timeout_seconds=timeout,
    )
    places = places_of(paths)
    options = HistoryOptions(
        since_ms=None if since is None else _ms(since),
        until_ms=_now_ms() if until is None else min(_ms(until), _now_ms()),
        resolution_seconds=resolution,
        keep_alive_seconds=keep_alive,
        linger_seconds=linger,
        idle_seconds=idle,
        labels=constant_labels(label),
        run_labels=run_labels_of(run_labels),
        max_concurrent_runs=max_concurrent_runs,
        max_series=max_series,
    )
    receiver = HttpReceiver(address)
    sender = Sender(receiver, Encoder(), patience_seconds=patience, tell=_tell_waiting)
    with (
        PositionFile(position, _beginning(address, places, options)) as file,
        Rejects.opened(rejects, target=None, sources=places) as refused,
        read_timeline(places, temp=temp, refuse=refused.add) as timeline,
    ):
        done, behind_ms = Transferred(), file.position.time_ms
        try:
            with told("send", timeline) as tell:
                transfer(
                    map(tell, history(timeline, options)),
                    sender,
                    file,
                    done,
                    metadata=encode_metadata(_METRICS),
                    batch_samples=batch_samples,
                )
        finally:
            receiver.close()
            counts = _counts(timeline, sender, done, refused.count)
            _tell(counts | {"behind_ms": behind_ms}, as_json=as_json)
    refused.end(strict=strict)


def _counts(
    timeline: Timeline, sender: Sender, done: Transferred, rejected: int
) -> dict[str, int | None]:
    return {
        "runs": timeline.runs,
        "rejected": rejected,
        "samples": done.samples,
        "series": sender.series,
        "requests": sender.requests,
        "retries": sender.retries,
        "repeated": sender.repeated,
        "first_ms": done.first_ms,
        "last_ms": done.end_ms,
    }


def _tell(counts: dict[str, int | None], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(counts))
        return
    runs = f"{counts['runs']} runs, {counts['rejected']} rejected"
    first_ms, last_ms, behind_ms = (
        counts[name] for name in ("first_ms", "last_ms", "behind_ms")
    )
    if first_ms is None or last_ms is None:
        later = "" if behind_ms is None else f" later than {_day_time(behind_ms)}"
        echo(f"{runs}; no samples{later} sent")
        return
    echo(
        f"{runs}; {counts['samples']} samples of {counts['series']} series sent, from"
        f" {_day_time(first_ms)} to {_day_time(last_ms)}, in {counts['requests']}"
        f" requests, {counts['retries']} repeated"
    )


def _tell_waiting(line: str) -> None:
    echo(f"waiting: {line}", err=True)


def _beginning(
    address: Address, places: list[Place], options: HistoryOptions
) -> Position:
    """Give the position of this archive at this receiver, when nothing is sent."""
    return beginning(
        address.url,
        [
            str(place.resolve()) if isinstance(place, Path) else shown_url(place)
            for place in places
        ],
        {
            "user": address.credentials.user,
            "headers": address.headers,
            "labels": options.labels,
            "run_labels": options.run_labels,
            "max_concurrent_runs": options.max_concurrent_runs,
            "max_series": options.max_series,
        },
    )


def _credentials(token: Path | None, user: Path | None) -> Credentials:
    if token is not None and user is not None:
        raise ConfigError("--bearer-token-file and --basic-auth-file: give one of them")
    if token is not None:
        return bearer(token)
    return Credentials() if user is None else basic(user)


def _header(typed: str) -> tuple[str, str]:
    name, colon, value = typed.partition(":")
    if not colon:
        raise ConfigError("--header: give 'NAME: VALUE', with a colon")
    return name.strip(), value.strip()


def _now_ms() -> int:
    return time.time_ns() // _MS


def _ms(typed: str) -> int:
    return parse_moment(typed) // _MS


def _day_time(time_ms: int) -> str:
    return moment(time_ms * _MS)
