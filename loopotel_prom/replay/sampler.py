"""The sampler of one loop: which points an instant adds to its history."""

from collections.abc import Callable
from itertools import chain
from math import inf
from typing import TypeAlias

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
from loopotel_prom.replay.cells import Distribution, Naming, Points, Scalar
from loopotel_prom.replay.grid import Grid

ReadRun: TypeAlias = Callable[[RunState], float | None]


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
        self._of_loop = [
            (self._scalar(metric, loop.labels), read) for metric, read in OF_LOOP
        ]
        self._of_slots: list[list[tuple[Scalar, ReadRun]]] = []
        self._distributions = [
            self._distribution(metric, loop.labels, histogram(loop))
            for metric, histogram in HISTOGRAMS_OF_LOOP
        ]
        # Of outcomes, workers and the like: metric by metric, those met so far.
        self._children: list[dict[str, Scalar]] = [{} for _ in CHILDREN_OF_LOOP]
        self._met: list[list[tuple[str, float]]] = [[] for _ in CHILDREN_OF_LOOP]
        self._callers = 0
        self._is_shown = False
        self._event_ms = 0
        self._whole_ms = 0
        self._ended_ms: float = -inf
        self.due_ms: float = inf

    def touch(self, time_ms: int) -> None:
        """Note that something happens in the loop at this instant."""
        self._event_ms = self.due_ms = time_ms

    def sample(self, time_ms: int, points: Points, before: Points) -> None:
        """Add the points of an instant, and those of the one a step before."""
        self._loop.expire((time_ms - self._grid.linger_ms) / 1e3)
        if time_ms >= self._last_ms():
            self._end(time_ms, points)
            return
        whole = not self._is_shown or time_ms >= self._whole_ms
        if whole:
            self._whole_ms = time_ms + self._grid.keep_alive_ms
            self._is_shown = True
        if self._ended_ms >= time_ms - self._grid.step_ms:
            # It ended a step ago: one point of an instant is all that a series has.
            before = []
        self._grow()
        self._read(points, before, whole=whole)
        self._plan()

    def _end(self, time_ms: int, points: Points) -> None:
        cells = [*self._of_loop, *chain.from_iterable(self._of_slots)]
        children = chain.from_iterable(each.values() for each in self._children)
        for scalar in chain((scalar for scalar, _ in cells), children):
            scalar.end(points)
        for distribution in self._distributions:
            distribution.end(points)
        self._met = [[] for _ in CHILDREN_OF_LOOP]
        self._is_shown = False
        self._ended_ms = time_ms
        self.due_ms = inf

    def _last_ms(self) -> int:
        """Give when the loop is not shown any more."""
        grid = self._grid
        patience_ms = grid.silent_ms if self._loop.active else grid.idle_ms
        return self._event_ms + patience_ms

    def _plan(self) -> None:
        due = min(self._last_ms(), self._whole_ms)
        for run in self._loop.slots:
            if run is not None and run.freed_at is not None:
                due = min(due, round(run.freed_at * 1e3) + self._grid.linger_ms)
        self.due_ms = due

    def _grow(self) -> None:
        """Take in slots and callers that are met for the first time."""
        loop, slots, known = self._loop, self._loop.slots, self._of_slots
        # Of the free slots the lowest is taken first.
        while len(known) < len(slots) and slots[len(known)] is not None:
            labels = (*loop.labels, str(len(known)))
            known.append([(self._scalar(m, labels), read) for m, read in OF_RUN])
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

    def _read(self, points: Points, before: Points, *, whole: bool) -> None:
        for scalar, value in self._values(whole=whole):
            if value != scalar.value:
                scalar.change(value, points, before)
            elif whole and value is not None:
                points.append((scalar.series, value))
        for distribution in self._distributions:
            if distribution.histogram.counts != distribution.counts:
                distribution.change(points, before)
            elif whole:
                points += distribution.said

    def _values(self, *, whole: bool) -> list[tuple[Scalar, float | None]]:
        """Read what may have changed, or all; None for what is not there."""
        loop = self._loop
        values = [(scalar, read(loop)) for scalar, read in self._of_loop]
        for run, cells in zip(loop.slots, self._of_slots, strict=False):
            if run is None:
                values += [(scalar, None) for scalar, _ in cells]
            else:
                values += [(scalar, read(run)) for scalar, read in cells]
        for index, (metric, children) in enumerate(CHILDREN_OF_LOOP):
            found = list(children(loop))
            if whole or found != self._met[index]:
                self._met[index] = found
                values += [(self._child(index, metric, n), v) for n, v in found]
        return values

    def _child(self, index: int, metric: Metric, name: str) -> Scalar:
        scalar = self._children[index].get(name)
        if scalar is None:
            scalar = self._scalar(metric, (*self._loop.labels, name))
            self._children[index][name] = scalar
        return scalar

    def _scalar(self, metric: Metric, labels: tuple[str, ...]) -> Scalar:
        series = self._naming.of_scalar(metric, labels)
        return Scalar(series, is_counter=metric.type == "counter")

    def _distribution(
        self, metric: Metric, labels: tuple[str, ...], histogram: Histogram
    ) -> Distribution:
        return Distribution(self._naming.of_histogram(metric, labels), histogram)
