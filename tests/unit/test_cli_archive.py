"""The commands `loopotel-prom archive ...`, run as their users run them."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main

from loopotel_prom import cli, ltf
from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.layout import SEALED, segments
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.cli.commands import app
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock
from loopotel_prom.tracer import LoopTracer

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "specs" / "examples" / "full.good.json").read_bytes()


class Done(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    def rows(self) -> list[dict]:
        """Read its standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


Run = Callable[..., Done]


@pytest.fixture
def run(monkeypatch, capsys) -> Run:
    """Run a command in this process; an error must not be a traceback."""

    def do(*args: str | Path) -> Done:
        argv = ["loopotel-prom", "archive", *map(str, args)]
        monkeypatch.setattr(sys, "argv", argv)
        monkeypatch.setenv("COLUMNS", "80")
        try:
            cli.main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Done(code, out, err)

    return do


@pytest.fixture
def processor(tmp_path: Path) -> Iterator[ArchiveProcessor]:
    """Archive into a folder of the test."""
    folder = tmp_path / "traces"
    folder.mkdir(mode=0o700)
    made = ArchiveProcessor(folder)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path, processor: ArchiveProcessor) -> Path:
    """Give the folder of the archive."""
    return tmp_path / "traces"


@pytest.fixture
def loop(processor: ArchiveProcessor) -> Callable[..., str]:
    """Run a loop into the archive, and give its trace id."""
    clock = ManualClock()

    def do(name: str, *scores: float, outcome: str = "success", **options) -> str:
        pipeline = Pipeline([processor])
        tracer = LoopTracer(
            name, goal_target=0.8, clock=clock, pipeline=pipeline, **options
        )
        with tracer as run:
            for number, score in enumerate(scores, 1):
                clock.advance(seconds=2)
                with run.iteration() as step:
                    clock.advance(seconds=1)
                    with step.worker("implementer", role="coder") as worker:
                        worker.add_tokens(input=100, output=11)
                        worker.add_cost(usd=0.25)
                    if number == 2:
                        step.failure("fail.oscillation")
                    step.goal_score(score)
            run.finish(outcome=outcome, termination_reason="goal_met")
        processor.flush(5.0)
        clock.advance(seconds=3600)
        return tracer.trace_id

    return do


def lines(folder: Path) -> list[bytes]:
    """Give the lines of the file that is written to."""
    return (folder / SEALED).read_bytes().splitlines(keepends=True)


def numbered(number: int, **changes: object) -> bytes:
    """Spell the sample document under an id of its own."""
    document = ltf.decode(SAMPLE) | {
        "trace_id": f"ltf-{number:08x}-0000-4000-8000-000000000000"
    }
    return ltf.encode(document | changes) + b"\n"


# ls


def test_ls_lists_the_runs_the_newest_last(run, loop, folder):
    """A line each, under titles."""
    one = loop("code-repair", 0.52, 0.66, 0.81, env_id="prod/agent", task_id="cr-1")
    two = loop("triage", 0.1, outcome="failure")
    done = run("ls", folder)
    assert (done.code, done.err) == (0, "")
    titles, first, second = done.out.splitlines()
    assert titles.split()[:5] == ["id", "loop", "env", "task", "started"]
    assert (
        first.split()
        == (
            f"{one[4:12]} code-repair prod/agent cr-1 2023-11-14 22:13:20Z 9.0 s"
            " 3 0.81/0.80 0.82 333 0.7500 success (goal_met)"
        ).split()
    )
    assert second.startswith(f"{two[4:12]}  triage       -           -     2023-11-14")


def test_ls_gives_machines_an_object_a_run(run, loop, folder):
    """With all values, unrounded, and the times as documents spell them."""
    trace_id = loop("code-repair", 0.52, 0.81)
    (row,) = run("ls", folder, "--json").rows()
    assert row["trace_id"] == trace_id
    assert row["started_at"] == "2023-11-14T22:13:20.000000Z"
    assert (row["duration_seconds"], row["iterations"], row["tokens"]) == (6.0, 2, 222)
    assert (row["goal_score"], row["goal_target"], row["cost_usd"]) == (0.81, 0.8, 0.5)
    assert (row["outcome"], row["reason"]) == ("success", "goal_met")


@pytest.mark.parametrize(
    ("options", "expected"),
    (
        (("--loop", "triage"), [3]),
        (("--outcome", "failure"), [2, 3]),
        (("--since", "2026-02-01"), [2, 3]),
        (("--since", "2026-02-01T00:00:00+01:00", "--until", "2026-03-01"), [2]),
        (("--since", "1w"), []),
        (("--limit", "2"), [2, 3]),
        (("--limit", "1", "--outcome", "success"), [1]),
        (("--limit", "9"), [1, 2, 3]),
    ),
)
def test_ls_filters(run, folder, options, expected):
    """By loop, by outcome, by time, by number."""
    data = b"".join(
        (
            numbered(1, started_at="2026-01-01T00:00:00Z"),
            numbered(2, started_at="2026-02-02T00:00:00Z", outcome="failure"),
            numbered(
                3,
                started_at="2026-03-03T00:00:00Z",
                outcome="failure",
                loop_name="triage",
            ),
        )
    )
    (folder / SEALED).write_bytes(data)
    rows = run("ls", folder, "--json", *options).rows()
    assert [int(row["trace_id"][4:12], 16) for row in rows] == expected


def test_ls_takes_the_newest_across_files(run, folder):
    """It reads no more files than it has to, and the order stays."""
    for day in (1, 2, 3):
        path = folder / f"traces-2026010{day}T000000Z-aa.jsonl"
        path.write_bytes(numbered(10 * day) + numbered(10 * day + 1))
    (folder / "traces-20260101T000000Z-aa.jsonl").chmod(0)
    rows = run("ls", folder, "--json", "--limit", "3").rows()
    assert [int(row["trace_id"][4:12], 16) for row in rows] == [21, 30, 31]


def test_ls_tells_of_damage_and_goes_on(run, loop, folder):
    """On standard error, with the place; the exit code says it too."""
    loop("code-repair", 0.5)
    with (folder / SEALED).open("ab") as file:
        file.write(b'{"trace_id":"lt\n')
    size = len(lines(folder)[0])
    loop("triage", 0.5)
    done = run("ls", folder)
    assert done.code == 1
    assert len(done.out.splitlines()) == 3
    assert f"{folder}/{SEALED}: line 2 (byte {size}): not JSON" in done.err


def test_ls_shows_what_is_under_way(run, processor, folder):
    """From the journal, with the life of its owner; abandoned where that is dead."""
    tracer = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    with tracer as active:
        active.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=9)
        shutil.copytree(folder, folder / "copy")
        done = run("ls", "--open", folder)
        (row,) = run("ls", "--open", "--json", folder).rows()
    assert done.out.splitlines()[1].endswith("under way")
    assert "ms ago" in done.out or " s ago" in done.out
    assert (row["trace_id"], row["state"]) == (tracer.trace_id, "under way")
    assert (row["iterations"], row["goal_score"], row["tokens"]) == (1, 0.4, 9)
    (dead,) = run("ls", "--open", "--json", folder / "copy").rows()
    assert dead["state"] == "abandoned, to be recovered"


# show


def test_show_tells_how_a_run_went(run, loop, folder):
    """Head, curve, iterations, events."""
    trace_id = loop("code-repair", 0.52, 0.66, 0.81, env_id="prod/agent")
    done = run("show", trace_id, folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(
        f"run       {trace_id}\n"
        "loop      code-repair\n"
        "env       prod/agent\n"
        "started   2023-11-14 22:13:20Z\n"
        "ended     2023-11-14 22:13:29Z, after 9.0 s\n"
        "outcome   success (goal_met)\n"
        "goal      0.81 of 0.80, LES 0.82\n"
        "spent     3 iterations, 333 tokens, $ 0.7500\n"
        "\n"
        "goal score, target 0.80\n"
    )
    assert "   0.80 ┤┄┄┄" in done.out
    assert (
        "   2  22:13:25   0.66    0.82  0.74     111  0.2500  1.0 s  implementer"
        "             failure\n"
    ) in done.out
    assert "     1 x loop.failure fail.oscillation\n" in done.out


def test_show_takes_the_beginning_of_an_id(run, loop, folder):
    """As git does; one that fits several runs is bad usage and names them."""
    (folder / SEALED).write_bytes(numbered(0xABCD0001) + numbered(0xABCD0002))
    assert run("show", "ABCD0001", folder).out.startswith("run       ltf-abcd0001-")
    assert run("show", "ltf-abcd0002-0000", folder).code == 0
    done = run("show", "abcd", folder)
    assert done.code == 2
    assert "several runs begin with 'ltf-abcd': ltf-abcd0001-" in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("typed", "code", "told"),
    (
        ("abc", 2, "'abc' is no trace id"),
        ("\x1b[31m", 2, r"'\x1b[31m' is no trace id"),
        ("ffff", 1, "it holds no run ltf-ffff; list them:"),
        ("f" * 32, 1, "it holds no run ltf-ffffffff-ffff-"),
    ),
)
def test_show_says_when_there_is_no_such_run(run, folder, typed, code, told):
    """In one line."""
    done = run("show", typed, folder)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1


def test_show_gives_machines_the_document_byte_for_byte(run, loop, folder):
    """However it is spelled."""
    odd = numbered(1).replace(b'"outcome":', b'"outcome" :  ')
    (folder / SEALED).write_bytes(odd)
    assert run("show", "00000001", folder, "--json").out.encode() == odd


def test_show_leaves_out_the_middle_of_a_long_run(run, loop, folder):
    """And says so; `--all` does not."""
    trace_id = loop("code-repair", *(number / 100 for number in range(50)))
    out = run("show", trace_id, folder).out
    assert "… 10 iterations left out; --all shows them\n" in out
    assert "\n  20  " in out
    assert "\n  21  " not in out
    assert "\n  31  " in out
    assert "\n  21  " in run("show", "--all", trace_id, folder).out


def test_show_tells_of_a_run_under_way(run, processor, folder):
    """From the journal: what has happened so far, as text and as a document."""
    tracer = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    with tracer as active:
        for number in (1, 2):
            with active.iteration() as step:
                with step.evaluator("rubric") as judge:
                    judge.score(number / 10)
                step.goal_score(number / 10)
        out = run("show", tracer.trace_id[:13], folder).out
        document = json.loads(run("show", tracer.trace_id, folder, "--json").out)
    assert "outcome   under way\n" in out
    assert "goal      0.20 of " in out
    assert "rubric" in out
    assert document["trace_id"] == tracer.trace_id
    assert len(document["spans"]) == 5


def test_show_marks_a_recovered_run(run, folder):
    """With what is missing, and the run that it is nested in."""
    metadata = {"recovered": True, "missing_spans": 3, "parent": "ltf-\x1b[2J"}
    (folder / SEALED).write_bytes(numbered(1, metadata=metadata))
    out = run("show", "00000001", folder).out
    assert "recovered from the journal of a process that died\n" in out
    assert "missing   3 spans are lost\n" in out
    assert "parent    ltf-\\x1b[2J\n" in out


# stats


def test_stats_sums_up_each_loop(run, loop, folder):
    """Outcomes, iterations, tokens, LES; and all of them where there are several."""
    for scores in ((0.4,), (0.4, 0.8), (0.4, 0.8, 0.8)):
        loop("code-repair", *scores)
    loop("triage", 0.2, outcome="failure")
    done = run("stats", folder)
    assert done.code == 0
    _, repair, triage, whole = done.out.splitlines()
    assert repair.split()[:10] == (
        ["code-repair", "3", "3", "0", "0", "0", "100.0", "%", "2.0/2/3", "666"]
    )
    assert "0.50/0.75/0.83" in repair
    assert triage.split()[:8] == ["triage", "1", "0", "1", "0", "0", "0.0", "%"]
    assert whole.split()[:8] == ["all", "4", "3", "1", "0", "0", "75.0", "%"]


@pytest.mark.parametrize("by", ("loop", "env", "task", "outcome"))
def test_stats_groups_by_what_is_asked(run, loop, folder, by):
    """One object for machines, with exact percentiles."""
    for number in range(1, 11):
        loop("code-repair", number / 10, env_id="env/one", task_id=f"t{number}")
    whole = json.loads(run("stats", folder, "--by", by, "--json").out)
    assert whole["by"] == by
    assert len(whole["groups"]) == (10 if by == "task" else 1)
    scores = whole["all"]["final_goal_score"]
    assert (scores["p10"], scores["p50"], scores["p90"]) == (0.1, 0.5, 0.9)
    assert whole["all"]["tokens_per_success"] == 111.0


# verify


def problems(done: Done) -> list[dict]:
    """Give what `verify --json` found, but the summary."""
    return [row for row in done.rows() if "summary" not in row]


@pytest.fixture
def full(loop, processor, folder, tmp_path) -> Path:
    """Give an archive with all kinds of files, its journal a dead one's."""
    for name in ("one", "two", "three", "four"):
        loop(f"loop-{name}", 0.5, 0.9)
    with LoopTracer("loop-five", pipeline=Pipeline([processor])) as active:
        for number in range(1, 6):
            active.emit_iteration(iteration=number, goal_score=0.1)
        target = tmp_path / "full"
        shutil.copytree(folder, target)
    one, two, three, four = lines(target)
    for name, data in (
        ("traces-20260101T000000Z-aa.jsonl", one),
        ("traces-20260102T000000Z-aa.jsonl", two),
        ("traces-20260103T000000Z-aa.jsonl.gz", gzip.compress(three)),
        (SEALED, four),
    ):
        (target / name).write_bytes(data)
        (target / name).chmod(0o600)
    compress(target / "traces-20260102T000000Z-aa.jsonl")
    return target


def test_verify_finds_nothing_in_a_sound_archive(run, full):
    """Not even in one with a dead owner's journal, which waits for recovery."""
    done = run("verify", full)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("files: 5, documents: 4, runs: 4, records: 35")
    assert "damage: 0, warnings: 0, notes: 0" in done.out


def test_verify_does_not_mistake_a_living_writer_for_damage(run, processor, folder):
    """The torn last line of a journal that is being written is no finding."""
    with LoopTracer("code-repair", pipeline=Pipeline([processor])) as active:
        active.emit_iteration(iteration=1, goal_score=0.1)
        (segment,) = segments(folder)
        with segment.open("ab") as file:
            file.write(b'{"seq":2,"sp')
        assert run("verify", folder).code == 0


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def _flip(data: bytes) -> bytes:
    spoiled = bytearray(data)
    spoiled[len(data) // 2] ^= 0x80
    return bytes(spoiled)


def _zeros(data: bytes) -> bytes:
    return data + bytes(512)


def _garbage(data: bytes) -> bytes:
    return data + b"\xff\x00garbage{]\n"


def _glue(data: bytes) -> bytes:
    return data.replace(b"\n", b"", 1) + data


def _without_one(data: bytes) -> bytes:
    """Lose a record of the last run, the one without a mark."""
    parts = data.splitlines(keepends=True)
    return b"".join(parts[:-3] + parts[-2:])


@pytest.mark.parametrize(
    ("pattern", "spoil"),
    (
        *((SEALED, spoil) for spoil in (_cut, _flip, _zeros, _garbage, _glue)),
        *(("*.zst", spoil) for spoil in (_cut, _flip, _garbage)),
        *(("*.gz", spoil) for spoil in (_cut, _flip, _garbage)),
        *(
            ("journal/*.jsonl", spoil)
            for spoil in (_cut, _flip, _zeros, _garbage, _glue, _without_one)
        ),
    ),
)
def test_verify_finds_damage(run, full, pattern, spoil):
    """In the file that has it, and whatever else there is, is checked."""
    (path,) = full.glob(pattern)
    path.write_bytes(spoil(path.read_bytes()))
    done = run("verify", full, "--json")
    found = [each for each in problems(done) if each["severity"] == "damage"]
    assert done.code == 1
    assert {each["file"] for each in found} == {str(path)}
    summary = done.rows()[-1]["summary"]
    assert summary["damage"] == len(found)
    assert summary["documents"] >= 3


def test_verify_tells_which_records_are_missing(run, full):
    """By run and number."""
    (path,) = full.glob("journal/*.jsonl")
    path.write_bytes(_without_one(path.read_bytes()))
    (problem,) = problems(run("verify", full, "--json"))
    assert problem["what"].startswith("record 3 of ltf-")
    assert problem["what"].endswith(" is missing before this")


def test_verify_says_what_where_and_what_to_do(run, full):
    """In one line each."""
    offset = (full / SEALED).stat().st_size
    with (full / SEALED).open("ab") as file:
        file.write(b'{"torn\n')
    done = run("verify", full)
    (line,) = done.err.splitlines()
    assert line.startswith(f"{full}/{SEALED}: line 2 (byte {offset}): not JSON: ")
    assert line.endswith("; its neighbours are whole; 'loopotel-prom archive compact"
                         " --dedupe' moves it")  # fmt: skip


def test_verify_judges_by_the_schema(run, full):
    """What is JSON and no LTF is damage, too."""
    with (full / SEALED).open("ab") as file:
        file.write(numbered(1, outcome="great") + numbered(2, spans=[]))
    found = problems(run("verify", full, "--json"))
    assert [each["line"] for each in found] == [2, 3]
    assert all(each["what"].startswith("no valid LTF: $.") for each in found)


def test_verify_tells_copies_apart(run, full):
    """Equal ones are a note, a recovered one too; others are damage."""
    (first,) = lines(full)
    document = ltf.decode(first)
    recovered = ltf.encode(document | {"metadata": {"recovered": True}})
    other = ltf.encode(document | {"outcome": "partial"})
    with (full / SEALED).open("ab") as file:
        file.write(first + recovered + b"\n" + other + b"\n")
    found = problems(run("verify", full, "--json"))
    assert [each["severity"] for each in found] == ["note", "note", "damage"]
    assert [each["line"] for each in found] == [2, 3, 4]


def test_verify_knows_what_belongs_into_the_folder(run, full):
    """Strangers and open modes are warnings; old leftovers are notes."""
    (full / "notes.txt").write_text("mine")
    (full / SEALED).chmod(0o644)
    leftover = full / "traces-x.jsonl.zst.tmp"
    leftover.write_bytes(b"")
    leftover.chmod(0o600)
    os.utime(leftover, (time.time() - 9999,) * 2)
    found = {Path(p["file"]).name: p for p in problems(run("verify", full, "--json"))}
    assert {name: each["severity"] for name, each in found.items()} == {
        "notes.txt": "warning",
        SEALED: "warning",
        leftover.name: "note",
    }
    assert run("verify", full).code == 0


@pytest.mark.parametrize(
    "name", (SEALED, f"{SEALED}.lock", "traces-x.jsonl", "journal/x.1.jsonl")
)
@pytest.mark.parametrize("kind", ("fifo", "link", "folder"))
def test_verify_refuses_what_is_no_file(run, full, name, kind):
    """It neither follows nor waits."""
    path = full / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    done = run("verify", full, "--json")
    assert done.code == 1
    assert [p["file"] for p in problems(done) if p["severity"] == "damage"] == [
        str(path)
    ]


def test_verify_misses_a_document_that_a_mark_speaks_of(run, loop, folder, processor):
    """As when a file was moved away."""
    with LoopTracer("loop-open", pipeline=Pipeline([processor])):
        trace_id = loop("code-repair", 0.5)
        processor.flush(5.0)
        (folder / SEALED).write_bytes(b"")
        done = run("verify", folder, "--json")
    (problem,) = problems(done)
    assert problem["severity"] == "warning"
    assert trace_id in problem["what"]


# recover and compact


def test_recover_seals_what_was_left(run, full):
    """And says which runs; then there is nothing left to do."""
    (row,) = run("ls", "--open", "--json", full).rows()
    done = run("recover", full)
    assert done.code == 0
    assert "1 of them had not ended" in done.out
    assert f"sealed {row['trace_id']}\n" in done.out
    assert json.loads(run("recover", full, "--json").out)["runs"] == []
    assert len(run("ls", "--json", full).rows()) == 5
    assert run("verify", full).code == 0


def test_compact_compresses_what_is_complete(run, full):
    """The file that is written to only with `--all`; no document is lost."""
    before = run("ls", "--json", full).out
    assert "1 files compressed" in run("compact", full).out
    assert (full / SEALED).exists()
    done = json.loads(run("compact", full, "--all", "--json").out)
    assert done["compressed"] == 1
    assert done["bytes_after"] < done["bytes_before"]
    assert not list(full.glob("*.jsonl"))
    assert run("ls", "--json", full).out == before


def test_compact_drops_copies_and_moves_bad_lines(run, full):
    """The better copy stays, and what is no document goes to quarantine/."""
    (line,) = lines(full)
    document = ltf.decode(line)
    recovered = ltf.encode(document | {"metadata": {"recovered": True}}) + b"\n"
    (full / SEALED).write_bytes(recovered + b"{torn\n" + line)
    packed = next(full.glob("*.zst"))
    done = run("compact", full, "--all", "--dedupe")
    assert done.code == 0
    assert "1 second copies dropped" in done.out
    assert packed.exists()
    (aside,) = (full / "quarantine").iterdir()
    assert aside.read_bytes() == b"{torn\n"
    trace_id = document["trace_id"]
    assert run("show", trace_id, full, "--json").out.encode() == line
    assert run("verify", full, "--quiet").code == 0


def test_compact_leaves_a_file_that_cannot_be_read(run, full):
    """What could be lost by rewriting stays as it is."""
    path = next(full.glob("*.zst"))
    spoiled = _cut(path.read_bytes())
    path.write_bytes(spoiled)
    done = run("compact", full, "--dedupe")
    assert "1 files left" in done.out
    assert path.read_bytes() == spoiled


def test_compact_removes_old_leftovers(run, full):
    """What is fresh may be in use."""
    old, fresh = full / "a.tmp", full / "b.tmp"
    for path in (old, fresh):
        path.write_bytes(b"x")
    os.utime(old, (time.time() - 9999,) * 2)
    assert "1 leftovers" in run("compact", full).out
    assert (old.exists(), fresh.exists()) == (False, True)


# Whatever comes


HOSTILE = {
    "loop_name": "<script>\x1b[2J",
    "env_id": "\x9b31m\u202e",
    "task_id": "\r\n[bold]x[/bold]",
    "termination_reason": "\x07" * 9,
    "outcome": "\x1b]0;owned\x07",
}
ODD = (
    {},
    HOSTILE,
    {"spans": [1, None, "x", [], {"kind": []}, {"kind": "iteration"}]},
    {"spans": {"kind": "loop"}, "metadata": [1]},
    {"started_at": "never", "ended_at": 5, "loop_name": None},
    {"started_at": "9999-12-31T23:59:59Z", "ended_at": "1970-01-01T00:00:00Z"},
    {
        "spans": [
            {
                "kind": "iteration",
                "start_time": "\x1b[1m",
                "attributes": {
                    "loop.iteration": value,
                    "loop.goal_score": value,
                    "loop.goal_target": value,
                    "loop.tokens_delta": value,
                    "loop.cost_usd": value,
                    "loop.latency_ms": value,
                    "loop.les.cumulative_normalized": value,
                    "loop.worker.id": value,
                    "error.type": value,
                },
                "events": [{"name": value, "timestamp": value, "attributes": value}, 5],
            }
            for value in (10**300, -1e308, 1e308, "\x1b[31m", None, True, {"a": 1}, [])
        ],
        "metadata": {"parent": {"a": "\x1b"}, "missing_spans": "x", "recovered": 1},
    },
)
COMMANDS = (
    ("ls",),
    ("ls", "--json"),
    ("ls", "--since", "1h"),
    ("stats",),
    ("stats", "--by", "task"),
    ("show", "00000001"),
    ("verify",),
)


@pytest.mark.parametrize("changes", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_document_breaks_a_command(run, tmp_path, command, changes):
    """No traceback, and nothing that controls a terminal."""
    folder = tmp_path / "\x1b[31mtraces"
    folder.mkdir()
    data = json.dumps(ltf.decode(numbered(1)) | changes).encode()
    (folder / SEALED).write_bytes(data + b"\n")
    done = run(*command, folder)
    assert done.code in (0, 1)
    printed = (done.out + done.err).replace("\n", "")
    assert printed.isprintable()


def test_numbers_beyond_floats_break_nothing(run, folder):
    """JSON knows them, Python's floats do not."""
    huge = numbered(1).replace(b'"loop.goal_score":0.84', b'"loop.goal_score":1e999')
    huge = huge.replace(b"1110", b"9" * 400)
    (folder / SEALED).write_bytes(huge)
    for command in COMMANDS:
        assert run(*command, folder).code in (0, 1)


@pytest.mark.parametrize("command", ("ls", "stats", "verify", "recover", "compact"))
def test_a_folder_that_is_not_there_is_one_clear_line(run, tmp_path, command):
    """With its name, and a hint."""
    done = run(command, tmp_path / "nowhere")
    assert (done.code, done.out) == (1, "")
    (line,) = done.err.splitlines()
    assert f"{tmp_path}/nowhere: " in line


@pytest.mark.parametrize("command", ("ls", "stats", "verify", "recover", "compact"))
def test_an_empty_archive_is_no_error(run, folder, command):
    """There is nothing in it, and nothing wrong with it."""
    done = run(command, folder)
    assert (done.code, done.err) == (0, "")


@pytest.mark.parametrize(
    "args",
    (
        ("ls", "--since", "yesterday"),
        ("ls", "--limit", "0"),
        ("stats", "--by", "moon"),
        ("show",),
        ("--nothing",),
    ),
)
def test_bad_usage_is_told_apart(run, args):
    """It exits with 2."""
    assert run(*args).code == 2


def test_every_command_and_option_is_explained():
    """Each has help, and stands in the README."""
    readme = (ROOT / "README.md").read_text()
    group = typer.main.get_command(app).commands["archive"]
    for name, command in group.commands.items():
        assert command.help
        assert f"loopotel-prom archive {name}" in readme
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help
                assert all(f"`{flag}" in readme for flag in parameter.opts)


def _start(*args: str | Path, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "loopotel_prom.cli", "archive", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | env,
    )


def test_a_closed_pipe_is_quiet(folder):
    """As of `| head`."""
    with (folder / SEALED).open("wb") as file:
        for number in range(20_000):
            file.write(b'{"trace_id":"ltf-%08x","spans":[]}\n' % number)
    process = _start("ls", folder, "--json")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait()


def test_another_encoding_gets_plain_characters(loop, folder):
    """A curve of ASCII, and no broken bytes."""
    trace_id = loop("code-repair", *(number / 60 for number in range(50)))
    process = _start("show", trace_id, folder, PYTHONIOENCODING="ascii")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert b"0.80 |---" in out
    assert b"... 10 iterations left out; --all shows them" in out


def test_a_path_that_controls_a_terminal_is_spelled_out(tmp_path):
    """The error is one line, and obeys nobody."""
    command = [sys.executable, "-m", "loopotel_prom.cli", "archive", "ls"]
    ended = subprocess.run(
        [*command, str(tmp_path / "q\x1b[31m\nX")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert "q\\x1b[31m\\nX: No such file or directory" in ended.stderr
    assert ended.stderr.count("\n") == 1
