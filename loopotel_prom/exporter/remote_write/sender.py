"""A sender: hands batches over, and repeats what may be repeated."""

import math
import random
import time
from collections.abc import Callable

from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter.remote_write import refusal
from loopotel_prom.exporter.remote_write.batch import Batch
from loopotel_prom.exporter.remote_write.message import Encoder
from loopotel_prom.exporter.remote_write.receiver import Answer, Receiver

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
# Who waits for longer than a moment is told why.
_TELL_BEFORE_ATTEMPT = 3


class Sender:
    """
    Sends batches to one receiver.

    Args:
        receiver: Takes the requests.
        encoder: Spells them.
        patience_seconds: How long one request is repeated.
        tell: Takes a line for people about what is waited for.
        clock: Gives seconds.
        sleep: Waits for seconds.
        chance: Gives a number from 0 to 1.

    Raises:
        ConfigError: Patience is no time.

    Attributes:
        in_doubt: Whether the latest batch may have been taken, where `send` raised.
        requests: How many batches were acknowledged.
        retries: How many requests were repeated.
        repeated: How many instants turned out to be there already.
    """

    def __init__(
        self,
        receiver: Receiver,
        encoder: Encoder,
        *,
        patience_seconds: float,
        tell: Callable[[str], object] = lambda _line: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        if not 0 <= patience_seconds < math.inf:
            raise ConfigError(
                f"--patience {patience_seconds}: a number, 0 or more, is possible"
            )
        self._receiver = receiver
        self._encoder = encoder
        self._patience = patience_seconds
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        self.in_doubt = False
        self.requests = 0
        self.retries = 0
        self.repeated = 0

    @property
    def series(self) -> int:
        """How many different series there were."""
        return self._encoder.series

    def send(
        self, batch: Batch, *, metadata: bytes = b"", in_doubt: bool = False
    ) -> None:
        """
        Hand a batch over; on return the receiver has it.

        Args:
            batch: What to send.
            metadata: What `encode_metadata` gave, to go with it.
            in_doubt: It may have been taken before.

        Raises:
            DeliveryError: The receiver does not want it, or could not be asked
                until patience was at its end.
        """
        self.in_doubt = in_doubt
        answer = self._ask(self._encoder.encode(batch.instants) + metadata)
        if not refusal.is_good(answer):
            if not (self.in_doubt and refusal.is_there(answer)):
                raise refusal.refused(self._receiver.name, answer, batch)
            self._send_each(batch)
        self.in_doubt = False
        self.requests += 1

    def _send_each(self, batch: Batch) -> None:
        """Find out which instants of a batch are not there yet, by sending them."""
        for instant in batch.instants:
            answer = self._ask(self._encoder.encode([instant]))
            if refusal.is_good(answer):
                continue
            if not refusal.is_there(answer):
                raise refusal.refused(self._receiver.name, answer, batch)
            # Of a batch that was taken, the end is the newest that there is.
            if instant is batch.instants[-1] and refusal.is_behind(answer):
                raise refusal.refused(self._receiver.name, answer, batch)
            self.repeated += 1

    def _ask(self, message: bytes) -> Answer:
        """Post until the answer is one that stays."""
        deadline = self._clock() + self._patience
        wait, attempt = _FIRST_WAIT_SECONDS, 1
        while refusal.may_change(answer := self._receiver.post(message)):
            self.in_doubt |= not refusal.is_throttled(answer)
            left = deadline - self._clock()
            if left <= 0:
                raise refusal.unreached(self._receiver.name, answer, attempt)
            attempt += 1
            if attempt == _TELL_BEFORE_ATTEMPT:
                what = f"{self._receiver.name}: {refusal.said(answer)}"
                self._tell(f"{what}; trying again for {self._patience:g} s")
            backoff = wait * (1 + self._chance()) / 2
            self._sleep(min(max(backoff, answer.retry_after_seconds), left))
            wait = min(2 * wait, _LONGEST_WAIT_SECONDS)
            self.retries += 1
        return answer
