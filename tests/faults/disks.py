"""
Loops whose disk fails: the child that runs one, and how it is started.

Run as a program this is the child. What it has to say goes into a memory-mapped
file: it makes no ``write`` of its own, so that the N-th one that ``strace`` lets
fail is the archive's.
"""

import contextlib
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
from loopotel_prom.archive import layout, processor
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline

ROOM_BYTES = 4 * 1024**2
_NOBODY = 65534


class Said:
    """A memory-mapped file of JSON lines; writing to it is no system call."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:  # noqa: PTH123 - before pathlib is needed
            self._map = mmap.mmap(file.fileno(), ROOM_BYTES)

    def add(self, **what: Any) -> None:
        """Say something."""
        self._map.write(json.dumps(what).encode() + b"\n")


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
        """Make one run, and say what has been acknowledged, and how fast."""
        with LoopTracer("failing-disk", pipeline=self.sink) as run:
            for number in range(1, iterations + 1):
                self.result += number
                begin = time.monotonic()
                run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
                took = time.monotonic() - begin
                self._said.add(
                    said=[run.trace_id, number], kept=self.is_kept(), took=took
                )
                if pause_seconds:
                    time.sleep(pause_seconds)
        self._said.add(ended=run.trace_id)

    def is_kept(self) -> bool:
        """Tell whether the journal has all that was reported."""
        state = self.health.archive
        return not state.degraded and not state.backlog_spans

    def end(self) -> None:
        """Come to a normal end."""
        self.sink.flush(10)
        state = self.health.archive
        self._said.add(
            degraded=state.degraded,
            lost=state.lost_spans,
            unwritten=self.archive.unwritten(),
            seals=state.seals,
            sync_failures=state.sync_failures,
        )
        self.sink.close()
        self._said.add(result=self.result)


def _be_child(said: Said, arguments: dict[str, Any]) -> None:
    runs, iterations = arguments.pop("runs"), arguments.pop("iterations")
    pause, settle = arguments.pop("pause_seconds"), arguments.pop("settle_seconds")
    flushes, kept = arguments.pop("flushes"), arguments.pop("kept_spans")
    files, size = arguments.pop("open_files"), arguments.pop("file_bytes")
    if kept:
        processor._KEPT_SPANS = kept
    if size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    loop = Loop(said, **arguments)
    if files is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, 4096))
    for number in range(runs):
        loop.run(iterations, pause_seconds=pause)
        if flushes:
            loop.sink.flush(10)
        if files is not None and number == runs // 2:
            resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    deadline = time.monotonic() + settle
    while not loop.is_kept() and time.monotonic() < deadline:
        time.sleep(0.05)
    loop.end()


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


def child(
    folder: Path,
    said: Path,
    *,
    before: Sequence[str] = (),
    runs: int = 3,
    iterations: int = 10,
    pause_seconds: float = 0.0,
    settle_seconds: float = 0.0,
    flushes: bool = True,
    kept_spans: int = 0,
    open_files: int | None = None,
    file_bytes: int = 0,
    **options: Any,
) -> "subprocess.Popen[bytes]":
    """Start a loop with an archive at `folder`; `before` is what to start it with."""
    said.write_bytes(b"")
    os.truncate(said, ROOM_BYTES)
    arguments = {
        "archive": str(folder),
        "runs": runs,
        "iterations": iterations,
        "pause_seconds": pause_seconds,
        "settle_seconds": settle_seconds,
        "flushes": flushes,
        "kept_spans": kept_spans,
        "open_files": open_files,
        "file_bytes": file_bytes,
        **options,
    }
    environment = {k: v for k, v in os.environ.items() if "LOOPOTEL" not in k}
    return subprocess.Popen(
        [*before, sys.executable, __file__, str(said), json.dumps(arguments)],
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
    expected = arguments.get("runs", 3) * arguments.get("iterations", 10)
    return finish(child(folder, said, **arguments), said, expected)


def injected(*faults: str, log: str | os.PathLike[str] = os.devnull) -> list[str]:
    """Give the command that lets a child's system calls fail."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    command = [strace, "-f", "--seccomp-bpf", "-qq", "-o", str(log)]
    for fault in faults:
        command += ["-e", f"inject={fault}"]
    calls = {fault.partition(":")[0] for fault in faults}
    command += ["-e", f"trace={','.join(sorted(calls))}"]
    probe = subprocess.run([strace, "-qq", "-o", os.devnull, "true"], check=False)
    if probe.returncode:
        pytest.skip("processes cannot be traced here")
    return command


def journal_bytes(folder: Path) -> bytes:
    """Give all segments, one after the other, of a process that is at work."""
    found = []
    for path in sorted(layout.segments(folder)):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.read_bytes())
    return b"".join(found)


if __name__ == "__main__":
    _said = Said(sys.argv[1])
    logging.getLogger("loopotel_prom").addHandler(Spoken(_said))
    logging.getLogger("loopotel_prom").propagate = False
    _be_child(_said, json.loads(sys.argv[2]))
