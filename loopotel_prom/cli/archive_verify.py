"""The command `loopotel-prom archive verify`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from loopotel_prom.archive.files import folder_bytes
from loopotel_prom.cli.archive_source import DEFAULT_FOLDER, Folder
from loopotel_prom.cli.terminal import echo, progress, shortened
from loopotel_prom.runs.verify import Verification

_CHARACTERS = 2000


def verify(
    folder: Folder = DEFAULT_FOLDER,
    *,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print a JSON object a finding, then a summary."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print no notes, and no summary.")
    ] = False,
) -> None:
    """
    Check everything in an archive: checksums, JSON, schema, gaps, names, modes.

    Exits with 1 if there is damage; warnings and notes are none. One change it
    cannot see: another digit, say, within a line of a plain sealed file, which
    has no checksum (compressed files and journals have).
    """
    size = folder_bytes(folder) if folder.is_dir() else 0
    with progress(str(folder), size, total=size) as show:
        done = 0

        def advance(read: int) -> None:
            nonlocal done
            done += read
            show(done)

        verification = Verification(folder, advance=advance)
        for problem in verification.problems():
            if quiet and problem.severity == "note":
                continue
            if as_json:
                typer.echo(json.dumps(asdict(problem)))
            else:
                echo(shortened(str(problem), _CHARACTERS), err=True)
    summary = verification.summary()
    if as_json:
        typer.echo(json.dumps({"summary": summary}))
    elif not quiet:
        echo(", ".join(f"{name.replace('_', ' ')}: {n}" for name, n in summary.items()))
    if summary["damage"]:
        raise typer.Exit(1)
