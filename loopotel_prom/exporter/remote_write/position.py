"""The position: up to where a receiver has a history (`specs/remote-write.md`)."""

import fcntl
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.new_file import new_file
from loopotel_prom.errors import ArchiveError, ConfigError
from loopotel_prom.exporter.remote_write.url import shown_url

VERSION = 1

_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class Position(Struct, frozen=True):
    """
    Up to where which receiver has which history.

    Attributes:
        version: Of the format.
        url: Of the receiver, without what may be a secret.
        archive: What is read.
        fingerprint: Of all that must stay the same.
        time_ms: Up to this instant, inclusive, all is acknowledged; None: nothing is.
        sending_ms: The end of a request that may have been taken; None: none is.
    """

    version: int
    url: str
    archive: tuple[str, ...]
    fingerprint: str
    time_ms: int | None = None
    sending_ms: int | None = None


def beginning(
    url: str, archive: Sequence[str], options: Mapping[str, object]
) -> Position:
    """
    Give the position before anything is sent.

    Args:
        url: Of the receiver.
        archive: What is read, spelled the same each time.
        options: What else changes what is sent, or to whom; JSON values.
    """
    whole = msgspec.json.encode([url, archive, options], order="deterministic")
    return Position(
        version=VERSION,
        url=shown_url(url),
        archive=tuple(archive),
        fingerprint=hashlib.sha256(whole).hexdigest(),
    )


class PositionFile:
    """
    A file that one process at a time has to itself, while it is entered.

    Args:
        path: The file.
        start: The position, if there is none yet.

    Attributes:
        position: Of the moment.

    Raises:
        ConfigError: Another process has it, it cannot be there, or it is none of
            this history to this receiver.
    """

    def __init__(self, path: Path, start: Position) -> None:
        self.path = path
        self._held = _held(path)
        try:
            found = _read(path)
            _compare(path, found or start, start)
        except BaseException:
            os.close(self._held)
            raise
        self.position = found or start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._held)

    def write(self, *, time_ms: int | None, sending_ms: int | None) -> None:
        """
        Replace the file; on return it is on disk.

        Raises:
            ArchiveError: It could not be written; the file is as it was.
        """
        position = msgspec.structs.replace(
            self.position, time_ms=time_ms, sending_ms=sending_ms
        )
        try:
            with new_file(self.path) as file:
                file.write(msgspec.json.format(msgspec.json.encode(position)) + b"\n")
            sync_folder(self.path.parent)
        except OSError as error:
            hint = "make room, or name another file by --position"
            raise ArchiveError(
                f"the position cannot be written: {error.strerror or error}",
                path=str(self.path),
                hint=hint,
            ) from error
        self.position = position


def _held(path: Path) -> int:
    if not path.name:  # as that of "." and "/"
        raise ConfigError(f"position {path}: Is a directory; name a file in it")
    lock = path.with_name(path.name + ".lock")
    try:
        held = os.open(lock, _LOCK, 0o600)
    except OSError as error:
        raise ConfigError(
            f"position {path}: {error.strerror or error}; name a file that can be"
            " written to, by --position"
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        raise ConfigError(
            f"position {path}: another export uses it; let that one end, or name"
            " another file by --position"
        ) from error
    return held


def _read(path: Path) -> Position | None:
    """Read what was written last; None if there is nothing."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Position)
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"position {path}: it is no position: {error}; name another file by"
            " --position"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"position {path}: {error.strerror or error}; name a file that can be read,"
            " by --position"
        ) from error
    if found.version != VERSION:
        raise ConfigError(
            f"position {path}: of version {found.version}, this is {VERSION}; name"
            " another file by --position"
        )
    return found


def _compare(path: Path, found: Position, start: Position) -> None:
    if found.fingerprint == start.fingerprint:
        return
    if found.url != start.url:
        differs = f"it is of {found.url}"
    elif found.archive != start.archive:
        differs = f"it is of {', '.join(found.archive)}"
    else:
        differs = "other headers or options were given"
    raise ConfigError(
        f"position {path}: {differs}; give the same again, or another file by"
        " --position to send everything"
    )
