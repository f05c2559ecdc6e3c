"""`OtlpProcessor`: the spans of this process's loops to a collector, as they end."""

import functools
import sys
import threading
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext

from loopotel_prom.errors import DeliveryError
from loopotel_prom.health import Health
from loopotel_prom.otlp.delivery import QUEUE_SPANS, Delivery
from loopotel_prom.otlp.live import LiveRun, Queued, translate_queued
from loopotel_prom.otlp.resource import resource_of
from loopotel_prom.span import RunSpan, Span

_NAME = "OtlpProcessor"
_MOST_RUNS = 10_000
# Enough for a collector that answers; a program that ends waits no longer.
_CLOSE_SECONDS = 5.0


class OtlpProcessor:
    """
    Sends each span to an OTLP/HTTP endpoint once it has ended.

    A loop pays for a place in a queue, and never waits: what finds none is lost
    and counted, as is what the receiver does not take. The global tracer provider
    is left alone; the OpenTelemetry span that is current where a run starts
    becomes a link.

    Args:
        endpoint: Full URL, ``http://host:4318/v1/traces``; None leaves it to the
            ``OTEL_EXPORTER_OTLP_*`` environment, as are headers and the like.
        health: Where losses are counted.
        resource: What sends; what the ``OTEL_*`` environment says by default.
        queue_spans: How many spans may wait.

    Raises:
        ConfigError: OpenTelemetry refuses a setting in its environment.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        health: Health | None = None,
        resource: Resource | None = None,
        queue_spans: int = QUEUE_SPANS,
    ) -> None:
        self._endpoint = endpoint
        self._health = health or Health()
        self._resource = resource or resource_of()
        self._queue_spans = queue_spans
        self._lock = threading.Lock()
        self._runs: dict[str, LiveRun] = {}
        self._is_closed = False
        self._is_child = False
        self._delivery: Delivery | None = self._new_delivery()

    def on_start(self, span: RunSpan) -> None:
        """
        Expect the spans of a run.

        Raises:
            DeliveryError: There are too many; this one's go nowhere.
        """
        if self._is_closed:
            return
        if len(self._runs) >= _MOST_RUNS:
            raise DeliveryError(f"over {_MOST_RUNS} runs at a time: one is left out")
        self._current()
        self._runs[span.trace_id] = LiveRun(span, self._resource, _active_span())

    def on_end(self, span: Span) -> None:
        """
        Queue a span.

        Raises:
            DeliveryError: The queue is full; the span is lost.
        """
        if type(span) is RunSpan:
            run = self._runs.pop(span.trace_id, None)
        else:
            run = self._runs.get(span.trace_id)
        if run is None or (delivery := self._delivery) is None:
            return
        if not delivery.offer(Queued(run, span)):
            raise DeliveryError(
                f"{self._queue_spans} spans wait already: one is lost; is the receiver"
                " of the traces there, and fast enough?"
            )

    def flush(self, timeout_seconds: float) -> bool:
        """Send what is queued; False if that took too long, or spans were lost."""
        delivery = self._delivery
        return delivery is None or delivery.flush(timeout_seconds)

    def close(self) -> None:
        """Send what is queued, for five seconds at most; safe to call again."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            delivery = self._delivery
        self._runs.clear()
        if delivery is None or was_closed:
            return
        given_up = delivery.close(_CLOSE_SECONDS)
        if given_up:
            self._lose(given_up, "there was no more time")

    def after_fork(self) -> None:
        """Leave queue, threads, connections and runs to the parent."""
        self._lock = threading.Lock()
        self._runs = {}
        self._is_child = True
        if not self._is_closed:
            self._delivery = None

    def _current(self) -> Delivery:
        """Give the delivery, in a forked child one of its own."""
        delivery = self._delivery
        if delivery is not None:
            return delivery
        with self._lock:
            if self._delivery is None:
                self._delivery = self._new_delivery()
                if self._is_child:
                    _call_at_childs_end(self.close)
            return self._delivery

    def _new_delivery(self) -> Delivery:
        return Delivery(
            self._endpoint,
            queue_spans=self._queue_spans,
            translate=functools.partial(translate_queued, on_failure=self._fail),
            on_loss=self._lose,
        )

    def _lose(self, count: int, reason: str) -> None:
        where = self._endpoint or "the endpoint of OTEL_EXPORTER_OTLP_*"
        self._fail(DeliveryError(f"{where}: {count} span(s) lost: {reason}"))

    def _fail(self, error: Exception) -> None:
        self._health.failed(_NAME, error)


def _active_span() -> SpanContext | None:
    """Find the OpenTelemetry span that is current in this thread, if any is."""
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None


def _call_at_childs_end(close: Callable[[], None]) -> None:
    """Have `close` called where multiprocessing leaves a child: atexit is not."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, close, exitpriority=0)
