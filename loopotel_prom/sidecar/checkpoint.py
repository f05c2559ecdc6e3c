"""The checkpoint file of a sidecar, replaced whole (`specs/sidecar.md`)."""

import fcntl
import os
import threading
import time
import zlib
from pathlib import Path

import msgspec
from msgspec import Struct

from loopotel_prom.archive.folders import make_folder, sync_folder
from loopotel_prom.archive.follow import Position
from loopotel_prom.archive.new_file import new_file
from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.metrics.checkpoint import SavedMetrics

VERSION = 1

_CRC = b',"crc":"%08x"}'
_CRC_BYTES = len(_CRC % 0)
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Checkpoint(Struct):
    """
    What a sidecar goes on from.

    Attributes:
        version: Of the format.
        written_ns: When it was made, Unix nanoseconds.
        metrics: What has been counted.
        position: Up to where.
    """

    version: int
    written_ns: int
    metrics: SavedMetrics
    position: Position


def encode(metrics: SavedMetrics, position: Position) -> bytes:
    """Spell a checkpoint of now."""
    whole = Checkpoint(VERSION, time.time_ns(), metrics, position)
    body = msgspec.json.encode(whole)[:-1]
    return body + _CRC % zlib.crc32(body) + b"\n"


def decode(data: bytes) -> Checkpoint:
    """
    Read a checkpoint.

    Raises:
        DocumentError: It is damaged, or of another version.
    """
    line = data.removesuffix(b"\n")
    if not line.endswith(_CRC % zlib.crc32(line[:-_CRC_BYTES])):
        raise DocumentError("the checksum does not hold")
    try:
        found = msgspec.json.decode(line, type=Checkpoint)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DocumentError(f"no checkpoint: {error}") from error
    if found.version != VERSION:
        raise DocumentError(f"of version {found.version}, this is {VERSION}")
    return found


class CheckpointFile:
    """
    A file that one sidecar at a time has to itself. Thread-safe.

    Args:
        path: The file; its folder is made if it is not there.

    Raises:
        ConfigError: Another sidecar has it, or it cannot be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._written = 0
        lock = path.with_name(path.name + ".lock")
        try:
            make_folder(path.parent)
            self._held = os.open(lock, _LOCK, 0o600)
        except OSError as error:
            raise ConfigError(
                f"checkpoint {path}: {error.strerror or error}; name a file that can be"
                " written to"
            ) from error
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._held)
            raise ConfigError(
                f"checkpoint {path}: another sidecar uses it; end that one, or name"
                " another file"
            ) from error

    def read(self) -> Checkpoint | None:
        """
        Read what was written last; None if there is nothing.

        Raises:
            DocumentError: It is damaged, or of another version.
            OSError: It cannot be read.
        """
        try:
            return decode(self.path.read_bytes())
        except FileNotFoundError:
            return None

    def write(self, number: int, data: bytes, *, patience_seconds: float = -1) -> bool:
        """
        Replace the file, on disk, unless something newer stands there.

        Args:
            number: Counts what is written: the higher, the newer.
            data: What `encode` gave.
            patience_seconds: How long to wait for a write that is under way; without
                limit by default.

        Returns:
            False if that was too long.

        Raises:
            OSError: It could not be written; the file is as it was.
        """
        if not self._lock.acquire(timeout=patience_seconds):
            return False
        try:
            if number > self._written:
                self._replace(data)
                self._written = number
        finally:
            self._lock.release()
        return True

    def sync_name(self) -> None:
        """
        Bring the name to the disk.

        Raises:
            OSError: It may not be there.
        """
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Let another sidecar have it."""
        os.close(self._held)

    def _replace(self, data: bytes) -> None:
        with new_file(self.path) as file:
            file.write(data)
