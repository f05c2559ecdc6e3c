"""
A job over archives: its results in the archives' order, each run once.

Whatever does the work, and however the files are cut, what comes out is the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from loopotel_prom.archive.files import Advance
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Seen
from loopotel_prom.engine.engine import Engine
from loopotel_prom.engine.faults import Faults, Rejected
from loopotel_prom.engine.plan import Place, Plan
from loopotel_prom.engine.reading import read_shard
from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.source import GONE, GoneError, Held
from loopotel_prom.engine.window import Window, first_shards
from loopotel_prom.engine.work import Job, Outcome, Result, outcomes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """
    What a job made of one document.

    Attributes:
        file: Where that stands, as in `loopotel_prom.archive.lines.Line`.
        number: Its line, counted from 1.
        offset: Where the line starts, in bytes of the uncompressed file.
        trace_id: Its run.
        value: What the job gave.
    """

    file: str
    number: int
    offset: int
    trace_id: str
    value: T


def run(
    job: Job[T], *places: Place, engine: Engine, advance: Advance | None = None
) -> Iterator[Done[T] | BadLine]:
    """
    Do a job on each document of archives, and of files named singly.

    The results come in the order of the archives, each run once: the first copy that
    the job could take. Behind them comes, in the same order, what is no document, and
    as `Rejected` each run of which the job could take no copy.

    Args:
        job: Is given one document; raises a `DocumentError` for one it cannot take.
            The number of the line that it sees counts from an arbitrary one. To be
            pickled where there are other processes.
        places: Folders or files; paths, or URLs that fsspec knows.
        engine: Who does the work.
        advance: Is told how much has been read, in bytes on disk.

    Raises:
        ArchiveError: There is nothing at a place, or it may not be read; or a part of
            it took down each worker that read it.
        ConfigError: The job cannot be sent to the workers.
        MissingExtraError: What reaches a URL is not installed.
    """
    good = Seen()
    with Plan(*places, shard_bytes=engine.shard_bytes) as plan, Faults() as faults:
        for file, number, outcome in _numbered(job, plan, engine, advance):
            where = file, number, outcome.offset
            if outcome.trace_id is None:
                faults.add(BadLine(*where, outcome.fault))
            elif not outcome.values:
                faults.add(Rejected(*where, outcome.fault, outcome.trace_id))
            elif good.add(outcome.trace_id):
                yield Done(*where, outcome.trace_id, outcome.values[0])
        yield from faults.told(good)


@dataclass(slots=True)
class _Part(Generic[T]):
    """A shard and what became of it; its lines are counted when all were read."""

    file: str
    begin: int
    outcomes: Iterator[Outcome[T]]
    line_count: int = 0

    def tally(self, lines: int) -> None:
        self.line_count = lines


def _numbered(
    job: Job[T], plan: Plan, engine: Engine, advance: Advance | None
) -> Iterator[tuple[str, int, Outcome[T]]]:
    """Yield what became of the lines, with their numbers in the file."""
    before = 0
    told = ""
    for part in _parts(job, plan, engine, advance):
        if part.begin == 0:
            before, told = 0, ""
        for outcome in part.outcomes:
            if outcome.number:
                yield part.file, before + outcome.number, outcome
            elif outcome.fault != told:
                # About the file as a whole: each shard of it says so.
                told = outcome.fault
                yield part.file, 0, outcome
        before += part.line_count


def _parts(
    job: Job[T], plan: Plan, engine: Engine, advance: Advance | None
) -> Iterator[_Part[T]]:
    shards = plan.shards()
    workers = engine.workers
    if workers is not None and workers.is_costly:
        are_many, shards = first_shards(shards, 2)
        workers = workers if are_many else None
    if workers is None:
        for shard in shards:
            yield _part(job, shard, None, plan.held, advance)
        return
    for shard, result in Window(workers, job, shards).results():
        yield _part(job, shard, result, plan.held, advance)


def _part(
    job: Job[T],
    shard: Shard | BadLine,
    result: Result[T] | None,
    held: Held,
    advance: Advance | None,
) -> _Part[T]:
    if isinstance(shard, BadLine):
        fault: Outcome[T] = Outcome(0, 0, None, (), shard.fault)
        return _Part(shard.file, 0, iter((fault,)))
    if result is None or result.is_gone:
        # What is gone for a worker may be held open here.
        part: _Part[T] = _Part(shard.file.name, shard.begin, iter(()))
        part.outcomes = _done_here(job, shard, part, held, advance)
        return part
    if advance is not None:
        advance(shard.end - shard.begin)
    outcomes_ = iter(result.outcomes)
    return _Part(shard.file.name, shard.begin, outcomes_, result.line_count)


def _done_here(
    job: Job[T],
    shard: Shard,
    part: _Part[T],
    held: Held,
    advance: Advance | None,
) -> Iterator[Outcome[T]]:
    items = read_shard(shard, held=held, tally=part.tally, advance=advance)
    try:
        yield from outcomes(job, items)
    except GoneError:
        yield Outcome(0, 0, None, (), GONE)
