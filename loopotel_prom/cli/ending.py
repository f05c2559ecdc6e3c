"""How a command that serves comes to its end: told to, and not before it was seen."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

from loopotel_prom.handle import Configuration

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def told_to_stop() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C and SIGTERM set."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def await_scrape(
    configuration: Configuration, seconds: float, stop: threading.Event
) -> None:
    """Wait for one more scrape, in turns short enough to be interrupted."""
    deadline = time.monotonic() + seconds
    begun = configuration.scrapes_begun()
    while not stop.is_set() and time.monotonic() < deadline:
        if configuration.drain(_POLL_SECONDS, since=begun):
            return
