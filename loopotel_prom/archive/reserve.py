"""The reserve: space on the disk that is kept for the sealing of runs."""

import contextlib
import os
from pathlib import Path

RESERVE_BYTES = 256 * 1024
# Not taken from a disk that has next to nothing.
_TIMES_FREE = 8


class Reserve:
    """
    A file of some size, shared by the processes of an archive.

    Args:
        path: Where it is; its folder is made when it is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Take the space if nobody has, and there is plenty. Never raises."""
        with contextlib.suppress(OSError):
            if self._path.exists():
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < RESERVE_BYTES * _TIMES_FREE:
                return
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(self._path, flags, 0o600)
            try:
                os.posix_fallocate(file, 0, RESERVE_BYTES)
            except OSError:
                self._path.unlink()
                raise
            finally:
                os.close(file)

    def release(self) -> bool:
        """Let go of the space; True if there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
