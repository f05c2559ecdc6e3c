"""Exports as their readers see them: tables in DuckDB, records of production."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from loopotel_prom import LoopTracer, ltf
from loopotel_prom.archive.reader import Entry, read_archive
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.runs.digest import Digest, digest_of

Run = Callable[..., dict[str, Any]]
RUNS = 300


def _document(number: int) -> dict[str, Any]:
    name = ("code-repair", "research", "sql-tuning")[number % 3]
    tracer = LoopTracer(
        name,
        env_id="prod/agent",
        task_id=f"t-{number}",
        goal_target=0.8,
        trace_id=f"ltf-{uuid.UUID(int=number)}",
        metadata={"number": number},
        pipeline=Pipeline(),
    )
    with tracer as run:
        for at in range(1, number % 11 + 2):
            with run.iteration() as step:
                with step.worker(("coder", "tester")[at % 2], role="x") as worker:
                    worker.add_tokens(input=900 + at, output=at)
                    worker.add_cost(usd=0.001 * at)
                with step.evaluator("rubric", type="llm_rubric") as judge:
                    judge.score(0.05 * at)
                step.goal_score(round(0.05 * at + 0.001 * (number % 7), 3))
                if at % 4 == 0:
                    step.failure("fail.oscillation")
        run.finish(outcome="partial", termination_reason="timeout")
    return run.build_trace()


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Make an archive of 300 runs."""
    folder = tmp_path_factory.mktemp("archive") / "traces"
    folder.mkdir()
    with (folder / "traces.jsonl").open("wb") as file:
        for number in range(RUNS):
            file.write(ltf.encode(_document(number)) + b"\n")
        file.write(b"{bad\n")
    return folder


@pytest.fixture
def command(tmp_path: Path) -> Run:
    """Run a command in a folder of its own; give what it tells as JSON."""

    def run(*args: str) -> dict[str, Any]:
        done = subprocess.run(
            (sys.executable, "-m", "loopotel_prom.cli", *args, "--json"),
            cwd=tmp_path,
            capture_output=True,
            check=True,
            text=True,
            timeout=200,
        )
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    return run


def _digests(folder: Path) -> Iterator[Digest]:
    for entry in read_archive(folder):
        if isinstance(entry, Entry):
            yield digest_of(entry)


def _tables(folder: Path) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    for name in ("runs", "iterations"):
        database.from_parquet(f"{folder}/{name}.parquet").create_view(name)
    return database


def test_duckdb_finds_the_sums_of_the_archive(
    tmp_path: Path, archive: Path, command: Run
) -> None:
    """By loop, in the table of runs and in that of iterations."""
    told = command("export", "parquet", str(archive), "--output", "tables")
    digests = [*_digests(archive)]
    iterations = sum(digest.iterations or 0 for digest in digests)
    assert told == {"runs": RUNS, "iterations": iterations, "rejected": 1}
    database = _tables(tmp_path / "tables")
    for query in (
        """SELECT loop_name, count(*), sum(tokens_total), sum(cost_usd),
        sum(iteration_count), avg(les_final) FROM runs GROUP BY 1""",
        """SELECT loop_name, count(DISTINCT trace_id), sum(tokens), sum(cost_usd),
        count(*), NULL FROM iterations GROUP BY 1""",
    ):
        found = database.sql(query).fetchall()
        assert len(found) == 3
        for name, count, tokens, cost_usd, total, les in found:
            own = [digest for digest in digests if digest.loop_name == name]
            assert count == len(own)
            assert tokens == sum(digest.tokens or 0 for digest in own)
            assert cost_usd == pytest.approx(sum(d.cost_usd or 0 for d in own))
            assert total == sum(digest.iterations or 0 for digest in own)
            if les is not None:
                mean = sum(digest.les or 0 for digest in own) / len(own)
                assert les == pytest.approx(mean)


def test_duckdb_reads_times_and_lists(
    tmp_path: Path, archive: Path, command: Run
) -> None:
    """As what they are."""
    command("export", "parquet", str(archive), "--output", "tables")
    database = _tables(tmp_path / "tables")
    rows = database.sql(
        """SELECT worker, count(*) FROM
        (SELECT unnest(worker_ids) AS worker FROM iterations) GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    assert [name for name, _ in rows] == ["coder", "tester"]
    late = database.sql(
        """SELECT count(*) FROM iterations i JOIN runs r USING (trace_id)
        WHERE i.started_at < r.started_at OR i.ended_at > r.ended_at"""
    ).fetchall()
    assert late == [(0,)]
    numbers = database.sql(
        "SELECT sum(CAST(metadata_json ->> '$.number' AS INT)) FROM runs"
    ).fetchall()
    assert numbers == [(sum(range(RUNS)),)]
    codes = database.sql(
        "SELECT DISTINCT position FROM iterations WHERE len(failure_codes) > 0"
    ).fetchall()
    assert sorted(codes) == [(4,), (8,)]


def test_pandas_reads_the_tables(tmp_path: Path, archive: Path, command: Run) -> None:
    """As one reads Parquet there."""
    command("export", "parquet", str(archive), "--output", "tables")
    runs = pd.read_parquet(tmp_path / "tables/runs.parquet")
    assert len(runs) == RUNS
    assert str(runs["started_at"].dtype) == "datetime64[ns, UTC]"


def test_a_rescored_archive_is_read_as_any(
    tmp_path: Path, archive: Path, command: Run
) -> None:
    """Verified, and exported with the new target in each row."""
    compared = command("rescore", str(archive), "--goal-target", "0.5", "--output", "n")
    assert sum(loop["runs"] for loop in compared["loops"]) == RUNS
    command("archive", "verify", "n")
    command("export", "parquet", "n", "--output", "tables")
    rows = (
        _tables(tmp_path / "tables")
        .sql(
            """SELECT goal_target, avg(les_final) FROM runs
            GROUP BY loop_name, goal_target ORDER BY loop_name"""
        )
        .fetchall()
    )
    assert {target for target, _ in rows} == {0.5}
    told = [loop["les_final_mean"]["after"] for loop in compared["loops"]]
    assert [mean for _, mean in rows] == pytest.approx(told)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    """Run a store that speaks S3, which commands reach, with a bucket `exports`."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    store = s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True)
    store.mkdir("exports")
    yield store
    server.stop()


def test_exports_go_from_store_to_store(
    tmp_path: Path, archive: Path, bucket: s3fs.S3FileSystem, command: Run
) -> None:
    """The same bytes as on disk; and a store's archive is not overwritten."""
    bucket.put(str(archive / "traces.jsonl"), "exports/old/traces.jsonl")
    for source, target in ((str(archive), "."), ("s3://exports/old", "s3://exports")):
        command("rescore", source, "--goal-target", "0.5", "--output", f"{target}/new")
        command("export", "parquet", source, "--output", f"{target}/tables")
    for name in (
        "new/traces.jsonl",
        "tables/runs.parquet",
        "tables/iterations.parquet",
    ):
        assert bucket.cat_file(f"exports/{name}") == (tmp_path / name).read_bytes()
    args = ("rescore", "s3://exports/old", "--goal-target", "1")
    with pytest.raises(subprocess.CalledProcessError) as raised:
        command(*args, "--output", "s3://exports/new")
    assert "there is an archive already" in raised.value.stderr
