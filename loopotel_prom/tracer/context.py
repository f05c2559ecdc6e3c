"""The tracer of the current context."""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopotel_prom.tracer.run import LoopTracer


class Activation:
    """
    A tracer made current, until `leave`.

    Activations form a chain, and one that has been left is passed over. So they
    may be left in any order and in any context (interleaved loops in one task, a
    generator closed elsewhere), which a context variable's token does not allow.
    """

    __slots__ = ("_left", "_outer", "_tracer")

    def __init__(self, tracer: "LoopTracer") -> None:
        self._tracer = tracer
        self._left = False
        self._outer = _innermost(_current.get())
        if self._outer is not None:
            # Shortens the chain, or it would grow with loops that overlap.
            self._outer._outer = _innermost(self._outer._outer)
        _current.set(self)

    def leave(self) -> None:
        """Make the tracer around this one current again."""
        self._left = True
        if _current.get() is self:
            _current.set(_innermost(self._outer))


_current: ContextVar[Activation | None] = ContextVar("loopotel_prom", default=None)


def _innermost(activation: Activation | None) -> Activation | None:
    """Give the first of the chain that has not been left."""
    while activation is not None and activation._left:
        activation = activation._outer
    return activation


def latest_activation() -> Activation | None:
    """Give this context's activation, left or not."""
    return _current.get()


def exchange(activation: Activation | None) -> Activation | None:
    """Make an activation this context's, and give the one before."""
    before = _current.get()
    _current.set(activation)
    return before


def current_tracer() -> "LoopTracer | None":
    """Give the innermost tracer entered in this context, or None."""
    activation = _innermost(_current.get())
    return None if activation is None else activation._tracer


def emit_iteration(
    *,
    iteration: int,
    goal_score: float,
    goal_target: float | None = None,
    tokens_delta: int | None = 0,
    cost_usd: float | None = None,
    latency_ms: float | None = None,
    worker_id: str | None = None,
    evaluator_id: str | None = None,
    failure_codes: Iterable[str] = (),
    safety_violations: Iterable[str] = (),
    human_interventions: int = 0,
) -> None:
    """
    Report an iteration to the current tracer; without one, do nothing.

    The values are those of `LoopTracer.emit_iteration`.
    """
    tracer = current_tracer()
    if tracer is None:
        return
    tracer.emit_iteration(
        iteration=iteration,
        goal_score=goal_score,
        goal_target=goal_target,
        tokens_delta=tokens_delta,
        cost_usd=cost_usd,
        latency_ms=latency_ms,
        worker_id=worker_id,
        evaluator_id=evaluator_id,
        failure_codes=failure_codes,
        safety_violations=safety_violations,
        human_interventions=human_interventions,
    )
