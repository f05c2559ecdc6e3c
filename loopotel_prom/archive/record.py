"""The records of a journal as lines: JSON with a CRC-32 (`specs/archive.md`)."""

import re
import zlib
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Struct

from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import plain_mapping
from loopotel_prom.span import (
    EvaluatorSpan,
    Event,
    IterationSpan,
    RunSpan,
    Span,
    WorkerSpan,
)

VERSION = 1

_CRC_TEXT = b',"crc":"%08x"}'
_CRC_BYTES = len(_CRC_TEXT % 0)
_CRC = _CRC_TEXT + b"\n"
_TRACE_ID = re.compile(
    r"ltf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
SPAN_ID = re.compile(r"[0-9a-f]{16}").fullmatch
_SPAN_ID_DIGITS = 16
_HEX = "0123456789abcdef"
_NAME_CHARACTERS = range(3, 65)
# What RFC 3339 can spell: up to the end of the year 9999.
_LATEST_NS = 253_402_300_799 * 10**9

# Looked up once: every span passes here.
_encode = msgspec.json.Encoder().encode
_crc32 = zlib.crc32


class Header(Struct, frozen=True, kw_only=True):
    """
    What the first line of a segment says of its owner.

    Attributes:
        version: Of the format.
        id: Shared by the segments of one journal.
        segment: Counted from 1.
        pid: The owning process.
        boot_id: The boot it runs in; None where the system does not tell.
        process_start: When it started, clock ticks after boot; None likewise.
        created_ns: When the segment was made, Unix nanoseconds.
        pid_namespace: What its pid counts in, as containers have their own; None
            likewise.
    """

    version: int
    id: str
    segment: int
    pid: int
    created_ns: int
    boot_id: str | None = None
    process_start: int | None = None
    pid_namespace: int | None = None


class Record(Struct, frozen=True, gc=False):
    """One line of a journal: exactly one of header, span (with seq) and mark."""

    seq: int | None = None
    span: RunSpan | IterationSpan | WorkerSpan | EvaluatorSpan | None = None
    sealed: str | None = None
    journal: Header | None = None

    @property
    def trace_id(self) -> str | None:
        """The run that it is about; None for a header."""
        return self.sealed if self.span is None else self.span.trace_id


# Of a line that `decode` has read before: it judges nothing.
decode_again = msgspec.json.Decoder(Record).decode


def encode_span(seq: int, span: Span) -> bytes:
    """Spell a span's record, line ending included."""
    try:
        body = b'{"seq":%d,"span":%b' % (seq, _encode(span))
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        body = b'{"seq":%d,"span":%b' % (seq, _encode(_plain(span)))
    return body + _CRC % _crc32(body)


def encode_mark(trace_id: str) -> bytes:
    """Spell the mark of a run that is sealed, line ending included."""
    return _line({"sealed": trace_id})


def encode_header(header: Header) -> bytes:
    """Spell a segment's first line, line ending included."""
    return _line({"journal": header})


def is_intact(line: bytes) -> bool:
    """Tell whether a line, without its ending, is as it was written."""
    return line.endswith(_CRC_TEXT % _crc32(line[:-_CRC_BYTES]))


def decode(line: bytes) -> Record:
    """
    Read a line, given without its ending.

    Raises:
        DocumentError: It is damaged, or is no record that a document can be made
            of; the message says why.
    """
    # `is_intact`, without a call for each of a million.
    if not line.endswith(_CRC_TEXT % _crc32(line[:-_CRC_BYTES])):
        raise DocumentError("the checksum does not hold")
    try:
        record = decode_again(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DocumentError(f"no record: {error}") from error
    span = record.span
    if span is not None:
        if record.seq is None or record.seq < 0:
            raise DocumentError("no record: a span without its seq")
        if not _is_usable(span):
            raise DocumentError("no record: its ids, times or name fit no document")
    elif record.journal is None and not _is_trace_id(record.sealed or ""):
        raise DocumentError("no record: neither header, span nor mark")
    return record


def _line(members: dict[str, Any]) -> bytes:
    body = _encode(members)[:-1]
    return body + _CRC % _crc32(body)


def _is_usable(span: Span) -> bool:
    """See that a valid document can be made of it: anyone can write a journal."""
    start_ns, end_ns, span_id = span.start_ns, span.end_ns, span.span_id
    return (
        0 <= start_ns <= (start_ns if end_ns is None else end_ns) <= _LATEST_NS
        and len(span_id) == _SPAN_ID_DIGITS
        # Half the cost of a pattern.
        and not span_id.strip(_HEX)
        and span.parent_span_id != ""
        and _is_trace_id(span.trace_id)
        and not (span.events and _is_some_time_off(span.events))
        and (type(span) is not RunSpan or len(span.loop_name) in _NAME_CHARACTERS)
    )


# A journal has many records of few runs.
@lru_cache(maxsize=1024)
def _is_trace_id(text: str) -> bool:
    return _TRACE_ID.fullmatch(text) is not None


def _is_some_time_off(events: tuple[Event, ...]) -> bool:
    return any(not 0 <= event.time_ns <= _LATEST_NS for event in events)


def _plain(span: Span) -> Span:
    """Make plain what JSON cannot carry: attributes of a stranger's making."""
    changes: dict[str, Any] = {"attributes": plain_mapping(span.attributes)}
    if isinstance(span, RunSpan):
        changes["metadata"] = plain_mapping(span.metadata)
    changes["events"] = tuple(
        msgspec.structs.replace(event, attributes=plain_mapping(event.attributes))
        for event in span.events
    )
    return msgspec.structs.replace(span, **changes)
