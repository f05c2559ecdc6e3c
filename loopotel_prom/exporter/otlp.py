"""
OTLP: whole LTF documents to an OpenTelemetry collector, over HTTP.

Queue, batches and retries are the OpenTelemetry SDK's own. What is added here
is knowing how it went: the SDK's `force_flush` answers True whatever became of
the spans, so the exporter beneath it is wrapped and its answers are counted.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from loopotel_prom.errors import ConfigError
from loopotel_prom.otlp import missing_extra, readable_spans

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

# A long run has more spans than the SDK's own default of 2,048, and the SDK
# drops the oldest when its queue is full. About 30 MB when full.
_QUEUE_SPANS = 16_384

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
        service_name: The resource's ``service.name``.
        room_seconds: How long `export` may wait for room in a full queue
            before it gives a span up; 0 never waits.

    Raises:
        MissingExtraError: OpenTelemetry is not installed.
        ConfigError: OpenTelemetry refuses the settings in its environment.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        service_name: str = "loop-runtime",
        *,
        room_seconds: float = 30.0,
    ) -> None:
        self._endpoint = endpoint
        self._room_seconds = room_seconds
        self._resource = _resource(service_name)
        self._closed = False
        self._lock = threading.Lock()
        self._delivery: _Delivery | None = _Delivery(endpoint)
        _listen_to_forks(self)
        atexit.register(self.close)

    def export(self, document: Mapping[str, Any]) -> None:
        """
        Hand one document to the batch processor.

        Returns before it is sent, and waits only for room in a full queue.
        An unreachable or failing receiver raises nothing: `flush` tells.

        Raises:
            DocumentError: The document has no usable trace id or span list.
        """
        spans = readable_spans(document, resource=self._resource)
        self._current().hand_over(spans, room_seconds=self._room_seconds)

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

    def close(self) -> None:
        """
        Send what is queued, for as long as the SDK tries (30 s now), and stop.

        Safe to call again. A later `export` is counted as lost.
        """
        with self._lock:
            was_closed, self._closed = self._closed, True
            delivery = self._delivery
        if not was_closed and delivery is not None:
            delivery.close()
            atexit.unregister(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _current(self) -> "_Delivery":
        with self._lock:
            if self._delivery is None:
                self._delivery = _Delivery(self._endpoint)
                if self._closed:
                    self._delivery.close()
            return self._delivery

    def _after_fork(self) -> None:
        # Queue, locks and connections are the parent's; the threads that work
        # on them did not come along.
        self._lock = threading.Lock()
        if not self._closed:
            self._delivery = None


class _Delivery:
    """The batch processor of one process, and the account of its spans."""

    def __init__(self, endpoint: str | None) -> None:
        self._account = _Account(_QUEUE_SPANS)
        self._processor = _processor(endpoint, self._account)
        self._has_warned = False

    def hand_over(
        self, spans: "Sequence[ReadableSpan]", *, room_seconds: float
    ) -> None:
        deadline = time.monotonic() + room_seconds
        given_up = 0
        for span in spans:
            if self._account.admit(wait_seconds=deadline - time.monotonic()):
                self._processor.on_end(span)
            else:
                given_up += 1
        if given_up and not self._has_warned:
            self._has_warned = True
            _logger.warning("OTLP: queue full or closed, %d span(s) lost", given_up)

    def flush(self, timeout_seconds: float) -> bool:
        handed = self._account.handed
        # Not called here: the SDK's flush takes a time limit and ignores it.
        thread = threading.Thread(target=self._processor.force_flush, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is exiting and starts no more threads.
            self._processor.force_flush()
        return self._account.wait(handed, timeout_seconds)

    def close(self) -> None:
        self._processor.shutdown()  # type: ignore[no-untyped-call] # SDK's own gap
        lost = self._account.close()
        if lost:
            _logger.warning("OTLP: closed with %d span(s) not delivered", lost)


class _Account:
    """Counts spans handed over, answered for and lost since the last report."""

    def __init__(self, capacity: int) -> None:
        self.handed = 0
        self._answered = 0
        self._lost = 0
        self._capacity = capacity
        self._is_closed = False
        self._changed = threading.Condition()

    def admit(self, *, wait_seconds: float) -> bool:
        """Count one span in, if there is room for it in time."""
        with self._changed:
            self._changed.wait_for(self._is_decided, max(0.0, wait_seconds))
            if self._is_closed or not self._has_room():
                self._lost += 1
                return False
            self.handed += 1
            return True

    def answer(self, count: int, *, is_delivered: bool) -> None:
        with self._changed:
            self._answered += count
            self._lost += 0 if is_delivered else count
            self._changed.notify_all()

    def wait(self, handed: int, timeout_seconds: float) -> bool:
        """Wait for the first `handed` answers; report the losses, once."""
        with self._changed:
            is_answered = self._changed.wait_for(
                lambda: self._answered >= handed, timeout_seconds
            )
            lost, self._lost = self._lost, 0
            return is_answered and not lost

    def close(self) -> int:
        """Count what has no answer as lost, and admit nothing more."""
        with self._changed:
            self._lost += max(0, self.handed - self._answered)
            self._answered = self.handed
            self._is_closed = True
            self._changed.notify_all()
            return self._lost

    def _is_decided(self) -> bool:
        return self._is_closed or self._has_room()

    def _has_room(self) -> bool:
        return self.handed - self._answered < self._capacity


class _AccountedExporter:
    """The SDK's exporter, each answer noted in the account."""

    def __init__(self, exporter: "SpanExporter", account: _Account) -> None:
        self._exporter = exporter
        self._account = account

    def export(self, spans: "Sequence[ReadableSpan]") -> "SpanExportResult":
        is_delivered = False
        try:
            result = self._exporter.export(spans)
            is_delivered = result.name == "SUCCESS"
            return result
        finally:
            self._account.answer(len(spans), is_delivered=is_delivered)

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _processor(endpoint: str | None, account: _Account) -> "BatchSpanProcessor":
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415 - optional extra
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.trace.export import (  # noqa: PLC0415 - optional extra
            BatchSpanProcessor,
        )
    except ImportError as error:
        raise missing_extra(error) from error
    try:
        exporter = _AccountedExporter(OTLPSpanExporter(endpoint), account)
        # It calls three methods of its exporter and asks for no base class.
        return BatchSpanProcessor(
            cast("SpanExporter", exporter), max_queue_size=_QUEUE_SPANS
        )
    except ValueError as error:
        raise ConfigError(
            f"OpenTelemetry refuses an OTEL_* setting: {error}"
        ) from error


def _resource(service_name: str) -> "Resource":
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - extra
    except ImportError as error:
        raise missing_extra(error) from error
    return Resource.create({"service.name": service_name})


def _listen_to_forks(exporter: OtlpExporter) -> None:
    if not hasattr(os, "register_at_fork"):
        return
    method = weakref.WeakMethod(exporter._after_fork)  # noqa: SLF001 - same module

    def after_fork() -> None:
        if (restart := method()) is not None:
            restart()

    os.register_at_fork(after_in_child=after_fork)
