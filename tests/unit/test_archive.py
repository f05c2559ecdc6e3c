"""The archive's processor: each run that ends becomes a line."""

from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.pipeline import Pipeline


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
    """It is written, once, with the next one; until then it is told."""
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
    found = [ltf.decode(line) for line in _lines(tmp_path / "traces.jsonl")]
    assert found == [first.build_trace(), second.build_trace()]
    assert archive.unwritten() == 0
