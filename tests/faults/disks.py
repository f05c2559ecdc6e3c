"""
Loops whose disk fails: the child that runs one, and how it is started.

Run as a program this is the child. What it has to say goes into a memory-mapped
file: it makes no ``write`` of its own, so that the N-th one that ``strace`` lets
fail is the archive's.
"""

import json
import logging
import mmap
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom import LoopTracer
from loopotel_prom.archive import pending, processor, segment, spool
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline

ROOM_BYTES = 4 * 1024**2


class Said:
    """
    A memory-mapped file of JSON lines; writing to it is no system call.

    Attributes:
        aloud: A file that all is written to as well, by system calls.
    """

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:  # noqa: PTH123 - before pathlib is needed
            self._map = mmap.mmap(file.fileno(), ROOM_BYTES)
        self.aloud: int | None = None

    def add(self, **what: Any) -> None:
        """Say something."""
        line = json.dumps(what).encode() + b"\n"
        self._map.write(line)
        if self.aloud is not None:
            os.write(self.aloud, line)


class Spoken(logging.Handler):
    """Passes on what is logged."""

    def __init__(self, said: Said) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a message on."""
        self._said.add(log=record.getMessage())


class Loop:
    """
    The loop under test, with an archive.

    Args:
        said: Where to say what was acknowledged.
        archive: The archive's folder.
        options: Of `ArchiveProcessor`.
    """

    def __init__(self, said: Said, archive: str, **options: Any) -> None:
        self._said = said
        self.health = Health()
        self.archive = ArchiveProcessor(Path(archive), health=self.health, **options)
        self.archive.prepare()
        self.sink = Pipeline([self.archive], health=self.health, keeper=self.archive)
        self.result = 0

    def run(self, iterations: int, *, pause_seconds: float = 0.0) -> None:
        """Make one run."""
        with LoopTracer("failing-disk", pipeline=self.sink) as run:
            for number in range(1, iterations + 1):
                self.report(run, number)
                if pause_seconds:
                    time.sleep(pause_seconds)
        self._said.add(ended=run.trace_id, kept=self.is_kept())

    def report(self, run: LoopTracer, number: int) -> None:
        """Report an iteration; say that it was acknowledged, and how fast."""
        self.result += number
        begin = time.monotonic()
        run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
        took = time.monotonic() - begin
        self._said.add(said=[run.trace_id, number], kept=self.is_kept(), took=took)

    def flush(self) -> None:
        """Flush, and say so."""
        if self.sink.flush(10):
            self._said.add(flushed=True)

    def is_kept(self) -> bool:
        """Tell whether the journal has all that was reported."""
        state = self.health.archive
        return not state.degraded and not state.backlog_spans

    def settle(self, seconds: float) -> None:
        """Wait until the archive is well again."""
        deadline = time.monotonic() + seconds
        while not self.is_kept() and time.monotonic() < deadline:
            time.sleep(0.05)

    def end(self, flush_seconds: float) -> None:
        """Come to a normal end."""
        self.sink.flush(flush_seconds)
        state = self.health.archive
        self._said.add(
            degraded=state.degraded,
            lost=state.lost_spans,
            unwritten=self.archive.unwritten(),
            seals=state.seals,
            sync_failures=state.sync_failures,
            open_files=sum(Path(f"/proc/self/fd/{n}").exists() for n in range(99)),
        )
        self.sink.close()
        self._said.add(result=self.result)


def _be_child(said: Said, plan: dict[str, Any]) -> None:
    """Make runs as planned; what is left of the plan is the archive's."""
    runs, iterations = plan.pop("runs"), plan.pop("iterations")
    pause, settle = plan.pop("pause_seconds"), plan.pop("settle_seconds")
    flushes, surrounded = plan.pop("flushes"), plan.pop("surrounded")
    files, flush_seconds = plan.pop("open_files"), plan.pop("flush_seconds")
    _limit(plan.pop("kept_spans"), plan.pop("pending_runs"), plan.pop("file_bytes"))
    _slow_down(plan.pop("sync_seconds"))
    breaks, mends = plan.pop("breaks"), plan.pop("mends")
    user, aloud = plan.pop("user"), plan.pop("aloud")
    if user:
        os.setgid(user)
        os.setuid(user)
    if aloud:
        said.aloud = os.open(aloud, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    loop = Loop(said, **plan)
    around = LoopTracer("around-all", pipeline=loop.sink, enabled=surrounded)
    _limit_files(files)
    _order(breaks)
    for number in range(runs):
        loop.run(iterations, pause_seconds=pause)
        if surrounded:
            loop.report(around, number + 1)
        if flushes:
            loop.flush()
        if number == runs // 2:
            _limit_files(files and 4096)
            _order(mends)
    around.finish(outcome="success")
    if surrounded:
        said.add(ended=around.trace_id, kept=loop.is_kept())
    loop.settle(settle)
    loop.end(flush_seconds)


def _order(commands: Sequence[str]) -> None:
    for command in commands:
        subprocess.run(command, shell=True, check=True, stderr=subprocess.DEVNULL)


def _limit(kept_spans: int, pending_runs: int, file_bytes: int) -> None:
    if kept_spans:
        processor._KEPT_SPANS = kept_spans
    if pending_runs:
        pending._MOST_RUNS = pending_runs
    if file_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))


def _slow_down(sync_seconds: float) -> None:
    # Not by `strace`, which does not let go of a process that ends in a delay.
    def sync_file(file: int) -> None:
        time.sleep(sync_seconds)
        segment.sync_file(file)

    if sync_seconds:
        spool.sync_file = sync_file


def _limit_files(most: int | None) -> None:
    if most is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, 4096))


@dataclass
class Told:
    """
    What a child has said.

    Attributes:
        said: The iterations whose calls returned: trace id, number.
        kept: Those of them that the journal had when they did.
        took: Seconds that each call took.
        ended: The runs that ended.
        logs: What was logged, warnings and worse.
        end: How it ended.
    """

    said: list[tuple[str, int]]
    kept: list[tuple[str, int]]
    took: list[float]
    ended: list[str]
    logs: list[str]
    end: dict[str, Any]

    def count_logged(self, text: str) -> int:
        """Count the messages with this in them."""
        return sum(text in message for message in self.logs)


def read(path: Path) -> Told:
    """Read what a child has said."""
    told = Told([], [], [], [], [], {})
    for line in path.read_bytes().rstrip(b"\0").splitlines():
        what = json.loads(line)
        if "said" in what:
            trace_id, number = what["said"]
            told.said.append((trace_id, number))
            told.took.append(what["took"])
            if what["kept"]:
                told.kept.append((trace_id, number))
        elif "ended" in what:
            told.ended.append(what["ended"])
        elif "log" in what:
            told.logs.append(what["log"])
        else:
            told.end |= what
    return told


# What a child does unless told otherwise. What else it is told is the archive's.
_PLAN = {
    # How many runs, one after the other, and how many iterations of each.
    "runs": 3,
    "iterations": 10,
    "pause_seconds": 0.0,
    # Have one more run open, from beginning to end.
    "surrounded": False,
    # Whether to flush after each run.
    "flushes": True,
    # How long to wait, in the end, for the archive to be well.
    "settle_seconds": 0.0,
    # How long each sync of the journal takes.
    "sync_seconds": 0.0,
    # How long to flush at most, before the archive is closed.
    "flush_seconds": 10.0,
    # How many spans of a run, and how many ended runs, are kept in memory.
    "kept_spans": 0,
    "pending_runs": 0,
    # How many files may be open, in the first half of the runs.
    "open_files": None,
    # How long a file may get.
    "file_bytes": 0,
    # Commands to give before the first run, and in the middle.
    "breaks": (),
    "mends": (),
    # The user to become.
    "user": 0,
    # A file to say all by system calls to.
    "aloud": "",
}


def child(
    folder: Path, said: Path, *, before: Sequence[str] = (), **plan: Any
) -> "subprocess.Popen[bytes]":
    """Start a loop with an archive at `folder`; `before` is what to start it with."""
    said.write_bytes(b"")
    os.truncate(said, ROOM_BYTES)
    plan = {"archive": str(folder)} | _PLAN | plan
    environment = {k: v for k, v in os.environ.items() if "LOOPOTEL" not in k}
    return subprocess.Popen(
        [*before, sys.executable, __file__, str(said), json.dumps(plan, default=str)],
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
    )


def finish(process: "subprocess.Popen[bytes]", said: Path, iterations: int) -> Told:
    """Wait for a child; its own result, over all its iterations, is what it was."""
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()
    told = read(said)
    assert told.end["result"] == sum(number for _, number in told.said)
    assert len(told.said) == iterations
    assert not errors, errors.decode()
    return told


def judge_child(folder: Path, said: Path, **arguments: Any) -> Told:
    """Run a child to its end."""
    runs, iterations = arguments.get("runs", 3), arguments.get("iterations", 10)
    expected = runs * (iterations + arguments.get("surrounded", False))
    return finish(child(folder, said, **arguments), said, expected)


def injected(*faults: str, log: str | os.PathLike[str] = os.devnull) -> list[str]:
    """Give the command that lets a child's system calls fail."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.fail("no `strace` on PATH: run `make test`", pytrace=False)
    command = [strace, "-f", "--seccomp-bpf", "-qq", "-o", str(log)]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    calls = {fault.partition(":")[0] for fault in faults}
    command += ["-e", f"trace={','.join(sorted(calls))}"]
    probe = subprocess.run([strace, "-qq", "-o", os.devnull, "true"], check=False)
    if probe.returncode:
        pytest.skip("processes cannot be traced here")
    return command


if __name__ == "__main__":
    _said = Said(sys.argv[1])
    logging.getLogger("loopotel_prom").addHandler(Spoken(_said))
    logging.getLogger("loopotel_prom").propagate = False
    _be_child(_said, json.loads(sys.argv[2]))
