"""`trace_loop`: a function whose every call is one traced run."""

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, ParamSpec, TypeVar, cast

from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.tracer.run import LoopTracer

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
    awaited, of a generator until it is exhausted or closed. Inside,
    `current_tracer` gives its tracer and `emit_iteration` reports to it. The
    finished run goes to the pipeline, and with it to the archive.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        def tracer() -> LoopTracer:
            return LoopTracer(
                loop_name,
                env_id,
                task_id,
                goal_target=goal_target,
                enabled=enabled,
            )

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


def _of_generator(
    function: Callable[..., Generator[Any, Any, Any]], tracer: Callable[[], LoopTracer]
) -> Callable[..., Generator[Any, Any, Any]]:
    def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with tracer():
            return (yield from function(*args, **kwargs))

    return call


def _of_async_generator(
    function: Callable[..., AsyncGenerator[Any, Any]], tracer: Callable[[], LoopTracer]
) -> Callable[..., AsyncGenerator[Any, Any]]:
    async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with tracer():
            async for item in function(*args, **kwargs):
                yield item

    return call
