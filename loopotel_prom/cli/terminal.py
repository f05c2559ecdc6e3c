"""The terminal, or what stands in its place: text from outside, and bars."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import typer

# Work on less than this is over before a bar could be read.
_MANY_BYTES = 64 * 1024**2
_CREDENTIALS = re.compile(r"://[^/?#\s]*@")


def escaped(text: str) -> str:
    """Spell out what would control the terminal; line ends too."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, characters: int) -> str:
    """Cut text that is too long, and say so by an ellipsis."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def masked(text: str) -> str:
    """Leave out who may read a URL: others read what a command says."""
    return _CREDENTIALS.sub("://***@", text)


def echo(text: str, *, err: bool = False) -> None:
    """Print a line of text from outside: as it is where that is safe."""
    echo_safe(escaped(masked(text)), err=err)


def echo_safe(text: str, *, err: bool = False) -> None:
    """Print text without danger in it, in what the stream can carry."""
    # Given by name, as a bar takes standard error's place while it is shown.
    stream = sys.stderr if err else sys.stdout
    if stream is not None:  # as it is where it was closed
        words = text.encode(stream.encoding, "backslashreplace")
        typer.echo(words.decode(stream.encoding), file=stream)


def styled(text: str, **style: str | bool) -> str:
    """Give text a colour (`typer.style`), on a terminal that wants any."""
    if is_terminal(sys.stdout) and "NO_COLOR" not in os.environ:
        return typer.style(text, **style)  # type: ignore[arg-type]  # as given
    return text


def can_show(characters: str) -> bool:
    """Tell whether standard output has these characters."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person reads the stream."""
    return stream is not None and stream.isatty()


@contextmanager
def progress(
    label: str, size: int, *, wanted: bool = True, total: int | None = None
) -> Iterator[Callable[[int], None]]:
    """
    Show a bar over large work, where there is a terminal to show it on.

    What is yielded is to be called with the bytes done so far. `size` decides
    whether the work is large, `total` is where the bar ends, if that is known.
    """
    if size < _MANY_BYTES or not (wanted and is_terminal(sys.stderr)):
        yield lambda _done: None
        return
    # Here, not above: half a second to import.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(stderr=True)
    with Progress(console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task(Text(escaped(label)).markup, total=total)
        yield lambda done: bar.update(task, completed=done)
