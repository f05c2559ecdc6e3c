"""
The pipeline: hands each span to every processor, and keeps them apart.

A processor that raises is counted and passed over; neither the loop nor the
other processors notice. Processors run in the caller's thread, in order, so
what they do there must be short and must not wait for a network.
"""

import threading
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import NamedTuple, Protocol
from weakref import WeakSet

from loopotel_prom.health import Health
from loopotel_prom.span import ChildSpan, RunSpan, Span

# A loop notices this; what processors do should take microseconds.
_SLOW_NS = 10_000_000


class Processor(Protocol):
    """
    A sink of spans.

    `on_start` and `on_end` are called from any thread, several at once, and may
    raise; the spans of one run come in the order in which they ended.
    """

    def on_start(self, span: RunSpan) -> None:
        """Take notice that a run has started; its span has no end yet."""

    def on_end(self, span: Span) -> None:
        """Take a span that has ended. A run's own span comes last."""

    def flush(self, timeout_seconds: float) -> bool:
        """Pass on what is held back; False if that took longer than allowed."""

    def close(self) -> None:
        """Flush and release everything; further spans are ignored."""

    def after_fork(self) -> None:
        """
        Start clean in a child that was just forked.

        What was collected is the parent's and stays with it; locks may be held
        by threads that the child does not have, and are made anew.
        """


class Keeper(Protocol):
    """A processor that a run's spans can be had back from, however many."""

    def holds(self, trace_id: str) -> bool:
        """Tell whether all that has ended of an open run can be had."""

    def spans(self, trace_id: str) -> Iterable[ChildSpan]:
        """
        Give the spans of a run, the run's own aside, in any order.

        Raises:
            OSError: They cannot be had now.
        """


class Parent(NamedTuple):
    """
    The run that another is nested in.

    Attributes:
        trace_id: Its trace id.
        span_id: The span of it that was current, where known.
    """

    trace_id: str
    span_id: str | None = None


class Pipeline:
    """
    A fixed sequence of processors, each isolated from the others.

    Args:
        processors: Called in this order.
        health: Where failures are counted.
        parent: The run of another process that this process's runs belong to.
        keeper: The one of the processors that spans can be had back from; with
            it, a long run need not be kept in memory.
        disabled: Tells tracers to do nothing at all.
    """

    def __init__(
        self,
        processors: Iterable[Processor] = (),
        *,
        health: Health | None = None,
        parent: Parent | None = None,
        keeper: Keeper | None = None,
        disabled: bool = False,
    ) -> None:
        self.processors = tuple(processors)
        self._on_ends = tuple(processor.on_end for processor in self.processors)
        self.health = health or Health()
        self.parent = parent
        self.keeper = keeper
        self.disabled = disabled
        _pipelines.add(self)

    def on_start(self, span: RunSpan) -> None:
        """Tell every processor of a run that has started. Never raises."""
        for processor in self.processors:
            try:
                processor.on_start(span)
            except Exception as error:  # noqa: BLE001 - isolation is the purpose
                self.health.failed(type(processor).__name__, error)

    def on_end(self, span: Span) -> None:
        """Give every processor a span that has ended. Never raises."""
        begin_ns = monotonic_ns()
        for on_end in self._on_ends:
            try:
                on_end(span)
            except Exception as error:  # noqa: BLE001 - isolation is the purpose
                processor = self.processors[self._on_ends.index(on_end)]
                self.health.failed(type(processor).__name__, error)
        if monotonic_ns() - begin_ns > _SLOW_NS:
            self.health.slow()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Flush every processor; True if all of them managed in time each."""
        managed = [self._flush(each, timeout_seconds) for each in self.processors]
        return all(managed)

    def close(self) -> None:
        """Close every processor. Never raises."""
        for processor in self.processors:
            try:
                processor.close()
            except Exception as error:  # noqa: BLE001 - isolation is the purpose
                self.health.failed(type(processor).__name__, error)

    def after_fork(self) -> None:
        """Start every processor clean in a forked child. Never raises."""
        self.health.after_fork()
        for processor in self.processors:
            try:
                processor.after_fork()
            except Exception as error:  # noqa: BLE001 - isolation is the purpose
                self.health.failed(type(processor).__name__, error)

    def _flush(self, processor: Processor, timeout_seconds: float) -> bool:
        try:
            return processor.flush(timeout_seconds)
        except Exception as error:  # noqa: BLE001 - isolation is the purpose
            self.health.failed(type(processor).__name__, error)
            return False


# All that a forked child may have inherited in the middle of something.
_pipelines: "WeakSet[Pipeline]" = WeakSet()


class _Installation:
    """The pipeline that tracers of this process use unless given another."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipeline: Pipeline | None = None
        self.default: Callable[[], Pipeline] = Pipeline


_installation = _Installation()


def wiring_lock() -> threading.RLock:
    """
    Give the lock of all wiring.

    The configuration takes it too: with one of its own, a loop that makes the
    default pipeline and a thread that configures could wait for each other.
    """
    return _installation.lock


def install(pipeline: Pipeline | None) -> None:
    """Make `pipeline` the process's own; None goes back to the default."""
    with _installation.lock:
        _installation.pipeline = pipeline


def installed() -> Pipeline:
    """
    Give the process's pipeline, making the default one at the first need.

    Never raises: a default that cannot be made is logged, and spans then go
    nowhere but into the tracers' own documents.
    """
    pipeline = _installation.pipeline
    if pipeline is not None:
        return pipeline
    with _installation.lock:
        if _installation.pipeline is None:
            try:
                _installation.pipeline = _installation.default()
            except Exception as error:  # noqa: BLE001 - a loop is waiting for this
                _installation.pipeline = Pipeline()
                _installation.pipeline.health.failed("default pipeline", error)
        return _installation.pipeline


def provide_default(factory: Callable[[], Pipeline]) -> None:
    """
    Say how the default pipeline is made when a tracer first needs one.

    The sinks lie above this module and cannot be imported here; the wiring, in
    `loopotel_prom.configuration`, hands the recipe down.
    """
    with _installation.lock:
        _installation.default = factory


def close_all() -> None:
    """Close every pipeline of the process, at its end."""
    for pipeline in list(_pipelines):
        pipeline.close()


def after_fork() -> None:
    """Start every pipeline of the process clean in a forked child."""
    _installation.lock = threading.RLock()
    for pipeline in list(_pipelines):
        pipeline.after_fork()
