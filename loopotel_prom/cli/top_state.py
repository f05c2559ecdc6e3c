"""What a person has asked of `top`: an order, and a filter."""

from collections.abc import Callable, Sequence

from loopotel_prom.board.view import Overview, RunSummary

_ENTER = ("\r", "\n")
_ESCAPE = "\x1b"
_ERASE = ("\x7f", "\b")
_MOST = 64
_NONE = float("inf")

# By key: its name, and what sorts the first of that order first.
SORTS: dict[str, tuple[str, Callable[[RunSummary, int], float]]] = {
    "s": ("score", lambda run, _: _share(run)),
    "l": ("LES", lambda run, _: _NONE if run.les is None else run.les),
    "t": ("tokens", lambda run, _: -run.tokens),
    "c": ("cost", lambda run, _: -(run.cost_usd or 0.0)),
    "a": ("age", lambda run, now: (run.started_ns or now) - now),
}
# The order in which the runs come.
WORST = "w"


class TopState:
    """
    Takes keys, and arranges runs by them.

    Attributes:
        sort: The key of the order.
        filter: What a run's names have to contain, in any case.
        is_typing: The filter is being typed.
        is_over: The person has had enough.
    """

    def __init__(self, *, sort: str = WORST, filter: str = "") -> None:  # noqa: A002 - as the key is named
        self.sort = sort
        self.filter = filter
        self.is_typing = False
        self.is_over = False

    def press(self, key: str) -> None:
        """Take a key."""
        if self.is_typing:
            self._type(key)
        elif key == "q":
            self.is_over = True
        elif key == "/":
            self.is_typing, self.filter = True, ""
        elif key == _ESCAPE:
            self.filter = ""
        elif key in SORTS or key == WORST:
            self.sort = key

    def _type(self, key: str) -> None:
        if key in _ENTER:
            self.is_typing = False
        elif key == _ESCAPE:
            self.is_typing, self.filter = False, ""
        elif key in _ERASE:
            self.filter = self.filter[:-1]
        elif key.isprintable() and len(self.filter) < _MOST:
            self.filter += key

    def arranged(self, seen: Overview) -> Sequence[RunSummary]:
        """Give the runs under way that pass the filter, in order."""
        wanted = self.filter.lower()
        runs = [run for run in seen.active if wanted in _names(run)]
        if self.sort in SORTS:
            order = SORTS[self.sort][1]
            runs.sort(key=lambda run: order(run, seen.now_ns))
        return runs


def _names(run: RunSummary) -> str:
    parts = (run.loop_name, run.env_id, run.task_id, run.trace_id, run.mark)
    return " ".join(part for part in parts if part).lower()


def _share(run: RunSummary) -> float:
    """Give how far a score reaches, the lowest first; none comes last."""
    if run.goal_score is None:
        return _NONE
    return run.goal_score / run.goal_target if run.goal_target else run.goal_score
