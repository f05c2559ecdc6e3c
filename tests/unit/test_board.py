"""The board: what it keeps of runs, how it judges them, and what it costs."""

import math
import random
import resource
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from msgspec import structs

from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.board import BoardProcessor
from loopotel_prom.board.archived import BusyError, Shelf, one_of
from loopotel_prom.board.curve import MOST_POINTS, Curve
from loopotel_prom.board.judgement import burn_of, mark_of, slope_of
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.ltf import encode, fold
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import Event, IterationSpan, RunSpan
from loopotel_prom.tracer import LoopTracer


@pytest.fixture
def board():
    """Keep the runs of the test, with a clock that stands still."""
    return BoardProcessor(time_ns=lambda: 10**18)


@pytest.fixture
def start(board):
    """Start a run on the board, and give a function that emits its iterations."""

    def begin(**options) -> LoopTracer:
        options.setdefault("pipeline", Pipeline([board]))
        run = LoopTracer(options.pop("loop_name", "code-repair"), **options)
        run.__enter__()
        return run

    return begin


def _run_span(trace_id: str, **changes) -> RunSpan:
    return RunSpan(trace_id, "a" * 16, 10**18, "code-repair", 0.8, **changes)


def _iteration(trace_id: str, number: int, score: float | None, **changes):
    values = {"goal_target": 0.8, "effectiveness": 0.5, "les_cumulative": 0.5}
    return IterationSpan(
        trace_id,
        f"{number:016x}",
        "a" * 16,
        10**18 + number,
        10**18 + number + 1,
        number,
        score,
        **(values | changes),
    )


def _emit(run: LoopTracer, scores) -> None:
    for number, score in enumerate(scores, start=1):
        run.emit_iteration(iteration=number, goal_score=score, tokens_delta=100)


def test_an_active_run_shows_its_latest_values(board, start):
    """Score, target, iterations and tokens are those of the latest iteration."""
    _emit(start(goal_target=0.9), [0.2, 0.4, 0.6])
    (run,) = board.overview().active
    assert (run.goal_score, run.goal_target, run.best_score) == (0.6, 0.9, 0.6)
    assert (run.iterations, run.tokens, run.outcome) == (3, 300, "open")


def test_an_ended_run_moves_to_the_recent_ones(board, start):
    """Its outcome and reason come with it, and it is active no more."""
    run = start()
    _emit(run, [0.9])
    run.finish(outcome="success", termination_reason="goal_met")
    run.__exit__(None, None, None)
    seen = board.overview()
    assert seen.active == []
    assert [(r.outcome, r.reason) for r in seen.recent] == [("success", "goal_met")]
    assert seen.totals.finished["success"] == 1


def test_totals_add_up_over_active_and_ended_runs(board, start):
    """No iteration and no token is counted twice, or not at all."""
    first, second = start(), start()
    _emit(first, [0.1] * 70)
    _emit(second, [0.1] * 5)
    first.finish(outcome="failure", termination_reason="stall")
    first.__exit__(None, None, None)
    totals = board.overview().totals
    assert (totals.started, totals.iterations, totals.tokens) == (2, 75, 7500)


def test_rows_keep_the_first_and_the_latest_iterations(board, start):
    """What lies between is counted as left out."""
    run = start()
    _emit(run, [0.5] * 1000)
    detail = board.detail(run.trace_id)
    numbers = [step.number for step in (*detail.first, *detail.last)]
    assert numbers == [*range(1, 21), *range(801, 1001)]
    assert detail.left_out == 780


def test_workers_and_happenings_are_told(board, start):
    """A step's worker, judge and failure show in its row and in the sums."""
    run = start()
    with run.iteration() as step:
        with step.worker("implementer", role="coder") as worker:
            worker.add_tokens(input=10, output=5)
        with step.evaluator("rubric", type="llm_rubric") as judge:
            judge.score(0.4)
        step.failure("fail.oscillation")
        step.goal_score(0.4)
    detail = board.detail(run.trace_id)
    assert detail.first[0].workers == ("implementer",)
    assert [(h.name, h.code) for h in detail.happenings] == [
        ("loop.failure", "fail.oscillation")
    ]
    callers = [(c.kind, c.name, c.role, c.calls) for c in detail.callers]
    assert callers == [
        ("worker", "implementer", "coder", 1),
        ("evaluator", "rubric", "llm_rubric", 1),
    ]


def test_workers_that_are_only_named_are_counted(board, start):
    """An iteration that names its worker counts as one call of it."""
    run = start()
    for number in (1, 2):
        run.emit_iteration(iteration=number, goal_score=0.5, worker_id="solo")
    (caller,) = board.detail(run.trace_id).callers
    assert (caller.name, caller.calls) == ("solo", 2)


def test_a_nested_run_names_its_parent(board, start):
    """The trace id of the run outside is kept."""
    outer = start()
    inner = start(loop_name="inner-loop")
    assert board.detail(inner.trace_id).summary.parent == outer.trace_id


def test_attributes_and_events_do_not_stay_in_memory(board):
    """What a program attaches may be large; only names and codes are kept."""
    board.on_start(_run_span("t"))
    tracemalloc.start()
    for number in range(1, 2001):
        event = Event("loop.failure", 0, {"loop.failure.code": "c", "x": "y" * 5000})
        span = _iteration("t", number, 0.5, attributes={"blob": "z" * 20_000})
        board.on_end(structs.replace(span, events=(event,)))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_a_million_iterations_fit_in_flat_memory(board):
    """A run of a million takes no more than one of a hundred thousand."""
    board.on_start(_run_span("t"))
    resident = []
    for number in range(1, 1_000_001):
        board.on_end(_iteration("t", number, 0.5, tokens_delta=1))
        if number in (100_000, 1_000_000):
            resident.append(_resident_bytes())
    detail = board.detail("t")
    assert resident[1] < resident[0] + 5_000_000
    assert (detail.summary.iterations, detail.summary.tokens) == (10**6, 10**6)
    assert len(detail.summary.points.low) <= MOST_POINTS


def test_the_quietest_runs_are_left_out_and_counted():
    """Beyond the most that are kept, they show as a number only."""
    board = BoardProcessor(max_active=100)
    for number in range(1, 131):
        board.on_start(_run_span(f"t{number}"))
        board.on_end(_iteration(f"t{number}", number, 0.5, tokens_delta=1))
    seen = board.overview()
    assert 100 <= len(seen.active) <= 110
    assert len(seen.active) + seen.unshown == 130
    assert "t1" not in {run.trace_id for run in seen.active}
    assert seen.totals.iterations == 130


def test_the_end_of_a_run_that_was_left_out_is_counted_once():
    """Its outcome counts; what it spent was counted before."""
    board = BoardProcessor(max_active=1)
    for number in (1, 2, 3):
        board.on_start(_run_span(f"t{number}"))
        board.on_end(_iteration(f"t{number}", number, 0.5, tokens_delta=7))
    end = _run_span("t1", end_ns=10**18 + 5, outcome="success", tokens_total=7)
    board.on_end(end)
    seen = board.overview()
    assert (seen.unshown, seen.totals.finished["success"]) == (0, 1)
    assert seen.totals.tokens == 21


def test_many_runs_share_the_room_for_rows():
    """The more runs, the fewer iterations are kept of each."""
    board = BoardProcessor()
    for run in range(900):
        board.on_start(_run_span(f"t{run}"))
        for number in range(1, 301):
            board.on_end(_iteration(f"t{run}", number, 0.5))
    assert sum(len(board.detail(f"t{run}").last) for run in range(900)) < 60_000


def test_the_worst_runs_come_first(board, start):
    """Stalled before regressing, that before the others, on target last."""
    courses = {
        "on-target": [0.5, 0.9],
        "as-usual": [0.1, 0.2, 0.3],
        "falling": [0.6, 0.7, 0.5, 0.4, 0.3],
        "stuck": [0.5] * 8,
    }
    for name, scores in courses.items():
        _emit(start(loop_name=name), scores)
    seen = board.overview().active
    assert [(run.loop_name, run.mark) for run in seen] == [
        ("stuck", "stalled"),
        ("falling", "regressing"),
        ("as-usual", ""),
        ("on-target", "on target"),
    ]


@pytest.mark.parametrize(
    ("facts", "mark"),
    (
        ({"since_best": 4}, ""),
        ({"since_best": 5}, "stalled"),
        ({"since_best": 5, "goal_score": 0.8}, "on target"),
        ({"slope": -0.011}, "regressing"),
        ({"slope": -0.009}, ""),
        ({"burn": 2.1}, "burning"),
        ({"goal_score": None, "goal_target": None}, ""),
    ),
)
def test_each_mark_has_its_rule(facts, mark):
    """The edges of the rules that the pages tell."""
    usual = {"goal_score": 0.5, "goal_target": 0.8, "since_best": 0, "slope": None}
    assert mark_of(**(usual | {"burn": 1.0} | facts)) == mark


def test_the_slope_is_that_of_the_fitted_line():
    """A straight line has its own slope; under three scores have none."""
    assert slope_of([0.1, 0.2, 0.3, 0.4]) == pytest.approx(0.1)
    assert slope_of([0.1, 0.9]) is None


def test_burning_compares_with_the_iterations_before():
    """The quotient of the means; too few iterations compare to nothing."""
    assert burn_of([300] * 5, iterations=10, tokens=2000) == pytest.approx(3.0)
    assert burn_of([300] * 5, iterations=9, tokens=2000) == 1.0


@pytest.mark.parametrize("length", (1, 2, 299, 300, 301, 599, 601, 5000, 70_001))
def test_a_curve_loses_no_peak(length):
    """Whatever is joined, lowest, highest and latest value are those of all."""
    scores = [random.Random(length).random() for _ in range(length)]
    curve = Curve()
    for begin in range(0, length, 64):
        part = scores[begin : begin + 64]
        curve.extend(part, part, part)
    points = curve.points()
    assert len(points.low) <= MOST_POINTS
    assert (min(points.low), max(points.high)) == (min(scores), max(scores))
    assert (points.last[-1], points.iterations[-1]) == (scores[-1], length)


def test_a_curve_has_gaps_where_no_score_was_reported():
    """A missing score is None, also beside others in one point."""
    curve = Curve()
    curve.extend([math.nan, 0.5, math.nan], [0.0, 0.5, 0.5], [1, 2, 3])
    assert curve.points().last == [None, 0.5, None]
    curve.extend([math.nan] * 600, [0.5] * 600, [3] * 600)
    assert curve.points().last[0] == 0.5


def test_concurrent_loops_and_readers_lose_nothing(board):
    """Every iteration of eight threads is counted, while others look."""

    def work(name: str) -> None:
        board.on_start(_run_span(name))
        for number in range(1, 2001):
            board.on_end(_iteration(name, number, 0.5, tokens_delta=1))

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        board.overview()
    assert board.overview().totals.iterations == 16_000


def test_a_forked_child_starts_empty(board):
    """The parent shows its own runs."""
    board.on_start(_run_span("t"))
    board.after_fork()
    assert board.overview().active == []


def test_an_iteration_costs_little(board):
    """A few microseconds at the very most, on any machine."""
    board.on_start(_run_span("t"))
    spans = [_iteration("t", number, 0.5) for number in range(20_000)]
    begin = time.process_time()
    for span in spans:
        board.on_end(span)
    assert (time.process_time() - begin) / len(spans) < 10e-6


@pytest.fixture
def archived(tmp_path):
    """Make an archive, and tracers that write to it."""
    processor = ArchiveProcessor(tmp_path, durability="process", health=Health())
    processor.prepare()
    pipeline = Pipeline([processor], keeper=processor)
    yield lambda **options: LoopTracer("code-repair", pipeline=pipeline, **options)
    pipeline.close()


def test_a_sealed_run_is_read_like_one_in_memory(archived, tmp_path):
    """From the archive comes what the board had, rows and sums alike."""
    with archived() as run:
        for _ in range(30):
            with run.iteration() as step:
                with step.worker("coder", role="r") as worker:
                    worker.add_tokens(input=3, output=4)
                step.failure("fail.x")
                step.goal_score(0.5)
        run.finish(outcome="partial", termination_reason="human_stop")
    shelf = Shelf(tmp_path)
    detail = shelf.detail(one_of(shelf.find(run.trace_id[:12]), "x"))
    assert (detail.source, detail.summary.outcome) == ("archive", "partial")
    assert (detail.summary.iterations, detail.summary.tokens) == (30, 210)
    assert [(c.name, c.calls, c.tokens) for c in detail.callers] == [("coder", 30, 210)]
    assert detail.first[0].workers == ("coder",)
    assert len(detail.happenings) == 30


def test_a_run_under_way_is_read_from_its_journal(archived, tmp_path):
    """What has happened so far, and its document as if it ended now."""
    with archived() as run:
        run.emit_iteration(iteration=1, goal_score=0.5, tokens_delta=5)
        shelf = Shelf(tmp_path)
        (found,) = shelf.find(run.trace_id)
        detail = shelf.detail(found)
        assert (detail.source, detail.summary.outcome) == ("journal", "open")
        assert detail.notes == []
        assert run.trace_id.encode() in b"".join(shelf.document(found))


def test_a_document_that_is_read_in_pieces_can_be_shown_and_given(tmp_path):
    """One of over 64 MiB is not held; whole id or a part of it, it is found."""
    trace_id = "ltf-00000000-0000-4000-8000-000000000001"
    pad = {"pad": "x" * 10**6}
    steps = [_iteration(trace_id, n, 0.5, attributes=pad) for n in range(1, 71)]
    document = fold([_run_span(trace_id, end_ns=10**18 + 100), *steps])
    (tmp_path / "traces.jsonl").write_bytes(encode(document) + b"\n")
    shelf = Shelf(tmp_path)
    for typed in (trace_id, "ltf-0000"):
        (found,) = shelf.find(typed)
        assert shelf.detail(found).summary.iterations == 70
    pieces = shelf.document(shelf.find(trace_id)[0])
    assert sum(map(len, pieces)) == len(encode(document))


def test_a_search_that_takes_too_long_is_given_up(archived, tmp_path):
    """Whoever asks is told which command has the time."""
    with archived():
        pass
    shelf = Shelf(tmp_path, seconds=-1.0)
    with pytest.raises(BusyError, match="archive show"):
        shelf.find("ltf-00000000")


def test_a_third_reader_is_sent_away(tmp_path):
    """Reading an archive is work; two at a time is enough."""
    shelf = Shelf(tmp_path)
    with shelf.reading(), shelf.reading(), pytest.raises(BusyError), shelf.reading():
        pass


def test_an_id_that_is_none_is_refused(tmp_path):
    """No path comes of it."""
    with pytest.raises(ConfigError, match="no trace id"):
        Shelf(tmp_path).find("../../etc/passwd")
