"""The sealed file: one LTF document a line, appended whole under a lock."""

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path

from loopotel_prom.archive import failpoint, layout
from loopotel_prom.archive.folders import make_folder, sync_folder
from loopotel_prom.archive.kept import KeptFile
from loopotel_prom.archive.locked import LockedFile
from loopotel_prom.archive.long_document import write_document
from loopotel_prom.errors import ArchiveError

# An append takes microseconds; who holds the lock this long has stopped.
LOCK_SECONDS = 5.0
# Nobody is to wait for the lock while more than this is written.
LONG_BYTES = layout.LONG_BYTES

_HINT = "check its folder, the space on its disk and its permissions"


class SealedFile:
    """
    A JSON-lines file that any number of processes may append to.

    A line is written whole while a lock file beside it (``NAME.lock``, never
    removed) is held. A line that a dead writer left torn is closed off first, so
    that it spoils no other; a write that fails is taken back. A link, or anything
    else that is no regular file, is refused in the place of either.

    Thread-safe; fit for fork. Two descriptors stay open until `close`.

    With a limit it is an archive's: a file beyond one of them is renamed to a name
    of its own after an append (`layout.rotated_name`), and a document of more than
    16 MiB gets such a file to itself, compressed.

    Args:
        path: The file; it and its folder are made when first needed.
        rotate_bytes: Rotate a file that is larger; None: never for that.
        rotate_seconds: Rotate a file that was begun longer ago. When that was is
            the time of change of the lock file, so it survives a restart.
    """

    def __init__(
        self,
        path: Path,
        *,
        rotate_bytes: int | None = None,
        rotate_seconds: float | None = None,
    ) -> None:
        self.path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        self._rotates = rotate_bytes is not None or rotate_seconds is not None
        self._file = LockedFile.of(path)
        self._told = self._file.failures

    def append(
        self, line: bytes, *, sync: bool = False, lock_seconds: float = LOCK_SECONDS
    ) -> None:
        """
        Add one line; `line` itself holds no newline.

        On return the line outlives this process; with `sync`, power loss.

        Raises:
            ArchiveError: The write failed, and the file is as it was before. Or,
                with `sync`, the line is written and not known to be on disk. In
                either case it is to be appended again; the second, as with the
                method `sync`, concerns lines before it too. `errno` is the
                system's; ETIMEDOUT if the lock could not be had.
        """
        if len(line) > LONG_BYTES:
            self._append_long((line,), sync=sync, lock_seconds=lock_seconds)
        else:
            self._append((line + b"\n",), sync=sync, lock_seconds=lock_seconds)

    def append_pieces(
        self,
        pieces: Iterable[bytes],
        *,
        sync: bool = False,
        lock_seconds: float = LOCK_SECONDS,
    ) -> None:
        """
        Add one line, given in pieces; no more than 16 MiB of it are held.

        Without a limit, what is longer is written under the lock as it comes.

        Raises:
            ArchiveError: As `append`.
            Exception: What the pieces raised; the file is as it was before.
        """
        rest = iter(pieces)
        head, size = _head(rest)
        if size > LONG_BYTES:
            self._append_long(chain(head, rest), sync=sync, lock_seconds=lock_seconds)
        else:
            self.append(b"".join(head), sync=sync, lock_seconds=lock_seconds)

    def sync(self) -> None:
        """
        Bring the file to the disk, and all that this process has appended.

        That of others too, if it is in the present file. Holds up no append.

        Raises:
            ArchiveError: What was appended since the last good sync is not known
                to be on disk, and is to be appended again. With a limit, the file
                was rotated away: a sync that failed is not repeated and believed.
        """
        try:
            kept = self._file.present(LOCK_SECONDS)
            if kept:
                self._sync(kept)
            # Last: files that were switched meanwhile are counted in it.
            if self._told != self._file.failures:
                raise self._file.failure or OSError(errno.EIO, "a sync failed")
        except OSError as error:
            self._told = self._file.failures
            raise self._error("sync", error) from error

    def rotate(self, *, lock_seconds: float = LOCK_SECONDS) -> bool:
        """
        Give the file a name of its own, now; False if it is empty or absent.

        Raises:
            ArchiveError: It cannot be renamed. Or it was, and is not known to be on
                disk: as `sync`.
        """
        try:
            if not self.path.exists():
                return False
            kept = self._file.acquire(lock_seconds)
            try:
                if not self._file.size:
                    return False
                self._rotate(kept)
            finally:
                self._file.release()
        except OSError as error:
            self._told = self._file.failures
            raise self._error("rotate", error) from error
        return True

    def prepare(self) -> None:
        """
        Make the folder, and see that the file can be one.

        Raises:
            OSError: Something else is in its place.
        """
        make_folder(self.path.parent)
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise OSError(errno.EINVAL, "not a regular file")

    def close(self) -> None:
        """
        Give the descriptors back; an append later opens the files anew.

        Raises:
            ArchiveError: Another thread has been appending for too long.
        """
        try:
            self._file.close(LOCK_SECONDS)
        except OSError as error:
            raise self._error("close", error) from error

    def _error(self, verb: str, error: OSError) -> ArchiveError:
        return ArchiveError(
            f"cannot {verb}: {error.strerror or error}",
            path=str(self.path),
            hint=_HINT,
            errno=error.errno,
        )

    def _append(
        self, pieces: Iterable[bytes], *, sync: bool, lock_seconds: float
    ) -> None:
        file = self._file
        try:
            kept = file.acquire(lock_seconds)
            try:
                failpoint.reach("append.locked")
                self._write(kept, pieces)
                failpoint.reach("append.written")
                if sync:
                    self._sync_held(kept)
                if self._rotates and self._is_due():
                    # The line is there: `sync` tells of a sync that failed. A file
                    # that cannot be renamed grows; the next append tries again.
                    with suppress(OSError):
                        self._rotate(kept)
            finally:
                file.release()
        except OSError as error:
            raise self._error("append", error) from error

    def _write(self, kept: KeptFile, pieces: Iterable[bytes]) -> None:
        size = self._file.size
        if size == 0:
            self._file.begin()
        elif size != kept.end and os.pread(kept.fd, 1, size - 1) != b"\n":
            pieces = chain((b"\n",), pieces)
        end = size
        try:
            for piece in pieces:
                end += _write_all(kept.fd, piece)
        except BaseException:
            # Where even that fails, the next one closes off what is torn.
            with suppress(OSError):
                os.ftruncate(kept.fd, size)
            raise
        self._file.size = kept.end = end
        kept.written += 1

    def _append_long(
        self, pieces: Iterable[bytes], *, sync: bool, lock_seconds: float
    ) -> None:
        if not self._rotates:
            pieces = chain(pieces, (b"\n",))
            self._append(pieces, sync=sync, lock_seconds=lock_seconds)
            return
        try:
            write_document(self.path.parent, pieces)
        except OSError as error:
            raise self._error("append", error) from error

    def _is_due(self) -> bool:
        size, age = self._rotate_bytes, self._rotate_seconds
        if size is not None and self._file.size > size:
            return True
        return age is not None and time.time() - self._file.begun > age

    def _rotate(self, kept: KeptFile) -> None:
        """Rename the file that is held, whether or not it could be synced."""
        try:
            # First, so that what has a final name is complete.
            self._file.sync(kept)
        finally:
            failpoint.reach("rotate.synced")
            self._rename()

    def _rename(self) -> None:
        self.path.rename(self.path.with_name(layout.rotated_name()))
        failpoint.reach("rotate.renamed")
        sync_folder(self.path.parent)

    def _sync_held(self, kept: KeptFile) -> None:
        try:
            self._file.sync(kept)
        except OSError:
            self._told = self._file.failures
            if self._rotates:
                with suppress(OSError):
                    self._rename()
            raise
        failpoint.reach("append.synced")

    def _sync(self, kept: KeptFile) -> None:
        try:
            self._file.sync(kept)
        except OSError:
            if self._rotates:
                with suppress(OSError):
                    self._put_away(kept)
            raise

    def _put_away(self, bad: KeptFile) -> None:
        """Rename a file that could not be synced, unless someone else did."""
        self._file.acquire(LOCK_SECONDS)
        try:
            if bad.is_at(str(self.path)):
                self._rename()
        finally:
            self._file.release()


def _head(pieces: Iterator[bytes]) -> tuple[list[bytes], int]:
    """Take pieces until they are more than are held, or there are no more."""
    head, size = [], 0
    for piece in pieces:
        head.append(piece)
        size += len(piece)
        if size > LONG_BYTES:
            break
    return head, size


def _write_all(file: int, data: bytes) -> int:
    if failpoint.is_armed("append.half"):
        os.write(file, data[: len(data) // 2])
        failpoint.reach("append.half")
    written = os.write(file, data)
    while written < len(data):
        # A disk that fills up, or a limit, cuts a write short first.
        written += os.write(file, memoryview(data)[written:])
    return written
