"""The command `loopotel-prom validate`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import typer

from loopotel_prom.archive.lines import MAX_DOCUMENT_BYTES
from loopotel_prom.errors import ArchiveError
from loopotel_prom.validate import Verdict, validate_documents

# A file of which the terminal shows how far it has been read.
_MANY_BYTES = 64 * 1024**2
_MESSAGE_CHARACTERS = 2000


def validate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Files of LTF documents, one a line or one in a .json file, "
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
    each of them, whatever stands before it. Exits with 1 if one is invalid or cannot be read.
    """
    good = True
    # Verdicts that scroll by would garble a bar on the same terminal.
    free = not _is_terminal(sys.stdout) or (quiet and not as_json)
    for path in paths:
        for verdict in _verdicts(path, max_line_bytes, bar=free):
            good &= verdict.valid
            if verdict.valid and quiet:
                continue
            if as_json:
                # ASCII, so that no text in it can break the terminal or pipe.
                typer.echo(json.dumps(asdict(verdict)))
            else:
                _tell(verdict)
    if not good:
        raise typer.Exit(1)


def _verdicts(path: str, max_bytes: int, *, bar: bool) -> Iterator[Verdict]:
    """Judge the documents of one path; what cannot be read is a verdict too."""
    try:
        source = _standard_input() if path == "-" else path
        with _progress(path, wanted=bar) as advance:
            verdicts = validate_documents(source, max_document_bytes=max_bytes)
            for verdict in verdicts:
                advance(verdict.offset)
                yield verdict
    except ArchiveError as error:
        fault = str(error)
        yield Verdict(label=path, file=path, line=0, offset=0, valid=False, fault=fault)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        hint = "redirect a file into it"
        raise ArchiveError("it is closed", path="<stdin>", hint=hint)
    return sys.stdin.buffer


@contextmanager
def _progress(path: str, *, wanted: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar over a large file, where there is a terminal to show it on."""
    size = _size(path)
    if size < _MANY_BYTES or not (wanted and _is_terminal(sys.stderr)):
        yield lambda _offset: None
        return
    # Here, not above: half a second to import.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False) as bar:
        # How much a compressed file holds is not known before its end.
        total = None if path.endswith((".gz", ".zst")) else size
        task = bar.add_task(Path(path).name, total=total)
        yield lambda offset: bar.update(task, completed=offset)


def _size(path: str) -> int:
    """Return the size of a file; 0 for what has none, or cannot be asked."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _tell(verdict: Verdict) -> None:
    if verdict.valid:
        _print(f"VALID: {verdict.label}")
    elif verdict.fault is None:
        _print(f"INVALID: {verdict.label}", err=True)
        for message in verdict.messages:
            _print(f"  - {_shortened(message)}", err=True)
    elif verdict.line:
        place = f"{verdict.file}: line {verdict.line} (byte {verdict.offset})"
        _print(f"INVALID: {place}: {verdict.fault}", err=True)
    else:
        _print(f"INVALID: {verdict.fault}", err=True)


def _shortened(message: str) -> str:
    """Cut a message that quotes a large part of the document."""
    cut = len(message) - _MESSAGE_CHARACTERS
    return message if cut <= 0 else f"{message[:-cut]}... ({cut} characters more)"


def _print(text: str, *, err: bool = False) -> None:
    """Print text from outside: as it is where that is safe, escaped elsewhere."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    # Given by name, as a bar takes standard error's place while it is shown.
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # as it is where it was closed
        safe = text.encode(stream.encoding, "backslashreplace").decode(stream.encoding)
        typer.echo(safe, file=stream)


def _is_terminal(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty()
