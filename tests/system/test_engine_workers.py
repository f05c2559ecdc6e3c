"""Workers of a real command, on this machine and in a Dask cluster, that die."""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FULL = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
COUNT = 15_000


def _document(number: int) -> bytes:
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return json.dumps(FULL | {"trace_id": trace_id}).encode() + b"\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an archive that takes some seconds, with what is rejected in it."""
    folder = tmp_path_factory.mktemp("archive")
    lines = [_document(number) for number in range(COUNT)]
    lines[5000] = b"{bad\n"
    (folder / "traces.jsonl").write_bytes(b"".join(lines))
    return folder


class Export:
    """One run of the command, and what it has written so far."""

    def __init__(self, command: Callable, folder: Path, archive: Path, *args) -> None:
        folder.mkdir()
        self.folder = folder
        self.child = command(
            *("export", "loopnet", str(archive), "--goal", "repair the code at hand"),
            *("--output", "r.jsonl", "--rejects", "bad.jsonl", *args),
            cwd=folder,
        )

    def wait_until_writing(self) -> None:
        """Wait until some results have come, and not all."""
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size for p in self.folder.glob(".r.*.unfinished")):
            assert self.child.process.poll() is None, self.child.tail()
            assert time.monotonic() < deadline, self.child.tail()
            time.sleep(0.005)

    def workers(self) -> list[int]:
        """Find its processes that work on shards."""
        pid = self.child.pid
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(one) for one in found if b"spawn_main" in _cmdline(int(one))]

    def written(self) -> list[bytes]:
        """Wait for its end; give the records and the rejects."""
        assert self.child.wait(120) == 0, self.child.tail()
        assert "Traceback" not in self.child.output()
        return [(self.folder / n).read_bytes() for n in ("r.jsonl", "bad.jsonl")]


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _wait_for_end(*pids: int) -> None:
    deadline = time.monotonic() + 30
    while any(b"spawn_main" in _cmdline(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker stays"
        time.sleep(0.01)


@pytest.fixture
def export(command: Callable, archive: Path, tmp_path: Path) -> Callable[..., Export]:
    """Start the command with options, in a folder of its own."""
    numbers = itertools.count()

    def start(*args: str) -> Export:
        return Export(command, tmp_path / f"export-{next(numbers)}", archive, *args)

    return start


@pytest.fixture
def expected(export: Callable[..., Export]) -> list[bytes]:
    """Give what one process writes."""
    written = export("--engine", "none").written()
    assert written[0].count(b"\n") == COUNT - 1
    return written


def test_a_killed_worker_changes_nothing(
    export: Callable[..., Export], expected: list[bytes]
) -> None:
    """What it was at is done again."""
    running = export("--jobs", "2", "--shard-bytes", "100000")
    running.wait_until_writing()
    os.kill(running.workers()[0], signal.SIGKILL)
    assert running.written() == expected


def test_an_interrupt_ends_all_at_once(export: Callable[..., Export]) -> None:
    """Without a word of the workers, and without a file."""
    running = export("--jobs", "2", "--shard-bytes", "100000")
    running.wait_until_writing()
    workers = running.workers()
    for pid in (*workers, running.child.pid):  # as a terminal does
        os.kill(pid, signal.SIGINT)
    assert running.child.wait(100) != 0
    _wait_for_end(*workers)
    assert running.child.output().strip() in ("", "Aborted!", "Aborted.")
    assert list(running.folder.iterdir()) == []


def test_no_worker_hears_an_interrupt_while_it_is_born(
    export: Callable[..., Export],
) -> None:
    """Not even the first: it would tell of it in forty lines."""
    running = export("--jobs", "2", "--shard-bytes", "100000")
    deadline = time.monotonic() + 60
    while not (workers := running.workers()):
        assert time.monotonic() < deadline, running.child.tail()
    status = Path(f"/proc/{workers[0]}/status").read_text()
    deaf_to = {
        name: int(value, 16)
        for name, value in (line.split(":") for line in status.splitlines())
        if name in ("SigBlk", "SigIgn")
    }
    interrupt = 1 << (signal.SIGINT - 1)
    assert (deaf_to["SigBlk"] | deaf_to["SigIgn"]) & interrupt
    running.written()


def test_workers_end_with_the_command(export: Callable[..., Export]) -> None:
    """However it ends."""
    running = export("--jobs", "2", "--shard-bytes", "100000")
    running.wait_until_writing()
    workers = running.workers()
    assert len(workers) == 2
    os.kill(running.child.pid, signal.SIGKILL)
    _wait_for_end(*workers)


# Dask


class Dask:
    """A scheduler and two workers, each a process."""

    def __init__(self, program: Callable) -> None:
        self._program = program
        scheduler = self._run("scheduler", "--host", "127.0.0.1", "--port", "0")
        self.address = scheduler.wait_for_line(r"Scheduler at:\s+(tcp://\S+)")[1]
        options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0")
        self.workers = [self._run("worker", self.address, *options) for _ in range(2)]
        for worker in self.workers:
            worker.wait_for_line("Registered to:")

    def _run(self, what: str, *args: str):
        argv = [sys.executable, "-m", f"distributed.cli.dask_{what}", *args]
        return self._program([*argv, "--no-dashboard"])


@pytest.fixture
def dask(program: Callable) -> Dask:
    """Run a cluster."""
    return Dask(program)


def test_a_cluster_writes_the_same(
    dask: Dask, export: Callable[..., Export], expected: list[bytes]
) -> None:
    """Whatever the size of shards."""
    for size in ("300000", "100000000"):
        options = ("--scheduler", dask.address, "--shard-bytes", size)
        assert export("--engine", "dask", *options).written() == expected


def test_a_killed_worker_of_a_cluster_changes_nothing(
    dask: Dask, export: Callable[..., Export], expected: list[bytes]
) -> None:
    """Its shards go to the other one."""
    options = ("--scheduler", dask.address, "--shard-bytes", "100000")
    running = export("--engine", "dask", *options)
    running.wait_until_writing()
    dask.workers[0].process.kill()
    assert running.written() == expected


def test_an_interrupt_leaves_a_cluster_in_peace(
    dask: Dask, export: Callable[..., Export]
) -> None:
    """The command ends without a word, and without a file; the workers go on."""
    options = ("--scheduler", dask.address, "--shard-bytes", "100000")
    running = export("--engine", "dask", *options)
    running.wait_until_writing()
    os.kill(running.child.pid, signal.SIGINT)
    assert running.child.wait(100) != 0
    assert running.child.output().strip() in ("", "Aborted!", "Aborted.")
    assert list(running.folder.iterdir()) == []
    assert all(worker.process.poll() is None for worker in dask.workers)


def test_no_scheduler_is_one_line(
    export: Callable[..., Export], free_port: Callable[[], int]
) -> None:
    """Which names its address."""
    address = f"tcp://127.0.0.1:{free_port()}"
    running = export("--engine", "dask", "--scheduler", address)
    assert running.child.wait(60) == 2
    (line,) = running.child.output().splitlines()
    assert line.startswith(f"loopotel-prom: scheduler {address}: no answer within 10 s")


@pytest.mark.parametrize(
    "options",
    (
        ("--engine", "dask"),
        ("--scheduler", "tcp://127.0.0.1:8786"),
        ("--engine", "none", "--jobs", "2"),
    ),
)
def test_options_that_need_each_other_say_so(
    export: Callable[..., Export], options: tuple[str, ...]
) -> None:
    """As bad usage, in one line."""
    running = export(*options)
    assert running.child.wait(60) == 2
    assert running.child.output().count("\n") == 1
