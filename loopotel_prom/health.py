"""What went wrong inside the pipeline, counted; the first of each kind logged."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from loopotel_prom.plain import type_name

if TYPE_CHECKING:
    import logging


class Health:
    """
    Counts of the pipeline's own losses and failures.

    Instrumentation never raises into the loop; it comes here instead.
    Thread-safe. Counts only ever grow.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may report while a report is under way.
        self._lock = threading.RLock()
        self._dropped_values: Counter[str] = Counter()
        self._processor_failures: Counter[str] = Counter()
        self._slow_emits = 0
        self._scrape: tuple[float, int] | None = None

    def dropped(self, field: str, value: object) -> None:
        """Count a reported value that was left out because it makes no sense."""
        with self._lock:
            self._dropped_values[field] += 1
            first = self._dropped_values[field] == 1
        if first:
            _log().warning(
                "%s of type %s left out of the trace, or cut: not usable as it is"
                " (logged once, counted in loopotel_dropped_values_total)",
                field,
                type_name(type(value)),
            )

    def failed(self, processor: str, error: Exception) -> None:
        """Count a processor's failure."""
        with self._lock:
            self._processor_failures[processor] += 1
            first = self._processor_failures[processor] == 1
        if first:
            _log().error(
                "%s failed and was passed over; the loop goes on: %s: %s"
                " (logged once, counted in loopotel_processor_failures_total)",
                processor,
                type(error).__name__,
                error,
            )
            _log().debug("%s failed here", processor, exc_info=error)

    def slow(self) -> None:
        """Count a span that took the processors too long."""
        with self._lock:
            self._slow_emits += 1

    def scraped(self, seconds: float, size_bytes: int) -> None:
        """Note what the latest page took."""
        with self._lock:
            self._scrape = (seconds, size_bytes)

    def slow_emits(self) -> int:
        """Give the number of spans that took too long."""
        return self._slow_emits

    def latest_scrape(self) -> tuple[float, int] | None:
        """Give seconds and bytes of the latest page, if there was one."""
        return self._scrape

    def after_fork(self) -> None:
        """Start at zero in a forked child, with a lock of its own."""
        self.__init__()  # type: ignore[misc]  # all of it is made anew

    def dropped_values(self) -> Mapping[str, int]:
        """Copy the counts of left-out values, by field."""
        with self._lock:
            return dict(self._dropped_values)

    def processor_failures(self) -> Mapping[str, int]:
        """Copy the counts of failures, by processor."""
        with self._lock:
            return dict(self._processor_failures)


def _log() -> "logging.Logger":
    # Here, not above: importing it is a tenth of importing the package.
    import logging  # noqa: PLC0415

    return logging.getLogger("loopotel_prom")
