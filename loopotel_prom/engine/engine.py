"""The engine: who does a job, and in parts of what size."""

from concurrent.futures import Executor
from types import TracebackType
from typing import Literal, Self, TypeAlias

from loopotel_prom.engine.pool import ProcessPool, usable_cpus
from loopotel_prom.engine.shard import SHARD_BYTES
from loopotel_prom.engine.workers import Executing, Workers
from loopotel_prom.errors import ConfigError

Kind: TypeAlias = Literal["process", "dask", "none"]


class Engine:
    """
    Where jobs are run; a context manager.

    Args:
        executor: Any executor; None for this process alone. It stays its owner's.
        shard_bytes: How much of a file a worker takes at a time.

    Attributes:
        workers: Who does the jobs; None for this process alone.
        shard_bytes: As given.

    Raises:
        ConfigError: `shard_bytes` is not positive.
    """

    def __init__(
        self, executor: Executor | None = None, *, shard_bytes: int | None = None
    ) -> None:
        if shard_bytes is not None and shard_bytes <= 0:
            raise ConfigError(f"shard_bytes must be positive, got {shard_bytes}")
        self.shard_bytes = shard_bytes or SHARD_BYTES
        self.workers: Workers | None = None
        if executor is not None:
            self.workers = Executing(executor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.workers is not None:
            self.workers.close(at_once=kind is not None)


def open_engine(
    kind: Kind = "process",
    *,
    jobs: int | None = None,
    scheduler: str | None = None,
    shard_bytes: int | None = None,
) -> Engine:
    """
    Make an engine of one of our kinds.

    Args:
        kind: Processes of this machine, a Dask cluster, or none but this one.
        jobs: How many processes; as many as this one may use processors if None.
        scheduler: Address of the Dask cluster's scheduler.
        shard_bytes: As of `Engine`.

    Raises:
        ConfigError: The options do not fit together, or nobody answers.
        MissingExtraError: Dask is not installed.
    """
    if (kind == "dask") != (scheduler is not None):
        raise ConfigError("the engine 'dask' and a scheduler's address need each other")
    if jobs is not None and (jobs < 1 or kind != "process"):
        raise ConfigError(f"jobs are at least 1, of the engine 'process'; got {jobs}")
    engine = Engine(shard_bytes=shard_bytes)
    jobs = jobs or usable_cpus()
    if kind == "process" and jobs > 1:
        engine.workers = ProcessPool(jobs)
    elif scheduler is not None:
        from loopotel_prom.engine.cluster import Cluster  # noqa: PLC0415 - an extra

        engine.workers = Cluster(scheduler)
    return engine
