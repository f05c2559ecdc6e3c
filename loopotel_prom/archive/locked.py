"""A file and the lock beside it, both kept open from one append to the next."""

import errno
import fcntl
import os
import stat
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

_CLOEXEC = os.O_CLOEXEC
# Non-blocking, so that a FIFO in a file's place is an error and no trap.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
# What opening says of a link, a socket and a folder.
_IRREGULAR = {errno.ELOOP, errno.ENXIO, errno.EISDIR}
_FIRST_PAUSE_SECONDS = 0.00005
_LONGEST_PAUSE_SECONDS = 0.001
_SYNC_SECONDS = 60.0


class _Kept:
    """A descriptor that stays open, and the file that it was opened on."""

    def __init__(self, path: Path) -> None:
        try:
            self.fd = os.open(path, _FLAGS | _CLOEXEC, 0o600)
        except OSError as error:
            if error.errno in _IRREGULAR:
                raise OSError(error.errno, "not a regular file") from None
            raise
        status = os.fstat(self.fd)
        self._device, self._inode = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode):
            os.close(self.fd)
            raise OSError(errno.EINVAL, "not a regular file")

    def status(self) -> os.stat_result | None:
        """Look at the file; None if the descriptor has become someone else's."""
        try:
            status = os.fstat(self.fd)
        except OSError:
            return None
        return status if self.is_on(status) else None

    def is_on(self, status: os.stat_result) -> bool:
        """Tell whether this is the file that the status is of."""
        return status.st_ino == self._inode and status.st_dev == self._device

    def is_at(self, path: Path) -> bool:
        """Tell whether this is the file of that name."""
        try:
            # Not by way of Path: half of what an append costs is looking.
            return self.is_on(os.stat(path, follow_symlinks=False))  # noqa: PTH116
        except FileNotFoundError:
            return False

    def close(self) -> None:
        # Some programs close all descriptors there are; the number, used again,
        # is not ours to close.
        if self.status():
            os.close(self.fd)


class KeptFile(_Kept):
    """
    The file itself, and how much of it is known to be on disk.

    It stays open for the sake of syncs too: the kernel tells of a failed write
    to those alone who had the file open when it failed.

    Attributes:
        fd: Open for appending.
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
        """Something that this process wrote is not known to be on disk."""
        return self._synced < self.written

    def sync(self) -> None:
        """
        Bring the file to the disk, and its name; thread-safe.

        Raises:
            OSError: It is not known to be there, and never will be: a sync that
                failed is not repeated and believed.
        """
        if not self._syncing.acquire(timeout=_SYNC_SECONDS):
            raise TimeoutError(errno.ETIMEDOUT, "another thread's sync has not ended")
        try:
            if self._is_bad or not self.status():
                raise OSError(errno.EIO, "an earlier sync failed")
            written = self.written
            self._is_bad = True
            os.fdatasync(self.fd)
            if self._folder:
                sync_folder(self._folder)
            self._is_bad, self._folder = False, None
            self._synced = written
        finally:
            self._syncing.release()


class LockedFile:
    """
    One file, and ``flock`` on ``NAME.lock`` beside it, which is never removed.

    Between `acquire` and `release` no other thread and no other process that
    uses this class writes to the file, and the descriptors are those of the files
    that have these names now. All who name the same path in one process share one
    of these (`of`): threads wait for each other without polling.

    A child of a fork opens both anew: a lock belongs to all who have the file
    open, and the child would hold it for as long as it lives.

    Attributes:
        kept: The file; None before the first `acquire`.
        size: Bytes in it when it was acquired.
        begun: When its first line was written, Unix seconds: the time of change of
            the lock file, which is set then and survives a restart.
        failure: A sync that failed when nobody could be told.
    """

    def __init__(self, path: Path) -> None:
        self._start_anew()
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        self.size = 0
        self.begun = 0.0

    @staticmethod
    def of(path: Path) -> "LockedFile":
        """Give the one of this path; thread-safe."""
        with _guard:
            found = _all.get(path)
            if found is None:
                found = _all[path] = LockedFile(path)
            return found

    def acquire(self, seconds: float) -> KeptFile:
        """
        Wait for the lock, make sure of both files, and make what is missing.

        Raises:
            OSError: `TimeoutError` after so many seconds; EDEADLK if this very
                thread has it, and a signal handler asks; or a file cannot be
                opened, or is none.
        """
        deadline = time.monotonic() + seconds
        self._enter(seconds)
        try:
            while True:
                self._flock(deadline, seconds)
                kept = self._opened()
                if kept:
                    return kept
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others have it."""
        if not self._is_held:
            return  # forked meanwhile, in this very thread
        try:
            if self._lock:
                fcntl.flock(self._lock.fd, fcntl.LOCK_UN)
        finally:
            self._leave()

    def begin(self) -> None:
        """Note that the file's first line is being written, while it is held."""
        if self._lock:
            os.utime(self._lock.fd)
            self.begun = time.time()

    def close(self, seconds: float) -> None:
        """
        Give the descriptors back; the next `acquire` opens anew.

        Raises:
            OSError: As `acquire`.
        """
        self._enter(seconds)
        try:
            self._close_file()
            self._close_lock()
        finally:
            self._leave()

    def start_anew(self) -> None:
        """Take no part in what the parent has open; for a child of a fork."""
        self._drop()
        self._start_anew()

    def __del__(self) -> None:
        self._drop()

    def _start_anew(self) -> None:
        # Re-entrant, so that a signal handler finds out that its own thread has it.
        self._threads = threading.RLock()
        self._is_held = False
        self._lock: _Kept | None = None
        self.kept: KeptFile | None = None
        self.failure: OSError | None = None

    def _drop(self) -> None:
        for kept in (self.kept, self._lock):
            if kept:
                with suppress(OSError):
                    kept.close()

    def _enter(self, seconds: float) -> None:
        if not self._threads.acquire(timeout=seconds):
            raise TimeoutError(
                errno.ETIMEDOUT, f"another thread has held the lock for {seconds:g} s"
            )
        if self._is_held:
            self._threads.release()
            raise OSError(errno.EDEADLK, "this thread is appending already")
        self._is_held = True

    def _leave(self) -> None:
        self._is_held = False
        self._threads.release()

    def _flock(self, deadline: float, seconds: float) -> None:
        """Lock the lock file, opened anew if it was removed."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            lock = self._present_lock()
            try:
                fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        errno.ETIMEDOUT,
                        f"another process has held the lock for {seconds:g} s",
                    ) from None
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                return

    def _present_lock(self) -> _Kept:
        status = self._lock.status() if self._lock else None
        if self._lock is None or status is None or not status.st_nlink:
            self._close_lock()
            self._lock = _opened_lock(self._lock_path)
            status = os.fstat(self._lock.fd)
        self.begun = status.st_mtime
        return self._lock

    def _opened(self) -> KeptFile | None:
        """Give the present file; None if the lock was that of a moved folder."""
        kept = self.kept
        status = kept.status() if kept else None
        if kept and status and kept.is_at(self.path):
            self.size = status.st_size
            return kept
        if self._lock and not self._lock.is_at(self._lock_path):
            self._close_lock()
            return None
        self._close_file()
        self.kept = kept = KeptFile(self.path)
        self.size = os.fstat(kept.fd).st_size
        return kept

    def _close_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock and lock.status():
            # Not by closing alone: a child forked just now has it open too.
            fcntl.flock(lock.fd, fcntl.LOCK_UN)
            os.close(lock.fd)

    def _close_file(self) -> None:
        """Close a file that was rotated or removed; the last chance to sync it."""
        if not self.kept:
            return
        if self.kept.is_dirty:
            try:
                self.kept.sync()
            except OSError as error:
                self.failure = error
        kept, self.kept = self.kept, None
        kept.close()


def make_folder(folder: Path) -> None:
    """
    Make a folder, private, and those above it, and bring them to the disk.

    Raises:
        OSError: It cannot be made.
    """
    made = [above for above in (folder, *folder.parents) if not above.exists()]
    if folder in made:
        # Traces hold what agents were told; nobody else's business.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in made:
        # A folder may be open to writing alone; then it cannot be synced.
        with suppress(PermissionError):
            sync_folder(one.parent)


def sync_folder(folder: Path) -> None:
    """
    Bring a folder's names to the disk.

    Raises:
        OSError: It cannot be known that they are there.
    """
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _opened_lock(path: Path) -> _Kept:
    try:
        return _Kept(path)
    except FileNotFoundError:
        make_folder(path.parent)
        return _Kept(path)


_guard = threading.Lock()
_all: weakref.WeakValueDictionary[Path, LockedFile] = weakref.WeakValueDictionary()


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread of the parent may have held it
    _guard = threading.Lock()
    for file in list(_all.values()):
        file.start_anew()


os.register_at_fork(after_in_child=_after_fork)
