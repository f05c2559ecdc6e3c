"""Where trace and span ids come from."""

import os
import random
from typing import Protocol


class IdSource(Protocol):
    """Makes ids; called from any thread."""

    def trace_id(self) -> str:
        """Give a new trace id: ``ltf-`` and a lower-case version 4 UUID."""

    def span_id(self) -> str:
        """Give a new span id: 16 lower-case hex digits, not all zero."""


class RandomIds:
    """
    Random ids from a generator of our own.

    Seeding the `random` module does not repeat them, and a forked child does
    not continue its parent's sequence. Uniqueness is what matters here, not
    secrecy, so the fast generator serves.
    """

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - ids are no secret
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._random.seed)

    def trace_id(self) -> str:
        """Give a new trace id."""
        digits = f"{self._random.getrandbits(128):032x}"
        variant = "89ab"[self._random.getrandbits(2)]
        return (
            f"ltf-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}"
            f"-{variant}{digits[17:20]}-{digits[20:]}"
        )

    def span_id(self) -> str:
        """Give a new span id."""
        # OpenTelemetry takes an all-zero id for an absent one.
        return f"{self._random.getrandbits(64) or 1:016x}"


RANDOM_IDS = RandomIds()
