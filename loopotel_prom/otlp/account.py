"""The account: what became of each span that was handed over."""

import threading


class Account:
    """
    Counts spans handed over, answered for, and lost.

    Thread-safe, and re-entrant: a signal handler may hand over a span.

    Args:
        capacity: How many may wait for their answer.

    Attributes:
        handed: Spans that were let in.
        delivered: Spans that a receiver took.
        lost: Spans that none took, or that were not let in.
    """

    def __init__(self, capacity: int) -> None:
        self.handed = 0
        self.delivered = 0
        self.lost = 0
        self._answered = 0
        self._lost_and_told = 0
        self._capacity = capacity
        self._is_closed = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def enter(self, wait_seconds: float = 0.0) -> bool:
        """Count one span in, if there is room for it, or comes to be in time."""
        with self._lock:
            if wait_seconds > 0:
                self._changed.wait_for(self._is_decided, wait_seconds)
            if self._is_closed or self.handed - self._answered >= self._capacity:
                self.lost += 1
                return False
            self.handed += 1
            return True

    def answer(self, count: int, *, is_delivered: bool) -> None:
        """Note what became of spans that were let in."""
        with self._changed:
            # Those that were given up when it was closed have their answer.
            count = min(count, self.handed - self._answered)
            self._answered += count
            if is_delivered:
                self.delivered += count
            else:
                self.lost += count
            self._changed.notify_all()

    def await_answers(self, handed: int, timeout_seconds: float) -> bool:
        """Wait for the first `handed` answers; False if they did not come."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._answered >= handed, timeout_seconds
            )

    def new_losses(self) -> int:
        """Give the losses since this was last asked."""
        with self._lock:
            new = self.lost - self._lost_and_told
            self._lost_and_told = self.lost
            return new

    def close(self) -> int:
        """Count what has no answer as lost, let nothing more in; give how many."""
        with self._changed:
            unanswered = self.handed - self._answered
            self.lost += unanswered
            self._answered = self.handed
            self._is_closed = True
            self._changed.notify_all()
            return unanswered

    def _is_decided(self) -> bool:
        return self._is_closed or self.handed - self._answered < self._capacity
