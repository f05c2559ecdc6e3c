"""
The journal: the records of this process's runs, in segments.

What is where, and in which order it gets there, is told in `specs/archive.md`.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from loopotel_prom.archive import failpoint, layout, owner
from loopotel_prom.archive.record import VERSION, Header, encode_mark
from loopotel_prom.archive.segment import Segment, lines_of

SEGMENT_BYTES = 64 * 1024**2
# What is kept to be written again if a sync fails: seconds of a busy process.
_UNSYNCED_BYTES = 8 * 1024**2


class Journal:
    """
    The journal of one process, made when first appended to.

    Not thread-safe, but for `sync_descriptors`'s result and what `lines` gives.

    Args:
        folder: The archive's folder.
        segment_bytes: A segment of this size is full.

    Attributes:
        appended: Lines so far.
        synced: How many of them outlive a loss of power.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder / layout.JOURNAL
        self._segment_bytes = segment_bytes
        self._name = ""
        self._made = 0
        self._segments: list[Segment] = []
        self._active: Segment | None = None
        self._has_new_file = False
        self._closed_bytes = 0
        self._unsynced: deque[tuple[str, bytes]] = deque()
        self._unsynced_bytes = 0
        self.appended = 0
        self.synced = 0

    def append(self, trace_id: str, line: bytes) -> None:
        """
        Add a record of a run.

        Raises:
            OSError: It could not be written; what was before is as it was.
        """
        segment = self._active
        if (
            segment is None
            or not segment.usable
            or segment.size_bytes >= self._segment_bytes
        ):
            segment = self._begin_segment()
        segment.append(line)
        segment.is_synced = False
        segment.runs.add(trace_id)
        self.appended += 1
        self._unsynced.append((trace_id, line))
        size_bytes = self._unsynced_bytes + len(line)
        if size_bytes > _UNSYNCED_BYTES:
            size_bytes -= len(self._unsynced.popleft()[1])
        self._unsynced_bytes = size_bytes

    def mark(self, trace_ids: Iterable[str]) -> None:
        """
        Note that the documents of these runs are on disk.

        Raises:
            OSError: It could not be noted; recovery will find them sealed.
        """
        failpoint.reach("journal.unmarked")
        for trace_id in trace_ids:
            concerned = [s for s in self._segments if trace_id in s.runs]
            for segment in concerned:
                segment.runs.discard(trace_id)
            if concerned and self._active is not None and self._active.usable:
                self._active.append(encode_mark(trace_id))
                failpoint.reach("journal.marked")

    def reap(self, *, closing: bool = False) -> None:
        """Remove the segments that are full, or all if closing, and hold no run."""
        for segment in [*self._segments]:
            if segment.runs or (segment is self._active and not closing):
                continue
            self._segments.remove(segment)
            if segment is self._active:
                self._active = None
            self._closed_bytes += segment.size_bytes
            segment.close(remove=True)

    def leave_segment(self) -> None:
        """Begin a new segment with the next record: the present one is suspect."""
        self._active = None

    def rewrite_unsynced(self) -> None:
        """
        Write what no sync has confirmed into a new segment.

        Raises:
            OSError: It could not be written there.
        """
        lines = [*self._unsynced]
        self._forget_unsynced()
        # Never asked again: a second sync would say yes to what it forgot.
        for segment in self._segments:
            segment.is_synced = True
        self._active = None
        for trace_id, line in lines:
            self.append(trace_id, line)

    def is_in_place(self) -> bool:
        """Tell whether each segment is where it was made."""
        return all(segment.is_in_place() for segment in self._segments)

    def restore(self) -> None:
        """
        Write the records of segments that were taken away into new ones.

        Raises:
            OSError: They could not be written.
        """
        lost = [each for each in self._segments if not each.is_in_place()]
        self._active = None
        for segment in lost:
            for line in segment.lines():
                for trace_id in segment.runs:
                    if trace_id.encode() in line[:_HEAD_BYTES]:
                        self.append(trace_id, line + b"\n")
            self._segments.remove(segment)
            self._closed_bytes += segment.size_bytes
            segment.close()

    def written_bytes(self) -> int:
        """Give how much has been written in all."""
        return self._closed_bytes + sum(each.size_bytes for each in self._segments)

    def lines(self, trace_id: str) -> Iterator[bytes]:
        """
        Yield the lines of a run that is not marked, as they are now.

        The segments are fixed by this call; reading them may come later, from
        another thread, while others append.
        """
        wanted = trace_id.encode()
        held = [s for s in self._segments if trace_id in s.runs]
        files = [(s.descriptor(), s.size_bytes) for s in held]
        return _lines_with(wanted, files)

    def sync_descriptors(self) -> tuple[int, list[int]]:
        """
        Give what is to be synced: the count of lines, and files to close after.

        The folder's is among them if a segment is new in it.

        Raises:
            OSError: Too many files are open.
        """
        files: list[int] = []
        try:
            for segment in self._segments:
                if not segment.is_synced:
                    files.append(segment.descriptor())  # noqa: PERF401 - closed if one fails
            if self._has_new_file:
                files.append(os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            for file in files:
                os.close(file)
            raise
        return self.appended, files

    def note_synced(self, appended: int) -> None:
        """Note that the first lines, as many as given, are on disk."""
        while self._unsynced and self.appended - len(self._unsynced) < appended:
            self._unsynced_bytes -= len(self._unsynced.popleft()[1])
        self.synced = max(self.synced, appended)
        if self.appended == appended:
            self._has_new_file = False
            for segment in self._segments:
                segment.is_synced = True

    def abandon(self) -> None:
        """Leave the files to the parent, in a forked child."""
        for segment in self._segments:
            segment.close()
        self._segments = []
        self._active, self._name, self._made = None, "", 0
        self._forget_unsynced()

    def _forget_unsynced(self) -> None:
        self._unsynced.clear()
        self._unsynced_bytes = 0

    def _begin_segment(self) -> Segment:
        if not self._name:
            self._name = layout.journal_name()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._made += 1
        path = self._folder / f"{self._name}.{self._made}.jsonl"
        segment = Segment(path, self._header())
        self._segments.append(segment)
        self._active = segment
        self._has_new_file = True
        return segment

    def _header(self) -> Header:
        return Header(
            version=VERSION,
            id=self._name,
            segment=self._made,
            pid=os.getpid(),
            boot_id=owner.boot_id(),
            process_start=owner.process_start(os.getpid()),
            created_ns=time.time_ns(),
        )


# A trace id stands within these of a record's line.
_HEAD_BYTES = 120


def _lines_with(wanted: bytes, files: list[tuple[int, int]]) -> Iterator[bytes]:
    try:
        for file, size_bytes in files:
            for line in lines_of(file, size_bytes):
                if wanted in line[:_HEAD_BYTES]:
                    yield line
    finally:
        for file, _ in files:
            os.close(file)
