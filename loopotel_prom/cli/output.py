"""Files that a command writes: there when they are complete, or not at all."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.new_file import NamedFile, new_file
from loopotel_prom.archive.remote import new_object
from loopotel_prom.engine import Place, place_of
from loopotel_prom.errors import ArchiveError, ConfigError


@contextmanager
def output_folder(
    name: str, *, sources: Iterable[Place], mode: int = 0o777
) -> Iterator[str]:
    """
    Make the folder of `--output`, unless it is there or at a URL; yields its name.

    Args:
        name: What the user typed.
        sources: As of `output`.
        mode: Its permissions, less the process's umask.

    Raises:
        ConfigError: It is one of the sources, lies within one, or is no folder.
        OSError: It cannot be made.
    """
    place = place_of(name)
    if isinstance(place, Path) and place.exists() and not place.is_dir():
        raise ConfigError(f"--output {name}: a folder is needed")
    refuse_sources(place, sources)
    if isinstance(place, str):
        yield place.rstrip("/")
        return
    with new_folder(place):
        place.mkdir(mode, parents=True, exist_ok=True)
        yield str(place)


@contextmanager
def new_folder(folder: Path, *own: str) -> Iterator[None]:
    """
    Leave no folder behind if the block, which makes it and those above it, fails.

    Those that were there stay, and those with something in them.

    Args:
        folder: Where it is, or will be.
        own: Names of files that go with it, if there are no others.
    """
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if new and {each.name for each in folder.iterdir()} <= {*own}:
                for name in own:
                    (folder / name).unlink(missing_ok=True)
            for each in new:
                each.rmdir()
        raise


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
        ConfigError: It is one of the sources, lies within one, or in no folder.
        ArchiveError: Standard output is closed, or a URL cannot be written.
        MissingExtraError: What reaches a URL is not installed.
        OSError: Writing failed.
    """
    if name == "-":
        standard = _standard_output()
        yield standard
        standard.flush()
        return
    place = place_of(name)
    refuse_sources(place, sources)
    if isinstance(place, str):
        with new_object(place) as file:
            yield file
        return
    path = place.resolve()
    if path.exists() and not path.is_file():
        with NamedFile(path, "wb") as raw, io.BufferedWriter(raw) as file:
            yield cast("BinaryIO", file)
        return
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it first")
    with new_file(path) as file:
        yield file
    sync_folder(path.parent)


def refuse_sources(place: Place, sources: Iterable[Place]) -> None:
    """
    Let a place pass that is none of those that are read, and lies in none.

    A command that makes a folder asks before it does.

    Raises:
        ConfigError: It is, or does.
    """
    target = place if isinstance(place, str) else place.resolve()
    if any(_is_within(target, source) for source in sources):
        raise ConfigError(
            f"{target} is, or lies in, what is being read; write it elsewhere"
        )


def _is_within(target: Place, source: Place) -> bool:
    if isinstance(target, Path) and isinstance(source, Path):
        return target.is_relative_to(source.resolve())
    if isinstance(target, str) and isinstance(source, str):
        return f"{target}/".startswith(f"{source.rstrip('/')}/")
    return False


def _standard_output() -> BinaryIO:
    if sys.stdout is None:
        hint = "name a file to write to"
        raise ArchiveError("it is closed", path="<stdout>", hint=hint)
    return cast("BinaryIO", sys.stdout.buffer)
