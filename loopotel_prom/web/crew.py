"""The crew: the threads that answer, as few as do."""

import threading
import time
from collections import deque
from collections.abc import Callable

from loopotel_prom.web.connection import Connection
from loopotel_prom.web.limits import Limits

# A thread without work waits so long for more.
_REST_SECONDS = 10.0
_LOOK_SECONDS = 0.02


class Crew:
    """
    Answers connections that have something due, so many at a time.

    Args:
        limits: How many.
        serve: Answers one, in a thread of the crew.
    """

    def __init__(self, limits: Limits, serve: Callable[[Connection], None]) -> None:
        self._limits = limits
        self._serve = serve
        self._changed = threading.Condition()
        self._queue: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._threads = self._resting = 0
        self._is_closed = False

    def has_time(self) -> bool:
        """Whether nobody waits; if someone does, who has been answered leaves."""
        return not self._is_closed and not self._is_overrun()

    def hand_over(self, connection: Connection) -> None:
        """Have a connection answered, after those that came before."""
        with self._changed:
            self._queue.append(connection)
            if (
                len(self._queue) > self._resting
                and self._threads < self._limits.threads
            ):
                self._threads += 1
                threading.Thread(
                    target=self._work, name="loopotel-endpoint-worker", daemon=True
                ).start()
            self._changed.notify()

    def relieve(self) -> None:
        """End those that take nothing of their answers, if others wait for it."""
        latest = time.monotonic() - self._limits.stalled_seconds
        with self._changed:
            if self._is_overrun():
                for connection in self._busy:
                    since = connection.stalled_since
                    if since is not None and since < latest:
                        connection.evict()

    def close(self, timeout_seconds: float) -> None:
        """End all; who is being answered has some time left."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            self._is_closed = True
            while self._queue:
                self._queue.popleft().close()
            self._changed.notify_all()
            while self._threads and time.monotonic() < deadline:
                self._changed.wait(_LOOK_SECONDS)
            for connection in self._busy:
                connection.evict()

    def abandon(self) -> None:
        """Close the sockets in a forked child, where no thread has gone along."""
        for connection in (*self._queue, *self._busy):
            connection.close()

    def _is_overrun(self) -> bool:
        return (
            len(self._queue) > self._resting and self._threads >= self._limits.threads
        )

    def _work(self) -> None:
        while (connection := self._next()) is not None:
            try:
                self._serve(connection)
            finally:
                with self._changed:
                    self._busy.discard(connection)

    def _next(self) -> Connection | None:
        """Wait for a connection to answer; None if the thread is to end."""
        with self._changed:
            self._resting += 1
            self._changed.wait_for(
                lambda: self._queue or self._is_closed, _REST_SECONDS
            )
            self._resting -= 1
            if self._queue:
                connection = self._queue.popleft()
                self._busy.add(connection)
                return connection
            self._threads -= 1
            return None
