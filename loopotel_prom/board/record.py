"""What the board keeps of one run, and what it tells of it."""

import math
from collections import deque
from collections.abc import Iterable
from itertools import accumulate
from typing import NamedTuple

from msgspec import structs

from loopotel_prom import semconv
from loopotel_prom.board.callers import Callers
from loopotel_prom.board.curve import MOST_POINTS, Curve
from loopotel_prom.board.judgement import (
    RECENT_ITERATIONS,
    SLOPE_SCORES,
    burn_of,
    mark_of,
    slope_of,
)
from loopotel_prom.board.view import Caller, RunDetail, RunSummary
from loopotel_prom.plain import text
from loopotel_prom.runs.course import Happening, Step, course_of_open
from loopotel_prom.span import EvaluatorSpan, IterationSpan, RunSpan, WorkerSpan

FIRST_ROWS = 20
LAST_ROWS = 200
HAPPENINGS = 200
# Taken in at once, at the latest when someone looks.
BATCH = 64
# What a drawing the size of a word can show.
SUMMARY_POINTS = 60
# More workers and evaluators than anyone has in one iteration.
_INSIDE = 100
_TAIL = max(RECENT_ITERATIONS, SLOPE_SCORES)
_NAN = math.nan

Row = IterationSpan | Step


class Captured(NamedTuple):
    """A run as it was at one moment; nothing in it changes any more."""

    run: RunSpan
    parent: str | None
    latest: IterationSpan | None
    iterations: int
    tokens: int
    cost_usd: float | None
    score: float | None
    best: float | None
    since_best: int
    curve: Curve
    first: list[Row]
    last: list[Row]
    left_out: int
    happenings: list[Happening]
    happenings_left_out: int
    callers: list[Caller]


class RunRecord:
    """
    One run; its owner locks.

    Attributes:
        pending: Iterations that are not taken in yet; a batch costs half of one by
            one. Those with events, attributes or anything inside come by
            `add_rich`.
        inside: Ended workers and evaluators whose iteration has not.
        run: The run's span, the end once it is there; without what may be large.
    """

    __slots__ = (
        "_callers",
        "_cost_usd",
        "_curve",
        "_first",
        "_happened",
        "_happenings",
        "_last",
        "_latest",
        "_parent",
        "_rich",
        "_score",
        "_since_best",
        "_tokens",
        "best",
        "inside",
        "pending",
        "run",
    )

    def __init__(self, run: RunSpan) -> None:
        self._parent = _parent_of(run)
        self.run = _without_luggage(run)
        self.pending: list[IterationSpan] = []
        self.inside: list[WorkerSpan | EvaluatorSpan] = []
        self.best: float | None = None
        self._score: float | None = None
        self._since_best = 0
        self._latest: IterationSpan | None = None
        self._tokens = 0
        self._cost_usd: float | None = None
        self._curve = Curve()
        self._rich: dict[str, Step] = {}
        self._first: list[Row] = []
        self._last: deque[Row] = deque(maxlen=LAST_ROWS)
        self._happenings: deque[Happening] = deque(maxlen=HAPPENINGS)
        self._happened = 0
        self._callers = Callers()

    @property
    def iterations(self) -> int:
        """How many iterations it has had."""
        return self._curve.count + len(self.pending)

    def latest_ns(self) -> int:
        """Give the end of its latest iteration, or its start."""
        latest = self.pending[-1] if self.pending else self._latest
        return self.run.start_ns if latest is None else latest.end_ns

    def add(self, span: IterationSpan | WorkerSpan | EvaluatorSpan) -> None:
        """Take in what has ended; what is inside an iteration before it."""
        if not isinstance(span, IterationSpan):
            self._callers.add(span)
            if len(self.inside) < _INSIDE:
                self.inside.append(_slim(span))
        elif span.events or span.attributes or self.inside:
            self.add_rich(span)
        else:
            self.pending.append(span)
            if len(self.pending) >= BATCH:
                self.take_in()

    def add_rich(self, span: IterationSpan) -> None:
        """Take in an iteration that has more than numbers, without its luggage."""
        inside = [each for each in self.inside if each.parent_span_id == span.span_id]
        self.inside = []
        step, *happenings = course_of_open([*inside, span])
        if isinstance(step, Step):
            self._rich[span.span_id] = step
        self._note(happenings)
        kinds = {type(each) for each in inside}
        self.pending.append(
            structs.replace(
                span,
                attributes={},
                events=(),
                # Counted by their own spans already.
                worker_id=None if WorkerSpan in kinds else span.worker_id,
                evaluator_id=None if EvaluatorSpan in kinds else span.evaluator_id,
            )
        )
        if len(self.pending) >= BATCH:
            self.take_in()

    def finish(self, run: RunSpan) -> None:
        """Take in the end of the run."""
        self._note(course_of_open([run]))
        self._parent = _parent_of(run) or self._parent
        self.run = _without_luggage(run)
        self.inside = []

    def take_in(self) -> None:
        """Take in the pending iterations."""
        spans, self.pending = self.pending, []
        if not spans:
            return
        self._latest = spans[-1]
        tokens = [
            *accumulate([s.tokens_delta or 0 for s in spans], initial=self._tokens)
        ]
        self._tokens = tokens[-1]
        costs = [s.cost_usd for s in spans if s.cost_usd is not None]
        if costs:
            self._cost_usd = sum(costs, self._cost_usd or 0.0)
        raw = [s.goal_score for s in spans]
        self._curve.extend(
            [_NAN if score is None else score for score in raw],
            [s.les_cumulative for s in spans],
            tokens[1:],
        )
        self._take_in_scores([score for score in raw if score is not None])
        self._take_in_rows(spans)
        self._callers.add_named(spans)

    def _take_in_scores(self, scores: list[float]) -> None:
        if not scores:
            return
        self._score = scores[-1]
        highest = max(scores)
        if self.best is None or highest > self.best:
            self.best = highest
            self._since_best = len(scores) - 1 - scores.index(highest)
        else:
            self._since_best += len(scores)

    def _take_in_rows(self, spans: list[IterationSpan]) -> None:
        rows: list[Row] = [*spans]
        if self._rich:
            rows = [self._rich.get(span.span_id, span) for span in spans]
            self._rich = {}
        room = FIRST_ROWS - len(self._first)
        self._first += rows[:room]
        self._last.extend(rows[room:])

    def keep_rows(self, count: int) -> None:
        """Keep only so many of the latest iterations from now on."""
        if self._last.maxlen != count:
            self._last = deque(self._last, maxlen=count)

    def spent(self) -> tuple[int, float]:
        """Sum up tokens and cost."""
        tokens = self._tokens + sum([s.tokens_delta or 0 for s in self.pending])
        cost = sum([s.cost_usd or 0.0 for s in self.pending], self._cost_usd or 0.0)
        return max(tokens, self.run.tokens_total), cost

    def _note(self, happenings: Iterable[Step | Happening]) -> None:
        for happening in happenings:
            if isinstance(happening, Happening):
                self._happened += 1
                self._happenings.append(happening)

    def capture(self, *, whole: bool) -> Captured:
        """Copy what is to be told; without `whole` only what a summary needs."""
        self.take_in()
        last = [*self._last] if whole else [*self._last][-_TAIL:]
        shown = len(self._first) + len(self._last)
        return Captured(
            run=self.run,
            parent=self._parent,
            latest=self._latest,
            iterations=self._curve.count,
            tokens=max(self._tokens, self.run.tokens_total),
            cost_usd=self._cost_usd,
            score=self._score,
            best=self.best,
            since_best=self._since_best,
            curve=self._curve.copy(),
            first=[*self._first],
            last=last,
            left_out=self._curve.count - shown,
            happenings=[*self._happenings] if whole else [],
            happenings_left_out=self._happened - len(self._happenings),
            callers=self._callers.copy() if whole else [],
        )


def summary_of(seen: Captured, *, coarse: bool = True) -> RunSummary:
    """Sum up a run; a coarse course has 60 points, not 300."""
    run, latest = seen.run, seen.latest
    latest_ns = run.start_ns if latest is None else latest.end_ns
    if run.end_ns is not None:
        latest_ns = run.end_ns
    tail = [*seen.first, *seen.last][-_TAIL:]
    slope = slope_of([row.goal_score for row in tail if row.goal_score is not None])
    target = run.goal_target if latest is None else latest.goal_target
    minutes = (latest_ns - run.start_ns) / 60e9
    return RunSummary(
        trace_id=run.trace_id,
        loop_name=run.loop_name,
        env_id=run.env_id,
        task_id=run.task_id,
        parent=seen.parent,
        outcome="open" if run.end_ns is None else run.outcome,
        reason=run.termination_reason,
        started_ns=run.start_ns,
        latest_ns=latest_ns,
        iterations=seen.iterations,
        goal_score=seen.score,
        goal_target=target,
        best_score=seen.best,
        slope=slope,
        les=None if latest is None else latest.les_cumulative,
        tokens=seen.tokens,
        cost_usd=seen.cost_usd,
        tokens_per_minute=seen.tokens / minutes if minutes > 0 else None,
        mark=mark_of(
            goal_score=seen.score,
            goal_target=target,
            since_best=seen.since_best,
            slope=slope,
            burn=burn_of([*map(_tokens, tail)], seen.iterations, seen.tokens),
        ),
        points=seen.curve.points(SUMMARY_POINTS if coarse else MOST_POINTS),
    )


def detail_of(
    seen: Captured, *, source: str = "memory", notes: Iterable[str] = ()
) -> RunDetail:
    """Tell all that is kept of a run."""
    return RunDetail(
        summary=summary_of(seen, coarse=False),
        first=[_step(row) for row in seen.first],
        last=[_step(row) for row in seen.last],
        left_out=seen.left_out,
        happenings=seen.happenings,
        happenings_left_out=seen.happenings_left_out,
        callers=seen.callers,
        source=source,
        notes=[*notes],
    )


def _step(row: Row) -> Step:
    if isinstance(row, Step):
        return row
    step = next(course_of_open([row]))
    return step if isinstance(step, Step) else Step()


def _tokens(row: Row) -> int:
    return (row.tokens if isinstance(row, Step) else row.tokens_delta) or 0


def _parent_of(run: RunSpan) -> str | None:
    """Read the trace id of the run that this one says it is nested in."""
    parent = run.metadata.get(semconv.PARENT)
    trace_id = parent.get("trace_id") if isinstance(parent, dict) else None
    return text(trace_id, limit=64) if isinstance(trace_id, str) else None


def _without_luggage(run: RunSpan) -> RunSpan:
    if run.metadata or run.attributes or run.events:
        return structs.replace(run, metadata={}, attributes={}, events=())
    return run


def _slim(span: WorkerSpan | EvaluatorSpan) -> WorkerSpan | EvaluatorSpan:
    return structs.replace(span, attributes={}) if span.attributes else span
