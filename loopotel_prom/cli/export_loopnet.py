"""The command `loopotel-prom export loopnet`."""

import json
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from loopotel_prom import ltf
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry, is_full
from loopotel_prom.cli.engine import (
    EngineKind,
    Jobs,
    Kind,
    Scheduler,
    ShardBytes,
    engine_of,
)
from loopotel_prom.cli.output import output
from loopotel_prom.cli.places import Places, places_of, reading
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo
from loopotel_prom.engine import Rejected, run
from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.exporter.loopnet import RecordOptions, record_from_line
from loopotel_prom.exporter.loopnet.redact import scanner
from loopotel_prom.exporter.redaction import MARK


class MissingCost(StrEnum):
    """What becomes of an iteration of unknown cost."""

    LEAVE = "leave"
    ZERO = "zero"


class Source(StrEnum):
    """Where runs come from."""

    SYNTHETIC = "synthetic"
    CASE_STUDY = "case_study"
    PRODUCTION_REDACTED = "production_redacted"
    COMMUNITY = "community"


class Redact(StrEnum):
    """How much is taken out."""

    BASIC = "basic"
    FULL = "full"


def loopnet(  # noqa: PLR0913 - a command has the options that it has
    paths: Places = None,
    *,
    target: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="FILE|URL",
            help="File of the records; - is standard output.",
        ),
    ],
    rejects: RejectsFile = None,
    strict: Strict = False,
    missing_cost: Annotated[
        MissingCost,
        typer.Option(help="Reject runs of unknown cost, or take it for 0."),
    ] = MissingCost.LEAVE,
    source: Annotated[
        Source | None,
        typer.Option(help="Where the runs come from; told by their env_id if absent."),
    ] = None,
    redact: Annotated[
        Redact | None,
        typer.Option(
            help="Take out secrets, or all free text; basic is part of the source"
            " production_redacted."
        ),
    ] = None,
    redaction_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Secret of 16 bytes or more, to tell loops apart at --redact full.",
        ),
    ] = None,
    goal: Annotated[
        str | None, typer.Option(help="Objective of the runs that name none.")
    ] = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(help="Pattern of the runs that name none; repeatable."),
    ] = None,
    loop_spec: Annotated[
        Path | None, typer.Option(help="JSON file, for the runs that bring no spec.")
    ] = None,
    max_iterations: Annotated[
        int | None, typer.Option(min=1, help="Budget of the runs that name none.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of the runs that name none.")
    ] = None,
    evaluators: Annotated[
        int | None, typer.Option(min=1, help="Evaluators of the runs that name none.")
    ] = None,
    jobs: Jobs = None,
    engine: EngineKind = Kind.PROCESS,
    scheduler: Scheduler = None,
    shard_bytes: ShardBytes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Turn runs into LoopNet records (ln/record-v1), one a line.

    Each run once, in the order of the archive; the same bytes each time. What
    cannot become a valid record is named, counted, and ends nothing. The file
    appears when it is complete. Of redacted exports no error quotes a value, either.
    """
    options = RecordOptions(
        source=None if source is None else source.value,
        objective=goal,
        patterns=tuple(pattern or ()),
        loop_spec=None if loop_spec is None else _spec(loop_spec),
        max_iterations_budget=max_iterations,
        worker_count=workers,
        evaluator_count=evaluators,
        missing_cost=missing_cost.value,
        redact=None if redact is None else redact.value,
        redaction_key=None if redaction_key is None else redaction_key.read_bytes(),
    )
    if options.redaction == "basic":
        scanner()  # is it there?
    places = places_of(paths)
    counts = _Counts()
    with (
        output(target, sources=places) as records,
        Rejects.opened(rejects, target=target, sources=places) as refused,
        engine_of(engine, jobs, scheduler, shard_bytes) as opened,
        reading("export", places) as advance,
    ):
        for done in run(_Job(options), *places, engine=opened, advance=advance):
            if isinstance(done, BadLine):
                refused.add(_told(done, options))
            else:
                records.write(done.value.line)
                counts.add(done.value)
    counts.rejected = refused.count
    _tell(counts, as_json=as_json, err=not as_json or target == "-")
    refused.end(strict=strict)


def _told(line: BadLine, options: RecordOptions) -> BadLine:
    """Keep a trace id that is none, and so may be anything, from being told."""
    if options.redaction is None or not isinstance(line, Rejected):
        return line
    return line if is_full(line.trace_id) else replace(line, trace_id=MARK)


@dataclass(frozen=True, slots=True)
class _Record:
    """One record, spelled, and what it counts as."""

    line: bytes
    outcome: str
    split: str


@dataclass(frozen=True, slots=True)
class _Job:
    """Makes the record of a document."""

    options: RecordOptions

    def __call__(self, entry: Entry) -> _Record:
        record = record_from_line(entry.line, self.options)
        line = ltf.encode(record) + b"\n"
        return _Record(line, record["outcome"], record["split"])


@dataclass
class _Counts:
    """How many there were."""

    records: int = 0
    rejected: int = 0
    by: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"outcome": {}, "split": {}}
    )

    def add(self, record: _Record) -> None:
        self.records += 1
        for name, counts in self.by.items():
            value = getattr(record, name)
            counts[value] = counts.get(value, 0) + 1


def _tell(counts: _Counts, *, as_json: bool, err: bool) -> None:
    if as_json:
        whole = {"records": counts.records, "rejected": counts.rejected, **counts.by}
        typer.echo(json.dumps(whole), err=err)
        return
    details = (
        f"{number} {name}"
        for names in counts.by.values()
        for name, number in sorted(names.items())
    )
    about = f" ({', '.join(details)})" if counts.records else ""
    echo(f"{counts.records} records{about}, {counts.rejected} rejected", err=err)


def _spec(path: Path) -> dict[str, Any]:
    """
    Read a specification.

    Raises:
        ConfigError: It is no JSON object.
    """
    try:
        return ltf.decode(path.read_bytes())
    except DocumentError as error:
        raise ConfigError(f"--loop-spec {path}: {error}") from error
