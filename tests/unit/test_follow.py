"""Following an archive: each span of each run once, whatever happens to the files."""

import fcntl
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from loopotel_prom import LoopTracer
from loopotel_prom.archive import layout
from loopotel_prom.archive.compress import compress
from loopotel_prom.archive.follow import Follower, Position
from loopotel_prom.archive.ledger import Ledger, Taken
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.archive.recovery import recover
from loopotel_prom.archive.sealed import SealedFile
from loopotel_prom.archive.tail import Tail
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import IterationSpan, RunSpan
from loopotel_prom.testing import RecordingProcessor


@pytest.fixture
def folder(tmp_path) -> Path:
    """Name the archive's folder."""
    return tmp_path / "traces"


@pytest.fixture
def writer(folder) -> Iterator[Callable[..., Pipeline]]:
    """Return `start(where=folder, **options)`: a process's pipeline into an archive."""
    opened = []

    def start(where: Path = folder, **options) -> Pipeline:
        processor = ArchiveProcessor(where, **options)
        opened.append(processor)
        return Pipeline([processor], keeper=processor)

    yield start
    for run in _kept:
        run.finish()
    _kept.clear()
    for processor in opened:
        processor.close()


@pytest.fixture
def follow(folder, recorder) -> Iterator[Callable[..., Follower]]:
    """Return `start(**options)`: a follower that feeds the recorder."""
    opened = []

    def start(**options) -> Follower:
        follower = Follower(folder, recorder, **options)
        opened.append(follower)
        return follower

    yield start
    for follower in opened:
        follower.close()


# As garbage, a run under way would end itself.
_kept: list[LoopTracer] = []


def _run(sink: Pipeline, iterations: int = 3, **options) -> LoopTracer:
    run = LoopTracer("code-repair", pipeline=sink, **options)
    _kept.append(run)
    for number in range(1, iterations + 1):
        run.emit_iteration(iteration=number, goal_score=0.1, tokens_delta=number)
    return run


def _iterations(recorder: RecordingProcessor) -> list[int]:
    return [s.iteration for s in recorder.ended if isinstance(s, IterationSpan)]


def _ends(recorder: RecordingProcessor) -> list[RunSpan]:
    return [s for s in recorder.ended if isinstance(s, RunSpan)]


def _ids(recorder: RecordingProcessor) -> list[str]:
    return [span.span_id for span in recorder.ended]


def test_what_is_journalled_is_fed(follow, writer, recorder):
    """Start, spans and end come as their process saw them."""
    follower, sink = follow(), writer()
    twin = RecordingProcessor()
    run = _run(Pipeline([twin, *sink.processors]), iterations=2)
    follower.poll()
    assert recorder.started == twin.started
    assert recorder.ended == twin.ended
    run.finish(outcome="success", termination_reason="goal_met")
    follower.poll()
    assert recorder.ended == twin.ended


def test_a_poll_without_news_feeds_nothing(follow, writer, recorder):
    """Nothing is fed twice, be it in the journal, the sealed file or both."""
    follower, sink = follow(), writer()
    run = _run(sink)
    follower.poll()
    run.finish()
    for _ in range(3):
        follower.poll()
    assert _iterations(recorder) == [1, 2, 3]
    assert len(_ends(recorder)) == 1


def test_a_process_too_quick_for_its_journal_is_told_by_its_document(
    follow, writer, recorder, folder
):
    """Children come before their iteration, as they would have."""
    follower, sink = follow(), writer()
    run = LoopTracer("code-repair", pipeline=sink)
    with run.iteration() as step:
        with step.worker("implementer"):
            pass
        step.goal_score(0.5)
    run.finish()
    sink.close()
    assert not layout.segments(folder)
    follower.poll()
    kinds = [type(span).__name__ for span in recorder.ended]
    assert kinds == ["WorkerSpan", "IterationSpan", "RunSpan"]
    assert recorder.started[0].end_ns is None


def test_a_run_without_a_journal_is_told_by_its_document(follow, writer, recorder):
    """With durability none there is nothing else."""
    follower, sink = follow(), writer(durability="none")
    _run(sink).finish()
    follower.poll()
    assert _iterations(recorder) == [1, 2, 3]


def test_a_segment_is_read_to_its_end_after_it_was_removed(follow, writer, recorder):
    """The descriptor is held until all of it has been read."""
    follower, sink = follow(), writer()
    run = _run(sink, 1)
    follower.poll()
    run.emit_iteration(iteration=2, goal_score=0.123456789)
    run.finish()
    sink.close()
    follower.poll()
    # A document would have rounded it.
    assert recorder.ended[1].goal_score == 0.123456789
    assert follower.journals() == 0


@pytest.mark.parametrize("taken", (0, 1, 63, 64, 65, 200, 299))
def test_a_document_brings_what_the_journal_could_not(follow, writer, recorder, taken):
    """Whatever was taken before its journal went, no span is missing or double."""
    follower, sink = follow(), writer()
    run = _run(sink, taken)
    follower.poll()
    position = follower.position()
    follower.close()
    for number in range(taken + 1, 301):
        run.emit_iteration(iteration=number, goal_score=0.1)
    run.finish()
    sink.close()
    again = follow(position=position)
    again.poll()
    assert _iterations(recorder) == [*range(1, 301)]
    assert len(_ends(recorder)) == 1


def test_overlapping_spans_are_told_apart_by_their_ids():
    """In a document workers stand by iteration, in a journal by their end."""
    recorder = RecordingProcessor()
    twin = RecordingProcessor()
    run = LoopTracer("code-repair", pipeline=Pipeline([twin]))
    first, second = run.iteration(1), run.iteration(2)
    with first as one, second as two:
        for step, name in ((one, "a"), (two, "b"), (one, "c"), (two, "d")):
            with step.worker(name):
                pass
    run.finish()
    ledger = Ledger(recorder)
    ledger.record(0, twin.started[0])
    journal = twin.ended
    for seq, span in enumerate(journal[:2], start=1):
        ledger.record(seq, span)
    rest = [journal[i] for i in (0, 2, 4, 1, 3, 5)]
    assert [*ledger.document(journal[-1], [rest])]
    assert Counter(_ids(recorder)) == Counter(span.span_id for span in journal)


def test_a_record_written_again_is_not_taken_again(follow, writer, folder, recorder):
    """A segment that was written anew holds what stood in the old one."""
    follower, sink = follow(), writer()
    _run(sink)
    follower.poll()
    (path,) = layout.segments(folder)
    shutil.copy(path, path.with_name(path.name.replace(".1.", ".2.")))
    follower.poll()
    assert _iterations(recorder) == [1, 2, 3]


def test_segments_are_read_in_the_order_of_their_numbers(follow, writer, recorder):
    """The tenth comes after the ninth, though not by its name."""
    follower, sink = follow(), writer(segment_bytes=1)
    run = _run(sink, 30)
    follower.poll()
    run.finish()
    follower.poll()
    assert _iterations(recorder) == [*range(1, 31)]


def _journal_elsewhere(writer, folder: Path, tmp_path: Path) -> tuple[bytes, Path]:
    """Write a journal of one run elsewhere; give it, and a place for it here."""
    _run(writer(tmp_path / "elsewhere"))
    (path,) = layout.segments(tmp_path / "elsewhere")
    (folder / layout.JOURNAL).mkdir(parents=True)
    return path.read_bytes(), folder / layout.JOURNAL / path.name


def test_a_line_that_is_begun_waits_for_its_end(
    follow, writer, folder, recorder, tmp_path
):
    """What has no ending yet is read when it has one."""
    whole, copy = _journal_elsewhere(writer, folder, tmp_path)
    copy.write_bytes(whole[:-20])
    follower = follow()
    follower.poll()
    assert _iterations(recorder) == [1, 2]
    copy.write_bytes(whole)
    follower.poll()
    assert _iterations(recorder) == [1, 2, 3]
    assert follower.following.damaged_lines == 0


def test_a_damaged_line_is_passed_over_and_its_document_waited_for(
    follow, writer, folder, recorder, tmp_path
):
    """The run ends with its document, which has what is missing."""
    whole, copy = _journal_elsewhere(writer, folder, tmp_path)
    _kept[-1].finish()
    lines = whole.splitlines(keepends=True)
    lines[3] = b"x" * 80 + b"\n"
    follower = follow()
    copy.write_bytes(b"".join(lines))
    follower.poll()
    assert _iterations(recorder) == [1, 3]
    shutil.copy(tmp_path / "elsewhere" / layout.SEALED, folder)
    follower.poll()
    assert len(_iterations(recorder)) == 3
    assert len(_ends(recorder)) == 1
    assert follower.following.damaged_lines == 1


def test_no_lock_is_held_and_nothing_changed(follow, writer, folder):
    """Recovery can have a dead journal while it is followed, byte for byte."""
    sink = writer()
    _run(sink)
    (path,) = layout.segments(folder)
    dead = path.with_name("dead.1.jsonl")
    shutil.copy(path, dead)
    before = dead.read_bytes()
    follower = follow()
    follower.poll()
    assert follower.is_some_dead()
    with dead.open("rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert dead.read_bytes() == before


def test_a_living_journal_is_not_taken_for_dead(follow, writer):
    """Its owner holds the lock."""
    follower, sink = follow(), writer()
    _run(sink)
    follower.poll()
    assert follower.journals() == 1
    assert not follower.is_some_dead()


def test_a_run_that_was_recovered_ends_as_abandoned(follow, folder, recorder):
    """Its iterations are those of the journal, its end that of the document."""
    follower = follow()
    pid = os.fork()
    if not pid:
        sink = Pipeline([ArchiveProcessor(folder)])
        _run(sink)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    follower.poll()
    assert follower.is_some_dead()
    recover(folder)
    follower.poll()
    (end,) = _ends(recorder)
    assert (end.outcome, end.termination_reason) == ("unknown", "abandoned")
    assert end.metadata["recovered"]
    assert _iterations(recorder) == [1, 2, 3]
    assert not follower.is_some_dead()


def test_rotation_hides_nothing(follow, writer, recorder):
    """However often the sealed file is rotated between two looks."""
    follower, sink = follow(), writer(durability="none", rotate_bytes=3000)
    for _ in range(3):
        for _ in range(5):
            _run(sink).finish()
        follower.poll()
    assert len(_iterations(recorder)) == 45
    assert len({end.trace_id for end in _ends(recorder)}) == len(_ends(recorder)) == 15


@pytest.mark.parametrize("looks", (True, False), ids=("followed", "down"))
def test_compression_shows_nothing_twice(follow, folder, writer, recorder, looks):
    """A file is known again by its beginning, whether it is followed meanwhile."""
    writer(durability="none")
    sealed = SealedFile(folder / layout.SEALED, rotate_bytes=10**9)
    sink = writer(durability="none")
    _run(sink).finish()  # history
    follower = follow()
    _run(sink).finish()
    follower.poll()
    position = follower.position()
    if not looks:
        follower.close()
    _run(sink).finish()
    sealed.rotate()
    (path,) = layout.rotated_files(folder)
    compress(path)
    _run(sink).finish()
    if not looks:
        follower = follow(position=position)
    follower.poll()
    follower.poll()
    assert len(_ends(recorder)) == 3
    sealed.close()


def test_history_is_not_counted(follow, writer, recorder):
    """At the first start only runs that are under way are taken, and those whole."""
    sink = writer()
    _run(sink).finish()
    run = _run(sink)
    follower = follow()
    follower.poll()
    assert _iterations(recorder) == [1, 2, 3]
    run.finish()
    follower.poll()
    assert [end.trace_id for end in _ends(recorder)] == [run.trace_id]


def test_a_run_that_ended_before_the_start_and_is_sealed_after_it_is_history(
    follow, writer, folder, recorder
):
    """Its document comes late, and changes nothing."""
    sink = writer()
    run = _run(sink)
    run.finish()
    line = (folder / layout.SEALED).read_bytes()
    (folder / layout.SEALED).write_bytes(b"")
    follower = follow()
    follower.poll()
    (folder / layout.SEALED).write_bytes(line)
    follower.poll()
    assert not recorder.started


def test_following_goes_on_where_it_stood(follow, writer, recorder):
    """With its position, another follower feeds the rest, and no more."""
    follower, sink = follow(), writer()
    run = _run(sink, 2)
    _run(sink).finish()
    follower.poll()
    position = follower.position()
    run.emit_iteration(iteration=3, goal_score=0.1)
    follower.close()
    follow(position=position).poll()
    assert _iterations(recorder) == [1, 2, 1, 2, 3, 3]
    assert len(recorder.started) == 2


def test_each_step_is_a_position_to_go_on_from(follow, writer, recorder, folder):
    """Left off in the middle, all that was taken is known."""
    sink = writer(durability="none")
    first = follow()
    _run(sink, 2000).finish()
    steps = first.steps()
    next(steps)
    assert 0 < len(_iterations(recorder)) < 2000
    follow(position=first.position()).poll()
    assert _iterations(recorder) == [*range(1, 2001)]


@pytest.mark.parametrize(
    "line",
    (
        b"{}",
        b"\0\0\0",
        b'{"trace_id":"x","spans":[]}',
        b'{"trace_id":"ltf-00000000-0000-4000-8000-000000000001","spans":[{"kind":"loop"}]}',
        b'{"trace_id":7}',
        b"[" * 5000,
    ),
)
def test_a_line_that_is_no_trace_is_counted(follow, writer, folder, recorder, line):
    """It spoils nothing beside it."""
    follower, sink = follow(), writer(durability="none")
    _run(sink).finish()
    with (folder / layout.SEALED).open("ab") as file:
        file.write(line + b"\n")
    _run(sink).finish()
    follower.poll()
    assert len(_ends(recorder)) == 2
    assert follower.following.damaged_lines == 1


@pytest.mark.parametrize("apart", (True, False), ids=("apart", "in traces.jsonl"))
def test_a_document_too_long_to_be_held_is_read_in_pieces(
    follow, writer, recorder, monkeypatch, apart
):
    """Its spans come as those of any other, and the next document after it."""
    for module in ("files", "tail", *(["sealed"] if apart else [])):
        monkeypatch.setattr(f"loopotel_prom.archive.{module}.LONG_BYTES", 300_000)
    follower, sink = follow(), writer(durability="none")
    _run(sink, 700).finish()
    _run(sink, 2).finish()
    follower.poll()
    assert Counter(_iterations(recorder)) == Counter([*range(1, 701), 1, 2])
    assert len(_ends(recorder)) == 2
    assert follower.following.damaged_lines == 0


def test_a_folder_that_is_not_there_yet_is_empty(follow, writer, recorder):
    """The sidecar may be the first to start."""
    follower = follow()
    follower.poll()
    _run(writer()).finish()
    follower.poll()
    assert len(_ends(recorder)) == 1


def test_more_segments_than_may_be_open_are_read_all_the_same(follow, writer, recorder):
    """They are opened for each look."""
    follower = follow(most_open=1)
    runs = [_run(writer()) for _ in range(4)]
    follower.poll()
    for run in runs:
        run.emit_iteration(iteration=4, goal_score=0.1)
    follower.poll()
    assert len(_iterations(recorder)) == 16
    assert sum(t.is_open for t in follower._journals._tails.values()) == 1


def test_finished_runs_are_forgotten_in_the_end(monkeypatch):
    """Of any number the newest are known."""
    monkeypatch.setattr("loopotel_prom.archive.ledger._FINISHED", 10)
    ledger, recorder = Ledger(RecordingProcessor()), RecordingProcessor()
    sink = Pipeline([recorder])
    for _ in range(35):
        LoopTracer("code-repair", pipeline=sink).finish()
    for start, end in zip(recorder.started, recorder.ended, strict=True):
        ledger.record(0, start)
        ledger.record(1, end)
    assert len(ledger.finished()) // 16 == 15
    assert ledger.is_finished(recorder.ended[-10].trace_id)
    assert not ledger.is_finished(recorder.ended[0].trace_id)


def test_of_a_run_the_latest_ids_are_known():
    """It costs no more, however long it is."""
    recorder = RecordingProcessor()
    _run(Pipeline([recorder]), 1000)
    taken = Taken("t")
    for span in recorder.ended:
        if isinstance(span, IterationSpan):
            taken.add(span)
    assert len(taken.latest["iteration"]) == 64
    assert taken.counts == {"iteration": 1000}


def test_a_line_longer_than_a_piece_is_one_line(tmp_path):
    """Its end is looked for from where the search stood."""
    path = tmp_path / "file"
    path.write_bytes(b"a\n" + b"x" * 1_000_000)
    tail = Tail(path)
    tail.open()
    piece = tail.read()
    tail.offset = piece.end
    assert tail.read().lines == []
    with path.open("ab") as file:
        file.write(b"y\nb\n")
    (line,), end = tail.read()
    assert len(line.data) == 1_000_001
    tail.offset = end
    assert [line.data for line in tail.read().lines] == [b"b"]
    tail.close()


def test_a_file_that_shrank_is_read_again(tmp_path):
    """Someone has emptied it, and others go on writing."""
    path = tmp_path / "file"
    path.write_bytes(b"first\nsecond\n")
    tail = Tail(path, offset=13)
    tail.open()
    path.write_bytes(b"new\n")
    assert [line.data for line in tail.read().lines] == [b"new"]
    tail.close()


def test_positions_survive_json():
    """They are part of a checkpoint."""
    position = Position({"a": 1}, [Taken("t", 3, 0, {"worker": 1}, {"worker": [5]})])
    data = msgspec.json.encode(position)
    assert msgspec.json.decode(data, type=Position) == position
