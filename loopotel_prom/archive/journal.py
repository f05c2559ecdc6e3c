"""
The journal: the records of this process's runs, in segments.

What is where, and in which order it gets there, is told in `specs/archive.md`.
"""

import errno
import os
import time
from collections import deque
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from loopotel_prom.archive import failpoint, layout, owner
from loopotel_prom.archive.folders import make_folder, sync_folder
from loopotel_prom.archive.record import VERSION, Header, encode_mark
from loopotel_prom.archive.segment import Segment

SEGMENT_BYTES = 64 * 1024**2
# What is kept to be written again if a sync fails: seconds of a busy process.
_UNSYNCED_BYTES = 8 * 1024**2
# A trace id stands within these of a record's line.
HEAD_BYTES = 120


class Unsynced(NamedTuple):
    """
    What is to be brought to the disk.

    Attributes:
        appended: Lines that are on disk once all of this is.
        files: Descriptors, to be closed by whoever has this.
        folder: The folder, if a segment is new in it.
    """

    appended: int
    files: list[int]
    folder: Path | None

    def close(self) -> None:
        """Give the descriptors back."""
        for file in self.files:
            os.close(file)


class Journal:
    """
    The journal of one process, made when first appended to.

    Not thread-safe; the descriptors that it hands out may be used anywhere.

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
        # The number of each line, its run, and the line.
        self._unsynced: deque[tuple[int, str, bytes]] = deque()
        self._unsynced_bytes = 0
        # Of the runs that were marked meanwhile: how many lines there were then.
        self._marked: dict[str, int] = {}
        self.appended = 0
        self.synced = 0

    def append(self, trace_id: str, line: bytes) -> None:
        """
        Add a record of a run.

        Raises:
            OSError: It could not be written; what was before is as it was.
        """
        self._note(self._write(line), trace_id, line)

    def append_all(self, records: Collection[tuple[str, bytes]]) -> None:
        """
        Add records, each with its run: all of them, by one write, or none.

        Raises:
            OSError: As `append`.
        """
        segment = self._write(b"".join([line for _, line in records]))
        for trace_id, line in records:
            self._note(segment, trace_id, line)

    def _note(self, segment: Segment, trace_id: str, line: bytes) -> None:
        segment.is_synced = False
        segment.runs.add(trace_id)
        self.appended += 1
        self._unsynced.append((self.appended, trace_id, line))
        size_bytes = self._unsynced_bytes + len(line)
        while size_bytes > _UNSYNCED_BYTES:
            size_bytes -= len(self._unsynced.popleft()[2])
        self._unsynced_bytes = size_bytes

    def _write(self, lines: bytes) -> Segment:
        """Append to the active segment, or to a new one; give it."""
        segment = self._active
        if (
            segment is None
            or not segment.usable
            or segment.size_bytes >= self._segment_bytes
        ):
            segment = self._begin_segment()
        try:
            segment.append(lines)
        except OSError as error:
            if error.errno != errno.EFBIG or not (segment.runs or segment.marked):
                raise
            # A limit that is not ours: this segment is full, and the next is not.
            segment = self._begin_segment()
            segment.append(lines)
        return segment

    def mark(self, trace_ids: Iterable[str]) -> None:
        """
        Note that the documents of these runs are on disk.

        Each segment with records of a run gets its mark, so that none depends on
        another that is removed; the latest first, so that whatever is left of a
        run after a crash has a mark behind it.

        Raises:
            OSError: It could not be noted; recovery will find them sealed.
        """
        failpoint.reach("journal.unmarked")
        marked = set(trace_ids)
        if self._unsynced:
            self._marked |= dict.fromkeys(marked, self.appended)
        concerned = [s for s in self._segments if not s.runs.isdisjoint(marked)]
        runs = [sorted(segment.runs & marked) for segment in concerned]
        self.appended += bool(concerned)
        for segment in concerned:
            segment.runs -= marked
            segment.is_synced, segment.marked = segment.is_suspect, self.appended
        for segment, ids in zip(reversed(concerned), reversed(runs), strict=True):
            if segment.usable:
                segment.append(b"".join(map(encode_mark, ids)))
                failpoint.reach("journal.marked")

    def reap(self, *, closing: bool = False) -> None:
        """
        Remove the segments that are full, or all if closing, and hold no run.

        None before the marks in all segments are on disk that made it so: what is
        left of a run, in another one, is known by its mark alone.
        """
        ready = [
            segment
            for segment in self._segments
            if not segment.runs and segment.marked <= self.synced
            if closing or segment is not self._active
        ]
        # Whose own marks may not be on disk: while others' are there still.
        suspects = [segment for segment in ready if segment.is_suspect]
        self._let_go(suspects)
        if suspects:
            sync_folder(self._folder)
        self._let_go([segment for segment in ready if not segment.is_suspect])

    def leave_segment(self) -> None:
        """Begin a new segment with the next record: the present one is suspect."""
        self._active = None

    def rewrite_unsynced(self) -> None:
        """
        Write what no sync has confirmed into a new segment.

        Raises:
            OSError: It could not be written there, and is to be once more.
        """
        lines = [item for item in self._unsynced if not self._is_marked(item)]
        # Never asked again: a second sync would say yes to what it forgot.
        for segment in self._segments:
            segment.is_suspect |= not segment.is_synced
            segment.is_synced = True
        self._active = None
        before = self.appended
        for _, trace_id, line in lines:
            self.append(trace_id, line)
        self._forget_unsynced(before)

    def _is_marked(self, item: tuple[int, str, bytes]) -> bool:
        number, trace_id, _ = item
        return number <= self._marked.get(trace_id, -1)

    def _forget_unsynced(self, numbered: int) -> None:
        while self._unsynced and self._unsynced[0][0] <= numbered:
            self._unsynced_bytes -= len(self._unsynced.popleft()[2])

    def is_in_place(self) -> bool:
        """Tell whether each segment is where it was made."""
        return all(segment.is_in_place() for segment in self._segments)

    def restore(self) -> None:
        """
        Write the records of segments that were taken away into new ones.

        Those of later segments too: a run's records stay in order.

        Raises:
            OSError: They could not be written, and are to be once more.
        """
        places = [segment.is_in_place() for segment in self._segments]
        first, end = places.index(False), len(places)
        self._active = None
        try:
            for segment in self._segments[first:end]:
                self._copy(segment)
            for segment in self._segments[end:]:
                segment.sync()
            if self._segments[end:]:
                sync_folder(self._folder)
        except OSError:
            self._let_go(self._segments[end:])
            raise
        self._let_go(self._segments[first:end])

    def _copy(self, segment: Segment) -> None:
        runs = {trace_id.encode(): trace_id for trace_id in segment.runs}
        for line in segment.lines():
            head = line[:HEAD_BYTES]
            for spelled, trace_id in runs.items():
                if spelled in head:
                    self.append(trace_id, line + b"\n")

    def _let_go(self, segments: list[Segment]) -> None:
        for segment in segments:
            self._segments.remove(segment)
            if segment is self._active:
                self._active = None
            self._closed_bytes += segment.size_bytes
            segment.close(remove=True)

    def written_bytes(self) -> int:
        """Give how much has been written in all."""
        return self._closed_bytes + sum(each.size_bytes for each in self._segments)

    def files_of(self, trace_id: str) -> list[tuple[int, int]]:
        """
        Give the segments with records of a run that is not marked.

        Each as a descriptor, to be closed, and the bytes in it now. Reading may
        come later, from another thread, while others append.

        Raises:
            OSError: Too many files are open.
        """
        held = [segment for segment in self._segments if trace_id in segment.runs]
        sizes = [segment.size_bytes for segment in held]
        return list(zip(_descriptors(held), sizes, strict=True))

    def unsynced(self) -> Unsynced:
        """
        Give what is to be synced.

        Raises:
            OSError: Too many files are open.
        """
        dirty = [segment for segment in self._segments if not segment.is_synced]
        folder = self._folder if self._has_new_file else None
        return Unsynced(self.appended, _descriptors(dirty), folder)

    def note_synced(self, appended: int) -> None:
        """Note that the first lines, as many as given, are on disk."""
        self._forget_unsynced(appended)
        self.synced = max(self.synced, appended)
        if self.appended == appended:
            self._has_new_file = False
            self._marked.clear()
            for segment in self._segments:
                segment.is_synced = True

    def abandon(self) -> None:
        """Leave the files to the parent, in a forked child."""
        for segment in self._segments:
            segment.close()
        self._segments = []
        self._active, self._name, self._made = None, "", 0
        self._forget_unsynced(self.appended)
        self._marked.clear()

    def _begin_segment(self) -> Segment:
        if not self._name:
            self._name = layout.journal_name()
        make_folder(self._folder)
        if self._folder.is_symlink():
            raise OSError(errno.ELOOP, f"its folder {layout.JOURNAL!r} is a link")
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
            pid_namespace=owner.pid_namespace(),
            created_ns=time.time_ns(),
        )


def _descriptors(segments: Iterable[Segment]) -> list[int]:
    files: list[int] = []
    try:
        for segment in segments:
            files.append(segment.descriptor())  # noqa: PERF401 - closed if one fails
    except OSError:
        for file in files:
            os.close(file)
        raise
    return files
