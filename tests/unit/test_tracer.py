"""The tracer: runs and iterations become spans, whatever the loop does."""

import asyncio
import contextvars
import threading

import pytest

from loopotel_prom import (
    current_tracer,
    emit_iteration,
    ltf,
    pipeline,
    trace_loop,
)
from loopotel_prom.errors import ConfigError
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import IterationSpan, RunSpan
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.validate import validate_trace


def test_a_run_is_started_reported_and_ended(new_run, recorder):
    """A processor sees the start, each iteration, and the end last."""
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        run.finish(outcome="success", termination_reason="goal_met")
    assert [span.end_ns for span in recorder.started] == [None]
    assert [type(span) for span in recorder.ended] == [IterationSpan, RunSpan]
    assert recorder.ended[1].outcome == "success"


def test_the_document_is_the_fold_of_what_the_processors_saw(new_run, recorder):
    """The live document and one made of the recorded spans are the same."""
    with new_run(env_id="prod", task_id="t-1", metadata={"a": 1}) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=9, cost_usd=0.1)
    assert run.build_trace() == ltf.fold(recorder.ended)


def test_les_counts_the_effectiveness_of_each_iteration(new_run, recorder):
    """Half of the target and all of it make three quarters."""
    with new_run(goal_target=0.8) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        run.emit_iteration(iteration=2, goal_score=0.9)
    assert recorder.ended[1].les_cumulative == 0.75


def test_an_iteration_may_have_its_own_target(new_run, recorder):
    """Its effectiveness is taken against that, and no other's is changed."""
    with new_run(goal_target=0.8) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, goal_target=0.4)
        run.emit_iteration(iteration=2, goal_score=0.4)
    assert [span.effectiveness for span in recorder.ended[:2]] == [1.0, 0.5]


def test_an_iteration_starts_its_latency_before_its_end(new_run, clock, recorder):
    """Start and end of the span are as far apart as the latency says."""
    with new_run() as run:
        clock.advance(seconds=2)
        run.emit_iteration(iteration=1, goal_score=0.4, latency_ms=1500)
    span = recorder.ended[0]
    assert span.end_ns - span.start_ns == 1_500_000_000


def test_a_run_contains_its_iterations_in_time(new_run, recorder):
    """A latency longer than the run moves the start of the run back."""
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.4, latency_ms=5000)
    iteration, ended = recorder.ended
    assert ended.start_ns == iteration.start_ns


@pytest.mark.parametrize(
    ("field", "value"),
    (
        ("goal_score", float("nan")),
        ("goal_score", True),
        ("goal_score", "0.5"),
        ("goal_score", -0.1),
        ("tokens_delta", -1),
        ("tokens_delta", 2**70),
        ("tokens_delta", 1.5),
        ("cost_usd", float("inf")),
        ("cost_usd", -0.1),
        ("cost_usd", 1e308),
        ("latency_ms", 1e15),
        ("latency_ms", float("nan")),
        ("iteration", -1),
        ("iteration", None),
        ("goal_target", float("nan")),
        ("human_interventions", -1),
    ),
)
def test_a_bad_value_is_left_out_and_counted(new_run, recorder, field, value):
    """The rest of the iteration is kept and the document stays valid."""
    with new_run() as run:
        values = {"iteration": 1, "goal_score": 0.4, "tokens_delta": 7}
        run.emit_iteration(**values | {field: value})
    assert run._values.health.dropped_values() == (
        {field: 1} if value is not None else {}
    )
    assert validate_trace(run.build_trace()) == (True, [])
    assert recorder.ended[0].iteration == 1


def test_a_strict_tracer_raises_for_a_bad_value(new_run):
    """Tests of a loop can find out."""
    run = new_run(strict=True)
    with pytest.raises(ValueError, match="cost_usd: '-1' is not usable"), run:
        run.emit_iteration(iteration=1, goal_score=0.4, cost_usd=-1)


def test_failure_codes_and_interventions_become_events(new_run, recorder):
    """Each is an event of its iteration, with its code."""
    with new_run() as run:
        run.emit_iteration(
            iteration=1,
            goal_score=0.4,
            failure_codes=["fail.oscillation"],
            safety_violations=["fail.safety_bypass"],
            human_interventions=1,
        )
    assert [(e.name, e.attributes) for e in recorder.ended[0].events] == [
        ("loop.failure", {"loop.failure.code": "fail.oscillation"}),
        ("loop.safety.violation", {"loop.failure.code": "fail.safety_bypass"}),
        ("loop.human_intervention", {}),
    ]


@pytest.mark.parametrize(
    "error", (ValueError, KeyboardInterrupt, asyncio.CancelledError)
)
def test_an_exception_ends_the_run_as_a_failure_and_goes_on(new_run, recorder, error):
    """The loop's own error is recorded by its type and not touched."""
    with pytest.raises(error), new_run():
        raise error
    ended = recorder.ended[-1]
    assert (ended.outcome, ended.termination_reason) == ("failure", "error")
    assert ended.error_type == error.__name__


def test_an_exception_keeps_the_reason_given_before(new_run, recorder):
    """What finish() said of the reason stands; the outcome is failure."""
    run = new_run()
    with pytest.raises(KeyError), run:
        run.finish(outcome="success", termination_reason="goal_met")
        {}["absent"]
    ended = recorder.ended[-1]
    assert (ended.outcome, ended.termination_reason) == ("failure", "goal_met")


def test_without_a_with_block_the_first_iteration_starts_and_finish_ends(
    new_run, recorder
):
    """A tracer can be used without entering it."""
    run = new_run()
    run.emit_iteration(iteration=1, goal_score=0.4)
    run.finish(outcome="success")
    assert len(recorder.started) == 1
    assert recorder.ended[-1].outcome == "success"
    assert run.ended_at is not None


def test_an_unknown_outcome_becomes_unknown(new_run):
    """The document stays valid and the value is counted."""
    with new_run() as run:
        run.finish(outcome="great")
    assert run.build_trace()["outcome"] == "unknown"
    assert run._values.health.dropped_values() == {"outcome": 1}


@pytest.mark.parametrize("name", ("", "ab", None, 3))
def test_a_loop_needs_a_name(name):
    """A name too short, or no text, is refused at once."""
    with pytest.raises(ConfigError, match="loop_name must"):
        LoopTracer(name)


def test_a_long_name_is_cut_and_counted(new_run):
    """The loop runs under the first 64 characters."""
    with new_run("x" * 65) as run:
        pass
    assert run.build_trace()["loop_name"] == "x" * 64
    assert run._values.health.dropped_values() == {"loop_name": 1}


@pytest.mark.parametrize(
    "values", ({"goal_target": float("nan")}, {"goal_target": "1"}, {"trace_id": "x"})
)
def test_a_setting_that_cannot_work_is_refused(values):
    """The error names the setting."""
    with pytest.raises(ConfigError, match=next(iter(values))):
        LoopTracer("code-repair", **values)


def test_a_disabled_tracer_reports_nothing(recorder, new_run):
    """No processor hears of it, and it never is the current one."""
    with new_run(enabled=False) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        assert current_tracer() is None
    assert recorder.started == recorder.ended == []


def test_concurrent_threads_lose_no_iteration(new_run, recorder):
    """Eight threads report a thousand iterations each to one run."""

    def work() -> None:
        for number in range(1000):
            run.emit_iteration(iteration=number, goal_score=0.5, tokens_delta=1)

    with new_run() as run:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recorder.ended[-1].tokens_total == 8000
    assert len({span.span_id for span in recorder.ended}) == 8001


# The current tracer.


def test_the_current_tracer_is_the_innermost(new_run):
    """Loops nest, and leaving one gives back the one around it."""
    with new_run() as outer:
        with new_run() as inner:
            assert current_tracer() is inner
        assert current_tracer() is outer
    assert current_tracer() is None


def test_emit_iteration_reports_to_the_current_tracer(new_run, recorder):
    """The function takes all that the method takes."""
    emit_iteration(iteration=1, goal_score=0.1)
    with new_run():
        emit_iteration(iteration=1, goal_score=0.4, tokens_delta=5, worker_id="w")
    assert [span.worker_id for span in recorder.ended[:-1]] == ["w"]


def test_a_run_may_be_left_in_another_context(new_run, recorder):
    """Nothing fails, and the context it was entered in keeps its own."""
    run = new_run()
    contextvars.copy_context().run(run.__enter__)
    run.__exit__(None, None, None)
    assert isinstance(recorder.ended[-1], RunSpan)
    assert current_tracer() is None


def test_tasks_have_their_own_tracer(new_run):
    """Two tasks that interleave do not see each other's run."""

    async def task() -> None:
        async with new_run() as run:
            await asyncio.sleep(0)
            assert current_tracer() is run

    async def both() -> None:
        await asyncio.gather(task(), task())

    asyncio.run(both())


# trace_loop.


@pytest.fixture
def installed(recorder):
    """Make the recorder's pipeline the process's own."""
    pipeline.install(Pipeline([recorder]))
    return recorder


def test_a_traced_function_is_a_run(installed):
    """It returns its value, and its run has the iterations it reported."""

    @trace_loop(loop_name="code-repair")
    def loop(score: float) -> str:
        """Say something."""
        emit_iteration(iteration=1, goal_score=score)
        return "done"

    assert loop(0.4) == "done"
    assert loop.__doc__ == "Say something."
    assert [type(s) for s in installed.ended] == [IterationSpan, RunSpan]


def test_a_traced_coroutine_lasts_until_it_has_been_awaited(installed):
    """What it reports after an await still belongs to its run."""

    @trace_loop(loop_name="code-repair")
    async def loop() -> int:
        await asyncio.sleep(0)
        emit_iteration(iteration=1, goal_score=0.4)
        return 1

    assert asyncio.run(loop()) == 1
    assert [type(s) for s in installed.ended] == [IterationSpan, RunSpan]


def test_a_traced_generator_lasts_until_it_is_exhausted(installed):
    """Its items come through, and its run ends with it."""

    @trace_loop(loop_name="code-repair")
    def loop():
        for number in (1, 2):
            emit_iteration(iteration=number, goal_score=0.4)
            yield number

    assert list(loop()) == [1, 2]
    assert len(installed.ended) == 3


def test_a_traced_async_generator_lasts_until_it_is_exhausted(installed):
    """Its items come through, and its run ends with it."""

    @trace_loop(loop_name="code-repair")
    async def loop():
        for number in (1, 2):
            emit_iteration(iteration=number, goal_score=0.4)
            yield number

    async def collect() -> list[int]:
        return [number async for number in loop()]

    assert asyncio.run(collect()) == [1, 2]
    assert len(installed.ended) == 3
