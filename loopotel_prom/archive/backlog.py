"""The backlog: the newest records, kept in memory while no disk takes them."""

import threading
from collections import deque
from collections.abc import Iterable
from itertools import islice

BACKLOG_BYTES = 16 * 1024**2


class Backlog:
    """
    A bounded queue of journal lines; the oldest go when it is full. Thread-safe.

    Args:
        limit_bytes: How much it holds.

    Attributes:
        lines: What it holds, each with its run; to be looked at only.
    """

    def __init__(self, limit_bytes: int = BACKLOG_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self.lines: deque[tuple[str, bytes]] = deque()
        self._size_bytes = 0
        # Re-entrant: a signal handler may report while a report is under way.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, trace_id: str, line: bytes) -> list[str]:
        """Add a line; return the runs of the older ones that had to go for it."""
        gone = []
        with self._lock:
            self.lines.append((trace_id, line))
            self._size_bytes += len(line)
            while self._size_bytes > self._limit_bytes:
                run, oldest = self.lines.popleft()
                self._size_bytes -= len(oldest)
                gone.append(run)
        return gone

    def first(self, most: int) -> list[tuple[str, bytes]]:
        """Give the oldest lines, no more than so many, and leave them there."""
        with self._lock:
            # At once: a signal handler may add one meanwhile.
            return list(islice(self.lines, most))

    def remove(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Take out the oldest lines, those of them that are there still."""
        with self._lock:
            for item in items:
                if self.lines and self.lines[0] is item:
                    self._size_bytes -= len(self.lines.popleft()[1])

    def forget(self, trace_ids: Iterable[str]) -> None:
        """Drop the lines of runs that need them no more."""
        gone = frozenset(trace_ids)
        with self._lock:
            # In place: others look at it.
            for _ in range(len(self.lines)):
                item = self.lines.popleft()
                if item[0] in gone:
                    self._size_bytes -= len(item[1])
                else:
                    self.lines.append(item)

    def of(self, trace_id: str) -> list[bytes]:
        """Give the lines of a run, without their endings."""
        with self._lock:
            return [line[:-1] for run, line in self.lines if run == trace_id]
