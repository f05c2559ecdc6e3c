"""
The file of a shard, found again: under its name, or under the one that it got.

Between plan and reading a file may be rotated, compressed, rewritten or removed. What
is read is what was planned, or nothing, and then that is said.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from loopotel_prom.archive.files import RegularFile
from loopotel_prom.archive.layout import COMPRESSED
from loopotel_prom.archive.remote import RemoteFile, find
from loopotel_prom.engine.plan import identity_of
from loopotel_prom.engine.shard import File, Shard
from loopotel_prom.errors import ArchiveError
from loopotel_prom.zstandard import zstd

ReadAt: TypeAlias = Callable[[int, int], bytes]
# How to read the file, and its size if that is another than was planned.
Opened: TypeAlias = tuple[ReadAt, int]
Held: TypeAlias = Mapping[str, RegularFile]

GONE = "it was removed or rewritten while it was to be read; do it again"

# More than the longest header of a frame.
_HEADER_BYTES = 64


class GoneError(Exception):
    """The file is not to be had, here at least."""


@contextmanager
def opened(shard: Shard, held: Held) -> Iterator[Opened]:
    """
    Open the file of a shard.

    Args:
        shard: The shard.
        held: Files that this process holds open, by their identity.

    Raises:
        GoneError: What was planned is not there any more.
        OSError: It is, and cannot be read.
    """
    if shard.file.is_remote:
        yield _remote(shard.file, shard.end)
        return
    with ExitStack() as stack:
        held_file = held.get(shard.file.identity)
        file, is_it = (held_file, True) if held_file else _found(shard)
        if not held_file:
            stack.enter_context(file)
        if is_it:
            yield partial(_read_at, file), shard.file.size or 0
        elif shard.is_whole:
            yield partial(_read_at, file), file.status().st_size
        else:
            yield partial(_read_at, _unpacked(file, shard, stack)), shard.file.size or 0


def _remote(file: File, end: int) -> Opened:
    try:
        found = find(file.place)
    except ArchiveError as error:
        if error.errno == errno.ENOENT:
            raise GoneError from error
        raise
    if found is None or (found.size, found.mark) != (file.size, file.identity):
        raise GoneError
    return RemoteFile(file.place, end).read_at, found.size


def _found(shard: Shard) -> tuple[RegularFile, bool]:
    """Find the file, or what is as good; tell which of the two it is."""
    for path in _names(shard):
        try:
            file = RegularFile(path)
        except FileNotFoundError:
            continue
        is_it = _is(file, path, shard.file)
        if is_it or _is_as_good(file, path, shard):
            return file, is_it
        file.close()
    raise GoneError


def _names(shard: Shard) -> Iterator[Path]:
    """Name what may be the file, or a copy of it, the likeliest first."""
    path = Path(shard.file.place)
    yield path
    with suppress(FileNotFoundError), os.scandir(path.parent) as entries:
        inode = shard.file.identity.partition(":")[2]
        yield from (Path(e.path) for e in entries if str(e.inode()) == inode)
    yield path.with_name(path.name + COMPRESSED)
    if path.suffix == COMPRESSED:
        yield path.with_suffix("")  # unpacked, to be rewritten


def _is_as_good(file: RegularFile, path: Path, shard: Shard) -> bool:
    """Tell whether it holds the same lines, though it is another file."""
    if shard.file.is_active:
        return False
    if shard.is_whole:
        return True
    if path.suffix != COMPRESSED:
        return False
    with suppress(zstd.ZstdError):
        header = os.pread(file.fileno(), _HEADER_BYTES, 0)
        return zstd.get_frame_info(header).decompressed_size == shard.file.size
    return False


def _is(file: RegularFile, path: Path, planned: File) -> bool:
    status = file.status()
    size = planned.size or 0
    if identity_of(status) != planned.identity or status.st_size < size:
        return False
    if planned.is_active:
        return True  # it is held open, so that none else can have its inode
    # What was removed may have left its inode to another file.
    if status.st_size == size:
        return status.st_mtime_ns == planned.changed_ns
    return str(path) == planned.place


def _unpacked(file: RegularFile, shard: Shard, stack: ExitStack) -> BinaryIO:
    unpacked = stack.enter_context(zstd.ZstdFile(file))
    unpacked.seek(max(shard.begin - 1, 0))
    return cast("BinaryIO", unpacked)


def _read_at(file: BinaryIO | RegularFile, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size) or b""
