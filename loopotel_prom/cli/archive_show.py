"""The command `loopotel-prom archive show`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import structs

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.layout import JOURNAL
from loopotel_prom.archive.open_runs import OpenRun, read_spans
from loopotel_prom.archive.reader import Entry, matches
from loopotel_prom.cli.archive_source import DEFAULT_FOLDER, Folder
from loopotel_prom.cli.run_view import RunView
from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.runs.course import course_of, course_of_open
from loopotel_prom.runs.digest import Tally, digest_of_open
from loopotel_prom.runs.lookup import not_found, open_runs, resolve
from loopotel_prom.span import RunSpan


def show(
    trace_id: Annotated[
        str,
        typer.Argument(help="The run: its trace id, or at least 4 digits of it."),
    ],
    folder: Folder = DEFAULT_FOLDER,
    *,
    all_steps: Annotated[
        bool,
        typer.Option("--all", help="All iterations, not the first and last 20 only."),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the document, byte for byte, and no more."),
    ] = False,
) -> None:
    """
    Show one run: how it went, iteration by iteration.

    Of a run that is still under way, what has happened so far.
    """
    wanted = resolve(folder, trace_id)
    # The sealed document first: it outlives the journal, and is the whole of it.
    for entry in matches(folder, trace_id=wanted):
        if as_json:
            _write(entry.pieces())
        else:
            _show_sealed(entry, all_steps=all_steps)
        return
    for run in open_runs(folder, wanted):
        if as_json:
            _write(_document(folder, run))
        else:
            _show_open(folder, run, all_steps=all_steps)
        return
    raise not_found(folder, wanted)


def _show_sealed(entry: Entry, *, all_steps: bool) -> None:
    view, tally = RunView(all_steps=all_steps), Tally(entry)
    stream = DocumentStream(entry.line)
    try:
        for item in course_of(tally.count(stream.spans())):
            view.add(item)
    except DocumentError as error:
        # Found by its head, which is sound; what follows is not.
        raise ArchiveError(
            f"line {entry.line.number} (byte {entry.line.offset}): {error}",
            path=entry.line.file,
            hint="see what else: loopotel-prom archive verify",
        ) from error
    metadata = stream.fields.get("metadata")
    view.print(tally.end(metadata), metadata=metadata)


def _show_open(folder: Path, run: OpenRun, *, all_steps: bool) -> None:
    view = RunView(all_steps=all_steps)
    for item in course_of_open(read_spans(folder, run.trace_id)):
        view.add(item)
    metadata = None if run.run is None else run.run.metadata
    view.print(digest_of_open(run), metadata=metadata, open_run=run)


def _document(folder: Path, run: OpenRun) -> Iterator[bytes]:
    """Spell a run as its document would be, if it ended with its latest span."""
    if run.run is None:
        raise ArchiveError(
            f"the start of {run.trace_id} is lost",
            path=str(folder / JOURNAL),
            hint=f"let it be sealed: loopotel-prom archive recover {folder}",
        )
    ended = structs.replace(run.run, end_ns=run.latest_ns)
    spans = read_spans(folder, run.trace_id)
    return ltf.stream(ended, (s for s in spans if not isinstance(s, RunSpan)))


def _write(pieces: Iterable[bytes]) -> None:
    """Write bytes as they are, and a line ending."""
    stream = typer.get_binary_stream("stdout")
    for piece in pieces:
        stream.write(piece)
    stream.write(b"\n")
    stream.flush()
