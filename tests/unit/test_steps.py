"""Iterations, workers and evaluators as they happen."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom import ltf, semconv
from loopotel_prom.exporter import trajectory_from_trace
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import EvaluatorSpan, IterationSpan, RunSpan, WorkerSpan
from loopotel_prom.testing import ManualClock, RecordingProcessor, SequentialIds
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.validate import validate_trace


def test_a_step_measures_and_numbers_itself(new_run, clock, recorder):
    """Start, end and latency are those of its block."""
    with new_run() as run:
        for _ in range(2):
            with run.iteration() as step:
                clock.advance(seconds=1.5)
                step.goal_score(0.4)
    first, second, _ = recorder.ended
    assert (first.iteration, second.iteration) == (1, 2)
    assert first.latency_ms == 1500
    assert first.end_ns - first.start_ns == 1_500_000_000


def test_workers_and_evaluators_are_spans_of_their_own(new_run, clock, recorder):
    """They end before their iteration, inside it, with their own durations."""
    with new_run() as run, run.iteration() as step:
        with step.worker("implementer", role="coder"):
            clock.advance(seconds=2)
        with step.evaluator("rubric", type="llm_rubric") as judge:
            clock.advance(seconds=1)
            judge.score(0.66)
    worker, evaluator, iteration, _ = recorder.ended
    assert isinstance(worker, WorkerSpan)
    assert isinstance(evaluator, EvaluatorSpan)
    assert worker.end_ns - worker.start_ns == 2 * 10**9
    assert (worker.worker_id, worker.role) == ("implementer", "coder")
    assert (evaluator.evaluator_id, evaluator.type) == ("rubric", "llm_rubric")
    assert evaluator.goal_score == 0.66
    assert worker.parent_span_id == evaluator.parent_span_id == iteration.span_id


def test_usage_adds_up_to_the_iteration(new_run, recorder):
    """Its own tokens and cost, and those of its workers and evaluators."""
    with new_run() as run, run.iteration() as step:
        step.add_tokens(total=5)
        with step.worker("w") as worker:
            worker.add_tokens(input=900, output=200)
            worker.add_tokens(output=10)
            worker.add_cost(usd=0.25)
        with step.evaluator("e") as judge:
            judge.add_tokens(input=100)
            judge.add_cost(usd=0.5)
    iteration = recorder.ended[2]
    assert iteration.tokens_delta == 5 + 900 + 210 + 100
    assert (iteration.input_tokens, iteration.output_tokens) == (1000, 210)
    assert iteration.cost_usd == 0.75
    assert recorder.ended[-1].tokens_total == 1215


def test_what_was_not_reported_is_unknown(new_run, recorder):
    """No tokens, cost or score is not the same as none used."""
    with new_run() as run, run.iteration() as step, step.worker("w"):
        pass
    iteration = recorder.ended[1]
    assert iteration.tokens_delta is iteration.cost_usd is iteration.goal_score is None


def test_what_happens_in_a_step_is_told_when_it_happens(new_run, clock, recorder):
    """Failures, violations and interventions have their own times."""
    with new_run() as run, run.iteration() as step:
        step.failure("fail.oscillation")
        clock.advance(seconds=1)
        step.safety_violation("fail.safety_bypass")
        step.human_intervention()
    events = recorder.ended[0].events
    assert [event.name for event in events] == [
        semconv.FAILURE,
        semconv.SAFETY_VIOLATION,
        semconv.HUMAN_INTERVENTION,
    ]
    assert events[1].time_ns - events[0].time_ns == 10**9


def test_a_value_of_ones_own_is_kept(new_run):
    """On the span where it was set, as plain JSON."""
    with new_run() as run, run.iteration() as step:
        step.set_attribute("app.branch", {"main"})
        with step.worker("w") as worker:
            worker.set_attribute("app.model", "small")
    _, iteration, inner = run.build_trace()["spans"]
    assert iteration["attributes"]["app.branch"] == ["main"]
    assert inner["attributes"]["app.model"] == "small"


def test_an_exception_is_noted_on_every_span_it_leaves(new_run, recorder):
    """By its type, and it goes on untouched."""
    error, run = ValueError(), new_run()
    with (
        pytest.raises(ValueError) as caught,  # noqa: PT011 - this very one
        run,
        run.iteration() as step,
        step.worker("w"),
    ):
        raise error
    assert caught.value is error
    assert [span.error_type for span in recorder.ended] == ["ValueError"] * 3


def test_what_is_still_open_ends_with_what_is_around_it(new_run, clock, recorder):
    """A worker with its iteration, an iteration with its run; later ends count not."""
    run = new_run()
    with run:
        step = run.iteration()
        step.__enter__()
        worker = step.worker("w")
        worker.__enter__()
        clock.advance(seconds=1)
    worker.__exit__(None, None, None)
    step.__exit__(None, None, None)
    assert [type(span) for span in recorder.ended] == [
        WorkerSpan,
        IterationSpan,
        RunSpan,
    ]
    assert len({span.end_ns for span in recorder.ended}) == 1


def test_what_comes_after_the_end_is_counted_as_left_out(new_run, recorder):
    """An iteration after the run, a worker after its iteration."""
    run = new_run()
    with run, run.iteration() as step:
        pass
    with step.worker("late"):
        pass
    run.emit_iteration(iteration=2, goal_score=0.4)
    with run.iteration():
        pass
    assert len(recorder.ended) == 2
    assert run._values.health.dropped_values() == {"late_call": 1, "late_span": 2}


def test_a_step_without_a_with_around_its_run_starts_the_run(new_run, recorder):
    """As the first emit_iteration does."""
    run = new_run()
    with run.iteration() as step:
        step.goal_score(0.4)
    run.finish(outcome="success")
    assert [type(span) for span in recorder.ended] == [IterationSpan, RunSpan]


def test_concurrent_workers_lose_nothing(new_run, recorder):
    """Twenty threads work in one iteration."""

    def work() -> None:
        with step.worker("w") as worker:
            for _ in range(100):
                worker.add_tokens(input=1)

    with new_run() as run, run.iteration() as step:
        threads = [threading.Thread(target=work) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorder.ended[-2].tokens_delta == 2000


def test_the_environment_names_the_iteration_under_way(new_run):
    """For loops and, in W3C's spelling, for all else."""
    with new_run() as run, run.iteration() as step:
        environment = run.environment()
    span_id = step.span_id
    assert environment == {
        "LOOPOTEL_PARENT": f"{run.trace_id}/{span_id}",
        "TRACEPARENT": f"00-{run.trace_id[4:].replace('-', '')}-{span_id}-01",
    }


SPECS = Path(__file__).parents[2] / "specs"

scores = st.none() | st.floats(0, 1.2)
calls = st.tuples(st.sampled_from(["w1", "w2"]), st.integers(0, 9), st.floats(0, 1))
iterations = st.lists(
    st.tuples(scores, st.integers(0, 99), st.lists(calls, max_size=3)), max_size=6
)


def _run(target: float, clock: ManualClock, recorder: RecordingProcessor) -> LoopTracer:
    sink = Pipeline([recorder])
    ids = SequentialIds()
    return LoopTracer(
        "code-repair", goal_target=target, pipeline=sink, clock=clock, ids=ids
    )


def _structured(target, steps) -> ltf.Document:
    clock = ManualClock()
    with _run(target, clock, RecordingProcessor()) as run:
        for score, tokens, inside in steps:
            with run.iteration() as step:
                step.add_tokens(total=tokens)
                for name, seconds, grade in inside:
                    with step.worker(name) as worker:
                        clock.advance(seconds=seconds)
                        worker.add_tokens(total=1)
                    with step.evaluator(f"e-{name}") as judge:
                        judge.score(grade)
                if score is not None:
                    step.goal_score(score)
    return run.build_trace()


def _emitted(target, steps) -> ltf.Document:
    clock = ManualClock()
    with _run(target, clock, RecordingProcessor()) as run:
        for number, (score, tokens, inside) in enumerate(steps, start=1):
            seconds = sum(seconds for _, seconds, _ in inside)
            clock.advance(seconds=seconds)
            run.emit_iteration(
                iteration=number,
                goal_score=score,
                tokens_delta=tokens + len(inside),
                latency_ms=seconds * 1000,
                worker_id=inside[0][0] if inside else None,
                evaluator_id=f"e-{inside[0][0]}" if inside else None,
            )
    return run.build_trace()


@given(st.floats(0.1, 1), iterations)
def test_both_ways_of_reporting_agree(target, steps):
    """The iterations have the same attributes, times and trajectory."""
    structured, emitted = _structured(target, steps), _emitted(target, steps)
    assert trajectory_from_trace(structured) == trajectory_from_trace(emitted)
    ours, theirs = (
        [
            {k: span[k] for k in ("attributes", "start_time", "end_time")}
            for span in document["spans"]
            if span["kind"] in ("loop", "iteration")
        ]
        for document in (structured, emitted)
    )
    assert ours == theirs


@given(st.floats(0.1, 1), iterations)
def test_any_tree_keeps_the_conventions(findings, target, steps):
    """Valid, ids unique, parents there, times nested, LES by its definition."""
    document = _structured(target, steps)
    assert validate_trace(document) == (True, [])
    assert findings(document) == []


def _example(clock: ManualClock, run: LoopTracer) -> ltf.Document:
    """Report what the example of the semantic conventions shows."""
    with run:
        with run.iteration() as step:
            with step.worker("implementer", role="coder") as worker:
                clock.advance(seconds=2)
                worker.add_tokens(input=900, output=210)
                worker.add_cost(usd=0.004)
            with step.evaluator("rubric", type="llm_rubric") as judge:
                clock.advance(seconds=1)
                judge.score(0.52)
            step.failure("fail.oscillation")
            step.goal_score(0.52)
        clock.advance(seconds=1.5)
        run.emit_iteration(
            iteration=2,
            goal_score=0.66,
            tokens_delta=120,
            latency_ms=1500,
            worker_id="implementer",
            safety_violations=["fail.safety_bypass"],
            human_interventions=1,
        )
        run.emit_iteration(iteration=3, goal_score=None, tokens_delta=None)
        run.emit_iteration(iteration=4, goal_score=0.81)
        run.finish(outcome="success", termination_reason="goal_met")
    return run.build_trace()


def test_the_example_of_the_conventions_is_what_a_tracer_makes(new_run, clock):
    """The document in specs/examples, to the letter."""
    run = new_run(env_id="prod/agent", task_id="cr-001", metadata={"team": "core"})
    example = SPECS / "examples" / "conventions.good.json"
    assert _example(clock, run) == json.loads(example.read_text())


@pytest.mark.parametrize(
    ("name", "finding"),
    (
        ("conventions", None),
        ("full", None),
        ("minimal", None),
        ("orphan", "2222222222222222: its parent is not in the document"),
        ("outlives-its-run", "2222222222222222: not within its parent in time"),
        ("twice-the-same-id", "1111111111111111: an id used twice"),
        ("wrong-les", "2222222222222222: cumulative LES is 0.9, not 0.5"),
        ("wrong-name", "1111111111111111: a loop is named loop.run, not loop.walk"),
    ),
)
def test_examples_keep_or_break_the_conventions(findings, name, finding):
    """All are valid by the schema; those that break one say which."""
    kind = "good" if finding is None else "broken"
    path = SPECS / "examples" / f"{name}.{kind}.json"
    document = json.loads(path.read_text())
    assert validate_trace(document) == (True, [])
    assert findings(document) == ([] if finding is None else [finding])
