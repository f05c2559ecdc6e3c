"""The player: feeds what was recorded to a pipeline, at a pace."""

from collections.abc import Callable, Iterable
from typing import TypeAlias

from loopotel_prom.pipeline import Pipeline
from loopotel_prom.replay.moments import END, START, Moment
from loopotel_prom.replay.pace import Pace, ended_at
from loopotel_prom.span import IterationSpan, RunSpan

Clock: TypeAlias = Callable[[], int]


class Player:
    """
    Plays moments into the processors that live loops feed.

    Args:
        pipeline: Of the processors.
        pace: When it is time for each.
        now_ns: Gives the time at which spans end; None to leave theirs.

    Attributes:
        runs: How many runs have ended.
        iterations: How many iterations.
        active: How many runs are under way.
        time_ns: The recorded time of the latest moment; None before.
    """

    def __init__(self, pipeline: Pipeline, pace: Pace, now_ns: Clock | None) -> None:
        self._pipeline = pipeline
        self._pace = pace
        self._now_ns = now_ns
        self.runs = 0
        self.iterations = 0
        self.active = 0
        self.time_ns: int | None = None

    def play(self, moments: Iterable[Moment], tell: Callable[[], None]) -> bool:
        """Play all; `tell` is called after each. False if it was told to stop."""
        for moment in moments:
            if not self._pace.wait_for(moment.time_ns, idle=not self.active):
                return False
            self.time_ns = moment.time_ns
            self._feed(moment)
            tell()
        return True

    def _feed(self, moment: Moment) -> None:
        span = moment.span
        if self._now_ns is not None:
            span = ended_at(span, self._now_ns())
        if moment.rank == START and isinstance(span, RunSpan):
            self.active += 1
            self._pipeline.on_start(span)
            return
        self._pipeline.on_end(span)
        self.iterations += isinstance(span, IterationSpan)
        if moment.rank == END:
            self.active -= 1
            self.runs += 1
