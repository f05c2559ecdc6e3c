"""Processes that are killed: what was acknowledged is there, once."""

import random
import time

# A span of the largest kind takes some milliseconds to be written.
_LONGEST_SECONDS = 0.12
# As many children are killed in one archive before it is looked at.
_BATCH = 20


def _span_bytes(chance: random.Random) -> int:
    """Draw from 2 KB to 4 MB, each order of magnitude as often."""
    return int(2_000 * 2_000 ** chance.random())


def test_a_kill_while_writing_loses_nothing(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """At random moments, of processes that write spans of 2 KB to 4 MB."""
    chance = random.Random(1)
    kills, said, torn = count(40, 2_000), 0, 0
    for batch in range(0, kills, _BATCH):
        folder, files = tmp_path / f"archive-{batch}", []
        for number in range(batch, min(batch + _BATCH, kills)):
            files.append(tmp_path / f"said-{number}")
            pid = children.start(
                "write",
                archive=folder,
                acknowledgements=files[-1],
                iterations=chance.choice((3, 30, 3_000)),
                attribute_bytes=_span_bytes(chance),
            )
            time.sleep(chance.random() * _LONGEST_SECONDS)
            children.kill(pid)
        outcome = outcome_of(folder, acknowledged_in(*files))
        said += outcome.acknowledged
        torn += outcome.recovery.torn + len(outcome.bad)
    assert said
    report(
        1, "SIGKILL while writing", count=kills, acknowledged=said, lost=0, torn=torn
    )
