"""
Following an archive: each run of each process, once, as it goes on.

What is read, and what is counted of it, is told in `specs/sidecar.md`.
"""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from loopotel_prom.archive.follow_journals import JournalFollower
from loopotel_prom.archive.follow_sealed import SealedFollower
from loopotel_prom.archive.following import Following
from loopotel_prom.archive.ledger import Ledger, Sink, Taken
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.open_runs import JournalReader, journals
from loopotel_prom.archive.reader import key_of
from loopotel_prom.health import Health
from loopotel_prom.span import RunSpan

_MOST_OPEN = 512


class Position(Struct):
    """
    Where following stands.

    Attributes:
        segments: How much was read of each segment.
        runs: What was taken of the runs under way.
        finished: The ids of the newest finished runs, 16 bytes each.
        sealed: How much was read of files whose names may change, by their marks.
        rotated: The names of the rotated files that were read, without endings.
    """

    segments: dict[str, int] = {}
    runs: list[Taken] = []
    finished: bytes = b""
    sealed: dict[str, int] = {}
    rotated: list[str] = []


class Follower:
    """
    Feeds what is written to an archive to a sink: starts, spans and ends of runs.

    Reads only, and waits for no lock. Not thread-safe.

    Args:
        folder: The archive's folder; it may not be there yet.
        sink: What is fed.
        health: Where files that cannot be read are counted.
        position: Where to go on; the sink knows the runs under way there. By default
            what has ended already is passed over, and runs under way are taken from
            their beginning.
        most_open: How many segments are held open.

    Attributes:
        following: What it has come to.

    Raises:
        ArchiveError: The folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        sink: Sink,
        *,
        health: Health | None = None,
        position: Position | None = None,
        most_open: int = _MOST_OPEN,
    ) -> None:
        self.following = Following(health or Health())
        at = position or Position()
        self._ledger = Ledger(sink, at.runs)
        self._sealed = SealedFollower(
            folder,
            self._ledger,
            self.following,
            offsets=dict(at.sealed),
            rotated=set(at.rotated),
        )
        self._journals = JournalFollower(
            folder,
            self._ledger,
            self.following,
            offsets=dict(at.segments),
            most_open=most_open,
        )
        if position is None:
            # In this order: what ends in between is in the journals, for certain.
            self._sealed.pass_over()
            self._ledger.pass_over(_ended(folder))
        else:
            self._ledger.pass_over(at.finished)

    def steps(self) -> Iterator[None]:
        """
        Read all that is new; after each step `position` holds.

        Raises:
            OSError: The folder cannot be listed.
        """
        # In this order a document is mostly of a run that is known to its end.
        yield from self._journals.steps()
        yield from self._sealed.steps()

    def poll(self) -> None:
        """
        Read all that is new.

        Raises:
            OSError: As `steps`.
        """
        for _ in self.steps():
            pass

    def position(self) -> Position:
        """Give where it stands. What is given changes with the next step."""
        return Position(
            self._journals.offsets(),
            self._ledger.runs(),
            self._ledger.finished(),
            self._sealed.offsets(),
            self._sealed.rotated(),
        )

    def journals(self) -> int:
        """Count the journals."""
        return self._journals.journals()

    def is_some_dead(self) -> bool:
        """Tell whether the owner of a journal that was read is gone; cheap."""
        return self._journals.is_some_dead()

    def close(self) -> None:
        """Let go of all files."""
        self._journals.close()
        self._sealed.close()


def _ended(folder: Path) -> bytes:
    """Find the runs in journals that have ended already."""
    found: set[bytes] = set()
    for journal in journals(folder):
        for place in JournalReader(journal).read():
            if isinstance(place, BadLine):
                continue
            record = place.record
            if record.sealed is not None:
                found.add(key_of(record.sealed))
            elif isinstance(record.span, RunSpan) and record.span.end_ns is not None:
                found.add(key_of(record.span.trace_id))
    return b"".join(found)
