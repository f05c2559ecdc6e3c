"""A transfer: a history on its way to a receiver, from its position on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from loopotel_prom.errors import DeliveryError
from loopotel_prom.exporter.remote_write.batch import Batch, batches
from loopotel_prom.exporter.remote_write.position import PositionFile
from loopotel_prom.exporter.remote_write.sender import Sender
from loopotel_prom.replay.points import Instant

# Each request waits for its position to be on disk; larger ones are fewer.
BATCH_SAMPLES = 10_000


@dataclass(slots=True)
class Transferred:
    """
    What a receiver has taken.

    Attributes:
        instants: How many.
        samples: How many points they had.
        first_ms: Unix milliseconds of the first instant; None if there was none.
        end_ms: Likewise, of the last.
    """

    instants: int = 0
    samples: int = 0
    first_ms: int | None = None
    end_ms: int | None = None

    def add(self, batch: Batch) -> None:
        """Count an acknowledged batch."""
        self.instants += len(batch.instants)
        self.samples += batch.samples
        self.end_ms = batch.end_ms
        if self.first_ms is None:
            self.first_ms = batch.first_ms


def transfer(
    instants: Iterable[Instant],
    sender: Sender,
    file: PositionFile,
    done: Transferred,
    *,
    metadata: bytes = b"",
    batch_samples: int = BATCH_SAMPLES,
) -> None:
    """
    Send what is later than the position; the position follows.

    Args:
        instants: The history, all of it, in order of time.
        sender: Hands batches over.
        file: The position.
        done: What was taken is counted here.
        metadata: What goes with the first request.
        batch_samples: The most in a request, unless one instant has more.

    Raises:
        DeliveryError: The receiver does not take it; the position is kept.
        ArchiveError: The position cannot be written.
    """
    time_ms, doubtful_ms = file.position.time_ms, file.position.sending_ms
    later = _later(instants, time_ms)
    for batch in batches(later, samples=batch_samples, cut_ms=doubtful_ms):
        in_doubt = doubtful_ms is not None and batch.end_ms <= doubtful_ms
        sending_ms = max(batch.end_ms, doubtful_ms or batch.end_ms)
        file.write(time_ms=time_ms, sending_ms=sending_ms)
        try:
            sender.send(batch, metadata=metadata, in_doubt=in_doubt)
        except DeliveryError:
            if not sender.in_doubt:
                file.write(time_ms=time_ms, sending_ms=None)
            raise
        time_ms, metadata = batch.end_ms, b""
        done.add(batch)
    if done.end_ms is not None:
        is_over = doubtful_ms is None or done.end_ms >= doubtful_ms
        file.write(time_ms=time_ms, sending_ms=None if is_over else doubtful_ms)


def _later(instants: Iterable[Instant], than_ms: int | None) -> Iterator[Instant]:
    return (one for one in instants if than_ms is None or one.time_ms > than_ms)
