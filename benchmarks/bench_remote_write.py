"""
How fast does a history become requests of remote write, on one core?

Three loops with 120 series each, that have runs all the time for some days: what
changes, and every minute all of them. Spelled as messages, compressed, with the
position on disk before each request, up to a receiver that takes all at once.

Run: ``python -m benchmarks.bench_remote_write [--quick]``
"""

import argparse
import functools
import tempfile
from pathlib import Path

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom.exporter.remote_write import (
    Answer,
    Encoder,
    PositionFile,
    Sender,
    Transferred,
    beginning,
    snappy,
    transfer,
)
from loopotel_prom.replay import Instant, Series

GOAL = 250_000
URL = "http://127.0.0.1:9090/api/v1/write"
BEGIN_MS = 1_767_225_600_000
LOOPS, SERIES, CHANGED, EVERY_SECONDS = 3, 120, 30, 12


class Nobody:
    """A receiver that is there at once, and compresses as the real one does."""

    name = "nobody"

    def __init__(self) -> None:
        self.compressed = 0
        self._compress = snappy()

    def post(self, message: bytes) -> Answer:
        """Take a request."""
        self.compressed += len(self._compress(message))
        return Answer(204)


def simulate(hours: int) -> list[Instant]:
    """Make a history."""
    labels = (("env_id", "prod/agent"), ("instance", "archive"), ("job", "loops"))
    loops = [
        [
            Series(
                f"loop_evaluator_score_{number % 12}_bucket",
                (*labels, ("le", f"{number / 10}"), ("loop_name", f"loop-{loop}")),
            )
            for number in range(SERIES)
        ]
        for loop in range(LOOPS)
    ]
    return [
        Instant(
            BEGIN_MS + second * 1000 + loop,
            [
                (series, float(second + number))
                for number, series in enumerate(loops[loop])
                if not second % 60 or number < CHANGED
            ],
        )
        for second in range(0, hours * 3600, EVERY_SECONDS)
        for loop in range(LOOPS)
    ]


def send(history: list[Instant], folder: Path) -> Nobody:
    """Send a history."""
    receiver = Nobody()
    sender = Sender(receiver, Encoder(), patience_seconds=0)
    path = folder / "position.json"
    path.unlink(missing_ok=True)
    with PositionFile(path, beginning(URL, ["traces"], {})) as file:
        transfer(history, sender, file, Transferred())
    return receiver


def spell(history: list[Instant]) -> None:
    """Spell a history as messages, and no more."""
    encoder = Encoder()
    for begin in range(0, len(history), 200):
        encoder.encode(history[begin : begin + 200])


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="half a day, not two")
    history = simulate(12 if parser.parse_args().quick else 48)
    samples = sum(len(instant.points) for instant in history)
    print_machine("cramjam", "msgspec")
    with tempfile.TemporaryDirectory() as name:
        taken = fastest(
            {
                "spelled": functools.partial(
                    seconds, functools.partial(spell, history)
                ),
                "sent": functools.partial(
                    seconds, functools.partial(send, history, Path(name))
                ),
            },
            rounds=5,
        )
        compressed = send(history, Path(name)).compressed
    print(f"  {samples} samples, {compressed / samples:.2f} bytes each on the wire")
    for what, time in taken.items():
        print(f"  {what}: {samples / time:,.0f} samples a second")
    question = f"samples a second, against {GOAL:,}"
    verdict(question, samples / taken["sent"] / GOAL, 1)


if __name__ == "__main__":
    main()
