"""Who owns a journal: this process, and whether another one still lives."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
# In /proc/PID/stat, counted behind the name, which may hold anything.
_START_FIELD = 19


@cache
def boot_id() -> str | None:
    """Give the id of this boot; None where the system has none."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def process_start(pid: int) -> int | None:
    """Give when a process started, clock ticks after boot; None if unknown."""
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return None


def pid_namespace() -> int | None:
    """Give the namespace that this process's number is of; None if unknown."""
    try:
        return int(os.readlink(_PROC / "self/ns/pid").strip("pid:[]"))  # noqa: PTH115 - it names no file
    except (OSError, ValueError):
        return None


def lives(
    pid: int, boot: str | None, start: int | None, namespace: int | None = None
) -> bool:
    """
    Tell whether the process lives that started then, in that boot.

    Where nothing can be known the answer is yes: the journal of a living process
    must not be taken from it.
    """
    if boot is not None and boot_id() is not None and boot != boot_id():
        return False
    if namespace is not None and namespace != pid_namespace():
        return True  # in another container; its number says nothing here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass  # it lives, as another user's; or its number is none
    now = process_start(pid)
    return start is None or now is None or now == start


def call_at_childs_end(close: Callable[[], None]) -> None:
    """
    Have `close` called at this process's end if multiprocessing has made it.

    It leaves its children by ``os._exit``, after finalizers of its own; what is
    registered with atexit it forgets.
    """
    process = sys.modules.get("multiprocessing.process")
    util = sys.modules.get("multiprocessing.util")
    if process and util and process.parent_process() is not None:
        util.Finalize(None, close, exitpriority=0)
