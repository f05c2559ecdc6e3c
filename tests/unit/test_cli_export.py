"""The command `loopotel-prom export loopnet`, run as its users run it."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom.archive.lines import BadLine, zstd
from loopotel_prom.cli.rejects import Rejects

FULL = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
GOAL = ("--goal", "repair the code at hand")

Run = Callable[..., subprocess.CompletedProcess[str]]


def _document(number: int, **changes: Any) -> bytes:
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return json.dumps(FULL | {"trace_id": trace_id} | changes).encode() + b"\n"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of three runs, one of them twice, and three bad lines."""
    folder = tmp_path / "traces"
    folder.mkdir()
    old = _document(1) + b"{bad\n" + _document(2)
    (folder / "traces-20260101T000000Z-1-aa.jsonl.zst").write_bytes(zstd.compress(old))
    new = _document(1) + _document(3, spans=[]) + _document(4) + b"[1]\n"
    (folder / "traces.jsonl").write_bytes(new)
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Run:
    """Run the command in a folder of its own; it must never traceback."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", "export", "loopnet", *args],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def _ids(text: str) -> list[int]:
    return [int(json.loads(line)["record_id"][3:11], 16) for line in text.splitlines()]


def test_each_run_is_exported_once(archive: Path, export: Run) -> None:
    """In the order of the archive, which is the default one."""
    done = export("--output", "-", *GOAL)
    assert done.returncode == 0
    assert _ids(done.stdout) == [1, 2, 4]


def test_the_counts_end_it(archive: Path, export: Run) -> None:
    """On standard error, behind what was rejected."""
    *rejected, counts = export("--output", "r.jsonl", *GOAL).stderr.splitlines()
    assert counts.startswith("3 records (3 success, ")
    assert counts.endswith("), 3 rejected")
    assert [line.split(": ")[0] for line in rejected] == ["rejected"] * 3


def test_a_second_export_has_the_same_bytes(
    tmp_path: Path, archive: Path, export: Run
) -> None:
    """Records and rejects."""
    for name in "ab":
        export("traces", "--output", name, "--rejects", f"{name}-rejects", *GOAL)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != b""
    first, second = (tmp_path / f"{name}-rejects" for name in "ab")
    assert first.read_bytes() == second.read_bytes() != b""


@pytest.mark.parametrize(
    "options",
    (
        ("--engine", "none"),
        ("--jobs", "1"),
        ("--jobs", "2", "--shard-bytes", "3000"),
        ("--engine", "process", "--shard-bytes", "1000"),
    ),
)
def test_whoever_works_writes_the_same(
    tmp_path: Path, archive: Path, export: Run, options: tuple[str, ...]
) -> None:
    """Records, rejects and counts."""
    one = export("--output", "a", "--rejects", "a-rejects", *GOAL)
    two = export("--output", "b", "--rejects", "b-rejects", *GOAL, *options)
    assert two.stderr == one.stderr
    for name in ("{}", "{}-rejects"):
        first, second = (tmp_path / name.format(letter) for letter in "ab")
        assert first.read_bytes() == second.read_bytes() != b""


def test_a_bad_copy_does_not_hide_a_good_one(tmp_path: Path, export: Run) -> None:
    """Wherever it stands; nothing is rejected then."""
    lines = _document(1, spans=[]) + _document(1) + _document(1, spans=[])
    (tmp_path / "t.jsonl").write_bytes(lines)
    done = export("t.jsonl", "--output", "-", "--strict", *GOAL)
    assert (done.returncode, _ids(done.stdout)) == (0, [1])


def test_rejects_are_named(tmp_path: Path, archive: Path, export: Run) -> None:
    """By file, line, byte and run, with the reason."""
    done = export("--output", "r", "--rejects", "bad", *GOAL)
    first, second, third = map(json.loads, (tmp_path / "bad").read_text().splitlines())
    assert len(done.stderr.splitlines()) == 1
    assert (first["line"], first["trace_id"]) == (2, None)
    assert second == {
        "file": "traces/traces.jsonl",
        "line": 2,
        "offset": len(_document(1)),
        "trace_id": "ltf-00000003-0000-4000-8000-000000000000",
        "reason": "it has no iteration",
    }
    assert "a JSON object is needed" in third["reason"] or "no LTF" in third["reason"]


def test_strict_tells_by_its_exit_code(archive: Path, export: Run) -> None:
    """The records are written all the same."""
    done = export("--output", "-", "--strict", *GOAL)
    assert (done.returncode, _ids(done.stdout)) == (1, [1, 2, 4])


def test_strict_is_content_with_good_runs(tmp_path: Path, export: Run) -> None:
    """Nothing was rejected."""
    (tmp_path / "t.jsonl").write_bytes(_document(1))
    assert export("t.jsonl", "--output", "-", "--strict", *GOAL).returncode == 0


@pytest.mark.parametrize("target", ("-", "r.jsonl"))
def test_json_gives_the_counts(archive: Path, export: Run, target: str) -> None:
    """On standard output, unless the records are there."""
    done = export("--output", target, "--rejects", "bad", "--json", *GOAL)
    counts = json.loads(done.stderr if target == "-" else done.stdout)
    assert (counts["records"], counts["rejected"]) == (3, 3)
    assert counts["outcome"] == {"success": 3}
    assert sum(counts["split"].values()) == 3


def test_an_export_that_fails_leaves_nothing(
    tmp_path: Path, archive: Path, export: Run
) -> None:
    """The file of an earlier one stays as it was."""
    (tmp_path / "r.jsonl").write_text("earlier")
    done = export("traces", "missing", "--output", "r.jsonl", *GOAL)
    assert (done.returncode, "missing: " in done.stderr) == (1, True)
    assert (tmp_path / "r.jsonl").read_text() == "earlier"
    assert {path.name for path in tmp_path.iterdir()} == {"r.jsonl", "traces"}


@pytest.mark.parametrize("option", ("--output", "--rejects"))
def test_an_archive_is_not_written_into(
    archive: Path, export: Run, option: str
) -> None:
    """Least of all over what is being read."""
    before = (archive / "traces.jsonl").read_bytes()
    others = () if option == "--output" else ("--output", "r")
    done = export(option, "traces/traces.jsonl", *others, *GOAL)
    assert done.returncode == 2
    assert (archive / "traces.jsonl").read_bytes() == before


def test_rejects_do_not_take_the_place_of_the_records(
    archive: Path, export: Run, tmp_path: Path
) -> None:
    """However the same file is spelled."""
    done = export("--output", "r", "--rejects", f"{tmp_path}/traces/../r", *GOAL)
    assert (done.returncode, "are the same" in done.stderr) == (2, True)
    assert not (tmp_path / "r").exists()


def test_a_folder_that_is_missing_is_told_by_the_name_that_was_typed(
    archive: Path, export: Run
) -> None:
    """Not by that of a file in the making."""
    done = export("--output", "none/r", *GOAL)
    assert done.returncode == 2
    assert "none/r: there is no folder" in done.stderr
    assert "unfinished" not in done.stderr


def test_a_message_has_no_password_of_a_url(archive: Path, export: Run) -> None:
    """Logs keep what the command says."""
    pytest.importorskip("fsspec")
    url = "nosuch://bob:swordfish@127.0.0.1/traces"
    done = export(url, "--output", "r", *GOAL)
    assert (done.returncode, "swordfish" in done.stderr) == (2, False)
    assert "nosuch://***@127.0.0.1/traces" in done.stderr


def test_rejects_have_no_password_of_a_url(tmp_path: Path) -> None:
    """Nor what the reason quotes."""
    url = "s3://bob:swordfish@host/traces"
    with (tmp_path / "bad").open("wb") as file:
        Rejects(file).add(BadLine(url, 1, 0, f"{url} is gone"))
    told = json.loads((tmp_path / "bad").read_text())
    assert told["file"] == "s3://***@host/traces"
    assert told["reason"] == "s3://***@host/traces is gone"


def test_a_connection_that_is_refused_is_called_so(export: Run) -> None:
    """And not that there is nothing."""
    for extra in ("fsspec", "aiohttp"):
        pytest.importorskip(extra)
    # Bound, and not listening: nobody else has the port, and nobody answers.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/traces.jsonl"
        done = export(url, "--output", "r", *GOAL)
    assert f"{url}: Connection refused; " in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("name", ("r", "bad"))
def test_a_file_that_finds_no_room_is_named(
    archive: Path, export: Run, name: str
) -> None:
    """The system says only that there is none."""
    names = {"r": "r", "bad": "bad"} | {name: "/dev/full"}
    done = export("--output", names["r"], "--rejects", names["bad"], *GOAL)
    assert done.returncode == 1
    assert done.stderr.endswith("loopotel-prom: /dev/full: No space left on device\n")


def test_a_device_stays_one(archive: Path, export: Run) -> None:
    """Nothing takes its name."""
    assert export("--output", "/dev/null", *GOAL).returncode == 0
    assert not Path("/dev/null").is_file()


def test_options_fill_in_what_no_run_says(tmp_path: Path, export: Run) -> None:
    """Source, objective, patterns, specification, budget and counts."""
    (tmp_path / "t.jsonl").write_bytes(_document(1))
    (tmp_path / "spec.json").write_text('{"version": "2"}')
    done = export(
        *("t.jsonl", "--output", "-", *GOAL, "--source", "community"),
        *("--pattern", "debate-loop", "--pattern", "planning-loop"),
        *("--loop-spec", "spec.json", "--max-iterations", "9"),
        *("--workers", "3", "--evaluators", "2"),
    )
    record = json.loads(done.stdout)
    assert record["source"] == "community"
    assert record["objective"] == GOAL[1]
    assert record["patterns"] == ["debate-loop", "planning-loop"]
    assert record["loop_spec"] == {"version": "2"}
    counts = ("max_iterations_budget", "worker_count", "evaluator_count")
    assert [record["metadata"][name] for name in counts] == [9, 3, 2]


def test_a_missing_cost_is_nothing_only_where_it_is_said(
    tmp_path: Path, export: Run
) -> None:
    """The reject says how to say it."""
    spans = json.loads(json.dumps(FULL["spans"]))
    del spans[1]["attributes"]["loop.cost_usd"]
    (tmp_path / "t.jsonl").write_bytes(_document(1, spans=spans))
    assert "--missing-cost zero" in export("t.jsonl", "--output", "-", *GOAL).stderr
    done = export("t.jsonl", "--output", "-", "--missing-cost", "zero", *GOAL)
    assert json.loads(done.stdout)["metadata"]["cost_total_usd"] == 0


@pytest.mark.parametrize(
    "args",
    (
        (),
        ("--output", "r", "--rejects", "r"),
        ("--output", "r", "--goal", "short"),
        ("--output", "r", "--pattern", "no-loop"),
        ("--output", "r", "--source", "nonesuch"),
        ("--output", "r", "--loop-spec", "traces/traces.jsonl"),
    ),
)
def test_bad_usage_is_told_apart(
    archive: Path, export: Run, args: tuple[str, ...]
) -> None:
    """It exits with 2, bad data with 1."""
    assert export(*args).returncode == 2
