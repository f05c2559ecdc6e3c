"""`ArchiveProcessor`: seals each run that ends into the archive."""

import threading
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.span import RunSpan, Span

SEALED_NAME = "traces.jsonl"


class ArchiveProcessor:
    """
    Folds the spans of each run, once it has ended, into a line of the archive.

    Thread-safe.

    Args:
        folder: The archive's folder; made when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._file = SealedFile(folder / SEALED_NAME)
        self._lock = threading.RLock()
        self._open: dict[str, list[Span]] = {}

    def on_start(self, span: RunSpan) -> None:
        """Begin to collect a run's spans."""
        with self._lock:
            self._open[span.trace_id] = []

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
        self._file.append(ltf.encode(ltf.fold([span, *spans])))

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - nothing is held back
        """Do nothing: a sealed run is in its file already."""
        return True

    def close(self) -> None:
        """Forget the runs that have not ended."""
        with self._lock:
            self._open.clear()

    def after_fork(self) -> None:
        """Leave the parent's open runs to the parent."""
        self._lock = threading.RLock()
        self._open = {}
