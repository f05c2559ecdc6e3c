"""
Shards with workers, a bounded number at a time, and their results in order.

A shard whose worker died is given to another one. Who dies of the same shard three
times, the last time with nothing else to do, dies of that shard.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.work import Job, Result
from loopotel_prom.engine.workers import Workers
from loopotel_prom.errors import ArchiveError

T = TypeVar("T")
_TRIES = 3


@dataclass(slots=True, eq=False)
class _Flight(Generic[T]):
    """One shard, or what stands in its place, and how often its worker died."""

    shard: Shard | BadLine
    future: Future[Result[T]] | None = None
    deaths: int = 0

    @property
    def is_done(self) -> bool:
        future = self.future
        return future is not None and future.done() and future.exception() is None


class Window(Generic[T]):
    """
    What is on its way.

    Args:
        workers: Who does it.
        job: What is done.
        shards: On what.
    """

    def __init__(
        self, workers: Workers, job: Job[T], shards: Iterator[Shard | BadLine]
    ) -> None:
        self._workers = workers
        self._job = job
        self._shards = shards
        self._flights: deque[_Flight[T]] = deque()
        self._lost: tuple[type[BaseException], ...] = (CancelledError, *workers.lost)

    def results(self) -> Iterator[tuple[Shard | BadLine, Result[T] | None]]:
        """
        Yield the shards in order, each with its result; None for one that is ours.

        Raises:
            ArchiveError: A shard took its workers down, or they are gone.
        """
        try:
            while True:
                self._fill()
                if not self._flights:
                    return
                flight = self._flights[0]
                result = self._result(flight)
                self._flights.popleft()
                yield flight.shard, result
        finally:
            for flight in self._flights:
                if flight.future is not None:
                    flight.future.cancel()

    def _fill(self) -> None:
        room = self._workers.shards_in_flight - len(self._flights)
        self._flights.extend(_Flight[T](shard) for shard in islice(self._shards, room))
        for flight in self._flights:
            if flight.future is None:
                self._submit(flight)

    def _submit(self, flight: _Flight[T]) -> None:
        if isinstance(flight.shard, BadLine) or flight.shard.is_ours:
            return
        try:
            flight.future = self._workers.submit(self._job, flight.shard)
        except BrokenExecutor as error:
            flight.future = Future()
            flight.future.set_exception(error)

    def _result(self, flight: _Flight[T]) -> Result[T] | None:
        while flight.future is not None:
            try:
                return flight.future.result()
            except BrokenExecutor as error:
                flight.deaths += 1
                if flight.deaths == _TRIES or not self._workers.renew():
                    raise _deadly(flight, error) from error
                self._again(flight)
            except self._lost as error:
                raise _deadly(flight, error) from error
        return None

    def _again(self, first: _Flight[T]) -> None:
        for flight in self._flights:
            if not flight.is_done:
                flight.future = None
        if first.deaths == _TRIES - 1:
            self._submit(first)  # alone: the others may be to blame
        else:
            self._fill()


def first_shards(
    shards: Iterator[Shard | BadLine], count: int
) -> tuple[bool, Iterator[Shard | BadLine]]:
    """Tell whether there are so many for workers; give them all back."""
    taken: list[Shard | BadLine] = []
    for shard in shards:
        taken.append(shard)
        count -= isinstance(shard, Shard) and not shard.is_ours
        if not count:
            break
    return not count, chain(taken, shards)


def _deadly(flight: _Flight[T], error: BaseException) -> ArchiveError:
    reason = " ".join(str(error).split()) or type(error).__name__
    where = ""
    if isinstance(flight.shard, Shard):
        shard = flight.shard
        where = f"{shard.file.name}, bytes {shard.begin} to {shard.end}"
    hint = "see whether memory ran out; the engine 'none' needs the least"
    return ArchiveError(reason, path=where, hint=hint)
