"""`MetricsProcessor`: spans in, a consistent snapshot out."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache

from loopotel_prom.health import Health
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.archive import archive_families
from loopotel_prom.metrics.catalogue import IDENTITY_LABELS, Metric
from loopotel_prom.metrics.checkpoint import (
    SavedMetrics,
    buckets,
    load_loop,
    load_run,
    save_loop,
    save_run,
)
from loopotel_prom.metrics.families import loop_families
from loopotel_prom.metrics.labels import LabelValues, label_value
from loopotel_prom.metrics.sidecar import sidecar_families
from loopotel_prom.metrics.snapshot import Family, Sample, Snapshot
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

# Taken in at once, at the latest when a scrape or the run's end wants them.
_BATCH = 64

_OF_SCRAPE = ((catalogue.SCRAPE_DURATION, 0), (catalogue.SCRAPE_SIZE, 1))


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

    def run(self, trace_id: str) -> RunState | None:
        """
        Give the state of a run under way, with all that has ended of it.

        It goes on changing: only for who feeds this processor, alone.
        """
        with self._lock:
            run = self._runs.get(trace_id)
            if run is not None and run.pending:
                run.on_iterations()
            return run

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

    def save(self) -> SavedMetrics:
        """Copy all that is known, but slots, exemplars and what lingers."""
        with self._lock:
            self._take_pending()
            return SavedMetrics(
                self.run_labels,
                buckets(),
                self._values.known(),
                dict(self._values.overflowed),
                self._unslotted,
                [save_loop(loop) for loop in self._loops.values()],
                [save_run(run) for run in self._runs.values()],
            )

    def load(self, saved: SavedMetrics) -> None:
        """
        Go on from what was saved; to be called before anything else.

        Raises:
            DocumentError: It does not fit; nothing has changed.
        """
        saved.check(self.run_labels)
        with self._lock:
            values, slots = self._values, self._max_concurrent_runs
            values.know(saved.values)
            loops = [load_loop(each, slots, values) for each in saved.loops]
            self._loops = {loop.labels: loop for loop in loops}
            self._runs = {
                each.trace_id: load_run(each, self._loops[each.loop])
                for each in saved.runs
            }
            values.overflowed = Counter(saved.overflowed)
            self._unslotted = saved.unslotted

    def snapshot(self) -> Snapshot:
        """Give what a scrape sees now, and count the scrape."""
        with self._lock:
            found, now = self.look()
            self.seen(now)
        return found

    def look(self) -> tuple[Snapshot, float]:
        """Give what can be seen now, and the moment of it: `seen` may follow."""
        with self._lock:
            self._take_pending()
            loops = list(self._loops.values())
            families = [
                self._labelled(family)
                for family in loop_families(loops, run_info=self._run_info)
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

    def _take_pending(self) -> None:
        for run in self._runs.values():
            if run.pending:
                run.on_iterations()

    def _labelled(self, family: Family) -> Family:
        """Give the family the labels that the user has added."""
        if not self.run_labels:
            return family
        identity = (*IDENTITY_LABELS, *self.run_labels)
        return replace(family, metric=_with_identity(family.metric, identity))

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
        yield from sidecar_families(self._health.sidecar)


def _series(families: Iterable[Family]) -> int:
    # A histogram has its buckets, +Inf, a sum and a count.
    return sum(
        len(family.samples)
        * (len(family.metric.buckets) + 3 if family.metric.buckets else 1)
        for family in families
    )


@cache
def _with_identity(metric: Metric, identity: tuple[str, ...]) -> Metric:
    return replace(metric, identity=identity)


def _run_label(span: RunSpan, name: str) -> str:
    value = span.task_id if name == "task_id" else span.metadata.get(name)
    return "" if value is None else label_value(value)
