"""The spans of one document, scored anew, one after the other."""

from typing import Any

from loopotel_prom import semconv
from loopotel_prom.les import DEFAULT_GOAL_TARGET, RunningLes
from loopotel_prom.plain import number

_PLACES = 4


class Scoring:
    """
    Changes spans in place, in the order of their document.

    Args:
        goal_target: The new target.

    Attributes:
        old_target: The root's; else the latest iteration's; None if nobody says.
        les_before: The last cumulative LES that was recorded.
        goal_score: The last score.
        is_changed: The document is another one now.
    """

    def __init__(self, goal_target: float) -> None:
        self.old_target: float | None = None
        self.les_before: float | None = None
        self.goal_score: float | None = None
        self.is_changed = False
        self._target = goal_target
        self._latest_target: float | None = None
        self._root_says = False
        self._les = RunningLes()

    @property
    def les_after(self) -> float | None:
        """The cumulative LES that stands last now; None without a score."""
        if self.goal_score is None:
            return None
        return _rounded(self._les.value) if self.is_changed else self.les_before

    def has_reached(self, *, before: bool) -> bool:
        """Tell whether the last score reaches the target of the time."""
        if self.goal_score is None:
            return False
        if not before:
            return self.goal_score >= self._target
        # As the run had it at its end.
        old = self._latest_target if self.old_target is None else self.old_target
        return self.goal_score >= (DEFAULT_GOAL_TARGET if old is None else old)

    def take(self, span: Any) -> None:
        """Score a span anew, if it is one that has a score."""
        attributes = span.get("attributes") if isinstance(span, dict) else None
        if not isinstance(attributes, dict):
            return
        if span.get("kind") == "loop":
            self._take_root(attributes)
        elif span.get("kind") == "iteration":
            self._take_iteration(attributes)

    def mark(self, metadata: Any) -> dict[str, Any]:
        """Give a document's metadata, with what was done to it."""
        kept = metadata if isinstance(metadata, dict) else {}
        told = {"from": self.old_target, "to": self._target}
        return {**kept, "rescored": told}

    def _take_root(self, attributes: dict[str, Any]) -> None:
        if semconv.GOAL_TARGET in attributes:
            self._root_says = True
            self.old_target = number(attributes[semconv.GOAL_TARGET])
            if self.old_target != self._target:
                self.is_changed = True
                attributes[semconv.GOAL_TARGET] = self._target

    def _take_iteration(self, attributes: dict[str, Any]) -> None:
        old = number(attributes.get(semconv.GOAL_TARGET))
        if old is not None:
            self._latest_target = old
            if not self._root_says:
                self.old_target = old
        les = number(attributes.get(semconv.LES_CUMULATIVE))
        self.les_before = self.les_before if les is None else les
        score = number(attributes.get(semconv.GOAL_SCORE))
        value = None
        if score is not None:
            self.goal_score = score
            value = self._les.add(score, self._target)
        if old == self._target and not self.is_changed:
            return  # as it was recorded, to the last place
        self.is_changed = True
        attributes[semconv.GOAL_TARGET] = self._target
        attributes[semconv.LES_CUMULATIVE] = _rounded(self._les.value)
        if value is None:
            attributes.pop(semconv.LES_EFFECTIVENESS, None)
        else:
            attributes[semconv.LES_EFFECTIVENESS] = _rounded(value)


def _rounded(value: float) -> float:
    return round(value, _PLACES) + 0.0
