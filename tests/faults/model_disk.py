"""
A disk that forgets, made from the log of what a process asked of it.

The log is that of ``strace``: what was written where, which names were made, and
what was synced. Of it a `Disk` is built call by call; at any moment it can be
asked what a loss of power would leave: what was synced, and of the rest as much as
chance decides, each write and each name for itself.
"""

import codecs
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

# What to trace; with -y and -xx, so that paths and all bytes are in the log.
CALLS = (
    "openat,write,ftruncate,fallocate,fdatasync,fsync,rename,renameat,renameat2,"
    "unlink,unlinkat,mkdir,mkdirat,rmdir"
)
OPTIONS = ["-y", "-xx", "-s", "1000000"]

_CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
_UNFINISHED = " <unfinished ...>"
_RESULT = re.compile(r"\) += (?P<result>-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_OPEN = re.compile(r"^\d+<(?P<path>[^>]*)>")


@dataclass(frozen=True, slots=True)
class Call:
    """
    One system call that has returned.

    Attributes:
        name: Of the call.
        path: The file or folder.
        data: What was written.
        to: Where it was renamed.
        size: To which it was truncated.
        begun: The place in the log at which it was made; no other has it.
        ok: It succeeded.
        flags: As they were spelled.
        thread: Which made it.
    """

    name: str
    path: str
    data: bytes = b""
    to: str = ""
    size: int = 0
    begun: int = 0
    ok: bool = True
    flags: str = ""
    thread: str = ""


def read_log(path: Path) -> Iterator[Call]:
    """
    Read a log, in the order in which the calls returned.

    Of a sync that took a while, a call named ``begin`` stands where it was made.
    """
    unfinished: dict[str, tuple[int, str]] = {}
    for place, line in enumerate(path.read_text().splitlines()):
        resumed = _RESUMED.match(line)
        match = resumed or _CALL.match(line)
        if match is None:
            continue
        begun, rest = place, match["rest"]
        if resumed:
            begun, head = unfinished.pop(match["pid"])
            rest = head + rest
        elif rest.endswith(_UNFINISHED):
            rest = rest.removesuffix(_UNFINISHED)
            unfinished[match["pid"]] = (place, rest)
            opened = _OPEN.match(rest)
            if "sync" in match["name"] and opened:
                yield Call("begin", _unescaped(opened["path"]), begun=place)
            continue
        call = _call(match["name"], rest, begun)
        if call is not None:
            yield replace(call, thread=match["pid"])


def _call(name: str, rest: str, begun: int) -> Call | None:
    result = _RESULT.search(rest)
    if result is None:
        return None
    ok = int(result["result"]) >= 0
    opened = _OPEN.match(rest)
    texts = [_bytes(text) for text in _TEXT.findall(rest)]
    if opened:
        path = _unescaped(opened["path"])
        if name == "write":
            data = texts[0][: int(result["result"])] if ok and texts else b""
            return Call(name, path, data=data, begun=begun, ok=ok)
        sizes = re.findall(r", (\d+)", rest[: result.start()])
        size = int(sizes[-1]) if sizes else 0
        return Call(name, path, size=size, begun=begun, ok=ok)
    paths = [text.decode() for text in texts]
    if name.startswith("rename"):
        return Call("rename", paths[0], to=paths[1], begun=begun, ok=ok)
    name = {"unlinkat": "unlink", "mkdirat": "mkdir"}.get(name, name)
    return Call(name, paths[0], begun=begun, ok=ok, flags=rest)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _unescaped(path: str) -> str:
    if "\\x" in path:
        path = codecs.decode(path, "unicode_escape")
    return path.removesuffix(" (deleted)") if " (deleted)" not in path else ""


@dataclass(slots=True)
class _File:
    """
    The content of a file.

    Attributes:
        synced: What is on disk.
        pending: What has been asked for since: bytes to append, or a size.
        settled: How many changes there were before those.
        syncing: How many there were when a sync began that has not returned.
    """

    synced: bytes = b""
    pending: list[bytes | int] = field(default_factory=list)
    settled: int = 0
    syncing: dict[int, int] = field(default_factory=dict)

    def begin_sync(self, call: Call) -> None:
        self.syncing[call.begun] = self.settled + len(self.pending)

    def sync(self, call: Call) -> None:
        until = self.syncing.pop(call.begun, self.settled + len(self.pending))
        count = max(0, until - self.settled)
        self.synced = _applied(self.synced, self.pending[:count])
        self.pending = self.pending[count:]
        self.settled += count

    def lose(self) -> None:
        """Let a sync fail: holes are left where the pages were."""
        self.synced = _applied(
            self.synced,
            [bytes(len(p)) if isinstance(p, bytes) else p for p in self.pending],
        )
        self.settled += len(self.pending)
        self.pending = []

    def survivor(self, chance: random.Random, keep: float) -> bytes:
        """Draw what a loss of power leaves; with nothing to keep, what was synced."""
        if not keep:
            return self.synced
        kept: list[bytes | int] = []
        for change in self.pending:
            if isinstance(change, int):
                if chance.random() < keep:
                    kept.append(change)
            elif chance.random() < keep:
                kept.append(change)
            elif chance.random() < 0.5:
                # The length got there, and the bytes did not, or half of them.
                half = chance.randrange(len(change) + 1) if change else 0
                kept.append(change[:half] + bytes(len(change) - half))
            else:
                break  # neither its length nor anybody's behind it
        return _applied(self.synced, kept)


def _applied(content: bytes, changes: list[bytes | int]) -> bytes:
    for change in changes:
        if isinstance(change, bytes):
            content += change
        else:
            content = content[:change].ljust(change, b"\0")
    return content


@dataclass(slots=True)
class _Names:
    """The names in a folder, and the changes that no sync has confirmed."""

    synced: dict[str, "_File | _Names"] = field(default_factory=dict)
    now: dict[str, "_File | _Names"] = field(default_factory=dict)
    pending: list[tuple[str, "_File | _Names | None", str]] = field(
        default_factory=list
    )
    begun: dict[int, tuple[dict[str, "_File | _Names"], int]] = field(
        default_factory=dict
    )
    settled: int = 0

    def begin_sync(self, call: Call) -> None:
        changes = self.settled + len(self.pending)
        self.begun[call.begun] = (dict(self.now), changes)

    def set(self, name: str, what: "_File | _Names") -> None:
        self.now[name] = what
        self.pending.append((name, what, ""))

    def remove(self, name: str) -> None:
        self.now.pop(name, None)
        self.pending.append((name, None, ""))

    def rename(self, name: str, to: str) -> None:
        self.now[to] = self.now.pop(name)
        self.pending.append((name, self.now[to], to))

    def sync(self, call: Call) -> None:
        changes = self.settled + len(self.pending)
        names, until = self.begun.pop(call.begun, (dict(self.now), changes))
        if until >= self.settled:
            self.synced, self.pending = names, self.pending[until - self.settled :]
            self.settled = until

    def survivor(
        self, chance: random.Random, keep: float
    ) -> dict[str, "_File | _Names"]:
        """Draw the names that a loss of power leaves."""
        names = dict(self.synced)
        for name, what, to in self.pending:
            if chance.random() >= keep:
                continue
            if to and what is not None:
                # A rename is whole, or has not been.
                if names.pop(name, None) is not None or keep == 1:
                    names[to] = what
            elif what is None:
                names.pop(name, None)
            else:
                names[name] = what
        return names


class Disk:
    """
    What is at a folder, as the system shows it and as the disk has it.

    Args:
        root: A folder that is on disk, the archive's parent.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._top = _Names()

    def apply(self, call: Call) -> None:
        """Let a call have its effect."""
        path = self._relative(call.path)
        if path is None:
            return
        if not call.ok:
            # The kernel may have dropped the pages, and forgotten that.
            found = self._at(path) if call.name == "fdatasync" else None
            if isinstance(found, _File):
                found.lose()
            return
        apply = getattr(self, f"_{call.name}", None)
        if apply is not None:
            apply(path, call)

    def survivor(self, into: Path, chance: random.Random, keep: float) -> None:
        """Write what a loss of power would leave now."""
        _write(self._top, into, chance, keep)

    def _relative(self, path: str) -> tuple[str, ...] | None:
        try:
            return Path(path).relative_to(self._root).parts
        except ValueError:
            return None

    def _at(self, path: tuple[str, ...]) -> "_File | _Names | None":
        found: _File | _Names | None = self._top
        for part in path:
            found = found.now.get(part) if isinstance(found, _Names) else None
        return found

    def _folder(self, path: tuple[str, ...]) -> _Names:
        found = self._at(path[:-1])
        assert isinstance(found, _Names), path
        return found

    def _openat(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        if found is None and "O_CREAT" in call.flags:
            self._folder(path).set(path[-1], _File())
        elif isinstance(found, _File) and "O_TRUNC" in call.flags:
            found.pending.append(0)

    def _write(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        if isinstance(found, _File):
            found.pending.append(call.data)

    def _ftruncate(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        if isinstance(found, _File):
            found.pending.append(call.size)

    def _fallocate(self, path: tuple[str, ...], call: Call) -> None:
        self._ftruncate(path, call)

    def _begin(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        if found is not None:
            found.begin_sync(call)

    def _fdatasync(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        # Of a folder it need not bring anything to the disk.
        if isinstance(found, _File):
            found.sync(call)

    def _fsync(self, path: tuple[str, ...], call: Call) -> None:
        found = self._at(path)
        if found is not None:
            found.sync(call)

    def _mkdir(self, path: tuple[str, ...], _call: Call) -> None:
        self._folder(path).set(path[-1], _Names())

    def _unlink(self, path: tuple[str, ...], _call: Call) -> None:
        self._folder(path).remove(path[-1])

    def _rename(self, path: tuple[str, ...], call: Call) -> None:
        to = self._relative(call.to)
        assert to is not None
        assert to[:-1] == path[:-1], "moved to another folder"
        self._folder(path).rename(path[-1], to[-1])


def _write(names: _Names, into: Path, chance: random.Random, keep: float) -> None:
    into.mkdir(parents=True)
    for name, what in names.survivor(chance, keep).items():
        if isinstance(what, _Names):
            _write(what, into / name, chance, keep)
        else:
            (into / name).write_bytes(what.survivor(chance, keep))
