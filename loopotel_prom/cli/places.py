"""The archives that a command is told of: folders, files, or URLs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from loopotel_prom.archive.files import Advance
from loopotel_prom.cli.terminal import progress
from loopotel_prom.engine import Place, place_of, read_places, total_bytes

__all__ = ["Places", "places_of", "read_places", "reading"]

_DEFAULT_FOLDER = Path("traces")

Places: TypeAlias = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DIR|FILE|URL]...",
        help="Archives, or files of LTF documents, plain, .gz or .zst; 'traces' if"
        " none is named.",
    ),
]


def folder_of(typed: str) -> Path:
    """
    Read the name of a folder.

    Raises:
        typer.BadParameter: It is empty, as of a variable that is not set.
    """
    if not typed:
        raise typer.BadParameter("a folder is needed; . is the current one")
    return Path(typed)


def places_of(typed: list[str] | None) -> list[Place]:
    """Give the places that a user named, or the usual one."""
    return [place_of(name) for name in typed or ()] or [_DEFAULT_FOLDER]


@contextmanager
def reading(label: str, places: list[Place]) -> Iterator[Advance]:
    """
    Show a bar over all that is read there; yields what is told of each piece.

    Raises:
        ArchiveError: A URL cannot be reached.
    """
    size = total_bytes(*places)
    with progress(label, size, total=size) as show:
        yield _summed(show)


def _summed(show: Callable[[int], None]) -> Advance:
    done = 0

    def advance(read: int) -> None:
        nonlocal done
        done += read
        show(done)

    return advance
