"""The sampler of one loop: which points an instant adds to its history."""

from collections.abc import Sequence
from itertools import chain
from math import inf

from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.families import (
    CHILDREN_OF_LOOP,
    HISTOGRAMS_OF_CHILDREN,
    HISTOGRAMS_OF_LOOP,
    OF_LOOP,
    OF_RUN,
)
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.metrics.state import LoopState, RunState
from loopotel_prom.replay.cells import Distribution, Naming, Said, Scalar
from loopotel_prom.replay.grid import Grid

# What changes only as a run starts or ends; the rest of a loop, with any iteration.
_OF_TURNS = (
    catalogue.RUNS_ACTIVE,
    catalogue.LAST_RUN_GOAL_SCORE,
    catalogue.LAST_RUN_LES,
    catalogue.LAST_RUN_END_TIMESTAMP,
    catalogue.LAST_RUN_SUCCESS_TIMESTAMP,
    catalogue.RUNS_STARTED_TOTAL,
    catalogue.RUNS_FAILED_TOTAL,
    catalogue.RUNS_FINISHED_TOTAL,
    catalogue.RUN_TERMINATIONS_TOTAL,
)
_READS = [read for _, read in OF_LOOP]
_OFTEN = [i for i, (metric, _) in enumerate(OF_LOOP) if metric not in _OF_TURNS]
_OFTEN_READS = [_READS[index] for index in _OFTEN]
_RUN_READS = [read for _, read in OF_RUN]
_CHILDREN = [(index, *each) for index, each in enumerate(CHILDREN_OF_LOOP)]
_OFTEN_CHILDREN = [each for each in _CHILDREN if each[1] not in _OF_TURNS]


class LoopSampler:
    """
    Knows what was said of a loop last, and when it is to be said again.

    Args:
        loop: The loop.
        grid: The times.
        naming: Names the series.

    Attributes:
        due_ms: When it is to be sampled next.
    """

    def __init__(self, loop: LoopState, grid: Grid, naming: Naming) -> None:
        self._loop = loop
        self._grid = grid
        self._naming = naming
        self._of_loop = [self._scalar(metric, loop.labels) for metric, _ in OF_LOOP]
        self._often = [self._of_loop[index] for index in _OFTEN], _OFTEN_READS
        self._of_slots: list[list[Scalar]] = []
        # Who was in each of them when it was read last, and whose values are others
        # since: the rest need not be read.
        self._seen: list[RunState | None] = []
        self._touched: list[RunState] = []
        # Whether a run has started or ended; when the first slot is free again.
        self._has_turned = False
        self._rested_ms: float = inf
        self._distributions = [
            self._distribution(metric, loop.labels, histogram(loop))
            for metric, histogram in HISTOGRAMS_OF_LOOP
        ]
        # Of outcomes, workers and the like: metric by metric, those met so far, in the
        # order in which the loop has them, and what was said of them last.
        self._children: list[list[Scalar]] = [[] for _ in CHILDREN_OF_LOOP]
        self._told: list[list[float]] = [[] for _ in CHILDREN_OF_LOOP]
        self._callers = 0
        self._is_shown = False
        self._event_ms = 0
        self._whole_ms = 0
        self._ended_ms: float = -inf
        self.due_ms: float = inf

    def touch(self, run: RunState, time_ms: int, *, turned: bool) -> None:
        """Note that a run of the loop has news of this instant; or starts or ends."""
        self._event_ms = self.due_ms = time_ms
        self._touched.append(run)
        self._has_turned |= turned

    def sample(self, time_ms: int, said: Said, before: Said) -> None:
        """Add the points of an instant, and those of the one a step before."""
        if time_ms >= self._rested_ms:
            self._loop.expire((time_ms - self._grid.linger_ms) / 1e3)
            self._has_turned = True
        if time_ms >= self._last_ms():
            self._end(time_ms, said)
            return
        whole = not self._is_shown or time_ms >= self._whole_ms
        if whole:
            self._whole_ms = time_ms + self._grid.keep_alive_ms
            self._is_shown = True
        if self._ended_ms >= time_ms - self._grid.step_ms:
            # It ended a step ago: one point of an instant is all that a series has.
            before = Said()
        self._grow()
        self._read(said, before, whole=whole)
        self._plan()

    def _end(self, time_ms: int, said: Said) -> None:
        for scalar in chain(self._of_loop, *self._of_slots, *self._children):
            scalar.end(said)
        for distribution in self._distributions:
            distribution.end(said)
        self._is_shown = False
        self._ended_ms = time_ms
        self.due_ms = inf

    def _last_ms(self) -> int:
        """Give when the loop is not shown any more."""
        grid = self._grid
        patience_ms = grid.silent_ms if self._loop.active else grid.idle_ms
        return self._event_ms + patience_ms

    def _plan(self) -> None:
        if self._has_turned:
            self._has_turned = False
            freed = [run.freed_at for run in self._loop.slots if run is not None]
            ends = [round(each * 1e3) for each in freed if each is not None]
            self._rested_ms = min(ends, default=inf) + self._grid.linger_ms
        self.due_ms = min(self._last_ms(), self._whole_ms, self._rested_ms)

    def _grow(self) -> None:
        """Take in slots and callers that are met for the first time."""
        loop, slots, known = self._loop, self._loop.slots, self._of_slots
        # Of the free slots the lowest is taken first.
        while len(known) < len(slots) and slots[len(known)] is not None:
            labels = (*loop.labels, str(len(known)))
            known.append([self._scalar(metric, labels) for metric, _ in OF_RUN])
        if self._callers == len(loop.workers) + len(loop.evaluators):
            return
        self._callers = len(loop.workers) + len(loop.evaluators)
        met = {each.histogram for each in self._distributions}
        self._distributions += [
            self._distribution(metric, (*loop.labels, name), histogram)
            for metric, histograms in HISTOGRAMS_OF_CHILDREN
            for name, histogram in histograms(loop)
            if histogram not in met
        ]

    def _read(self, said: Said, before: Said, *, whole: bool) -> None:
        everything = whole or self._has_turned
        scalars, reads = (self._of_loop, _READS) if everything else self._often
        values = [read(self._loop) for read in reads]
        _say(scalars, values, said, before, whole=whole)
        self._read_slots(said, before, whole=whole)
        self._read_children(said, before, everything=everything, whole=whole)
        for distribution in self._distributions:
            if distribution.histogram.counts != distribution.counts:
                distribution.change(said, before)
            elif whole:
                said.histograms.append(distribution.said)

    def _read_slots(self, said: Said, before: Said, *, whole: bool) -> None:
        """Read those with another run, or with one that was touched; or all."""
        seen, touched = self._seen, self._touched
        self._seen, self._touched = self._loop.slots[: len(self._of_slots)], []
        seen += [None] * (len(self._seen) - len(seen))
        for run, former, scalars in zip(self._seen, seen, self._of_slots, strict=True):
            if run is None:
                for scalar in scalars if former is not None else ():
                    scalar.end(said)
            elif whole or run is not former or run in touched:
                values = [read(run) for read in _RUN_READS]
                _say(scalars, values, said, before, whole=whole)

    def _read_children(
        self, said: Said, before: Said, *, everything: bool, whole: bool
    ) -> None:
        for index, metric, children in _CHILDREN if everything else _OFTEN_CHILDREN:
            found = list(children(self._loop))
            values = [value for _, value in found]
            if whole or values != self._told[index]:
                self._told[index] = values
                scalars = self._children[index]
                for name, _ in found[len(scalars) :]:
                    labels = (*self._loop.labels, name)
                    scalars.append(self._scalar(metric, labels))
                _say(scalars, values, said, before, whole=whole)

    def _scalar(self, metric: Metric, labels: tuple[str, ...]) -> Scalar:
        series = self._naming.of_scalar(metric, labels)
        return Scalar(series, is_counter=metric.type == "counter")

    def _distribution(
        self, metric: Metric, labels: tuple[str, ...], histogram: Histogram
    ) -> Distribution:
        return Distribution(self._naming.of_histogram(metric, labels), histogram)


def _say(
    scalars: list[Scalar],
    values: Sequence[float | None],
    said: Said,
    before: Said,
    *,
    whole: bool,
) -> None:
    """Say the values that are others than those said last, or all that are there."""
    for scalar, value in zip(scalars, values, strict=True):
        if value != scalar.value:
            if value is None:
                scalar.end(said)
            elif scalar.value is None:
                scalar.begin(value, said, before)
            else:
                scalar.value = value
                said.scalars.append((scalar.series, value))
        elif whole and value is not None:
            said.scalars.append((scalar.series, value))
