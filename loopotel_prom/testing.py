"""
Parts for tests of instrumented loops: a clock, ids and a processor that obey.

::

    clock, recorder = ManualClock(), RecordingProcessor()
    run = LoopTracer(
        "code-repair",
        clock=clock,
        ids=SequentialIds(),
        pipeline=Pipeline([recorder]),
        strict=True,
    )
"""

import threading

from loopotel_prom.span import RunSpan, Span


class ManualClock:
    """
    A clock that moves only when told to.

    Args:
        time_ns: Where it starts, Unix nanoseconds.
    """

    def __init__(self, time_ns: int = 1_700_000_000_000_000_000) -> None:
        self._time_ns = time_ns

    def time_ns(self) -> int:
        """Give the time, Unix nanoseconds."""
        return self._time_ns

    def monotonic_ns(self) -> int:
        """Give the same time as a monotonic clock's."""
        return self._time_ns

    def advance(self, *, seconds: float) -> None:
        """Move on by `seconds`."""
        self._time_ns += round(seconds * 1e9)


class SequentialIds:
    """Ids that count from 1. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces = 0
        self._spans = 0

    def trace_id(self) -> str:
        """Give the next trace id: ``ltf-00000000-0000-4000-8000-00000000000N``."""
        with self._lock:
            self._traces += 1
            return f"ltf-00000000-0000-4000-8000-{self._traces:012x}"

    def span_id(self) -> str:
        """Give the next span id."""
        with self._lock:
            self._spans += 1
            return f"{self._spans:016x}"


class RecordingProcessor:
    """
    Keeps every span it is given. Thread-safe.

    Attributes:
        started: The runs that started, in order.
        ended: The spans that ended, in order.
        closed: Whether `close` was called.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.started: list[RunSpan] = []
        self.ended: list[Span] = []
        self.closed = False

    def on_start(self, span: RunSpan) -> None:
        """Keep the start of a run."""
        with self._lock:
            self.started.append(span)

    def on_end(self, span: Span) -> None:
        """Keep a span."""
        with self._lock:
            self.ended.append(span)

    def flush(self, timeout_seconds: float) -> bool:  # noqa: ARG002 - nothing is held back
        """Do nothing: every span is kept already."""
        return True

    def close(self) -> None:
        """Note that this was called."""
        self.closed = True

    def after_fork(self) -> None:
        """Keep everything: a test may want to see what the child inherited."""
        self._lock = threading.Lock()
