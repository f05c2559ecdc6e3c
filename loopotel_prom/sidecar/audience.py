"""The audience of a sidecar: all that are fed what it reads."""

from collections.abc import Callable, Sequence
from typing import Any

from loopotel_prom.archive.ledger import Sink
from loopotel_prom.health import Health
from loopotel_prom.span import RunSpan, Span


class Audience:
    """
    Feeds several sinks; one that fails spoils nothing for the others.

    Args:
        sinks: What is fed, in this order.
        health: Where failures are counted.
    """

    def __init__(self, sinks: Sequence[Sink], health: Health) -> None:
        self._sinks = sinks
        self._health = health

    def on_start(self, span: RunSpan) -> None:
        """Feed the start of a run."""
        for sink in self._sinks:
            self._feed(sink, sink.on_start, span)

    def on_end(self, span: Span) -> None:
        """Feed a span."""
        for sink in self._sinks:
            self._feed(sink, sink.on_end, span)

    def _feed(self, sink: Sink, take: Callable[[Any], None], span: Span) -> None:
        try:
            take(span)
        except Exception as error:  # noqa: BLE001 - the fan-out: whatever it is
            self._health.failed(type(sink).__name__, error)
