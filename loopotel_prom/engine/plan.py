"""
The plan of a job: every file that is to be read, as it is at this moment.

Local folders are listed as `loopotel_prom.archive.files` reads them: the file being
written is opened first, and measured between two appends. It stays open, so that
nothing of it is lost when it is rotated, compressed or removed meanwhile.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from loopotel_prom.archive import remote
from loopotel_prom.archive.files import RegularFile, between_appends
from loopotel_prom.archive.layout import COMPRESSED, SEALED, rotated_files
from loopotel_prom.archive.lines import MAGICS, BadLine
from loopotel_prom.engine.shard import File, Shard, shards_of
from loopotel_prom.errors import ArchiveError

Place: TypeAlias = Path | str

_MAGIC_BYTES = 4


class Plan:
    """
    The files at some places, in order; a context manager.

    A `BadLine` in their place is about a file that cannot be read.

    Args:
        places: Folders or files, as paths or URLs.
        shard_bytes: Files that are no larger are not looked into.

    Attributes:
        files: What was found.
        held: Open files, by their identity.

    Raises:
        ArchiveError: There is nothing at a place, or it may not be read.
    """

    def __init__(self, *places: Place, shard_bytes: int) -> None:
        self._shard_bytes = shard_bytes
        self._open = ExitStack()
        self.held: dict[str, RegularFile] = {}
        self.files: list[File | BadLine] = []
        try:
            for place in places:
                self.files += self._found(place)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files that are held open. Idempotent."""
        self._open.close()

    def shards(self, *, newest_first: bool = False) -> Iterator[Shard | BadLine]:
        """Cut the files into shards, the last file first if need be."""
        for file in reversed(self.files) if newest_first else self.files:
            if isinstance(file, BadLine):
                yield file
            else:
                yield from shards_of(file, self._shard_bytes)

    def _found(self, place: Place) -> Iterator[File | BadLine]:
        if isinstance(place, str) and remote.is_url(place):
            return self._remote(place)
        path = Path(place)
        try:
            status = path.stat()
            if stat.S_ISDIR(status.st_mode):
                return self._folder(path)
            if not stat.S_ISREG(status.st_mode):
                # A pipe, named by its user: it was meant.
                return iter([File(str(path), str(path.absolute()), None, "")])
            return iter([self._named(path)])
        except OSError as error:
            if isinstance(error, ArchiveError):
                raise
            raise ArchiveError(
                error.strerror or str(error),
                path=str(path),
                hint="name an archive's folder, or a file of documents",
            ) from error

    def _named(self, path: Path) -> File:
        # What a user names may be a link.
        target = path.resolve()
        if target.name == SEALED:
            return self._active(target, name=str(path))
        with RegularFile(target) as file:
            return self._planned(file, name=str(path))

    def _folder(self, folder: Path) -> Iterator[File | BadLine]:
        active: File | BadLine | None = None
        try:
            active = self._active(folder / SEALED, name=str(folder / SEALED))
        except FileNotFoundError:
            pass
        except OSError as error:
            active = _bad(folder / SEALED, error)
        for path in rotated_files(folder):
            file = self._rotated(path)
            if not (_identity(file) and _identity(file) == _identity(active)):
                yield file
        if active is not None:
            yield active

    def _active(self, path: Path, *, name: str) -> File:
        file = RegularFile(path)
        self._open.enter_context(file)
        with between_appends(path.parent):
            planned = self._planned(file, name=name, is_active=True)
        self.held[planned.identity] = file
        return planned

    def _rotated(self, path: Path) -> File | BadLine:
        try:
            try:
                file = RegularFile(path)
            except FileNotFoundError:
                # Compressed since it was listed.
                file = RegularFile(path.with_name(path.name + COMPRESSED))
        except OSError as error:
            return _bad(path, error)
        with file:
            return self._planned(file, name=str(file.name))

    def _planned(
        self, file: RegularFile, *, name: str, is_active: bool = False
    ) -> File:
        status = file.status()
        return File(
            name,
            os.path.abspath(os.fspath(file.name)),  # noqa: PTH100 - follows no link
            status.st_size,
            identity_of(status),
            status.st_mtime_ns,
            is_active=is_active,
            is_compressed=os.pread(file.fileno(), _MAGIC_BYTES, 0).startswith(MAGICS),
        )

    def _remote(self, url: str) -> Iterator[File]:
        one = remote.find(url)
        for found in remote.list_folder(url) if one is None else [one]:
            # One request each: not of those that are read whole anyway.
            is_compressed = found.size > self._shard_bytes and _magic(found.url)
            yield File(
                found.url,
                found.url,
                found.size,
                found.mark,
                is_remote=True,
                is_compressed=is_compressed,
            )


def identity_of(status: os.stat_result) -> str:
    """Give what tells a file from every other on this machine."""
    return f"{status.st_dev}:{status.st_ino}"


def _magic(url: str) -> bool:
    file = remote.RemoteFile(url, _MAGIC_BYTES)
    return file.read_at(0, _MAGIC_BYTES).startswith(MAGICS)


def _identity(file: File | BadLine | None) -> str:
    return file.identity if isinstance(file, File) else ""


def _bad(path: Path, error: OSError) -> BadLine:
    return BadLine(str(path), 0, 0, error.strerror or str(error))
