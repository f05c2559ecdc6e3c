"""Spans to the bytes of a document, without ever holding all of it."""

from collections.abc import Iterable, Iterator

import msgspec

from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf.fold import opening
from loopotel_prom.ltf.shape import child_shapes, copy_mapping, run_shape
from loopotel_prom.ltf.wire import WireSpan, span_dict
from loopotel_prom.plain import plain
from loopotel_prom.span import ChildSpan, RunSpan

# Large enough that a write costs little beside what it writes. From 128 KiB on the
# allocator asks the system for each anew: a million spans took 400,000 page faults.
_PIECE_BYTES = 64 * 1024

_encoder = msgspec.json.Encoder()
_encode_into = _encoder.encode_into
_AT_ITS_END = -1


def stream(run: RunSpan, children: Iterable[ChildSpan]) -> Iterator[bytes]:
    """
    Spell the document of one run piece by piece, without the newline.

    The pieces together are ``encode(fold([run, *children]))``. Each has 64 KiB
    or up to one span more, the last one less. A span, or metadata, that holds
    values JSON cannot carry is made plain by itself, as `encode` does.

    `children` are read as the pieces are taken, in the order in which they
    ended: a worker or evaluator before the iteration that it names as parent.
    Only those whose iteration is still to come are kept in memory; one that
    comes after its iteration stands at the end, as if that had never come.

    Raises:
        DocumentError: The run has no end yet: its time stands before the
            children, who alone could tell it. Nothing has been read then.
    """
    before, behind = around(run)
    return _pieces(before, run, children, behind)


def around(run: RunSpan) -> tuple[bytes, bytes]:
    """
    Spell what stands in a document before the spans of the children, and behind.

    Raises:
        DocumentError: The run has no end yet.
    """
    if run.end_ns is None:
        raise DocumentError("a run is streamed once it has ended: end_ns is None")
    before, behind = bytearray(), bytearray(b'],"metadata":')
    _append(before, opening(run, run.end_ns))
    before[-1:] = b',"spans":['
    _append(before, run_shape(run, run.end_ns))
    _append(behind, copy_mapping(run.metadata))
    return bytes(before), bytes(behind + b"}")


def inside(run: RunSpan, children: Iterable[ChildSpan]) -> Iterator[bytes]:
    """
    Spell what stands between the two, as `stream` does.

    Of the run its names count alone, so that it may go on meanwhile.
    """
    return _pieces(b"", run, children, b"")


def _pieces(
    before: bytes, run: RunSpan, children: Iterable[ChildSpan], behind: bytes
) -> Iterator[bytes]:
    buffer = bytearray(before)
    for shape in child_shapes(run, children):
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer)
            buffer.clear()
        buffer += b","
        _append(buffer, shape)
    buffer += behind
    yield bytes(buffer)


def _append(buffer: bytearray, part: WireSpan | dict[str, object]) -> None:
    """Spell one part of the document after what the buffer holds."""
    start = len(buffer)
    try:
        _encode_into(part, buffer, _AT_ITS_END)
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        del buffer[start:]
        values = span_dict(part) if isinstance(part, WireSpan) else part
        buffer += _encoder.encode(plain(values))
