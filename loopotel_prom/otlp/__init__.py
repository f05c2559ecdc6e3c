"""
OpenTelemetry spans: runs as the traces that a collector stores.

Ids, parents and times are the document's, so the trace that a collector stores
is the trace that the archive holds (``specs/otlp.md``). OpenTelemetry is an
optional extra: of this package, only the functions here can be imported without
it, and they load it when they are called.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from loopotel_prom.errors import MissingExtraError

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

    from loopotel_prom.health import Health
    from loopotel_prom.otlp.processor import OtlpProcessor

__all__ = ["needs_extra", "open_processor", "readable_spans"]


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
    with needs_extra():
        from loopotel_prom.otlp.document import (  # noqa: PLC0415 - optional extra
            translate,
        )
    return translate(document, resource)


def open_processor(where: "str | Literal[True]", health: "Health") -> "OtlpProcessor":
    """
    Open the way of this process's spans to a collector.

    Args:
        where: Full URL; True for what the ``OTEL_*`` environment says.
        health: Where losses are counted.

    Raises:
        ConfigError: OpenTelemetry refuses a setting in its environment.
        MissingExtraError: OpenTelemetry is not installed.
    """
    with needs_extra():
        from loopotel_prom.otlp.processor import (  # noqa: PLC0415 - optional extra
            OtlpProcessor,
        )
    return OtlpProcessor(None if where is True else where, health=health)


@contextmanager
def needs_extra() -> Iterator[None]:
    """
    Name the extra that an import of OpenTelemetry in this block asks for.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            "OpenTelemetry", extra="otlp", reason=str(error)
        ) from error
