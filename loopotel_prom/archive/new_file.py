"""Files that are there when they are complete, or not at all."""

import errno
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

_LEFT = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class NamedFile(io.FileIO):
    """A file whose errors say which it was: those of writing do not."""

    def write(self, data: Any, /) -> int:
        """Write some of it, and tell how much."""
        with _naming(self.name):
            return super().write(data)

    def sync(self) -> None:
        """Bring what is written to the disk."""
        with _naming(self.name):
            os.fsync(self.fileno())


@contextmanager
def new_file(path: Path, *, mode: int = 0o600) -> Iterator[BinaryIO]:
    """
    Write a file, which takes its name when the block ends well, or never.

    Another that has the name is replaced; a link is, too. The content is then on disk,
    the name once its folder is synced. Until then it is ``.NAME.unfinished``, locked,
    so that what a killed process left is known, and removed, by the next that writes.

    Args:
        path: The file; its folder is there.
        mode: Its permissions, less the process's umask.

    Raises:
        BlockingIOError: Another process is writing it.
        OSError: Writing failed; what had the name has it still.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    with (
        suppress(FileNotFoundError),
        NamedFile(unfinished, opener=lambda *_: os.open(unfinished, _LEFT)) as left,
    ):
        _claim(left)
        unfinished.unlink()
    # Open, and so locked, until its name is decided: it might be another's afterwards.
    with ExitStack() as opened:
        is_ours = False
        try:
            raw = opened.enter_context(
                NamedFile(path, "wb", opener=lambda *_: os.open(unfinished, _NEW, mode))
            )
            file = opened.enter_context(io.BufferedWriter(raw))
            _claim(raw)
            is_ours = True
            yield cast("BinaryIO", file)
            file.flush()
            raw.sync()
            unfinished.replace(path)
        except BaseException as error:
            # Also if a signal came in between; what cannot be opened is another's.
            if is_ours or not isinstance(error, OSError):
                unfinished.unlink(missing_ok=True)
            raise


def _claim(file: NamedFile) -> None:
    """Lock a file, if nobody else has, and nobody has removed it before."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.fstat(file.fileno()).st_nlink > 0
    except BlockingIOError:
        is_ours = False
    if not is_ours:
        reason = "another process is writing it"
        raise BlockingIOError(errno.EAGAIN, reason, str(file.name))


@contextmanager
def _naming(name: object) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = str(name)
        raise
