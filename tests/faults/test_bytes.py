"""Any bytes in the place of a journal or a sealed file: told, never a crash."""

import gzip
import json
import random
import resource
import shutil
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom.archive import layout
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.open_runs import read_open_runs
from loopotel_prom.archive.reader import Entry, read_archive
from loopotel_prom.archive.recovery import recover
from loopotel_prom.errors import LoopotelError
from loopotel_prom.validate import validate_documents

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_TRACE_IDS = [f"ltf-00000000-0000-4000-8000-{n:012x}" for n in range(3)]
_LONGEST_SECONDS = 10.0


@pytest.fixture(scope="module")
def made(_children, tmp_path_factory) -> tuple[bytes, bytes]:
    """Have a process write; give the bytes of its sealed file and its journal."""
    folder = tmp_path_factory.mktemp("made")
    status = _children.run(
        "write",
        archive=folder,
        acknowledgements=folder / "said",
        runs=2,
        iterations=5,
        keeps_open=5,
    )
    assert status == 0
    (segment,) = layout.segments(folder)
    return (folder / layout.SEALED).read_bytes(), segment.read_bytes()


# Bytes.


def _mutated(chance: random.Random, data: bytes) -> bytes:
    """Change bytes in one to five places: flip, cut out, repeat, move, insert."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        a, b = sorted(chance.choices(range(len(changed) + 1), k=2))
        b = min(b, a + chance.choice((1, 10, 1000)))
        piece = bytes(changed[a:b])
        kind = chance.randrange(5)
        if kind == 0:
            changed[a:b] = chance.randbytes(b - a)
        elif kind == 1:
            del changed[a:b]
        elif kind == 2:
            changed[a:a] = piece * chance.randrange(1, 5)
        elif kind == 3:
            del changed[a:b]
            place = chance.randrange(len(changed) + 1)
            changed[place:place] = piece
        else:
            changed[a:a] = chance.choice(
                (b"\n", b"\0" * 50, b'{"', b"\xff\xfe", b"[" * 2000)
            )
    return bytes(changed)


def _garbage(chance: random.Random) -> bytes:
    size = int(10 ** chance.uniform(0, 5))
    kind = chance.randrange(3)
    if kind == 0:
        return chance.randbytes(size)
    if kind == 1:
        return bytes(size)
    return bytes(
        chance.choices(b'{}[]",:\\n0123456789.eE-+truefalsn "seq span crc', k=size)
    )


def _value(chance: random.Random, depth: int = 0) -> Any:
    """Draw a JSON value that nobody expects."""
    simple = (
        None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 10**400, 0.5, -0.0,
        1e308, 1e-320, "", "x", "loop", "iteration", "\ud800", "\x00\n\u2028", "9" * 99,
        _TRACE_IDS[0], "f" * 16, 253_402_300_800 * 10**9, 1_700_000_000_000_000_000,
    )  # fmt: skip
    if depth > 3 or chance.random() < 0.8:
        return chance.choice(simple)
    few = range(chance.randrange(4))
    if chance.random() < 0.5:
        return [_value(chance, depth + 1) for _ in few]
    return {str(_value(chance, 9)): _value(chance, depth + 1) for _ in few}


def _span(chance: random.Random) -> dict[str, Any]:
    """Draw a span that is good but for a member or three."""
    kind = chance.choice(("loop", "iteration", "worker", "evaluator"))
    span: dict[str, Any] = {
        "kind": kind,
        "trace_id": chance.choice(_TRACE_IDS),
        "span_id": f"{chance.randrange(2**64):016x}",
        "start_ns": 1_700_000_000_000_000_000 + chance.randrange(10**9),
        "parent_span_id": "1" * 16,
        "attributes": {},
    }
    span["end_ns"] = span["start_ns"] + chance.randrange(10**9)
    if kind == "loop":
        span |= {"loop_name": "forged-loop", "goal_target": 0.9, "metadata": {}}
    if kind == "iteration":
        span |= {"iteration": 1, "goal_score": 0.4, "goal_target": 0.9}
        span |= {"effectiveness": None, "les_cumulative": 0.0, "tokens_delta": 5}
    optional = ("task_id", "error_type", "events", "cost_usd", "latency_ms", "outcome")
    for _ in range(chance.randrange(4)):
        span[chance.choice((*span, *optional))] = _value(chance)
    return span


def _forged(chance: random.Random) -> bytes:
    """Write a journal whose checksums hold and whose contents are anything."""
    lines = []
    for _ in range(chance.randrange(1, 12)):
        record: Any = {"seq": chance.randrange(5), "span": _span(chance)}
        if chance.random() < 0.3:
            record[chance.choice(("seq", "span", "sealed", "journal"))] = _value(chance)
        if chance.random() < 0.1:
            record = {"sealed": chance.choice(_TRACE_IDS)}
        body = json.dumps(record)[:-1].encode(errors="surrogatepass")
        if chance.random() < 0.02:
            body = b'{"seq":1,"span":' + b"[" * 100_000
        lines.append(body + b',"crc":"%08x"}\n' % zlib.crc32(body))
    return b"".join(lines)


# What is done with them.


def _read(folder: Path) -> Counter:
    """Read all that there is in each way there is; tell what came of it."""
    found: Counter = Counter()
    begin = time.process_time()
    for look in (_documents, _verdicts, _open_runs, _recovered):
        try:
            found.update(look(folder))
        except LoopotelError:
            found["refused"] += 1
    found.update(_documents(folder))
    # Of this process alone: others may keep the machine from it.
    assert time.process_time() - begin < _LONGEST_SECONDS
    return found


def _documents(folder: Path) -> Counter:
    found: Counter = Counter()
    for item in read_archive(folder):
        if not isinstance(item, Entry):
            found["bad lines"] += 1
            continue
        try:
            found["spans"] += sum(1 for _ in DocumentStream(item.line).spans())
        except LoopotelError:
            found["bad documents"] += 1
    return found


def _verdicts(folder: Path) -> Counter:
    files = [path for path in folder.iterdir() if path.is_file()]
    return Counter(
        "valid" if verdict.valid else "invalid"
        for path in files
        for verdict in validate_documents(path)
    )


def _open_runs(folder: Path) -> Counter:
    return Counter(type(each).__name__ for each in read_open_runs(folder))


def _recovered(folder: Path) -> Counter:
    return Counter({"recovered": len(recover(folder).runs)})


def _place(folder: Path, name: str, data: bytes) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    path = folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return folder


_SOURCES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "garbage": lambda chance, _: _garbage(chance),
    "a mutation": _mutated,
    "forged records": lambda chance, _: _forged(chance),
}


@pytest.mark.parametrize("kind", _SOURCES)
def test_any_bytes_may_be_a_journal(kind, made, count, report, tmp_path):
    """Recovery makes valid documents of what is there, and puts the rest aside."""
    chance = random.Random(44)
    times, recovered = count(60, 3_000), 0
    for _ in range(times):
        data = _SOURCES[kind](chance, made[1])
        folder = _place(tmp_path / "archive", "journal/anyone.1.jsonl", data)
        before = data.count(b"\n")
        found = _read(folder)
        assert not found["refused"], "recovery, or reading, gave up"
        assert not layout.segments(folder)
        sealed = folder / layout.SEALED
        for verdict in validate_documents(sealed) if sealed.exists() else ():
            assert verdict.valid, (verdict.fault, verdict.messages, before)
        recovered += found["recovered"]
    report(44, f"{kind} as a journal", count=times, runs=recovered)


@pytest.mark.parametrize("kind", ("garbage", "a mutation"))
@pytest.mark.parametrize("ending", ("", ".zst", ".gz"))
def test_any_bytes_may_be_a_sealed_file(kind, ending, made, count, report, tmp_path):
    """What is no document is told; nothing but our own errors is raised."""
    chance = random.Random(44)
    times, found = count(40, 2_000), Counter()
    name = layout.SEALED if not ending else f"traces-20260101T000000Z-1.jsonl{ending}"
    pack = {"": bytes, ".zst": zstd.compress, ".gz": gzip.compress}[ending]
    packed = pack(made[0])
    for _ in range(times):
        if chance.random() < 0.5:
            data = _SOURCES[kind](chance, packed)
        else:
            data = pack(_SOURCES[kind](chance, made[0]))
        found += _read(_place(tmp_path / "archive", name, data))
    report(
        44,
        f"{kind} as a sealed file{ending and ', ' + ending}",
        count=times,
        bad_lines=found["bad lines"],
        good_documents=found["valid"],
    )


# Files that are made to fill a memory or an evening.

_BOMBS = {
    "one line of one letter": (b"x" * 2**20, 400),
    "blank lines": (b"\n" * 2**20, 200),
    "open brackets": (b"[" * 2**20, 400),
    "spaces": (b" " * 2**20, 400),
    "a string without end": (b'{"trace_id":"' + b"a" * 2**20, 400),
    "one trace id and its metadata": (
        b'{"trace_id":"%b","metadata":{"a":"' % _TRACE_IDS[0].encode() + b"b" * 2**20,
        400,
    ),
}
_READ = """
import re, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_bytes
print(dict(test_bytes._documents(Path(sys.argv[1]))))
print(dict(test_bytes._recovered(Path(sys.argv[1]))))
# Its own: what getrusage tells may be that of who has forked it.
print(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
"""
_MOST_KB = 700_000


@pytest.mark.parametrize("kind", _BOMBS)
def test_a_bomb_is_read_in_bounded_memory(kind, count, report, tmp_path):
    """A few KB that unpack to hundreds of MB; it is refused, or read in pieces."""
    piece, times = _BOMBS[kind]
    packers = {".zst": zstd.open, ".gz": gzip.open}
    for ending in (".zst", ".gz")[: count(1, 2)]:
        folder = tmp_path / ending
        folder.mkdir()
        path = folder / f"traces-20260101T000000Z-1.jsonl{ending}"
        with packers[ending](path, "wb") as file:
            for _ in range(count(times // 8, times)):
                file.write(piece)
        size = path.stat().st_size
        took, most_kb = _read_apart(folder)
        assert most_kb < _MOST_KB
        assert took < 60
        figures = {"packed_bytes": size, "memory_mb": most_kb // 1024, "took_s": took}
        report(44, f"bomb of {kind}, {ending}", count=1, **figures)


def _read_apart(folder: Path) -> tuple[float, int]:
    """Read in a process of its own; tell how long it took, and its memory."""
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", _READ, str(folder), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=_limited,
    )
    assert ended.returncode == 0, ended.stderr
    return time.monotonic() - begin, int(ended.stdout.split()[-1])


def _limited() -> None:
    """See that a bomb that goes off ends the child alone."""
    limit = 4 * 1024**3
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
