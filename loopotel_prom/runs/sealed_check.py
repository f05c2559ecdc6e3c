"""Checks sealed files: each line a valid document, each run once."""

import io
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

from loopotel_prom.archive.files import Advance
from loopotel_prom.archive.lines import BadLine, Item, Line, LongLine
from loopotel_prom.archive.reader import Entry, entry_of, key_of, read_items
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf import decode
from loopotel_prom.runs.problem import Problem, at_line
from loopotel_prom.validate import validate_documents, validate_trace

_HASH_BYTES = 8
_LINE_BITS = 40
_TOLD_MESSAGES = 3
_ASIDE = "its neighbours are whole; 'loopotel-prom archive compact --dedupe' moves it"
_FILE_HINT = "restore the file from a copy; the other files are read all the same"


class SealedCheck:
    """
    One check of all sealed files of an archive, or of a single file.

    A run costs its id, a hash of its document and its place, some 300 bytes.

    Attributes:
        documents: Documents that could be read.
        keys: Their runs; of each its place, and the hash of its document.
    """

    def __init__(self, path: Path, advance: Advance | None = None) -> None:
        self._path = path
        self._advance = advance
        self._files: list[str] = []
        self.documents = 0
        # A place is the file's number, the line's, and whether it was recovered.
        self.keys: dict[bytes, tuple[int, bytes]] = {}

    @property
    def files(self) -> int:
        """How many files had something in them."""
        return len(self._files)

    def run(self) -> Iterator[Problem]:
        """
        Read all of them and yield what is wrong.

        Raises:
            ArchiveError: The archive cannot be read.
        """
        for item in read_items(self._path, advance=self._advance):
            if not self._files or self._files[-1] != item.file:
                self._files.append(item.file)
            yield from self._check(item)

    def _check(self, item: Item) -> Iterator[Problem]:
        if isinstance(item, BadLine):
            is_end = item.number == 0 or "stream" in item.fault
            yield at_line(item, item.fault, _FILE_HINT if is_end else _ASIDE)
        elif isinstance(item, LongLine):
            yield from self._check_long(item)
        else:
            yield from self._check_line(item)

    def _check_line(self, line: Line) -> Iterator[Problem]:
        try:
            document = decode(line.data)
        except DocumentError as error:
            at = "" if error.offset is None else f", at byte {error.offset} of it"
            yield at_line(line, f"{error}{at}", _ASIDE)
            return
        self.documents += 1
        valid, messages = validate_trace(document)
        if not valid:
            yield _invalid(line, messages)
        trace_id, metadata = document.get("trace_id"), document.get("metadata")
        if isinstance(trace_id, str):
            found = blake2b(line.data, digest_size=_HASH_BYTES).digest()
            recovered = isinstance(metadata, dict) and metadata.get("recovered") is True
            yield from self._once(trace_id, line, found, is_recovered=recovered)

    def _check_long(self, item: LongLine) -> Iterator[Problem]:
        entry = entry_of(item)
        if not isinstance(entry, Entry):
            yield at_line(entry, entry.fault, _ASIDE)
            return
        stream = _Pieces(entry.pieces())
        verdict = next(validate_documents(io.BufferedReader(stream)))
        for _ in entry.pieces():
            pass  # what a fault has left unread belongs to it
        if verdict.fault is not None:
            yield at_line(item, verdict.fault, _ASIDE)
            return
        self.documents += 1
        if not verdict.valid:
            yield _invalid(item, list(verdict.messages))
        found = stream.hash.digest()
        yield from self._once(entry.trace_id, item, found, is_recovered=False)

    def _once(
        self, trace_id: str, line: Line | LongLine, found: bytes, *, is_recovered: bool
    ) -> Iterator[Problem]:
        key = key_of(trace_id)
        place = (len(self._files) - 1) << _LINE_BITS | line.number << 1 | is_recovered
        before = self.keys.setdefault(key, (place, found))
        if before == (place, found):
            return
        where = self._where(before[0])
        if before[1] == found:
            what = f"{trace_id} once more, equal to {where}"
            hint = "readers take one; 'compact --dedupe' removes the other"
            yield at_line(line, what, hint, severity="note")
        elif bool(before[0] & 1) != is_recovered:
            what = f"{trace_id} once more, recovered and not, beside {where}"
            hint = "'compact --dedupe' keeps the one that was not"
            yield at_line(line, what, hint, severity="note")
        else:
            what = f"{trace_id} once more, and not as in {where}"
            hint = "'compact --dedupe' keeps the longer one; look which is right"
            yield at_line(line, what, hint)

    def _where(self, place: int) -> str:
        number = (place & ((1 << _LINE_BITS) - 1)) >> 1
        return f"{self._files[place >> _LINE_BITS]} line {number}"


class _Pieces(io.RawIOBase):
    """Pieces as a stream, hashed on the way."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")
        self.hash = blake2b(digest_size=_HASH_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
            self.hash.update(self._left)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _invalid(line: Line | LongLine, messages: list[str]) -> Problem:
    some = ", ".join(message[:200] for message in messages[:_TOLD_MESSAGES])
    more = len(messages) - _TOLD_MESSAGES
    what = f"no valid LTF: {some}" + (f" and {more} more" if more > 0 else "")
    hint = "it can be read all the same; 'loopotel-prom validate' tells all"
    return at_line(line, what, hint)
