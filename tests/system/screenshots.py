"""
Take the README's screenshots anew, of made-up runs at a made-up time.

::

    .venv/bin/python tests/system/screenshots.py specs/images
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Route, sync_playwright

from loopotel_prom.board import BoardProcessor
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock, SequentialIds
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import Request
from loopotel_prom.web.pages import add_pages

_NOW_NS = 1_772_442_000_000_000_000
_ORIGIN = "http://loops.example"
_CODES = ("fail.oscillation", "fail.tool_error", "fail.context_lost")
_SIZES = {"wide": (1200, 860), "narrow": (400, 860)}

# How a score goes on from the one before, after so many iterations.
Course = Callable[[float, int, random.Random], float]


def _rising(score: float, _: int, chance: random.Random) -> float:
    gain = (0.98 - score) * chance.uniform(0.03, 0.16)
    return min(score + gain + chance.uniform(-0.03, 0.03), 0.97)


def _stalling(score: float, number: int, chance: random.Random) -> float:
    if number < 9:
        return score + chance.uniform(0.02, 0.05)
    return 0.44 + chance.uniform(-0.05, 0.01)


def _falling(score: float, number: int, chance: random.Random) -> float:
    if number < 15:
        return score + chance.uniform(0.01, 0.07)
    return score - chance.uniform(0.03, 0.07)


class _Stage:
    """A board, and runs that have been played on it."""

    def __init__(self) -> None:
        self.board = BoardProcessor(time_ns=lambda: _NOW_NS)
        self._pipeline = Pipeline([self.board])
        self._chance = random.Random(8)
        self._ids = SequentialIds()

    def play(
        self,
        loop_name: str,
        task_id: str,
        course: Course,
        iterations: int,
        *,
        env_id: str = "prod/agent",
        target: float = 0.8,
        ago_seconds: float = 4.0,
        end: tuple[str, str] | None = None,
    ) -> str:
        """Play one run, so that it has its latest iteration so long ago."""
        paces = [self._chance.uniform(6, 16) for _ in range(iterations)]
        clock = ManualClock(_NOW_NS - round((sum(paces) + ago_seconds) * 1e9))
        run = LoopTracer(
            loop_name,
            env_id=env_id,
            task_id=task_id,
            goal_target=target,
            clock=clock,
            ids=self._ids,
            trace_id=f"ltf-{self._chance.getrandbits(32):08x}-0000-4000-8000-{0:012x}",
            pipeline=self._pipeline,
        )
        run.__enter__()
        score = self._chance.uniform(0.15, 0.3)
        for number, pace in enumerate(paces, start=1):
            score = max(course(score, number, self._chance), 0.0)
            self._iterate(run, clock, pace, score)
        if end is not None:
            run.finish(outcome=end[0], termination_reason=end[1])
            run.__exit__(None, None, None)
        return run.trace_id

    def _iterate(
        self, run: LoopTracer, clock: ManualClock, pace: float, score: float
    ) -> None:
        chance = self._chance
        with run.iteration() as step:
            with step.worker("implementer", role="coder") as worker:
                clock.advance(seconds=pace * 0.8)
                worker.add_tokens(
                    input=chance.randint(700, 1600), output=chance.randint(90, 420)
                )
                worker.add_cost(usd=chance.uniform(0.002, 0.009))
            with step.evaluator("rubric", type="llm_rubric") as judge:
                clock.advance(seconds=pace * 0.2)
                judge.score(score)
            step.goal_score(score)
            if chance.random() < 0.08:
                step.failure(chance.choice(_CODES))


def _stage() -> tuple[_Stage, str]:
    stage = _Stage()
    met, gave_up = ("success", "goal_met"), ("failure", "max_iterations")
    stage.play("sql-tuning", "q-7764", _stalling, 40, ago_seconds=2400, end=gave_up)
    stage.play("code-repair", "cr-096", _rising, 17, ago_seconds=1900, end=met)
    stage.play("doc-summary", "brief-11", _rising, 14, ago_seconds=800, end=met)
    stage.play("code-repair", "cr-100", _rising, 21, ago_seconds=340, end=met)
    shown = stage.play("code-repair", "cr-102", _stalling, 31)
    stage.play(
        "sql-tuning", "q-7781", _falling, 18, env_id="prod/warehouse", target=0.9
    )
    stage.play("doc-summary", "brief-12", _rising, 7, env_id="staging", target=0.85)
    stage.play("code-repair", "cr-101", _rising, 24, ago_seconds=9.0)
    return stage, shown


def _take(folder: Path) -> None:
    stage, shown = _stage()
    site = Application()
    add_pages(site, stage.board, archive=Path("traces"))

    def answer(route: Route) -> None:
        path = route.request.url.removeprefix(_ORIGIN)
        response = site(Request(method="GET", path=path))
        headers = {"Content-Type": response.content_type, **dict(response.headers)}
        route.fulfill(status=response.status, body=response.body, headers=headers)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox"]
        )
        for size, (width, height) in _SIZES.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    color_scheme=scheme, viewport={"width": width, "height": height}
                )
                page = context.new_page()
                page.route("**/*", answer)
                for name, path in (("overview", "/"), ("run", f"/runs/{shown}")):
                    page.goto(_ORIGIN + path)
                    page.screenshot(path=folder / f"{name}-{scheme}-{size}.png")
        browser.close()


if __name__ == "__main__":
    _take(Path(sys.argv[1]))
