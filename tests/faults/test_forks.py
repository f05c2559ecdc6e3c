"""Forks: orphans with a dead parent's lock, children of busy parents; forgeries."""

import fcntl
import os
import random
import time
from pathlib import Path

import msgspec

from loopotel_prom.archive import layout, owner
from loopotel_prom.archive.record import VERSION, Header, encode_header, encode_span
from loopotel_prom.archive.recovery import recover
from loopotel_prom.span import IterationSpan, RunSpan


def test_the_journal_of_an_orphan_is_recovered(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """Although a child of its dead owner still has it open and locked."""
    times, said = count(5, 50), 0
    for number in range(times):
        folder, file = tmp_path / f"archive-{number}", tmp_path / f"said-{number}"
        sign = tmp_path / f"sign-{number}"
        status = children.run(
            "leave_orphan", archive=folder, acknowledgements=file, sign=sign
        )
        assert status == -9
        pid = int(sign.read_text())
        try:
            (segment,) = layout.segments(folder)
            assert _is_held(segment)
            outcome = outcome_of(folder, acknowledged_in(file))
            os.kill(pid, 0)
        finally:
            os.kill(pid, 9)
        assert len(outcome.recovery.runs) == outcome.recovery.abandoned == 1
        said += outcome.acknowledged
    fault = "orphan holds the lock of a dead parent"
    report(23, fault, count=times, acknowledged=said, lost=0)


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_concurrent_forks_while_locks_are_held_end_well(
    children, count, outcome_of, acknowledged_in, report, tmp_path
):
    """No child hangs, and no run is lost or doubled, of parent or children."""
    forks = count(20, 500)
    folder, file = tmp_path / "archive", tmp_path / "said"
    status = children.run(
        "fork_often", archive=folder, acknowledgements=file, forks=forks
    )
    assert status == 0
    outcome = outcome_of(folder, acknowledged_in(file))
    names = [run.document["loop_name"] for run in outcome.runs.values()]
    assert names.count("child-loop") == forks
    assert all(run.copies == 1 for run in outcome.runs.values())
    assert not outcome.recovery.runs
    figures = {"count": forks, "acknowledged": outcome.acknowledged, "lost": 0}
    report(24, "fork while locks are held", runs=len(names), doubled=0, **figures)


# Journals that are not whose they say.

_RUN = RunSpan(
    trace_id="ltf-00000000-0000-4000-8000-000000000001",
    span_id="1" * 16,
    start_ns=1_700_000_000_000_000_000,
    loop_name="forged-loop",
    goal_target=0.9,
)
_ITERATION = IterationSpan(
    trace_id=_RUN.trace_id,
    span_id="2" * 16,
    parent_span_id=_RUN.span_id,
    start_ns=_RUN.start_ns,
    end_ns=_RUN.start_ns + 1,
    iteration=1,
    goal_score=0.4,
    goal_target=0.9,
    effectiveness=None,
    les_cumulative=0.0,
)


def _header(**changes) -> Header:
    mine = Header(
        version=VERSION,
        id="forged",
        segment=1,
        pid=os.getpid(),
        created_ns=time.time_ns(),
        boot_id=owner.boot_id(),
        process_start=owner.process_start(os.getpid()),
    )
    return msgspec.structs.replace(mine, **changes)


def _forge(folder: Path, header: Header) -> Path:
    path = folder / layout.JOURNAL / "forged.1.jsonl"
    path.parent.mkdir(parents=True)
    lines = encode_header(header) + encode_span(0, _RUN) + encode_span(1, _ITERATION)
    path.write_bytes(lines)
    return path


# Of a journal that someone has locked. True: its owner is gone, it is recovered.
_FORGERIES = {
    "this very process": ({}, False),
    "another boot": ({"boot_id": "00000000-0000-0000-0000-000000000000"}, True),
    "an earlier process of this number": ({"process_start": 1}, True),
    "a number beyond all": ({"pid": 2**22 + 1, "process_start": 5}, True),
    "a start that is not known": ({"process_start": None}, False),
    "a boot that is not known": ({"boot_id": None}, False),
    "neither": ({"boot_id": None, "process_start": None}, False),
    "a number that is none": ({"pid": 2**70 % 2**63, "process_start": 5}, False),
    "every process": ({"pid": -1, "process_start": 5}, False),
    "this process's group": ({"pid": 0, "process_start": 5}, False),
    "one of another container": ({"pid": 2**22 + 1, "pid_namespace": 5}, False),
}


def test_a_journal_is_recovered_if_its_owner_is_gone(outcome_of, report, tmp_path):
    """A lock that can be had says so, or the header: its number may be another's."""
    cases = [(whose, locked) for whose in _FORGERIES for locked in (True, False)]
    for number, (whose, is_locked) in enumerate(cases):
        changes, is_dead = _FORGERIES[whose]
        folder = tmp_path / str(number)
        path = _forge(folder, _header(**changes))
        with path.open("rb") as file:
            if is_locked:
                fcntl.flock(file, fcntl.LOCK_EX)
            if is_dead or not is_locked:
                outcome_of(folder, [(_RUN.trace_id, 1)])
            else:
                assert recover(folder).skipped_live == 1, whose
                assert path.exists()
    report(25, "headers forged, numbers used again", count=len(cases), lost=0)


def test_a_lock_without_a_header_is_the_livings(tmp_path):
    """Nothing says that its owner is gone."""
    path = _forge(tmp_path, _header())
    path.write_bytes(b"no header\n" + path.read_bytes())
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert recover(tmp_path).skipped_live == 1


def test_a_number_used_again_is_not_the_owners(children, tmp_path, outcome_of):
    """A living process with the dead owner's number does not keep its journal."""
    chance = random.Random(25)
    stranger = os.getppid()
    start = (owner.process_start(stranger) or 0) - chance.randrange(1, 1000)
    path = _forge(tmp_path, _header(pid=stranger, process_start=start))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        outcome_of(tmp_path, [(_RUN.trace_id, 1)])
