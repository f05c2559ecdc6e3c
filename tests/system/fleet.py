"""
A fleet of loops of different tempers, for whatever has to look at many of them.

One converges, others stall, regress, fail, burn money, break rules; all are ordinary
users of `LoopTracer`. The first command runs them until its standard input ends, so
many times as fast; the other plays them over the hours that have passed, as blocks
for a Prometheus whose target is called INSTANCE::

    python fleet.py live HOST:PORT|none ARCHIVE SPEED NAME...
    python fleet.py history FOLDER INSTANCE FROM_HOURS_AGO TO_HOURS_AGO STEP NAME...
"""

import contextvars
import heapq
import itertools
import math
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loopotel_prom import LoopTracer, configure
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.exposition import OPENMETRICS_1_0_0, render
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock
from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.step import Step

# How a goal score goes on from the one before, after so many iterations.
Course = Callable[[float, int, random.Random], float]

# promtool reads its whole input once for each block of this length.
_BLOCK_SECONDS = 7200


def rising(score: float, _: int, chance: random.Random) -> float:
    """Converge: each iteration closes a part of the gap."""
    return score + (1 - score) * chance.uniform(0.08, 0.3) + chance.uniform(-0.02, 0.02)


def stalling(score: float, number: int, chance: random.Random) -> float:
    """Rise at first, then stay below what anybody would want."""
    if number < 5:
        return score + chance.uniform(0.02, 0.09)
    return score + chance.uniform(-0.012, 0.018)


def falling(score: float, number: int, chance: random.Random) -> float:
    """Rise, then lose what was won; now and then get there all the same."""
    if number < 6:
        return score + chance.uniform(0.02, 0.12)
    return score + chance.uniform(-0.12, 0.09)


@dataclass(frozen=True, slots=True, kw_only=True)
class Temper:
    """
    How one loop behaves; chances are of an iteration, 0 to 1.

    `formerly` is its course before things took a turn, if it was another.
    """

    loop_name: str
    env_id: str
    course: Course
    formerly: Course | None = None
    goal_target: float = 0.8
    lanes: int = 1
    seconds: float = 20.0
    tokens: int = 2500
    usd_per_1k: float = 0.004
    most_iterations: int = 12
    at_the_cap: tuple[str, str] = ("failure", "max_iterations")
    workers: tuple[str, ...] = ("planner", "implementer")
    evaluators: tuple[str, ...] = ("rubric",)
    codes: tuple[str, ...] = ()
    failure: float = 0.0
    crash: float = 0.0
    unsafe: float = 0.0
    human: float = 0.0
    nonsense: float = 0.0


FLEET = (
    Temper(
        loop_name="code-repair",
        env_id="prod/agent",
        course=rising,
        lanes=3,
        evaluators=("unit-tests", "rubric"),
        codes=("fail.false_pass",),
        failure=0.02,
    ),
    Temper(
        loop_name="doc-summary",
        env_id="prod/agent",
        course=rising,
        lanes=2,
        goal_target=0.75,
        seconds=9,
        tokens=900,
        usd_per_1k=0.002,
        workers=("writer",),
    ),
    Temper(
        loop_name="web-research",
        env_id="prod/research",
        course=stalling,
        lanes=2,
        seconds=35,
        tokens=4200,
        most_iterations=15,
        at_the_cap=("partial", "stall"),
        workers=("searcher", "reader"),
        codes=("fail.open_loop", "fail.tau_omission"),
        failure=0.08,
    ),
    Temper(
        loop_name="sql-tuning",
        env_id="prod/data",
        course=falling,
        formerly=rising,
        lanes=2,
        seconds=15,
        most_iterations=18,
        workers=("tuner",),
        evaluators=("benchmark",),
        codes=("fail.oscillation", "fail.evaluator_drift"),
        failure=0.2,
        nonsense=0.05,
    ),
    Temper(
        loop_name="deploy-agent",
        env_id="prod/ops",
        course=rising,
        seconds=28,
        tokens=1800,
        goal_target=0.9,
        codes=("fail.state_corruption", "fail.orchestration_deadlock"),
        failure=0.1,
        crash=0.12,
    ),
    Temper(
        loop_name="debate-swarm",
        env_id="staging/swarm",
        course=rising,
        goal_target=0.92,
        seconds=45,
        tokens=26_000,
        usd_per_1k=0.011,
        most_iterations=9,
        at_the_cap=("partial", "cost_exceeded"),
        workers=("affirmative", "negative", "moderator"),
        evaluators=("jury",),
        codes=("fail.resource_bleed",),
        failure=0.15,
    ),
    Temper(
        loop_name="support-triage",
        env_id="prod/support",
        course=rising,
        lanes=2,
        goal_target=0.7,
        seconds=12,
        tokens=1200,
        workers=("agent",),
        evaluators=("policy", "rubric"),
        codes=("fail.safety_bypass",),
        failure=0.02,
        unsafe=0.015,
        human=0.04,
    ),
)


class CrashError(Exception):
    """What a loop of an ill temper dies of."""


def work(
    temper: Temper,
    chance: random.Random,
    *,
    clock: Clock = time,
    pipeline: Pipeline | None = None,
    turn: float = 0,
) -> Iterator[float]:
    """Run one run after the other, for ever; yield how many seconds it works."""
    while True:
        before = temper.formerly is not None and clock.time_ns() < turn * 1e9
        course = (before and temper.formerly) or temper.course
        yield temper.seconds * chance.uniform(0.1, 2)
        try:
            with LoopTracer(
                temper.loop_name,
                env_id=temper.env_id,
                goal_target=temper.goal_target,
                clock=clock,
                pipeline=pipeline,
            ) as run:
                yield from _iterate(temper, course, chance, run)
        except CrashError:
            pass  # the run has ended as a failure


def _iterate(
    temper: Temper, course: Course, chance: random.Random, run: LoopTracer
) -> Iterator[float]:
    score = chance.uniform(0.15, 0.4)
    for number in range(1, temper.most_iterations + 1):
        with run.iteration() as step:
            yield from _work_and_judge(temper, chance, step, score)
            score = min(max(course(score, number, chance), 0.0), 1.0)
            step.goal_score(score)
            _mishaps(temper, chance, step)
        if score >= temper.goal_target:
            run.finish(outcome="success", termination_reason="goal_met")
            return
    outcome, reason = temper.at_the_cap
    run.finish(outcome=outcome, termination_reason=reason)


def _work_and_judge(
    temper: Temper, chance: random.Random, step: Step, score: float
) -> Iterator[float]:
    for name in temper.workers:
        with step.worker(name, role="agent") as worker:
            seconds = temper.seconds / len(temper.workers)
            yield seconds * 0.8 * chance.lognormvariate(0, 0.5)
            tokens = temper.tokens / len(temper.workers) * chance.uniform(0.5, 1.6)
            worker.add_tokens(input=round(tokens * 0.8), output=round(tokens * 0.2))
            worker.add_cost(usd=tokens / 1000 * temper.usd_per_1k)
            if chance.random() < temper.nonsense:
                worker.add_cost(usd=math.nan)
    for name in temper.evaluators:
        with step.evaluator(name, type="rubric") as judge:
            yield temper.seconds / len(temper.evaluators) * 0.2 * chance.uniform(0.5, 2)
            judge.score(min(max(score + chance.uniform(-0.1, 0.15), 0.0), 1.0))


def _mishaps(temper: Temper, chance: random.Random, step: Step) -> None:
    if temper.codes and chance.random() < temper.failure:
        step.failure(chance.choice(temper.codes))
    if chance.random() < temper.unsafe:
        step.safety_violation("fail.safety_bypass")
    if chance.random() < temper.human:
        step.human_intervention()
    if chance.random() < temper.crash:
        raise CrashError(temper.loop_name)


# Now.


def live(fleet: Sequence[Temper], *, speed: float, stop: threading.Event) -> None:
    """Run the fleet, a thread for each lane, so many times as fast; until `stop`."""

    def lane(temper: Temper, seed: int) -> None:
        for seconds in work(temper, random.Random(seed)):
            if stop.wait(seconds / speed):
                return

    seeds = itertools.count()
    threads = [
        threading.Thread(target=lane, args=(temper, next(seeds)))
        for temper in fleet
        for _ in range(temper.lanes)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# What has passed.


@dataclass(order=True)
class _Lane:
    due: float
    number: int
    steps: Iterator[float] = field(compare=False)
    # Each has a current run of its own, as threads would have.
    context: contextvars.Context = field(
        compare=False, default_factory=contextvars.Context
    )


def history(
    fleet: Sequence[Temper],
    *,
    start: float,
    end: float,
    step: float,
    target: dict[str, str],
    turn: float = 0,
    seed: int = 7,
) -> Iterator[tuple[float, str]]:
    """
    Play the fleet from `start` to `end`; give a page of samples every `step` seconds.

    Args:
        fleet: Who plays.
        start: First page, Unix seconds.
        end: Last page, Unix seconds.
        step: Seconds between two pages.
        target: Labels that a scrape would add: `job` and `instance`.
        turn: When some loops take a turn for the worse, Unix seconds.
        seed: Of all that is left to chance.
    """
    clock = ManualClock(round(start * 1e9))
    metrics = MetricsProcessor(
        health=Health(), monotonic=lambda: clock.monotonic_ns() / 1e9
    )
    pipeline = Pipeline([metrics])
    chance = random.Random(seed)
    lanes = [
        _Lane(
            start,
            number,
            work(temper, chance, clock=clock, pipeline=pipeline, turn=turn),
        )
        for number, temper in enumerate(t for t in fleet for _ in range(t.lanes))
    ]
    when = start
    while when <= end:
        while lanes[0].due <= when:
            lane = lanes[0]
            clock.advance(seconds=lane.due - clock.time_ns() / 1e9)
            lane.due += lane.context.run(next, lane.steps)
            heapq.heapreplace(lanes, lane)
        clock.advance(seconds=when - clock.time_ns() / 1e9)
        yield when, _page(metrics, when, target)
        when += step


def _page(metrics: MetricsProcessor, when: float, target: dict[str, str]) -> str:
    """Give what is on `/metrics` as samples of a scrape, with its time."""
    page = render(metrics.snapshot(), OPENMETRICS_1_0_0).decode()
    labels = ",".join(f'{name}="{value}"' for name, value in target.items())
    page = re.sub(r"(?m)^#.*\n| # \{.*", "", page)
    page = re.sub(r"(?m)^(\w+)\{", rf"\1{{{labels},", page)
    page = re.sub(r"(?m)^(\w+) ", rf"\1{{{labels}}} ", page)
    return page.replace("\n", f" {when:.3f}\n")


def blocks(pages: Iterator[tuple[float, str]], folder: Path) -> None:
    """Make Prometheus' blocks of pages; `folder` is its data folder, made if absent."""
    folder.mkdir(exist_ok=True)
    text = folder / f"{os.getpid()}.openmetrics"
    for _, part in itertools.groupby(pages, lambda page: page[0] // _BLOCK_SECONDS):
        with text.open("w") as file:
            file.writelines(page for _, page in part)
            file.write("# EOF\n")
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, folder],
            check=True,
            capture_output=True,
        )
    text.unlink()


# As commands.


def _chosen(names: Sequence[str]) -> list[Temper]:
    return [temper for temper in FLEET if not names or temper.loop_name in names]


def run_live(listen: str, archive: str, speed: str, *names: str) -> None:
    """Run those of the fleet until standard input ends; print the endpoint."""
    stop = threading.Event()
    with configure(
        listen=None if listen == "none" else listen, archive=archive, run_info=True
    ) as configuration:
        print(configuration.url, flush=True)  # noqa: T201 - for whoever started it
        threading.Thread(
            target=lambda: (sys.stdin.read(), stop.set()), daemon=True
        ).start()
        live(_chosen(names), speed=float(speed), stop=stop)


def run_history(
    folder: str, instance: str, since: str, until: str, step: str, *names: str
) -> None:
    """Make blocks of so many hours ago; things took a turn four hours ago."""
    now = time.time()
    pages = history(
        _chosen(names),
        start=now - float(since) * 3600,
        end=now - float(until) * 3600,
        step=float(step),
        target={"job": "loopotel", "instance": instance},
        turn=now - 4 * 3600,
        seed=len(instance),
    )
    blocks(pages, Path(folder))


if __name__ == "__main__":
    {"live": run_live, "history": run_history}[sys.argv[1]](*sys.argv[2:])
