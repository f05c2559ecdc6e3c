"""Points: the values of series at an instant, as a receiver stores them."""

import struct
from typing import Final, NamedTuple

_STALE_BITS = struct.pack("<Q", 0x7FF0_0000_0000_0002)


class Series(NamedTuple):
    """
    One series; the same object wherever it comes in a history.

    So who looks one up for each point may do so by its `id`, which is quicker, as
    long as it keeps the object, too.

    Attributes:
        name: As it is exposed: `loop_tokens_total`, `loop_run_iterations_bucket`.
        labels: Name and value, sorted by name, without `__name__`.
    """

    name: str
    labels: tuple[tuple[str, str], ...]


class Instant(NamedTuple):
    """
    What is to be stored of one instant.

    Attributes:
        time_ms: Unix milliseconds.
        points: Each series at most once, with its value, or `STALE`.
    """

    time_ms: int
    points: list[tuple[Series, float]]


# Prometheus' own mark that a series has ended, one NaN of many. To be carried as it
# is: arithmetic, or a way through 32 bits, makes another NaN of it.
STALE: Final[float] = struct.unpack("<d", _STALE_BITS)[0]


def is_stale(value: float) -> bool:
    """Tell whether a value is `STALE`; other NaN are values."""
    return value != value and struct.pack("<d", value) == _STALE_BITS  # noqa: PLR0124 - NaN is told so
