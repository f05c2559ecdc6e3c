"""Following journals: what living processes append, and what dead ones left."""

from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive import layout
from loopotel_prom.archive.files import is_locked
from loopotel_prom.archive.following import Following
from loopotel_prom.archive.ledger import Ledger
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.archive.record import Record, decode
from loopotel_prom.archive.salvage import whole_records
from loopotel_prom.archive.tail import Tail
from loopotel_prom.errors import DocumentError


class JournalFollower:
    """
    Follows all segments of all journals of an archive.

    Takes no lock, but for an instant in `is_some_dead`.

    Args:
        folder: The archive's folder.
        ledger: What the records are given to.
        following: Where lines and failures are counted.
        offsets: How much was read, by segment.
        most_open: How many segments are held open; more are opened for each look,
            and what is removed in between is left to the documents.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        following: Following,
        *,
        offsets: dict[str, int],
        most_open: int,
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._following = following
        self._offsets = offsets
        self._most_open = most_open
        # In the order in which they are to be read.
        self._tails: dict[str, Tail] = {}
        self._refused: set[str] = set()

    def offsets(self) -> dict[str, int]:
        """Give how much was read, by segment."""
        return {name: tail.offset for name, tail in self._tails.items()}

    def journals(self) -> int:
        """Count the journals."""
        return len({layout.place_of(name)[0] for name in self._tails})

    def is_some_dead(self) -> bool:
        """Tell whether the owner of a journal that was read is gone; cheap."""
        held = (tail for tail in self._tails.values() if tail.is_open)
        return any(not is_locked(tail.fileno()) for tail in held)

    def steps(self) -> Iterator[None]:
        """
        Read what is new, a piece a step.

        Raises:
            OSError: The folder cannot be listed.
        """
        listed = set(layout.segment_names(self._folder))
        self._meet(listed)
        for name, tail in [*self._tails.items()]:
            try:
                if tail.has_more():
                    yield from self._drain(tail)
            except FileNotFoundError:
                pass  # never held; its documents tell
            except OSError as error:
                self._refuse(name, error)
            if name not in listed:
                tail.close()
                del self._tails[name]
        self._refused &= listed
        self._offsets.clear()

    def close(self) -> None:
        """Let go of all segments."""
        for tail in self._tails.values():
            tail.close()

    def _meet(self, listed: set[str]) -> None:
        new = listed - self._tails.keys()
        for name in new:
            tail = Tail(
                self._folder / layout.JOURNAL / name, self._offsets.get(name, 0)
            )
            try:
                if len(self._tails) < self._most_open:
                    tail.open()
            except FileNotFoundError:
                continue  # reaped since it was listed
            except OSError as error:
                self._refuse(name, error)
                continue
            self._tails[name] = tail
        if new:
            self._tails = dict(sorted(self._tails.items(), key=_in_order))

    def _refuse(self, name: str, error: OSError) -> None:
        """Count a segment that cannot be read, once; it is tried again."""
        if name not in self._refused:
            self._refused.add(name)
            self._following.failed(error)

    def _drain(self, tail: Tail) -> Iterator[None]:
        stays_open = tail.is_open
        tail.open()
        try:
            while piece := tail.read():
                if not piece.lines:
                    return
                for line in piece.lines:
                    self._take(line)
                tail.offset = piece.end
                yield
        finally:
            if not stays_open:
                tail.close()

    def _take(self, line: Line | LongLine) -> None:
        for record in self._records(line):
            if record.span is not None and record.seq is not None:
                self._following.records += 1
                self._ledger.record(record.seq, record.span)

    def _records(self, line: Line | LongLine) -> Iterator[Record]:
        self._following.lines += 1
        if isinstance(line, LongLine):
            self._following.damaged_lines += 1
        elif line.data:
            try:
                yield decode(line.data)
            except DocumentError:
                self._following.damaged_lines += 1
                yield from whole_records(line.data)


def _in_order(item: tuple[str, Tail]) -> tuple[str, int]:
    return layout.place_of(item[0])
