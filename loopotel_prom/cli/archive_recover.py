"""The command `loopotel-prom archive recover`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from loopotel_prom.archive.layout import segments
from loopotel_prom.archive.recovery import Recovery, recover
from loopotel_prom.cli.archive_source import DEFAULT_FOLDER, Folder
from loopotel_prom.cli.terminal import echo, progress
from loopotel_prom.errors import ArchiveError


def recover_runs(
    folder: Folder = DEFAULT_FOLDER,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with what was done.")
    ] = False,
) -> None:
    """
    Seal the runs that dead processes left in their journals.

    Journals of the living are left alone. What is damaged is put aside, into
    quarantine/, and what is whole is kept. May be interrupted and repeated.
    """
    if not folder.is_dir():
        raise ArchiveError(
            "there is no such folder", path=str(folder), hint="check the path"
        )
    size = sum(path.lstat().st_size for path in segments(folder))
    with progress(str(folder), size, total=size) as show:
        done = recover(folder, progress=lambda read, _total: show(read))
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    for line in _told(done):
        echo(line)


def _told(done: Recovery) -> list[str]:
    if done.is_busy:
        return ["another process is recovering this archive; nothing was done"]
    lines = [
        f"{done.journals} journals of dead processes, {len(done.runs)} runs sealed"
    ]
    for count, what in (
        (done.abandoned, "of them had not ended: outcome unknown, reason abandoned"),
        (done.already_sealed, "runs were sealed already"),
        (done.missing_spans, "records are missing; their runs say so"),
        (done.torn, "lines were torn by the death of their writer"),
        (
            done.quarantined_lines,
            f"damaged lines put aside, {done.quarantined_bytes} B",
        ),
        (done.skipped_live, "journals left to their living owners"),
    ):
        if count:
            lines.append(f"{count} {what}")
    return [*lines, *(f"sealed {trace_id}" for trace_id in done.runs)]
