"""What a command could not take: named, one by one, and counted."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Self, TypeAlias

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.cli.output import output
from loopotel_prom.cli.terminal import echo, masked
from loopotel_prom.cli.wording import damage
from loopotel_prom.engine import Place, Rejected, place_of
from loopotel_prom.errors import ConfigError

RejectsFile: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--rejects",
        metavar="FILE|URL",
        help="File that names what was refused, and why, one JSON object a line.",
    ),
]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", help="Exit with 1 if anything was refused.")
]


class Rejects:
    """
    Names what was refused, in a file for it, else on standard error.

    Attributes:
        count: How much.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        self.count = 0
        self._file = file

    @classmethod
    @contextmanager
    def opened(
        cls, name: str | None, *, target: str | None, sources: Iterable[Place]
    ) -> Iterator[Self]:
        """
        Open the file that a user named, if any; it appears when the block ends well.

        Args:
            name: The option.
            target: Where the command's output goes, which cannot be the same.
            sources: As of `output`.

        Raises:
            ConfigError: It is the output, or one of the sources.
            OSError: Writing failed.
        """
        if name is None:
            yield cls()
            return
        if target is not None and _is_same(name, target):
            raise ConfigError("--rejects and --output are the same")
        with output(name, sources=sources) as file:
            yield cls(file)

    def add(self, line: BadLine) -> None:
        """Name one line, or document (`Rejected`)."""
        self.count += 1
        if self._file is None:
            echo(f"rejected: {damage(line)}", err=True)
            return
        told = {
            "file": masked(line.file),
            "line": line.number,
            "offset": line.offset,
            "trace_id": line.trace_id if isinstance(line, Rejected) else None,
            "reason": masked(line.fault),
        }
        self._file.write(json.dumps(told).encode() + b"\n")

    def end(self, *, strict: bool) -> None:
        """
        Close the command.

        Raises:
            typer.Exit: Something was refused, and it was to be strict: exit code 1.
        """
        if strict and self.count:
            raise typer.Exit(1)


def _is_same(name: str, other: str) -> bool:
    one, two = place_of(name), place_of(other)
    if isinstance(one, Path) and isinstance(two, Path) and "-" not in (name, other):
        return one.resolve() == two.resolve()
    return name == other
