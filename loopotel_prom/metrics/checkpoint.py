"""
The checkpoint of the metrics: their state, saved and loaded.

What is in it is told in `specs/sidecar.md`. Nothing here locks.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf, isfinite

import msgspec
from msgspec import Struct

from loopotel_prom.errors import DocumentError
from loopotel_prom.metrics.catalogue import CATALOGUE, DURATION_BUCKETS, SCORE_BUCKETS
from loopotel_prom.metrics.histogram import Calls, Histogram
from loopotel_prom.metrics.labels import OVERFLOW, LabelValues
from loopotel_prom.metrics.state import (
    EVALUATOR_SERIES,
    WORKER_SERIES,
    LoopState,
    RunState,
    size_of_loop,
)
from loopotel_prom.span import IterationSpan, RunSpan

# By the names of the loop's attributes.
_COUNTERS = (
    *("started", "iterations", "tokens", "input_tokens", "output_tokens"),
    *("cost_usd", "regressions", "gain", "safety_violations", "human_interventions"),
)
_COUNTS = ("finished", "terminations", "failures")
_LATEST = (
    *("last_run_end_ns", "last_run_success_ns"),
    *("last_run_goal_score", "last_run_les"),
)
_HISTOGRAMS = (
    *("iteration_duration", "run_duration", "run_iterations"),
    *("final_goal_score", "final_les"),
)
_CALLS = {"workers": DURATION_BUCKETS, "evaluators": SCORE_BUCKETS}


class SavedHistogram(Struct):
    """A histogram; its exemplars start anew. None stands for what is not finite."""

    counts: list[int]
    sum: float | None


class SavedCalls(Struct):
    """The calls of a worker or an evaluator."""

    count: int
    observed: SavedHistogram


class SavedLoop(Struct):
    """A loop's counters, by the names of its state's attributes."""

    labels: tuple[str, ...]
    counters: dict[str, int | float | None]
    counts: dict[str, dict[str, int]]
    latest: dict[str, int | float | None]
    histograms: dict[str, SavedHistogram]
    calls: dict[str, dict[str, SavedCalls]]


class SavedRun(Struct):
    """A run under way; its slot is given anew."""

    loop: tuple[str, ...]
    trace_id: str
    start_ns: int
    goal_target: float
    iterations: int
    tokens: int
    cost_usd: float | None
    latest: IterationSpan | None
    scored: IterationSpan | None
    called: list[tuple[str, str | None]]


class SavedMetrics(Struct):
    """
    All that a processor knows.

    Attributes:
        run_labels: What its loops are told apart by, beyond the identity.
        buckets: The bounds of each histogram.
        values: The label values that were admitted.
        overflowed: How often a value had no room, by label.
        unslotted: Runs that no slot was free for.
        loops: The counters.
        runs: The runs under way.
    """

    run_labels: tuple[str, ...]
    buckets: dict[str, tuple[float, ...]]
    values: dict[str, list[str]]
    overflowed: dict[str, int]
    unslotted: int
    loops: list[SavedLoop]
    runs: list[SavedRun]

    def check(self, run_labels: tuple[str, ...]) -> None:
        """
        See that it fits a processor of now.

        Raises:
            DocumentError: It was made with other labels or buckets.
        """
        if self.run_labels != run_labels:
            raise DocumentError(f"made with the run labels {list(self.run_labels)}")
        if self.buckets != buckets():
            raise DocumentError("made with other buckets, by another version")


def buckets() -> dict[str, tuple[float, ...]]:
    """Give the bounds of each histogram."""
    return {m.name: tuple(m.buckets) for m in CATALOGUE if m.buckets}


def save_loop(loop: LoopState) -> SavedLoop:
    """Copy a loop's counters."""
    return SavedLoop(
        loop.labels,
        {name: _finite(getattr(loop, name)) for name in _COUNTERS},
        {name: dict(getattr(loop, name)) for name in _COUNTS},
        {name: getattr(loop, name) for name in _LATEST},
        {name: _save_histogram(getattr(loop, name)) for name in _HISTOGRAMS},
        {name: _save_calls(getattr(loop, name)) for name in _CALLS},
    )


def load_loop(saved: SavedLoop, slots: int, values: LabelValues) -> LoopState:
    """Make a loop's state, and count its series."""
    loop = LoopState(saved.labels, slots, values)
    for name in _COUNTERS:
        value = saved.counters[name]
        setattr(loop, name, inf if value is None else value)
    for name in _COUNTS:
        getattr(loop, name).update(saved.counts[name])
    for name in _LATEST:
        setattr(loop, name, saved.latest[name])
    for name in _HISTOGRAMS:
        _load_histogram(getattr(loop, name), saved.histograms[name])
    for name, bounds in _CALLS.items():
        calls = saved.calls[name].items()
        setattr(loop, name, {each: _loaded(bounds, found) for each, found in calls})
    values.series += size_of_loop() + _own_series(loop)
    return loop


def save_run(run: RunState) -> SavedRun:
    """Copy a run under way."""
    return SavedRun(
        run.loop.labels,
        run.trace_id,
        run.start_ns,
        run.goal_target,
        run.iterations,
        run.tokens,
        _finite(run.cost_usd),
        _bare(run.latest),
        _bare(run.scored),
        sorted(run.called, key=str),
    )


def load_run(saved: SavedRun, loop: LoopState) -> RunState:
    """Show a run that is still under way."""
    run = loop.admit(
        RunSpan(
            trace_id=saved.trace_id,
            span_id="",
            start_ns=saved.start_ns,
            loop_name=saved.loop[0],
            goal_target=saved.goal_target,
        )
    )
    run.iterations, run.tokens = saved.iterations, saved.tokens
    run.cost_usd = saved.cost_usd
    run.latest, run.scored = saved.latest, saved.scored
    run.called = set(saved.called)
    return run


def _save_histogram(histogram: Histogram) -> SavedHistogram:
    return SavedHistogram([*histogram.counts], _finite(histogram.sum))


def _load_histogram(histogram: Histogram, saved: SavedHistogram) -> None:
    histogram.counts = saved.counts
    histogram.sum = inf if saved.sum is None else saved.sum


def _save_calls(calls: Mapping[str, Calls]) -> dict[str, SavedCalls]:
    return {
        name: SavedCalls(each.count, _save_histogram(each.observed))
        for name, each in calls.items()
    }


def _loaded(bounds: Sequence[float], saved: SavedCalls) -> Calls:
    calls = Calls(bounds)
    calls.count = saved.count
    _load_histogram(calls.observed, saved.observed)
    return calls


def _own_series(loop: LoopState) -> int:
    """Count the series of a loop's own workers, evaluators and codes."""
    sizes: tuple[tuple[Iterable[str], int], ...] = (
        (loop.workers, WORKER_SERIES),
        (loop.evaluators, EVALUATOR_SERIES),
        (loop.failures, 1),
    )
    return sum(size for names, size in sizes for name in names if name != OVERFLOW)


def _finite(value: float | None) -> float | None:
    # JSON has no infinity.
    return value if value is not None and isfinite(value) else None


def _bare(span: IterationSpan | None) -> IterationSpan | None:
    """Leave out what may be large, and is not shown."""
    if span is None:
        return None
    return msgspec.structs.replace(span, attributes={}, events=())
