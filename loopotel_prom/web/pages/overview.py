"""The landing page: what is running now, what ran lately, and the sums."""

from collections.abc import Sequence

from loopotel_prom.board.judgement import RULES, SLOPE_SCORES
from loopotel_prom.board.view import Overview, RunSummary
from loopotel_prom.web.pages import figures
from loopotel_prom.web.pages.chart import spark
from loopotel_prom.web.pages.frame import Page
from loopotel_prom.web.pages.mark import course, mark_of, seconds_of
from loopotel_prom.web.pages.markup import NOTHING, Content, Html, element, join
from loopotel_prom.web.pages.table import facts

# More than anyone looks at; all are in the JSON.
_SHOWN = 100
_BAD = ("stalled", "regressing", "burning")

_EXAMPLE = """\
with loopotel_prom.LoopTracer("code-repair", goal_target=0.8) as run:
    for number in range(1, 10):
        ...  # observe, evaluate, decide, act
        run.emit_iteration(iteration=number, goal_score=0.5, tokens_delta=900)
"""

# Heads, with the class of their cells.
_ACTIVE = (
    ("Run", "who"),
    ("State", "how"),
    ("Course", "spark"),
    ("Score", "n"),
    ("LES", "n"),
    ("Slope", "n less"),
    ("Iterations", "n"),
    ("Tokens", "n"),
    ("Cost", "n less"),
    ("Age", "n"),
    ("Last", "n less"),
)
_RECENT = (
    ("Run", "who"),
    ("Outcome", "how"),
    ("Course", "spark"),
    ("Score", "n"),
    ("LES", "n"),
    ("Iterations", "n"),
    ("Tokens", "n"),
    ("Cost", "n less"),
    ("Took", "n"),
    ("Ended", "n less"),
)


def overview_page(seen: Overview, *, prefix: str, archive: str | None) -> Page:
    """
    Make the page.

    Args:
        seen: The board.
        prefix: Where the application is mounted.
        archive: The archive's folder, if there is one.
    """
    active = len(seen.active) + seen.unshown
    words = _plural(active, "run") + " under way"
    worst = [
        f"{count} {mark}"
        for mark in _BAD
        if (count := sum(run.mark == mark for run in seen.active))
    ]
    status = ", ".join([words, *worst])
    if not seen.totals.started and not active:
        return Page("No runs yet – loopotel-prom", "no runs yet", _empty(), True, "/")  # noqa: RUF001
    body = join(
        element("h1", words if active else "Nothing is running"),
        element("p", ", ".join(worst), class_="soft") if worst else NOTHING,
        _totals(seen),
        _now(seen, prefix),
        _recent(seen, prefix, archive),
        _rules() if seen.active else NOTHING,
    )
    return Page(f"{words} – loopotel-prom", status, body, is_live=True, path="/")  # noqa: RUF001


def _empty() -> Html:
    return join(
        element("h1", "No runs yet"),
        element(
            "p",
            "This endpoint is up, and no loop has reported to it. The first run shows"
            " here as soon as it starts. Put a tracer around a loop of this process:",
        ),
        element("pre", element("code", _EXAMPLE)),
        element(
            "p",
            "Other processes have an endpoint of their own, or share an archive with"
            " one that serves it.",
            class_="soft",
        ),
    )


def _totals(seen: Overview) -> Html:
    totals = seen.totals
    ended = {name: count for name, count in totals.finished.items() if count}
    split = ", ".join(f"{figures.whole(count)} {name}" for name, count in ended.items())
    return facts(
        (
            ("Runs started", figures.whole(totals.started)),
            (
                "Runs ended",
                join(
                    figures.whole(sum(ended.values())),
                    element("small", f" {split}") if split else NOTHING,
                ),
            ),
            ("Iterations", figures.compact(totals.iterations)),
            ("Tokens", figures.compact(totals.tokens)),
            ("Cost reported", figures.money(totals.cost_usd)),
        )
    )


def _now(seen: Overview, prefix: str) -> Html:
    if not seen.active:
        return NOTHING
    rows = [
        _row(_ACTIVE, _active(run, seen.now_ns, prefix)) for run in seen.active[:_SHOWN]
    ]
    hidden = len(seen.active) - len(rows) + seen.unshown
    more = f" {hidden} more are not shown." if hidden else ""
    caption = f"The worst first: stalled, regressing, burning tokens.{more}"
    return join(element("h2", "Running now"), _table("running", caption, _ACTIVE, rows))


def _recent(seen: Overview, prefix: str, archive: str | None) -> Html:
    if not seen.recent:
        return NOTHING
    rows = [_row(_RECENT, _ended(run, seen.now_ns, prefix)) for run in seen.recent]
    older = NOTHING
    if archive is not None:
        link = element("a", "the archive", href=f"{prefix}/archive")
        older = element("p", "Older ones are in ", link, ".", class_="soft")
    ended = _table("ended", "The latest first.", _RECENT, rows)
    return join(element("h2", "Ended"), ended, older)


def _active(run: RunSummary, now_ns: int, prefix: str) -> list[Content]:
    return [
        who(run, prefix),
        mark_of(run),
        spark(run.points, run.goal_target, course(run)),
        _of_target(run),
        figures.score(run.les),
        figures.change(run.slope),
        figures.whole(run.iterations),
        figures.compact(run.tokens),
        figures.money(run.cost_usd),
        figures.duration(seconds_of(run, now_ns)),
        join(figures.since(run.latest_ns, now_ns)),
    ]


def _ended(run: RunSummary, now_ns: int, prefix: str) -> list[Content]:
    return [
        who(run, prefix),
        mark_of(run),
        spark(run.points, run.goal_target, course(run)),
        _of_target(run),
        figures.score(run.les),
        figures.whole(run.iterations),
        figures.compact(run.tokens),
        figures.money(run.cost_usd),
        figures.duration(seconds_of(run, run.latest_ns)),
        figures.since(run.latest_ns, now_ns),
    ]


def who(run: RunSummary, prefix: str) -> Html:
    """Name a run: its loop, as a link, and what else tells it from others."""
    link = element(
        "a", figures.name(run.loop_name), href=f"{prefix}/runs/{run.trace_id}"
    )
    others = [figures.name(each) for each in (run.env_id, run.task_id) if each]
    others.append(element("code", figures.short_id(run.trace_id)))
    return join(link, element("small", join(*others, between=" · ")))


def _of_target(run: RunSummary) -> Html:
    target = f" / {figures.score(run.goal_target)}"
    return join(figures.score(run.goal_score), element("small", target))


def _row(heads: Sequence[tuple[str, str]], cells: Sequence[Content]) -> Html:
    """Make a row that stays a row, to who hears it, where it is laid out as a box."""
    made = []
    for place, ((words, class_), cell) in enumerate(zip(heads, cells, strict=True)):
        label = NOTHING
        if class_.startswith("n"):
            # Where there is no head above; who hears it is told that already.
            label = element("span", words, class_="label", aria_hidden="true")
        role = "cell" if place else "rowheader"
        made.append(
            element(
                "td" if place else "th",
                label,
                cell,
                class_=class_,
                role=role,
                scope=None if place else "row",
            )
        )
    return element("tr", *made, role="row")


def _table(
    key: str, caption: Content, heads: Sequence[tuple[str, str]], rows: Sequence[Html]
) -> Html:
    cells = [
        element("th", words, scope="col", class_=class_, role="columnheader")
        for words, class_ in heads
    ]
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *cells, role="row"), role="rowgroup"),
        element("tbody", *rows, role="rowgroup"),
        class_="rows runs",
        id=key,
        role="table",
    )


def _rules() -> Html:
    rules = [
        element("div", element("dt", mark), element("dd", f"{rule}."))
        for mark, rule in RULES.items()
        if mark
    ]
    return element(
        "details",
        element("summary", "How runs are judged, and what the curves show"),
        element(
            "p",
            "A curve is the goal score; the dashed line is its target, the grey one"
            " the LES. Slope is what the score gains with each iteration, over the"
            f" last {SLOPE_SCORES} scores.",
        ),
        element("dl", *rules, class_="facts details"),
        id="rules",
    )


def _plural(count: int, noun: str) -> str:
    return f"{figures.whole(count)} {noun}{'' if count == 1 else 's'}"
