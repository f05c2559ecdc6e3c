"""A file and the lock beside it, both kept open from one append to the next."""

import errno
import fcntl
import os
import threading
import time
import weakref
from contextlib import suppress
from pathlib import Path

from loopotel_prom.archive.folders import make_folder
from loopotel_prom.archive.kept import Kept, KeptFile

_AT_ONCE = fcntl.LOCK_EX | fcntl.LOCK_NB
_FIRST_PAUSE_SECONDS = 0.00005
_LONGEST_PAUSE_SECONDS = 0.001
# A lock file that was removed is noticed as quickly as this.
_LOOK_SECONDS = 1.0


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
        failures: Counts the syncs that failed: each of those who share this is to
            be told of each.
        failure: The latest of them.
    """

    def __init__(self, path: Path) -> None:
        self._lock: Kept | None = None
        self.kept: KeptFile | None = None
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")
        # Half of what an append costs is looking, and a Path makes that dearer.
        self._name, self._lock_name = str(self.path), str(self._lock_path)
        self.size = 0
        self.begun = 0.0
        self.failures = 0
        self.failure: OSError | None = None
        self._start_anew()

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

    def present(self, seconds: float) -> KeptFile | None:
        """
        Give the file of that name, without the lock; None if there is none.

        Raises:
            OSError: As `acquire`, but waiting for threads alone.
        """
        if self.kept and self.kept.is_at(self._name):
            return self.kept
        self._enter(seconds)
        try:
            self._close_file()
            if self.path.exists():
                self.kept = KeptFile(self.path)
            return self.kept
        finally:
            self._leave()

    def sync(self, kept: KeptFile) -> None:
        """
        Bring the file to the disk.

        Raises:
            OSError: It failed, and is counted.
        """
        try:
            kept.sync()
        except OSError as error:
            self.failure = error
            self.failures += 1
            raise

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
        self._lock = self.kept = None
        self._look_at = 0.0

    def _drop(self) -> None:
        for kept in (self.kept, self._lock):
            if kept:
                with suppress(OSError):
                    # Without waiting: a thread of the parent was syncing, perhaps.
                    kept.drop()

    def _enter(self, seconds: float) -> None:
        if not self._threads.acquire(True, seconds):
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
                fcntl.flock(lock.fd, _AT_ONCE)
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

    def _present_lock(self) -> Kept:
        lock, now = self._lock, time.monotonic()
        if not (self.kept and self.kept.status()):
            # Someone closed it, and with all others the lock's, it may be.
            self._close_file()
        elif lock and now < self._look_at:
            return lock
        status = lock.status() if lock else None
        if lock is None or status is None or not status.st_nlink:
            self._close_lock()
            self._lock = lock = _opened_lock(self._lock_path)
        self._look_at = now + _LOOK_SECONDS
        return lock

    def _opened(self) -> KeptFile | None:
        """Give the present file; None if the lock was that of a moved folder."""
        kept, lock = self.kept, self._lock
        size = kept.size_at(self._name) if kept else None
        if kept and size is not None:
            self.size = size
            return kept
        if lock is None or not lock.is_at(self._lock_name):
            self._close_lock()
            return None
        self._close_file()
        self.kept = kept = KeptFile(self.path)
        self.size = os.fstat(kept.fd).st_size
        self.begun = os.fstat(lock.fd).st_mtime
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
            with suppress(OSError):  # it is counted
                self.sync(self.kept)
        kept, self.kept = self.kept, None
        kept.close()


def _opened_lock(path: Path) -> Kept:
    try:
        return Kept(path)
    except FileNotFoundError:
        make_folder(path.parent)
        return Kept(path)


_guard = threading.Lock()
_all: weakref.WeakValueDictionary[Path, LockedFile] = weakref.WeakValueDictionary()


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread of the parent may have held it
    _guard = threading.Lock()
    for file in list(_all.values()):
        file.start_anew()


os.register_at_fork(after_in_child=_after_fork)
