"""Batches: as many instants as one request has room for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loopotel_prom.replay.points import Instant


@dataclass(frozen=True, slots=True)
class Batch:
    """
    What one request sends.

    Attributes:
        instants: In order of time, at least one.
        samples: How many points they have.
    """

    instants: list[Instant]
    samples: int

    @property
    def first_ms(self) -> int:
        """Unix milliseconds of its first instant."""
        return self.instants[0].time_ms

    @property
    def end_ms(self) -> int:
        """Unix milliseconds of its last instant."""
        return self.instants[-1].time_ms


def batches(
    instants: Iterable[Instant], *, samples: int, cut_ms: int | None = None
) -> Iterator[Batch]:
    """
    Cut a history between its instants, so that the end of a batch is a time.

    Args:
        instants: In order of time; one without points is left out.
        samples: The most that a batch has, unless one instant alone has more.
        cut_ms: What is up to here is the first batch, whatever its size.
    """
    kept: list[Instant] = []
    count = 0
    for instant in instants:
        more = instant.size
        if not more:
            continue
        full = count + more > samples if cut_ms is None else instant.time_ms > cut_ms
        if full:
            if kept:
                yield Batch(kept, count)
            kept, count, cut_ms = [], 0, None
        kept.append(instant)
        count += more
    if kept:
        yield Batch(kept, count)
