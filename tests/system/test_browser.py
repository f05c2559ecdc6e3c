"""
The pages in a real browser: Chromium, headless, driven by Playwright.

What a browser alone can tell: that the policy lets our own style and script through
and nothing else, that curves are really drawn, that a page changes under the eyes of
who looks at it, and that it can be read in either theme.
"""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import configuration

_SCORES = [0.21, 0.34, 0.52, 0.49, 0.66]
_EVIL = "<script>alert(1)</script>"
_AA_TEXT = 4.5
_AA_GRAPHICS = 3.0


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the browser once for all tests of this module."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.fail(
            "no `chromium` on PATH: run `make test`, or"
            " apt-get install --no-install-recommends chromium",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def url(tmp_path) -> Iterator[str]:
    """Serve an endpoint with an archive and an empty board."""
    configuration._process.board = None
    # One word, longer than a narrow window is wide.
    folder = tmp_path / ("a" * 80)
    with loopotel_prom.configure(
        listen="127.0.0.1:0", archive=folder, registry=CollectorRegistry()
    ) as handle:
        yield handle.url


@pytest.fixture
def visit(chromium, url) -> Iterator:
    """
    Return `open(path="/", **context)`, which gives a page.

    The test fails if a page logs an error, breaks the policy, or asks anyone but the
    endpoint for anything.
    """
    contexts, complaints = [], []

    def start(path: str = "/", **options) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _check_request(request.url, url, complaints))
        page.goto(url + path)
        return page

    yield start
    for context in contexts:
        context.close()
    assert not complaints


def _check_request(asked: str, url: str, complaints: list[str]) -> None:
    # An empty icon stands in the page itself.
    if urlsplit(asked).netloc != urlsplit(url).netloc and not asked.startswith("data:"):
        complaints.append(f"asked {asked}")


@pytest.fixture
def run(url) -> Iterator[loopotel_prom.LoopTracer]:
    """Have a run under way, with all that a page can show."""
    with loopotel_prom.LoopTracer(
        "code-repair", env_id="prod/agent", task_id="cr-1", goal_target=0.8
    ) as tracer:
        for score in _SCORES:
            _iterate(tracer, score)
        yield tracer


def _iterate(tracer: loopotel_prom.LoopTracer, score: float) -> None:
    with tracer.iteration() as step:
        with step.worker("implementer", role="coder") as worker:
            worker.add_tokens(input=900, output=210)
            worker.add_cost(usd=0.004)
        with step.evaluator("rubric", type="llm_rubric") as judge:
            judge.score(score)
        step.failure("fail.oscillation")
        step.goal_score(score)


def test_no_runs_say_so_and_the_first_appears_by_itself(visit):
    """An empty page becomes a full one without a reload."""
    page = visit()
    expect(page.get_by_role("heading", level=1)).to_have_text("No runs yet")
    page.evaluate("window.untouched = true")
    with loopotel_prom.LoopTracer("code-repair"):
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_have_text("1 run under way", timeout=10_000)
    assert page.evaluate("window.untouched")


def test_curves_are_drawn(visit, run):
    """Three charts, each with a line of some length and width within its frame."""
    page = visit(f"/runs/{run.trace_id}")
    charts = page.locator("svg.chart")
    expect(charts).to_have_count(3)
    for number in range(3):
        chart = charts.nth(number)
        line = chart.locator("path.curve")
        inside, around = line.bounding_box(), chart.bounding_box()
        assert inside["width"] > 0.9 * around["width"]
        assert inside["height"] > 0.05 * around["height"]
        assert line.evaluate("node => getComputedStyle(node).stroke") != "none"


def test_a_run_page_follows_its_run(visit, run):
    """Score, state and title change without a reload, to the run's end."""
    page = visit(f"/runs/{run.trace_id}")
    page.evaluate("window.untouched = true")
    _iterate(run, 0.91)
    expect(page.locator("dl.numbers")).to_contain_text("0.91", timeout=10_000)
    expect(page).to_have_title(re.compile("on target, 0.91 of 0.80"))
    expect(page.get_by_role("status")).to_have_text("code-repair on target")
    run.finish(outcome="success", termination_reason="goal_met")
    run.__exit__(None, None, None)
    expect(page.locator("#pulse")).to_have_text("ended", timeout=10_000)
    assert page.evaluate("window.untouched")


def test_an_update_disturbs_nobody(visit, run):
    """What is open stays open, and who was at a link is at it still."""
    page = visit(f"/runs/{run.trace_id}")
    page.get_by_text("The curves as a table").click()
    page.get_by_role("link", name="LTF JSON").focus()
    _iterate(run, 0.93)
    expect(page.locator("dl.numbers")).to_contain_text("0.93", timeout=10_000)
    expect(page.locator("#curves")).to_be_visible()
    expect(page.get_by_role("link", name="LTF JSON")).to_be_focused()


def test_a_hidden_page_asks_for_nothing(visit, run):
    """Nobody looks at it, so it costs the loop nothing."""
    page = visit()
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
    )
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(5000)
    assert not asked


def test_it_reads_without_a_script(visit, run):
    """All of it, and a word on how to see what is new."""
    page = visit(f"/runs/{run.trace_id}", java_script_enabled=False)
    expect(page.locator("svg.chart")).to_have_count(3)
    expect(page.locator("#steps tbody tr")).to_have_count(len(_SCORES))
    expect(page.get_by_text("Reload the page for the latest.")).to_be_visible()


def test_a_loop_named_script_is_only_a_name(visit):
    """It is shown, and does not run."""
    with loopotel_prom.LoopTracer(_EVIL, task_id=_EVIL) as tracer:
        _iterate(tracer, 0.5)
        page = visit()
        page.on("dialog", lambda _: pytest.fail("it ran"))
        page.get_by_role("link", name=_EVIL).click()
        expect(page.get_by_role("heading", level=1)).to_contain_text(_EVIL)


def test_from_the_overview_a_run_its_document_and_the_archive_are_reached(visit, run):
    """By links with words, as a person would go."""
    page = visit()
    page.get_by_role("link", name="code-repair").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("code-repair")
    document = page.get_by_role("link", name="LTF JSON").get_attribute("href")
    answer = page.request.get(page.url.split("/runs/")[0] + document)
    assert answer.json()["trace_id"] == run.trace_id
    page.get_by_role("link", name="Archive").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Archive")


def test_a_run_that_is_not_there_says_what_to_do(visit):
    """A page like the others, with a way on."""
    # The browser logs the status itself; the fixture must not see that.
    page = visit("/")
    answer = page.request.get(
        page.url + "runs/ltf-00000000-0000-4000-8000-000000000000"
    )
    assert answer.status == 404
    assert "See the runs of the moment" in answer.text()


@pytest.mark.parametrize("width", (360, 400, 720, 1200, 2000))
def test_it_fits_the_window(visit, run, width):
    """Nothing but a table is scrolled sideways, and that within its box."""
    for path in ("/", f"/runs/{run.trace_id}", "/archive"):
        page = visit(path, viewport={"width": width, "height": 800})
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, path


@pytest.mark.parametrize("scheme", ("light", "dark"))
def test_contrast_is_enough_in_either_theme(visit, run, scheme):
    """Texts by WCAG 2.2's AA, 4.5 to 1, and lines by its 3 to 1; computed."""
    page = visit("/", color_scheme=scheme)
    colours = page.evaluate(
        """() => Object.fromEntries(["paper", "ink", "soft", "accent", "faint"].map(
            name => [name, getComputedStyle(document.documentElement)
                .getPropertyValue("--" + name).trim()]))"""
    )
    for ground in ("paper", "faint"):
        for name in ("ink", "soft", "accent"):
            assert _contrast(colours[name], colours[ground]) >= _AA_TEXT, name
    assert _contrast(colours["accent"], colours["paper"]) >= _AA_GRAPHICS
    shown = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", shown))) > 380) == (scheme == "light")


def _contrast(first: str, second: str) -> float:
    """Compute the ratio of WCAG 2.2 for two colours, spelled ``#rrggbb``."""
    lights = sorted((_luminance(first), _luminance(second)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_everything_has_a_name_for_who_cannot_see(visit, run):
    """Language, headings without gaps, named links and drawings, ids used once."""
    for path in ("/", f"/runs/{run.trace_id}", "/archive"):
        page = visit(path)
        assert page.locator("html").get_attribute("lang") == "en"
        levels = page.evaluate(
            "[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        assert page.evaluate(
            """() => [...document.querySelectorAll("a, summary, button")]
                .every(node => node.textContent.trim())"""
        )
        assert page.evaluate(
            """() => [...document.querySelectorAll("svg:not(svg svg)")]
                .every(node =>                 node.ariaHidden === "true"
                || node.role === "img" && node.querySelector("title"))"""
        )
        assert page.evaluate(
            """() => {
                const ids = [...document.querySelectorAll("[id]")].map(n => n.id);
                return new Set(ids).size === ids.length; }"""
        )
        captions = page.locator("caption").all_text_contents()
        assert len({*captions}) == len(captions)
        assert page.evaluate(
            """() => [...document.querySelectorAll("[aria-labelledby]")]
                .every(node => node.getAttribute("aria-labelledby").split(" ")
                    .every(id => document.getElementById(id)))"""
        )


def test_rows_stay_rows_where_they_are_laid_out_as_boxes(visit, run):
    """On a narrow screen too, a cell is announced with its row and column."""
    page = visit("/", viewport={"width": 400, "height": 800})
    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_count(11)
    expect(table.get_by_role("rowheader")).to_have_count(1)
    expect(table.get_by_role("cell")).to_have_count(10)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(visit, run):
    """First a way past the navigation; then each stop has an outline."""
    page = visit(f"/runs/{run.trace_id}")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    expect(page.get_by_text("Skip to the content")).to_be_in_viewport()
    for _ in range(4):
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
    page.keyboard.press("Shift+Tab")
    page.get_by_text("Skip to the content").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
