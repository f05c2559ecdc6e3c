"""The history: what Prometheus would have stored, had it scraped at each moment."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from math import inf

from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.state import LoopState, RunState
from loopotel_prom.replay.cells import Naming, Said
from loopotel_prom.replay.grid import Grid
from loopotel_prom.replay.moments import START, Moment
from loopotel_prom.replay.options import HistoryOptions
from loopotel_prom.replay.points import Instant
from loopotel_prom.replay.sampler import LoopSampler
from loopotel_prom.span import RunSpan


def history(
    moments: Iterable[Moment], options: HistoryOptions | None = None
) -> Iterator[Instant]:
    """
    Sample what happened, as `specs/backfill.md` has it.

    Args:
        moments: In the order of their times, as a `Timeline` gives them.
        options: How to sample.

    Yields:
        Instants, their times strictly ascending. A series is the same object
        wherever it comes.
    """
    chosen = options or HistoryOptions()
    begin_ms = -inf if chosen.since_ms is None else chosen.since_ms
    end_ms = inf if chosen.until_ms is None else chosen.until_ms
    for instant in _History(chosen).instants(moments):
        if instant.time_ms > end_ms:
            return
        if instant.time_ms >= begin_ms:
            yield instant


class _History:
    """The state of all loops at an instant, and what was said of them."""

    def __init__(self, options: HistoryOptions) -> None:
        self._grid = Grid(options)
        self._naming = Naming(options)
        self._now_ms = 0
        self._samplers: dict[LoopState, LoopSampler] = {}
        # The latest may get more points yet, of series that begin behind it.
        self._latest: Said | None = None
        self._latest_ms = 0
        self._processor = MetricsProcessor(
            health=Health(),
            max_concurrent_runs=options.max_concurrent_runs,
            run_labels=options.run_labels,
            max_series=options.max_series,
            monotonic=lambda: self._now_ms / 1e3,
        )

    def instants(self, moments: Iterable[Moment]) -> Iterator[Instant]:
        """Yield all instants."""
        grid = self._grid
        groups = groupby(moments, key=lambda moment: grid.instant_ms(moment.time_ns))
        for time_ms, group in groups:
            if self._next_due() < time_ms:
                yield from self._quiet(time_ms)
            self._feed(time_ms, group)
            yield from self._sampled(time_ms)
        yield from self._quiet(inf)
        if self._latest is not None:
            yield self._latest.at(self._latest_ms)

    def _feed(self, time_ms: int, group: Iterable[Moment]) -> None:
        """Take in what happened at an instant."""
        self._now_ms = time_ms
        processor = self._processor
        # Whose values are others now; and whether it has started or ended.
        touched: dict[RunState, bool] = {}
        for moment in group:
            span = moment.span
            trace_id, turned = span.trace_id, isinstance(span, RunSpan)
            # Before its end; after that, it is nobody's.
            if turned and (run := processor.run(trace_id)) is not None:
                touched[run] = True
            if moment.rank == START and isinstance(span, RunSpan):
                processor.on_start(span)
            else:
                processor.on_end(span)
            if (run := processor.run(trace_id)) is not None:
                touched[run] = turned or touched.get(run, False)
        for run, turned in touched.items():
            sampler = self._samplers.get(run.loop)
            if sampler is None:
                sampler = LoopSampler(run.loop, self._grid, self._naming)
                self._samplers[run.loop] = sampler
            sampler.touch(run, time_ms, turned=turned)

    def _quiet(self, until_ms: float) -> Iterator[Instant]:
        """Go on to an instant at which something happens, or to the end of all."""
        while (due := self._next_due()) < until_ms:
            yield from self._sampled(int(due))

    def _next_due(self) -> float:
        return min([each.due_ms for each in self._samplers.values()], default=inf)

    def _sampled(self, time_ms: int) -> Iterator[Instant]:
        """Sample all that is due; yield what can get no more points."""
        said, before = Said(), Said()
        for sampler in self._samplers.values():
            if sampler.due_ms <= time_ms:
                sampler.sample(time_ms, said, before)
        for at_ms, each in ((time_ms - self._grid.step_ms, before), (time_ms, said)):
            if each and (latest := self._say(at_ms, each)) is not None:
                yield latest

    def _say(self, time_ms: int, said: Said) -> Instant | None:
        """Say it; give what was latest until now, if that was another instant."""
        latest, latest_ms = self._latest, self._latest_ms
        if latest is not None and latest_ms == time_ms:
            latest.extend(said)
            return None
        self._latest, self._latest_ms = said, time_ms
        return None if latest is None else latest.at(latest_ms)
