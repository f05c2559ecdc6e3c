"""
OTLP: LTF documents to an OpenTelemetry collector, over HTTP.

Queue, batches and retries are the OpenTelemetry SDK's own; `flush` and the counts
tell how it went.
"""

import atexit
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line
from loopotel_prom.archive.reader import Entry
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf import decode
from loopotel_prom.otlp import needs_extra, readable_spans

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

    from loopotel_prom.otlp.delivery import Delivery

_QUEUE_SPANS = 16_384
# As long as the SDK's own would.
_CLOSE_SECONDS = 30.0

_logger = logging.getLogger(__name__)


class OtlpExporter:
    """
    Send LTF documents to an OTLP/HTTP endpoint, ids and times kept.

    Thread-safe. Leaves the global tracer provider alone. What was handed over
    is sent at the latest when the program ends normally; a program that makes
    many exporters closes each. A forked child starts with an empty queue of
    its own.

    Args:
        endpoint: Full URL, ``http://host:4318/v1/traces``. None leaves it to
            the ``OTEL_EXPORTER_OTLP_*`` environment, as are headers,
            compression and certificates.
        service_name: The resource's ``service.name``; None for what the ``OTEL_*``
            environment says, ``loop-runtime`` where that says nothing.
        room_seconds: How long `export` may wait for room in a full queue
            before it gives a span up; 0 never waits.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
        ConfigError: OpenTelemetry refuses the settings in its environment.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        service_name: str | None = "loop-runtime",
        *,
        room_seconds: float = 30.0,
    ) -> None:
        with needs_extra():
            from loopotel_prom.otlp.resource import (  # noqa: PLC0415 - optional extra
                resource_of,
            )
        self._endpoint = endpoint
        self._room_seconds = room_seconds
        self._resource = resource_of(service_name)
        self._closed = False
        self._lock = threading.Lock()
        self._has_warned_of_room = False
        self._reason: str | None = None
        self._delivery: Delivery | None = self._new_delivery()
        _listen_to_forks(self)
        atexit.register(self.close)

    @property
    def delivered(self) -> int:
        """How many spans the receiver has taken so far."""
        return self._current().account.delivered

    @property
    def lost(self) -> int:
        """How many spans are known to be lost so far."""
        return self._current().account.lost

    @property
    def reason(self) -> str | None:
        """Why the first of them were, in the SDK's words; None if none were refused."""
        return self._reason

    def export(self, document: Mapping[str, Any]) -> None:
        """
        Hand one document to the batch processor.

        Returns before it is sent, and waits only for room in a full queue.
        An unreachable or failing receiver raises nothing: `flush` tells.

        Raises:
            DocumentError: The document has no usable trace id or span list.
        """
        self._hand_over(readable_spans(document, resource=self._resource))

    def export_entry(self, entry: Entry) -> None:
        """
        Hand over a document of an archive, as `export` does, however long it is.

        Raises:
            DocumentError: It is none. Of one longer than 16 MiB, spans before the
                fault have been handed over then.
            ArchiveError: Reading failed.
        """
        if isinstance(entry.line, Line):
            self.export(decode(entry.line.data))
            return
        from loopotel_prom.otlp.document import (  # noqa: PLC0415 - optional extra
            translate_stream,
        )

        stream = DocumentStream(entry.line)
        # It may stand behind the spans.
        stream.read_head()["trace_id"] = entry.trace_id
        for spans in translate_stream(stream.fields, stream.batches(), self._resource):
            self._hand_over(spans)
        if stream.span_count is None:
            raise DocumentError("the document's 'spans' is not a list")

    def flush(self, *, timeout_seconds: float = 30.0) -> bool:
        """
        Wait until what was handed over before this call has been answered for.

        Returns:
            True if every span handed over since the last flush went out in a
            request that the receiver accepted; False if one was refused or
            dropped, or time ran out. A loss is reported once. Spans refused
            within an accepted request stay unknown: the SDK does not tell.
        """
        return self._current().flush(timeout_seconds)

    def close(self, *, timeout_seconds: float = _CLOSE_SECONDS) -> None:
        """
        Send what is queued, for as long as is allowed, and stop.

        Safe to call again. A later `export` is counted as lost.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
            delivery = self._delivery
        if was_closed or delivery is None:
            return
        delivery.close(timeout_seconds)
        atexit.unregister(self.close)
        lost = delivery.account.new_losses()
        if lost:
            _logger.warning("OTLP: closed with %d span(s) not delivered", lost)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _hand_over(self, spans: "list[ReadableSpan]") -> None:
        given_up = self._current().hand_over(spans, room_seconds=self._room_seconds)
        if given_up and not self._has_warned_of_room:
            self._has_warned_of_room = True
            _logger.warning("OTLP: queue full or closed, %d span(s) lost", given_up)

    def _current(self) -> "Delivery":
        with self._lock:
            if self._delivery is None:
                self._delivery = self._new_delivery()
                if self._closed:
                    self._delivery.close(0)
            return self._delivery

    def _new_delivery(self) -> "Delivery":
        with needs_extra():
            from loopotel_prom.otlp.delivery import (  # noqa: PLC0415 - optional extra
                Delivery,
            )
        return Delivery(self._endpoint, queue_spans=_QUEUE_SPANS, on_loss=self._lose)

    def _lose(self, count: int, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            _logger.warning("OTLP: %d span(s) lost: %s", count, reason)

    def _after_fork(self) -> None:
        # Queue, locks and connections are the parent's; the threads that work
        # on them did not come along.
        self._lock = threading.Lock()
        if not self._closed:
            self._delivery = None


def _listen_to_forks(exporter: OtlpExporter) -> None:
    if not hasattr(os, "register_at_fork"):
        return
    method = weakref.WeakMethod(exporter._after_fork)  # noqa: SLF001 - same module

    def after_fork() -> None:
        if (restart := method()) is not None:
            restart()

    os.register_at_fork(after_in_child=after_fork)
