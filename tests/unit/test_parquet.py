"""Parquet tables: the rows of documents, in frozen columns."""

import io
import json
import random
import subprocess
import sys
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom import ltf
from loopotel_prom.archive.lines import BadLine, Line, LongLine
from loopotel_prom.archive.reader import Entry, entry_of
from loopotel_prom.engine import Engine, run
from loopotel_prom.errors import DocumentError, MissingExtraError
from loopotel_prom.exporter.parquet.columns import ITERATIONS, RUNS
from loopotel_prom.exporter.parquet.rows import Row, RunRows

ROOT = Path(__file__).parents[2]
FULL: dict[str, Any] = json.loads((ROOT / "specs/examples/full.good.json").read_bytes())


def _entry(document: dict[str, Any]) -> Entry:
    entry = entry_of(Line("t.jsonl", 1, 0, ltf.encode(document)))
    assert isinstance(entry, Entry)
    return entry


def _rows(entry: Entry) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rows = RunRows(entry)
    steps = [_named(row, ITERATIONS) for row in rows.iterations()]
    return _named(rows.run(), RUNS), steps


def _named(row: Row, columns: dict[str, Any]) -> dict[str, Any]:
    return dict(zip(columns, row, strict=True))


def test_the_specification_has_the_columns_as_they_are() -> None:
    """Names, types and order."""
    lines = (ROOT / "specs/parquet.md").read_text().splitlines()
    for title, columns in (("runs", RUNS), ("iterations", ITERATIONS)):
        begin = lines.index(f"## `{title}.parquet`") + 4
        cells = [line.split(" | ") for line in lines[begin : begin + len(columns)]]
        told = {row[0].strip("|` "): row[1] for row in cells}
        assert [*told.items()] == [*columns.items()]
        assert not lines[begin + len(columns)]


def test_the_example_becomes_its_rows() -> None:
    """All of it."""
    run_row, (step,) = _rows(_entry(FULL))
    assert run_row["trace_id"] == step["trace_id"] == FULL["trace_id"]
    assert run_row["duration_seconds"] == 9.0
    assert (run_row["iteration_count"], run_row["tokens_total"]) == (1, 1110)
    assert run_row["goal_score_final"] == step["goal_score"] == 0.84
    assert (step["worker_ids"], step["evaluator_ids"]) == (["implementer"], ["rubric"])
    assert step["latency_seconds"] == 7.0
    assert json.loads(run_row["metadata_json"]) == FULL["metadata"]


def _iteration(position: int, **attributes: Any) -> dict[str, Any]:
    return {
        "span_id": f"{position:016x}",
        "parent_span_id": FULL["spans"][0]["span_id"],
        "name": "loop.iteration",
        "kind": "iteration",
        "start_time": "2026-03-02T09:00:01.123456Z",
        "end_time": "2026-03-02T09:00:02Z",
        "attributes": {"loop.iteration": position} | attributes,
        "events": [],
    }


def _document(number: int, *steps: dict[str, Any], **changes: Any) -> dict[str, Any]:
    spans = [FULL["spans"][0], *steps]
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return FULL | {"trace_id": trace_id, "spans": spans} | changes


def test_what_is_unknown_is_null() -> None:
    """And what has another type than the format gives it."""
    odd = {"loop.goal_score": "high", "loop.tokens_delta": -1, "loop.cost_usd": None}
    step = _iteration(1, **odd) | {"start_time": "yesterday", "end_time": 7}
    document = _document(1, step, started_at="9999-12-31T00:00:00Z", metadata=[])
    run_row, (row,) = _rows(_entry(document))
    names = ("goal_score", "tokens", "cost_usd", "started_at", "ended_at")
    assert [row[name] for name in names] == [None] * 5
    assert (run_row["started_at"], run_row["duration_seconds"]) == (None, None)
    assert (run_row["cost_usd"], run_row["metadata_json"]) == (None, "{}")


def test_spans_within_an_iteration_name_workers() -> None:
    """Each once, whether there is an event of its end or none."""
    worker = {
        **_iteration(7),
        "kind": "worker",
        "parent_span_id": f"{1:016x}",
        "attributes": {"loop.worker.id": "tester"},
    }
    document = _document(
        1, _iteration(1, **{"loop.worker.id": "coder"}), worker, worker, _iteration(2)
    )
    run_row, steps = _rows(_entry(document))
    assert [step["worker_ids"] for step in steps] == [["coder", "tester"], []]
    assert run_row["worker_ids"] == ["coder", "tester"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    (
        ({"spans": None}, "it has no array of spans"),
        ({"schema_version": "ltf/9"}, "its schema_version is 'ltf/9'"),
    ),
)
def test_a_document_of_another_format_is_refused(
    changes: dict[str, Any], fault: str
) -> None:
    """With its reason."""
    with pytest.raises(DocumentError, match=fault):
        _rows(_entry(FULL | changes))


def _archive(folder: Path, runs: int) -> Path:
    """Make an archive; one of its runs is too long to be handed over as it is."""
    draw = random.Random(4)
    folder.mkdir()
    with (folder / "traces.jsonl").open("wb") as file:
        for number in range(runs):
            length = 9000 if number == 7 else draw.randint(1, 60)
            scores = [round(draw.random(), 4) for _ in range(length)]
            steps = [
                _iteration(at, **{"loop.goal_score": score, "loop.cost_usd": 0.01})
                for at, score in enumerate(scores, start=1)
            ]
            file.write(ltf.encode(_document(number, *steps)) + b"\n")
    return folder


def _write(folder: Path, engine: Engine) -> tuple[bytes, bytes]:
    from loopotel_prom.exporter.parquet import (  # noqa: PLC0415 - needs pyarrow
        RowsJob,
        TableWriter,
    )

    runs, iterations = io.BytesIO(), io.BytesIO()
    with TableWriter(runs, RUNS) as first, TableWriter(iterations, ITERATIONS) as other:
        for done in run(RowsJob(), folder, engine=engine):
            assert not isinstance(done, BadLine)
            first.add_rows([done.value.run])
            other.add_rows(done.value.iterations)
            if done.value.packed:
                other.add_packed(done.value.packed)
    return runs.getvalue(), iterations.getvalue()


def test_each_engine_writes_the_same_bytes(tmp_path: Path) -> None:
    """In this process or in others, in one piece or in many."""
    pytest.importorskip("pyarrow")
    folder = _archive(tmp_path / "traces", 60)
    expected = _write(folder, Engine())
    with ProcessPoolExecutor(2) as pool:
        assert _write(folder, Engine(pool, shard_bytes=100_000)) == expected
    assert _write(folder, Engine(shard_bytes=5000)) == expected


def test_row_groups_have_one_size(tmp_path: Path) -> None:
    """However the rows come, and the last has what is left."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    from loopotel_prom.exporter.parquet import TableWriter  # noqa: PLC0415

    row = tuple(RunRows(_entry(FULL)).run())
    file = io.BytesIO()
    with TableWriter(file, RUNS) as table:
        for size in (1, 65_535, 3, 70_000):
            table.add_rows([row] * size)
    found = pq.ParquetFile(file).metadata
    sizes = [found.row_group(at).num_rows for at in range(found.num_row_groups)]
    assert sizes == [65_536, 65_536, 4467]


def test_an_empty_archive_gives_tables_with_columns_only() -> None:
    """Readable ones."""
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra

    from loopotel_prom.exporter.parquet import TableWriter  # noqa: PLC0415

    file = io.BytesIO()
    with TableWriter(file, ITERATIONS):
        pass
    table = pq.read_table(file)
    assert (table.num_rows, table.column_names) == (0, [*ITERATIONS])


def test_a_long_document_takes_constant_memory() -> None:
    """Three times the iterations, no more memory beyond what is handed over."""
    pytest.importorskip("pyarrow")
    from loopotel_prom.exporter.parquet import RowsJob  # noqa: PLC0415

    def peak(iterations: int) -> int:
        step = ltf.encode(_iteration(1, **{"loop.goal_score": 0.5}))
        head, _, _ = ltf.encode(_document(1)).partition(b'"spans":[')
        first = ltf.encode(FULL["spans"][0])

        def pieces() -> Any:
            yield head + b'"spans":[' + first
            for _ in range(iterations):
                yield b"," + step
            yield b'],"metadata":{}}'

        entry = _entry(_document(1))
        line = LongLine("t.jsonl", 1, 0, pieces())
        tracemalloc.start()
        rows = RowsJob()(Entry(entry.trace_id, entry.head, line))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert rows.count == iterations
        return used - len(rows.packed)

    peak(100)
    assert peak(60_000) < 1.2 * peak(20_000) + 1_000_000


def test_without_pyarrow_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before anything is read."""
    from loopotel_prom.exporter.parquet import require_pyarrow  # noqa: PLC0415

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"install loopotel-prom\[parquet\]"):
        require_pyarrow()


def test_no_folder_is_made_in_an_archive_that_is_read(tmp_path: Path) -> None:
    """What is refused leaves nothing."""
    pytest.importorskip("pyarrow")
    command = (sys.executable, "-m", "loopotel_prom.cli", "export", "parquet")
    done = subprocess.run(
        (*command, str(tmp_path), "--output", f"{tmp_path}/new"),
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, "being read" in done.stderr) == (2, True)
    assert not (tmp_path / "new").exists()
