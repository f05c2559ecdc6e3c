"""`BoardProcessor`: spans in, what people look at out."""

import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec import structs

from loopotel_prom import semconv
from loopotel_prom.board.judgement import badness
from loopotel_prom.board.record import (
    BATCH,
    LAST_ROWS,
    Captured,
    RunRecord,
    detail_of,
    summary_of,
)
from loopotel_prom.board.view import Overview, RunDetail, Totals
from loopotel_prom.span import IterationSpan, RunSpan, Span

# Of all runs together; half a kilobyte each.
_ROWS = 40_000
_FEWEST_ROWS = 25
# Runs dropped at a time: finding them takes a look at all.
_SLACK = 1.1


class BoardProcessor:
    """
    Keeps the runs under way and the latest that have ended, bounded in memory.

    Thread-safe. An iteration costs about a microsecond, whatever is kept.

    Args:
        max_active: How many runs under way are kept at least; of more, the quietest
            are left out, and counted.
        max_recent: How many ended runs are kept.
        time_ns: A clock, Unix nanoseconds.
    """

    def __init__(
        self,
        *,
        max_active: int = 1000,
        max_recent: int = 100,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._max_active = max_active
        self._max_recent = max_recent
        self._time_ns = time_ns
        self._begin()

    def _begin(self) -> None:
        # Re-entrant: a signal handler may emit while someone looks.
        self._lock = threading.RLock()
        self._active: dict[str, RunRecord] = {}
        self._recent: deque[RunRecord] = deque(maxlen=self._max_recent)
        self._totals = Totals(finished=dict.fromkeys(semconv.OUTCOMES, 0))
        self._unshown = 0
        self._rows = LAST_ROWS
        self._rationed = 0

    def on_start(self, span: RunSpan) -> None:
        """Show a run from now on."""
        with self._lock:
            self._totals.started += 1
            if len(self._active) >= self._max_active * _SLACK:
                self._drop_quiet()
            self._active[span.trace_id] = record = RunRecord(span)
            record.keep_rows(self._rows)
            self._ration()

    def on_end(self, span: Span) -> None:
        """Take in what has ended."""
        # Half the cost of a with statement.
        self._lock.acquire()
        try:
            record = self._active.get(span.trace_id)
            if record is None:
                if isinstance(span, RunSpan):
                    self._finish_unknown(span)
            elif type(span) is IterationSpan:
                # As `RunRecord.add` has it; its call would cost more than the rest.
                if span.events or span.attributes or record.inside:
                    record.add_rich(span)
                else:
                    pending = record.pending
                    pending.append(span)
                    if len(pending) >= BATCH:
                        record.take_in()
            elif isinstance(span, RunSpan):
                del self._active[span.trace_id]
                self._finish(record, span)
            else:
                record.add(span)
        finally:
            self._lock.release()

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - nothing is held back
        """Do nothing: every span is in the state already."""
        return True

    def close(self) -> None:
        """Do nothing: what was seen can be looked at as long as it is asked for."""

    def after_fork(self) -> None:
        """Start empty in a forked child: the parent shows its own."""
        self._begin()

    def now_ns(self) -> int:
        """Give the time, Unix nanoseconds."""
        return self._time_ns()

    def overview(self) -> Overview:
        """Tell how all runs are doing now."""
        with self._lock:
            active, recent = [*self._active.values()], [*self._recent]
            totals = self._sums(active)
            unshown = self._unshown
        # One by one: a loop that emits waits for one run to be copied, not for all.
        shown = [summary_of(self._capture(record)) for record in active]
        ended = [summary_of(self._capture(record)) for record in reversed(recent)]
        return Overview(
            now_ns=self._time_ns(),
            # One may have ended while the others were looked at.
            active=sorted((run for run in shown if run.is_open), key=badness),
            recent=ended,
            totals=totals,
            unshown=unshown,
        )

    def find(self, prefix: str) -> list[str]:
        """Give the ids of the runs in memory that begin so, active ones first."""
        with self._lock:
            known = [*self._active, *(each.run.trace_id for each in self._recent)]
        return [each for each in dict.fromkeys(known) if each.startswith(prefix)]

    def detail(self, trace_id: str) -> RunDetail | None:
        """Tell of one run; None if it is not in memory."""
        with self._lock:
            record = self._active.get(trace_id) or next(
                (
                    each
                    for each in reversed(self._recent)
                    if each.run.trace_id == trace_id
                ),
                None,
            )
            if record is None:
                return None
            captured = record.capture(whole=True)
        return detail_of(captured)

    def _capture(self, record: RunRecord) -> Captured:
        with self._lock:
            return record.capture(whole=False)

    def _finish(self, record: RunRecord, span: RunSpan) -> None:
        record.finish(span)
        self._recent.append(record)
        finished = self._totals.finished
        finished[span.outcome] = finished.get(span.outcome, 0) + 1
        self._count(record)

    def _finish_unknown(self, span: RunSpan) -> None:
        """Take in the end of a run that was left out, or never seen."""
        if self._unshown:
            self._unshown -= 1
            # What it spent was counted when it was left out, or never will be.
            span = structs.replace(span, tokens_total=0)
        self._finish(RunRecord(span), span)

    def _count(self, record: RunRecord) -> None:
        tokens, cost = record.spent()
        self._totals.iterations += record.iterations
        self._totals.tokens += tokens
        self._totals.cost_usd += cost

    def _sums(self, active: list[RunRecord]) -> Totals:
        known = self._totals
        spent = [record.spent() for record in active]
        return Totals(
            started=known.started,
            finished={**known.finished},
            iterations=known.iterations + sum(each.iterations for each in active),
            tokens=known.tokens + sum(tokens for tokens, _ in spent),
            cost_usd=known.cost_usd + sum(cost for _, cost in spent),
        )

    def _drop_quiet(self) -> None:
        """Leave out the runs that have been quiet longest."""
        quiet = sorted(self._active.values(), key=RunRecord.latest_ns)
        for record in quiet[: len(quiet) - self._max_active]:
            del self._active[record.run.trace_id]
            self._count(record)
            self._unshown += 1

    def _ration(self) -> None:
        """Keep fewer iterations of each run, the more runs there are."""
        active = len(self._active)
        share = _ROWS // (active + self._max_recent)
        rows = LAST_ROWS
        while rows > max(share, _FEWEST_ROWS):
            rows //= 2
        # Back up only once there are far fewer: not to and fro at each start.
        if rows < self._rows or (rows > self._rows and 2 * active < self._rationed):
            self._rows, self._rationed = rows, active
            for record in self._active.values():
                record.keep_rows(rows)
