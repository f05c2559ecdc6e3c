"""
The state behind the metrics: per loop, per active run.

Nothing here locks; `MetricsProcessor` does, around every call.
"""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from loopotel_prom import semconv
from loopotel_prom.metrics.catalogue import DURATION_BUCKETS
from loopotel_prom.metrics.snapshot import HistogramValue
from loopotel_prom.span import IterationSpan, RunSpan

# A run that is over is shown for two more scrapes, so that a scraper sees how
# it ended and a second one does too.
RESTING_SCRAPES = 2


class Histogram:
    """Counts of observations by bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def value(self) -> HistogramValue:
        """Copy the state."""
        return HistogramValue(tuple(accumulate(self.counts)), self.sum)


class RunState:
    """
    What is shown of one run.

    Attributes:
        loop: The loop it is a run of.
        slot: Its place among the loop's active runs; None beyond the last.
        start_ns: When it started, Unix nanoseconds.
        latest: Its latest iteration; most of what is shown is read off this.
        scored: Its latest iteration that has a score.
        tokens: Tokens so far.
        cost_usd: Reported cost so far; None before the first.
        freed_at: When it ended, monotonic seconds; its slot then rests.
        scrapes_left: For how many more scrapes the slot rests.
    """

    __slots__ = (
        "cost_usd",
        "freed_at",
        "goal_target",
        "latest",
        "loop",
        "scored",
        "scrapes_left",
        "slot",
        "start_ns",
        "tokens",
    )

    def __init__(self, loop: "LoopState", span: RunSpan) -> None:
        self.loop = loop
        self.slot: int | None = None
        self.start_ns = span.start_ns
        self.goal_target = span.goal_target
        self.latest: IterationSpan | None = None
        self.scored: IterationSpan | None = None
        self.tokens = 0
        self.cost_usd: float | None = None
        self.freed_at: float | None = None
        self.scrapes_left = RESTING_SCRAPES

    def on_iteration(self, span: IterationSpan) -> None:
        """Take in an iteration, for the run and for its loop."""
        loop = self.loop
        loop.iterations += 1
        self.latest = span
        if span.goal_score is not None:
            self.scored = span
        tokens = span.tokens_delta
        if tokens:
            self.tokens += tokens
            loop.tokens += tokens
        cost_usd = span.cost_usd
        if cost_usd is not None:
            self.cost_usd = cost_usd + (self.cost_usd or 0.0)
            loop.cost_usd += cost_usd
        latency_ms = span.latency_ms
        if latency_ms is not None:
            seconds = latency_ms / 1000.0
            durations = loop.iteration_duration
            durations.counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
            durations.sum += seconds


class LoopState:
    """The counters of one loop (one identity), and the slots of its runs."""

    __slots__ = (
        "active",
        "cost_usd",
        "finished",
        "iteration_duration",
        "iterations",
        "labels",
        "last_run_end_ns",
        "last_run_goal_score",
        "last_run_les",
        "slots",
        "started",
        "tokens",
    )

    def __init__(self, labels: tuple[str, ...], slots: int) -> None:
        self.labels = labels
        self.slots: list[RunState | None] = [None] * slots
        self.active = 0
        self.started = 0
        self.finished = dict.fromkeys(semconv.OUTCOMES, 0)
        self.iterations = 0
        self.tokens = 0
        self.cost_usd = 0.0
        self.iteration_duration = Histogram(DURATION_BUCKETS)
        self.last_run_end_ns: int | None = None
        self.last_run_goal_score: float | None = None
        self.last_run_les: float | None = None

    def on_start(self, span: RunSpan) -> RunState:
        """Take in a run that starts; it gets the lowest free slot, if any is."""
        self.started += 1
        self.active += 1
        run = RunState(self, span)
        for index, holder in enumerate(self.slots):
            if holder is None:
                run.slot = index
                self.slots[index] = run
                break
        return run

    def on_finish(self, run: RunState, span: RunSpan, now: float) -> None:
        """Take in the end of a run; `now` is a monotonic time in seconds."""
        self.active -= 1
        self.finished[span.outcome] += 1
        self.last_run_end_ns = span.end_ns
        scored = run.scored
        self.last_run_goal_score = None if scored is None else scored.goal_score
        self.last_run_les = None if scored is None else scored.les_cumulative
        run.freed_at = now

    def release(self, now: float, linger_seconds: float) -> None:
        """Count a scrape, and free the slots that have rested long enough."""
        for index, run in enumerate(self.slots):
            if run is None or run.freed_at is None:
                continue
            run.scrapes_left -= 1
            if run.scrapes_left <= 0 or now - run.freed_at >= linger_seconds:
                self.slots[index] = None
