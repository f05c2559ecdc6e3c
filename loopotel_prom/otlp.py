"""
OpenTelemetry spans: an LTF document as the SDK's own `ReadableSpan` objects.

Ids, parents and times are the document's, so the trace that a collector stores
is the trace that the archive holds. OpenTelemetry is an optional extra and is
loaded on first use.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from loopotel_prom.errors import DocumentError, MissingExtraError
from loopotel_prom.plain import plain, text
from loopotel_prom.rfc3339 import parse_time

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import Event, ReadableSpan
    from opentelemetry.trace import SpanContext, Status
    from opentelemetry.util.types import AttributeValue

SCOPE_NAME = "loopotel_prom"

_logger = logging.getLogger(__name__)
_TRACE_ID = re.compile(r"ltf-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_INT64 = range(-(2**63), 2**63)
# OTLP's fixed64. One value outside makes the SDK refuse the whole batch.
_TIMES_NS = range(2**64)
_SCALARS = (str, bool, int, float)


def readable_spans(
    document: Mapping[str, Any], *, resource: "Resource"
) -> "list[ReadableSpan]":
    """
    Turn one LTF document into sampled spans, in the document's order.

    A piece that cannot be expressed (a span without a valid id, name or start,
    an event without a name or time, a parent id that is none) is left out, its
    neighbours are kept, and one warning tells how many pieces were left out.
    An end that is missing or unreadable is the document's ``ended_at``.

    Raises:
        DocumentError: The document has no usable ``trace_id`` or no list of
            spans, so nothing of it can be expressed.
        MissingExtraError: OpenTelemetry is not installed.
    """
    pieces = document.get("spans")
    if not isinstance(pieces, list | tuple):
        raise DocumentError("the document's 'spans' is not a list; validate it first")
    translation = _Translation(document, resource)
    spans = translation.spans(pieces)
    if translation.left_out:
        _logger.warning(
            "OTLP: left %d malformed piece(s) of document %s out",
            translation.left_out,
            document["trace_id"],
        )
    return spans


def missing_extra(error: ImportError) -> MissingExtraError:
    """Name the extra that a failed import of OpenTelemetry asks for."""
    return MissingExtraError("OpenTelemetry", extra="otlp", reason=str(error))


class _Translation:
    """One document on its way to OpenTelemetry; counts what it leaves out."""

    def __init__(self, document: Mapping[str, Any], resource: "Resource") -> None:
        self.left_out = 0
        self._trace_id = _trace_id(document.get("trace_id"))
        self._ended_ns = _time_ns(document.get("ended_at"))
        self._resource = resource
        self._root_status = _status(document)

    def spans(self, pieces: Sequence[Any]) -> "list[ReadableSpan]":
        found = list(self._mappings(pieces))
        ids = {_span_id(piece.get("span_id")) for piece in found} - {None}
        translated = [self._span(piece, ids) for piece in found]
        return [span for span in translated if span is not None]

    def _span(
        self, piece: Mapping[str, Any], ids: set[int | None]
    ) -> "ReadableSpan | None":
        from opentelemetry.sdk import trace as sdk  # noqa: PLC0415 - optional extra
        from opentelemetry.sdk.util.instrumentation import (  # noqa: PLC0415 - same
            InstrumentationScope,
        )
        from opentelemetry.trace import Status  # noqa: PLC0415 - same

        name, span_id = piece.get("name"), _span_id(piece.get("span_id"))
        start_ns = _time_ns(piece.get("start_time"))
        if not isinstance(name, str) or not name or not span_id or start_ns is None:
            self.left_out += 1
            return None
        parent = self._parent(piece.get("parent_span_id"))
        # A run may hang below a span that the document does not hold.
        is_inner = parent is not None and parent.span_id in ids
        is_root = piece.get("kind") == "loop" and not is_inner
        return sdk.ReadableSpan(
            text(name),
            context=self._context(span_id),
            parent=parent,
            resource=self._resource,
            attributes=self._attributes(piece.get("attributes")),
            events=self._events(piece.get("events")),
            status=self._root_status if is_root else Status(),
            start_time=start_ns,
            end_time=self._end_ns(piece.get("end_time"), start_ns),
            instrumentation_scope=InstrumentationScope(SCOPE_NAME),
        )

    def _parent(self, value: Any) -> "SpanContext | None":
        parent_id = _span_id(value)
        if parent_id:
            return self._context(parent_id)
        self.left_out += value is not None
        return None

    def _context(self, span_id: int) -> "SpanContext":
        from opentelemetry import trace as api  # noqa: PLC0415 - optional extra

        # Without the sampled flag the batch processor drops a span in silence.
        flags = api.TraceFlags(api.TraceFlags.SAMPLED)
        return api.SpanContext(
            self._trace_id, span_id, is_remote=False, trace_flags=flags
        )

    def _end_ns(self, value: Any, start_ns: int) -> int:
        end_ns = _time_ns(value)
        if end_ns is not None:
            return end_ns
        self.left_out += value is not None
        # A document that ended before this span began tells nothing about it.
        return max(start_ns, self._ended_ns or 0)

    def _events(self, value: Any) -> "list[Event]":
        if not isinstance(value, list | tuple):
            self.left_out += value is not None
            return []
        translated = [self._event(piece) for piece in self._mappings(value)]
        return [event for event in translated if event is not None]

    def _event(self, piece: Mapping[str, Any]) -> "Event | None":
        from opentelemetry.sdk.trace import Event  # noqa: PLC0415 - optional extra

        name, time_ns = piece.get("name"), _time_ns(piece.get("timestamp"))
        if not isinstance(name, str) or time_ns is None:
            self.left_out += 1
            return None
        attributes = self._attributes(piece.get("attributes"))
        return Event(text(name), attributes=attributes, timestamp=time_ns)

    def _attributes(self, value: Any) -> "dict[str, AttributeValue]":
        if not isinstance(value, Mapping):
            self.left_out += value is not None
            return {}
        # OpenTelemetry knows neither an empty key nor an absent value.
        return {
            text(key): _attribute(item)
            for key, item in value.items()
            if item is not None and key != ""
        }

    def _mappings(self, pieces: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
        for piece in pieces:
            if isinstance(piece, Mapping):
                yield piece
            else:
                self.left_out += 1


def _attribute(value: Any) -> "AttributeValue":
    """Keep what OpenTelemetry allows; anything else becomes compact JSON text."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        return value
    if isinstance(value, list | tuple) and _is_homogeneous(value):
        return tuple(text(v) if isinstance(v, str) else v for v in value)
    copy = plain(value)
    return copy if isinstance(copy, str) else msgspec.json.encode(copy).decode()


def _is_homogeneous(values: Sequence[Any]) -> bool:
    kinds = {type(value) for value in values}
    if not kinds <= set(_SCALARS) or len(kinds) > 1:
        return False
    return int not in kinds or all(value in _INT64 for value in values)


def _status(document: Mapping[str, Any]) -> "Status":
    try:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - extra
    except ImportError as error:
        raise missing_extra(error) from error

    outcome, reason = document.get("outcome"), document.get("termination_reason")
    if outcome == "failure":
        known = isinstance(reason, str) and reason
        return Status(StatusCode.ERROR, text(reason) if known else None)
    return Status(StatusCode.OK if outcome == "success" else StatusCode.UNSET)


def _trace_id(value: Any) -> int:
    if isinstance(value, str) and _TRACE_ID.fullmatch(value):
        number = int(value.removeprefix("ltf-").replace("-", ""), 16)
        # OpenTelemetry reserves zero for "no trace".
        if number:
            return number
    raise DocumentError(
        f"trace_id {text(value, limit=64)!r} is not 'ltf-' and a lower-case,"
        " non-zero uuid; validate the document first"
    )


def _span_id(value: Any) -> int | None:
    """Read a span id; zero, which OpenTelemetry reserves, counts as none."""
    if isinstance(value, str) and _SPAN_ID.fullmatch(value):
        return int(value, 16) or None
    return None


def _time_ns(value: Any) -> int | None:
    if not isinstance(value, str):
        return None
    try:
        time_ns = parse_time(value)
    except DocumentError:
        return None
    return time_ns if time_ns in _TIMES_NS else None
