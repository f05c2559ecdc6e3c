"""The archive that a command is told of: its documents, and its damage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry
from loopotel_prom.cli.terminal import echo, progress
from loopotel_prom.cli.wording import damage
from loopotel_prom.engine import Place, read_places, total_bytes
from loopotel_prom.errors import DocumentError
from loopotel_prom.runs.digest import Digest, digest_of

DEFAULT_FOLDER = Path("traces")
DEFAULT_ARCHIVE = str(DEFAULT_FOLDER)

Folder: TypeAlias = Annotated[
    Path,
    typer.Argument(metavar="[DIR]", help="Folder of the archive, or a file of it."),
]
Archive: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="[DIR|URL]", help="Folder of the archive, or a file of it; or its URL."
    ),
]


class Damage:
    """
    Tells of damage on standard error, and remembers that there was some.

    Attributes:
        count: How much.
    """

    def __init__(self) -> None:
        self.count = 0

    def tell(self, line: BadLine) -> None:
        """Print one line about it."""
        self.count += 1
        echo(f"damaged: {damage(line)}", err=True)

    def end(self, place: Place) -> None:
        """
        Close the command, with a hint if there was damage.

        Raises:
            typer.Exit: There was: exit code 1.
        """
        if self.count:
            where = "in 1 place" if self.count == 1 else f"in {self.count} places"
            # Of a copy elsewhere there is nothing to be seen but this.
            local = isinstance(place, Path)
            hint = f": see loopotel-prom archive verify {place}" if local else ""
            echo(f"the rest was read; damage {where}{hint}", err=True)
            raise typer.Exit(1)


def entries(
    place: Place, bad: Damage, *, bar: bool, newest_first: bool = False
) -> Iterator[Entry]:
    """
    Read an archive's documents; tell of damage, and show how far reading is.

    Raises:
        ArchiveError: It cannot be read.
    """
    size = total_bytes(place)
    with progress(str(place), size, wanted=bar, total=size) as show:
        done = 0

        def advance(read: int) -> None:
            nonlocal done
            done += read
            show(done)

        for item in read_places(place, newest_first=newest_first, advance=advance):
            if isinstance(item, BadLine):
                bad.tell(item)
            else:
                yield item


def digest(entry: Entry, bad: Damage) -> Digest | None:
    """Sum a document up; None, and a word of it, if it cannot be read on."""
    try:
        return digest_of(entry)
    except DocumentError as error:
        line = entry.line
        bad.tell(BadLine(line.file, line.number, line.offset, str(error)))
        return None
