"""The backlog: the newest records, kept in memory while no disk takes them."""

import threading
from collections import deque
from collections.abc import Iterable

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

    def first(self) -> tuple[str, bytes] | None:
        """Give the oldest line, and leave it there."""
        try:
            return self.lines[0]
        except IndexError:
            return None

    def remove(self, item: tuple[str, bytes]) -> None:
        """Take out the oldest line, if it is this one still."""
        with self._lock:
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
