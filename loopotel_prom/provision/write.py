"""The writing of a tree: what is the same is left, what was changed is kept."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from loopotel_prom.errors import ConfigError
from loopotel_prom.provision.tree import File

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """
    What became of a tree's files, by their paths.

    Attributes:
        written: Were not there.
        replaced: Were there, and said something else.
        unchanged: Were there, and said the same.
    """

    written: tuple[str, ...]
    replaced: tuple[str, ...]
    unchanged: tuple[str, ...]


def write_tree(folder: Path, files: Sequence[File], *, force: bool) -> Written:
    """
    Write files below a folder, which is made if absent.

    Each appears when it is complete. With something in the way nothing is written.

    Args:
        folder: Where.
        files: What.
        force: Also replace files that say something else.

    Raises:
        ConfigError: There are such files, and they are not to be replaced.
        OSError: A file cannot be read or written.
    """
    now = {file.path: _content(folder / file.path) for file in files}
    unchanged = [file.path for file in files if now[file.path] == file.data]
    replaced = [file.path for file in files if now[file.path] not in (None, file.data)]
    if replaced and not force:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        raise ConfigError(
            f"{folder / replaced[0]}{more} would change; see what is there, then"
            " add --force, or name another folder"
        )
    for file in files:
        if file.path not in unchanged:
            _write(folder / file.path, file.data)
    return Written(
        written=tuple(file.path for file in files if now[file.path] is None),
        replaced=tuple(replaced),
        unchanged=tuple(unchanged),
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    # Readable as the user's other files are: servers run as other users.
    with suppress(FileNotFoundError):
        unfinished.unlink()
    descriptor = os.open(unfinished, _NEW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
