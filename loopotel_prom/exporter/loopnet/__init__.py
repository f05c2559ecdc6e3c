"""LoopNet's ``ln/record-v1`` from LTF documents (``specs/loopnet.md``)."""

from collections.abc import Callable, Mapping
from typing import Any

from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet.options import RecordOptions
from loopotel_prom.exporter.loopnet.record import record_of
from loopotel_prom.exporter.loopnet.redact import without_values
from loopotel_prom.exporter.loopnet.run import Run, run_of, run_of_line
from loopotel_prom.exporter.loopnet.schema import load_record_schema
from loopotel_prom.exporter.loopnet.trajectory import steps, trajectory_from_trace

__all__ = [
    "RecordOptions",
    "load_record_schema",
    "record_from_line",
    "record_from_trace",
    "steps",
    "trajectory_from_trace",
]

_DEFAULTS = RecordOptions()


def record_from_trace(
    trace: Mapping[str, Any] | DocumentStream, options: RecordOptions = _DEFAULTS
) -> dict[str, Any]:
    """
    Make the record of a run: the same document always gives the same one.

    Raises:
        DocumentError: It cannot become a valid record; the message says why.
        ArchiveError: Reading the stream failed.
    """
    return _record(lambda: run_of(trace), options)


def record_from_line(
    line: Line | LongLine, options: RecordOptions = _DEFAULTS
) -> dict[str, Any]:
    """
    Make the record of the document on a line of an archive.

    As `record_from_trace`, in a fraction of its time: what no record needs is not
    decoded.

    Raises:
        DocumentError: As `record_from_trace`.
        ArchiveError: Reading failed.
    """
    return _record(lambda: run_of_line(line), options)


def _record(run: Callable[[], Run], options: RecordOptions) -> dict[str, Any]:
    try:
        return record_of(run(), options)
    except DocumentError as error:
        if options.redaction is None:
            raise
        # Not even the cause: a log may spell it out.
        raise without_values(error) from None
