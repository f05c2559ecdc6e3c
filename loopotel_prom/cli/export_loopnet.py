"""The command `loopotel-prom export loopnet`."""

import json
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from loopotel_prom import ltf
from loopotel_prom.archive.files import folder_bytes
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry, read_archive
from loopotel_prom.cli.output import output
from loopotel_prom.cli.terminal import echo, progress
from loopotel_prom.cli.wording import damage
from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.exporter.loopnet import RecordOptions, record_from_line

_DEFAULT_FOLDER = Path("traces")


class MissingCost(StrEnum):
    """What becomes of an iteration of unknown cost."""

    LEAVE = "leave"
    ZERO = "zero"


class Source(StrEnum):
    """Where runs come from, as far as they need no redaction."""

    SYNTHETIC = "synthetic"
    CASE_STUDY = "case_study"
    COMMUNITY = "community"


def loopnet(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DIR|FILE]...",
            help="Archives, or files of LTF documents, plain, .gz or .zst.",
        ),
    ] = None,
    *,
    target: Annotated[
        str, typer.Option("--output", help="File of the records; - is standard output.")
    ],
    rejects: Annotated[
        str | None,
        typer.Option(help="File that names what became no record, and why."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if anything was rejected.")
    ] = False,
    missing_cost: Annotated[
        MissingCost,
        typer.Option(help="Reject runs of unknown cost, or take it for 0."),
    ] = MissingCost.LEAVE,
    source: Annotated[
        Source | None,
        typer.Option(help="Where the runs come from; told by their env_id if absent."),
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Turn runs into LoopNet records (ln/record-v1), one a line.

    Each run once, in the order of the archive; the same bytes each time. What
    cannot become a valid record is named, counted, and ends nothing. The file
    appears when it is complete.
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
    )
    places = paths or [_DEFAULT_FOLDER]
    if rejects is not None and rejects == target:
        raise ConfigError("--rejects and --output are the same")
    with output(target, sources=places) as records:
        if rejects is None:
            counts = _export(places, options, records, None)
        else:
            with output(rejects, sources=places) as refused:
                counts = _export(places, options, records, refused)
    _tell(counts, as_json=as_json, err=not as_json or target == "-")
    if strict and counts.rejected:
        raise typer.Exit(1)


@dataclass
class _Counts:
    """How many there were."""

    records: int = 0
    rejected: int = 0
    by: dict[str, dict[str, int]] = field(
        default_factory=lambda: {"outcome": {}, "split": {}}
    )

    def add(self, record: dict[str, Any]) -> None:
        self.records += 1
        for name, counts in self.by.items():
            counts[record[name]] = counts.get(record[name], 0) + 1


def _export(
    paths: list[Path],
    options: RecordOptions,
    records: BinaryIO,
    refused: BinaryIO | None,
) -> _Counts:
    counts = _Counts()
    size = sum(folder_bytes(path) for path in paths if path.is_dir())
    with progress("export", size, total=size) as show:
        done = 0

        def advance(read: int) -> None:
            nonlocal done
            done += read
            show(done)

        for item in read_archive(*paths, advance=advance):
            if isinstance(item, BadLine):
                _refuse(counts, item, None, refused)
                continue
            try:
                record = record_from_line(item.line, options)
            except DocumentError as error:
                _refuse(counts, _bad(item, error), item.trace_id, refused)
                continue
            records.write(ltf.encode(record) + b"\n")
            counts.add(record)
    return counts


def _bad(entry: Entry, error: DocumentError) -> BadLine:
    line = entry.line
    return BadLine(line.file, line.number, line.offset, str(error))


def _refuse(
    counts: _Counts, line: BadLine, trace_id: str | None, refused: BinaryIO | None
) -> None:
    """Name what was rejected: in the file for it, else on standard error."""
    counts.rejected += 1
    if refused is None:
        echo(f"rejected: {damage(line)}", err=True)
        return
    told = {
        "file": line.file,
        "line": line.number,
        "offset": line.offset,
        "trace_id": trace_id,
        "reason": line.fault,
    }
    refused.write(json.dumps(told).encode() + b"\n")


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
