"""The command `loopotel-prom export parquet`."""

import json
from typing import Annotated

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.cli.engine import (
    EngineKind,
    Jobs,
    Kind,
    Scheduler,
    ShardBytes,
    engine_of,
)
from loopotel_prom.cli.output import output, output_folder
from loopotel_prom.cli.places import Places, places_of, reading
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo
from loopotel_prom.engine import run
from loopotel_prom.exporter.parquet import (
    ITERATIONS,
    RUNS,
    Rows,
    RowsJob,
    TableWriter,
    require_pyarrow,
)


def parquet(
    paths: Places = None,
    *,
    target: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="DIR|URL",
            help="Folder of runs.parquet and iterations.parquet; made if absent.",
        ),
    ],
    rejects: RejectsFile = None,
    strict: Strict = False,
    jobs: Jobs = None,
    engine: EngineKind = Kind.PROCESS,
    scheduler: Scheduler = None,
    shard_bytes: ShardBytes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the counts as one JSON object.")
    ] = False,
) -> None:
    """
    Turn runs into two Parquet tables: a row a run, and a row an iteration.

    Each run once, in the order of the archive. Both files appear when they are
    complete, in place of older ones.
    """
    require_pyarrow()
    places = places_of(paths)
    with (
        output_folder(target, sources=places) as folder,
        output(f"{folder}/runs.parquet", sources=places) as runs_file,
        output(f"{folder}/iterations.parquet", sources=places) as iterations_file,
        Rejects.opened(rejects, target=None, sources=places) as refused,
        engine_of(engine, jobs, scheduler, shard_bytes) as opened,
        reading("export", places) as advance,
        TableWriter(runs_file, RUNS) as runs,
        TableWriter(iterations_file, ITERATIONS) as iterations,
    ):
        tables = _Tables(runs, iterations)
        for done in run(RowsJob(), *places, engine=opened, advance=advance):
            if isinstance(done, BadLine):
                refused.add(done)
            else:
                tables.add(done.value)
    counts = {
        "runs": tables.run_count,
        "iterations": tables.iteration_count,
        "rejected": refused.count,
    }
    if as_json:
        typer.echo(json.dumps(counts))
    else:
        words = ", ".join(f"{count} {name}" for name, count in counts.items())
        echo(words, err=True)
    refused.end(strict=strict)


class _Tables:
    """Both tables, and how many rows they have."""

    def __init__(self, runs: TableWriter, iterations: TableWriter) -> None:
        self.run_count = 0
        self.iteration_count = 0
        self._runs = runs
        self._iterations = iterations

    def add(self, rows: Rows) -> None:
        self.run_count += 1
        self.iteration_count += rows.count
        self._runs.add_rows((rows.run,))
        if rows.packed:
            self._iterations.add_packed(rows.packed)
        else:
            self._iterations.add_rows(rows.iterations)
