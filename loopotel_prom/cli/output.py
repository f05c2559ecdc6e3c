"""Files that a command writes: there when they are complete, or not at all."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.remote import new_object
from loopotel_prom.engine import Place, place_of
from loopotel_prom.errors import ArchiveError, ConfigError


@contextmanager
def output(name: str, *, sources: Iterable[Place]) -> Iterator[BinaryIO]:
    """
    Open what a user named for writing; ``-`` is standard output.

    A file takes its name, in place of one that has it, when the block ends well;
    it is then on disk, readable by its owner alone. So does an object at a URL. A
    device or a pipe is written to as it is.

    Args:
        name: What the user typed.
        sources: What is read meanwhile, and so cannot be written.

    Raises:
        ConfigError: It is one of the sources, or lies within one.
        ArchiveError: Standard output is closed, or a URL cannot be written.
        MissingExtraError: What reaches a URL is not installed.
        OSError: Writing failed.
    """
    if name == "-":
        yield _standard_output()
        return
    place = place_of(name)
    if isinstance(place, str):
        _refuse_urls(place, sources)
        with new_object(place) as file:
            yield file
        return
    path = place.resolve()
    _refuse_sources(path, sources)
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    with _unfinished(path) as file:
        yield file


@contextmanager
def _unfinished(path: Path) -> Iterator[BinaryIO]:
    descriptor, unfinished = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".unfinished"
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield cast("BinaryIO", file)
            file.flush()
            os.fsync(descriptor)
        Path(unfinished).rename(path)
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        hint = "name a file to write to"
        raise ArchiveError("it is closed", path="<stdout>", hint=hint)
    return cast("BinaryIO", sys.stdout.buffer)


def _refuse_sources(path: Path, sources: Iterable[Place]) -> None:
    for source in sources:
        if isinstance(source, Path) and path.is_relative_to(source.resolve()):
            raise _being_read(path)


def _refuse_urls(url: str, sources: Iterable[Place]) -> None:
    for source in sources:
        if isinstance(source, str) and f"{url}/".startswith(f"{source.rstrip('/')}/"):
            raise _being_read(url)


def _being_read(place: Place) -> ConfigError:
    return ConfigError(
        f"{place} is, or lies in, what is being read; write it elsewhere"
    )
