"""A document whole, or as it is read, as OpenTelemetry spans."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from loopotel_prom.errors import DocumentError
from loopotel_prom.otlp.translation import Translation, span_number, target_of

_logger = logging.getLogger(__name__)


def translate(document: Mapping[str, Any], resource: Resource) -> list[ReadableSpan]:
    """
    Do what `loopotel_prom.otlp.readable_spans` says.

    Raises:
        DocumentError: The document has no usable ``trace_id`` or no list of spans.
    """
    pieces = document.get("spans")
    if not isinstance(pieces, list | tuple):
        raise DocumentError("the document's 'spans' is not a list; validate it first")
    translation = _begin(document, resource)
    ids = {span_number(piece.get("span_id")) for piece in _mappings(pieces)} - {None}
    roots = [piece for piece in _mappings(pieces) if _is_root(piece, ids)]
    if roots:
        translation.goal_target = target_of(roots[0])
    spans = [
        # By identity: a copy of the root is another span.
        translation.root(piece, document)
        if any(piece is root for root in roots[:1])
        else translation.child(piece)
        for piece in pieces
    ]
    _tell(translation, document)
    return [span for span in spans if span is not None]


def translate_stream(
    fields: Mapping[str, Any], batches: Iterable[list[Any]], resource: Resource
) -> Iterator[list[ReadableSpan]]:
    """
    Translate a document that is longer than memory, batch by batch.

    The root comes last: what it tells may stand behind the spans.

    Args:
        fields: The outer members of the document, completed while it is read.
        batches: Its spans, as they are read.
        resource: What the spans are of.

    Raises:
        DocumentError: The document has no usable ``trace_id``, or ends amiss.
    """
    translation = _begin(fields, resource)
    root: Mapping[str, Any] | None = None
    for batch in batches:
        spans = []
        for piece in batch:
            if root is None and isinstance(piece, Mapping) and _is_root(piece, ()):
                root = piece
                translation.goal_target = target_of(root)
            else:
                spans.append(translation.child(piece))
        yield [span for span in spans if span is not None]
    if root is not None and (last := translation.root(root, fields)) is not None:
        yield [last]
    _tell(translation, fields)


def _begin(document: Mapping[str, Any], resource: Resource) -> Translation:
    return Translation(
        document.get("trace_id"), resource, ended_at=document.get("ended_at")
    )


def _is_root(piece: Mapping[str, Any], ids: Iterable[int | None]) -> bool:
    """Tell a run's own span, which may hang below one of another document."""
    if piece.get("kind") != "loop":
        return False
    parent = span_number(piece.get("parent_span_id"))
    return parent is None or parent not in ids


def _mappings(pieces: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    return (piece for piece in pieces if isinstance(piece, Mapping))


def _tell(translation: Translation, document: Mapping[str, Any]) -> None:
    if translation.left_out:
        _logger.warning(
            "OTLP: left %d malformed piece(s) of document %s out",
            translation.left_out,
            document["trace_id"],
        )
