"""
What the children of these tests run, and the server that forks them.

Started as a program it reads requests, JSON lines, from its input:
``{"program": NAME, "arguments": {…}}`` forks a child that calls the function of
that name, and is answered by its process id; ``{"wait": PID}`` by its status.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any

import loopotel_prom
from loopotel_prom import LoopTracer
from loopotel_prom.archive import failpoint, layout, spool
from loopotel_prom.archive import processor as processing
from loopotel_prom.archive.locked import LockedFile
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.archive.recovery import recover
from loopotel_prom.pipeline import Pipeline

# As in `tests/conftest.py`: what is said to be kept is in the journal, as no disk is
# taken for slow. Of those that are `disks.py` tells.
spool._SLOW_NS = 10**12
spool._PATIENCE_SECONDS = processing._PATIENCE_SECONDS = 60.0

# A child that hangs ends itself, and its status says so.
_ALARM_SECONDS = 120


# Runs that nobody ends: as garbage they would end themselves.
_kept: list[LoopTracer] = []


class Acknowledgements:
    """A file with a line for each iteration whose call has returned."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, trace_id: str, number: int) -> None:
        """Note one."""
        os.write(self._file, f"{trace_id} {number}\n".encode())


def write(  # noqa: C901 - short, but of many turns
    archive: str,
    acknowledgements: str,
    *,
    runs: int = 1_000_000_000,
    iterations: int = 10,
    metadata_bytes: int = 0,
    attribute_bytes: int = 0,
    threads: int = 1,
    keeps_open: int = 0,
    flushes: bool = False,
    dies_at: str = "",
    dies_after: int = 0,
    **options: Any,
) -> None:
    """
    Write runs, one after the other, in each of some threads.

    Args:
        archive: The archive's folder.
        acknowledgements: Where what was acknowledged is noted.
        runs: How many of each thread.
        iterations: Of each run.
        metadata_bytes: The size of each run's metadata.
        attribute_bytes: The size of each iteration's attributes.
        threads: How many write.
        keeps_open: Iterations of one more run, begun first, that never ends.
        flushes: After each run, sync, mark and compress, which the background
            thread would do within a second.
        dies_at: A failpoint.
        dies_after: Runs to be written before it is armed.
        options: Of the `ArchiveProcessor`.
    """
    said = Acknowledgements(acknowledgements)
    processor = ArchiveProcessor(Path(archive), **options)
    processor.prepare()
    sink = Pipeline([processor], keeper=processor)
    held = LoopTracer("held-loop", pipeline=sink)
    _kept.append(held)

    def one_run() -> None:
        metadata = texts(metadata_bytes)
        with LoopTracer("killed-loop", metadata=metadata, pipeline=sink) as run:
            for number in range(1, iterations + 1):
                emit(run, number, attribute_bytes)
                said.add(run.trace_id, number)
        if flushes:
            processor._tick()

    def many_runs() -> None:
        for _ in range(runs):
            one_run()

    for number in range(1, keeps_open + 1):
        emit(held, number)
        said.add(held.trace_id, number)
    for _ in range(dies_after):
        one_run()
    failpoint._armed = dies_at or None
    others = [threading.Thread(target=many_runs) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    many_runs()
    for thread in others:
        thread.join()
    processor._tick()
    if not keeps_open:
        _close(processor)


def _close(processor: ArchiveProcessor) -> None:
    """Seal all that has ended, however slow the disk is; it gives up on one."""
    while processor.unwritten():
        processor._tick()
    processor.close()


def emit(run: LoopTracer, number: int, attribute_bytes: int = 0) -> None:
    """Report an iteration, of the size given."""
    if not attribute_bytes:
        run.emit_iteration(iteration=number, goal_score=0.4, tokens_delta=1)
        return
    with run.iteration(number) as step:
        step.goal_score(0.4)
        step.set_attribute("text", texts(attribute_bytes))


def texts(size_bytes: int) -> Any:
    """Give texts of about that many bytes in all; one is of 64 KiB at most."""
    whole, rest = divmod(size_bytes, 60_000)
    return {str(n): "x" * 60_000 for n in range(whole)} | {"rest": "x" * rest}


def recover_all(archive: str, *, dies_at: str = "") -> None:
    """Recover an archive."""
    failpoint._armed = dies_at or None
    recover(Path(archive))


def hold_lock(archive: str, sign: str, *, half: bool) -> None:
    """Take the lock of the sealed file, tear a line, and never let go."""
    file = LockedFile.of(Path(archive) / layout.SEALED)
    kept = file.acquire(30)
    if half:
        os.write(kept.fd, b'{"schema_version":"ltf/0.1","trace')
    Path(sign).touch()
    signal.pause()


def leave_orphan(archive: str, acknowledgements: str, sign: str) -> None:
    """
    Write, fork as a library in C does, without telling Python, and die.

    The orphan, whose process id `sign` is told, has the journal open and locked.
    """
    said = Acknowledgements(acknowledgements)
    sink = Pipeline([ArchiveProcessor(Path(archive))])
    run = LoopTracer("orphaned-loop", pipeline=sink)
    for number in range(1, 11):
        emit(run, number)
        said.add(run.trace_id, number)
    # Held throughout, the interpreter's lock is held by no thread that is not there.
    libc = ctypes.PyDLL(None)
    pid = libc.fork()
    if not pid:
        libc.alarm(_ALARM_SECONDS)
        libc.pause()
    unfinished = Path(sign + ".tmp")
    unfinished.write_text(str(pid))
    unfinished.rename(sign)
    os.kill(os.getpid(), signal.SIGKILL)


def fork_often(archive: str, acknowledgements: str, *, forks: int) -> None:
    """Fork children that write, while three threads hold every lock there is."""
    signal.alarm(_ALARM_SECONDS + forks)
    said = Acknowledgements(acknowledgements)
    processor = ArchiveProcessor(Path(archive), rotate_bytes=1024**2)
    sink = Pipeline([processor])
    over = threading.Event()

    def one_run(name: str) -> None:
        with LoopTracer(name, pipeline=sink) as run:
            for number in range(1, 11):
                emit(run, number)
                said.add(run.trace_id, number)

    def go_on() -> None:
        # Not as fast as it can: this is about locks, not about a disk that is busy.
        while not over.wait(0.005):
            one_run("parent-loop")

    threads = [threading.Thread(target=go_on) for _ in range(3)]
    for thread in threads:
        thread.start()
    statuses = []
    for _ in range(forks):
        pid = os.fork()
        if not pid:
            # One that hangs is ended by its alarm, and its status tells.
            signal.alarm(100)
            one_run("child-loop")
            _close(processor)
            os._exit(0)
        statuses.append(os.waitpid(pid, 0)[1])
    over.set()
    for thread in threads:
        thread.join()
    _close(processor)
    assert statuses == [0] * forks, statuses


def end(how: str, archive: str, acknowledgements: str) -> None:
    """Print the sum of the numbers up to 20, as a loop, and end in some way."""
    loopotel_prom.configure(listen=None, archive=archive)
    said = Acknowledgements(acknowledgements)
    if how == "child of multiprocessing":
        context = multiprocessing.get_context("fork")
        child = context.Process(target=_work, args=(said, how))
        child.start()
        child.join()
    else:
        _work(said, how)


def _work(said: Acknowledgements, how: str) -> None:
    with LoopTracer("complete-loop") as run:
        for number in range(1, 11):
            emit(run, number)
            said.add(run.trace_id, number)
    run = LoopTracer("ending-loop")
    _kept.append(run)
    if how in ("exception", "sys.exit"):
        with run:
            _say(_sum(run, said))
            if how == "exception":
                raise RuntimeError("as intended")
            sys.exit(3)
    _say(_sum(run, said))
    if how == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "os._exit":
        os._exit(3)
    elif how == "os.abort":
        os.abort()
    elif how == "exit with an open run":
        sys.exit(3)


def _say(result: int) -> None:
    sys.stdout.write(f"{result}\n")
    sys.stdout.flush()


def _sum(run: LoopTracer, said: Acknowledgements) -> int:
    result = 0
    for number in range(1, 21):
        result += number
        emit(run, number)
        said.add(run.trace_id, number)
    return result


def serve() -> None:
    """Answer requests until there are no more."""
    # Forking beside threads is part of what is tested.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if "wait" in request:
            answer = os.waitpid(request["wait"], 0)[1]
        else:
            answer = os.fork() or _run(request["program"], request["arguments"])
        sys.stdout.buffer.write(b"%d\n" % answer)
        sys.stdout.buffer.flush()


def _run(program: str, arguments: dict[str, Any]) -> int:
    """Be the child; does not return."""
    signal.alarm(_ALARM_SECONDS)
    os.close(0)
    os.dup2(2, 1)
    try:
        globals()[program](**arguments)
    except BaseException:  # noqa: BLE001 - must not go on as a server
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1:]:
        end(*sys.argv[1:])
    else:
        serve()
