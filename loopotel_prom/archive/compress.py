"""
Compressing what is complete, without a moment at which it is lost.

A sealed file that was rotated, or a document while it is written. Either copy gets
its name once it is on disk, was read back, and is equal to what was given.
"""

import errno
import fcntl
import hashlib
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from loopotel_prom.archive import failpoint, layout
from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.errors import ArchiveError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# To a fourteenth, 600 MB a second. Level 9 makes traces a fifth smaller for eight
# times the time, and the time is that of the process that runs the loop.
LEVEL = 3
# A tenth larger in half the time: someone waits for a document to be written.
DOCUMENT_LEVEL = -1

_CHUNK_BYTES = 1024 * 1024
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def compress(path: Path) -> Path | None:
    """
    Replace a file by ``NAME.zst``, once that has been read back and found equal.

    Memory stays constant. A crash leaves the file, or its copy, or both; done again
    it ends in the same state. One process does it: None if another is at it, or
    the file is gone.

    Raises:
        ArchiveError: It failed, or the copy differs; the file is as it was, and
            of the copy nothing is left.
    """
    try:
        with _claimed(path) as plain:
            return None if plain is None else _compress(path, plain)
    except (OSError, zstd.ZstdError) as error:
        raise ArchiveError(
            f"cannot compress: {getattr(error, 'strerror', None) or error}",
            path=str(path),
            hint="the file itself is whole; check the disk and the space on it",
            errno=getattr(error, "errno", None),
        ) from error


def write_document(copy: Path, pieces: Iterable[bytes]) -> None:
    """
    Write a new ``NAME.zst``, complete and on disk when it gets that name.

    Memory stays constant. A crash leaves nothing of that name.

    Raises:
        OSError: It failed, or what was read back differs; nothing is left.
        Exception: What the pieces raised; likewise.
    """
    _write_verified(copy, pieces, "long", _Document, _compressor(DOCUMENT_LEVEL))
    failpoint.reach("long.renamed")


class _Content(Protocol):
    """What was given, and what is read back: `told` must be equal."""

    def add(self, chunk: bytes) -> bytes: ...
    def told(self) -> tuple[object, ...]: ...


class _File(_Content):
    """That of a file."""

    def __init__(self) -> None:
        self._size = self._lines = 0
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        self._lines += chunk.count(b"\n")
        self._digest.update(chunk)
        return chunk

    def told(self) -> tuple[object, ...]:
        return self._size, self._lines, self._digest.hexdigest()


class _Document(_Content):
    """That of a document: with the frame's own checksum enough, at a sixth of it."""

    def __init__(self) -> None:
        self._size = self._crc = 0

    def add(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        self._crc = zlib.crc32(chunk, self._crc)
        return chunk

    def told(self) -> tuple[object, ...]:
        return self._size, self._crc


@contextmanager
def _claimed(path: Path) -> Iterator[BinaryIO | None]:
    """Open and lock the file; None if it is another's, or gone."""
    try:
        descriptor = _opened(path)
    except FileNotFoundError:
        yield None
        return
    with os.fdopen(descriptor, "rb", buffering=0) as plain:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            # Its last owner may have removed it between our two steps.
            yield plain if _is_at(path, descriptor) else None
        finally:
            # Not by closing alone: a child forked just now has it open too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _opened(path: Path) -> int:
    descriptor = os.open(path, _PLAIN)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _compress(path: Path, plain: BinaryIO) -> Path:
    copy = path.with_name(path.name + layout.COMPRESSED)
    chunks = iter(lambda: plain.read(_CHUNK_BYTES), b"")
    size = os.fstat(plain.fileno()).st_size
    _write_verified(copy, chunks, "compress", _File, _compressor(LEVEL, size))
    failpoint.reach("compress.renamed")
    path.unlink()
    sync_folder(path.parent)
    return copy


def _write_verified(
    copy: Path,
    chunks: Iterable[bytes],
    step: str,
    new_content: Callable[[], _Content],
    compressor: zstd.ZstdCompressor,
) -> None:
    unfinished = copy.with_name(copy.name + layout.UNFINISHED)
    try:
        given = new_content()
        _write((given.add(chunk) for chunk in chunks), unfinished, step, compressor)
        failpoint.reach(f"{step}.written")
        _verify(unfinished, given, new_content())
        failpoint.reach(f"{step}.verified")
        unfinished.rename(copy)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(copy.parent)


def _compressor(level: int, size: int | None = None) -> zstd.ZstdCompressor:
    options: dict[int, int] = {
        zstd.CompressionParameter.compression_level: level,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.content_size_flag: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    compressor.set_pledged_input_size(size)
    return compressor


def _write(
    chunks: Iterable[bytes],
    unfinished: Path,
    step: str,
    compressor: zstd.ZstdCompressor,
) -> None:
    """Write the copy; it is on disk when this returns."""
    descriptor = os.open(unfinished, _NEW, 0o600)
    with os.fdopen(descriptor, "wb") as copy:
        # Recovery removes what is unfinished and not locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for chunk in chunks:
            copy.write(compressor.compress(chunk))
            failpoint.reach(f"{step}.half")
        copy.write(compressor.flush())
        copy.flush()
        os.fsync(descriptor)


def _verify(unfinished: Path, given: _Content, found: _Content) -> None:
    try:
        with zstd.open(unfinished, "rb") as copy:
            while chunk := copy.read(_CHUNK_BYTES):
                found.add(chunk)
    except (EOFError, zstd.ZstdError) as error:
        raise OSError(errno.EIO, f"the copy, read back, is damaged: {error}") from error
    if found.told() != given.told():
        raise OSError(errno.EIO, "the copy, read back, differs")
