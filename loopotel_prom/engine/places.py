"""Places named by a user, and their documents read one by one in this process."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from loopotel_prom.archive import remote
from loopotel_prom.archive.files import Advance, folder_bytes
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry, Seen, entry_of
from loopotel_prom.engine.plan import Place, Plan
from loopotel_prom.engine.reading import read_shard
from loopotel_prom.engine.source import GONE, GoneError
from loopotel_prom.engine.stretch import Stretch
from loopotel_prom.errors import ArchiveError, ConfigError

_ALL = 2**62


def place_of(typed: str) -> Place:
    """
    Make a path of what a user typed, unless it is a URL of elsewhere.

    Raises:
        ConfigError: It is empty.
    """
    if not typed:
        raise ConfigError("a name is empty; give a file, a folder or a URL")
    if typed.startswith("file://"):
        return Path(typed.removeprefix("file://"))
    return typed if remote.is_url(typed) else Path(typed)


def total_bytes(*places: Place) -> int:
    """
    Give the size on disk of what is to be read there, as far as that is known.

    Raises:
        ArchiveError: A URL cannot be reached.
    """
    return sum(_bytes(place) for place in places)


def read_places(
    *places: Place, newest_first: bool = False, advance: Advance | None = None
) -> Iterator[Entry | BadLine]:
    """
    Read the documents of archives, and of files named singly, each run once.

    As `loopotel_prom.archive.reader.read_archive`, for URLs, too.

    Raises:
        ArchiveError: There is nothing at a place, or it may not be read.
        MissingExtraError: What reaches a URL is not installed.
    """
    seen = Seen()
    with Plan(*places, shard_bytes=_ALL) as plan:
        for shard in plan.shards(newest_first=newest_first):
            if isinstance(shard, BadLine):
                yield shard
                continue
            try:
                items = read_shard(
                    shard, held=plan.held, tally=_ignore, advance=advance
                )
                for item in items:
                    entry = entry_of(item)
                    if isinstance(entry, BadLine) or seen.add(entry.trace_id):
                        yield entry
            except GoneError:
                yield BadLine(shard.file.name, 0, 0, GONE)


def open_object(url: str) -> BinaryIO:
    """
    Open an object for reading, as one opens a file.

    Raises:
        ArchiveError: There is none, or it cannot be reached; reading may fail, too.
        MissingExtraError: What reaches the URL is not installed.
    """
    found = remote.find(url)
    if found is None:
        raise ArchiveError("a folder", path=url, hint="name the files in it")
    read_at = remote.RemoteFile(url, found.size).read_at
    stream = Stretch(url, read_at, begin=0, end=found.size, size=found.size)
    return cast("BinaryIO", stream)


def _ignore(_lines: int) -> None:
    """Count nothing: a file that is read whole has its numbers right."""


def _bytes(place: Place) -> int:
    if isinstance(place, str):
        found = remote.find(place)
        return sum(
            one.size for one in ([found] if found else remote.list_folder(place))
        )
    if place.is_dir():
        return folder_bytes(place)
    with suppress(OSError):
        return place.stat().st_size
    return 0
