"""Flights: those who ask for the same at the same time share one answer."""

import threading
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from loopotel_prom.errors import LoopotelError

T = TypeVar("T")


class PageTimeoutError(LoopotelError, TimeoutError):
    """A page took longer than its client waits."""


class _Flight(Generic[T]):
    """One making under way, and what came of it: nothing if it failed."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.result: T | None = None
        self.abandoned = False

    def wait(self, timeout_seconds: float) -> None:
        """Wait until it has come to its end."""
        if not self.landed.wait(timeout_seconds) or self.abandoned:
            raise PageTimeoutError("the page is not ready in time; try again")


class Flights(Generic[T]):
    """
    Lets those who ask for the same at the same time share one answer.

    Who comes while one is being made waits for the next: an answer shows nothing
    older than the question. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[Hashable, _Flight[T]] = {}
        self._next: dict[Hashable, _Flight[T]] = {}

    def join(self, key: Hashable, make: Callable[[], T], timeout_seconds: float) -> T:
        """
        Give an answer whose making began after this call.

        Raises:
            PageTimeoutError: The one under way is not ready in time.
        """
        with self._lock:
            before = self._under_way.get(key)
            if before is None:
                flight, mine = self._begin(key), True
            else:
                mine = key not in self._next
                flight = self._next.setdefault(key, _Flight())
        if not mine:
            flight.wait(timeout_seconds)
            return make() if flight.result is None else flight.result
        if before is not None:
            self._wait_for(before, key, flight, timeout_seconds)
            with self._lock:
                flight = self._begin(key)
        return self._fly(key, flight, make)

    def _begin(self, key: Hashable) -> _Flight[T]:
        flight = self._next.pop(key, None) or _Flight()
        self._under_way[key] = flight
        return flight

    def _wait_for(
        self,
        before: _Flight[T],
        key: Hashable,
        flight: _Flight[T],
        timeout_seconds: float,
    ) -> None:
        try:
            before.wait(timeout_seconds)
        except PageTimeoutError:
            # Whoever comes now leads a flight of their own; who waits has waited.
            with self._lock:
                if self._next.get(key) is flight:
                    del self._next[key]
                    flight.abandoned = True
                    flight.landed.set()
            raise

    def _fly(self, key: Hashable, flight: _Flight[T], make: Callable[[], T]) -> T:
        try:
            flight.result = made = make()
        finally:
            with self._lock:
                if self._under_way.get(key) is flight:
                    del self._under_way[key]
            flight.landed.set()
        return made
