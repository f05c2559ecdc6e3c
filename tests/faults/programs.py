"""
What the children of these tests run, and the server that forks them.

Started as a program it reads requests, JSON lines, from its input:
``{"program": NAME, "arguments": {…}}`` forks a child that calls the function of
that name, and is answered by its process id; ``{"wait": PID}`` by its status.
"""

import json
import os
import signal
import sys
import traceback
import warnings
from typing import Any

import loopotel_prom
from loopotel_prom import LoopTracer
from loopotel_prom.archive import failpoint
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.metrics.collector import LoopCollector

# What `configure` imports when called; here the server does, once for all children.
_ = (ArchiveProcessor, LoopCollector)

# A child that hangs ends itself, and its status says so.
_ALARM_SECONDS = 120


class Acknowledgements:
    """A file with a line for each iteration whose call has returned."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, trace_id: str, number: int) -> None:
        """Note one."""
        os.write(self._file, f"{trace_id} {number}\n".encode())


def write(
    archive: str,
    acknowledgements: str,
    *,
    runs: int = 1_000_000_000,
    iterations: int = 10,
    metadata_bytes: int = 0,
    attribute_bytes: int = 0,
    durability: Any = "process",
    failpoint_name: str = "",
) -> None:
    """Write runs, one after the other, with attributes of the size given."""
    failpoint._armed = failpoint_name or None
    loopotel_prom.configure(listen=None, archive=archive, durability=durability)
    said = Acknowledgements(acknowledgements)
    for _ in range(runs):
        with LoopTracer("killed-loop", metadata=texts(metadata_bytes)) as run:
            for number in range(1, iterations + 1):
                emit(run, number, attribute_bytes)
                said.add(run.trace_id, number)


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
    serve()
