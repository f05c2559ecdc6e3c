"""A pool of processes on this machine."""

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import TypeVar

from loopotel_prom.engine.shard import Shard
from loopotel_prom.engine.work import Job, Result, work
from loopotel_prom.errors import ConfigError

T = TypeVar("T")


class ProcessPool:
    """
    Processes that begin with the first shard, and end with this one, however it ends.

    Args:
        jobs: How many.
    """

    lost: tuple[type[BaseException], ...] = ()
    is_costly = True

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._executor: ProcessPoolExecutor | None = None
        self._life: Connection | None = None
        self._results: TemporaryDirectory[str] | None = None
        self._checked: object = None

    @property
    def shards_in_flight(self) -> int:
        """Two for each process: one at work, one to go on with."""
        return 2 * self._jobs

    def submit(self, job: Job[T], shard: Shard) -> Future[Result[T]]:
        """
        Hand a shard over.

        Raises:
            ConfigError: The job cannot be sent to another process.
        """
        if job is not self._checked:
            _check(job)
            self._checked = job
        # Not within the block below: what multiprocessing starts for its semaphores
        # lets Ctrl-C through again.
        executor = self._started()
        # A worker is born as the executor sees fit, with the signals that are
        # blocked here: it must not die of Ctrl-C before it can ignore it.
        with _without_interrupt():
            written = executor.submit(_write, job, shard, self._folder())
        return _loaded(written)

    def renew(self) -> bool:
        """Replace all processes."""
        self.close(at_once=True)
        return True

    def close(self, *, at_once: bool) -> None:
        """End the processes."""
        executor, self._executor = self._executor, None
        if executor is None or self._life is None:
            return
        if at_once:
            self._life.close()
        executor.shutdown(wait=True, cancel_futures=True)
        self._life.close()
        if self._results is not None:
            self._results.cleanup()
            self._results = None

    def _folder(self) -> str:
        if self._results is None:
            self._results = TemporaryDirectory(prefix="loopotel-")
        return self._results.name

    def _started(self) -> ProcessPoolExecutor:
        if self._executor is None:
            # Not forked: threads and locks of ours are no business of theirs.
            context = get_context("spawn")
            theirs, self._life = context.Pipe(duplex=False)
            self._executor = ProcessPoolExecutor(
                self._jobs, context, initializer=_begin, initargs=(theirs,)
            )
        return self._executor


def _write(job: Job[T], shard: Shard, folder: str) -> str:
    """
    Do a job on a shard; leave the result in a file, and name that.

    Through the pipe of all workers, one that dies in the midst of a large result would
    leave half of it there, and everyone waiting for the rest.
    """
    result = work(job, shard)
    descriptor, name = mkstemp(dir=folder)
    with os.fdopen(descriptor, "wb") as file:
        pickle.dump(result, file, pickle.HIGHEST_PROTOCOL)
    return name


def _loaded(written: Future[str]) -> Future[Result[T]]:
    """Give the future of a result whose file is to come."""
    loaded: Future[Result[T]] = Future()

    def load(done: Future[str]) -> None:
        if not loaded.set_running_or_notify_cancel():
            return
        try:
            path = Path(done.result())
            with path.open("rb") as file:
                loaded.set_result(pickle.load(file))  # noqa: S301 - written by our own
            path.unlink()
        except Exception as error:  # noqa: BLE001 - the waiter's to judge
            loaded.set_exception(error)

    written.add_done_callback(load)
    return loaded


def usable_cpus() -> int:
    """Count the processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _begin(life: Connection) -> None:
    """Prepare a worker: it ends as soon as nobody holds the other end of a pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()


def _end_with(life: Connection) -> None:
    life.poll(None)
    os._exit(1)


def _check(job: Job[T]) -> None:
    try:
        pickle.dumps(job)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"the job cannot be sent to another process: {error}; make it a function"
            " of a module, or run it with the engine 'none'"
        ) from error


@contextmanager
def _without_interrupt() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
