"""The spans of an LTF document, one by one, as the SDK's own `ReadableSpan`s."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, Status, StatusCode, TraceFlags

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.otlp.attributes import (
    Attribute,
    attributes_of,
    metadata_attributes,
)
from loopotel_prom.otlp.genai import EVALUATION_RESULT, evaluation, run_attributes
from loopotel_prom.plain import number, text
from loopotel_prom.rfc3339 import parse_time
from loopotel_prom.version import __version__

# Without the sampled flag the batch processor drops a span in silence.
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SCOPE = InstrumentationScope("loopotel_prom", __version__)
_UNSET = Status()
_LINK = "loop.link"

_TRACE_ID = re.compile(r"ltf-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
# OTLP's fixed64. One value outside makes the SDK refuse the whole batch.
_TIMES_NS = range(2**64)


class Translation:
    """
    One trace on its way to OpenTelemetry.

    Args:
        trace_id: The document's.
        resource: What the spans are of.
        ended_at: The document's; the end of a span that has none.
        goal_target: What an evaluator's score is held against.

    Attributes:
        left_out: How many pieces could not be expressed so far.
        goal_target: As given; may be set before the first evaluator.

    Raises:
        DocumentError: The trace id is none.
    """

    def __init__(
        self,
        trace_id: Any,
        resource: Resource,
        *,
        ended_at: Any = None,
        goal_target: float | None = None,
    ) -> None:
        self.left_out = 0
        self.goal_target = goal_target
        self._trace_id = _trace_id(trace_id)
        self._ended_ns = _time_ns(ended_at)
        self._resource = resource

    def child(self, piece: Any) -> ReadableSpan | None:
        """Translate a span of the document, not the root; None if it is left out."""
        if not isinstance(piece, Mapping):
            self.left_out += 1
            return None
        attributes = self._mapping(piece.get("attributes"))
        failed = isinstance(attributes.get(semconv.ERROR_TYPE), str)
        return self._span(
            piece,
            attributes_of(attributes),
            Status(StatusCode.ERROR) if failed else _UNSET,
        )

    def root(
        self,
        piece: Mapping[str, Any],
        document: Mapping[str, Any],
        active: SpanContext | None = None,
    ) -> ReadableSpan | None:
        """
        Translate the run's own span.

        Args:
            piece: The span.
            document: The outer members of the document.
            active: The OpenTelemetry span in which the run started.
        """
        metadata = self._mapping(document.get("metadata"))
        attributes = {
            **attributes_of(run_attributes(document)),
            **metadata_attributes(metadata),
            **attributes_of(self._mapping(piece.get("attributes"))),
        }
        links = []
        if (parent := _parent_run(metadata)) is not None:
            links.append(Link(parent, {_LINK: "parent_run"}))
        if active is not None:
            links.append(Link(active, {_LINK: "active_span"}))
        return self._span(piece, attributes, _status(document), links)

    def _span(
        self,
        piece: Mapping[str, Any],
        attributes: dict[str, Attribute],
        status: Status,
        links: Sequence[Link] = (),
    ) -> ReadableSpan | None:
        name, span_id = piece.get("name"), span_number(piece.get("span_id"))
        start_ns = _time_ns(piece.get("start_time"))
        if not isinstance(name, str) or not name or not span_id or start_ns is None:
            self.left_out += 1
            return None
        end_ns = self._end_ns(piece.get("end_time"), start_ns)
        return ReadableSpan(
            text(name),
            context=self._context(span_id),
            parent=self._parent(piece.get("parent_span_id")),
            resource=self._resource,
            attributes=attributes,
            events=self._events(piece, end_ns),
            links=links,
            status=status,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=_SCOPE,
        )

    def _parent(self, value: Any) -> SpanContext | None:
        parent_id = span_number(value)
        if parent_id:
            return self._context(parent_id)
        self.left_out += value is not None
        return None

    def _context(self, span_id: int) -> SpanContext:
        return SpanContext(
            self._trace_id, span_id, is_remote=False, trace_flags=_SAMPLED
        )

    def _end_ns(self, value: Any, start_ns: int) -> int:
        end_ns = _time_ns(value)
        if end_ns is not None:
            return end_ns
        self.left_out += value is not None
        # A document that ended before this span began tells nothing about it.
        return max(start_ns, self._ended_ns or 0)

    def _events(self, piece: Mapping[str, Any], end_ns: int) -> list[Event]:
        events = list(self._own_events(piece.get("events")))
        if piece.get("kind") == "evaluator":
            attributes = piece.get("attributes")
            if isinstance(attributes, Mapping):
                result = evaluation(attributes, self.goal_target)
                if result is not None:
                    events.append(
                        Event(EVALUATION_RESULT, attributes_of(result), end_ns)
                    )
        return events

    def _own_events(self, value: Any) -> Iterator[Event]:
        if not isinstance(value, list | tuple):
            self.left_out += value is not None
            return
        for piece in value:
            event = self._event(piece) if isinstance(piece, Mapping) else None
            if event is None:
                self.left_out += 1
            else:
                yield event

    def _event(self, piece: Mapping[str, Any]) -> Event | None:
        name, time_ns = piece.get("name"), _time_ns(piece.get("timestamp"))
        if not isinstance(name, str) or time_ns is None:
            return None
        attributes = attributes_of(self._mapping(piece.get("attributes")))
        return Event(text(name), attributes, time_ns)

    def _mapping(self, value: Any) -> Mapping[Any, Any]:
        if isinstance(value, Mapping):
            return value
        self.left_out += value is not None
        return {}


def target_of(root: Mapping[str, Any]) -> float | None:
    """Give the goal target that a run's own span tells."""
    attributes = root.get("attributes")
    if not isinstance(attributes, Mapping):
        return None
    return number(attributes.get(semconv.GOAL_TARGET))


def _status(document: Mapping[str, Any]) -> Status:
    outcome, reason = document.get("outcome"), document.get("termination_reason")
    if outcome == "failure":
        known = isinstance(reason, str) and reason
        return Status(StatusCode.ERROR, text(reason) if known else None)
    return Status(StatusCode.OK if outcome == "success" else StatusCode.UNSET)


def _parent_run(metadata: Mapping[Any, Any]) -> SpanContext | None:
    """Find the span of another run that a nested run was started in."""
    parent = metadata.get(semconv.PARENT)
    if not isinstance(parent, Mapping):
        return None
    span_id = span_number(parent.get("span_id"))
    try:
        trace_id = _trace_id(parent.get("trace_id"))
    except DocumentError:
        return None
    if not span_id:
        return None
    # Perhaps of another process.
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED)


def _trace_id(value: Any) -> int:
    if isinstance(value, str) and _TRACE_ID.fullmatch(value):
        found = int(value.removeprefix("ltf-").replace("-", ""), 16)
        # OpenTelemetry reserves zero for "no trace".
        if found:
            return found
    raise DocumentError(
        f"trace_id {text(value, limit=64)!r} is not 'ltf-' and a lower-case,"
        " non-zero uuid; validate the document first"
    )


def span_number(value: Any) -> int | None:
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
