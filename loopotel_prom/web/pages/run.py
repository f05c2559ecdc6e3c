"""The page of one run: head, curves, iterations, events, who worked on it."""

from collections.abc import Iterator, Sequence

from loopotel_prom.board.judgement import RULES
from loopotel_prom.board.view import Caller, Points, RunDetail, RunSummary
from loopotel_prom.runs.course import Happening, Step
from loopotel_prom.web.pages import figures
from loopotel_prom.web.pages.chart import Chart, draw, scale_of
from loopotel_prom.web.pages.frame import Page
from loopotel_prom.web.pages.mark import course, mark_of, seconds_of
from loopotel_prom.web.pages.markup import NOTHING, Content, Html, element, join
from loopotel_prom.web.pages.table import Head, facts, gap, row, table

_STEPS = (
    Head("Iteration", "n"),
    Head("Started"),
    Head("Score", "n"),
    Head("Effectiveness", "n", "score / target, within 0 to 1"),
    Head("LES", "n", "the mean effectiveness so far"),
    Head("Tokens", "n"),
    Head("Cost", "n"),
    Head("Took", "n"),
    Head("Workers", "wide"),
    Head("Evaluators", "wide"),
    Head("Events", "wide"),
)
_HAPPENINGS = (
    Head("Time"),
    Head("Iteration", "n"),
    Head("Event", "wide"),
    Head("Code", "wide"),
)
_CALLERS = (
    Head("Name", "wide"),
    Head("Kind"),
    Head("Role", "wide"),
    Head("Calls", "n"),
    Head("Time", "n"),
    Head("Tokens", "n"),
    Head("Cost", "n"),
    Head("Latest score", "n"),
)
_CURVES = (
    Head("Iteration", "n"),
    Head("Lowest score", "n"),
    Head("Highest score", "n"),
    Head("Latest score", "n"),
    Head("LES", "n"),
    Head("Tokens so far", "n"),
)


def run_page(seen: RunDetail, *, now_ns: int, prefix: str, has_document: bool) -> Page:
    """
    Make the page.

    Args:
        seen: The run.
        now_ns: The time.
        prefix: Where the application is mounted.
        has_document: There is an archive to read its document from.
    """
    run = seen.summary
    body = join(
        element("h1", figures.name(run.loop_name), " ", mark_of(run)),
        element("p", _state(seen, now_ns), class_="soft"),
        *(element("p", note, class_="note") for note in seen.notes),
        _numbers(run, now_ns),
        _charts(run),
        _details(seen, prefix, has_document=has_document),
        _callers(seen.callers),
        _happenings(seen),
        _steps(seen),
    )
    how = (run.mark or "under way") if run.is_open else run.outcome
    score = f"{figures.score(run.goal_score)} of {figures.score(run.goal_target)}"
    title = f"{run.loop_name or 'run'}: {how}, {score} – loopotel-prom"  # noqa: RUF001
    return Page(title, f"{run.loop_name} {how}", body, is_live=run.is_open)


def _state(seen: RunDetail, now_ns: int) -> Content:
    run = seen.summary
    if not run.is_open:
        because = f": {run.reason}" if run.reason else ""
        return join("Ended ", figures.moment(run.latest_ns), because)
    ago = figures.since(run.latest_ns, now_ns)
    latest = "just now" if ago == "now" else f"{ago} ago"
    words = f"Under way; the latest iteration ended {latest}."
    if not run.iterations:
        words = "Under way; no iteration has ended yet."
    return f"{words} {RULES[run.mark].capitalize()}." if run.mark else words


def _numbers(run: RunSummary, now_ns: int) -> Html:
    until = now_ns if run.is_open else run.latest_ns
    rate = run.tokens_per_minute
    return facts(
        (
            (
                "Goal score",
                join(
                    figures.score(run.goal_score),
                    element("small", f" of {figures.score(run.goal_target)}"),
                ),
            ),
            ("Best score", figures.score(run.best_score)),
            ("LES", figures.score(run.les)),
            (
                "Slope",
                join(figures.change(run.slope), element("small", " an iteration")),
            ),
            ("Iterations", figures.whole(run.iterations)),
            (
                "Tokens",
                join(
                    figures.compact(run.tokens),
                    element("small", f" {figures.compact(_round(rate))} a minute")
                    if rate is not None
                    else NOTHING,
                ),
            ),
            ("Cost", figures.money(run.cost_usd)),
            (
                "Age" if run.is_open else "Took",
                figures.duration(seconds_of(run, until)),
            ),
        ),
        class_="facts numbers",
    )


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _details(seen: RunDetail, prefix: str, *, has_document: bool) -> Html:
    run = seen.summary
    parent: tuple[str, Content] | None = None
    if run.parent is not None:
        short = element("code", figures.short_id(run.parent))
        link = element("a", short, href=f"{prefix}/runs/{run.parent}")
        parent = ("Nested in", link)
    document: Content = "none: there is no archive"
    if has_document:
        place = f"{prefix}/traces/{run.trace_id}.json"
        document = element("a", "LTF JSON", href=place)
    return facts(
        (
            ("Run", element("code", run.trace_id)),
            ("Environment", figures.name(run.env_id)),
            ("Task", figures.name(run.task_id)),
            ("Started", figures.moment(run.started_ns)),
            parent,
            ("Document", document),
            ("Read from", seen.source),
        ),
        class_="facts details",
    )


def _charts(run: RunSummary) -> Html:
    points = run.points
    if not points.iterations:
        return NOTHING
    figures_ = [_figure(chart, key) for chart, key in _three(run)]
    return join(
        element("h2", "Curves", class_="unseen"),
        element("div", *figures_, class_="charts"),
        _as_table(points),
    )


def _three(run: RunSummary) -> Iterator[tuple[Chart, Content]]:
    points, target = run.points, run.goal_target
    aimed = [*points.low, *points.high, target]
    yield (
        Chart(
            key="score",
            title="Goal score",
            description=course(run),
            iterations=points.iterations,
            values=points.last,
            low=points.low,
            high=points.high,
            target=target,
            scale=scale_of(aimed),
            height=240,
        ),
        join(_key("aim"), f"target {figures.score(target)}"),
    )
    les = figures.score(run.les)
    yield (
        Chart(
            key="les",
            title="LES",
            description=f"Loop Engineering Score: the mean effectiveness, now {les}",
            iterations=points.iterations,
            values=points.les,
            scale=scale_of(points.les),
            height=170,
        ),
        f"now {les}, mean effectiveness so far",
    )
    tokens = figures.whole(run.tokens)
    yield (
        Chart(
            key="tokens",
            title="Tokens",
            description=f"Tokens so far: {tokens} in {run.iterations} iterations",
            iterations=points.iterations,
            values=points.tokens,
            scale=scale_of(points.tokens, floor=0.0),
            label=figures.tick,
            height=170,
        ),
        f"{tokens} so far",
    )


def _key(class_: str) -> Html:
    """Show what a line of the drawing looks like."""
    line = element("path", class_=class_, d="M0 4H24")
    return element(
        "svg", line, viewBox="0 0 24 8", aria_hidden="true", width=24, height=8
    )


def _figure(chart: Chart, words: Content) -> Html:
    caption = element(
        "figcaption", element("b", chart.title), element("span", words, class_="key")
    )
    return element("figure", caption, draw(chart))


def _as_table(points: Points) -> Html:
    columns = (points.low, points.high, points.last, points.les)
    rows = [
        row(
            _CURVES,
            [
                figures.whole(number),
                *(figures.score(column[place]) for column in columns),
                figures.whole(points.tokens[place]),
            ],
        )
        for place, number in enumerate(points.iterations)
    ]
    return element(
        "details",
        element("summary", "The curves as a table"),
        table("curves", "One row a point of the curves", _CURVES, rows),
        id="as-table",
    )


def _steps(seen: RunDetail) -> Html:
    if not seen.first:
        return NOTHING
    rows = [_step(step) for step in reversed(seen.last)]
    if seen.left_out:
        words = f"{figures.whole(seen.left_out)} iterations are left out"
        rows.append(gap(_STEPS, words))
    rows += [_step(step) for step in reversed(seen.first)]
    return join(
        element("h2", "Iterations"),
        table("steps", "Iterations, the latest first; times are UTC", _STEPS, rows),
    )


def _step(step: Step) -> Html:
    took = None if step.latency_ms is None else step.latency_ms / 1000
    events = [step.error, *(name.removeprefix("loop.") for name in step.events)]
    return row(
        _STEPS,
        [
            figures.whole(step.number),
            figures.clock(step.started_at),
            figures.score(step.goal_score),
            figures.score(step.effectiveness),
            figures.score(step.les),
            figures.whole(step.tokens),
            figures.money(step.cost_usd),
            figures.duration(took),
            _names(step.workers),
            _names(step.evaluators),
            _names([event for event in events if event]),
        ],
    )


def _names(names: Sequence[str]) -> Html:
    return join(*(figures.name(each) for each in names), between=", ")


def _happenings(seen: RunDetail) -> Html:
    if not seen.happenings:
        return NOTHING
    rows = [_happening(each) for each in reversed(seen.happenings)]
    if seen.happenings_left_out:
        words = f"{figures.whole(seen.happenings_left_out)} earlier ones are left out"
        rows.append(gap(_HAPPENINGS, words))
    return join(
        element("h2", "Events"),
        table("events", "Events, the latest first; times are UTC", _HAPPENINGS, rows),
    )


def _happening(each: Happening) -> Html:
    return row(
        _HAPPENINGS,
        [
            figures.clock(each.time),
            figures.whole(each.iteration),
            figures.name(each.name.removeprefix("loop.")),
            figures.name(each.code) if each.code else "",
        ],
    )


def _callers(callers: Sequence[Caller]) -> Html:
    if not callers:
        return NOTHING
    rows = [
        row(
            _CALLERS,
            [
                figures.name(each.name),
                each.kind,
                figures.name(each.role) if each.role else "",
                figures.whole(each.calls),
                figures.duration(each.seconds),
                figures.compact(each.tokens),
                figures.money(each.cost_usd),
                figures.score(each.score),
            ],
        )
        for each in callers
    ]
    return join(
        element("h2", "Workers and evaluators"),
        table("callers", "What each did in all", _CALLERS, rows),
    )
