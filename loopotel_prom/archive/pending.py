"""The runs that have ended and wait for a disk that takes their documents."""

import threading
from collections import deque
from collections.abc import Iterable

from loopotel_prom.span import ChildSpan, RunSpan

# What they may hold in memory, all together.
_MOST_SPANS = 50_000
_MOST_RUNS = 10_000


class Run:
    """
    A run that is not sealed yet.

    Attributes:
        trace_id: The run.
        next_seq: The number of its next record.
        spans: What has ended; None once it is in the journal alone.
        end: Its own span, once that has ended.
    """

    __slots__ = ("end", "next_seq", "spans", "trace_id")

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.next_seq = 0
        self.spans: list[ChildSpan] | None = []
        self.end: RunSpan | None = None


class Pending:
    """
    A queue of ended runs, bounded in what it holds. Thread-safe.

    Args:
        has_journal: What is let go of here is in the journal still, where recovery
            finds it; else it is lost.
    """

    def __init__(self, *, has_journal: bool) -> None:
        self._has_journal = has_journal
        self._runs: deque[Run] = deque()
        # Re-entrant: a signal handler may end a run while one is ended.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: Run) -> int:
        """Add a run; return how many spans, of the oldest, are lost for it."""
        with self._lock:
            self._runs.append(run)
            held = sum(len(each.spans or ()) for each in self._runs)
            if self._has_journal and held > _MOST_SPANS:
                run.spans, held = None, 0
            lost = 0
            while held > _MOST_SPANS or len(self._runs) > _MOST_RUNS:
                gone = len(self._runs.popleft().spans or ())
                held -= gone
                lost += gone + 1
        return 0 if self._has_journal else lost

    def add_first(self, runs: Iterable[Run]) -> None:
        """Put runs back before all others."""
        with self._lock:
            self._runs.extendleft(reversed([*runs]))

    def first(self) -> Run | None:
        """Give the oldest, and leave it there."""
        with self._lock:
            return self._runs[0] if self._runs else None

    def remove(self, run: Run) -> None:
        """Take a run out, if it is there still."""
        with self._lock:
            if run in self._runs:
                self._runs.remove(run)

    def latest(self, trace_id: str) -> Run | None:
        """Find a run."""
        with self._lock:
            found = [run for run in self._runs if run.trace_id == trace_id]
        return found[-1] if found else None
