"""`trace_loop`: a function whose every call is one traced run."""

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, ParamSpec, TypeVar, cast

from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.tracer.context import exchange, latest_activation
from loopotel_prom.tracer.run import LoopTracer
from loopotel_prom.tracer.values import goal_target_of, loop_name_of

P = ParamSpec("P")
R = TypeVar("R")


def trace_loop(
    *,
    loop_name: str,
    env_id: str | None = None,
    enabled: bool = True,
    task_id: str | None = None,
    goal_target: float = DEFAULT_GOAL_TARGET,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """
    Trace each call of the decorated function as one run.

    The run lasts as long as the body does: of a coroutine until it has been
    awaited, of a generator until it is exhausted or closed. While the body runs
    (and, of a generator, not while its consumer does) `current_tracer` gives its
    tracer and `emit_iteration` reports to it. The finished run goes to the
    pipeline, and with it to the archive.

    A generator that is closed before its end is a failure, by GeneratorExit.

    Raises:
        ConfigError: The loop name or the target cannot work.
    """
    loop_name_of(loop_name)
    goal_target_of(goal_target)

    def tracer() -> LoopTracer:
        return LoopTracer(
            loop_name, env_id, task_id, goal_target=goal_target, enabled=enabled
        )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return cast("Callable[P, R]", _wrapper(function, tracer))

    return decorate


def _wrapper(
    function: Callable[..., Any], tracer: Callable[[], LoopTracer]
) -> Callable[..., Any]:
    """Wrap a function by its kind."""
    wrap: Callable[..., Any] = _of_function
    if inspect.isasyncgenfunction(function):
        wrap = _of_async_generator
    elif inspect.isgeneratorfunction(function):
        wrap = _of_generator
    elif inspect.iscoroutinefunction(function):
        wrap = _of_coroutine
    return functools.wraps(function)(wrap(function, tracer))


def _of_function(
    function: Callable[..., R], tracer: Callable[[], LoopTracer]
) -> Callable[..., R]:
    def call(*args: Any, **kwargs: Any) -> R:
        with tracer():
            return function(*args, **kwargs)

    return call


def _of_coroutine(
    function: Callable[..., Awaitable[R]], tracer: Callable[[], LoopTracer]
) -> Callable[..., Awaitable[R]]:
    async def call(*args: Any, **kwargs: Any) -> R:
        with tracer():
            return await function(*args, **kwargs)

    return call


# A generator's consumer runs between its steps, in the same context. The tracer
# is made current for each step alone, so the wrappers step by hand, as
# ``yield from`` would (PEP 380).


class _Steps:
    """A run that is current only while a step of its generator is taken."""

    def __init__(self, run: LoopTracer) -> None:
        self._run = run
        outside = latest_activation()
        run.__enter__()
        self._is_traced = run.enabled
        # What is current in the body: its run, or one that it has begun inside.
        self._inside = exchange(outside)

    def __enter__(self) -> None:
        if self._is_traced:
            self._inside = exchange(self._inside)

    def __exit__(self, *_: object) -> None:
        if self._is_traced:
            self._inside = exchange(self._inside)

    def end(self, error: BaseException | None = None) -> None:
        """End the run."""
        self._run.__exit__(None if error is None else type(error), error, None)


def _of_generator(
    function: Callable[..., Generator[Any, Any, Any]], tracer: Callable[[], LoopTracer]
) -> Callable[..., Generator[Any, Any, Any]]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        steps = _Steps(tracer())
        try:
            generator = function(*args, **kwargs)
            take: Callable[[], Any] = functools.partial(next, generator)
            while True:
                try:
                    with steps:
                        item = take()
                except StopIteration as stop:
                    steps.end()
                    return stop.value
                try:
                    sent = yield item
                except GeneratorExit:
                    with steps:
                        generator.close()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown on into the body
                    take = functools.partial(generator.throw, error)
                else:
                    take = functools.partial(generator.send, sent)
        except BaseException as error:
            steps.end(error)
            raise

    return call


def _of_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], tracer: Callable[[], LoopTracer]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        steps = _Steps(tracer())
        try:
            generator = function(*args, **kwargs)
            take: Callable[[], Awaitable[Any]] = generator.__anext__
            while True:
                try:
                    with steps:
                        item = await take()
                except StopAsyncIteration:
                    steps.end()
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown on into the body
                    take = functools.partial(generator.athrow, error)
                else:
                    take = functools.partial(generator.asend, sent)
        except BaseException as error:
            steps.end(error)
            raise

    return call
