"""What can be had from a journal's damaged line, and where the rest of it goes."""

import codecs
import errno
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive.folders import make_folder, sync_folder
from loopotel_prom.archive.record import Record, decode
from loopotel_prom.errors import DocumentError

_START = re.compile(rb'\{"(?:seq|sealed|journal)":')
_END = re.compile(rb'(?<=,"crc":"[0-9a-f]{8}"\})')
# Of a record that was cut in the middle of its write: JSON has no such characters.
_TORN = re.compile(rb'\{(?:"[^\x00-\x1f]*)?')
_Decoder = codecs.getincrementaldecoder("utf-8")
# A line of garbage may hold any number of starts.
_TRIES = 64
# Truncated, as a recovery that was killed begins again. Non-blocking, so that a
# FIFO in its place is an error and no trap.
_FLAGS = (
    os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)


def whole_records(line: bytes) -> Iterator[Record]:
    """Yield the records that stand whole within a line that is none itself."""
    for part in _END.split(line):
        starts = [match.start() for match in _START.finditer(part)]
        for start in starts[:_TRIES]:
            try:
                yield decode(part[start:])
            except DocumentError:
                continue
            break


def is_torn(line: bytes) -> bool:
    """Tell whether a last line without an ending is the start of a record, no more."""
    if not _TORN.fullmatch(line) or _END.search(line):
        return False
    try:
        _Decoder().decode(line)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


class Quarantine:
    """
    A file of damaged lines, as they were found; made with the first of them.

    Args:
        path: Where it is to be.

    Attributes:
        lines: How many.
        size_bytes: What they hold.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self.lines = 0
        self.size_bytes = 0

    def add(self, line: bytes) -> None:
        """
        Put a line aside.

        Raises:
            OSError: It cannot be written.
        """
        if self._file is None:
            self._file = self._opened()
        rest = memoryview(line + b"\n")
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self.lines += 1
        self.size_bytes += len(line)

    def _opened(self) -> int:
        folder = self._path.parent
        make_folder(folder)
        if folder.is_symlink():
            raise OSError(errno.ELOOP, "not a folder but a link", str(folder))
        file = os.open(self._path, _FLAGS, 0o600)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OSError(errno.EINVAL, "not a regular file", str(self._path))
        return file

    def close(self) -> None:
        """
        Bring it to the disk, its name too.

        Raises:
            OSError: It may not be there.
        """
        if self._file is not None:
            file, self._file = self._file, None
            try:
                os.fsync(file)
            finally:
                os.close(file)
            sync_folder(self._path.parent)
