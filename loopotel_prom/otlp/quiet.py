"""What the SDK says of our own failing requests: caught, not logged."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# The one that the SDK's exporter gives to its HTTP client, too.
_SDK_LOGGER = logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter")


class _Words(threading.local):
    """What was said in this thread since it began to listen; None if it does not."""

    said: list[str] | None = None


class _Catch(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Keep a record from the log if its thread listens to it instead."""
        if _words.said is None:
            return True
        _words.said.append(record.getMessage())
        return False


_words = _Words()
_catch = _Catch()


@contextmanager
def listening() -> Iterator[list[str]]:
    """
    Give what the SDK's exporter says in this thread, instead of logging it.

    A collector that is away for a night would fill a log: four lines for each
    batch. Exporters of others, which share the logger, are heard as before.
    """
    # At each use, for a program that configures its logs may have removed it.
    _SDK_LOGGER.addFilter(_catch)
    said: list[str] = []
    _words.said = said
    try:
        yield said
    finally:
        _words.said = None
