"""Runs under another target: as if they had been recorded under it."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopotel_prom import LoopTracer, ltf
from loopotel_prom.archive.lines import BadLine, Line, LongLine
from loopotel_prom.archive.reader import Entry, entry_of
from loopotel_prom.engine import Engine, run
from loopotel_prom.errors import DocumentError
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.rescore import Comparison, Rescored, RescoreJob, Targets
from loopotel_prom.testing import ManualClock, SequentialIds
from loopotel_prom.validate import validate_trace

_score = st.one_of(st.none(), st.floats(0, 1).map(lambda value: round(value, 4)))
_target = st.floats(0.01, 2).map(lambda value: round(value, 6))


def _traced(
    scores: list[float | None],
    goal_target: float,
    *,
    loop_name: str = "code-repair",
    **options: Any,
) -> dict[str, Any]:
    """Record a run live, always at the same times and with the same ids."""
    tracer = LoopTracer(
        loop_name,
        env_id="prod/agent",
        goal_target=goal_target,
        clock=ManualClock(),
        ids=SequentialIds(),
        pipeline=Pipeline(),
        **options,
    )
    with tracer as run_:
        for score in scores:
            with run_.iteration() as step:
                with step.worker("coder") as worker:
                    worker.add_tokens(input=9, output=3)
                if score is not None:
                    step.goal_score(score)
        run_.finish(outcome="success", termination_reason="goal_met")
    return run_.build_trace()


def _entry(document: dict[str, Any]) -> Entry:
    entry = entry_of(Line("t.jsonl", 1, 0, ltf.encode(document)))
    assert isinstance(entry, Entry)
    return entry


def _rescored(document: dict[str, Any], goal_target: float) -> Rescored:
    return RescoreJob(Targets(goal_target=goal_target))(_entry(document))


@given(scores=st.lists(_score, min_size=1, max_size=30), old=_target, new=_target)
@settings(max_examples=80, deadline=None)
def test_it_is_what_would_have_been_recorded(
    scores: list[float | None], old: float, new: float
) -> None:
    """Byte for byte, but for the note in the metadata."""
    found = json.loads(_rescored(_traced(scores, old), new).data)
    live = _traced(scores, new)
    told = found["metadata"].pop("rescored", None)
    assert told == (None if old == new else {"from": old, "to": new})
    assert ltf.encode(found) == ltf.encode(live)


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=30), target=_target)
@settings(max_examples=50, deadline=None)
def test_the_target_that_it_has_changes_nothing(
    scores: list[float], target: float
) -> None:
    """Not a byte, however many places the scores had."""
    document = _traced([*scores], target)
    rescored = _rescored(document, target)
    assert rescored.data == ltf.encode(document)
    assert rescored.les_before == rescored.les_after


def test_a_long_document_gives_the_same_bytes() -> None:
    """Read, changed and judged by spans."""
    document = _traced([0.3, None, 0.7, 0.9] * 50, 0.8)
    entry = _entry(document)
    data = ltf.encode(document)
    for target in (0.8, 0.9):
        pieces = iter([data[at : at + 999] for at in range(0, len(data), 999)])
        long = Entry(entry.trace_id, entry.head, LongLine("t.jsonl", 1, 0, pieces))
        packed = RescoreJob(Targets(goal_target=target))(long)
        held = _rescored(document, target)
        assert packed.is_packed
        assert b"".join(packed.pieces()) == held.data
        assert packed.les_after == held.les_after


def test_iterations_with_a_target_of_their_own_get_the_new_one() -> None:
    """A target that is reached later than another one was."""
    tracer = LoopTracer("code-repair", goal_target=0.5, pipeline=Pipeline())
    with tracer as run_:
        run_.emit_iteration(iteration=1, goal_score=0.4)
        run_.emit_iteration(iteration=2, goal_score=0.4, goal_target=0.8)
    rescored = _rescored(run_.build_trace(), 0.5)
    spans = json.loads(rescored.data)["spans"]
    assert [span["attributes"]["loop.goal_target"] for span in spans] == [0.5] * 3
    assert (rescored.les_before, rescored.les_after) == (0.65, 0.8)


def test_the_outcome_stays() -> None:
    """It says what happened, not what would have."""
    document = _traced([0.5, 0.81], 0.8)
    rescored = _rescored(document, 0.9)
    changed = json.loads(rescored.data)
    assert (changed["outcome"], changed["termination_reason"]) == (
        "success",
        "goal_met",
    )
    assert (rescored.reached_before, rescored.reached_after) == (True, False)
    assert validate_trace(changed) == (True, [])


def test_a_document_without_targets_is_scored_by_the_new_one() -> None:
    """As foreign writers leave it; nothing is made up for its root."""
    document = copy.deepcopy(_traced([0.4], 0.8))
    for span in document["spans"]:
        span["attributes"].pop("loop.goal_target", None)
    changed = json.loads(_rescored(document, 0.5).data)
    root, step, *_ = changed["spans"]
    assert "loop.goal_target" not in root["attributes"]
    assert step["attributes"]["loop.les.effectiveness"] == 0.8
    assert changed["metadata"]["rescored"] == {"from": None, "to": 0.5}


def test_a_loop_without_a_target_is_copied() -> None:
    """And compared with itself."""
    document = _traced([0.5, 0.9], 0.8)
    job = RescoreJob(Targets(by_loop={"other": 0.5}))
    rescored = job(_entry(document))
    assert rescored.data == ltf.encode(document)
    assert rescored.les_before == rescored.les_after == 0.8125
    assert rescored.reached_before
    assert rescored.reached_after


def test_an_invalid_document_is_refused() -> None:
    """With what the schema has against it."""
    document = _traced([0.5], 0.8) | {"outcome": "won"}
    with pytest.raises(DocumentError, match=r"no valid document: \$.outcome: 'won'"):
        _rescored(document, 0.9)


def test_loops_are_compared() -> None:
    """Runs without a score are counted, and in no mean."""
    comparison = Comparison()
    for scores in ([0.4], [0.8], [None]):
        comparison.add(_rescored(_traced([*scores], 0.8), 0.4))
    (sums,) = comparison.loops.values()
    assert (sums.runs, sums.scored) == (3, 2)
    assert (sums.les_before, sums.les_after) == (0.75, 1.0)
    assert (sums.share_before, sums.share_after) == (0.5, 1.0)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of two loops, with a run twice, and a bad line."""
    folder = tmp_path / "traces"
    folder.mkdir()
    lines = [b"{bad"]
    for number in range(40):
        name = ("code-repair", "research")[number % 2]
        document = _traced([0.1, 0.02 * number], 0.8, loop_name=name)
        document["trace_id"] = f"ltf-{number // 2 * 2:08x}-0000-4000-8000-{number:012x}"
        lines += [ltf.encode(document)] * (1 + (number == 7))
    (folder / "traces.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return folder


def test_each_engine_gives_the_same_archive(archive: Path) -> None:
    """In this process or in others, in one piece or in many."""
    job = RescoreJob(Targets(goal_target=0.5, by_loop={"research": 0.6}))

    def written(engine: Engine) -> list[bytes]:
        found = run(job, archive, engine=engine)
        return [done.value.data for done in found if not isinstance(done, BadLine)]

    expected = written(Engine())
    assert len(expected) == 40
    with ProcessPoolExecutor(2) as pool:
        assert written(Engine(pool, shard_bytes=20_000)) == expected


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def rescore(tmp_path: Path) -> Run:
    """Run the command in a folder of its own; it must never traceback."""

    def run_(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", "rescore", *args],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        return done

    return run_


def test_the_command_writes_an_archive_and_compares(
    tmp_path: Path, archive: Path, rescore: Run
) -> None:
    """The old one stays as it is; the new one can be rescored in its turn."""
    before = (archive / "traces.jsonl").read_bytes()
    done = rescore("--goal-target", "0.5", "--output", "new", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [loop["loop_name"] for loop in told["loops"]] == ["code-repair", "research"]
    assert (told["loops"][0]["runs"], told["rejected"]) == (20, 1)
    after = told["loops"][1]["les_final_mean"]
    assert after["before"] < after["after"]
    assert (archive / "traces.jsonl").read_bytes() == before
    table = rescore("new", "--loop", "research=0.7", "--output", "newer").stdout
    assert table.splitlines()[0].split()[:4] == ["loop", "target", "runs", "LES"]
    assert len(table.splitlines()) == 3
    assert (tmp_path / "newer/traces.jsonl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("args", "message"),
    (
        (("--output", "new"), "say which target"),
        (("--goal-target", "0", "--output", "new"), "a target is a number above 0"),
        (("--goal-target", "nan", "--output", "new"), "a number above 0"),
        (("--loop", "x", "--output", "new"), "NAME=TARGET is needed"),
        (("--loop", "x=y", "--output", "new"), "a target is a number above 0, got y"),
        (("--goal-target", "1", "--output", "traces"), "an archive already"),
        (("--goal-target", "1", "--output", "traces/traces.jsonl"), "a folder"),
        (("--goal-target", "1", "--output", "traces/new"), "being read"),
    ),
)
def test_what_cannot_be_meant_is_bad_usage(
    archive: Path, rescore: Run, args: tuple[str, ...], message: str
) -> None:
    """Said in one line, and nothing is written."""
    before = (archive / "traces.jsonl").read_bytes()
    done = rescore(*args)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert message in done.stderr
    assert (archive / "traces.jsonl").read_bytes() == before
    assert not (archive / "new").exists()


def test_a_failure_leaves_no_folder(tmp_path: Path, rescore: Run) -> None:
    """Nor those above it that were made."""
    assert rescore("none", "--goal-target", "1", "--output", "a/b").returncode == 1
    assert not (tmp_path / "a").exists()
