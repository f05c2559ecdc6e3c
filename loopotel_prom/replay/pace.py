"""The pace: when it is time for what was recorded."""

from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from loopotel_prom.span import EvaluatorSpan, Event, IterationSpan, RunSpan, WorkerSpan

AnySpan: TypeAlias = RunSpan | IterationSpan | WorkerSpan | EvaluatorSpan

# Behind it come runs of the year 9999; what waits cannot be asked for more than 292
# years, on any platform.
_LONGEST_SECONDS = 1e9


class Pace:
    """
    Waits as long as what was recorded did, at another speed.

    Args:
        speed: How many recorded seconds go by in one; 0 for no waiting at all.
        max_gap_seconds: The most that is waited while no run is under way.
        wait: Waits for so many seconds; True if it was told to stop.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(
        self,
        *,
        speed: float,
        max_gap_seconds: float | None,
        wait: Callable[[float], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._speed = speed
        self._max_gap_seconds = max_gap_seconds
        self._wait = wait
        self._monotonic = monotonic
        # When, by the clock, it was that recorded time.
        self._begin: tuple[float, int] | None = None

    def wait_for(self, time_ns: int, *, idle: bool) -> bool:
        """
        Wait until it is time.

        Args:
            time_ns: When it was recorded.
            idle: No run is under way.

        Returns:
            False if it was told to stop.
        """
        return not self._wait(self._delay(time_ns, idle=idle))

    def _delay(self, time_ns: int, *, idle: bool) -> float:
        if not self._speed:
            return 0.0
        now = self._monotonic()
        begin, begin_ns = self._begin or (now, time_ns)
        delay = begin + (time_ns - begin_ns) / 1e9 / self._speed - now
        most = self._max_gap_seconds
        if idle and most is not None and delay > most:
            begin -= delay - most
            delay = most
        self._begin = begin, begin_ns
        return min(max(delay, 0.0), _LONGEST_SECONDS)


def ended_at(span: AnySpan, time_ns: int) -> AnySpan:
    """Give the span as if it had ended then, or, without an end, begun."""
    offset_ns = time_ns - (span.start_ns if span.end_ns is None else span.end_ns)
    events = tuple(
        Event(each.name, each.time_ns + offset_ns, each.attributes)
        for each in span.events
    )
    start_ns = span.start_ns + offset_ns
    end_ns = None if span.end_ns is None else time_ns
    return replace(span, start_ns=start_ns, end_ns=end_ns, events=events)
