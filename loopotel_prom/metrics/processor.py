"""`MetricsProcessor`: spans in, a consistent snapshot out."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from statistics import fmean

from loopotel_prom.health import Health
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.archive import archive_families
from loopotel_prom.metrics.catalogue import IDENTITY_LABELS, Metric
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.metrics.labels import LabelValues, label_value
from loopotel_prom.metrics.snapshot import Family, HistogramValue, Sample, Snapshot
from loopotel_prom.metrics.state import (
    LoopState,
    RunState,
    size_of_loop,
)
from loopotel_prom.span import (
    EvaluatorSpan,
    IterationSpan,
    RunSpan,
    Span,
    WorkerSpan,
)
from loopotel_prom.version import __version__

_PLACES = 4
# Taken in at once, at the latest when a scrape or the run's end wants them.
_BATCH = 64

_OF_SCRAPE = ((catalogue.SCRAPE_DURATION, 0), (catalogue.SCRAPE_SIZE, 1))

Value = float | HistogramValue


class MetricsProcessor:
    """
    Keeps the live state of all loops of this process.

    An iteration is one transaction: a snapshot has all of it or nothing.
    Thread-safe.

    Args:
        health: Whose counts are exposed along with the loops' metrics.
        max_concurrent_runs: Slots for each loop.
        linger_seconds: How long an ended run may be shown at most.
        run_labels: Labels beyond the identity, by which runs are told apart:
            ``task_id``, or keys of a run's metadata.
        run_info: Whether the traces of active runs are shown.
        max_series: How many series the loops may have in all; beyond it, new
            loops, workers and codes share the value ``__overflow__``.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        *,
        health: Health,
        max_concurrent_runs: int = 16,
        linger_seconds: float = 300.0,
        run_labels: tuple[str, ...] = (),
        run_info: bool = False,
        max_series: int = 4500,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._health = health
        self._max_concurrent_runs = max_concurrent_runs
        self._linger_seconds = linger_seconds
        self._monotonic = monotonic
        self.run_labels = run_labels
        self._run_info = run_info
        # Re-entrant: a signal handler may emit while a scrape is under way.
        self._lock = threading.RLock()
        self._values = LabelValues(max_series=max_series)
        self._loops: dict[tuple[str, ...], LoopState] = {}
        self._runs: dict[str, RunState] = {}
        self._unslotted = 0

    def on_start(self, span: RunSpan) -> None:
        """Show a run from now on."""
        with self._lock:
            before = self._runs.pop(span.trace_id, None)
            if before is not None:
                # A trace id used twice at once: the first can no longer be told.
                before.loop.on_finish(before, span, self._monotonic())
            run = self._loop_of(span).on_start(span)
            self._runs[span.trace_id] = run
            if run.slot is None:
                self._unslotted += 1

    def _loop_of(self, span: RunSpan) -> LoopState:
        """Give the run's loop, under the labels that there is room for."""
        own = [_run_label(span, name) for name in self.run_labels]
        loop = self._loops.get((span.loop_name, span.env_id or "", *own))
        if loop is not None:
            return loop
        values = self._values
        names = (*IDENTITY_LABELS, *self.run_labels)
        raw = (span.loop_name, span.env_id, *own)
        labels = [values.admit(n, v) for n, v in zip(names, raw, strict=True)]
        # Those that the user has added go first, then the loop, then where it runs.
        for position in (*range(2, len(names)), 0, 1):
            if tuple(labels) in self._loops or values.has_room_for_loop(size_of_loop()):
                break
            labels[position] = values.refuse(names[position])
        loop = self._loops.get(tuple(labels))
        if loop is None:
            loop = LoopState(tuple(labels), self._max_concurrent_runs, values)
            self._loops[loop.labels] = loop
            values.series += size_of_loop()
        return loop

    def on_end(self, span: Span) -> None:
        """Take in an iteration, or the end of a run."""
        # Half the cost of a with statement.
        self._lock.acquire()
        try:
            run = self._runs.get(span.trace_id)
            if run is None:
                return
            if isinstance(span, IterationSpan):
                pending = run.pending
                pending.append(span)
                if len(pending) >= _BATCH:
                    run.on_iterations()
            elif isinstance(span, WorkerSpan):
                run.on_worker(span)
            elif isinstance(span, EvaluatorSpan):
                run.on_evaluator(span)
            else:
                del self._runs[span.trace_id]
                run.loop.on_finish(run, span, self._monotonic())
        finally:
            self._lock.release()

    def limit(
        self,
        *,
        max_concurrent_runs: int,
        linger_seconds: float,
        run_info: bool,
        max_series: int,
    ) -> None:
        """Change the limits; a loop seen already keeps its number of slots."""
        with self._lock:
            self._run_info = run_info
            self._values.max_series = max_series
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
        self._values = LabelValues(max_series=self._values.max_series)
        self._loops = {}
        self._runs = {}
        self._unslotted = 0

    def snapshot(self) -> Snapshot:
        """Give what a scrape sees now, and count the scrape."""
        with self._lock:
            found, now = self.look()
            self.seen(now)
        return found

    def look(self) -> tuple[Snapshot, float]:
        """Give what can be seen now, and the moment of it: `seen` may follow."""
        with self._lock:
            for run in self._runs.values():
                if run.pending:
                    run.on_iterations()
            loops = list(self._loops.values())
            families = [
                self._labelled(family)
                for family in (*self._slot_families(loops), *_loop_families(loops))
            ]
            now = self._monotonic()
            for loop in loops:
                loop.expire(now - self._linger_seconds)
            own = {
                catalogue.UNSLOTTED_RUNS_TOTAL: self._unslotted,
                catalogue.SERIES: _series(families),
            }
            overflowed = dict(self._values.overflowed)
        return (*families, *self._own_families(own, overflowed)), now

    def seen(self, moment: float) -> None:
        """Count a scrape that showed what there was at a moment that `look` gave."""
        with self._lock:
            for loop in self._loops.values():
                loop.release(moment)

    def _labelled(self, family: Family) -> Family:
        """Give the family the labels that the user has added."""
        if not self.run_labels:
            return family
        identity = (*IDENTITY_LABELS, *self.run_labels)
        return replace(family, metric=_with_identity(family.metric, identity))

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
        traces = shown if self._run_info else []
        yield Family(
            catalogue.RUN_INFO,
            tuple(Sample((*labels, run.trace_id), 1) for labels, run in traces),
        )

    def _own_families(
        self, own: Mapping[Metric, int], overflowed: Mapping[str, int]
    ) -> Iterator[Family]:
        yield Family(catalogue.BUILD_INFO, (Sample((__version__,), 1),))
        for metric, counts in (
            (catalogue.PROCESSOR_FAILURES_TOTAL, self._health.processor_failures()),
            (catalogue.DROPPED_VALUES_TOTAL, self._health.dropped_values()),
            (catalogue.LABEL_OVERFLOWS_TOTAL, overflowed),
        ):
            yield Family(metric, tuple(Sample((k,), v) for k, v in counts.items()))
        for metric, value in own.items():
            yield Family(metric, (Sample((), value),))
        slow = self._health.slow_emits()
        yield Family(catalogue.SLOW_EMITS_TOTAL, (Sample((), slow),))
        # One look, so that the two are of the same page.
        scrape = self._health.latest_scrape()
        for metric, place in _OF_SCRAPE:
            samples = () if scrape is None else (Sample((), scrape[place]),)
            yield Family(metric, samples)
        yield from archive_families(self._health.archive)


def _series(families: Iterable[Family]) -> int:
    # A histogram has its buckets, +Inf, a sum and a count.
    return sum(
        len(family.samples)
        * (len(family.metric.buckets) + 3 if family.metric.buckets else 1)
        for family in families
    )


def _rounded(value: float | None) -> float | None:
    # As the document has it, so that the two can be compared.
    return None if value is None else round(value, _PLACES) + 0.0


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


def _over_active(
    field: str, over: Callable[[list[float]], float]
) -> Callable[[LoopState], float | None]:
    """Read a field of the latest scored iteration, over the active runs shown."""

    def read(loop: LoopState) -> float | None:
        values = [
            getattr(run.scored, field)
            for run in loop.slots
            if run is not None and run.freed_at is None and run.scored is not None
        ]
        return _rounded(over(values)) if values else None

    return read


_OF_LOOP: tuple[tuple[Metric, Callable[[LoopState], float | None]], ...] = (
    (catalogue.RUNS_ACTIVE, lambda loop: loop.active),
    (catalogue.GOAL_SCORE_MEAN, _over_active("goal_score", fmean)),
    (catalogue.GOAL_SCORE_MIN, _over_active("goal_score", min)),
    (catalogue.GOAL_SCORE_MAX, _over_active("goal_score", max)),
    (catalogue.LES_CUMULATIVE_MEAN, _over_active("les_cumulative", fmean)),
    (catalogue.LES_CUMULATIVE_MIN, _over_active("les_cumulative", min)),
    (catalogue.LAST_RUN_GOAL_SCORE, lambda loop: _rounded(loop.last_run_goal_score)),
    (catalogue.LAST_RUN_LES, lambda loop: _rounded(loop.last_run_les)),
    (catalogue.LAST_RUN_END_TIMESTAMP, lambda loop: _seconds(loop.last_run_end_ns)),
    (
        catalogue.LAST_RUN_SUCCESS_TIMESTAMP,
        lambda loop: _seconds(loop.last_run_success_ns),
    ),
    (catalogue.ITERATIONS_TOTAL, lambda loop: loop.iterations),
    (catalogue.TOKENS_TOTAL, lambda loop: loop.tokens),
    (catalogue.INPUT_TOKENS_TOTAL, lambda loop: loop.input_tokens),
    (catalogue.OUTPUT_TOKENS_TOTAL, lambda loop: loop.output_tokens),
    (catalogue.COST_USD_TOTAL, lambda loop: loop.cost_usd),
    (catalogue.REGRESSIONS_TOTAL, lambda loop: loop.regressions),
    (catalogue.GOAL_SCORE_GAIN_TOTAL, lambda loop: loop.gain),
    (catalogue.RUNS_STARTED_TOTAL, lambda loop: loop.started),
    (catalogue.RUNS_FAILED_TOTAL, lambda loop: loop.finished["failure"]),
    (catalogue.SAFETY_VIOLATIONS_TOTAL, lambda loop: loop.safety_violations),
    (catalogue.HUMAN_INTERVENTIONS_TOTAL, lambda loop: loop.human_interventions),
)

_CHILDREN_OF_LOOP: tuple[
    tuple[Metric, Callable[[LoopState], Iterable[tuple[str, Value]]]], ...
] = (
    (catalogue.RUNS_FINISHED_TOTAL, lambda loop: loop.finished.items()),
    (catalogue.RUN_TERMINATIONS_TOTAL, lambda loop: loop.terminations.items()),
    (catalogue.FAILURES_TOTAL, lambda loop: loop.failures.items()),
    (
        catalogue.WORKER_CALLS_TOTAL,
        lambda loop: [(name, calls.count) for name, calls in loop.workers.items()],
    ),
    (
        catalogue.EVALUATOR_CALLS_TOTAL,
        lambda loop: [(name, calls.count) for name, calls in loop.evaluators.items()],
    ),
    (
        catalogue.WORKER_DURATION,
        lambda loop: [(n, calls.observed.value()) for n, calls in loop.workers.items()],
    ),
    (
        catalogue.EVALUATOR_SCORE,
        lambda loop: [
            (n, calls.observed.value()) for n, calls in loop.evaluators.items()
        ],
    ),
)

_HISTOGRAMS_OF_LOOP: tuple[tuple[Metric, Callable[[LoopState], Histogram]], ...] = (
    (catalogue.ITERATION_DURATION, lambda loop: loop.iteration_duration),
    (catalogue.RUN_DURATION, lambda loop: loop.run_duration),
    (catalogue.RUN_ITERATIONS, lambda loop: loop.run_iterations),
    (catalogue.RUN_FINAL_GOAL_SCORE, lambda loop: loop.final_goal_score),
    (catalogue.RUN_FINAL_LES, lambda loop: loop.final_les),
)


@cache
def _with_identity(metric: Metric, identity: tuple[str, ...]) -> Metric:
    return replace(metric, identity=identity)


def _run_label(span: RunSpan, name: str) -> str:
    value = span.task_id if name == "task_id" else span.metadata.get(name)
    return "" if value is None else label_value(value)


# Of which iterations the totals show a trace.
_WORST_BY: dict[Metric, str] = {
    catalogue.TOKENS_TOTAL: "tokens_delta",
    catalogue.COST_USD_TOTAL: "cost_usd",
}


def _loop_families(loops: list[LoopState]) -> Iterator[Family]:
    for loop in loops:
        slowest = loop.exemplar("latency_ms", 1e-3)
        if slowest is not None:
            loop.iteration_duration.show(slowest)
    for metric, read in _OF_LOOP:
        worst = _WORST_BY.get(metric)
        samples = (
            Sample(loop.labels, value, loop.exemplar(worst) if worst else None)
            for loop in loops
            if (value := read(loop)) is not None
        )
        yield Family(metric, tuple(samples))
    for metric, children in _CHILDREN_OF_LOOP:
        yield Family(
            metric,
            tuple(
                Sample((*loop.labels, name), value)
                for loop in loops
                for name, value in children(loop)
            ),
        )
    for metric, histogram in _HISTOGRAMS_OF_LOOP:
        yield Family(
            metric,
            tuple(Sample(loop.labels, histogram(loop).value()) for loop in loops),
        )
