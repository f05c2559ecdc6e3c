"""`ArchiveProcessor`: journals each span, and seals each run that ends."""

import contextlib
import errno
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from loopotel_prom import ltf
from loopotel_prom.archive import layout, owner
from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.journal import SEGMENT_BYTES
from loopotel_prom.archive.pending import Pending, Run
from loopotel_prom.archive.reader import spans_of
from loopotel_prom.archive.record import encode_span
from loopotel_prom.archive.recovery import has_dead_journals, recover
from loopotel_prom.archive.reserve import Reserve
from loopotel_prom.archive.sealed import LOCK_SECONDS, SealedFile
from loopotel_prom.archive.spool import Spool
from loopotel_prom.archive.upkeep import Upkeep
from loopotel_prom.errors import ArchiveError
from loopotel_prom.health import Health
from loopotel_prom.span import ChildSpan, RunSpan, Span

Durability = Literal["none", "process", "run", "power"]

# Of a longer run the spans are read back from the journal.
_KEPT_SPANS = 1000
# Sealed at once, unless someone else is at it for longer: then in the background.
_PATIENCE_SECONDS = 0.25
_FULL = {errno.ENOSPC, errno.EDQUOT}


class ArchiveProcessor:
    """
    Keeps every span of every run, on disk before `on_end` returns.

    A run that ends is sealed: its document becomes a line of the archive, at once
    for one of up to a thousand spans, else in the background. While the disk takes
    nothing the newest spans are kept in memory, and written when it does again.
    Thread-safe.

    Args:
        folder: The archive's folder; made when first needed.
        durability: What a span outlives, once `on_end` has returned: with
            ``process`` this process; with ``power`` a loss of power; with ``run``
            the latter once its run has ended; with ``none`` nothing before that.
        health: Where the archive's state is noted.
        rotate_bytes: At this size the sealed file is put aside and compressed.
        rotate_seconds: At this age likewise.
        segment_bytes: The size of a full segment of the journal.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durability: Durability = "process",
        health: Health | None = None,
        rotate_bytes: int = layout.ROTATE_BYTES,
        rotate_seconds: float = layout.ROTATE_SECONDS,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._folder = folder
        self._has_journal = durability != "none"
        self._commits = durability == "power"
        self._syncs_seals = durability in ("run", "power")
        self._health = health or Health()
        self._health.archive.in_use = True
        self._file = SealedFile(
            folder / layout.SEALED,
            rotate_bytes=rotate_bytes,
            rotate_seconds=rotate_seconds,
        )
        self._spool = Spool(folder, self._health.archive, segment_bytes=segment_bytes)
        self._reserve = Reserve(folder / layout.JOURNAL / layout.RESERVE)
        self._upkeep = Upkeep(self._tick)
        self._forget_runs()

    def _forget_runs(self) -> None:
        self._lock = threading.RLock()
        self._tick_lock = threading.RLock()
        self._runs: dict[str, Run] = {}
        # Ended, and not in the sealed file yet.
        self._pending = Pending(has_journal=self._has_journal)
        # In the sealed file, which has not been synced since.
        self._unsynced: list[Run] = []
        self._must_recover = False
        # Rotated, and not to be compressed by this process.
        self._left_plain: set[Path] = set()
        self._closed = False
        self._knows_its_end = False

    def prepare(self) -> None:
        """
        Make the folder, and see to what dead processes have left, in the background.

        Raises:
            OSError: The archive cannot be there.
        """
        self._file.prepare()
        if self._has_journal:
            self._reserve.take()
        try:
            self._must_recover = has_dead_journals(self._folder)
            has_work = self._must_recover or layout.rotated_files(self._folder)
        except OSError:
            # Interrupted, or too many open files: recovery will look, and tell.
            has_work = self._must_recover = True
        if has_work:
            self._upkeep.wake()

    def on_start(self, span: RunSpan) -> None:
        """Begin a run."""
        if not self._knows_its_end:
            self._knows_its_end = True
            owner.call_at_childs_end(self.close)
        if self._pending and self._pending.latest(span.trace_id):
            # The id is in use again, before the spans of its first run were read.
            with contextlib.suppress(ArchiveError):
                self.flush(_PATIENCE_SECONDS)
        # Of a trace id used twice at once, all spans stand in both documents.
        self._take(self._runs.setdefault(span.trace_id, Run(span.trace_id)), span)

    def on_end(self, span: Span) -> None:
        """
        Keep a span; seal the run if that is what ends.

        Raises:
            ArchiveError: The document could not be written; it will be, later. That
                someone else is at the file is no such failure.
        """
        run = self._runs.get(span.trace_id)
        if run is None:
            run = self._runs.setdefault(span.trace_id, Run(span.trace_id))
        if isinstance(span, RunSpan):
            self._take(run, span)
            run.end = span
            self._runs.pop(span.trace_id, None)
            self._end(run)
            return
        spans = run.spans
        if spans is not None:
            spans.append(span)
            if len(spans) > _KEPT_SPANS and self._has_journal:
                run.spans = None
        self._take(run, span)

    def holds(self, trace_id: str) -> bool:
        """Tell whether `spans` gives all spans of a run, however many."""
        return self._has_journal and trace_id in self._runs

    def spans(self, trace_id: str) -> Iterable[ChildSpan]:
        """
        Give the spans of a run of this process.

        Of one that is sealed in the order of its document, else of their ends.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        run = self._runs.get(trace_id) or self._pending.latest(trace_id)
        if run is not None:
            return (
                [*run.spans] if run.spans is not None else self._spool.spans(trace_id)
            )
        return spans_of(self._folder, trace_id)

    def unwritten(self) -> int:
        """Give the number of runs that ended and are not sealed yet."""
        return len(self._pending)

    def flush(self, timeout_seconds: float) -> bool:
        """
        Seal and sync what has ended; True if all of it is.

        Raises:
            ArchiveError: A document could not be written.
        """
        if not self._tick_lock.acquire(timeout=timeout_seconds):
            return False
        try:
            self._work()
        finally:
            self._tick_lock.release()
        return not self._pending

    def close(self) -> None:
        """
        Seal and sync what has ended, and end the background thread.

        A run under way is sealed here when it ends, even so.
        """
        self._closed = True
        # First, as it waits for no sync: what is in the journal will be recovered.
        self._write_backlog()
        self._upkeep.stop(timeout_seconds=5.0)
        try:
            self.flush(5.0)
        finally:
            self._write_backlog()
            if spans := self._spool.in_memory():
                self._health.archive.unwritten(str(self._folder), spans)
            if not (self._runs or self._pending or self._unsynced):
                self._spool.close()

    def after_fork(self) -> None:
        """Leave the parent's runs, files and thread to the parent."""
        closed = self._closed
        self._forget_runs()
        self._closed = closed
        self._spool.after_fork()
        self._upkeep.after_fork()

    # In the caller's thread.

    def _take(self, run: Run, span: Span) -> None:
        if not self._has_journal:
            return
        seq = run.next_seq
        run.next_seq = seq + 1
        journalled = self._spool.write(run.trace_id, encode_span(seq, span))
        if self._commits and journalled:
            self._spool.commit()
        if not self._upkeep.is_awake:
            self._upkeep.wake()

    def _end(self, run: Run) -> None:
        try:
            if run.spans is None or self._pending or self._spool.is_slow():
                # A long one takes its time; and nobody overtakes.
                self._postpone(run)
            else:
                self._seal(run, _PATIENCE_SECONDS)
        except ArchiveError as error:
            self._postpone(run)
            if error.errno != errno.ETIMEDOUT:
                raise
        finally:
            if self._closed:
                self.close()

    def _postpone(self, run: Run) -> None:
        self._health.archive.lost_spans += self._pending.add(run)
        self._health.archive.pending_runs = len(self._pending)
        if self._syncs_seals:
            # Its document is not on disk yet; then what it is made of has to be.
            self._spool.commit()
        self._upkeep.wake()

    # Anywhere.

    def _seal(self, run: Run, lock_seconds: float) -> None:
        """
        Append the run's document.

        Raises:
            ArchiveError: It is not in the file.
        """
        try:
            self._append(run, lock_seconds)
        except ArchiveError as error:
            if error.errno not in _FULL or not self._reserve.release():
                raise
            self._append(run, lock_seconds)
        with self._lock:
            run.spans = None
            self._unsynced.append(run)
        self._health.archive.seals += 1
        if self._syncs_seals:
            self._sync_seals(is_synced=True)
        else:
            self._upkeep.wake()

    def _append(self, run: Run, lock_seconds: float) -> None:
        assert run.end is not None  # noqa: S101 - only such runs get here
        end = run.end
        spans: Iterable[ChildSpan] | None = run.spans
        if spans is None:
            spans = self._spool.spans(run.trace_id)
            lost = self._spool.lost(run.trace_id)
            if lost:
                metadata = {**end.metadata, "missing_spans": lost}
                end = msgspec.structs.replace(end, metadata=metadata)
        size_bytes = 0

        def counted(pieces: Iterable[bytes]) -> Iterator[bytes]:
            nonlocal size_bytes
            for piece in pieces:
                size_bytes += len(piece)
                yield piece

        self._file.append_pieces(
            counted(ltf.stream(end, spans)),
            sync=self._syncs_seals,
            lock_seconds=lock_seconds,
        )
        self._health.archive.sealed_bytes += size_bytes

    # In the background.

    def _tick(self) -> bool:
        """Do what is due; True if more is to come."""
        with self._tick_lock:
            try:
                if self._must_recover:
                    self._recover()
                self._work()
                if not (self._pending or self._spool.is_degraded()):
                    self._compress()
            except ArchiveError as error:
                self._health.archive.degrade(error.path, _reason(error))
                return True
            except Exception as error:  # noqa: BLE001 - the thread must not die of it
                self._health.failed("ArchiveProcessor", error)
                return True
            return bool(self._runs or self._pending or self._unsynced) or (
                self._must_recover
                or self._spool.is_degraded()
                or not self._spool.is_synced()
            )

    def _work(self) -> None:
        """Do what has to be done before the process may end."""
        self._write_backlog()
        if self._has_journal and not self._spool.is_synced():
            self._spool.sync()
        self._spool.reap()
        self._sync_seals()
        self._seal_pending()
        if self._spool.is_degraded() or self._pending:
            return
        self._health.archive.heal(str(self._folder))
        if self._has_journal:
            self._reserve.take()

    def _write_backlog(self) -> None:
        if self._spool.restore():
            self._spool.drain()

    def _recover(self) -> None:
        self._must_recover = False
        try:
            found = recover(self._folder)
        except ArchiveError as error:
            # What is wrong with a dead process's journal is no fault of this one's.
            self._health.failed("ArchiveProcessor", error)
        else:
            self._health.archive.recovered_runs += len(found.runs)
            # Who is at it may die of it.
            self._must_recover = found.is_busy

    def _compress(self) -> None:
        for path in layout.rotated_files(self._folder):
            if path.suffix == ".jsonl" and path not in self._left_plain:
                try:
                    compress(path)
                except ArchiveError as error:
                    # Not at it again every second, with all of the file.
                    self._left_plain.add(path)
                    self._health.failed("ArchiveProcessor", error)

    def _seal_pending(self) -> None:
        while run := self._pending.first():
            self._seal(run, LOCK_SECONDS)
            self._pending.remove(run)
            self._health.archive.pending_runs = len(self._pending)
        self._sync_seals()

    def _sync_seals(self, *, is_synced: bool = False) -> None:
        """Bring sealed documents to the disk; only then mark their runs."""
        with self._lock:
            runs, self._unsynced = self._unsynced, []
        if not runs:
            return
        try:
            if not is_synced:
                self._file.sync()
        except OSError as error:
            if error.errno == errno.ETIMEDOUT:
                with self._lock:  # behind another thread; nothing has failed
                    self._unsynced[:0] = runs
                return
            self._health.archive.sync_failed(str(self._folder), error)
            if self._has_journal:
                # Once more: their documents may not be on disk.
                self._pending.add_first(runs)
            return
        # Of an id in use again, the records of both runs stand before its mark.
        ended = [run.trace_id for run in runs if run.trace_id not in self._runs]
        self._spool.mark(ended)


def _reason(error: ArchiveError) -> str:
    """Give what went wrong; where, and what to do, the log says itself."""
    return str(error).removeprefix(f"{error.path}: ").removesuffix(f"; {error.hint}")
