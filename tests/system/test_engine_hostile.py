"""An archive of all that goes wrong: good records come out, the rest is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom.archive.lines import zstd

FULL = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
LONG_BYTES = 105_000_000


def _id(number: int) -> str:
    return f"ltf-{number:08x}-0000-4000-8000-000000000000"


def _document(number: int, **changes: Any) -> bytes:
    return json.dumps(FULL | {"trace_id": _id(number)} | changes).encode() + b"\n"


def _write_long(path: Path, number: int) -> None:
    """Write a document of many iterations, and a line of that length that is none."""
    root, iteration, *_ = FULL["spans"]
    head = {name: FULL[name] for name in FULL if name != "spans"}
    spelled = json.dumps(head | {"trace_id": _id(number)})[:-1] + ', "spans": ['
    with path.open("wb") as file:
        file.write(spelled.encode() + json.dumps(root).encode())
        at = 0
        while file.tell() < LONG_BYTES:
            at += 1
            attributes = iteration["attributes"] | {"loop.iteration": at}
            span = iteration | {"span_id": f"{at:016x}", "attributes": attributes}
            file.write(b"," + json.dumps(span).encode())
        file.write(b"]}\n")
        for _ in range(105):
            file.write(b"x" * 1_000_000)
        file.write(b"\n" + _document(7))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make it."""
    folder = tmp_path / "traces"
    folder.mkdir()
    name = "traces-2026010{}T000000Z-aa.jsonl"
    (folder / name.format(1)).write_bytes(
        _document(1)
        + b"{bad\n\xff\xfe\n\n[]\n"
        + _document(2, spans=[])
        + _document(2)
        + _document(1, outcome="failure")
        + _document(3, schema_version="ltf/9.9")
        + _document(4, spans="none")
    )
    noise = [_document(n, metadata={"n": f"{n**99:x}"}) for n in range(100, 3000)]
    packed = zstd.compress(b"".join(noise))
    (folder / (name.format(2) + ".zst")).write_bytes(packed[: len(packed) // 2])
    flipped = bytearray(zstd.compress(_document(5)))
    flipped[len(flipped) // 2] ^= 0xFF
    (folder / (name.format(3) + ".zst")).write_bytes(flipped)
    _write_long(folder / name.format(4), 6)
    (folder / "traces.jsonl").write_bytes(_document(8) + _document(9)[:-100])
    return folder


def _export(command: Callable, folder: Path, *options: str) -> list[bytes]:
    folder.mkdir()
    child = command(
        *("export", "loopnet", "../traces", "--goal", "repair the code at hand"),
        *("--output", "r", "--rejects", "bad", "--json", *options),
        cwd=folder,
    )
    assert child.wait(200) == 0, child.tail()
    assert "Traceback" not in child.output()
    return [(folder / name).read_bytes() for name in ("r", "bad")]


def test_good_records_come_out_and_the_rest_is_named(
    tmp_path: Path, archive: Path, command: Callable
) -> None:
    """The same from one process and from two, by shards of any size."""
    records, rejects = _export(command, tmp_path / "one", "--engine", "none")
    options = ("--jobs", "2", "--shard-bytes", "700000")
    assert _export(command, tmp_path / "two", *options) == [records, rejects]

    ids = [
        int(json.loads(line)["record_id"][3:11], 16) for line in records.splitlines()
    ]
    torn = [number for number in ids if number >= 100]
    assert ids == [1, 2, *range(100, 100 + len(torn)), 6, 7, 8]
    assert torn
    told = [json.loads(line) for line in rejects.splitlines()]
    places = [(Path(one["file"]).name[7:15], one["line"]) for one in told]
    assert places[:5] == [("20260101", n) for n in (2, 3, 5, 9, 10)]
    assert [name for name, _ in places[5:]] == [
        "20260102",
        "20260103",
        "20260104",
        "jsonl",
    ]
    assert [one["trace_id"] for one in told[3:5]] == [_id(3), _id(4)]
