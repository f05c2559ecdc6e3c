"""The replay: documents become moments in order, moments become a history."""

import random
import threading
from collections.abc import Callable, Iterator
from itertools import chain, groupby, pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopotel_prom import ltf
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import read_archive
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.exposition import upper_bounds
from loopotel_prom.metrics.families import OF_RUN
from loopotel_prom.metrics.snapshot import HistogramValue
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.replay import (
    STALE,
    HistoryOptions,
    Instant,
    Pace,
    Player,
    Timeline,
    history,
    is_stale,
)
from loopotel_prom.replay.moments import Moment
from loopotel_prom.span import IterationSpan, RunSpan, WorkerSpan
from loopotel_prom.testing import ManualClock, RecordingProcessor, SequentialIds
from loopotel_prom.tracer import LoopTracer

_START_S = 1_700_000_000
_START_NS = _START_S * 10**9

Simulate = Callable[..., ltf.Document]
Read = Callable[..., Timeline]
Points = dict[str, float]


@pytest.fixture
def simulate() -> Simulate:
    """
    Return `simulate(at, *scores, loop="code-repair", step=10.0)`, a run's document.

    It starts `at` seconds behind the beginning, and an iteration takes `step`.
    """
    ids = SequentialIds()

    def run(
        at: float, *scores: float, loop: str = "code-repair", step: float = 10.0
    ) -> ltf.Document:
        clock = ManualClock(_START_NS + round(at * 1e9))
        with LoopTracer(loop, clock=clock, ids=ids, pipeline=Pipeline()) as tracer:
            for number, score in enumerate(scores, start=1):
                clock.advance(seconds=step)
                tracer.emit_iteration(
                    iteration=number,
                    goal_score=score,
                    tokens_delta=100,
                    latency_ms=step * 1e3,
                    worker_id="coder",
                )
            tracer.finish(outcome="success", termination_reason="goal_met")
        return tracer.build_trace()

    return run


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Read]:
    """Return `read(*documents, refuse=list.append, chunk_bytes=...)`, a timeline."""
    opened = []

    def timeline(*documents: ltf.Document | bytes, refuse=None, **options) -> Timeline:
        lines = (d if isinstance(d, bytes) else ltf.encode(d) for d in documents)
        file = tmp_path / f"traces-{len(opened)}.jsonl"
        file.write_bytes(b"".join(line + b"\n" for line in lines))
        opened.append(Timeline(folder=tmp_path, **options))
        opened[-1].read(read_archive(file), refuse or _unexpected)
        return opened[-1]

    yield timeline
    for each in opened:
        each.close()


def _unexpected(line: BadLine) -> None:
    raise AssertionError(line)


def _points(instant: Instant) -> Points:
    """Name the points as a page does, without the labels that all have."""
    return {_spelled(series): value for series, value in instant.points}


def _spelled(series) -> str:
    usual = ("env_id", "instance", "job", "loop_name")
    own = [f'{name}="{value}"' for name, value in series.labels if name not in usual]
    return f"{series.name}{{{','.join(own)}}}" if own else series.name


def _at(instants: list[Instant], second: float) -> Points:
    wanted = round((_START_S + second) * 1000)
    (found,) = (each for each in instants if each.time_ms == wanted)
    return _points(found)


# The timeline.


def test_moments_come_in_the_order_of_their_times(simulate, read):
    """Those of runs that overlap take turns, starts before ends."""
    timeline = read(simulate(5, 0.5, 0.6), simulate(0, 0.1, 0.2, 0.3))
    told = [((m.time_ns - _START_NS) / 1e9, m.rank, m.run) for m in timeline]
    assert told == [
        *((0, 0, 1), (5, 0, 0), (10, 1, 1), (15, 1, 0), (20, 1, 1), (25, 1, 0)),
        *((25, 2, 0), (30, 1, 1), (30, 2, 1)),
    ]
    assert (timeline.runs, timeline.moments) == (2, 9)


@pytest.mark.parametrize("chunk_bytes", (1, 3000, 20_000))
def test_what_was_sorted_in_parts_is_the_same(simulate, read, chunk_bytes):
    """However little memory there is."""
    chance = random.Random(7)
    documents = [
        simulate(chance.uniform(0, 100), *[0.5] * chance.randint(0, 9), step=3.3)
        for _ in range(40)
    ]
    whole = [*read(*documents)]
    assert whole == sorted(whole, key=lambda moment: moment[:4])
    assert [*read(*documents, chunk_bytes=chunk_bytes)] == whole


def test_nothing_is_left_of_what_was_sorted_on_disk(simulate, tmp_path, read):
    """Not even a name, while it is used."""
    timeline = read(simulate(0, 0.5), simulate(1, 0.5), chunk_bytes=1)
    assert len([*timeline]) == 6
    assert [each.name for each in tmp_path.iterdir()] == ["traces-0.jsonl"]


def test_what_is_no_trace_is_named_and_leaves_nothing(simulate, read):
    """Though its first spans were fine, and sorted already."""
    refused: list[BadLine] = []
    bad = simulate(0, *[0.5] * 1500)
    bad["spans"][-1]["start_time"] = "noon"
    timeline = read(
        *(simulate(0, 0.5), b"{bad", bad, simulate(9, 0.5)),
        refuse=refused.append,
        chunk_bytes=1000,
    )
    assert [line.number for line in refused] == [2, 3]
    assert (timeline.runs, len([*timeline])) == (2, 6)


def test_another_format_is_no_trace(simulate, read):
    """As for every other export."""
    refused: list[BadLine] = []
    timeline = read(
        simulate(0, 0.5) | {"schema_version": "ltf/9"},
        simulate(1, 0.5),
        refuse=refused.append,
    )
    assert timeline.runs == 1
    assert [bad.fault for bad in refused] == [
        "its schema_version is 'ltf/9', not 'ltf/0.1'"
    ]


def test_times_outside_of_a_run_are_moved_into_it(simulate, read):
    """An iteration that ended after its run has ended with it."""
    document = simulate(0, 0.5, 0.6)
    document["spans"][-1]["end_time"] = "2099-01-01T00:00:00Z"
    late = [moment for moment in read(document) if moment.time_ns > _START_NS]
    assert [(m.time_ns - _START_NS) / 1e9 for m in late] == [10, 20, 20]


def test_what_stands_in_an_iteration_comes_before_its_end(simulate, read):
    """Whatever its own times say: it must not be counted twice."""
    document = simulate(0, 0.5)
    root, iteration = document["spans"]
    document["spans"].append(
        {
            "span_id": "f" * 16,
            "parent_span_id": iteration["span_id"],
            "name": "loop.worker",
            "kind": "worker",
            "start_time": root["start_time"],
            "end_time": "2099-01-01T00:00:00Z",
            "attributes": {"loop.worker.id": "coder"},
        }
    )
    kinds = [type(moment.span) for moment in read(document)]
    assert kinds == [RunSpan, WorkerSpan, IterationSpan, RunSpan]


# The history.


def test_each_iteration_is_sampled_at_its_end(simulate, read):
    """With what the live page would show."""
    instants = [*history(read(simulate(0, 0.4, 0.6)))]
    first, second = _at(instants, 10), _at(instants, 20)
    assert first['loop_goal_score{slot="0"}'] == 0.4
    assert first["loop_tokens_total"] == 100
    assert second['loop_goal_score{slot="0"}'] == 0.6
    assert second['loop_les_cumulative{slot="0"}'] == 0.625
    assert second["loop_tokens_total"] == 200


def test_what_did_not_change_is_not_said_again(simulate, read):
    """Until it is time to keep it alive; then all is."""
    instants = [*history(read(simulate(0, 0.4, 0.4, step=45.0)))]
    assert 'loop_goal_score{slot="0"}' not in _at(instants, 90)
    kept = _at(instants, 60)
    assert kept['loop_goal_score{slot="0"}'] == 0.4
    assert kept["loop_safety_violations_total"] == 0


def test_a_time_is_rounded_up_to_its_instant(simulate, read):
    """So that a query at that time sees it, and nothing that comes later."""
    instants = [*history(read(simulate(0, 0.4, step=0.000_2)))]
    assert 'loop_goal_score{slot="0"}' in _at(instants, 0.001)


def test_a_coarser_grid_makes_fewer_instants(simulate, read):
    """The last of each remains."""
    timeline = read(simulate(0, *(n / 100 for n in range(60)), step=0.1))
    options = HistoryOptions(resolution_seconds=2.0)
    instants = [*history(timeline, options)]
    assert all(each.time_ms % 2000 == 0 for each in instants)
    assert _at(instants, 2)['loop_goal_score{slot="0"}'] == 0.19
    assert _at(instants, 6)["loop_iterations_total"] == 60


def test_a_counter_begins_at_zero_a_step_before_its_first_rise(simulate, read):
    """Otherwise `increase()` would miss it."""
    instants = [*history(read(simulate(0, 0.4)))]
    before = _at(instants, -0.001)
    assert before["loop_runs_started_total"] == 0
    assert "loop_runs_active" not in before
    assert _at(instants, 0)["loop_runs_started_total"] == 1
    assert _at(instants, 9.999) == {'loop_worker_calls_total{worker_id="coder"}': 0}
    assert _at(instants, 10)['loop_worker_calls_total{worker_id="coder"}'] == 1


def test_a_histogram_is_said_whole(simulate, read):
    """If one of its series changes, so that shares of it stay true."""
    instants = [*history(read(simulate(0, 0.4)))]
    names = [name for name in _at(instants, 10) if "iteration_duration" in name]
    assert len(names) == 14 + 3


def test_the_slot_of_an_ended_run_goes_after_a_while(simulate, read):
    """And its series end with a mark."""
    instants = [*history(read(simulate(0, 0.4)), HistoryOptions(linger_seconds=7))]
    marked = {name for name, value in _at(instants, 17).items() if is_stale(value)}
    assert 'loop_goal_score{slot="0"}' in marked
    assert all("slot" in name for name in marked)


def test_a_slot_that_rests_is_not_given_away(simulate, read):
    """A run that starts meanwhile gets the next."""
    instants = [*history(read(simulate(0, 0.4), simulate(20, 0.5)))]
    assert 'loop_goal_score{slot="1"}' in _at(instants, 30)


def test_a_loop_that_comes_to_rest_ends(simulate, read):
    """All of it, once."""
    instants = [*history(read(simulate(0, 0.4)), HistoryOptions(idle_seconds=100))]
    ended = _points(instants[-1])
    assert instants[-1].time_ms == (_START_S + 110) * 1000
    assert ended.keys() >= {"loop_tokens_total", "loop_runs_active"}
    assert all(map(is_stale, ended.values()))


def test_counters_of_a_loop_that_returns_go_on(simulate, read):
    """From where they were, a step before they rise."""
    instants = [*history(read(simulate(0, 0.4), simulate(9000, 0.5)))]
    assert _at(instants, 8999.999) == {"loop_runs_started_total": 1}
    assert _at(instants, 9000)["loop_runs_started_total"] == 2
    assert _at(instants, 9000)["loop_tokens_total"] == 100


def test_a_run_that_is_silent_for_days_does_not_fill_a_disk(simulate, read):
    """It is shown for one day, and again when it says something."""
    instants = [*history(read(simulate(0, 0.4, step=30 * 86_400.0)))]
    assert len(instants) < 86_400 / 60 + 20
    assert _at(instants, 30 * 86_400)['loop_goal_score{slot="0"}'] == 0.4


def test_totals_at_a_cut_are_those_of_all_before(simulate, read):
    """Only points are cut, not what happened."""
    timeline = read(simulate(0, *[0.5] * 40))
    begin_ms, end_ms = (_START_S + 200) * 1000, (_START_S + 300) * 1000
    options = HistoryOptions(since_ms=begin_ms, until_ms=end_ms)
    instants = [*history(timeline, options)]
    assert (instants[0].time_ms, instants[-1].time_ms) == (begin_ms, end_ms)
    assert _at(instants, 200)["loop_tokens_total"] == 2000
    assert not any(map(is_stale, chain(*(_points(i).values() for i in instants))))


def test_every_series_has_the_constant_labels(simulate, read):
    """And those of the user's, sorted, but none that is empty."""
    options = HistoryOptions(labels=(("instance", "i"), ("job", "j"), ("team", "t")))
    (*_, last) = history(read(simulate(0, 0.4)), options)
    for series, _ in last.points:
        names = [name for name, _ in series.labels]
        assert names == sorted(names)
        assert {"instance", "job", "team", "loop_name"} <= {*names}
        assert "env_id" not in names


def test_run_labels_tell_runs_apart(simulate, read):
    """As on a live page that is configured so."""
    documents = [simulate(at, 0.4) | {"task_id": f"t-{at}"} for at in (0, 5)]
    options = HistoryOptions(run_labels=("task_id",))
    instants = [*history(read(*documents), options)]
    assert _at(instants, 15)['loop_tokens_total{task_id="t-5"}'] == 100


@pytest.mark.parametrize(
    "options",
    (
        {"labels": (("loop_name", "x"),)},
        {"labels": (("__x", "x"),)},
        {"labels": (("7", "x"),)},
        {"labels": (("team", ""),)},
        {"labels": (("task_id", "x"),), "run_labels": ("task_id",)},
        {"resolution_seconds": 0.0},
        {"keep_alive_seconds": 300.0},
        {"keep_alive_seconds": 1.0, "resolution_seconds": 2.0},
        {"linger_seconds": float("nan")},
        {"idle_seconds": -1.0},
    ),
)
def test_options_that_cannot_work_are_refused(options):
    """Before anything is read."""
    with pytest.raises(ConfigError):
        HistoryOptions(**options)


# Its laws.


def _documents(seed: int) -> Iterator[ltf.Document]:
    """Simulate overlapping runs of some loops, with children and events."""
    chance, ids = random.Random(seed), SequentialIds()
    for _ in range(chance.randint(1, 12)):
        clock = ManualClock(_START_NS + chance.randrange(0, 900_000) * 1_000_000)
        tracer = LoopTracer(
            chance.choice(("loop-a", "loop-b")),
            clock=clock,
            ids=ids,
            pipeline=Pipeline(),
        )
        with tracer as run:
            for number in range(1, chance.randint(1, 8)):
                with run.iteration(number) as step:
                    clock.advance(seconds=chance.uniform(0.0, 200.0))
                    with step.worker(chance.choice(("w1", "w2"))):
                        clock.advance(seconds=chance.choice((0.0, 0.0004, 3.0)))
                    if chance.random() < 0.3:
                        step.failure("fail.oscillation")
                    step.goal_score(chance.random())
            run.finish(outcome=chance.choice(("success", "failure")))
        yield run.build_trace()


def _feed(processor: MetricsProcessor, moment: Moment) -> None:
    """Feed a processor as live loops do."""
    if isinstance(moment.span, RunSpan) and moment.span.end_ns is None:
        processor.on_start(moment.span)
    else:
        processor.on_end(moment.span)
    # As often as a history looks: sums of fractions depend on the order.
    processor.look()


def _shown(processor: MetricsProcessor) -> dict[tuple[str, frozenset[str]], float]:
    """Give what its page has of the loops, with the labels that a history adds."""
    shown = {}
    for metric, samples in ((f.metric, f.samples) for f in processor.look()[0]):
        for labels, value, _ in samples if metric.name.startswith("loop_") else ():
            if isinstance(value, HistogramValue):
                bounds = upper_bounds(metric)
                for bound, count in zip(bounds, value.cumulative, strict=True):
                    shown[f"{metric.name}_bucket", (*labels, bound)] = count
                shown[f"{metric.name}_count", labels] = value.cumulative[-1]
                shown[f"{metric.name}_sum", labels] = value.sum
            else:
                shown[metric.name, labels] = value
    return {
        (name, frozenset(v for v in (*labels, "archive", "loops") if v)): value
        for (name, labels), value in shown.items()
    }


def _named(instant: Instant) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (series.name, frozenset(value for _, value in series.labels)): value
        for series, value in instant.points
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_end_of_a_history_is_what_the_live_page_shows(tmp_path_factory, seed):
    """Series by series, value by value; but for a loop at rest, which has ended."""
    file = tmp_path_factory.mktemp("law") / "traces.jsonl"
    file.write_bytes(b"".join(ltf.encode(d) + b"\n" for d in _documents(seed)))
    with Timeline() as timeline:
        timeline.read(read_archive(file), _unexpected)
        last = HistoryOptions(idle_seconds=86_400.0)
        latest: dict = {}
        for instant in history(timeline, last):
            if timeline.end_ns and instant.time_ms > timeline.end_ns // 10**6 + 40_000:
                break
            latest |= _named(instant)
        live = MetricsProcessor(health=Health(), linger_seconds=0.0)
        for moment in timeline:
            _feed(live, moment)
    assert {k: v for k, v in latest.items() if not is_stale(v)} == _shown(live)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_at_each_event_a_loop_is_what_the_live_page_shows(tmp_path_factory, seed):
    """All but its slots, which rest for longer: nothing is said later than it is so."""
    file = tmp_path_factory.mktemp("law") / "traces.jsonl"
    file.write_bytes(b"".join(ltf.encode(d) + b"\n" for d in _documents(seed)))
    live = MetricsProcessor(health=Health())
    of_slots = {metric.name for metric, _ in OF_RUN}
    latest: dict = {}
    with Timeline() as timeline:
        timeline.read(read_archive(file), _unexpected)
        instants = history(timeline, HistoryOptions(idle_seconds=86_400.0))
        for time_ms, moments in groupby(timeline, lambda m: -(-m.time_ns // 10**6)):
            for moment in moments:
                _feed(live, moment)
            for instant in instants:
                latest |= _named(instant)
                if instant.time_ms == time_ms:
                    break
            shown = _shown(live)
            assert {k: latest[k] for k in shown if k[0] not in of_slots} == {
                k: v for k, v in shown.items() if k[0] not in of_slots
            }


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from((0.001, 0.01, 1.0, 15.0)))
def test_instants_ascend_and_have_each_series_once(tmp_path_factory, seed, resolution):
    """Whatever the grid; and nothing ends that is not there."""
    file = tmp_path_factory.mktemp("law") / "traces.jsonl"
    file.write_bytes(b"".join(ltf.encode(d) + b"\n" for d in _documents(seed)))
    options = HistoryOptions(resolution_seconds=resolution, idle_seconds=45.0)
    there: set = set()
    objects: dict = {}
    with Timeline() as timeline:
        timeline.read(read_archive(file), _unexpected)
        instants = [*history(timeline, options)]
    assert all(one.time_ms < two.time_ms for one, two in pairwise(instants))
    for instant in instants:
        names = [series for series, _ in instant.points]
        assert len(names) == len({*names})
        assert all(objects.setdefault(series, series) is series for series in names)
        ended = {series for series, value in instant.points if is_stale(value)}
        assert ended <= there
        there = (there | {*names}) - ended
    assert not there


# The replay onto a live page.


class _Waits:
    """A clock that goes on by what is waited for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> bool:
        """Go on; nobody says stop."""
        self.waits.append(round(seconds, 6))
        self.now += seconds
        return False


def _pace(waits: _Waits, speed: float, max_gap: float | None = None) -> Pace:
    return Pace(
        speed=speed,
        max_gap_seconds=max_gap,
        wait=waits.wait,
        monotonic=lambda: waits.now,
    )


def test_a_replay_waits_as_long_as_it_took_by_its_speed(simulate, read):
    """From moment to moment."""
    waits, recorder = _Waits(), RecordingProcessor()
    player = Player(Pipeline([recorder]), _pace(waits, 5.0), None)
    assert player.play(read(simulate(0, 0.4), simulate(100, 0.5)), lambda: None)
    assert waits.waits == [0, 2, 0, 18, 2, 0]
    assert (player.runs, player.iterations, player.active) == (2, 2, 0)


def test_a_gap_without_a_run_can_be_cut_short(simulate, read):
    """But not within a run."""
    waits = _Waits()
    player = Player(Pipeline(), _pace(waits, 1.0, max_gap=3.0), None)
    player.play(read(simulate(0, 0.4), simulate(100, 0.5)), lambda: None)
    assert waits.waits == [0, 10, 0, 3, 10, 0]


def test_at_full_speed_nothing_is_waited_for(simulate, read):
    """Speed 0."""
    waits = _Waits()
    Player(Pipeline(), _pace(waits, 0.0), None).play(
        read(simulate(0, 0.4)), lambda: None
    )
    assert waits.waits == [0, 0, 0]


def test_a_gap_of_millennia_is_waited_for_in_a_number_that_a_wait_can_take():
    """A run of the year 9999 does not end the replay of those before it."""
    delays = []
    pace = Pace(
        speed=1e-3,
        max_gap_seconds=None,
        wait=lambda seconds: bool(delays.append(seconds)),
        monotonic=lambda: 0.0,
    )
    pace.wait_for(_START_NS, idle=True)
    assert pace.wait_for(_START_NS + 8000 * 365 * 86_400 * 10**9, idle=True)
    assert 86_400 < delays[-1] < threading.TIMEOUT_MAX


def test_a_replay_can_be_stopped(simulate, read):
    """At the next moment; what came before has been played."""
    told = iter((False, True))
    pace = Pace(
        speed=1.0, max_gap_seconds=None, wait=lambda _: next(told), monotonic=float
    )
    player = Player(Pipeline(), pace, None)
    assert not player.play(read(simulate(0, 0.4)), lambda: None)
    assert (player.runs, player.active) == (0, 1)


def test_spans_end_now_and_took_as_long_as_they_did(simulate, read):
    """So that alerts can compare their times with now."""
    recorder = RecordingProcessor()
    player = Player(Pipeline([recorder]), _pace(_Waits(), 0.0), lambda: 5 * 10**18)
    player.play(read(simulate(0, 0.4)), lambda: None)
    (started,), (iteration, run) = recorder.started, recorder.ended
    assert started.start_ns == iteration.end_ns == run.end_ns == 5 * 10**18
    assert started.end_ns is None
    assert iteration.end_ns - iteration.start_ns == run.end_ns - run.start_ns == 10**10


def test_the_stale_mark_is_that_of_prometheus():
    """One NaN of many."""
    assert is_stale(STALE)
    assert not is_stale(float("nan"))
    assert not is_stale(0.0)
