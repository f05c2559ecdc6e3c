"""Runs that are sealed already, found again by whoever had them sealed."""

from collections.abc import Iterator
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.layout import COMPRESSED
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry, entry_of, matches, read_items
from loopotel_prom.span import ChildSpan, RunSpan


def sealed_spans(folder: Path, trace_id: str) -> list[ChildSpan]:
    """
    Read the spans of a sealed run, the run's own aside; none if it is not there.

    Raises:
        ArchiveError: The archive cannot be read.
        DocumentError: The document is damaged.
    """
    for entry in matches(folder, trace_id=trace_id):
        document = DocumentStream(entry.line)
        spans = [*document.spans()]
        unfolded = ltf.unfold({**document.fields, "spans": spans})
        return [span for span in unfolded if not isinstance(span, RunSpan)]
    return []


def newest_entries(folder: Path) -> Iterator[Entry]:
    """
    Read the documents that were sealed last: those not compressed yet.

    Raises:
        ArchiveError: The archive cannot be read.
    """
    for item in read_items(folder, newest_first=True):
        if item.file.endswith(COMPRESSED):
            return
        entry = entry_of(item)
        if not isinstance(entry, BadLine):
            yield entry
