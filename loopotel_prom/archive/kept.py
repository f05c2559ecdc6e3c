"""Files that are kept open: refused unless regular, known again, and synced."""

import errno
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopotel_prom.archive.folders import sync_folder

# Non-blocking, so that a FIFO in a file's place is an error and no trap.
_FLAGS = (
    os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)
# What opening says of a link, a socket and a folder.
_IRREGULAR = {errno.ELOOP, errno.ENXIO, errno.EISDIR}
_SYNC_SECONDS = 60.0


class Kept:
    """A descriptor that stays open, and the file that it was opened on."""

    def __init__(self, path: Path) -> None:
        try:
            self.fd = os.open(path, _FLAGS, 0o600)
        except OSError as error:
            if error.errno in _IRREGULAR:
                raise OSError(error.errno, "not a regular file") from None
            raise
        status = os.fstat(self.fd)
        self._inode, self._device = status.st_ino, status.st_dev
        if not stat.S_ISREG(status.st_mode):
            os.close(self.fd)
            raise OSError(errno.EINVAL, "not a regular file")

    def status(self) -> os.stat_result | None:
        """Look at the file; None if the descriptor has become someone else's."""
        try:
            status = os.fstat(self.fd)
        except OSError:
            return None
        return status if self._is_on(status) else None

    def _is_on(self, status: os.stat_result) -> bool:
        return status.st_ino == self._inode and status.st_dev == self._device

    def size_at(self, path: str) -> int | None:
        """Give its size in bytes; None if it is not the file of that name."""
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        return status.st_size if self._is_on(status) else None

    def is_at(self, path: str) -> bool:
        """Tell whether this is the file of that name."""
        return self.size_at(path) is not None

    def drop(self) -> None:
        """Let go of it at once."""
        # Some programs close all descriptors there are; the number, used again,
        # is not ours to close.
        if self.status():
            os.close(self.fd)


class KeptFile(Kept):
    """
    The file itself, and how much of it is known to be on disk.

    It stays open for the sake of syncs too: the kernel tells of a failed write
    to those alone who had the file open when it failed.

    Attributes:
        fd: Open for appending; -1 once it is closed.
        end: Up to here it is known to consist of whole lines.
        written: Counts the writes of this process.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.end = -1
        self.written = 0
        self._synced = 0
        self._folder: Path | None = path.parent
        self._is_bad = False
        self._syncing = threading.Lock()

    @property
    def is_dirty(self) -> bool:
        """Something that this process wrote since the last sync, good or bad."""
        return self._synced < self.written

    def sync(self) -> None:
        """
        Bring the file to the disk, and its name, unless it is closed; thread-safe.

        Raises:
            OSError: It is not known to be there, and never will be: a sync that
                failed is not repeated and believed.
        """
        with self._exclusive():
            if self.fd < 0:
                return
            if self._is_bad:
                raise OSError(errno.EIO, "an earlier sync failed")
            self._synced, self._is_bad = self.written, True
            if not self.status():
                raise OSError(errno.EBADF, "its descriptor was closed by others")
            os.fdatasync(self.fd)
            if self._folder:
                sync_folder(self._folder)
            self._is_bad, self._folder = False, None

    def close(self) -> None:
        """Let go of it, once a sync under way has ended."""
        with self._exclusive():
            self.drop()
            self.fd = -1

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._syncing.acquire(timeout=_SYNC_SECONDS):
            raise TimeoutError(errno.ETIMEDOUT, "another thread's sync has not ended")
        try:
            yield
        finally:
            self._syncing.release()
