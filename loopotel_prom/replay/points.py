"""Points: the values of series at an instant, as a receiver stores them."""

import struct
from collections.abc import Sequence
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
    What is to be stored of one instant: each series at most once.

    Attributes:
        time_ms: Unix milliseconds.
        scalars: Series of gauges and counters, with their values, or `STALE`.
        histograms: All series of a histogram, likewise, not to be changed. The tuple
            is the same object wherever it comes in a history, as a series is.
    """

    time_ms: int
    scalars: list[tuple[Series, float]]
    histograms: Sequence[tuple[tuple[Series, ...], Sequence[float]]] = ()

    @property
    def points(self) -> list[tuple[Series, float]]:
        """All series one by one, with their values."""
        points = self.scalars.copy()
        for series, values in self.histograms:
            points += zip(series, values, strict=True)
        return points

    @property
    def size(self) -> int:
        """How many points there are."""
        return len(self.scalars) + sum([len(series) for series, _ in self.histograms])


# Prometheus' own mark that a series has ended, one NaN of many. To be carried as it
# is: arithmetic, or a way through 32 bits, makes another NaN of it.
STALE: Final[float] = struct.unpack("<d", _STALE_BITS)[0]


def is_stale(value: float) -> bool:
    """Tell whether a value is `STALE`; other NaN are values."""
    return value != value and struct.pack("<d", value) == _STALE_BITS  # noqa: PLR0124 - NaN is told so
