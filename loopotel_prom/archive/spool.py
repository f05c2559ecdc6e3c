"""
The spool: takes the records of this process's runs, whatever the disk does.

Records go into the journal; while that fails, or is slow, into the backlog, from
where `drain` moves them on.
"""

import contextlib
import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from typing import TypeVarTuple

from loopotel_prom.archive.backlog import Backlog
from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.journal import HEAD_BYTES, SEGMENT_BYTES, Journal
from loopotel_prom.archive.record import decode
from loopotel_prom.archive.segment import lines_of, sync_file
from loopotel_prom.archive.sequence import Sequence
from loopotel_prom.errors import DocumentError
from loopotel_prom.health import ArchiveHealth
from loopotel_prom.span import ChildSpan, RunSpan

Ts = TypeVarTuple("Ts")

# Longer than a write takes on any disk that is well.
_SLOW_NS = 50_000_000
_STALLED_NS = 500_000_000
_SLOW_IN_A_ROW = 3
# Behind a thread that hangs in a write, no other thread waits for longer.
_PATIENCE_SECONDS = 0.25
# A disk that is slow at each write must not keep a program from its end: few writes,
# and no more of them after a while.
_DRAIN_LINES = 1000
_DRAIN_SECONDS = 5.0
# With these the segment itself is well.
_FULL = {errno.ENOSPC, errno.EDQUOT}
# With these nothing was asked of the disk.
_NO_FILES = {errno.EMFILE, errno.ENFILE}
_FIRST = b'{"seq":0,'


class Spool:
    """
    The journal with the backlog in front of it. Thread-safe.

    Args:
        folder: The archive's folder.
        health: Where bytes, losses and the state are noted.
        segment_bytes: The size of a full segment.
    """

    def __init__(
        self,
        folder: Path,
        health: ArchiveHealth,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._path = str(folder)
        self._health = health
        self._journal = Journal(folder, segment_bytes=segment_bytes)
        self._make_locks()

    def _make_locks(self) -> None:
        self._backlog = Backlog()
        self._waiting = self._backlog.lines
        # Re-entrant, both: a signal handler may report while a report is under way.
        self._lock = threading.RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release
        self._sync_lock = threading.RLock()
        self._is_writing = False
        self._is_detached = False
        self._slow_in_a_row = 0
        # The breaker: callers are not to wait for this disk.
        self._is_slow = False
        self._must_rewrite = False
        self._lost: Counter[str] = Counter()

    def write(self, trace_id: str, line: bytes) -> bool:
        """
        Take a record; True if it is in the journal, and so outlives the process.

        Never raises, and never waits long.
        """
        # Twice as fast as naming the argument.
        if self._is_detached or not self._acquire(True, _PATIENCE_SECONDS):
            if self._is_writing and not self._is_detached:
                self._detach("a write does not come to an end")
            self._keep(trace_id, line)
            return False
        # Behind others of its run; or a signal handler's, in a write's middle.
        if self._waiting or self._is_writing:
            self._release()
            self._keep(trace_id, line)
            return False
        try:
            self._timed(self._journal.append, trace_id, line)
        except OSError as error:
            self._keep(trace_id, line)
            self._fail(error)
            return False
        finally:
            self._release()
        return True

    def drain(self) -> bool:
        """
        Move the backlog into the journal; True if all of it is there.

        Never raises, and gives up after some seconds. Whether that makes all well
        again is for `is_degraded` to say.
        """
        until, most = monotonic() + _DRAIN_SECONDS, _DRAIN_LINES
        while (left := until - monotonic()) > 0 and self._acquire(True, left):
            try:
                if self._is_writing:
                    return False
                items = self._backlog.first(most)
                if not items:
                    self._is_detached = self._is_slow or self._must_rewrite
                    return not self._is_detached
                self._timed(self._journal.append_all, items)
                self._backlog.remove(items)
                self._health.backlog_spans = len(self._backlog)
            except OSError as error:
                self._fail(error)
                if len(items) == 1:
                    return False
                # Where there is no room for all, there is for some.
                most = 1
            finally:
                self._release()
        return False

    def commit(self) -> None:
        """Return when all that the journal has taken so far is on disk."""
        appended = self._journal.appended
        # Whoever waits here is served by the sync of the one before.
        with self._sync_lock:
            if self._journal.synced < appended:
                self.sync()

    def is_synced(self) -> bool:
        """Tell whether nothing waits for a sync."""
        return self._journal.synced >= self._journal.appended

    def sync(self) -> None:
        """Bring the journal to the disk. Never raises."""
        with self._sync_lock:
            if not self._must_rewrite and self._try_to_sync():
                return
            # The pages may be gone, and a second sync would say nothing of it.
            with self._lock:
                try:
                    self._journal.rewrite_unsynced()
                except OSError as error:
                    self._fail(error)
                    return
            self._must_rewrite = not self._try_to_sync()
            with self._lock:
                if self.is_synced() and not (self._must_rewrite or self._waiting):
                    # The new segment is well: no second of spans in memory alone.
                    self._is_detached = self._is_slow

    def spans(self, trace_id: str) -> Iterator[ChildSpan]:
        """
        Yield the spans of a run that is not marked, in the order of their ends.

        Raises:
            OSError: The journal cannot be read.
        """
        with self._lock:
            files = self._journal.files_of(trace_id)
            waiting = self._backlog.of(trace_id)
        try:
            yield from _spans(trace_id, files, waiting)
        finally:
            for file, _ in files:
                os.close(file)

    def lost(self, trace_id: str) -> int:
        """Give how many records of a run that is not marked have been lost."""
        return self._lost[trace_id]

    def mark(self, trace_ids: list[str]) -> None:
        """Note that the documents of these runs are on disk. Never raises."""
        with self._lock, contextlib.suppress(OSError):
            if self._waiting:
                # Behind its mark, a record would look like another run's.
                self._backlog.forget(trace_ids)
                self._health.backlog_spans = len(self._backlog)
            for trace_id in trace_ids:
                self._lost.pop(trace_id, None)
            self._journal.mark(trace_ids)

    def reap(self) -> None:
        """Remove the segments that nothing needs any more. Never raises."""
        with self._lock, contextlib.suppress(OSError):
            self._journal.reap()

    def restore(self) -> bool:
        """
        See that the journal is in its place, else write it anew there.

        Never raises, and gives up after some seconds behind a write that hangs.
        """
        if not self._acquire(True, _DRAIN_SECONDS):
            return False
        try:
            if not (self._is_writing or self._journal.is_in_place()):
                self._journal.restore()
        except OSError as error:
            self._fail(error)
            return False
        finally:
            self._release()
        return True

    def is_slow(self) -> bool:
        """Tell whether no caller should write to this disk, for now."""
        return self._is_slow or (self._is_detached and self._is_writing)

    def is_degraded(self) -> bool:
        """Tell whether records are kept in memory only, for now."""
        return self._is_detached or bool(self._backlog)

    def in_memory(self) -> int:
        """Count the records that are in memory only."""
        return len(self._backlog)

    def close(self) -> None:
        """Remove all segments; those that are needed still stay. Never raises."""
        if not self.is_synced():
            self.sync()
        with self._lock, contextlib.suppress(OSError):
            self._journal.reap(closing=True)

    def after_fork(self) -> None:
        """Leave it all to the parent, in a forked child."""
        self._make_locks()
        self._journal.abandon()

    # Called with the lock held, but for _keep.

    def _timed(self, append: Callable[[*Ts], None], *args: *Ts) -> None:
        self._is_writing = True
        begin_ns = monotonic_ns()
        try:
            append(*args)
        finally:
            self._is_writing = False
        took_ns = monotonic_ns() - begin_ns
        if took_ns > _SLOW_NS:
            self._judge(took_ns)
        elif self._slow_in_a_row:
            self._slow_in_a_row, self._is_slow = 0, False
        if self._health.unsynced_since_ns is None:
            self._health.unsynced_since_ns = begin_ns

    def _judge(self, took_ns: int) -> None:
        """Take the disk out of the callers' way if it was the disk that was slow."""
        begin_ns = monotonic_ns()
        sleep(0)
        # To come back from doing nothing took as long: it is the other threads.
        if monotonic_ns() - begin_ns > took_ns // 4:
            return
        self._slow_in_a_row += 1
        if took_ns > _STALLED_NS or self._slow_in_a_row >= _SLOW_IN_A_ROW:
            self._is_slow = True
            self._detach(f"a write took {took_ns / 1e6:.0f} ms")

    def _detach(self, reason: str) -> None:
        """Write from the background alone, until all is well again."""
        self._is_detached = True
        self._health.degrade(self._path, reason)

    def _keep(self, trace_id: str, line: bytes) -> None:
        for gone in self._backlog.add(trace_id, line):
            self._lost[gone] += 1
            self._health.lost_spans += 1
        self._health.backlog_spans = len(self._backlog)

    def _fail(self, error: OSError) -> None:
        if error.errno not in _FULL:
            self._journal.leave_segment()
        self._detach(error.strerror or str(error))

    def _try_to_sync(self) -> bool:
        """Sync what is not; False if it is to be written anew, and then synced."""
        begin_ns = monotonic_ns()
        try:
            self._sync_once()
        except OSError as error:
            self._detach(f"a sync failed: {error.strerror or error}")
            if error.errno in _NO_FILES:
                return True
            self._health.sync_failed(self._path, error)
            self._must_rewrite = True
            return False
        took_ns = monotonic_ns() - begin_ns
        self._is_slow = self._is_slow and took_ns > _STALLED_NS
        self._health.synced(took_ns / 1e9)
        return True

    def _sync_once(self) -> None:
        with self._lock:
            unsynced = self._journal.unsynced()
        try:
            for file in unsynced.files:
                sync_file(file)
        finally:
            unsynced.close()
        if unsynced.folder is not None:
            # Not by fdatasync: of a folder that brings nothing to the disk.
            sync_folder(unsynced.folder)
        with self._lock:
            self._journal.note_synced(unsynced.appended)
            self._health.journal_bytes = self._journal.written_bytes()


def _spans(
    trace_id: str, files: list[tuple[int, int]], waiting: list[bytes]
) -> Iterator[ChildSpan]:
    # A trace id may have been used before.
    begun = sum(line.startswith(_FIRST) for line in _lines(trace_id, files))
    sequence = Sequence()
    for line in chain(_lines(trace_id, files), waiting):
        if line.startswith(_FIRST):
            begun -= 1
        if begun > 0:
            continue
        with contextlib.suppress(DocumentError):
            record = decode(line)
            span, seq = record.span, record.seq
            if span is None or seq is None or not sequence.take(seq):
                continue  # written again after a sync that failed
            if not isinstance(span, RunSpan):
                yield span


def _lines(trace_id: str, files: list[tuple[int, int]]) -> Iterator[bytes]:
    wanted = trace_id.encode()
    for file, size_bytes in files:
        for line in lines_of(file, size_bytes):
            if wanted in line[:HEAD_BYTES]:
                yield line
