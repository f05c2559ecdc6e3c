"""What a worker does: a job, for each document of a shard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

from loopotel_prom.archive.lines import BadLine, Item
from loopotel_prom.archive.reader import Entry, entry_of
from loopotel_prom.engine.reading import read_shard
from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.source import GoneError
from loopotel_prom.errors import ArchiveError, DocumentError

T = TypeVar("T")
Job: TypeAlias = Callable[[Entry], T]


class Outcome(NamedTuple, Generic[T]):
    """
    What became of one line.

    Attributes:
        number: The line's, within its shard; 0 for the file as a whole.
        offset: The line's, within its file.
        trace_id: Its run; None where it is no document.
        values: What the job made of it; empty if it could not.
        fault: Why not.
    """

    number: int
    offset: int
    trace_id: str | None
    values: tuple[T, ...]
    fault: str


@dataclass(slots=True)
class Result(Generic[T]):
    """
    What became of a shard.

    Attributes:
        outcomes: Of its lines, in their order.
        line_count: How many lines it has, blank ones included; 0 if that is not known.
        is_gone: Its file is not to be had where the worker is.
    """

    outcomes: list[Outcome[T]]
    line_count: int = 0
    is_gone: bool = False


def work(job: Job[T], shard: Shard) -> Result[T]:
    """Do a job on a shard, anywhere."""
    result = Result[T]([])

    def tally(lines: int) -> None:
        result.line_count = lines

    try:
        result.outcomes.extend(outcomes(job, read_shard(shard, held={}, tally=tally)))
    except GoneError:
        return Result([], is_gone=True)
    return result


def outcomes(job: Job[T], items: Iterator[Item]) -> Iterator[Outcome[T]]:
    """Do a job on each document, one at a time."""
    for item in items:
        entry = entry_of(item)
        if isinstance(entry, BadLine):
            yield Outcome(entry.number, entry.offset, None, (), entry.fault)
            continue
        line = entry.line
        try:
            value = job(entry)
        except (DocumentError, ArchiveError) as error:
            fault = str(error)
            yield Outcome(line.number, line.offset, entry.trace_id, (), fault)
        else:
            yield Outcome(line.number, line.offset, entry.trace_id, (value,), "")
