"""
Places at which a test lets the process die, to see what is left behind.

A process that was started with ``LOOPOTEL_FAILPOINT=name`` kills itself with
SIGKILL where it first reaches that name. Without it, a place costs one comparison.
"""

import os
import signal

# In the order in which they are reached.
NAMES = (
    "journal.made",
    "journal.named",
    "journal.half",
    "append.locked",
    "append.half",
    "append.written",
    "append.synced",
    "long.half",
    "long.written",
    "long.verified",
    "long.renamed",
    "rotate.synced",
    "rotate.renamed",
    "journal.unmarked",
    "journal.marked",
    "journal.removed",
    "compress.half",
    "compress.written",
    "compress.verified",
    "compress.renamed",
    "recover.read",
    "recover.sealed",
    "recover.synced",
    "recover.removed",
)

_armed = os.environ.get("LOOPOTEL_FAILPOINT")


def reach(name: str) -> None:
    """Die here if this is the place."""
    if _armed == name:
        os.kill(os.getpid(), signal.SIGKILL)


def is_armed(name: str) -> bool:
    """Tell whether to go through a place that only a test needs."""
    return _armed == name
