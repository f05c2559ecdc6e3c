"""The lines of a shard, read."""

import io
from collections.abc import Callable, Iterator

from loopotel_prom.archive.files import Advance
from loopotel_prom.archive.layout import LONG_BYTES
from loopotel_prom.archive.lines import BadLine, Item, read_lines, read_part
from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.source import Held, opened
from loopotel_prom.engine.stretch import Stretch
from loopotel_prom.errors import ArchiveError

_BUFFER_BYTES = 256 * 1024


def read_shard(
    shard: Shard,
    *,
    held: Held,
    tally: Callable[[int], None],
    advance: Advance | None = None,
) -> Iterator[Item]:
    """
    Read the lines of a shard, which are counted from its first one.

    What the disk does not give is a `BadLine`, and the last; its number is 0 if it is
    about the file as a whole.

    Args:
        shard: The shard.
        held: Files that this process holds open, by their identity.
        tally: Is told at the end how many lines there were, unless it is all of the
            file.
        advance: Is told how much of it has been read, in bytes on disk.

    Raises:
        GoneError: The file is not to be had, here at least.
    """
    last = None
    try:
        for last in _lines(shard, held, tally, advance):
            yield last
    except OSError as error:
        number, offset = (last.number, last.offset) if last else (0, 0)
        fault = error.strerror or str(error)
        if isinstance(error, ArchiveError):
            fault = str(error).removeprefix(f"{error.path}: ")
        yield BadLine(shard.file.name, number, offset, fault)


def _lines(
    shard: Shard,
    held: Held,
    tally: Callable[[int], None],
    advance: Advance | None,
) -> Iterator[Item]:
    if shard.file.size is None:
        yield from read_lines(shard.file.name, held_bytes=LONG_BYTES)
        return
    with opened(shard, held) as (read_at, size):
        stretch = Stretch(
            shard.file.name,
            read_at,
            begin=shard.begin,
            end=size if shard.is_whole else shard.end,
            size=size,
            advance=advance,
        )
        buffered = io.BufferedReader(stretch, _BUFFER_BYTES)
        if shard.is_whole:
            yield from read_lines(buffered, held_bytes=LONG_BYTES)
        else:
            yield from read_part(
                buffered, offset=stretch.begin, held_bytes=LONG_BYTES, tally=tally
            )
