"""The sidecar: what it shows is in its checkpoint, whatever happens to that."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopotel_prom import LoopTracer
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.board import BoardProcessor
from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.snapshot import Snapshot
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.runs.inventory import inspect
from loopotel_prom.sidecar import CheckpointFile, Sidecar
from loopotel_prom.sidecar.checkpoint import decode


@pytest.fixture
def folder(tmp_path) -> Path:
    """Name the archive's folder."""
    return tmp_path / "traces"


@pytest.fixture
def sink(folder) -> Iterator[Pipeline]:
    """Give the pipeline of a process that writes to the archive."""
    processor = ArchiveProcessor(folder)
    yield Pipeline([processor], keeper=processor)
    processor.close()


@pytest.fixture
def start(folder) -> Iterator[Callable[..., Sidecar]]:
    """Return `start(health=, **limits)`: a sidecar that has caught up."""
    running: list[Sidecar] = []

    def start(health: Health | None = None, board=None, **limits) -> Sidecar:
        for before in running:
            _kill(before)
        health = health or Health()
        sidecar = Sidecar(
            folder,
            MetricsProcessor(health=health, **limits),
            health=health,
            file=CheckpointFile(folder / "sidecar.checkpoint"),
            board=board,
        )
        running[:] = [sidecar]
        sidecar.catch_up()
        return sidecar

    yield start
    for sidecar in running:
        sidecar.close()


def _kill(sidecar: Sidecar) -> None:
    """Let go of what a killed process would."""
    sidecar._follower.close()
    sidecar._file.close()


def _run(sink: Pipeline, iterations: int = 3) -> LoopTracer:
    run = LoopTracer("code-repair", pipeline=sink)
    for number in range(1, iterations + 1):
        run.emit_iteration(iteration=number, goal_score=number / 7, tokens_delta=9)
    return run


def _value(snapshot: Snapshot, name: str) -> float:
    return sum(
        sample.value
        for family in snapshot
        if family.metric.name == name
        for sample in family.samples
    )


def test_what_is_shown_is_in_the_checkpoint(start, sink, folder):
    """Before the look returns: a kill right after it takes nothing back."""
    sidecar = start()
    run = _run(sink)
    sidecar._poll()
    shown, _ = sidecar.look()
    saved = decode((folder / "sidecar.checkpoint").read_bytes())
    (loop,) = saved.metrics.loops
    assert loop.counters["iterations"] == _value(shown, "loop_iterations_total") == 3
    run.finish()


def test_a_document_takes_nothing_back_that_a_journal_showed(start, sink):
    """Its scores are rounded; after a kill the sum is no less."""
    sidecar = start()
    run = _run(sink, 2)
    sidecar._poll()
    sidecar.catch_up()
    run.emit_iteration(iteration=3, goal_score=0.99995)
    sidecar._poll()
    before = _value(sidecar.look()[0], "loop_goal_score_gain_total")
    run.finish()
    sink.close()
    again = start()
    assert _value(again.look()[0], "loop_goal_score_gain_total") == before
    assert _value(again.look()[0], "loop_iterations_total") == 3


def test_a_disk_that_takes_no_checkpoint_stops_no_scrape(
    start, sink, monkeypatch, caplog
):
    """It is counted, and written when that is possible again."""
    health = Health()
    sidecar = start(health)
    _kept = _run(sink)

    def full(_self: CheckpointFile, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr(CheckpointFile, "_replace", full)
        sidecar._poll()
        assert _value(sidecar.look()[0], "loop_iterations_total") == 3
        assert health.processor_failures()["Checkpoint"] == 1
    written = sidecar._file.path.stat().st_mtime_ns
    sidecar.look()
    assert sidecar._file.path.stat().st_mtime_ns > written


def test_a_read_that_takes_long_stops_no_scrape(start, monkeypatch):
    """It shows what there is."""
    sidecar = start()
    monkeypatch.setattr("loopotel_prom.sidecar.sidecar._PATIENCE_SECONDS", 0.01)
    with sidecar._lock:
        assert sidecar.look()[0]


def test_any_damage_to_a_checkpoint_is_noticed(start, sink, folder):
    """A flipped bit, a cut, an empty file: none of it is believed."""
    sidecar = start()
    run = _run(sink)
    sidecar.catch_up()
    data = (folder / "sidecar.checkpoint").read_bytes()
    assert decode(data).position.runs[0].trace_id == run.trace_id
    for at in range(0, len(data) - 1, 7):
        for damaged in (
            data[:at],
            data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :],
        ):
            with pytest.raises(DocumentError):
                decode(damaged)
    run.finish()


@pytest.mark.parametrize("how", ("damaged", "other labels"))
def test_without_its_checkpoint_it_begins_with_the_runs_under_way(
    start, sink, folder, caplog, how
):
    """One line says so; what has ended is not counted again."""
    sidecar = start()
    _run(sink).finish()
    open_run = _run(sink, 5)
    sidecar.catch_up()
    if how == "damaged":
        (folder / "sidecar.checkpoint").write_bytes(b"{")
        again = start()
    else:
        again = start(run_labels=("task_id",))
    assert _value(again.look()[0], "loop_iterations_total") == 5
    (line,) = [r for r in caplog.records if "begin at zero" in r.getMessage()]
    assert str(folder) in line.getMessage()
    open_run.finish()


def test_of_two_checkpoints_the_newer_stays(tmp_path):
    """The one that was made first may come to be written last."""
    file = CheckpointFile(tmp_path / "file")
    assert file.write(2, b"newer")
    assert file.write(1, b"older")
    assert file.path.read_bytes() == b"newer"
    file.close()


def test_a_checkpoint_is_private(tmp_path):
    """It names loops, tasks and runs."""
    file = CheckpointFile(tmp_path / "new" / "file")
    file.write(1, b"data")
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert file.path.parent.stat().st_mode & 0o777 == 0o700
    file.close()


def test_its_files_are_known_in_an_archive(start, sink, folder):
    """Whoever verifies the archive has nothing to say about them."""
    sidecar = start()
    run = _run(sink)
    sidecar.catch_up()
    assert not [problem for problem in inspect(folder) if "sidecar" in problem.file]
    run.finish()


def test_one_sidecar_has_a_checkpoint_to_itself(tmp_path):
    """Another is refused, until the first has let go of it."""
    file = CheckpointFile(tmp_path / "file")
    with pytest.raises(ConfigError, match="another sidecar"):
        CheckpointFile(tmp_path / "file")
    file.close()
    CheckpointFile(tmp_path / "file").close()


def test_a_checkpoint_that_cannot_be_is_told_at_once(tmp_path):
    """Before anything is followed."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="name a file"):
        CheckpointFile(tmp_path / "file" / "below")


def test_the_board_knows_runs_under_way_after_a_restart(start, sink):
    """From their beginning; and goes on with them, each iteration once."""
    start(board=BoardProcessor())
    _run(sink).finish()
    run = _run(sink, 3)
    start()  # has read it
    run.emit_iteration(iteration=4, goal_score=0.5)
    board = BoardProcessor()
    sidecar = start(board=board)
    (shown,) = board.overview().active
    assert (shown.trace_id, shown.iterations) == (run.trace_id, 4)
    run.finish()
    sidecar._poll()
    assert not board.overview().active


def test_a_board_that_fails_costs_no_count(start, sink):
    """It is counted as failing."""

    class Bad:
        def on_start(self, span):
            raise ValueError("no")

        on_end = on_start

    health = Health()
    sidecar = start(health, board=Bad())
    _run(sink).finish()
    sidecar._poll()
    assert _value(sidecar.look()[0], "loop_iterations_total") == 3
    assert health.processor_failures()["Bad"] == 5


def test_its_thread_outlives_a_failure(start, sink, monkeypatch):
    """It is counted, and the next look is taken."""
    health = Health()
    sidecar = start(health)
    monkeypatch.setattr("loopotel_prom.sidecar.sidecar._POLL_SECONDS", 0.001)
    calls = []

    def steps(_self):
        calls.append(1)
        raise OSError(5, "Input/output error")
        yield

    monkeypatch.setattr("loopotel_prom.archive.follow.Follower.steps", steps)
    sidecar.start()
    while len(calls) < 3:
        sidecar._stopping.wait(0.001)
    assert health.processor_failures()["Sidecar"] >= 2
