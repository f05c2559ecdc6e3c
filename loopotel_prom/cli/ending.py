"""How a command comes to its end: told to, and one that serves when it was seen."""

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

from loopotel_prom.handle import Configuration

# As the shell tells of those that SIGPIPE ends.
READER_GONE = 128 + 13

_POLL_SECONDS = 0.2


def unwind_when_terminated() -> None:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does: it leaves nothing behind."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Else it is to be ignored, as nohup says.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


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
