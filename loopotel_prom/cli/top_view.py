"""What `top` shows: runs as lines, on a terminal or elsewhere."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len

from loopotel_prom.board.view import Overview, RunSummary
from loopotel_prom.cli import wording
from loopotel_prom.cli.columns import Column, render
from loopotel_prom.cli.terminal import can_show, styled
from loopotel_prom.cli.top_state import SORTS, WORST, TopState

_BAR = 20
_NAME = 28
_MOST = 1e300
_COLOURS = {
    "stalled": "red",
    "regressing": "red",
    "burning": "yellow",
    "on target": "green",
}
# What goes first where it is narrow.
_DROPPED = (
    "id",
    "task",
    "target",
    "slope",
    "last",
    "cost $",
    "score against target",
    "LES",
    "age",
    "iter",
)
_PAINT = re.compile(r"\x1b\[[0-9;]*m")
# Lines that are no runs.
_AROUND = 5


def lines(
    seen: Overview,
    state: TopState,
    *,
    name: str,
    error: str = "",
    rows: int | None = None,
    width: int | None = None,
) -> Iterator[str]:
    """
    Yield what is shown, line by line, safe to print.

    Args:
        seen: The runs.
        state: Which of them, and in what order.
        name: Where they come from.
        error: Why they are not new.
        rows: How many lines there is room for; None for any number.
        width: How many columns; what there is no room for is left out.
    """
    runs = state.arranged(seen)
    shown = runs[: max(rows - _AROUND, 1)] if rows else runs
    yield styled(_head(seen, runs), bold=True) + f"  {_source(seen, name, error)}"
    yield ""
    if not runs:
        yield _nothing(seen, state)
        return
    yield from _table(shown, seen.now_ns, width)
    hidden = len(runs) - len(shown) + seen.unshown
    if hidden:
        yield f"and {hidden} more"


def keys(state: TopState) -> str:
    """Say which keys there are, and what holds now."""
    if state.is_typing:
        return f"/{state.filter}_   Enter keeps, Esc clears"
    orders = {WORST: "worst", **{key: name for key, (name, _) in SORTS.items()}}
    parts = [
        styled(f"{key} {name}", reverse=key == state.sort)
        for key, name in orders.items()
    ]
    parts.append(f"/ filter{': ' + state.filter if state.filter else ''}")
    return "  ".join((*parts, "q quit"))


def bar(score: float | None, target: float | None) -> str:
    """Draw a score as a bar, with a mark where its target is."""
    if score is None:
        return ""
    fine = can_show("█·│")
    full, empty, mark = ("█", "·", "│") if fine else ("#", ".", "|")
    top = min(max(1.0, score, target or 0.0), _MOST)
    filled = _place(score, top)
    cells = [full if place < filled else empty for place in range(_BAR)]
    if target is not None:
        cells[min(_place(target, top), _BAR - 1)] = mark
    return "".join(cells)


def _place(value: float, top: float) -> int:
    return round(min(max(value / top, 0.0), 1.0) * _BAR)


def _columns() -> tuple[Column, ...]:
    return (
        Column("run", widest=_NAME),
        Column("task", widest=_NAME // 2),
        Column("id"),
        Column("state", style=_coloured),
        Column("score against target"),
        Column("score", right=True),
        Column("target", right=True),
        Column("LES", right=True),
        Column("slope", right=True),
        Column("iter", right=True),
        Column("tokens", right=True),
        Column("cost $", right=True),
        Column("age", right=True),
        Column("last", right=True),
    )


def _table(runs: Sequence[RunSummary], now_ns: int, width: int | None) -> Iterator[str]:
    """Lay the runs out, without what there is no room for."""
    columns = _columns()
    rows = [_cells(run, now_ns) for run in runs]
    dropped = 0
    while True:
        titles = {*_DROPPED[:dropped]}
        kept = [n for n, column in enumerate(columns) if column.title not in titles]
        made = [*_rendered(columns, rows, kept)]
        # The rows are padded to the titles, or the titles to them.
        widest = max(cell_len(_PAINT.sub("", line)) for line in made)
        if width is None or widest <= width or dropped == len(_DROPPED):
            yield from made
            return
        dropped += 1


def _rendered(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], kept: Sequence[int]
) -> Iterator[str]:
    cut = "…" if can_show("…") else "..."
    cells = [[row[n] for n in kept] for row in rows]
    return render([columns[n] for n in kept], cells, cut=cut)


def _coloured(text: str, mark: str) -> str:
    colour = _COLOURS.get(mark.strip())
    return styled(text, fg=colour) if colour else text


def _cells(run: RunSummary, now_ns: int) -> list[str]:
    slope = wording.NONE if run.slope is None else f"{run.slope:+.3f}"
    return [
        run.loop_name or wording.NONE,
        run.task_id or run.env_id or wording.NONE,
        wording.short_id(run.trace_id),
        run.mark or "under way",
        bar(run.goal_score, run.goal_target),
        wording.score(run.goal_score),
        wording.score(run.goal_target),
        wording.score(run.les),
        slope,
        wording.whole(run.iterations),
        wording.whole(run.tokens),
        wording.money(run.cost_usd),
        _since(run.started_ns, now_ns),
        _since(run.latest_ns, now_ns),
    ]


def _since(time_ns: int | None, now_ns: int) -> str:
    if time_ns is None:
        return wording.NONE
    return wording.duration(max(now_ns - time_ns, 0) / 1e9)


def _head(seen: Overview, runs: Sequence[RunSummary]) -> str:
    count = len(seen.active) + seen.unshown
    words = f"{count} run{'' if count == 1 else 's'} under way"
    if len(runs) < len(seen.active):
        words += f", {len(runs)} of them shown"
    stalled = sum(run.mark == "stalled" for run in seen.active)
    return f"{words}, {stalled} stalled" if stalled else words


def _source(seen: Overview, name: str, error: str) -> str:
    at = wording.moment(seen.now_ns)[11:]
    return f"{name}, {at}" + (f", not new: {error}" if error else "")


def _nothing(seen: Overview, state: TopState) -> str:
    if seen.active:
        return f"no run has {state.filter!r} in its names"
    return "no loop is running"
