"""One step of a trajectory, before it is written."""

from typing import Any

from msgspec import Struct


class Step(Struct, gc=False, kw_only=True):
    """
    One iteration, or several that were put together; None for what is unknown.

    Attributes:
        iteration: Its number, of several that of the last.
        goal_score: Of several that of the last.
        cost_usd: In total.
        latency_seconds: In total.
        tokens: In total.
        failure_codes: LoopNet's, each once.
        other_codes: Those that LoopNet has no word for, each once.
        safety_events: How many violations there were.
        is_human: A human stepped in.
    """

    iteration: int
    goal_score: float | None = None
    cost_usd: float | None = None
    latency_seconds: float | None = None
    tokens: int | None = None
    failure_codes: tuple[str, ...] = ()
    other_codes: tuple[str, ...] = ()
    safety_events: int = 0
    is_human: bool = False

    def as_record(self) -> dict[str, Any]:
        """Spell it as the format does; what is unknown is left out."""
        spelled: dict[str, Any] = {
            "iteration": self.iteration,
            "goal_score": self.goal_score,
            "primary_quality": self.goal_score,
            "cost_usd": self.cost_usd,
            "latency_seconds": self.latency_seconds,
            "tokens": self.tokens,
            "failure_codes": list(self.failure_codes),
            "safety_events": self.safety_events,
            "human_intervention": self.is_human,
        }
        if self.tokens is None:
            del spelled["tokens"]
        return spelled
