"""What went wrong inside the pipeline, counted; the first of each kind logged."""

import threading
from collections import Counter
from collections.abc import Mapping
from time import monotonic_ns
from typing import TYPE_CHECKING

from loopotel_prom.plain import type_name

if TYPE_CHECKING:
    import logging


class ArchiveHealth:
    """
    What the archive says of itself.

    The numbers are written by the archive, under its own locks, and read by
    anyone. Counts only ever grow.

    Attributes:
        in_use: There is an archive.
        journal_bytes: Written to journals.
        sealed_bytes: Of documents appended.
        seals: Runs sealed.
        recovered_runs: Runs sealed in place of processes that died.
        lost_spans: Spans that no disk took before there were too many.
        syncs: Syncs of the journal that succeeded.
        sync_failures: Syncs, of any file, that failed.
        sync_seconds: What the first have taken together.
        backlog_spans: Spans in memory only, waiting for a disk.
        pending_runs: Runs that ended and are not sealed yet.
        degraded: Whether spans are kept in memory only.
        unsynced_since_ns: When the oldest line was written that waits for a sync,
            by the monotonic clock; None if none does.
    """

    def __init__(self) -> None:
        self.in_use = False
        self.journal_bytes = 0
        self.sealed_bytes = 0
        self.seals = 0
        self.recovered_runs = 0
        self.lost_spans = 0
        self.syncs = 0
        self.sync_failures = 0
        self.sync_seconds = 0.0
        self.backlog_spans = 0
        self.pending_runs = 0
        self.degraded = False
        self.unsynced_since_ns: int | None = None

    def after_fork(self) -> None:
        """Start at zero in a forked child; the archive is in use there too."""
        in_use = self.in_use
        self.__init__()  # type: ignore[misc]  # all of it is made anew
        self.in_use = in_use

    def synced(self, seconds: float) -> None:
        """Note that all is on disk, and how long it took."""
        self.unsynced_since_ns = None
        self.syncs += 1
        self.sync_seconds += seconds

    def sync_failed(self, path: str, error: OSError) -> None:
        """Note that a sync failed, and what follows from it."""
        self.sync_failures += 1
        _log().error(
            "archive %s: a sync failed, its data is written to a new file: %s;"
            " check the disk",
            path,
            error.strerror or error,
        )

    def lag_seconds(self) -> float:
        """Give for how long the oldest line has waited for its sync; 0 for none."""
        since_ns = self.unsynced_since_ns
        return 0.0 if since_ns is None else (monotonic_ns() - since_ns) / 1e9

    def degrade(self, path: str, reason: str) -> None:
        """Note that spans are kept in memory only, and log it once."""
        if not self.degraded:
            self.degraded = True
            _log().error(
                "archive %s: %s; the loops go on, spans are kept in memory until it"
                " can be written to: check its folder, the space on its disk and its"
                " permissions (loopotel_archive_degraded)",
                path,
                reason,
            )

    def unwritten(self, path: str, spans: int) -> None:
        """Log that the archive is closed with spans that are in memory only."""
        _log().error(
            "archive %s: closed while it cannot be written to: %d spans are lost with"
            " this process",
            path,
            spans,
        )

    def heal(self, path: str) -> None:
        """Note that the archive is written to again, and log it once."""
        if self.degraded:
            self.degraded = False
            _log().warning("archive %s: written to again", path)


class SidecarHealth:
    """
    What a sidecar says of itself: written by it, read by anyone.

    Attributes:
        in_use: There is a sidecar.
        journals: Journals that it follows.
        records: Records read from journals.
        documents: Documents read from sealed files.
        damaged_lines: Lines that were neither.
        recovered_journals: Journals of dead processes that it has recovered.
        read_all_since_ns: When the latest look was begun that came to its end, by
            the monotonic clock.
        checkpoint_bytes: The size of the checkpoint.
        checkpoint_ns: When it was written, by the monotonic clock; None before.
    """

    def __init__(self) -> None:
        self.in_use = False
        self.journals = 0
        self.records = 0
        self.documents = 0
        self.damaged_lines = 0
        self.recovered_journals = 0
        self.read_all_since_ns = monotonic_ns()
        self.checkpoint_bytes = 0
        self.checkpoint_ns: int | None = None

    def lag_seconds(self) -> float:
        """Give how old a value may be that is not on the page."""
        return (monotonic_ns() - self.read_all_since_ns) / 1e9

    def checkpoint_age_seconds(self) -> float | None:
        """Give how old the checkpoint is; None before there is one."""
        since_ns = self.checkpoint_ns
        return None if since_ns is None else (monotonic_ns() - since_ns) / 1e9


class Health:
    """
    Counts of the pipeline's own losses and failures.

    Instrumentation never raises into the loop; it comes here instead.
    Thread-safe. Counts only ever grow.

    Attributes:
        archive: What the archive says of itself.
        sidecar: What a sidecar does.
    """

    def __init__(self) -> None:
        # Re-entrant: a signal handler may report while a report is under way.
        self._lock = threading.RLock()
        self._dropped_values: Counter[str] = Counter()
        self._processor_failures: Counter[str] = Counter()
        self._slow_emits = 0
        self._scrape: tuple[float, int] | None = None
        self.archive = ArchiveHealth()
        self.sidecar = SidecarHealth()

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
        archive = self.archive
        self.__init__()  # type: ignore[misc]  # all of it is made anew
        # The archive holds on to its own.
        self.archive = archive
        archive.after_fork()

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
