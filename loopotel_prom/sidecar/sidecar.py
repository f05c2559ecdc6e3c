"""`Sidecar`: an archive followed, its loops counted once, over restarts too."""

import logging
import threading
import time
from pathlib import Path

from loopotel_prom.archive.follow import Follower, Position
from loopotel_prom.archive.ledger import Sink
from loopotel_prom.archive.recovery import recover
from loopotel_prom.archive.retelling import retell
from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.snapshot import Snapshot
from loopotel_prom.sidecar.audience import Audience
from loopotel_prom.sidecar.checkpoint import CheckpointFile, encode

_log = logging.getLogger("loopotel_prom")

# Of the second that a value may take to be on the page.
_POLL_SECONDS = 0.2
_SAVE_SECONDS = 1.0
# A checkpoint that takes long is written more rarely: at most this part of the time.
_SAVE_SHARE = 0.05
_PROBE_SECONDS = 1.0
# Orphans of dead processes may hold their locks; recovery looks closer.
_RECOVER_SECONDS = 60.0
_RECOVER_AGAIN_SECONDS = 10.0
# A scrape does not wait longer for a disk, nor for a long document to be read.
_PATIENCE_SECONDS = 0.5


class Sidecar:
    """
    Follows one archive, and shows what its processes do.

    `look` and `seen` are a page's source. Before the first look, `catch_up`; then
    `start` follows in the background. Thread-safe.

    Args:
        folder: The archive's folder; it may not be there yet.
        processor: What counts; new, and fed by nothing else.
        health: Where the sidecar's own state is noted.
        file: The checkpoint.
        board: What people look at; it is told, after a restart too, what it needs to
            show the runs under way.
        most_open: How many segments of journals are held open.

    Raises:
        ArchiveError: The folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        processor: MetricsProcessor,
        *,
        health: Health,
        file: CheckpointFile,
        board: Sink | None = None,
        most_open: int = 512,
    ) -> None:
        self._folder = folder
        self._processor = processor
        self._health = health
        self._file = file
        # Held while the counters and the position are not of the same moment.
        self._lock = threading.Lock()
        self._saves = 0
        self._saved_lines = -1
        self._save_due = self._probe_due = 0.0
        self._recover_due = time.monotonic() + _RECOVER_SECONDS
        self._recovering: threading.Thread | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        others = [] if board is None else [board]
        position = self._load()
        if position is not None:
            retell(folder, position, Audience(others, health))
        self._follower = Follower(
            folder,
            Audience([processor, *others], health),
            health=health,
            position=position,
            most_open=most_open,
        )
        health.sidecar.in_use = True

    def catch_up(self) -> None:
        """
        Read all that is there, and note in the checkpoint that it was.

        Raises:
            OSError: The folder cannot be read.
        """
        self._poll()
        self._save()

    def start(self) -> None:
        """Follow, in a thread of its own."""
        self._thread = threading.Thread(
            target=self._follow, name="loopotel-sidecar", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Write the checkpoint a last time, and let go of all files."""
        self._stopping.set()
        for thread in (self._thread, self._recovering):
            if thread is not None:
                thread.join(timeout=5.0)
        self._save()
        self._follower.close()
        self._file.close()

    def look(self) -> tuple[Snapshot, float]:
        """
        Give what can be seen now, and its moment.

        What is given is in the checkpoint already: after a restart no counter is less.
        If that takes too long, it is given all the same.
        """
        if not self._lock.acquire(timeout=_PATIENCE_SECONDS):
            return self._processor.look()
        try:
            found = self._processor.look()
            data = self._changed()
        finally:
            self._lock.release()
        self._write(data, patience_seconds=_PATIENCE_SECONDS)
        return found

    def seen(self, moment: float) -> None:
        """Count a scrape that showed what there was at a moment that `look` gave."""
        self._processor.seen(moment)

    def snapshot(self) -> Snapshot:
        """Give what a scrape sees now, and count the scrape."""
        found, moment = self.look()
        self.seen(moment)
        return found

    def _load(self) -> Position | None:
        try:
            found = self._file.read()
            if found is None:
                return None
            self._processor.load(found.metrics)
        except (DocumentError, OSError) as error:
            _log.error(
                "checkpoint %s: %s; the counters begin at zero, with the runs that are"
                " under way",
                self._file.path,
                error,
            )
            return None
        return found.position

    # In the sidecar's thread.

    def _follow(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                self._poll()
                self._save_if_due()
                self._recover_if_due()
            except Exception as error:  # noqa: BLE001 - the thread must not die of it
                self._health.failed("Sidecar", error)

    def _poll(self) -> None:
        begin_ns = time.monotonic_ns()
        steps = self._follower.steps()
        is_over = False
        while not is_over:
            with self._lock:
                is_over = next(steps, _OVER) is _OVER
            # Else a scrape that waits for the lock would not get it.
            time.sleep(0)
        noted, following = self._health.sidecar, self._follower.following
        noted.read_all_since_ns = begin_ns
        noted.journals = self._follower.journals()
        noted.records = following.records
        noted.documents = following.documents
        noted.damaged_lines = following.damaged_lines

    def _save_if_due(self) -> None:
        begin = time.monotonic()
        if begin >= self._save_due:
            self._save()
            took = time.monotonic() - begin
            self._save_due = begin + max(_SAVE_SECONDS, took / _SAVE_SHARE)

    def _save(self) -> None:
        with self._lock:
            data = self._changed()
        self._write(data)
        if data is not None:
            self._sync_name()

    def _changed(self) -> tuple[int, bytes] | None:
        """Spell the checkpoint if it is another than the last; the lock is held."""
        lines = self._follower.following.lines
        if lines == self._saved_lines:
            return None
        self._saved_lines = lines
        self._saves += 1
        return self._saves, encode(self._processor.save(), self._follower.position())

    def _write(
        self, data: tuple[int, bytes] | None, *, patience_seconds: float = -1
    ) -> None:
        if data is None:
            return
        try:
            if self._file.write(*data, patience_seconds=patience_seconds):
                self._health.sidecar.checkpoint_bytes = len(data[1])
                self._health.sidecar.checkpoint_ns = time.monotonic_ns()
                return
        except OSError as error:
            self._health.failed("Checkpoint", error)
        # Again with the next.
        self._saved_lines = -1

    def _sync_name(self) -> None:
        try:
            self._file.sync_name()
        except OSError as error:
            self._health.failed("Checkpoint", error)

    def _recover_if_due(self) -> None:
        now = time.monotonic()
        is_busy = self._recovering is not None and self._recovering.is_alive()
        if is_busy or now < self._probe_due:
            return
        self._probe_due = now + _PROBE_SECONDS
        if now >= self._recover_due or self._follower.is_some_dead():
            self._recover_due = now + _RECOVER_SECONDS
            self._recovering = threading.Thread(
                target=self._recover, name="loopotel-recovery", daemon=True
            )
            self._recovering.start()

    # In a thread of its own: a long journal takes its time.

    def _recover(self) -> None:
        try:
            found = recover(self._folder)
        except ArchiveError as error:
            self._health.failed("Recovery", error)
            self._probe_due = time.monotonic() + _RECOVER_AGAIN_SECONDS
        else:
            self._health.sidecar.recovered_journals += found.journals


# None is what a step gives.
_OVER = object()
