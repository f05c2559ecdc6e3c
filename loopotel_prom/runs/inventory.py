"""What stands in an archive's folder, and should not, or not like that."""

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from loopotel_prom.archive import layout
from loopotel_prom.archive.files import LOCK
from loopotel_prom.errors import ArchiveError
from loopotel_prom.runs.problem import Problem, Severity

_ROTATED = re.compile(r"traces-.+\.jsonl(\.zst|\.gz)?")
_FOLDERS = {layout.JOURNAL, layout.QUARANTINE}
_OTHERS = 0o077
# So long may a compression of one file take; no crash is to be suspected before.
_LEFTOVER_SECONDS = 3600.0
_KINDS = (
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISDIR, "a folder"),
)


def inspect(folder: Path) -> Iterator[Problem]:
    """
    Look at names, kinds and modes, and at no content.

    Raises:
        ArchiveError: The folder cannot be read.
    """
    yield from _modes(folder, folder.stat(), "700")
    names = _names(folder)
    for name in sorted(names):
        path = folder / name
        if name in _FOLDERS:
            yield from _inspect_inner(path)
        else:
            yield from _inspect_file(path, known=_is_known(name))
        if name + layout.COMPRESSED in names:
            yield _problem(
                "note",
                path,
                "stands beside its compressed copy: a crash came between",
                "the plain one is read; 'loopotel-prom archive compact' ends it",
            )


def _inspect_inner(path: Path) -> Iterator[Problem]:
    """Look into the folder of journals, or of what was put aside."""
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        hint = "move it away; nothing can be written there"
        yield _problem("damage", path, f"{_kind(status)}, not a folder", hint)
        return
    yield from _modes(path, status, "700")
    names = _names(path)
    if path.name == layout.QUARANTINE and names:
        what = f"{len(names)} files of lines that were no records"
        yield _problem("note", path, what, "remove them once they are of no use")
    for name in sorted(names):
        known = path.name == layout.QUARANTINE or name.endswith(".jsonl")
        known |= name == layout.RESERVE or name.endswith(layout.UNFINISHED)
        yield from _inspect_file(path / name, known=known)


def _inspect_file(path: Path, *, known: bool) -> Iterator[Problem]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if not known:
        hint = "move it away if it is of no use here"
        yield _problem("warning", path, "no part of an archive; left alone", hint)
        return
    if not stat.S_ISREG(status.st_mode):
        # Of sealed files and journals their readers tell it.
        if not path.name.endswith((".jsonl", ".zst", ".gz")):
            hint = "move it away; it is refused"
            yield _problem("damage", path, f"{_kind(status)}, no regular file", hint)
        return
    yield from _modes(path, status, "600")
    if path.name.endswith(layout.UNFINISHED):
        yield from _leftover(path, status)
    elif path.name == LOCK and status.st_size:
        hint = "nothing is lost, but look at what writes there"
        yield _problem("warning", path, f"{status.st_size} bytes in a lock", hint)


def _leftover(path: Path, status: os.stat_result) -> Iterator[Problem]:
    if time.time() - status.st_mtime > _LEFTOVER_SECONDS:
        hint = "'loopotel-prom archive recover' removes it"
        yield _problem("note", path, "left unfinished by a crash", hint)


def _modes(path: Path, status: os.stat_result, good: str) -> Iterator[Problem]:
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        what = f"others may use it (mode {mode:o}): traces hold what agents were told"
        yield _problem("warning", path, what, f"chmod {good} {path}")


def _is_known(name: str) -> bool:
    return (
        name in (layout.SEALED, LOCK, layout.CHECKPOINT, f"{layout.CHECKPOINT}.lock")
        or name.endswith(layout.UNFINISHED)
        or _ROTATED.fullmatch(name) is not None
    )


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208 - names are all we need
    except OSError as error:
        reason = error.strerror or str(error)
        hint = "name the folder of an archive, as a user who may read it"
        raise ArchiveError(reason, path=str(folder), hint=hint) from error


def _kind(status: os.stat_result) -> str:
    return next((name for test, name in _KINDS if test(status.st_mode)), "a device")


def _problem(severity: Severity, path: Path, what: str, hint: str) -> Problem:
    return Problem(severity, str(path), 0, 0, what, hint)
