"""Telling once more what was told before of the runs that are under way."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from loopotel_prom.archive.follow import Position
from loopotel_prom.archive.layout import JOURNAL, place_of
from loopotel_prom.archive.ledger import Ledger, Sink
from loopotel_prom.archive.lines import Line
from loopotel_prom.archive.record import Record, decode
from loopotel_prom.archive.tail import Tail
from loopotel_prom.errors import DocumentError


def retell(folder: Path, position: Position, sink: Sink) -> None:
    """
    Tell a new sink of the runs under way at a position, up to there.

    What a journal does not hold any more is left out.
    """
    wanted = {taken.trace_id for taken in position.runs}
    ledger = Ledger(sink)
    for name in sorted(position.segments, key=place_of) if wanted else ():
        tail = Tail(folder / JOURNAL / name)
        with suppress(OSError):
            for record in _records(tail, position.segments[name]):
                span, seq = record.span, record.seq
                if span is not None and seq is not None and span.trace_id in wanted:
                    ledger.record(seq, span)
        tail.close()


def _records(tail: Tail, end: int) -> Iterator[Record]:
    """Read a segment up to some byte; damage is passed over."""
    tail.open()
    while tail.offset < end and (piece := tail.read()).lines:
        for line in piece.lines:
            if line.offset < end and isinstance(line, Line):
                with suppress(DocumentError):
                    yield decode(line.data)
        tail.offset = piece.end
