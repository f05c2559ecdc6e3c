"""The workers and evaluators of a run, summed up."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from msgspec import structs

from loopotel_prom.board.view import Caller
from loopotel_prom.span import EvaluatorSpan, IterationSpan, WorkerSpan

# More of a kind than anyone reads; those beyond share a line.
_MOST = 50
_OTHERS = "others"

Kind = Literal["worker", "evaluator"]


class Callers:
    """Sums up, by kind and name; of each kind 50, and one for all others."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[tuple[Kind, str], Caller] = {}

    def add(self, span: WorkerSpan | EvaluatorSpan) -> None:
        """Count a call that has a span of its own."""
        if isinstance(span, WorkerSpan):
            caller = self._caller("worker", span.worker_id, span.role)
        else:
            caller = self._caller("evaluator", span.evaluator_id, span.type)
            if span.goal_score is not None:
                caller.score = span.goal_score
        caller.calls += 1
        caller.seconds = (caller.seconds or 0.0) + (span.end_ns - span.start_ns) / 1e9
        if span.input_tokens is not None or span.output_tokens is not None:
            used = (span.input_tokens or 0) + (span.output_tokens or 0)
            caller.tokens = (caller.tokens or 0) + used
        if span.cost_usd is not None:
            caller.cost_usd = (caller.cost_usd or 0.0) + span.cost_usd

    def add_named(self, spans: Iterable[IterationSpan]) -> None:
        """Count those that are only named, on the iterations."""
        workers = Counter([span.worker_id for span in spans])
        judges = Counter([span.evaluator_id for span in spans])
        for name, calls in workers.items():
            if name is not None:
                self._caller("worker", name, None).calls += calls
        for name, calls in judges.items():
            if name is not None:
                self._caller("evaluator", name, None).calls += calls

    def copy(self) -> list[Caller]:
        """Copy the sums, workers first."""
        found = [structs.replace(caller) for caller in self._known.values()]
        return sorted(found, key=lambda caller: caller.kind != "worker")

    def _caller(self, kind: Kind, name: str | None, role: str | None) -> Caller:
        key = (kind, name or "")
        if key not in self._known and len(self._known) >= 2 * _MOST:
            key = (kind, _OTHERS)
        caller = self._known.get(key)
        if caller is None:
            caller = self._known[key] = Caller(kind=kind, name=key[1], role=role or "")
        return caller
