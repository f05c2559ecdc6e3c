"""`MetricsProcessor`: spans in, a consistent snapshot out."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

from loopotel_prom.health import Health
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.snapshot import Family, Sample, Snapshot
from loopotel_prom.metrics.state import LoopState, RunState
from loopotel_prom.span import IterationSpan, RunSpan, Span
from loopotel_prom.version import __version__

_PLACES = 4


class MetricsProcessor:
    """
    Keeps the live state of all loops of this process.

    An iteration is one transaction: a snapshot has all of it or nothing.
    Thread-safe.

    Args:
        health: Whose counts are exposed along with the loops' metrics.
        max_concurrent_runs: Slots for each loop.
        linger_seconds: How long an ended run may be shown at most.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        *,
        health: Health,
        max_concurrent_runs: int = 16,
        linger_seconds: float = 300.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._max_concurrent_runs = max_concurrent_runs
        self._linger_seconds = linger_seconds
        self._monotonic = monotonic
        # Re-entrant: a signal handler may emit while a scrape is under way.
        self._lock = threading.RLock()
        self._loops: dict[tuple[str, ...], LoopState] = {}
        self._runs: dict[str, RunState] = {}
        self._unslotted = 0

    def on_start(self, span: RunSpan) -> None:
        """Show a run from now on."""
        identity = (span.loop_name, span.env_id or "")
        with self._lock:
            loop = self._loops.get(identity)
            if loop is None:
                loop = LoopState(identity, self._max_concurrent_runs)
                self._loops[identity] = loop
            run = self._runs[span.trace_id] = loop.on_start(span)
            if run.slot is None:
                self._unslotted += 1

    def on_end(self, span: Span) -> None:
        """Take in an iteration, or the end of a run."""
        # Half the cost of a with statement.
        self._lock.acquire()
        try:
            run = self._runs.get(span.trace_id)
            if run is None:
                return
            if isinstance(span, IterationSpan):
                run.on_iteration(span)
            elif isinstance(span, RunSpan):
                del self._runs[span.trace_id]
                run.loop.on_finish(run, span, self._monotonic())
        finally:
            self._lock.release()

    def limit(self, *, max_concurrent_runs: int, linger_seconds: float) -> None:
        """Change the limits; a loop seen already keeps its number of slots."""
        with self._lock:
            self._max_concurrent_runs = max_concurrent_runs
            self._linger_seconds = linger_seconds

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - nothing is held back
        """Do nothing: every span is in the state already."""
        return True

    def close(self) -> None:
        """Do nothing: counters outlive any one configuration."""

    def after_fork(self) -> None:
        """Start at zero in a forked child: the parent counts its own."""
        self._lock = threading.RLock()
        self._loops = {}
        self._runs = {}
        self._unslotted = 0

    def snapshot(self) -> Snapshot:
        """Give what a scrape sees now, and count the scrape."""
        with self._lock:
            loops = list(self._loops.values())
            families = [*self._slot_families(loops), *_loop_families(loops)]
            now = self._monotonic()
            for loop in loops:
                loop.release(now, self._linger_seconds)
            unslotted = self._unslotted
        return (*families, *self._own_families(unslotted))

    def _slot_families(self, loops: Iterable[LoopState]) -> Iterator[Family]:
        shown = [
            ((*loop.labels, str(index)), run)
            for loop in loops
            for index, run in enumerate(loop.slots)
            if run is not None
        ]
        for metric, read in _OF_RUN:
            samples = (
                Sample(labels, value)
                for labels, run in shown
                if (value := read(run)) is not None
            )
            yield Family(metric, tuple(samples))

    def _own_families(self, unslotted: int) -> Iterator[Family]:
        yield Family(catalogue.BUILD_INFO, (Sample((__version__,), 1),))
        for metric, counts in (
            (catalogue.PROCESSOR_FAILURES_TOTAL, self._health.processor_failures()),
            (catalogue.DROPPED_VALUES_TOTAL, self._health.dropped_values()),
        ):
            yield Family(metric, tuple(Sample((k,), v) for k, v in counts.items()))
        yield Family(catalogue.UNSLOTTED_RUNS_TOTAL, (Sample((), unslotted),))


def _rounded(value: float | None) -> float | None:
    # As the document has it, so that the two can be compared.
    return None if value is None else round(value, _PLACES)


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e9


def _goal_target(run: RunState) -> float:
    return run.goal_target if run.latest is None else run.latest.goal_target


def _last_iteration(run: RunState) -> float | None:
    return None if run.latest is None else run.latest.end_ns / 1e9


def _of_scored(field: str) -> Callable[[RunState], float | None]:
    """Read a field of the latest iteration with a score."""

    def read(run: RunState) -> float | None:
        return None if run.scored is None else _rounded(getattr(run.scored, field))

    return read


_OF_RUN: tuple[tuple[Metric, Callable[[RunState], float | None]], ...] = (
    (catalogue.GOAL_SCORE, _of_scored("goal_score")),
    (catalogue.GOAL_TARGET, _goal_target),
    (catalogue.LES_CUMULATIVE, _of_scored("les_cumulative")),
    (catalogue.LES_EFFECTIVENESS, _of_scored("effectiveness")),
    (catalogue.ITERATION, lambda run: run.latest.iteration if run.latest else 0),
    (catalogue.RUN_TOKENS, lambda run: run.tokens),
    (catalogue.RUN_COST_USD, lambda run: run.cost_usd),
    (catalogue.RUN_START_TIMESTAMP, lambda run: run.start_ns / 1e9),
    (catalogue.LAST_ITERATION_TIMESTAMP, _last_iteration),
)

_OF_LOOP: tuple[tuple[Metric, Callable[[LoopState], float | None]], ...] = (
    (catalogue.RUNS_ACTIVE, lambda loop: loop.active),
    (catalogue.LAST_RUN_GOAL_SCORE, lambda loop: _rounded(loop.last_run_goal_score)),
    (catalogue.LAST_RUN_LES, lambda loop: _rounded(loop.last_run_les)),
    (catalogue.LAST_RUN_END_TIMESTAMP, lambda loop: _seconds(loop.last_run_end_ns)),
    (catalogue.ITERATIONS_TOTAL, lambda loop: loop.iterations),
    (catalogue.TOKENS_TOTAL, lambda loop: loop.tokens),
    (catalogue.COST_USD_TOTAL, lambda loop: loop.cost_usd),
    (catalogue.RUNS_STARTED_TOTAL, lambda loop: loop.started),
)


def _loop_families(loops: Iterable[LoopState]) -> Iterator[Family]:
    for metric, read in _OF_LOOP:
        samples = (
            Sample(loop.labels, value)
            for loop in loops
            if (value := read(loop)) is not None
        )
        yield Family(metric, tuple(samples))
    yield Family(
        catalogue.RUNS_FINISHED_TOTAL,
        tuple(
            Sample((*loop.labels, outcome), finished)
            for loop in loops
            for outcome, finished in loop.finished.items()
        ),
    )
    yield Family(
        catalogue.ITERATION_DURATION,
        tuple(Sample(loop.labels, loop.iteration_duration.value()) for loop in loops),
    )
