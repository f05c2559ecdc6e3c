"""Workers: whoever does jobs on shards, here or elsewhere."""

from concurrent.futures import Executor, Future
from typing import Any, Protocol, TypeVar

from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.work import Job, Result, work

T = TypeVar("T")
# Without a hint of how many workers an executor has.
_SHARDS_IN_FLIGHT = 8


class Workers(Protocol):
    """
    What an `Engine` needs of its workers.

    Attributes:
        lost: What a shard raises that took all its workers down.
        is_costly: A single shard is better done without them.
    """

    lost: tuple[type[BaseException], ...]
    is_costly: bool

    @property
    def shards_in_flight(self) -> int:
        """How many shards may be with them at a time."""

    def submit(self, job: Job[T], shard: Shard) -> Future[Result[T]]:
        """Hand a shard over; it raises `BrokenExecutor` if none of them is left."""

    def renew(self) -> bool:
        """Replace workers that died; False if that cannot be done."""

    def close(self, *, at_once: bool) -> None:
        """End them, `at_once` what they are at, too. Idempotent."""


class Executing:
    """Workers behind any executor, which stays its owner's."""

    lost: tuple[type[BaseException], ...] = ()
    is_costly = False

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        workers = getattr(executor, "_max_workers", None)
        self._in_flight = 2 * workers if workers else _SHARDS_IN_FLIGHT

    @property
    def shards_in_flight(self) -> int:
        """Two for each worker, where it is known how many there are."""
        return self._in_flight

    def submit(self, job: Job[T], shard: Shard) -> Future[Result[T]]:
        """Hand a shard over."""
        submitted: Future[Any] = self._executor.submit(work, job, shard)
        return submitted

    def renew(self) -> bool:
        """Leave that to its owner."""
        return False

    def close(self, *, at_once: bool) -> None:
        """Leave that to its owner."""
