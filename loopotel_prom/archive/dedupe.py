"""
Rewriting complete sealed files without second copies and unreadable lines.

Of the copies of a run the one stays that was not recovered, else the one with
more spans, else the first. `traces.jsonl` is left alone: others write to it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.files import Advance, RegularFile, read_file
from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.layout import QUARANTINE, UNFINISHED, rotated_files
from loopotel_prom.archive.lines import BadLine, Item, Line
from loopotel_prom.archive.reader import Entry, Seen, entry_of
from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.ltf import decode

_NEW = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_Rank = tuple[bool, int]
# Of each run with copies: the rank of the one that stays, and where it is.
_Best = dict[str, tuple[_Rank, Path, int]]


@dataclass(slots=True)
class Deduped:
    """
    What was done.

    Attributes:
        files: Files that were rewritten.
        copies: Second copies that are gone.
        quarantined: Lines that are no documents, moved to `quarantine/`.
        left: Files that are damaged beyond single lines, or in use: untouched.
    """

    files: int = 0
    copies: int = 0
    quarantined: int = 0
    left: int = 0


def dedupe(folder: Path, *, advance: Advance | None = None) -> Deduped:
    """
    Rewrite the files that need it, each in one step that a crash cannot halve.

    What was compressed is plain afterwards. Killed at any point, it can be
    repeated. A run costs 16 bytes of its id, and one with copies its rank too.

    Raises:
        ArchiveError: A file cannot be read or written; it is as it was.
    """
    result = Deduped()
    try:
        files = rotated_files(folder)
        seen, doubled, affected = Seen(), set[str](), set[Path]()
        for path in files:
            for item in _read(path, advance):
                trace_id = _trace_id(item)
                if trace_id is None:
                    affected.add(path)
                elif not seen.add(trace_id):
                    doubled.add(trace_id)
        best = _best(files, doubled)
        losers = {path for path in files if _has_loser(path, best)} if best else set()
        for path in sorted(affected | losers):
            _rewrite(path, best, result)
    except OSError as error:
        if isinstance(error, ArchiveError):
            raise
        raise ArchiveError(
            f"cannot rewrite: {error.strerror or error}",
            path=str(error.filename or folder),
            hint="the files are as they were; see to it, then run it again",
            errno=error.errno,
        ) from error
    return result


def _read(path: Path, advance: Advance | None = None) -> Iterator[Item]:
    """Read a file that is there and regular; another is no business of ours."""
    try:
        file = RegularFile(path, advance)
    except OSError:
        return
    with file:
        yield from read_file(file)


def _trace_id(item: Item) -> str | None:
    """Tell whose document a line is; None if it is none."""
    if isinstance(item, Line):
        try:
            found = decode(item.data).get("trace_id")
        except DocumentError:
            return None
        return found if isinstance(found, str) else None
    entry = entry_of(item)
    return entry.trace_id if isinstance(entry, Entry) else None


def _best(files: list[Path], doubled: set[str]) -> _Best:
    """Choose, for each run with copies, the one that stays."""
    best: _Best = {}
    for path in files if doubled else ():
        for item in _read(path):
            entry = entry_of(item)
            if isinstance(entry, BadLine) or entry.trace_id not in doubled:
                continue
            rank = _rank(entry)
            if entry.trace_id not in best or rank > best[entry.trace_id][0]:
                best[entry.trace_id] = (rank, path, item.number)
    return best


def _rank(entry: Entry) -> _Rank:
    stream = DocumentStream(entry.line)
    try:
        for _ in stream.batches():
            pass
    except DocumentError:
        return (False, -1)
    metadata = stream.fields.get("metadata")
    is_recovered = isinstance(metadata, dict) and metadata.get("recovered") is True
    return (not is_recovered, stream.span_count or 0)


def _has_loser(path: Path, best: _Best) -> bool:
    return any(_loses(_trace_id(item), item.number, path, best) for item in _read(path))


def _loses(trace_id: str | None, number: int, path: Path, best: _Best) -> bool:
    chosen = best.get(trace_id) if trace_id is not None else None
    return chosen is not None and chosen[1:] != (path, number)


def _rewrite(path: Path, best: _Best, result: Deduped) -> None:
    """Write anew what stays, put it in the place of the file, then let go of that."""
    plain = path.with_name(path.name.removesuffix(".zst").removesuffix(".gz"))
    unfinished = plain.with_name(plain.name + UNFINISHED)
    with ExitStack() as stack:
        source = stack.enter_context(_claimed(path))
        if source is None or (plain != path and plain.exists()):
            result.left += 1
            return
        stack.callback(unfinished.unlink, missing_ok=True)
        copied = _copy(path, source, unfinished, best)
        if copied is None:
            result.left += 1
            return
        if copied.kept:
            unfinished.replace(plain)
        else:
            path.unlink()
        sync_folder(path.parent)
        if plain != path and copied.kept:
            path.unlink()
            sync_folder(path.parent)
        result.files += 1
        result.copies += copied.dropped
        result.quarantined += copied.aside


@dataclass(slots=True)
class _Copied:
    kept: int = 0
    dropped: int = 0
    aside: int = 0


def _copy(
    path: Path,
    source: RegularFile,
    target: Path,
    best: _Best,
) -> _Copied | None:
    """Copy and sync what stays; None if the file cannot be read to its end."""
    done = _Copied()
    with _created(target) as file, _Aside(path) as aside:
        for item in read_file(source):
            if isinstance(item, BadLine):
                return None
            if isinstance(item, Line) and _trace_id(item) is None:
                aside.add(item.data)
                done.aside += 1
                continue
            entry = entry_of(item)
            if isinstance(entry, BadLine):
                return None  # too long to be put aside
            if _loses(entry.trace_id, item.number, path, best):
                done.dropped += 1
            else:
                done.kept += 1
                for piece in entry.pieces():
                    _write(file, piece)
                _write(file, b"\n")
        os.fsync(file)
        aside.sync()
    return done


class _Aside:
    """The file in `quarantine/` for the lines of another; made with the first."""

    def __init__(self, path: Path) -> None:
        self._path = path.parent / QUARANTINE / path.name
        self._file: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            os.close(self._file)

    def add(self, line: bytes) -> None:
        if self._file is None:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            # What stands there already is never lost; an attempt that was killed
            # may have its lines there twice.
            self._file = os.open(self._path, _NEW | os.O_APPEND, 0o600)
        _write(self._file, line + b"\n")

    def sync(self) -> None:
        if self._file is not None:
            os.fsync(self._file)
            sync_folder(self._path.parent)
            sync_folder(self._path.parent.parent)


@contextmanager
def _claimed(path: Path) -> Iterator[RegularFile | None]:
    """Open and lock a file; None if another is at it, or it is gone."""
    try:
        file = RegularFile(path)
    except FileNotFoundError:
        yield None
        return
    with file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(file.status(), path.lstat())
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        yield file if is_there else None


@contextmanager
def _created(path: Path) -> Iterator[int]:
    path.unlink(missing_ok=True)
    file = os.open(path, _NEW | os.O_EXCL, 0o600)
    try:
        # Recovery removes what is unfinished and not locked.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file
    finally:
        os.close(file)


def _write(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
