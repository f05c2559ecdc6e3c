"""Scrapes, counted from their beginning to their end."""

import threading


class Scrapes:
    """Counts scrapes, and lets others wait for one. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._begun = 0
        self._latest_finished = 0

    def begin(self) -> int:
        """Number a scrape that begins."""
        with self._changed:
            self._begun += 1
            return self._begun

    def finish(self, ticket: int) -> None:
        """Say that a scrape has been answered whole."""
        with self._changed:
            self._latest_finished = max(self._latest_finished, ticket)
            self._changed.notify_all()

    def begun(self) -> int:
        """Give the number of scrapes that have begun."""
        with self._changed:
            return self._begun

    def wait_for_next(self, timeout_seconds: float, since: int | None) -> bool:
        """Wait until a scrape numbered beyond `since` (now) has been answered."""
        with self._changed:
            seen = self._begun if since is None else since
            return self._changed.wait_for(
                lambda: self._latest_finished > seen, timeout_seconds
            )
