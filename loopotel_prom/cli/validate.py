"""The command `loopotel-prom validate`."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from loopotel_prom.archive import remote
from loopotel_prom.archive.lines import MAX_DOCUMENT_BYTES
from loopotel_prom.cli.terminal import echo, is_terminal, masked, progress
from loopotel_prom.engine import open_object, place_of, total_bytes
from loopotel_prom.errors import ArchiveError
from loopotel_prom.validate import Verdict, validate_documents

_MESSAGE_CHARACTERS = 2000


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files or URLs of LTF documents, one a line or one in a .json file, "
            "plain, .gz or .zst; - is standard input.",
        ),
    ],
    *,
    max_line_bytes: Annotated[
        int,
        typer.Option(
            min=1,
            max=2**40,
            help="Report a document longer than this, unread beyond it.",
        ),
    ] = MAX_DOCUMENT_BYTES,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a verdict.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only what is invalid.")
    ] = False,
) -> None:
    """
    Judge LTF documents against the schema.

    Reads any number of documents, however long, in constant memory and judges
    each of them, whatever stands before it. Exits with 1 if one is invalid or
    cannot be read.
    """
    good = True
    # Verdicts that scroll by would garble a bar on the same terminal.
    free = not is_terminal(sys.stdout) or (quiet and not as_json)
    for path in paths:
        for verdict in _verdicts(path, max_line_bytes, bar=free):
            good &= verdict.valid
            if verdict.valid and quiet:
                continue
            if as_json:
                # ASCII, so that no text in it can break the terminal or pipe.
                typer.echo(json.dumps(_told(verdict)))
            else:
                _tell(verdict)
    if not good:
        raise typer.Exit(1)


def _told(verdict: Verdict) -> dict[str, object]:
    return {
        name: masked(value) if isinstance(value, str) else value
        for name, value in asdict(verdict).items()
    }


def _verdicts(path: str, max_bytes: int, *, bar: bool) -> Iterator[Verdict]:
    """Judge the documents of one path; what cannot be read is a verdict too."""
    try:
        source, size = _source(path)
        # How much a compressed file holds is not known before its end.
        total = None if path.endswith((".gz", ".zst")) else size
        name = Path(path).name
        with progress(name, size, wanted=bar, total=total) as advance:
            verdicts = validate_documents(source, max_document_bytes=max_bytes)
            for verdict in verdicts:
                advance(verdict.offset)
                yield verdict
    except ArchiveError as error:
        fault = str(error)
        yield Verdict(label=path, file=path, line=0, offset=0, valid=False, fault=fault)


def _source(path: str) -> tuple[str | BinaryIO, int]:
    """Give what is to be read, and its size; 0 for what has none."""
    if path == "-":
        return _standard_input(), 0
    place = place_of(path)
    if isinstance(place, str):
        return open_object(place), total_bytes(place)
    # As it was typed, which is how the verdicts call it.
    return str(place) if remote.is_url(path) else path, _size(place)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        hint = "redirect a file into it"
        raise ArchiveError("it is closed", path="<stdin>", hint=hint)
    return sys.stdin.buffer


def _size(path: Path) -> int:
    """Return the size of a file; 0 for what has none, or cannot be asked."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _tell(verdict: Verdict) -> None:
    if verdict.valid:
        echo(f"VALID: {verdict.label}")
    elif verdict.fault is None:
        echo(f"INVALID: {verdict.label}", err=True)
        for message in verdict.messages:
            echo(f"  - {_shortened(message)}", err=True)
    elif verdict.line:
        place = f"{verdict.file}: line {verdict.line} (byte {verdict.offset})"
        echo(f"INVALID: {place}: {verdict.fault}", err=True)
    else:
        echo(f"INVALID: {verdict.fault}", err=True)


def _shortened(message: str) -> str:
    """Cut a message that quotes a large part of the document."""
    cut = len(message) - _MESSAGE_CHARACTERS
    return message if cut <= 0 else f"{message[:-cut]}... ({cut} characters more)"
