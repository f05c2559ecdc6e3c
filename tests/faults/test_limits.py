"""Limits: of a file's size, of open files, of memory, and of patience."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive import layout, pending
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline
from tests.faults.disks import judge_child

_DEGRADED = "the loops go on, spans are kept in memory"
# A header, a start and an iteration fit.
_ROOM_BYTES = 1_000


def test_a_limited_file_size_loses_nothing(count, outcome_of, report, tmp_path):
    """What fits into a file of that size goes into many of them."""
    acknowledged, sizes = 0, count(3, 200)
    for number in range(sizes):
        size = round(40 * 500 ** (number / (sizes - 1)))
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        told = judge_child(folder, said, file_bytes=size, runs=4)
        fits = size >= _ROOM_BYTES
        outcome = outcome_of(folder, told.said if fits else told.kept)
        acknowledged += outcome.acknowledged
        assert outcome.bad == []
        if size < 10_000:
            assert told.count_logged("File too large") >= 1
    report(12, "RLIMIT_FSIZE", count=sizes, acknowledged=acknowledged, lost=0)


def test_too_few_open_files_lose_nothing(count, outcome_of, report, tmp_path):
    """While none can be opened the loop goes on; then all is written."""
    acknowledged, tries = 0, count(2, 50)
    for number in range(tries):
        folder, said = tmp_path / f"a{number}", tmp_path / "said"
        told = judge_child(
            folder,
            said,
            runs=6,
            open_files=3 + number % 10,
            settle_seconds=5,
            kept_spans=4 * (number % 2),
            durability=("process", "power")[number % 2],
        )
        acknowledged += outcome_of(folder, told.said).acknowledged
        assert not told.end["degraded"]
        assert told.end["unwritten"] == 0
        assert told.end["open_files"] < 12
        assert told.count_logged(_DEGRADED) <= 1
    report(15, "RLIMIT_NOFILE", count=tries, acknowledged=acknowledged, lost=0)


def test_too_many_open_files_are_told_in_a_line(tmp_path):
    """What it is, and where."""
    folder, said = tmp_path / "archive", tmp_path / "said"
    told = judge_child(folder, said, open_files=3, settle_seconds=5, flushes=False)
    (fault,) = [line for line in told.logs if _DEGRADED in line]
    assert fault.startswith(f"archive {folder}: Too many open files; the loops go on")
    assert told.count_logged("written to again") == 1


def test_runs_that_no_disk_takes_are_bounded_in_memory(outcome_of, tmp_path):
    """Those beyond it stay in the journal, and recovery finds them."""
    folder, said = tmp_path / "archive", tmp_path / "said"
    folder.mkdir()
    # Already longer than a file may get: no document fits, and any journal.
    (folder / "traces.jsonl").write_bytes(b" " * 99_999 + b"\n")
    told = judge_child(
        folder, said, file_bytes=60_000, runs=40, iterations=5, pending_runs=7
    )
    assert told.end["unwritten"] == 7
    outcome = outcome_of(folder, told.said)
    assert len(outcome.recovery.runs) == 40


def test_without_a_journal_the_oldest_runs_are_let_go(new_run, tmp_path, monkeypatch):
    """They are counted as lost."""
    monkeypatch.setattr(pending, "_MOST_SPANS", 10)
    health = Health()
    archive = ArchiveProcessor(tmp_path, durability="none", health=health)
    (tmp_path / layout.SEALED).mkdir()
    sink = Pipeline([archive], health=health)
    for _ in range(8):
        with new_run(pipeline=sink) as run:
            for number in range(1, 4):
                run.emit_iteration(iteration=number, goal_score=0.4)
    assert archive.unwritten() == 3
    assert health.archive.lost_spans == 5 * 4


def _switches(thread: threading.Thread) -> int:
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    lines = [line for line in status.splitlines() if "ctxt_switches" in line]
    return sum(int(line.split()[1]) for line in lines)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_the_background_thread_sleeps_while_there_is_nothing_to_do(new_run, tmp_path):
    """It is not woken once, seconds after the last run was sealed."""
    archive = ArchiveProcessor(tmp_path)
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    thread = archive._upkeep._thread
    assert thread is not None
    deadline = time.monotonic() + 100
    while True:
        before = _switches(thread)
        time.sleep(1.6)
        if _switches(thread) == before:
            break
        assert time.monotonic() < deadline, "it does not come to rest"
    assert not archive._upkeep.is_awake
    archive.close()


_LONG_RUN = """
import json, pathlib, sys
from loopotel_prom import LoopTracer, configure
def resident(name):
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
configuration = configure(listen=None, archive=sys.argv[1])
with LoopTracer("warm-up", goal_target=0.9) as run:
    for number in range(1, 3001):
        run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
with LoopTracer("long-run", goal_target=0.9) as run:
    for number in range(1, int(sys.argv[2]) + 1):
        run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
in_run = resident("VmHWM")
while configuration.unwritten():
    configuration._pipeline.flush(60)
print(json.dumps({"run": in_run - before, "sealed": resident("VmHWM") - before}))
configuration.close()
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_stays_constant_however_long_a_run_is(
    count, outcome_of, report, tmp_path
):
    """A run of a million iterations takes less than 50 MB, its sealing included."""
    iterations = count(100_000, 1_000_000)
    command = [sys.executable, "-c", _LONG_RUN, str(tmp_path), str(iterations)]
    grown = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    assert max(grown.values()) < 50 * 1024
    assert (tmp_path / "traces.jsonl").exists()
    figures = {f"{name}_kib": value for name, value in grown.items()}
    report(0, "memory of a long run", count=iterations, **figures)


def test_a_long_run_is_read_back_as_it_is_sealed(new_run, tmp_path):
    """Of the spans that are not kept in memory none is missing, and in order."""
    archive = ArchiveProcessor(tmp_path, segment_bytes=100_000)
    with new_run(pipeline=Pipeline([archive], keeper=archive)) as run:
        for number in range(1, 2501):
            run.emit_iteration(iteration=number, goal_score=0.4, worker_id="w")
    assert archive.flush(100)
    (line,) = (tmp_path / "traces.jsonl").read_bytes().splitlines()
    assert ltf.decode(line) == run.build_trace()
    archive.close()


def test_flush_gives_up_after_its_time(new_run, tmp_path):
    """Another is at it, and does not come to an end."""
    archive = ArchiveProcessor(tmp_path)
    with new_run(pipeline=Pipeline([archive])):
        pass
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with archive._tick_lock:
            held.set()
            done.wait(100)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(100)
    assert archive.flush(0.05) is False
    done.set()
    other.join()
    assert archive.flush(100) is True
    archive.close()


def test_closing_leaves_no_journal_and_seals_what_ends_later(new_run, tmp_path):
    """A run under way is sealed when it ends; closing twice changes nothing."""
    archive = ArchiveProcessor(tmp_path)
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        archive.close()
        assert len(layout.segments(tmp_path)) == 1
    archive.close()
    assert layout.segments(tmp_path) == []
    assert ltf.decode((tmp_path / "traces.jsonl").read_bytes()) == run.build_trace()
    assert archive._upkeep._thread is None
    assert os.listdir(tmp_path / "journal") == ["reserve"]  # noqa: PTH208 - names
