"""Which clock a tracer reads."""

from typing import Protocol


class Clock(Protocol):
    """
    The two clocks a tracer needs; the standard ``time`` module is one.

    A run takes the wall clock once, at its start, and counts on with the
    monotonic one: a wall clock set back by a day moves no span.
    """

    def time_ns(self) -> int:
        """Give the wall clock, Unix nanoseconds."""

    def monotonic_ns(self) -> int:
        """Give a clock that never goes back, in nanoseconds."""
