"""The sampler of one loop: which points an instant adds to its history."""

from collections.abc import Callable
from functools import partial
from math import inf

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
        self._scalars = [
            self._scalar(metric, loop.labels, partial(read, loop))
            for metric, read in OF_LOOP
        ]
        self._distributions = [
            self._distribution(metric, loop.labels, histogram(loop))
            for metric, histogram in HISTOGRAMS_OF_LOOP
        ]
        # Of outcomes, workers and the like: metric by metric, those met so far.
        self._children: list[dict[str, Scalar]] = [{} for _ in CHILDREN_OF_LOOP]
        self._met: list[list[tuple[str, float]]] = [[] for _ in CHILDREN_OF_LOOP]
        self._slots = 0
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
        self._read_children(points, before, whole=whole)
        self._plan()

    def _end(self, time_ms: int, points: Points) -> None:
        for scalar in self._scalars:
            scalar.end(points)
        for children in self._children:
            for scalar in children.values():
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
        rests = [
            round(run.freed_at * 1e3) + self._grid.linger_ms
            for run in self._loop.slots
            if run is not None and run.freed_at is not None
        ]
        self.due_ms = min(self._last_ms(), self._whole_ms, *rests)

    def _grow(self) -> None:
        """Take in slots and callers that are met for the first time."""
        loop, slots = self._loop, self._loop.slots
        # Of the free slots the lowest is taken first.
        while self._slots < len(slots) and slots[self._slots] is not None:
            labels = (*loop.labels, str(self._slots))
            self._scalars += [
                self._scalar(metric, labels, partial(_of_slot, read, loop, self._slots))
                for metric, read in OF_RUN
            ]
            self._slots += 1
        if self._callers == len(loop.workers) + len(loop.evaluators):
            return
        self._callers = len(loop.workers) + len(loop.evaluators)
        known = {each.histogram for each in self._distributions}
        self._distributions += [
            self._distribution(metric, (*loop.labels, name), histogram)
            for metric, histograms in HISTOGRAMS_OF_CHILDREN
            for name, histogram in histograms(loop)
            if histogram not in known
        ]

    def _read(self, points: Points, before: Points, *, whole: bool) -> None:
        for scalar in self._scalars:
            value = scalar.read()
            if value != scalar.value:
                scalar.change(value, points, before)
            elif whole and value is not None:
                points.append((scalar.series, value))
        for distribution in self._distributions:
            if distribution.histogram.counts != distribution.counts:
                distribution.change(points, before)
            elif whole:
                points += distribution.said

    def _read_children(self, points: Points, before: Points, *, whole: bool) -> None:
        for index, (metric, children) in enumerate(CHILDREN_OF_LOOP):
            found = list(children(self._loop))
            if found == self._met[index] and not whole:
                continue
            self._met[index] = found
            cells = self._children[index]
            for name, value in found:
                scalar = cells.get(name)
                if scalar is None:
                    labels = (*self._loop.labels, name)
                    scalar = cells[name] = self._scalar(metric, labels)
                if value != scalar.value:
                    scalar.change(value, points, before)
                elif whole:
                    points.append((scalar.series, value))

    def _scalar(
        self,
        metric: Metric,
        labels: tuple[str, ...],
        read: Callable[[], float | None] = lambda: None,
    ) -> Scalar:
        series = self._naming.of_scalar(metric, labels)
        return Scalar(series, is_counter=metric.type == "counter", read=read)

    def _distribution(
        self, metric: Metric, labels: tuple[str, ...], histogram: Histogram
    ) -> Distribution:
        return Distribution(self._naming.of_histogram(metric, labels), histogram)


def _of_slot(
    read: Callable[[RunState], float | None], loop: LoopState, slot: int
) -> float | None:
    run = loop.slots[slot]
    return None if run is None else read(run)
