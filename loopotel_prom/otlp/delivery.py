"""
Delivery: one batch processor of the SDK's, and how it goes.

Queue, batches and retries are the OpenTelemetry SDK's own. What is added here
is knowing how it went: the SDK's `force_flush` answers True whatever became of
the spans, so the exporter beneath it is wrapped and its answers are counted.
And it ends in time: the SDK would wait for half a minute.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SpanExporter,
    SpanExportResult,
)

from loopotel_prom.errors import ConfigError
from loopotel_prom.otlp.account import Account
from loopotel_prom.otlp.quiet import listening

# A long run has more spans than the SDK's own default of 2,048, and the SDK
# drops the oldest when its queue is full. About 30 MB when full.
QUEUE_SPANS = 16_384

# Ends the names of the SDK's variables for a session with credentials.
_CREDENTIALS = "_CREDENTIAL_PROVIDER"

# For a request that was given up to come back.
_LAST_SECONDS = 1.0


class Translate(Protocol):
    """Makes spans of what was queued."""

    def __call__(self, batch: Sequence[Any], /) -> Sequence[ReadableSpan]:
        """Translate one batch, the next one after it; what cannot be, is left out."""


class Delivery:
    """
    Hands spans to a receiver, from one process.

    Thread-safe. It does not survive a fork: a child makes one of its own.

    Args:
        endpoint: Full URL; None for what the ``OTEL_*`` environment says.
        queue_spans: How many may wait.
        translate: Makes spans of what is queued; None where these are spans.
        on_loss: Called with a number of spans and the reason they were lost, in
            a thread of the processor's.

    Attributes:
        account: What became of the spans.

    Raises:
        ConfigError: OpenTelemetry refuses a setting.
    """

    def __init__(
        self,
        endpoint: str | None,
        *,
        queue_spans: int = QUEUE_SPANS,
        translate: Translate | None = None,
        on_loss: Callable[[int, str], None],
    ) -> None:
        self.account = Account(queue_spans)
        try:
            self._outlet = _Outlet(endpoint, self.account, translate, on_loss)
            self._processor = BatchSpanProcessor(
                # It calls three methods of its exporter and asks for no base class.
                cast("SpanExporter", self._outlet),
                max_queue_size=queue_spans,
            )
        except ValueError as error:
            raise ConfigError(
                f"OpenTelemetry refuses an OTEL_* setting: {error}"
            ) from error
        self._put = self._processor.on_end
        self._orders: queue.SimpleQueue[Callable[[], object] | None] = (
            queue.SimpleQueue()
        )
        # Made now: a program that ends can start no thread any more, and the
        # SDK's flush takes a time limit and ignores it.
        self._thread = threading.Thread(
            target=_obey, args=(self._orders,), name="loopotel-otlp", daemon=True
        )
        self._thread.start()

    def offer(self, span: Any, *, wait_seconds: float = 0.0) -> bool:
        """Queue a span, or what is to become one; False if there is no room."""
        if self.account.enter(wait_seconds):
            self._put(span)
            return True
        return False

    def hand_over(self, spans: Iterable[ReadableSpan], *, room_seconds: float) -> int:
        """Queue spans, waiting for room; give the number that found none in time."""
        deadline = time.monotonic() + room_seconds
        given_up = 0
        for span in spans:
            left = deadline - time.monotonic()
            given_up += not self.offer(span, wait_seconds=left)
        return given_up

    def flush(self, timeout_seconds: float) -> bool:
        """
        Wait until what was handed over before this call has been answered for.

        Returns:
            True if all of it was, and nothing has been lost since the last flush.
        """
        handed = self.account.handed
        self._orders.put(self._processor.force_flush)
        answered = self.account.await_answers(handed, timeout_seconds)
        return not self.account.new_losses() and answered

    def close(self, timeout_seconds: float) -> int:
        """
        Send what is queued, for as long as is said, and stop.

        Returns:
            The number of spans that were given up.
        """
        self._orders.put(self._processor.force_flush)
        self.account.await_answers(self.account.handed, timeout_seconds)
        given_up = self.account.close()
        self._outlet.shutdown()
        self._orders.put(self._processor.shutdown)
        self._orders.put(None)
        # A request that nobody answers is left to itself.
        self._thread.join(_LAST_SECONDS)
        return given_up


def _obey(orders: "queue.SimpleQueue[Callable[[], object] | None]") -> None:
    while (order := orders.get()) is not None:
        order()


def _session() -> requests.Session | None:
    """Make the exporter's session; None where credentials of the user's make it."""
    if any(name.endswith(_CREDENTIALS) for name in os.environ):
        return None
    session = requests.Session()
    session.hooks["response"].append(_refuse_redirect)
    return session


def _refuse_redirect(response: requests.Response, **_: object) -> None:
    # The SDK takes any answer below 400 for a yes, and so would lose the spans; older
    # ones follow, with headers and a GET. To the SDK it is a plain refusal.
    if 300 <= response.status_code < 400:  # noqa: PLR2004 - as of HTTP
        response.reason = f"it redirects ({response.status_code}), give that address"
        response.status_code = requests.codes.misdirected_request


class _Outlet:
    """The SDK's exporter as its processor sees it, each answer noted."""

    def __init__(
        self,
        endpoint: str | None,
        account: Account,
        translate: Translate | None,
        on_loss: Callable[[int, str], None],
    ) -> None:
        self._exporter = OTLPSpanExporter(endpoint, session=_session())
        self._account = account
        self._translate = translate
        self._on_loss = on_loss
        self._is_shut = False

    def export(self, batch: Sequence[Any]) -> SpanExportResult:
        spans = batch
        if self._translate is not None:
            spans = self._translate(batch)
            self._account.answer(len(batch) - len(spans), is_delivered=False)
        is_delivered = not spans
        try:
            is_delivered = is_delivered or self._send(spans)
        finally:
            self._account.answer(len(spans), is_delivered=is_delivered)
        return SpanExportResult.SUCCESS if is_delivered else SpanExportResult.FAILURE

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        if self._is_shut:
            return False
        with listening() as said:
            result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            return True
        if not self._is_shut:
            # The first words have the cause, the last only that it was no use.
            self._on_loss(len(spans), said[0] if said else "the SDK does not say why")
        return False

    def shutdown(self) -> None:
        """End the retries; safe to call again, where the SDK's own would complain."""
        was_shut, self._is_shut = self._is_shut, True
        if not was_shut:
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # SDK's gap

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
