"""The command `loopotel-prom export otlp`."""

import json
import logging
from dataclasses import dataclass
from typing import Annotated

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry
from loopotel_prom.cli.places import Places, places_of, read_places, reading
from loopotel_prom.cli.rejects import Rejects, RejectsFile
from loopotel_prom.cli.terminal import echo
from loopotel_prom.cli.wording import parse_moment
from loopotel_prom.engine import Place, Rejected
from loopotel_prom.errors import DeliveryError, DocumentError
from loopotel_prom.exporter.otlp import OtlpExporter
from loopotel_prom.otlp.endpoint import EXAMPLE, full_endpoint, is_endpoint
from loopotel_prom.runs.digest import time_of

# Reading waits for the receiver; one that does not answer is a loss long before.
_ROOM_SECONDS = 86_400.0
_LOOK_SECONDS = 1.0


def otlp(
    paths: Places = None,
    *,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Where to, such as {EXAMPLE}; the OTEL_EXPORTER_OTLP_* variables"
            " decide if absent.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only runs that started then or later: a time, or 2h, 7d."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only runs that started before that.")
    ] = None,
    rejects: RejectsFile = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Send runs as traces to an OpenTelemetry collector, by OTLP/HTTP.

    Each run once, in the order of the archive, ids and times kept. What is no
    trace is named, and ends nothing. The first spans that the receiver does not
    take, after some retries, end it. Exit code 1 for either.
    """
    period = _Period(
        None if since is None else parse_moment(since),
        None if until is None else parse_moment(until),
    )
    if endpoint is not None and not is_endpoint(endpoint):
        raise typer.BadParameter(f"--endpoint: a URL such as {EXAMPLE} is needed")
    # It is told below, once.
    logging.getLogger(OtlpExporter.__module__).setLevel(logging.ERROR)
    exporter = OtlpExporter(
        None if endpoint is None else full_endpoint(endpoint),
        None,
        room_seconds=_ROOM_SECONDS,
    )
    places = places_of(paths)
    try:
        with Rejects.opened(rejects, target=None, sources=places) as refused:
            runs = _send(places, period, exporter, refused)
    finally:
        exporter.close(timeout_seconds=0)
    _tell(runs, exporter, refused, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Period:
    """When the runs started that are wanted."""

    since_ns: int | None
    until_ns: int | None

    def has(self, entry: Entry) -> bool:
        if self.since_ns is None and self.until_ns is None:
            return True
        started_ns = time_of(entry.head.started_at)
        if started_ns is None:
            return False
        return (self.since_ns is None or started_ns >= self.since_ns) and (
            self.until_ns is None or started_ns < self.until_ns
        )


def _send(
    places: list[Place], period: _Period, exporter: OtlpExporter, refused: Rejects
) -> int:
    """Send the runs, up to the first loss; give how many were handed over."""
    runs = 0
    with reading("export", places) as advance:
        for item in read_places(*places, advance=advance):
            if isinstance(item, BadLine):
                refused.add(item)
            elif period.has(item):
                runs += _hand_over(item, exporter, refused)
            if exporter.lost:
                return runs
    while not exporter.flush(timeout_seconds=_LOOK_SECONDS) and not exporter.lost:
        pass
    return runs


def _hand_over(entry: Entry, exporter: OtlpExporter, refused: Rejects) -> bool:
    try:
        exporter.export_entry(entry)
    except DocumentError as error:
        line = entry.line
        where = line.file, line.number, line.offset
        refused.add(Rejected(*where, str(error), entry.trace_id))
        return False
    return True


def _tell(
    runs: int, exporter: OtlpExporter, refused: Rejects, *, as_json: bool
) -> None:
    """
    Tell how it went.

    Raises:
        DeliveryError: Not all was taken.
        typer.Exit: Something was refused.
    """
    counts = {
        "runs": runs,
        "spans_sent": exporter.delivered,
        "spans_lost": exporter.lost,
        "rejected": refused.count,
    }
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        echo(
            f"{runs} runs, {exporter.delivered} spans sent, {exporter.lost} lost,"
            f" {refused.count} rejected",
            err=True,
        )
    if exporter.lost:
        raise DeliveryError(
            f"the receiver did not take all spans: {exporter.reason}; see that it is"
            " there, and send them again: their ids stay the same"
        )
    if refused.count:
        raise typer.Exit(1)
