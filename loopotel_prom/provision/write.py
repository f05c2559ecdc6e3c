"""The writing of a tree: what is the same is left, what was changed is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loopotel_prom.archive.new_file import new_file
from loopotel_prom.errors import ConfigError
from loopotel_prom.provision.tree import File


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
        ConfigError: There are such files, and they are not to be replaced; or there
            is what is no file.
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
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ConfigError(f"{path}: it is no file; remove it, or name another folder")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Readable as the user's other files are: servers run as other users.
    with new_file(path, mode=0o666) as file:
        file.write(data)
