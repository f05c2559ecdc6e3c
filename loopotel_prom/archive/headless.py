"""A long run's document, its spans written before its beginning is known."""

from collections.abc import Iterable
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive import layout
from loopotel_prom.archive.found_run import FoundRun
from loopotel_prom.archive.long_document import LongDocument
from loopotel_prom.span import ChildSpan, RunSpan

# For what a document says before its spans: a few hundred bytes, most often.
_ROOM_BYTES = 4096


class Headless:
    """
    Spells the spans of a run while its journal is read for the first time.

    That spares reading them a second time, a sixth of a recovery. Where it does not
    come to a document, `seal` says so, and nothing is lost but the time.

    Args:
        folder: The archive's.
        found: The run, which is still being read.

    Attributes:
        found: The same.
    """

    def __init__(self, folder: Path, found: FoundRun) -> None:
        self.found = found
        self._start = found.start if found.is_plain else None
        self._document: LongDocument | None = None
        try:
            self._document = LongDocument(folder, room_bytes=_ROOM_BYTES)
        except OSError:
            # The disk may be full; what is short can be sealed all the same.
            return

    def write(self, spans: Iterable[ChildSpan]) -> None:
        """Spell all of them, whatever the disk says."""
        if self._start is None:
            for _ in spans:
                pass
            return
        for piece in ltf.inside(self._start, spans):
            self._add(piece)

    def seal(self, run: RunSpan) -> bool:
        """
        Finish the document; False if it cannot be this one.

        Raises:
            OSError: It could not be finished; nothing is left of it.
        """
        document, self._document = self._document, None
        if document is None:
            return False
        try:
            before, behind = ltf.around(run)
            if not self._fits(run, document.size_bytes + len(before) + len(behind)):
                return False
            document.add(behind)
            if not document.begin_with(before):
                return False
            document.finish()
        finally:
            document.drop()
        return True

    def drop(self) -> None:
        """Leave nothing of it, unless it was sealed."""
        document, self._document = self._document, None
        if document is not None:
            document.drop()

    def _add(self, piece: bytes) -> None:
        # Not to be raised from here: who reads on must come to the journal's end.
        try:
            if self._document is not None:
                self._document.add(piece)
        except OSError:
            self.drop()

    def _fits(self, run: RunSpan, size_bytes: int) -> bool:
        """See that it is long, and that all spans were those of this run."""
        start = self._start
        return (
            start is not None
            and self.found.is_plain
            and size_bytes > layout.LONG_BYTES
            and (start.loop_name, start.env_id, start.task_id)
            == (run.loop_name, run.env_id, run.task_id)
        )
