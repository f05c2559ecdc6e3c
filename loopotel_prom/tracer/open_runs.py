"""
The runs under way in this process, for when it ends or forks.

At a normal exit those that nobody ended are ended as abandoned, so that what they
did is not lost, and what processors hold back is passed on. In a forked child they
fall silent: they are the parent's.
"""

import atexit
import os
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from loopotel_prom import pipeline

if TYPE_CHECKING:
    from loopotel_prom.tracer.run import LoopTracer

_runs: "WeakValueDictionary[int, LoopTracer]" = WeakValueDictionary()
# Those that have ended as well: a fork may come while a thread reads one.
_started: "WeakSet[LoopTracer]" = WeakSet()


def add(run: "LoopTracer") -> None:
    """Note that a run has started."""
    _runs[id(run)] = run
    _started.add(run)


def discard(run: "LoopTracer") -> None:
    """Note that a run has ended."""
    _runs.pop(id(run), None)


def _after_fork() -> None:
    for run in list(_started):
        run._disown()
    _started.clear()
    _runs.clear()


def _at_exit() -> None:
    for run in list(_runs.values()):
        run._abandon()
    pipeline.close_all()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
