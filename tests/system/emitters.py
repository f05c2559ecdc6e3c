"""
Processes that emit, for the tests of the sidecar.

``emitters.py FUNCTION ARGUMENTS`` with JSON arguments. What a child emitted it adds
up without our help, and appends as a JSON line to a report.
"""

import json
import os
import random
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from loopotel_prom import LoopTracer
from loopotel_prom.archive import processor as processing
from loopotel_prom.archive import spool
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.pipeline import Pipeline

# As in `tests/conftest.py`: what is reported is in the journal, as no disk is taken
# for slow.
spool._SLOW_NS = 10**12
spool._PATIENCE_SECONDS = processing._PATIENCE_SECONDS = 60.0

# As garbage, a run under way would end itself.
_kept: list[LoopTracer] = []


def herd(
    archive: str, report: str, *, lanes: int, seconds: float, rotate_bytes: int = 50_000
) -> None:
    """Run lanes of processes, each of which is followed by another, for a while."""
    until = time.monotonic() + seconds

    def lane(number: int) -> None:
        for turn in range(1_000_000):
            if time.monotonic() > until:
                return
            seed = 1000 * number + turn
            _wait_for(
                _fork(lambda seed=seed: _work(archive, report, seed, rotate_bytes))
            )

    for pid in [_fork(lambda number=number: lane(number)) for number in range(lanes)]:
        _wait_for(pid)


def one_by_one(archive: str, report: str, *, processes: int) -> None:
    """Run processes one after the other, each with one short run."""
    for seed in range(processes):
        _wait_for(_fork(lambda seed=seed: _work(archive, report, seed, 10**8, runs=1)))


def doomed(archive: str, report: str, *, processes: int) -> None:
    """Run processes that kill themselves in the middle of a run each."""
    for seed in range(processes):
        pid = _fork(lambda seed=seed: _die(archive, report, seed))
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL


def _die(archive: str, report: str, seed: int) -> None:
    processor = ArchiveProcessor(Path(archive))
    emitted: Counter[str] = Counter()
    run = LoopTracer("doomed-loop", env_id="test", pipeline=Pipeline([processor]))
    _kept.append(run)
    emitted["runs"] += 1
    _iterate(run, random.Random(seed), emitted, 7)
    _report(report, emitted)
    os.kill(os.getpid(), signal.SIGKILL)


def _work(
    archive: str, report: str, seed: int, rotate_bytes: int, runs: int | None = None
) -> None:
    """Be a process of several runs, some of which overlap, and end well."""
    dice = random.Random(seed)
    emitted: Counter[str] = Counter()
    durability = "none" if seed % 7 == 6 else "process"
    processor = ArchiveProcessor(
        Path(archive), durability=durability, rotate_bytes=rotate_bytes
    )
    sink = Pipeline([processor], keeper=processor)
    for _ in range(runs or dice.randrange(1, 12)):
        emitted["runs"] += 1
        with LoopTracer(
            f"loop-{dice.randrange(3)}", env_id="test", pipeline=sink
        ) as run:
            _iterate(run, dice, emitted, dice.randrange(1, 30))
            run.finish(outcome="success", termination_reason="goal_met")
        emitted["success"] += 1
        if dice.random() < 0.1:
            processor.flush(10)
    while processor.unwritten():
        sink.flush(10)
    processor.close()
    _report(report, emitted)


def _iterate(
    run: LoopTracer, dice: random.Random, emitted: Counter[str], iterations: int
) -> None:
    for _ in range(iterations):
        with run.iteration() as step:
            if dice.random() < 0.5:
                tokens = dice.randrange(1000)
                with step.worker("implementer") as worker:
                    worker.add_tokens(input=tokens, output=7)
                emitted["workers"] += 1
                emitted["tokens"] += tokens + 7
            if dice.random() < 0.2:
                step.failure("fail.oscillation")
                emitted["failures"] += 1
            step.goal_score(dice.random())
        emitted["iterations"] += 1
        if dice.random() < 0.3:
            time.sleep(dice.random() * 0.02)


def _report(report: str, emitted: Counter[str]) -> None:
    file = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, json.dumps(emitted).encode() + b"\n")
    os.close(file)


def _fork(work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.alarm(300)
        work()
        status = 0
    finally:
        os._exit(status)


def _wait_for(pid: int) -> None:
    assert os.waitpid(pid, 0)[1] == 0


if __name__ == "__main__":
    # The upkeep's thread runs beside; that this is well is tested elsewhere.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    globals()[sys.argv[1]](*sys.argv[2:4], **json.loads(sys.argv[4]))
