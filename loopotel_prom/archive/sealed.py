"""The sealed file: one LTF document a line, appended whole under a lock."""

import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loopotel_prom.errors import ArchiveError

_CLOEXEC = os.O_CLOEXEC
# An append takes microseconds; who holds the lock this long has stopped.
LOCK_SECONDS = 5.0
_POLL_SECONDS = 0.001


class _Held(threading.local):
    """The files that this thread is appending to."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()


_held = _Held()

# Open lock files of this process. A lock belongs to all who have the file open, so
# a child forked during an append would hold it for as long as it lives.
_locks: set[int] = set()


def _after_fork() -> None:
    while _locks:
        os.close(_locks.pop())


os.register_at_fork(after_in_child=_after_fork)


class SealedFile:
    """
    A JSON-lines file that any number of processes may append to.

    A line is written whole while a lock file beside it (``NAME.lock``, never
    removed) is held. A line that a dead writer left torn is closed off first, so
    that it spoils no other; a write that fails is taken back.

    Thread-safe. Nothing is kept open between two appends, and a child forked
    during one does not hold the lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_name(path.name + ".lock")

    def append(self, line: bytes) -> None:
        """
        Add one line; `line` itself holds no newline.

        On return the line outlives this process.

        Raises:
            ArchiveError: The write failed; the file is as it was before.
        """
        if self.path in _held.paths:
            # A signal handler, inside an append of this very thread.
            raise self._error("this thread is appending already")
        try:
            self.prepare()
            with self._locked(), self._opened() as file:
                _append(file, line + b"\n")
        except OSError as error:
            raise self._error(error.strerror or str(error)) from error

    def prepare(self) -> None:
        """
        Make the folder, and see that the file can be one.

        Raises:
            OSError: Something else is in its place.
        """
        folder = self.path.parent
        if not folder.is_dir():
            # Traces hold what agents were told; nobody else's business.
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.path.exists() and not self.path.is_file():
            raise OSError(None, "not a regular file")

    def _error(self, reason: str) -> ArchiveError:
        return ArchiveError(
            f"cannot append: {reason}",
            path=str(self.path),
            hint="check its folder, the space on its disk and its permissions",
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | _CLOEXEC
        lock = os.open(self._lock_path, flags, 0o600)
        _locks.add(lock)
        _held.paths.add(self.path)
        try:
            _wait_for(lock)
            yield
        finally:
            _held.paths.discard(self.path)
            # Not by closing: a child may have been forked before _locks knew of it.
            fcntl.flock(lock, fcntl.LOCK_UN)
            _locks.discard(lock)
            os.close(lock)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        # Non-blocking, so that a FIFO in the file's place is an error, no trap.
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | _CLOEXEC
        file = os.open(self.path, flags, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(None, "not a regular file")
            yield file
        finally:
            os.close(file)


def _wait_for(lock: int) -> None:
    """Take the lock; a loop at its end must not wait for ever."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise OSError(
                    None, f"another process has held the lock for {LOCK_SECONDS:g} s"
                ) from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _append(file: int, line: bytes) -> None:
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        line = b"\n" + line
    rest = memoryview(line)
    try:
        while rest:
            # A disk that fills up, or a limit, cuts a write short first.
            rest = rest[os.write(file, rest) :]
    except OSError:
        os.ftruncate(file, size)
        raise
