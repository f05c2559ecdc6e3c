"""
Scrapes of a busy process: each shows a state that there has been.

Run as a program, this file is that process: threads that emit run after run,
beside a real endpoint. It prints its address, then what it emitted, and ends with
its input.
"""

import functools
import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import cycle, pairwise
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import semconv

SECONDS = 60
LEAST_SCRAPES = 2_000
EMITTERS, SCRAPERS = 8, 4
# After each run: eight threads without a rest would leave the endpoint a ninth.
PAUSE_SECONDS = 0.01

LOOPS = ("code-repair", "tau-bench", "web-search", "triage", "planner")
WORKERS = ("coder", "critic")
# Each iteration uses so much; the cost is exact in binary, summed or not.
INPUT_TOKENS, OUTPUT_TOKENS, COST_USD = 80, 40, 0.25
TOKENS = INPUT_TOKENS + OUTPUT_TOKENS

FORMATS = ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0")
FEW = (
    "loop_iterations_total",
    "loop_tokens_total",
    "loop_iteration_duration_seconds",
    "loop_run_iterations",
)

# By metric and label values, env_id left out: "loop_tokens_total code-repair".
Page = dict[str, float]


# The process that is scraped.


def _one_run(draw: random.Random, emitted: Counter[str]) -> None:
    loop, outcome = draw.choice(LOOPS), draw.choice(semconv.OUTCOMES)
    iterations = draw.randint(1, 50)
    with loopotel_prom.LoopTracer(loop, env_id="prod/agent") as run:
        for number in range(1, iterations + 1):
            worker = draw.choice(WORKERS)
            report = _as_a_step if draw.random() < 0.5 else _afterwards
            report(run, number, worker)
            emitted[f"loop_worker_calls_total {loop} {worker}"] += 1
        run.finish(outcome=outcome, termination_reason="goal_met")
    emitted[f"loop_iterations_total {loop}"] += iterations
    emitted[f"loop_tokens_total {loop}"] += iterations * TOKENS
    emitted[f"loop_cost_usd_total {loop}"] += iterations * COST_USD
    emitted[f"loop_iteration_duration_seconds_count {loop}"] += iterations
    emitted[f"loop_evaluator_calls_total {loop} rubric"] += iterations
    emitted[f"loop_run_iterations_sum {loop}"] += iterations
    emitted[f"loop_run_iterations_count {loop}"] += 1
    emitted[f"loop_runs_started_total {loop}"] += 1
    emitted[f"loop_runs_finished_total {loop} {outcome}"] += 1
    emitted[f"loop_run_terminations_total {loop} goal_met"] += 1


def _afterwards(run: loopotel_prom.LoopTracer, number: int, worker: str) -> None:
    run.emit_iteration(
        iteration=number,
        goal_score=number / 64,
        tokens_delta=TOKENS,
        cost_usd=COST_USD,
        latency_ms=12.5,
        worker_id=worker,
        evaluator_id="rubric",
    )


def _as_a_step(run: loopotel_prom.LoopTracer, number: int, worker: str) -> None:
    with run.iteration(number) as step:
        with step.worker(worker) as call:
            call.add_tokens(input=INPUT_TOKENS)
            call.add_cost(usd=COST_USD / 2)
        with step.evaluator("rubric") as judge:
            judge.add_tokens(output=OUTPUT_TOKENS)
            judge.add_cost(usd=COST_USD / 2)
            judge.score(number / 64)
        step.goal_score(number / 64)


def _emit(seed: int, until: float) -> Counter[str]:
    draw, emitted = random.Random(seed), Counter()
    while time.monotonic() < until:
        _one_run(draw, emitted)
        time.sleep(PAUSE_SECONDS)
    return emitted


def _main() -> None:
    # Threads change places fifty times as often as usual, in the middle of things.
    sys.setswitchinterval(1e-4)
    until = time.monotonic() + SECONDS
    with (
        loopotel_prom.configure(
            listen="127.0.0.1:0", registry=CollectorRegistry()
        ) as configuration,
        ThreadPoolExecutor(EMITTERS) as pool,
    ):
        _tell(configuration.url)
        emitted = pool.map(_emit, range(EMITTERS), [until] * EMITTERS)
        _tell(json.dumps(sum(emitted, Counter())))
        sys.stdin.read()


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is how the test hears of it


# Those who scrape it.

_LINE = re.compile(r"([^ {]+)(\{[^}]*\})? (\S+)(?: # .*)?")


@functools.cache
def _key(name: str, labels: str) -> str:
    values = re.findall(r'(\w+)="([^"]*)"', labels)
    return " ".join([name, *(text for label, text in values if label != "env_id")])


def _parsed(text: str) -> Page:
    """Read a page as quickly as a test must that reads thousands of them."""
    matches = (_LINE.fullmatch(s) for s in text.splitlines() if not s.startswith("#"))
    return {_key(m[1], m[2] or ""): float(m[3]) for m in matches}


class _Scraper(ExitStack):
    """Scrapes over one connection, and looks for what cannot be."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"))
        self.callback(self._connection.close)
        self._counters: Page = {}
        self.scrapes: Counter[str] = Counter()
        self.torn: list[str] = []

    def scrape_until(self, stop: threading.Event) -> None:
        kinds = cycle([(accept, names) for names in ((), FEW) for accept in FORMATS])
        while not stop.is_set() and not self.torn:
            accept, names = next(kinds)
            page = self.page(accept, names)
            self.torn += [*_torn(page), *self._fallen(page, whole=not names)]
            self.scrapes[accept.partition(";")[0]] += 1

    def page(self, accept: str, names: tuple[str, ...] = ()) -> Page:
        media_type = accept.partition(";")[0]
        query = urlencode([("name[]", name) for name in names])
        self._connection.request("GET", f"/metrics?{query}", headers={"Accept": accept})
        response = self._connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, text
        assert response.getheader("Content-Type", "").startswith(media_type)
        return _parsed(text)

    def _fallen(self, page: Page, *, whole: bool) -> Iterator[str]:
        """Compare the counters with those of the scrapes before."""
        for key, before in self._counters.items():
            if page.get(key, -1 if whole else before) < before:
                yield f"{key} fell from {before} to {page.get(key)}"
        self._counters |= {key: page[key] for key in page if _is_counter(key)}


def _is_counter(key: str) -> bool:
    return key.partition(" ")[0].endswith(("_total", "_count", "_sum", "_bucket"))


def _torn(page: Page) -> Iterator[str]:
    """Say what does not agree within one page."""
    yield from _torn_histograms(page)
    for loop in LOOPS:
        if f"loop_iterations_total {loop}" in page:
            yield from _torn_iterations(page, loop)
        if f"loop_runs_started_total {loop}" in page:
            yield from _torn_runs(page, loop)
            yield from _torn_calls(page, loop)


def _torn_histograms(page: Page) -> Iterator[str]:
    buckets: dict[str, list[float]] = defaultdict(list)
    for key, value in page.items():
        if key.partition(" ")[0].endswith("_bucket"):
            buckets[key.rpartition(" ")[0]].append(value)
    for key, counts in buckets.items():
        if any(less > more for less, more in pairwise(counts)):
            yield f"{key} is not cumulative: {counts}"
        count = page[key.replace("_bucket", "_count")]
        if not counts[-1] == page[f"{key} +Inf"] == count:
            yield f"{key}: count and +Inf differ"


def _torn_iterations(page: Page, loop: str) -> Iterator[str]:
    iterations = page[f"loop_iterations_total {loop}"]
    timed = page[f"loop_iteration_duration_seconds_count {loop}"]
    if timed != iterations:
        yield f"{loop}: {timed} durations of {iterations} iterations"
    tokens = page[f"loop_tokens_total {loop}"]
    if tokens != iterations * TOKENS:
        yield f"{loop}: {tokens} tokens of {iterations} iterations"
    cost = page.get(f"loop_cost_usd_total {loop}", iterations * COST_USD)
    if cost != iterations * COST_USD:
        yield f"{loop}: a cost of {cost} of {iterations} iterations"
    finished = page[f"loop_run_iterations_sum {loop}"]
    if finished > iterations:
        yield f"{loop}: {finished} iterations in finished runs of {iterations} in all"


def _torn_runs(page: Page, loop: str) -> Iterator[str]:
    finished = _sum(page, f"loop_runs_finished_total {loop} ")
    others = (
        page[f"loop_run_duration_seconds_count {loop}"],
        page[f"loop_run_iterations_count {loop}"],
        page[f"loop_run_final_les_count {loop}"],
        _sum(page, f"loop_run_terminations_total {loop} "),
        page[f"loop_runs_started_total {loop}"] - page[f"loop_runs_active {loop}"],
    )
    if set(others) != {finished}:
        yield f"{loop}: {finished} runs finished, or {others}"


def _torn_calls(page: Page, loop: str) -> Iterator[str]:
    iterations = page[f"loop_iterations_total {loop}"]
    for kind in ("worker", "evaluator"):
        calls = _sum(page, f"loop_{kind}_calls_total {loop} ")
        # A call may be over before the iteration that it is part of.
        if not 0 <= calls - iterations <= page[f"loop_runs_active {loop}"]:
            yield f"{loop}: {calls} {kind} calls in {iterations} iterations"


def _sum(page: Page, start: str) -> float:
    return sum(value for key, value in page.items() if key.startswith(start))


def test_concurrent_emitting_and_scraping_tears_nothing():
    """In thousands of scrapes all series agree, no counter falls, no count is lost."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOPOTEL_")}
    with (
        subprocess.Popen(
            [sys.executable, __file__],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as child,
        ThreadPoolExecutor(SCRAPERS) as pool,
        ExitStack() as stack,
    ):
        url = child.stdout.readline().strip()
        scrapers = [stack.enter_context(_Scraper(url)) for _ in range(SCRAPERS)]
        stop = threading.Event()
        scraping = [pool.submit(scraper.scrape_until, stop) for scraper in scrapers]
        told = child.stdout.readline()
        stop.set()
        for each in scraping:
            each.result()
        emitted = json.loads(told)
        at_the_end = [scrapers[0].page(accept) for accept in FORMATS]
        child.stdin.close()

    scrapes = sum((scraper.scrapes for scraper in scrapers), Counter())
    iterations = sum(emitted[f"loop_iterations_total {loop}"] for loop in LOOPS)
    figures = (
        f"{scrapes.total():,} scrapes ({dict(scrapes)}) of up to"
        f" {len(at_the_end[0]):,} series; {iterations:,} iterations"
    )
    print(figures)  # noqa: T201 - pytest shows it with -s or -rP
    assert [torn for scraper in scrapers for torn in scraper.torn] == [], figures
    assert scrapes.total() >= LEAST_SCRAPES, figures
    for page in at_the_end:
        assert {key: page.get(key) for key in emitted} == emitted, figures
        assert _sum(page, "loop_runs_active ") == 0, figures
        assert _sum(page, "loopotel_processor_failures_total") == 0, figures


if __name__ == "__main__":
    _main()
