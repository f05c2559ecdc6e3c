"""Many processes and threads that write to one archive, and one that stops."""

import json
import os
import random
import statistics
import threading
import time

from loopotel_prom.archive import layout
from loopotel_prom.archive.sealed import SealedFile

_PROCESSES = 16
_THREADS = 8


def _start_all(children, tmp_path, **arguments) -> tuple[list[int], list]:
    files = [tmp_path / f"said-{number}" for number in range(_PROCESSES)]
    pids = [
        children.start(
            "write",
            archive=tmp_path / "archive",
            acknowledgements=file,
            **arguments,
        )
        for file in files
    ]
    return pids, files


def test_concurrent_processes_and_threads_write_no_bad_line(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Sixteen processes of eight threads: each record is sealed, each line good."""
    iterations = 50
    total = count(20_000, 1_000_000)
    runs = -(-total // (_PROCESSES * _THREADS * iterations))
    begin = time.monotonic()
    pids, files = _start_all(
        children, tmp_path, threads=_THREADS, runs=runs, iterations=iterations
    )
    statuses = [children.wait(pid) for pid in pids]
    took = time.monotonic() - begin
    assert statuses == [0] * _PROCESSES
    # Without recovery: nothing is left for it.
    outcome = outcome_of(
        tmp_path / "archive", acknowledged_in(*files), recovering=False
    )
    assert outcome.acknowledged == runs * _PROCESSES * _THREADS * iterations >= total
    assert not outcome.bad
    assert not layout.segments(tmp_path / "archive")
    assert all(run.copies == 1 for run in outcome.runs.values())
    report(
        20,
        f"{_PROCESSES} processes of {_THREADS} threads",
        count=outcome.acknowledged,
        acknowledged=outcome.acknowledged,
        lost=0,
        bad_lines=len(outcome.bad),
        records_a_second=int(outcome.acknowledged / took),
    )


def test_concurrent_rotations_lose_and_double_nothing(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Sixteen processes write to a file that is full at 64 KiB, and compress."""
    limit = 64 * 1024
    rotations = count(30, 1_000)
    # A run of twenty iterations takes some 10 KB.
    runs = -(-rotations * limit // (_PROCESSES * 6_500))
    pids, files = _start_all(
        children, tmp_path, runs=runs, iterations=20, rotate_bytes=limit
    )
    assert [children.wait(pid) for pid in pids] == [0] * _PROCESSES
    folder = tmp_path / "archive"
    rotated = layout.rotated_files(folder)
    outcome = outcome_of(folder, acknowledged_in(*files), recovering=False)
    assert len(rotated) >= rotations
    assert len(outcome.runs) == runs * _PROCESSES
    assert all(run.copies == 1 for run in outcome.runs.values())
    assert not outcome.bad
    report(
        21,
        "rotations under load",
        count=len(rotated),
        acknowledged=outcome.acknowledged,
        lost=0,
        compressed=sum(path.suffix == ".zst" for path in rotated),
        doubled=0,
    )


def test_a_killed_holder_of_the_lock_is_in_nobodys_way(
    children, count, report, tmp_path
):
    """Others go on within a second, and its torn line costs none of theirs."""
    chance = random.Random(22)
    kills, waits = count(10, 200), []
    path = tmp_path / "archive" / layout.SEALED
    for number in range(kills):
        sign = tmp_path / f"sign-{number}"
        pid = children.start(
            "hold_lock", archive=path.parent, sign=sign, half=chance.random() < 0.5
        )
        while not sign.exists():
            time.sleep(0.001)
        line = json.dumps({"number": number}).encode()
        waiting = threading.Thread(
            target=SealedFile(path).append, args=(line,), kwargs={"lock_seconds": 60}
        )
        waiting.start()
        time.sleep(chance.random() * 0.02)
        assert waiting.is_alive()
        begin = time.monotonic()
        os.kill(pid, 9)
        waiting.join(60)
        waits.append(time.monotonic() - begin)
        assert children.wait(pid) == -9
    numbers = [*_numbers(path.read_bytes())]
    assert numbers == [*range(kills)]
    # Of one the machine may have stalled.
    assert statistics.median(waits) < 1.0
    fault = "holder of the sealed file's lock killed"
    report(22, fault, count=kills, lost=0, longest_wait_ms=1000 * max(waits))


def _numbers(data: bytes):
    """Yield what could be read; half a line is none."""
    for line in data.splitlines():
        if line.startswith(b'{"number"'):
            yield json.loads(line)["number"]
