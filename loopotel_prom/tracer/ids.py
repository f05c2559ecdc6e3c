"""Where trace and span ids come from."""

import itertools
import os
from typing import Protocol


class IdSource(Protocol):
    """Makes ids; called from any thread."""

    def trace_id(self) -> str:
        """Give a new trace id: ``ltf-`` and a lower-case version 4 UUID."""

    def span_id(self) -> str:
        """Give a new span id: 16 lower-case hex digits, not all zero."""


class RandomIds:
    """
    Random trace ids, and span ids counted up from a random start.

    Nothing repeats them: not seeding the `random` module, not a fork. Span ids in
    a row cannot collide, and cost half of what drawing each would.
    """

    def __init__(self) -> None:
        self._numbers = _numbers()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def trace_id(self) -> str:
        """Give a new trace id."""
        digits = os.urandom(16).hex()
        variant = "89ab"[int(digits[16], 16) & 3]
        return (
            f"ltf-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
            f"-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def span_id(self) -> str:
        """Give a new span id."""
        return "%016x" % next(self._numbers)  # noqa: UP031 - half the cost of format

    def _after_fork(self) -> None:
        self._numbers = _numbers()


def _numbers() -> "itertools.count[int]":
    # Never all zero, which OpenTelemetry takes for none; never too long.
    return itertools.count(int.from_bytes(os.urandom(7), "big") + 1)


RANDOM_IDS = RandomIds()
