"""The archive's processor: each run that ends becomes a line."""

import errno
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from loopotel_prom import ltf
from loopotel_prom.archive import processor, upkeep
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.archive.record import decode
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.errors import ArchiveError
from loopotel_prom.health import Health
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import RunSpan


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_a_run_that_ends_is_sealed(new_run, tmp_path):
    """Its document is a line of traces.jsonl, the one that build_trace gives."""
    with new_run(pipeline=Pipeline([ArchiveProcessor(tmp_path / "traces")])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, worker_id="w")
    (line,) = _lines(tmp_path / "traces" / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()


def test_an_open_run_is_not_in_the_sealed_file(new_run, tmp_path):
    """Only what has ended is sealed."""
    with new_run(pipeline=Pipeline([ArchiveProcessor(tmp_path)])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        assert not (tmp_path / "traces.jsonl").exists()


def test_a_run_that_cannot_be_written_is_kept_until_it_can(new_run, tmp_path):
    """It is written, once, before the next one; until then it is told."""
    archive = ArchiveProcessor(tmp_path)
    sink = Pipeline([archive])
    (tmp_path / "traces.jsonl").mkdir()
    with new_run(pipeline=sink) as first:
        pass
    assert archive.unwritten() == 1
    assert sink.health.processor_failures() == {"ArchiveProcessor": 1}
    (tmp_path / "traces.jsonl").rmdir()
    with new_run(pipeline=sink) as second:
        pass
    assert sink.flush()
    found = [ltf.decode(line) for line in _lines(tmp_path / "traces.jsonl")]
    assert found == [first.build_trace(), second.build_trace()]
    assert archive.unwritten() == 0


def test_a_run_that_ends_while_another_writes_is_no_failure(
    new_run, tmp_path, monkeypatch
):
    """It waits a moment, and is sealed later."""
    monkeypatch.setattr(processor, "_PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(upkeep.Upkeep, "wake", lambda _self: None)
    archive, file = ArchiveProcessor(tmp_path), SealedFile(tmp_path / "traces.jsonl")
    sink = Pipeline([archive])
    with ThreadPoolExecutor(1) as other:
        other.submit(file._file.acquire, 60).result()
        with new_run(pipeline=sink) as run:
            pass
        assert archive.unwritten() == 1
        other.submit(file._file.release).result()
    assert sink.flush()
    assert sink.health.processor_failures() == {}
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()


def test_a_sync_that_waits_for_another_thread_doubles_nothing(
    new_run, tmp_path, monkeypatch
):
    """It is done later, and is no sync that failed."""
    monkeypatch.setattr(upkeep.Upkeep, "wake", lambda _self: None)
    health = Health()
    archive = ArchiveProcessor(tmp_path, health=health)
    with new_run(pipeline=Pipeline([archive])):
        pass

    def late(_self: SealedFile) -> None:
        raise ArchiveError("late", path="", hint="", errno=errno.ETIMEDOUT)

    with monkeypatch.context() as patch:
        patch.setattr(SealedFile, "sync", late)
        archive.flush(30)
    archive.close()
    assert len(_lines(tmp_path / "traces.jsonl")) == 1
    assert (health.archive.sync_failures, _journal(tmp_path)) == (0, [])


def _journal(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.jsonl"))


@pytest.fixture
def archive(tmp_path) -> Iterator[ArchiveProcessor]:
    """An archive in a folder of the test's own."""
    processor = ArchiveProcessor(tmp_path)
    yield processor
    processor.close()


def test_an_iteration_is_on_disk_when_its_call_returns(new_run, archive, tmp_path):
    """As a line of the journal, behind the header and the run's start."""
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=7, goal_score=0.4)
        (segment,) = _journal(tmp_path)
        header, start, latest = map(decode, _lines(segment))
    assert header.journal.pid == os.getpid()
    assert (start.seq, start.span.end_ns) == (0, None)
    assert (latest.seq, latest.span.iteration) == (1, 7)


def test_a_journal_goes_when_its_process_ends_well(new_run, archive, tmp_path):
    """What is sealed, and on disk, need not be kept twice."""
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    archive.close()
    assert _journal(tmp_path) == []


def test_a_long_run_is_not_kept_in_memory(new_run, archive):
    """Its document is as complete as that of a short one."""
    sink = Pipeline([archive], keeper=archive)
    with new_run(pipeline=sink) as run:
        for number in range(1, 3001):
            with run.iteration() as step, step.worker("w"):
                step.goal_score(number / 3000)
        under_way = run.build_trace()
        assert len(run._recording._kept) < 1000
    assert sink.flush()
    numbers = [s["attributes"].get("loop.iteration") for s in under_way["spans"]]
    assert [n for n in numbers if n is not None] == list(range(1, 3001))
    assert run.build_trace()["spans"][1:] == under_way["spans"][1:]


def test_a_long_run_is_sealed_as_it_is_told(new_run, archive, tmp_path):
    """In the background, and the same as a document made at once."""
    sink = Pipeline([archive], keeper=archive)
    with new_run(pipeline=sink) as run:
        for number in range(1, 1501):
            run.emit_iteration(iteration=number, goal_score=0.4, evaluator_id="e")
    assert sink.flush()
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()


def test_a_late_iteration_of_a_long_run_stays_with_the_tracer(new_run, archive):
    """It is in build_trace, after those that the archive gives back."""
    sink = Pipeline([archive], keeper=archive)
    with new_run(pipeline=sink) as run:
        for number in range(1, 1501):
            run.emit_iteration(iteration=number, goal_score=0.4)
    run.emit_iteration(iteration=9999, goal_score=0.5)
    assert sink.flush()
    spans = run.build_trace()["spans"]
    assert [s["attributes"].get("loop.iteration") for s in spans[-2:]] == [1500, 9999]


def test_a_trace_id_may_be_used_again(new_run, archive, tmp_path):
    """The document of the second run holds nothing of the first."""
    sink, trace_id = Pipeline([archive], keeper=archive), new_run().trace_id
    for score in (0.1, 0.2):
        with new_run(pipeline=sink, trace_id=trace_id) as run:
            for number in range(1, 1201):
                run.emit_iteration(iteration=number, goal_score=score)
    assert sink.flush()
    first, second = map(ltf.decode, _lines(tmp_path / "traces.jsonl"))
    scores = [
        {s["attributes"].get("loop.goal_score") for s in document["spans"][1:]}
        for document in (first, second)
    ]
    assert scores == [{0.1}, {0.2}]
    assert len(second["spans"]) == 1201


def test_without_durability_there_is_no_journal(new_run, tmp_path):
    """Runs are kept in memory, and sealed when they end."""
    archive = ArchiveProcessor(tmp_path, durability="none")
    with new_run(pipeline=Pipeline([archive])) as run:
        for number in range(1, 2001):
            run.emit_iteration(iteration=number, goal_score=0.4)
    archive.close()
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()
    assert not (tmp_path / "journal").exists()


def test_a_run_that_ends_after_its_archive_was_closed_is_sealed(
    new_run, archive, tmp_path
):
    """And leaves no journal."""
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        archive.close()
        run.emit_iteration(iteration=2, goal_score=0.5)
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()
    assert _journal(tmp_path) == []


def test_a_full_segment_is_followed_by_another(new_run, tmp_path):
    """Both go once the run is sealed."""
    archive = ArchiveProcessor(tmp_path, segment_bytes=10_000)
    with new_run(pipeline=Pipeline([archive])) as run:
        for number in range(1, 101):
            run.emit_iteration(iteration=number, goal_score=0.4)
        assert len(_journal(tmp_path)) > 2
    archive.close()
    assert _journal(tmp_path) == []
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line) == run.build_trace()


def test_what_json_cannot_carry_costs_no_span(archive, tmp_path):
    """A span of a stranger's making is made plain, and kept."""
    run = RunSpan(f"ltf-{uuid.uuid4()}", "0" * 15 + "1", 1, "strange-loop", 0.8)
    archive.on_start(msgspec.structs.replace(run, metadata={"strange": object()}))
    archive.on_end(msgspec.structs.replace(run, end_ns=2, metadata={"s": {1, 2}}))
    (line,) = _lines(tmp_path / "traces.jsonl")
    assert ltf.decode(line)["loop_name"] == "strange-loop"
    assert [decode(line).seq for line in _lines(*_journal(tmp_path))[1:3]] == [0, 1]


def test_the_archive_tells_of_itself(new_run, tmp_path):
    """Bytes and seals are counted; nothing is amiss."""
    health = Health()
    archive = ArchiveProcessor(tmp_path, health=health, durability="run")
    with new_run(pipeline=Pipeline([archive])) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    archive.close()
    told = health.archive
    assert (told.seals, told.pending_runs, told.lost_spans) == (1, 0, 0)
    assert told.sealed_bytes == (tmp_path / "traces.jsonl").stat().st_size - 1
    assert told.in_use
    assert not told.degraded


def test_a_forked_child_counts_its_own_archive_from_zero(new_run, tmp_path):
    """And the archive goes on to count where the health looks."""
    health = Health()
    archive = ArchiveProcessor(tmp_path, health=health)
    sink = Pipeline([archive], health=health)
    with new_run(pipeline=sink):
        pass
    health.archive.degraded = True
    # What a child does; the fork itself is tested with real processes.
    sink.after_fork()
    assert (health.archive.seals, health.archive.degraded) == (0, False)
    with new_run(pipeline=sink):
        pass
    archive.close()
    assert (health.archive.seals, health.archive.in_use) == (1, True)
