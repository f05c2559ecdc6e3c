"""Following the sealed files: the documents of runs that ended."""

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from loopotel_prom.archive.files import RegularFile, read_file
from loopotel_prom.archive.following import Following
from loopotel_prom.archive.layout import COMPRESSED, SEALED, rotated_files
from loopotel_prom.archive.ledger import Ledger
from loopotel_prom.archive.lines import BadLine, Item, Line
from loopotel_prom.archive.reader import Entry, entry_of
from loopotel_prom.archive.sealed_run import SealedRun
from loopotel_prom.archive.tail import Tail
from loopotel_prom.errors import DocumentError

# By the first line, so far, a file is known again under another name.
_MARK_BYTES = 4096


class SealedFollower:
    """
    Follows `traces.jsonl`, and reads each rotated file that it has not followed.

    Args:
        folder: The archive's folder.
        ledger: What the documents are given to.
        following: Where lines and failures are counted.
        offsets: How much was read of files, by their marks.
        rotated: The names of the rotated files that were read, without endings.
    """

    def __init__(
        self,
        folder: Path,
        ledger: Ledger,
        following: Following,
        *,
        offsets: dict[str, int],
        rotated: set[str],
    ) -> None:
        self._folder = folder
        self._ledger = ledger
        self._following = following
        self._offsets = offsets
        self._rotated = rotated
        self._active: Tail | None = None
        self._mark: str | None = None

    def offsets(self) -> dict[str, int]:
        """Give how much was read of files whose names may change, by their marks."""
        self._note()
        return {**self._offsets}

    def rotated(self) -> list[str]:
        """Give the names of the rotated files that were read, without endings."""
        return sorted(self._rotated)

    def pass_over(self) -> None:
        """
        Take what is there now for read.

        Raises:
            OSError: The folder cannot be listed.
        """
        # Opened before the others are listed, it is not missed if it is renamed.
        self._open()
        self._rotated |= _rotated(self._folder).keys()
        tail = self._active
        while tail is not None and (piece := tail.read()).lines:
            tail.offset = piece.end

    def steps(self) -> Iterator[None]:
        """
        Read what is new, a piece a step.

        Raises:
            OSError: The folder cannot be listed.
        """
        try:
            self._open()
            while self._active is not None:
                yield from self._drain(self._active)
                if self._is_in_place(self._active):
                    break
                # Nobody appends to it any more; what came just before is read.
                yield from self._drain(self._active)
                self.close()
                self._open()
        except OSError as error:
            self._following.failed(error)
        yield from self._read_rotated()

    def close(self) -> None:
        """Let go of the file."""
        self._note()
        if self._active is not None:
            self._active.close()
        self._active = self._mark = None

    def _open(self) -> None:
        if self._active is not None:
            return
        tail = Tail(self._folder / SEALED)
        try:
            tail.open()
        except FileNotFoundError:
            return
        self._active = tail
        self._mark = _mark(tail)
        tail.offset = self._offsets.get(self._mark or "", 0)

    def _is_in_place(self, tail: Tail) -> bool:
        try:
            return os.path.samestat(tail.path.lstat(), tail.status())
        except FileNotFoundError:
            return False

    def _note(self) -> None:
        tail = self._active
        if tail is not None and tail.offset:
            self._mark = self._mark or _mark(tail)
            if self._mark is not None:
                self._offsets[self._mark] = tail.offset

    def _drain(self, tail: Tail) -> Iterator[None]:
        while tail.has_more() and (piece := tail.read()).lines:
            for line in piece.lines:
                tail.offset = line.offset
                yield from self._take(line)
            tail.offset = piece.end
            yield

    def _read_rotated(self) -> Iterator[None]:
        # The file that is held may have been rotated just now.
        self._note()
        there = _rotated(self._folder)
        self._rotated &= there.keys()
        for name in sorted(there.keys() - self._rotated):
            try:
                yield from self._read_whole(there[name])
            except OSError as error:
                # Damaged or unreadable: not again five times a second.
                self._following.failed(error)
            self._rotated.add(name)
        # What is known of no file that is there.
        self._offsets.clear()

    def _read_whole(self, path: Path) -> Iterator[None]:
        try:
            file = RegularFile(path)
        except FileNotFoundError:
            # Compressed since it was listed.
            file = RegularFile(path.with_name(path.name + COMPRESSED))
        with file:
            skipped = 0
            for number, item in enumerate(read_file(file)):
                if number == 0:
                    skipped = self._offsets.get(_mark_of(item) or "", 0)
                if item.offset >= skipped:
                    yield from self._take(item)
                    yield

    def _take(self, item: Item) -> Iterator[None]:
        """Take a document, or count what is none."""
        self._following.lines += 1
        if isinstance(item, Line) and not item.data:
            return
        entry = entry_of(item)
        if isinstance(entry, BadLine):
            self._following.damaged_lines += 1
            return
        self._following.documents += 1
        if not self._ledger.is_finished(entry.trace_id):
            yield from self._take_entry(entry)

    def _take_entry(self, entry: Entry) -> Iterator[None]:
        try:
            document = SealedRun(entry.line)
        except DocumentError:
            self._following.damaged_lines += 1
            return
        try:
            yield from self._ledger.document(document.run, document.groups())
        except DocumentError:
            self._following.damaged_lines += 1
            self._ledger.give_up(document.run)


def _rotated(folder: Path) -> dict[str, Path]:
    """List the rotated files by their names without endings."""
    return {path.name.partition(".jsonl")[0]: path for path in rotated_files(folder)}


def _mark(tail: Tail) -> str | None:
    """Make the mark of a file that is being written; None before its first line."""
    head = tail.head(_MARK_BYTES + 1).lstrip(b"\r\n")
    line, ending, _ = head.partition(b"\n")
    return _hash(line) if ending or len(line) >= _MARK_BYTES else None


def _mark_of(item: Item) -> str | None:
    """Make the mark of a file from its first line."""
    if isinstance(item, Line):
        return _hash(item.data)
    return None


def _hash(line: bytes) -> str:
    start = line[:_MARK_BYTES].rstrip(b"\r")
    return blake2b(start, digest_size=16).hexdigest()
