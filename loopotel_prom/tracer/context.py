"""The tracer of the current context."""

from collections.abc import Iterable
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopotel_prom.tracer.run import LoopTracer

_current: ContextVar["LoopTracer | None"] = ContextVar("loopotel_prom", default=None)


def current_tracer() -> "LoopTracer | None":
    """Give the innermost tracer entered in this context, or None."""
    return _current.get()


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
    tracer = _current.get()
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


class Activation:
    """
    Makes a tracer current, and undoes that, in whatever context that happens.

    A ``with`` block may be left in another context than it was entered in (an
    async generator closed by the event loop, a callback). The token is of no
    use there; the other context never had the tracer, so nothing is undone.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Token[LoopTracer | None] | None = None

    def enter(self, tracer: "LoopTracer") -> None:
        """Make `tracer` the current one."""
        self._token = _current.set(tracer)

    def leave(self) -> None:
        """Give back the tracer that was current before."""
        token, self._token = self._token, None
        if token is not None:
            try:
                _current.reset(token)
            except ValueError:
                return
