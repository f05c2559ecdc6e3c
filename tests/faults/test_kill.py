"""Processes that are killed: what was acknowledged is there, once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loopotel_prom.archive import failpoint

# As many children are killed in one archive before it is looked at.
_BATCH = 10
_PROGRAMS = Path(__file__).with_name("programs.py")


def _span_bytes(chance: random.Random) -> int:
    """Draw from 2 KB to 4 MB, each order of magnitude as often."""
    return int(2_000 * 2_000 ** chance.random())


def test_a_kill_while_writing_loses_nothing(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """At random moments, of processes that write spans of 2 KB to 4 MB."""
    chance = random.Random(1)
    kills, said, torn = count(30, 2_000), 0, 0
    for batch in range(0, kills, _BATCH):
        folder, files = tmp_path / "archive", []
        for number in range(min(_BATCH, kills - batch)):
            files.append(tmp_path / f"said-{number}")
            pid = children.start(
                "write",
                archive=folder,
                acknowledgements=files[-1],
                iterations=chance.choice((3, 30, 3_000)),
                attribute_bytes=_span_bytes(chance),
            )
            # The longest write takes some milliseconds.
            time.sleep(chance.random() * 0.1)
            children.kill(pid)
        outcome = outcome_of(folder, acknowledged_in(*files))
        said += outcome.acknowledged
        torn += outcome.recovery.torn + len(outcome.bad)
        shutil.rmtree(folder, ignore_errors=True)
        for file in files:
            file.unlink(missing_ok=True)
    assert said
    fault = "SIGKILL while writing spans of 2 KB to 4 MB"
    report(1, fault, count=kills, acknowledged=said, lost=0, torn=torn)


# What a child has to do to get to a failpoint, beyond writing small runs.
_WAYS = {
    "append.synced": {"durability": "run"},
    "journal.made": {"segment_bytes": 2_000},
    "journal.named": {"segment_bytes": 2_000},
    "long": {"metadata_bytes": 17 * 1024**2, "iterations": 3},
    "rotate": {"rotate_bytes": 1},
    "compress": {"rotate_bytes": 1},
    "journal.removed": {"segment_bytes": 2_000},
    "recover": {"keeps_open": 20, "segment_bytes": 2_000},
}


def _way(name: str) -> dict:
    return _WAYS.get(name) or _WAYS.get(name.partition(".")[0]) or {}


@pytest.mark.parametrize("name", failpoint.NAMES)
def test_a_kill_at_a_failpoint_loses_and_doubles_nothing(
    name, children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """One copy of each run after recovery, wherever the process died."""
    chance = random.Random(name)
    kills, said, copies, torn = count(2, 50), 0, 0, 0
    is_long = name.startswith("long")
    for number in range(kills):
        folder, file = tmp_path / f"archive-{number}", tmp_path / f"said-{number}"
        # Not the very first write, which is that of the journal's header.
        before = 0 if is_long else chance.randrange(1, 8)
        options = {
            "iterations": chance.randrange(1, 30),
            "dies_after": before,
            "runs": 3,
        }
        options |= _way(name)
        if name.startswith("recover"):
            assert (
                children.run("write", archive=folder, acknowledgements=file, **options)
                == 0
            )
            status = children.run("recover_all", archive=folder, dies_at=name)
        else:
            status = children.run(
                "write", archive=folder, acknowledgements=file, dies_at=name, **options
            )
        assert status == -signal.SIGKILL
        outcome = outcome_of(folder, acknowledged_in(file))
        said += outcome.acknowledged
        copies += sum(run.copies - 1 for run in outcome.runs.values())
        torn += outcome.recovery.torn + len(outcome.bad)
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"count": kills, "acknowledged": said, "lost": 0, "torn": torn}
    report(2, f"SIGKILL at {name}", equal_copies=copies, **figures)


# The spans of the second are written while its journal is read for the first time.
_LONG = {
    "long metadata": {"metadata_bytes": 17 * 1024**2, "iterations": 3},
    "many spans": {"attribute_bytes": 16_000, "iterations": 1_200},
}


@pytest.mark.parametrize("name", [n for n in failpoint.NAMES if n.startswith("long")])
@pytest.mark.parametrize("kind", _LONG)
def test_a_kill_while_a_long_run_is_recovered_loses_and_doubles_nothing(
    kind, name, children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Its document is written to a file of its own, which is there whole or not."""
    kills, said, copies = count(1, 50), 0, 0
    for number in range(kills):
        folder, file = tmp_path / f"archive-{number}", tmp_path / f"said-{number}"
        options = {"archive": folder, "acknowledgements": file, "runs": 3}
        options |= {"dies_at": "long.half", **_LONG[kind]}
        assert children.run("write", **options) == -signal.SIGKILL
        status = children.run("recover_all", archive=folder, dies_at=name)
        assert status == -signal.SIGKILL
        is_there = name == "long.renamed"
        assert len([*folder.glob("traces-*.zst")]) == is_there
        outcome = outcome_of(folder, acknowledged_in(file))
        said += outcome.acknowledged
        copies += sum(run.copies - 1 for run in outcome.runs.values())
        assert not copies
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"count": kills, "acknowledged": said, "lost": 0, "torn": 0}
    report(
        2, f"SIGKILL at {name} of a recovery, {kind}", equal_copies=copies, **figures
    )


def test_a_kill_beside_small_segments_and_rotation_makes_no_second_version(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Runs go over many segments, and are compressed, beside one that goes on."""
    chance = random.Random(2)
    kills, said, copies, torn = count(6, 300), 0, 0, 0
    for number in range(kills):
        folder, file = tmp_path / f"archive-{number}", tmp_path / f"said-{number}"
        pid = children.start(
            "write",
            archive=folder,
            acknowledgements=file,
            threads=3,
            keeps_open=20,
            segment_bytes=3_000,
            rotate_bytes=chance.choice((1, 20_000)),
        )
        # The background thread, which compresses, comes by once a second.
        time.sleep(chance.random() * (1.5 if number % 10 == 0 else 0.15))
        children.kill(pid)
        outcome = outcome_of(folder, acknowledged_in(file))
        said += outcome.acknowledged
        copies += sum(run.copies - 1 for run in outcome.runs.values())
        torn += outcome.recovery.torn + len(outcome.bad)
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"count": kills, "acknowledged": said, "lost": 0, "torn": torn}
    report(2, "SIGKILL among small segments and files", equal_copies=copies, **figures)


def test_a_kill_never_brings_back_a_run_that_was_sealed(
    children, outcome_of, acknowledged_in, report, tmp_path
):
    """Its mark may have stood in another segment than its records."""
    for size in range(1_000, 9_000, 1_500):
        folder, file = tmp_path / f"archive-{size}", tmp_path / f"said-{size}"
        status = children.run(
            "write",
            archive=folder,
            acknowledgements=file,
            keeps_open=20,
            flushes=True,
            runs=8,
            iterations=20,
            segment_bytes=size,
            rotate_bytes=1,
        )
        assert status == 0
        outcome = outcome_of(folder, acknowledged_in(file))
        sealed = [outcome.runs[each].document for each in outcome.recovery.runs]
        assert [document["loop_name"] for document in sealed] == ["held-loop"]


def test_a_kill_while_recovering_changes_nothing(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Killed up to three times on the way, recovery ends in the same documents."""
    chance = random.Random(3)
    made, files = tmp_path / "made", []
    for number in range(3):
        files.append(tmp_path / f"said-{number}")
        pid = children.start(
            "write",
            archive=made,
            acknowledgements=files[-1],
            segment_bytes=100_000,
            threads=2,
            iterations=400,
            keeps_open=20,
        )
        time.sleep(0.1)
        children.kill(pid)
    expected = acknowledged_in(*files)
    begin = time.monotonic()
    wanted = outcome_of(shutil.copytree(made, tmp_path / "straight"), expected)
    takes_seconds = (time.monotonic() - begin) / 2
    kills, copies, died = count(6, 300), 0, 0
    for _ in range(kills):
        folder = tmp_path / "archive"
        shutil.copytree(made, folder)
        for _ in range(chance.randrange(1, 4)):
            name = chance.choice((None, *_RECOVER))
            pid = children.start("recover_all", archive=folder, dies_at=name or "")
            if name is None:
                time.sleep(chance.random() * takes_seconds)
                died += children.kill(pid) < 0
            else:
                died += children.wait(pid) < 0
        outcome = outcome_of(folder, expected)
        assert {k: r.document for k, r in outcome.runs.items()} == {
            k: r.document for k, r in wanted.runs.items()
        }
        assert all(
            r.iterations == wanted.runs[k].iterations for k, r in outcome.runs.items()
        )
        copies += sum(run.copies - 1 for run in outcome.runs.values())
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"count": kills, "acknowledged": len(expected) * kills, "lost": 0}
    report(3, "SIGKILL during recovery", died=died, equal_copies=copies, **figures)


_RECOVER = [name for name in failpoint.NAMES if name.startswith("recover")]


def test_concurrent_recoveries_seal_each_run_once(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Six processes find the same dead journals; one of them may be killed."""
    chance = random.Random(4)
    times, said, copies = count(3, 100), 0, 0
    for number in range(times):
        folder, file = tmp_path / f"archive-{number}", tmp_path / f"said-{number}"
        for _ in range(3):
            options = {"runs": 3, "keeps_open": 200, "segment_bytes": 20_000}
            children.run("write", archive=folder, acknowledgements=file, **options)
        pids = [children.start("recover_all", archive=folder) for _ in range(6)]
        kills = chance.random() < 0.5
        if kills:
            time.sleep(chance.random() * 0.05)
            children.kill(pids.pop())
        assert not any(children.wait(pid) for pid in pids)
        outcome = outcome_of(folder, acknowledged_in(file))
        said += outcome.acknowledged
        copies += sum(run.copies - 1 for run in outcome.runs.values())
        assert kills or not copies
        shutil.rmtree(folder, ignore_errors=True)
    figures = {"count": times, "acknowledged": said, "lost": 0}
    report(3, "six recover at once", equal_copies=copies, **figures)


# How a process may end, the status that it ends with, and what is said of its run.
_ENDINGS = {
    "sigterm": (-signal.SIGTERM, "unknown", "abandoned"),
    "os._exit": (3, "unknown", "abandoned"),
    "os.abort": (-signal.SIGABRT, "unknown", "abandoned"),
    "exception": (1, "failure", "error"),
    "sys.exit": (3, "failure", "error"),
    "exit with an open run": (3, "unknown", "abandoned"),
    "child of multiprocessing": (0, "unknown", "abandoned"),
}


@pytest.mark.parametrize("ending", _ENDINGS)
def test_a_process_that_ends_early_leaves_its_runs(
    ending, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Sealed by itself or recovered, with the outcome that is due; its result right."""
    status, outcome_due, reason = _ENDINGS[ending]
    times = count(2, 50)
    folder, file = tmp_path / "archive", tmp_path / "said"
    command = [sys.executable, str(_PROGRAMS), ending, str(folder), str(file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOPOTEL_")}
    for _ in range(times):
        ended = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode, ended.stdout.split()) == (status, ["210"]), (
            ended.stderr
        )
    said = acknowledged_in(file)
    outcome = outcome_of(folder, said)
    ends = [
        r.document
        for r in outcome.runs.values()
        if r.document["loop_name"] == "ending-loop"
    ]
    assert len(said) == 30 * times
    assert len(ends) == times
    assert {(d["outcome"], d["termination_reason"]) for d in ends} == {
        (outcome_due, reason)
    }
    figures = {
        "count": times,
        "acknowledged": len(said),
        "lost": 0,
    }
    report(4, f"ends by {ending}", outcome=f"{outcome_due}/{reason}", **figures)
