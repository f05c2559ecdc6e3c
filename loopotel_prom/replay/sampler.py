"""The sampler of one loop: which points an instant adds to its history."""

from itertools import accumulate
from math import inf
from typing import TypeAlias

from loopotel_prom.metrics.catalogue import IDENTITY_LABELS, Metric
from loopotel_prom.metrics.exposition import upper_bounds
from loopotel_prom.metrics.families import Reading, readings
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.metrics.state import LoopState
from loopotel_prom.replay.options import HistoryOptions
from loopotel_prom.replay.points import STALE, Series

Points: TypeAlias = list[tuple[Series, float]]

# A run without a sign of life for longer is shown no more: a wrong clock must not
# fill a disk.
_SILENT_SECONDS = 86_400.0


class Grid:
    """
    The times of the options, in steps of the resolution.

    Attributes:
        step_ms: The resolution.
        keep_alive_ms, linger_ms, idle_ms: At least one step each.
    """

    def __init__(self, options: HistoryOptions) -> None:
        self.step_ms = round(options.resolution_seconds * 1e3)
        self.keep_alive_ms = self._steps(options.keep_alive_seconds)
        self.linger_ms = self._steps(options.linger_seconds)
        self.idle_ms = self._steps(options.idle_seconds)
        self.silent_ms = max(self.idle_ms, self._steps(_SILENT_SECONDS))

    def instant_ms(self, time_ns: int) -> int:
        """Round a time up to an instant."""
        return -(-time_ns // (self.step_ms * 1_000_000)) * self.step_ms

    def _steps(self, seconds: float) -> int:
        return max(1, -(-round(seconds * 1e3) // self.step_ms)) * self.step_ms


class LoopSampler:
    """
    Remembers what was said of a loop last, and when what is to be said again.

    Args:
        loop: The loop.
        grid: The times.
        options: The labels.

    Attributes:
        due_ms: When it is to be sampled next, though nothing happens.
    """

    def __init__(self, loop: LoopState, grid: Grid, options: HistoryOptions) -> None:
        self._loop = loop
        self._grid = grid
        self._identity = (*IDENTITY_LABELS, *options.run_labels)
        self._constant = options.labels
        self._cells: dict[tuple[str, tuple[str, ...]], _Cell] = {}
        self._shown = 0
        self._round = 0
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
        if not self._shown:
            self._whole_ms = time_ms
        whole = time_ms >= self._whole_ms
        if whole:
            self._whole_ms = time_ms + self._grid.keep_alive_ms
        if self._ended_ms >= time_ms - self._grid.step_ms:
            # It ended a step ago: one point of an instant is all that a series has.
            before = []
        self._read(points, before, whole=whole)
        self._plan()

    def _end(self, time_ms: int, points: Points) -> None:
        for cell in self._cells.values():
            cell.end(points)
        self._shown = 0
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

    def _read(self, points: Points, before: Points, *, whole: bool) -> None:
        self._round += 1
        cells, number, shown, met = self._cells, self._round, self._shown, 0
        for metric, labels, reading in readings(self._loop):
            cell = cells.get((metric.name, labels))
            if cell is None:
                cell = cells[metric.name, labels] = self._cell(metric, labels)
            cell.round = number
            mark = _mark(reading)
            changed = mark != cell.mark
            if cell.shown:
                met += 1
            else:
                if changed and metric.type != "gauge":
                    before += zip(cell.series, cell.values, strict=True)
                cell.shown = changed = True
                self._shown += 1
            if changed:
                cell.mark, cell.values = mark, _values(reading)
            if changed or whole:
                points += zip(cell.series, cell.values, strict=True)
        if met < shown:
            self._drop(points)

    def _drop(self, points: Points) -> None:
        """End the series that were not met in this round."""
        for cell in self._cells.values():
            if cell.shown and cell.round != self._round:
                cell.end(points)
                self._shown -= 1

    def _cell(self, metric: Metric, labels: tuple[str, ...]) -> "_Cell":
        names = (*self._identity, *metric.labels)
        pairs = [*zip(names, labels, strict=True), *self._constant]
        # An empty label is none.
        own = tuple(sorted(pair for pair in pairs if pair[1]))
        if metric.type != "histogram":
            start = 0 if metric.type == "counter" else None
            return _Cell((Series(metric.name, own),), start, (0.0,))
        buckets = [
            Series(f"{metric.name}_bucket", tuple(sorted((*own, ("le", bound)))))
            for bound in upper_bounds(metric)
        ]
        totals = [Series(f"{metric.name}_{part}", own) for part in ("count", "sum")]
        empty = Histogram(metric.buckets)
        series = (*buckets, *totals)
        return _Cell(series, tuple(empty.counts), _values(empty))


class _Cell:
    """
    One series, or those of one histogram.

    Attributes:
        series: The series.
        mark: What tells whether the values are others than before.
        values: What was said last, or, of a count, what it begins with.
        round: When it was last met.
        shown: Whether it has not ended.
    """

    __slots__ = ("mark", "round", "series", "shown", "values")

    def __init__(
        self,
        series: tuple[Series, ...],
        mark: float | tuple[int, ...] | None,
        values: tuple[float, ...],
    ) -> None:
        self.series = series
        self.mark = mark
        self.values = values
        self.round = 0
        self.shown = False

    def end(self, points: Points) -> None:
        """Mark the series as ended, if they are shown."""
        if self.shown:
            self.shown = False
            points += [(series, STALE) for series in self.series]


def _mark(reading: Reading) -> float | tuple[int, ...]:
    return tuple(reading.counts) if isinstance(reading, Histogram) else reading


def _values(reading: Reading) -> tuple[float, ...]:
    if isinstance(reading, Histogram):
        cumulative = tuple(accumulate(reading.counts))
        return (*cumulative, cumulative[-1], reading.sum)
    return (reading,)
