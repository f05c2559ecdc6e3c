"""How a run is doing, in a word and at a glance."""

from loopotel_prom.board.view import RunSummary
from loopotel_prom.web.pages import figures
from loopotel_prom.web.pages.markup import NOTHING, Html, element

_BAD = {"stalled", "regressing", "burning", "failure"}
_GOOD = {"on target", "success"}


def mark(words: str) -> Html:
    """Make a badge of a word; nothing of none."""
    if not words:
        return NOTHING
    kind = " bad" if words in _BAD else " good" if words in _GOOD else ""
    return element("span", words, class_=f"mark{kind}")


def mark_of(run: RunSummary) -> Html:
    """Say how a run is doing, or how it ended."""
    return mark((run.mark or "under way") if run.is_open else run.outcome)


def course(run: RunSummary) -> str:
    """Say in a sentence how the score went."""
    known = [score for score in run.points.last if score is not None]
    if not known:
        return "No goal score has been reported"
    words = f"Goal score from {figures.score(known[0])} to {figures.score(known[-1])}"
    if run.best_score is not None:
        words += f", best {figures.score(run.best_score)}"
    return f"{words}, target {figures.score(run.goal_target)}"


def seconds_of(run: RunSummary, until_ns: int | None) -> float | None:
    """Give how long a run has taken until then."""
    if run.started_ns is None or until_ns is None:
        return None
    return max(until_ns - run.started_ns, 0) / 1e9
