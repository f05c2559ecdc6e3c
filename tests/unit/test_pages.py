"""The pages: everything escaped, complete, and the same whatever a run is like."""

import json
import re
from html.parser import HTMLParser
from http import HTTPStatus
from xml.etree import ElementTree as ET

import pytest

from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.board import BoardProcessor, Overview, RunDetail, RunSummary
from loopotel_prom.board.view import Caller, Points
from loopotel_prom.health import Health
from loopotel_prom.ltf import decode
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.runs.course import Happening, Step
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import Request
from loopotel_prom.web.pages import add_pages, figures
from loopotel_prom.web.pages.chart import scale_of, spark
from loopotel_prom.web.pages.frame import Frame
from loopotel_prom.web.pages.markup import Html, element, safe
from loopotel_prom.web.pages.overview import overview_page
from loopotel_prom.web.pages.run import run_page

_EVIL = "<script>alert('x')</script>\"onload=\"y"
_VOID = {"meta", "link", "br", "path", "line", "polygon"}
_HUGE = 1.7e308
_TRACE = "ltf-00000000-0000-4000-8000-000000000001"


class _Strict(HTMLParser):
    """Refuses what is not nested; gathers tags, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def _points(scores) -> Points:
    count = len(scores)
    tokens = [100.0 * n for n in range(1, count + 1)]
    numbers = list(range(1, count + 1))
    return Points(numbers, scores, scores, scores, [0.5] * count, tokens)


def _summary(**changes) -> RunSummary:
    values = {
        "trace_id": _TRACE,
        "loop_name": "code-repair",
        "started_ns": 10**18,
        "latest_ns": 10**18 + 10**10,
        "goal_score": 0.6,
        "goal_target": 0.8,
        "iterations": 3,
        "points": _points([0.2, 0.4, 0.6]),
    }
    return RunSummary(**(values | changes))


def _overview(*active: RunSummary, **changes) -> _Strict:
    seen = Overview(now_ns=2 * 10**18, active=[*active], **changes)
    page = overview_page(seen, prefix="", archive=None)
    response = Frame([]).response(page, prefix="")
    return _Strict(response.body.decode())


def _detail(detail: RunDetail) -> _Strict:
    page = run_page(detail, now_ns=2 * 10**18, prefix="", has_document=True)
    return _Strict(Frame([]).response(page, prefix="").body.decode())


@pytest.fixture
def board():
    """Keep the runs of the test."""
    return BoardProcessor()


@pytest.fixture
def site(board):
    """Give a site with the pages of `board`, and no archive."""
    application = Application()
    add_pages(application, board)
    return application


def _get(site, path: str, query: str = "", prefix: str = ""):
    return site(Request(method="GET", path=path, query=query, prefix=prefix))


def _body(response) -> bytes:
    body = response.body
    return body if isinstance(body, bytes) else b"".join(body)


def test_text_is_escaped_and_markup_is_not():
    """The one place where text becomes markup."""
    assert element("b", "<i>", Html("<i></i>"), title='"') == (
        '<b title="&quot;">&lt;i&gt;<i></i></b>'
    )


def test_a_loop_named_script_is_only_a_name():
    """Names from outside never become markup, wherever they stand."""
    run = _summary(
        loop_name=_EVIL, env_id=_EVIL, task_id=_EVIL, mark=_EVIL, parent=_EVIL
    )
    step = Step(workers=(_EVIL,), evaluators=(_EVIL,), error=_EVIL, events=(_EVIL,))
    detail = RunDetail(
        summary=_summary(loop_name=_EVIL, parent=_EVIL, outcome="success"),
        first=[step],
        happenings=[Happening(_EVIL, 1, _EVIL, _EVIL)],
        callers=[Caller(kind="worker", name=_EVIL, role=_EVIL)],
        notes=[_EVIL],
    )
    for page in (_overview(run), _detail(detail)):
        scripts = [tag for tag, _ in page.tags if tag == "script"]
        assert len(scripts) <= 1
        assert not any("onload" in attributes for _, attributes in page.tags)
        assert _EVIL in page.text


def test_without_runs_the_page_says_what_to_do():
    """An empty page is not a broken one."""
    page = _overview()
    assert "No runs yet" in page.text
    assert "LoopTracer" in page.text


def test_runs_show_with_their_values():
    """Each has a link, its score against its target, and a curve."""
    page = _overview(_summary(), _summary(loop_name="other-loop"))
    assert "2 runs under way" in page.text
    assert "0.60 / 0.80" in page.text
    assert {"href": f"/runs/{_TRACE}"}.items() <= page.named("a")[2].items()
    assert len(page.named("svg")) == 2


def test_a_page_shows_a_hundred_runs_and_counts_the_rest():
    """A thousand curves every two seconds help nobody."""
    page = _overview(*[_summary()] * 150, unshown=7)
    assert len(page.named("svg")) == 100
    assert "157 runs under way" in page.text
    assert "57 more are not shown" in page.text


@pytest.mark.parametrize(
    "changes",
    (
        {
            "loop_name": "",
            "started_ns": None,
            "latest_ns": None,
            "goal_score": None,
            "goal_target": None,
            "iterations": 0,
            "points": Points(),
        },
        {
            "goal_score": _HUGE,
            "goal_target": -_HUGE,
            "les": 1.0,
            "slope": -_HUGE,
            "best_score": _HUGE,
            "tokens": 2**63 * 10**6,
            "cost_usd": 1e12,
            "tokens_per_minute": _HUGE,
            "iterations": 10**15,
            "started_ns": -(10**19),
            "latest_ns": 10**20,
            "points": _points([-_HUGE, 0.0, _HUGE]),
        },
        {"points": _points([None, 0.1, None, 0.3]), "goal_target": None},
        {"points": _points([0.0]), "goal_target": 0.0},
        {"points": _points([-1e-320, 5e-324])},
        {"loop_name": "حلقة الإصلاح", "task_id": "🔁🧪", "env_id": "\u202eevil"},
        {"loop_name": "\x00\x1b[31m\ud800"},
    ),
)
def test_no_value_breaks_a_page(changes):
    """Nothing known, all huge, gaps, right to left, emoji, control characters."""
    run = _summary(**changes)
    for page in (_overview(run), _detail(RunDetail(summary=run, first=[Step()]))):
        assert "nan" not in page.text.lower().split()
        for _, attributes in page.tags:
            assert not re.search(r"\b(nan|inf)\b", attributes.get("d") or "")


def test_names_are_isolated_from_the_direction_around_them():
    """A name written right to left turns nothing else around."""
    page = _overview(_summary(loop_name="حلقة الإصلاح"))
    assert page.named("bdi")


@pytest.mark.parametrize(
    ("values", "low", "high"),
    (
        ([0.2, 0.9], 0.0, 1.0),
        ([], 0.0, 1.0),
        ([3.0, 17.0], 0.0, 20.0),
        ([-0.5, 0.5], -0.5, 0.5),
        ([5.0], 4.5, 5.5),
    ),
)
def test_an_axis_begins_and_ends_at_round_numbers(values, low, high):
    """From 0 to 1 where scores fit there."""
    scale = scale_of(values)
    assert scale.low <= min(values, default=0) <= max(values, default=1) <= scale.high
    assert (scale.low, scale.high) == pytest.approx((low, high))


def test_a_curve_is_sound_svg_without_inline_style():
    """A style attribute would be refused by the policy."""
    drawing = spark(_points([0.1, None, 0.3]), 0.8, "from a to <b>")
    root = ET.fromstring(drawing)  # noqa: S314 - our own
    assert root.find("title").text == "from a to <b>"
    assert all("style" not in each.attrib for each in root.iter())


def test_charts_are_described_and_tabulated():
    """Who cannot see them is told the same: title, description, table."""
    page = _detail(RunDetail(summary=_summary()))
    charts = [a for a in page.named("svg") if a.get("class") == "chart"]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert len(charts) == 3
    for chart in charts:
        assert set(chart["aria-labelledby"].split()) <= ids
    assert "Goal score from 0.20 to 0.60" in page.text
    assert "The curves as a table" in page.text


def test_tables_have_captions_and_scopes():
    """Each cell can be told by its column and its row."""
    page = _detail(RunDetail(summary=_summary(), first=[Step(number=1)]))
    assert len(page.named("table")) == len(page.named("caption")) == 2
    assert {a.get("scope") for a in page.named("th")} == {"col", "row"}


def test_iterations_that_are_left_out_are_counted():
    """A table of the ends says how much lies between."""
    steps = [Step(number=number) for number in (1, 999_999)]
    detail = RunDetail(
        summary=_summary(), first=steps[:1], last=steps[1:], left_out=999_997
    )
    assert "999\u2009997 iterations are left out" in _detail(detail).text


def test_a_run_under_way_is_live_and_an_ended_one_is_not():
    """The script comes with what changes only."""
    assert _detail(RunDetail(summary=_summary())).named("script")
    ended = _summary(outcome="success", reason="goal_met")
    page = _detail(RunDetail(summary=ended))
    assert not page.named("script")
    assert "goal_met" in page.text


def test_the_policy_allows_own_style_and_script_by_hash(site):
    """Nothing inline beyond those, and no request elsewhere."""
    response = _get(site, "/")
    policy = response.header("Content-Security-Policy")
    assert "unsafe" not in policy
    assert policy.count("'sha256-") == 2
    assert "connect-src 'self'" in policy
    assert response.header("Cache-Control") == "no-store"


def test_the_part_that_changes_can_be_had_alone(site, board):
    """What the script asks for is what the whole page has in it."""
    with LoopTracer("code-repair", pipeline=Pipeline([board])):
        part = _body(_get(site, "/", "part=live")).decode()
        assert part.startswith('<div id="live"')
        assert "1 run under way" in part


def test_links_stay_below_the_prefix(site, board):
    """Mounted elsewhere, the pages lead to each other all the same."""
    with LoopTracer("code-repair", pipeline=Pipeline([board])):
        page = _body(_get(site, "/", prefix="/loops")).decode()
    links = re.findall(r'href="(/[^"]*)"', page)
    assert links
    assert all(link.startswith("/loops/") for link in links)


def test_a_run_is_found_by_the_beginning_of_its_id(site, board):
    """As long as it is the only one."""
    with LoopTracer("code-repair", pipeline=Pipeline([board])) as run:
        response = _get(site, f"/runs/{run.trace_id[4:12]}")
    assert response.status == HTTPStatus.OK
    assert run.trace_id in _body(response).decode()


def test_several_runs_with_one_beginning_can_be_chosen_from(site, board):
    """No guess is made."""
    for last in "12":
        trace_id = _TRACE[:-1] + last
        with LoopTracer("code-repair", trace_id=trace_id, pipeline=Pipeline([board])):
            pass
    response = _get(site, "/runs/00000000")
    assert response.status == HTTPStatus.MULTIPLE_CHOICES
    assert _body(response).count(b"/runs/ltf-") == 2


@pytest.mark.parametrize(
    "path",
    ("/runs/none", f"/runs/{_TRACE}", "/traces/none.json", f"/traces/{_TRACE}.json"),
)
def test_what_is_not_there_says_what_to_do(site, path):
    """A plain page with a way on."""
    response = _get(site, path)
    assert response.status == HTTPStatus.NOT_FOUND
    assert b"See the runs of the moment" in _body(response)


def test_the_board_as_json_can_be_read_back(site, board):
    """What `top` reads."""
    with LoopTracer("code-repair", pipeline=Pipeline([board])) as run:
        run.emit_iteration(iteration=1, goal_score=0.5)
        answer = _get(site, "/runs.json")
    assert json.loads(_body(answer))["active"][0]["goal_score"] == 0.5


@pytest.fixture
def archive(tmp_path):
    """Give a site over an archive with nothing in memory, and a way to fill it."""
    processor = ArchiveProcessor(tmp_path, durability="process", health=Health())
    processor.prepare()
    pipeline = Pipeline([processor], keeper=processor)
    application = Application()
    add_pages(application, BoardProcessor(), archive=tmp_path)
    yield application, lambda: LoopTracer("code-repair", pipeline=pipeline)
    pipeline.close()


def test_a_run_that_is_not_in_memory_comes_from_the_archive(archive):
    """Its page and its document, byte for byte."""
    site, new_run = archive
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.5)
    page = _body(_get(site, f"/runs/{run.trace_id}")).decode()
    assert "Read from" in page
    assert ">archive<" in page
    document = _get(site, f"/traces/{run.trace_id}.json")
    assert decode(_body(document))["trace_id"] == run.trace_id


def test_a_run_under_way_has_a_document_too(archive):
    """Folded from its journal, as if it ended now."""
    site, new_run = archive
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.5)
        document = decode(_body(_get(site, f"/traces/{run.trace_id}.json")))
    assert [span["kind"] for span in document["spans"]] == ["loop", "iteration"]


def test_the_archive_has_a_page(archive):
    """What it holds, and its latest runs with links."""
    site, new_run = archive
    with new_run() as run:
        pass
    page = _body(_get(site, "/archive")).decode()
    assert f"/runs/{run.trace_id}" in page
    assert "Sealed files" in page


@pytest.mark.parametrize(
    ("spelled", "expected"),
    (
        (figures.score(-0.001), "0.00"),
        (figures.score(-0.5), "\u22120.50"),
        (figures.compact(9999), "9\u2009999"),
        (figures.compact(999_960), "1.0\u2009M"),
        (figures.compact(2**63), "9.22e+18"),
        (figures.money(0.0042), "$0.0042"),
        (figures.money(None), "–"),  # noqa: RUF001 - a dash
        (figures.duration(59.97), "1\u2009m 0\u2009s"),
        (figures.duration(0.9996), "1.0\u2009s"),
        (figures.duration(90_061), "1\u2009d 1\u2009h"),
        (figures.since(10**9, 4 * 10**9), "3\u2009s"),
        (figures.since(None, 1), "–"),  # noqa: RUF001 - a dash
        (figures.change(0.0), "+0.000"),
    ),
)
def test_figures_are_short_and_exact(spelled, expected):
    """At the edges of their rules."""
    assert spelled == expected


def test_a_control_character_is_told_and_not_sent():
    """HTML has no way to spell it, and a terminal would obey it."""
    assert safe("a\x00b\x1b[31m\x9bc\td") == "a\ufffdb\ufffd[31m\ufffdc\td"
