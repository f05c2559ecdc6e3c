"""Shards: the parts of files that are read by one worker at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

# A sixth of a second's work, and the most that its results can take.
SHARD_BYTES = 16 * 1024**2
# What is compressed cannot be read in parts. More of it than this is read by the
# process that asked for it: from elsewhere its results would come all at once.
_LARGE_COMPRESSED_BYTES = 16 * 1024**2


@dataclass(frozen=True, slots=True)
class File:
    """
    A file as it was when it was planned.

    Attributes:
        name: As the user spelled it, or the path in the folder that the user named.
        place: The absolute path, or a URL.
        size: In bytes on disk; None for a pipe or a device.
        identity: Tells it from another of the same name: of a path the inode.
        changed_ns: When it was written to, Unix nanoseconds; 0 where that is not known.
        is_remote: It is at a URL.
        is_active: Runs are still appended to it, until it gets another name.
        is_compressed: Its first bytes are those of a gzip or zstd stream.
    """

    name: str
    place: str
    size: int | None
    identity: str
    changed_ns: int = 0
    is_remote: bool = False
    is_active: bool = False
    is_compressed: bool = False


@dataclass(frozen=True, slots=True)
class Shard:
    """
    The lines of a file that begin at `begin` or behind it, and before `end`.

    Attributes:
        file: The file.
        begin: First byte.
        end: Behind the last byte; the last line may go on behind it.
    """

    file: File
    begin: int
    end: int

    @property
    def is_whole(self) -> bool:
        """It is all of the file."""
        return self.begin == 0 and self.end == (self.file.size or 0)

    @property
    def is_ours(self) -> bool:
        """It is to be read by the process that planned it."""
        size = self.file.size
        return size is None or (
            self.file.is_compressed and size > _LARGE_COMPRESSED_BYTES
        )


def shards_of(file: File, shard_bytes: int) -> Iterator[Shard]:
    """Cut a file into shards of a size; not one that cannot be read in parts."""
    size = file.size or 0
    step = size if file.is_compressed or file.size is None else shard_bytes
    for begin in range(0, size, step) if size else (0,):
        yield Shard(file, begin, min(begin + step, size))
