"""A Dask cluster's workers."""

import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.work import Job, Result, work
from loopotel_prom.errors import ConfigError, MissingExtraError
from loopotel_prom.version import __version__

T = TypeVar("T")
_TIMEOUT_SECONDS = 10
# A cluster that has no worker yet may be about to start some.
_FEWEST_IN_FLIGHT = 4
_LOOK_SECONDS = 1.0


class Cluster:
    """
    Workers behind a scheduler. What one that is lost had to do, another does.

    Args:
        scheduler: Its address, as ``tcp://host:8786``.

    Raises:
        ConfigError: Nobody answers there, or a worker has another version of ours.
        MissingExtraError: Dask is not installed.
    """

    is_costly = False

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client, KilledWorker  # noqa: PLC0415 - an extra
        except ImportError as error:
            what, reason = "Dask", str(error)
            raise MissingExtraError(what, extra="dask", reason=reason) from error
        try:
            self._client = Client(scheduler, timeout=_TIMEOUT_SECONDS)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"scheduler {scheduler}: no answer within {_TIMEOUT_SECONDS} s"
                f" ({str(error) or type(error).__name__}); check the address"
            ) from error
        self.lost: tuple[type[BaseException], ...] = (KilledWorker,)
        self._executor = self._client.get_executor(pure=False)
        self._check_versions()
        self._thread_count: int = sum(self._client.nthreads().values())
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def shards_in_flight(self) -> int:
        """Two for each thread that the cluster has at the moment."""
        return max(2 * self._thread_count, _FEWEST_IN_FLIGHT)

    def submit(self, job: Job[T], shard: Shard) -> Future[Result[T]]:
        """Hand a shard over."""
        submitted: Future[Any] = self._executor.submit(work, job, shard)
        return submitted

    def renew(self) -> bool:
        """Leave that to the cluster."""
        return False

    def close(self, *, at_once: bool) -> None:
        """Leave the cluster; what it has not begun is not done."""
        self._closed.set()
        self._executor.shutdown(wait=not at_once)
        self._client.close()

    def _watch(self) -> None:
        """Keep up with workers that come and go."""
        # Not by whoever hands shards over: asking does not take Ctrl-C well.
        while not self._closed.wait(_LOOK_SECONDS):
            with suppress(Exception):
                self._thread_count = sum(self._client.nthreads().values())

    def _check_versions(self) -> None:
        for worker, version in self._client.run(_version).items():
            if version != __version__:
                self._client.close()
                raise ConfigError(
                    f"worker {worker} has loopotel-prom {version}, this is"
                    f" {__version__}; install the same on both"
                )


def _version() -> str:
    return __version__
