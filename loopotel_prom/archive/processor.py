"""`ArchiveProcessor`: seals each run that ends into the archive."""

import threading
from collections import deque
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.errors import ArchiveError
from loopotel_prom.span import RunSpan, Span

SEALED_NAME = "traces.jsonl"
_MAX_PENDING = 1000


class ArchiveProcessor:
    """
    Folds the spans of each run, once it has ended, into a line of the archive.

    A line that cannot be written is kept, up to a thousand of them, and written
    with the next one that can. Thread-safe.

    Args:
        folder: The archive's folder; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = SealedFile(folder / SEALED_NAME)
        self._lock = threading.RLock()
        self._open: dict[str, list[Span]] = {}
        self._pending: deque[bytes] = deque(maxlen=_MAX_PENDING)

    def prepare(self) -> None:
        """
        Make the folder, and see that the archive can be in it.

        Raises:
            OSError: It cannot.
        """
        self._file.prepare()

    def on_start(self, span: RunSpan) -> None:
        """Begin to collect a run's spans."""
        with self._lock:
            # Of a trace id used twice at once, all spans stand in both documents.
            self._open.setdefault(span.trace_id, [])

    def on_end(self, span: Span) -> None:
        """
        Collect a span; of a run that has ended, append the document.

        Raises:
            ArchiveError: The document could not be written.
        """
        with self._lock:
            if not isinstance(span, RunSpan):
                self._open.setdefault(span.trace_id, []).append(span)
                return
            spans = self._open.pop(span.trace_id, [])
        self._pending.append(ltf.encode(ltf.fold([span, *spans])))
        self._write_pending()

    def unwritten(self) -> int:
        """Give the number of finished runs that wait to be written."""
        return len(self._pending)

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - one try is made
        """Try once more to write what could not be written; True if all is."""
        self._write_pending()
        return True

    def close(self) -> None:
        """
        Try once more to write what could not be written.

        A run under way is sealed here when it ends, even so.
        """
        self._write_pending()

    def after_fork(self) -> None:
        """Leave the parent's open runs to the parent."""
        self._lock = threading.RLock()
        self._open = {}
        self._pending.clear()

    def _write_pending(self) -> None:
        while True:
            try:
                line = self._pending.popleft()
            except IndexError:
                return
            try:
                self._file.append(line)
            except ArchiveError:
                self._pending.appendleft(line)
                raise
