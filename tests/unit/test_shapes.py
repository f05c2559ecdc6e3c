"""Every shape of loop: sync and async, generators, threads, tasks, out of order."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import sys
import threading
import traceback

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from prometheus_client import CollectorRegistry

from loopotel_prom import LoopTracer, current_tracer, emit_iteration, trace_loop
from loopotel_prom import pipeline as process
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.span import IterationSpan, RunSpan
from loopotel_prom.validate import validate_trace


@pytest.fixture
def installed(recorder):
    """Make the recorder's pipeline the process's own."""
    process.install(Pipeline([recorder]))
    return recorder


def _runs(recorder) -> list[RunSpan]:
    return [span for span in recorder.ended if isinstance(span, RunSpan)]


def _numbers(recorder) -> list[int]:
    return [s.iteration for s in recorder.ended if isinstance(s, IterationSpan)]


def _emit(number: int) -> None:
    emit_iteration(iteration=number, goal_score=0.4)


@trace_loop(loop_name="traced-generator")
def traced_generator(received: list, items: int = 3):
    """Report before each item, keep what it is sent, return how many came."""
    for number in range(1, items + 1):
        _emit(number)
        try:
            received.append((yield number))
        except ValueError as error:
            received.append(error)
    return items


@trace_loop(loop_name="traced-generator")
async def traced_async_generator(received: list, items: int = 3):
    """Do the same, asynchronously."""
    for number in range(1, items + 1):
        await asyncio.sleep(0)
        _emit(number)
        try:
            received.append((yield number))
        except ValueError as error:
            received.append(error)


# Generators.


def test_what_a_generator_is_sent_reaches_it(installed):
    """Also None, and its return value comes back."""
    received: list = []
    generator = traced_generator(received)
    assert [next(generator), generator.send("a"), generator.send(None)] == [1, 2, 3]
    with pytest.raises(StopIteration) as stop:
        generator.send("c")
    assert stop.value.value == 3
    assert received == ["a", None, "c"]


def test_what_is_thrown_into_a_generator_reaches_it(installed):
    """It may catch it and go on; the very same object arrives."""
    received: list = []
    error = ValueError("thrown")
    generator = traced_generator(received)
    next(generator)
    assert generator.throw(error) == 2
    assert received == [error]
    assert list(generator) == [3]
    assert _runs(installed)[0].outcome == "unknown"


def test_what_a_generator_does_not_catch_comes_out(installed):
    """And ends its run as a failure, once."""
    generator = traced_generator([])
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError())
    assert list(generator) == []
    (run,) = _runs(installed)
    assert (run.outcome, run.error_type) == ("failure", "KeyError")


def test_leaving_a_generator_early_ends_its_run(installed):
    """When it is dropped, its body is closed and its run ends."""
    closed = []

    @trace_loop(loop_name="code-repair")
    def loop():
        try:
            yield 1
        finally:
            closed.append(current_tracer())

    for _ in loop():
        break
    gc.collect()
    (run,) = _runs(installed)
    assert closed[0].trace_id == run.trace_id
    assert run.error_type == "GeneratorExit"
    assert current_tracer() is None


def test_a_generator_that_was_never_started_leaves_no_run(installed):
    """Nothing ran, so there is nothing to tell."""
    traced_generator([]).close()
    assert installed.started == []


def test_yield_from_a_traced_generator_is_as_from_any_other(installed):
    """Items, values sent and the value returned pass through."""
    received: list = []

    def outer():
        return (yield from traced_generator(received, items=2))

    generator = outer()
    next(generator)
    generator.send("a")
    with pytest.raises(StopIteration) as stop:
        generator.send("b")
    assert (stop.value.value, received) == (2, ["a", "b"])


def test_a_consumer_keeps_its_own_tracer_between_items(installed, new_run):
    """Whatever the generator does, and wherever it stops."""
    with new_run() as own:
        for _ in traced_generator([]):
            assert current_tracer() is own
            own.emit_iteration(iteration=9, goal_score=0.1)
        assert current_tracer() is own
    assert _numbers(installed) == [1, 9, 2, 9, 3, 9]


def test_a_run_inside_a_generator_stays_inside(installed, new_run):
    """A loop that the body is in the middle of is not the consumer's."""

    @trace_loop(loop_name="outer-loop")
    def loop():
        with new_run("inner-loop") as inner:
            yield 1
            assert current_tracer() is inner
            yield 2
            assert current_tracer() is inner
        yield 3

    with new_run() as own:
        assert [current_tracer() for _ in loop()] == [own] * 3


@pytest.mark.parametrize("shape", ("generator", "async"))
def test_finish_inside_a_generator_waits_for_its_end(installed, shape):
    """What is reported afterwards still belongs to the run."""

    @trace_loop(loop_name="code-repair")
    def loop():
        current_tracer().finish(outcome="success", termination_reason="goal_met")
        yield 1
        _emit(1)

    @trace_loop(loop_name="code-repair")
    async def async_loop():
        current_tracer().finish(outcome="success", termination_reason="goal_met")
        yield 1
        _emit(1)

    if shape == "generator":
        list(loop())
    else:
        asyncio.run(_collected(async_loop()))
    (run,) = _runs(installed)
    assert (run.outcome, run.termination_reason) == ("success", "goal_met")
    assert _numbers(installed) == [1]


def test_two_generators_may_interleave_in_one_context(installed):
    """Each reports to its own run."""
    one, other = traced_generator([]), traced_generator([])
    for _ in zip(one, other, strict=True):
        assert current_tracer() is None
    per_run: dict[str, list[int]] = {}
    for span in installed.ended:
        if isinstance(span, IterationSpan):
            per_run.setdefault(span.trace_id, []).append(span.iteration)
    assert list(per_run.values()) == [[1, 2, 3], [1, 2, 3]]


def test_a_generator_inside_a_generator_is_a_run_inside_a_run(installed):
    """The inner document names the outer run."""

    @trace_loop(loop_name="outer-loop")
    def outer():
        for item in traced_generator([]):
            assert current_tracer().loop_name == "outer-loop"
            _emit(10 + item)
            yield item

    assert list(outer()) == [1, 2, 3]
    inner, outside = _runs(installed)
    assert inner.metadata["parent"]["trace_id"] == outside.trace_id
    assert _numbers(installed) == [1, 11, 2, 12, 3, 13]


def test_a_generator_may_be_closed_in_another_context(installed):
    """Neither context is left with its tracer."""
    generator = traced_generator([])
    contextvars.copy_context().run(next, generator)
    generator.close()
    assert len(_runs(installed)) == 1
    assert current_tracer() is None


def test_a_generator_that_will_not_close_is_reported_as_python_does(installed):
    """RuntimeError, as without the decorator."""

    @trace_loop(loop_name="code-repair")
    def loop():
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    generator = loop()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()
    assert _runs(installed)[0].error_type == "RuntimeError"


# Async generators.


async def _collected(iterator) -> list:
    return [item async for item in iterator]


def test_an_async_generator_takes_what_it_is_sent_and_thrown(installed):
    """Through asend, athrow and to its end."""
    received: list = []
    error = ValueError("thrown")

    async def consume() -> list:
        generator = traced_async_generator(received)
        return [
            await anext(generator),
            await generator.asend("a"),
            await generator.athrow(error),
            *await _collected(generator),
        ]

    assert asyncio.run(consume()) == [1, 2, 3]
    assert received == ["a", error, None]
    assert _runs(installed)[0].outcome == "unknown"


def test_an_async_consumer_keeps_its_own_tracer(installed, new_run):
    """Between items as after them."""

    async def consume() -> None:
        async with new_run() as own:
            async for _ in traced_async_generator([]):
                assert current_tracer() is own
            assert current_tracer() is own

    asyncio.run(consume())
    assert len(_runs(installed)) == 2


def test_an_async_generator_may_be_closed_in_another_task(installed, caplog):
    """Its run ends there, and nothing is logged."""

    async def consume() -> None:
        generator = traced_async_generator([])
        await anext(generator)
        await asyncio.create_task(generator.aclose())
        assert current_tracer() is None

    asyncio.run(consume())
    assert _runs(installed)[0].error_type == "GeneratorExit"
    assert caplog.records == []


def test_an_async_generator_left_early_ends_its_run(installed, caplog):
    """At the latest when the event loop shuts its generators down."""

    async def consume() -> None:
        async for _ in traced_async_generator([]):
            break

    asyncio.run(consume())
    gc.collect()
    assert len(_runs(installed)) == 1
    assert caplog.records == []


def test_async_generators_may_interleave_in_one_task(installed):
    """Each reports to its own run."""

    async def consume() -> None:
        one, other = traced_async_generator([]), traced_async_generator([])
        for _ in range(3):
            await anext(one)
            await anext(other)
            assert current_tracer() is None
        await one.aclose()
        await other.aclose()

    asyncio.run(consume())
    assert sorted(_numbers(installed)) == [1, 1, 2, 2, 3, 3]
    assert len({span.trace_id for span in installed.ended}) == 2


def test_a_cancelled_async_generator_fails(installed):
    """While its body waits, the cancellation reaches it and goes on."""

    @trace_loop(loop_name="code-repair")
    async def loop():
        yield 1
        await asyncio.Event().wait()
        yield 2

    async def consume() -> None:
        task = asyncio.create_task(_collected(loop()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(consume())
    assert _runs(installed)[0].error_type == "CancelledError"


# Functions.


def test_a_method_is_traced_as_a_function_is(installed):
    """Of an object, of a class, and static."""

    class Agent:
        @trace_loop(loop_name="code-repair")
        def loop(self) -> "Agent":
            _emit(1)
            return self

        @classmethod
        @trace_loop(loop_name="code-repair")
        async def of_class(cls) -> type:
            _emit(2)
            return cls

    agent = Agent()
    assert agent.loop() is agent
    assert asyncio.run(Agent.of_class()) is Agent
    assert _numbers(installed) == [1, 2]


def test_a_recursive_loop_is_a_run_inside_a_run(installed):
    """Each depth has its own document."""

    @trace_loop(loop_name="code-repair")
    def loop(depth: int) -> None:
        if depth:
            loop(depth - 1)
        _emit(depth + 1)

    loop(2)
    inner, middle, outer = _runs(installed)
    assert inner.metadata["parent"]["trace_id"] == middle.trace_id
    assert middle.metadata["parent"]["trace_id"] == outer.trace_id
    assert outer.metadata == {}


@pytest.mark.parametrize("shape", ("function", "coroutine", "generator", "async"))
def test_a_disabled_decorator_changes_nothing(installed, shape):
    """Values and errors come through, and nothing is told."""
    off = {"loop_name": "code-repair", "enabled": False}
    if shape == "function":
        assert trace_loop(**off)(current_tracer)() is None
    elif shape == "coroutine":
        assert asyncio.run(trace_loop(**off)(asyncio.sleep)(0, 7)) == 7
    elif shape == "generator":
        assert list(trace_loop(**off)(traced_generator.__wrapped__)([])) == [1, 2, 3]
    else:
        generator = trace_loop(**off)(traced_async_generator.__wrapped__)([])
        assert asyncio.run(_collected(generator)) == [1, 2, 3]
    assert installed.started == []


# Errors.

_ERRORS = (
    *(ValueError, KeyboardInterrupt, SystemExit, GeneratorExit),
    *(asyncio.CancelledError, MemoryError, BaseExceptionGroup, StopIteration),
)


def _made(kind: type[BaseException]) -> BaseException:
    if issubclass(kind, BaseExceptionGroup):
        return kind("several", [KeyboardInterrupt()])
    return kind()


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("kind", _ERRORS)
def test_an_error_goes_through_every_block_untouched(new_run, recorder, kind):
    """The same object, by the same way, with nothing added to it."""
    error = _made(kind)
    with (
        pytest.raises(kind) as caught,
        new_run() as run,
        run.iteration() as step,
        step.worker("w"),
    ):
        _raise(error)
    assert caught.value is error
    frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[1:] == ["_raise"]
    assert (error.__context__, error.__cause__) == (None, None)
    assert not hasattr(error, "__notes__")
    assert {span.error_type for span in recorder.ended} == {kind.__qualname__}


@pytest.mark.parametrize("kind", set(_ERRORS) - {StopIteration})
def test_an_error_goes_through_a_traced_coroutine(installed, kind):
    """Nothing but the frames it has passed is added."""
    error = _made(kind)

    @trace_loop(loop_name="code-repair")
    async def loop() -> None:
        _raise(error)

    with pytest.raises(kind) as caught:
        loop().send(None)
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert _runs(installed)[0].error_type == kind.__qualname__


@pytest.mark.parametrize("kind", (KeyError, KeyboardInterrupt, SystemExit))
def test_an_error_goes_through_a_traced_generator(installed, kind):
    """Thrown in by the consumer and passed on by the body."""
    error = _made(kind)
    generator = traced_generator([])
    next(generator)
    with pytest.raises(kind) as caught:
        generator.throw(error)
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert _runs(installed)[0].error_type == kind.__qualname__


def test_an_error_while_another_is_handled_keeps_its_context(new_run):
    """What the loop itself has chained stays chained."""
    first, second = ValueError(), KeyError()
    with pytest.raises(KeyError):
        try:
            raise first
        except ValueError:
            with new_run():
                _raise(second)
    assert second.__context__ is first


def test_an_error_caught_inside_is_none_of_the_run(new_run, recorder):
    """Only what leaves a block fails it."""
    with new_run() as run:
        with contextlib.suppress(ValueError), run.iteration():
            raise ValueError
        run.finish(outcome="success")
    iteration, ended = recorder.ended
    assert iteration.error_type == "ValueError"
    assert (ended.outcome, ended.error_type) == ("success", None)


# Entering and leaving.


def test_tracers_may_be_left_in_the_order_they_were_entered(new_run):
    """The current one is right at each point."""
    a, b = new_run("loop-a"), new_run("loop-b")
    a.__enter__()
    b.__enter__()
    assert current_tracer() is b
    a.__exit__(None, None, None)
    assert current_tracer() is b
    b.__exit__(None, None, None)
    assert current_tracer() is None


def test_tracers_may_be_left_in_any_order(new_run):
    """Of four, the innermost that is still entered is the current one."""
    own = [new_run(f"loop-{number}") for number in range(4)]
    for run in own:
        run.__enter__()
    for left, current in ((2, 3), (0, 3), (3, 1)):
        own[left].__exit__(None, None, None)
        assert current_tracer() is own[current]
    own[1].__exit__(None, None, None)
    assert current_tracer() is None


def test_a_run_entered_in_a_task_may_be_left_in_another(new_run, recorder, caplog):
    """As frameworks do that start and end requests in callbacks."""

    async def both() -> None:
        run = new_run()
        await asyncio.create_task(run.__aenter__())
        assert current_tracer() is None
        await asyncio.create_task(run.__aexit__(None, None, None))
        assert current_tracer() is None

    asyncio.run(both())
    assert len(_runs(recorder)) == 1
    assert caplog.records == []


def test_a_copied_context_keeps_its_tracer_until_the_run_ends(new_run):
    """Left elsewhere, it is the current one of no context any more."""
    with new_run() as run:
        context = contextvars.copy_context()
        assert context.run(current_tracer) is run
    assert context.run(current_tracer) is None


def test_a_run_entered_twice_ends_when_it_is_left_for_good(new_run, recorder):
    """The inner block is not its end."""
    with new_run() as run:
        with run:
            run.emit_iteration(iteration=1, goal_score=0.4)
        assert current_tracer() is run
        run.emit_iteration(iteration=2, goal_score=0.4)
    assert _numbers(recorder) == [1, 2]
    assert len(_runs(recorder)) == 1


def test_a_run_that_is_over_does_not_begin_again(new_run, recorder):
    """Entered once more, it tells nobody, and its document stays valid."""
    run = new_run()
    for _ in range(2):
        with run:
            run.emit_iteration(iteration=1, goal_score=0.4)
    assert len(recorder.started) == len(_runs(recorder)) == 1
    assert _numbers(recorder) == [1]
    assert validate_trace(run.build_trace()) == (True, [])


def test_a_span_that_was_passed_on_does_not_change(new_run, recorder):
    """What is said of a block after its end comes too late for its span."""
    with new_run() as run, run.iteration() as step:
        with step.worker("w") as worker:
            worker.set_attribute("app.model", "small")
        worker.set_attribute("app.model", "large")
    step.set_attribute("app.branch", "main")
    found = [span.attributes for span in recorder.ended[:2]]
    assert found == [{"app.model": "small"}, {}]


def test_a_thousand_overlapping_runs_leave_no_chain(new_run):
    """Each is left after the next was entered: current stays right, and quick."""
    before = new_run()
    before.__enter__()
    for _ in range(1000):
        after = new_run()
        after.__enter__()
        before.__exit__(None, None, None)
        assert current_tracer() is after
        before = after
    before.__exit__(None, None, None)
    assert current_tracer() is None


# Threads and tasks.


def test_a_thread_starts_without_a_tracer_and_takes_the_run_it_is_given(new_run):
    """Only a copied context brings the current one along."""
    seen = []

    def work(run) -> None:
        seen.append(current_tracer())
        run.emit_iteration(iteration=1, goal_score=0.4)
        seen.append(contextvars.copy_context().run(current_tracer))

    with new_run() as run:
        context = contextvars.Context()
        thread = threading.Thread(target=context.run, args=(work, run))
        thread.start()
        thread.join()
        assert asyncio.run(asyncio.to_thread(current_tracer)) is run
    assert seen == [None, None]
    assert len(run.build_trace()["spans"]) == 2


def test_a_task_group_shares_the_run_around_it(new_run, recorder):
    """And a task's own run stays in that task."""

    async def work(number: int) -> None:
        _emit(number)
        async with new_run("inner-loop") as inner:
            await asyncio.sleep(0)
            assert current_tracer() is inner
            _emit(100 + number)

    async def main() -> None:
        async with new_run() as outer:
            async with asyncio.TaskGroup() as group:
                for number in range(5):
                    group.create_task(work(number))
            assert current_tracer() is outer

    asyncio.run(main())
    parents = {run.metadata["parent"]["trace_id"] for run in _runs(recorder)[:-1]}
    assert parents == {_runs(recorder)[-1].trace_id}
    assert sorted(_numbers(recorder)) == [*range(5), *range(100, 105)]


def test_a_failing_task_group_fails_the_run(new_run, recorder):
    """Siblings are cancelled, the group's error leaves the run."""

    async def fail() -> None:
        raise ValueError

    async def main() -> None:
        async with new_run() as run, asyncio.TaskGroup() as group:
            group.create_task(asyncio.Event().wait())
            async with run.iteration():
                group.create_task(fail())
                await asyncio.Event().wait()

    with pytest.raises(BaseExceptionGroup):
        asyncio.run(main())
    iteration, ended = recorder.ended
    assert (iteration.error_type, ended.error_type) == (
        "CancelledError",
        "ExceptionGroup",
    )


@pytest.mark.parametrize("backend", ("asyncio", "trio"))
def test_anyio_tasks_have_their_own_tracer(new_run, recorder, backend):
    """Task groups and worker threads of anyio keep and carry the context."""

    async def work(number: int) -> None:
        with new_run("inner-loop") as inner:
            await anyio.lowlevel.checkpoint()
            assert await anyio.to_thread.run_sync(current_tracer) is inner
            _emit(number)

    async def main() -> None:
        with new_run():
            async with anyio.create_task_group() as group:
                for number in range(5):
                    group.start_soon(work, number)

    anyio.run(main, backend=backend)
    assert sorted(_numbers(recorder)) == [*range(5)]


class _Everything:
    """A run whose spans go to the recorder and to metrics of their own."""

    def __init__(self, recorder) -> None:
        health = Health()
        metrics = MetricsProcessor(health=health)
        self.recorder = recorder
        self.registry = CollectorRegistry()
        self.registry.register(LoopCollector(metrics.snapshot))
        self.health = health
        self.run = LoopTracer(
            "code-repair", pipeline=Pipeline([recorder, metrics], health=health)
        )

    def counts(self, name: str) -> tuple[int, int, float | None]:
        """Count iterations and tokens in document, recorder and metrics."""
        spans = self.run.build_trace()["spans"][1:]
        key = {"loop_iterations_total": None, "loop_tokens_total": "loop.tokens_delta"}
        attribute = key[name]
        seen = [s for s in self.recorder.ended if isinstance(s, IterationSpan)]
        labels = {"loop_name": "code-repair", "env_id": ""}
        return (
            sum(s["attributes"][attribute] if attribute else 1 for s in spans),
            sum(s.tokens_delta if attribute else 1 for s in seen),
            self.registry.get_sample_value(name, labels),
        )


def test_two_hundred_concurrent_threads_lose_nothing(recorder):
    """Document, recorder and metrics agree on 10,000 iterations."""
    everything = _Everything(recorder)
    ready = threading.Barrier(200)

    def work() -> None:
        ready.wait()
        for number in range(25):
            run.emit_iteration(iteration=number, goal_score=0.5, tokens_delta=3)
            with run.iteration() as step:
                step.add_tokens(total=4)

    with everything.run as run:
        threads = [threading.Thread(target=work) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert everything.counts("loop_iterations_total") == (10_000, 10_000, 10_000)
    assert everything.counts("loop_tokens_total") == (35_000, 35_000, 35_000)
    assert everything.health.processor_failures() == {}


def test_two_thousand_concurrent_tasks_lose_nothing(recorder):
    """Document, recorder and metrics agree on 10,000 iterations."""
    everything = _Everything(recorder)

    async def work() -> None:
        for number in range(3):
            emit_iteration(iteration=number, goal_score=0.5, tokens_delta=3)
            await asyncio.sleep(0)
        for _ in range(2):
            async with current_tracer().iteration() as step:
                await asyncio.sleep(0)
                async with step.worker("w") as worker:
                    await asyncio.sleep(0)
                    worker.add_tokens(input=1, output=1)

    async def main() -> None:
        async with everything.run, asyncio.TaskGroup() as group:
            for _ in range(2000):
                group.create_task(work())

    asyncio.run(main())
    document = everything.run.build_trace()
    kinds = [span["kind"] for span in document["spans"]]
    assert (kinds.count("iteration"), kinds.count("worker")) == (10_000, 4_000)
    assert recorder.ended[-1].tokens_total == 2000 * (3 * 3 + 2 * 2)


def test_two_thousand_concurrent_runs_are_counted(recorder):
    """Each task has its own; starts and ends agree, and no slot is lost."""
    everything = _Everything(recorder)
    pipeline = everything.run._pipeline

    async def work(number: int) -> None:
        async with LoopTracer("code-repair", pipeline=pipeline):
            await asyncio.sleep(0)
            _emit(number)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(2000):
                group.create_task(work(number))

    asyncio.run(main())
    value = everything.registry.get_sample_value
    labels = {"loop_name": "code-repair", "env_id": ""}
    assert len({run.trace_id for run in _runs(recorder)}) == 2000
    assert value("loop_runs_active", labels) == 0
    assert value("loop_iterations_total", labels) == 2000


# What is logged.


def test_no_shape_of_loop_logs_anything(installed, caplog):
    """Not even that something could not be detached."""
    hook, unraisable = sys.unraisablehook, []
    sys.unraisablehook = unraisable.append
    try:
        with caplog.at_level(logging.DEBUG):
            asyncio.run(_all_at_once())
            gc.collect()
    finally:
        sys.unraisablehook = hook
    ours = [r for r in caplog.records if r.name.startswith("loopotel_prom")]
    assert ours == unraisable == []
    assert len(_runs(installed)) == len(installed.started) == 40


async def _all_at_once() -> None:
    async def one() -> None:
        generator = traced_async_generator([])
        await anext(generator)
        asynchronous = asyncio.create_task(generator.aclose())
        for _ in traced_generator([]):
            await asyncio.sleep(0)
            break
        await asynchronous

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(one())
