"""What a real Prometheus makes of our page: slots, staleness, limits, totals."""

import json
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom import LoopTracer, configure, ltf, semconv
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.exposition import OPENMETRICS_1_0_0, render
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock

_OFTEN = "200ms"


def _target(url: str) -> str:
    return url.removeprefix("http://").removesuffix("/metrics")


@pytest.fixture
def configuration():
    """Serve a registry of the test's own."""
    with configure(
        listen="127.0.0.1:0", registry=CollectorRegistry(), linger_seconds=1
    ) as current:
        yield current


@pytest.fixture
def server(prometheus, configuration):
    """Start a Prometheus that scrapes it five times a second."""
    server = prometheus([_target(configuration.url)], scrape_interval=_OFTEN)
    server.wait_for("up == 1")
    return server


def _value(server, expr: str) -> float:
    [series] = server.query(expr)
    return series["value"]


# Live runs.


def _slots(server, *metrics: str) -> dict[str, tuple[float, ...]]:
    """Give the values of metrics of active runs, by slot."""
    shown: dict[str, tuple[float, ...]] = {}
    for metric in metrics:
        for series in server.query(metric):
            slot = series["metric"]["slot"]
            shown[slot] = (*shown.get(slot, ()), series["value"])
    return shown


def test_sixteen_concurrent_runs_have_a_slot_each(server):
    """All that a slot shows of 16 runs at once is one run's, and each is shown."""
    runs = [LoopTracer("fleet") for _ in range(16)]

    def iterate(number: int) -> None:
        for iteration in range(1, number + 2):
            runs[number].emit_iteration(
                iteration=iteration, goal_score=number / 16, tokens_delta=100
            )

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(iterate, range(16)))
    server.wait_for(f"sum(loop_iterations_total) == {sum(range(17))}")
    shown = _slots(server, "loop_goal_score", "loop_iteration", "loop_run_tokens")
    assert sorted(shown, key=int) == [str(slot) for slot in range(16)]
    assert sorted(shown.values()) == [
        (round(number / 16, 4), number + 1, (number + 1) * 100) for number in range(16)
    ]


def test_an_ended_run_goes_stale(server):
    """Its last values are on two more pages, then its slot is gone at once."""
    with LoopTracer("brief") as run:
        run.emit_iteration(iteration=1, goal_score=0.5)
        server.wait_for('loop_goal_score{slot="0"} == 0.5')
        run.emit_iteration(iteration=2, goal_score=0.9)
    server.wait_for('{slot="0"}', lambda series: not series, timeout=10)
    [series] = server.api("query", query="loop_goal_score[5m]")["result"]
    shown = [value for _, value in series["values"]]
    # Three if a scrape came between the last iteration and the end.
    assert 1 <= shown.count("0.9") <= 3
    assert shown[-1] == "0.9"
    assert _value(server, "loop_iterations_total") == 2


def test_a_quiet_run_never_goes_stale(server):
    """A live run is in every scrape, however long it has had nothing to say."""
    run = LoopTracer("quiet")
    run.emit_iteration(iteration=1, goal_score=0.5)
    server.wait_for('count_over_time(loop_goal_score{slot="0"}[5m]) >= 25')
    in_all = "count_over_time(loop_goal_score[4s]) == on () sum_over_time(up[4s])"
    assert _value(server, in_all) > 10
    server.wait_for('loop_goal_score{slot="0"} == 0.5')
    server.wait_for("loop_runs_active == 1")


# Exemplars.


_WITH_EXEMPLARS = (
    "loop_iteration_duration_seconds_bucket",
    "loop_run_duration_seconds_bucket",
    "loop_tokens_total",
    "loop_cost_usd_total",
)


def _traces(server, metric: str) -> set[str]:
    """Give the trace ids of a metric's exemplars."""
    now = time.time()
    found = server.api("query_exemplars", query=metric, start=now - 300, end=now + 60)
    return {
        exemplar["labels"]["trace_id"]
        for series in found
        for exemplar in series["exemplars"]
    }


def test_an_exemplar_leads_to_the_run(server):
    """Prometheus gives the trace ids of the runs behind counters and buckets."""
    traces = set()
    for number in range(1, 4):
        with LoopTracer("traced") as run:
            run.emit_iteration(
                iteration=1,
                goal_score=0.5,
                tokens_delta=100 * number,
                cost_usd=0.01 * number,
                latency_ms=20.0,
            )
        traces.add(run.trace_id)
        server.wait_for(f"loop_run_iterations_count == {number}")
    expected = dict.fromkeys(_WITH_EXEMPLARS, traces)
    deadline = time.monotonic() + 10
    while (found := {m: _traces(server, m) for m in expected}) != expected:
        assert time.monotonic() < deadline, f"{found}, not {expected}"
    assert "level=warn" not in server.child.output()  # no exemplar was refused


# Limits.

_STORM = r"""
import json, re, sys
from collections import deque

from loopotel_prom import LoopTracer, configure

TAILS = ["\u6f22" * 100, "\U0001f300" * 75, '\u00e9"\\\n' * 60, "\ud800\x00" * 75]


def name(kind, number):
    return f"{kind}-{number}-{TAILS[number % len(TAILS)]}"


def rss():
    with open("/proc/self/status") as status:
        return int(re.search(r"VmRSS:\s*(\d+) kB", status.read())[1]) / 1024


def say(**what):
    print(json.dumps(what), flush=True)


with configure(listen="127.0.0.1:0", run_labels=("task_id",)) as configuration:
    say(url=configuration.url)
    configuration.drain(60)
    under_way = deque()
    for number in range(int(sys.argv[1])):
        run = LoopTracer(
            name("loop", number),
            env_id=name("env", number),
            task_id=name("task", number),
        )
        run.emit_iteration(
            iteration=1,
            goal_score=number % 11 / 10,
            tokens_delta=number % 7,
            latency_ms=5.0,
            worker_id=name("worker", number),
            evaluator_id=name("evaluator", number),
            failure_codes=[name("fail.", number)],
        )
        under_way.append(run)
        if len(under_way) > 40:
            under_way.popleft().finish(outcome="success")
        if number + 1 == 10_000:
            say(rss=rss())
    say(rss=rss())
    for run in under_way:
        run.finish(outcome="failure")
    sys.stdin.read()
"""


@pytest.fixture
def storm(tmp_path) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Start a process of many short runs, no two with a name in common."""
    with ExitStack() as stack:

        def start(runs: int) -> subprocess.Popen[str]:
            script = tmp_path / "storm.py"
            script.write_text(_STORM)
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, script, str(runs)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    cwd=tmp_path,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def _rejections(server) -> dict[str, float]:
    """Count the scrapes that Prometheus says it rejected over a limit."""
    page = requests.get(f"{server.url}/metrics", timeout=10).text
    families = {f.name: f for f in text_string_to_metric_families(page)}
    names = {
        "sample": "prometheus_target_scrapes_exceeded_sample_limit",
        "label": "prometheus_target_scrape_pool_exceeded_label_limits",
    }
    return {
        limit: sum(sample.value for sample in families[name].samples)
        for limit, name in names.items()
    }


def test_names_without_end_never_cost_a_scrape(prometheus, storm):
    """Of 100,000 runs with names of their own all is counted, in bounded space."""
    runs = 100_000
    process = storm(runs)
    url = json.loads(process.stdout.readline())["url"]
    server = prometheus(
        [_target(url)],
        scrape_interval="2s",
        scrape={"sample_limit": 5000, "label_value_length_limit": 200},
    )
    early, late = (json.loads(process.stdout.readline())["rss"] for _ in range(2))
    server.wait_for(f"sum(loop_runs_finished_total) == {runs}")

    assert _value(server, "count_over_time(up[10m])") > 5
    # Not by `up`, which a scrape that this busy process answers late fails as well.
    assert _rejections(server) == {"sample": 0, "label": 0}
    samples = _value(server, "max_over_time(scrape_samples_scraped[10m])")
    assert 3000 < samples < 5000
    totals = {
        metric: _value(server, f"sum({metric})")
        for metric in (
            "loop_iterations_total",
            "loop_worker_calls_total",
            "loop_evaluator_calls_total",
            "loop_failures_total",
            "loop_run_duration_seconds_count",
        )
    }
    assert totals == dict.fromkeys(totals, runs)
    tokens = sum(number % 7 for number in range(runs))
    assert _value(server, "sum(loop_tokens_total)") == tokens
    overflows = {
        series["metric"]["label"]: series["value"]
        for series in server.query("loopotel_label_overflows_total > 0")
    }
    labels = {"loop_name", "env_id", "task_id", "worker_id", "evaluator_id", "code"}
    assert set(overflows) == labels
    assert min(overflows.values()) > runs / 2
    assert late - early < 50, f"{early:.1f} MB at 10,000 runs, {late:.1f} MB at the end"


# Totals over time.

_STEP_SECONDS = 15
_HOUR = 3600


def test_a_crowded_page_stays_within_its_limit(prometheus, configuration):
    """Forty loops that fill the page, all with two live runs, cost no scrape."""
    names = [f"crowd-{number}" for number in range(40)]
    for name in names:
        with LoopTracer(name) as run:
            run.emit_iteration(iteration=1, goal_score=0.5, cost_usd=0.1)
            run.finish(outcome="success")
    runs = [LoopTracer(name) for name in names * 2]
    for run in runs:
        run.emit_iteration(
            iteration=1,
            goal_score=0.5,
            cost_usd=0.1,
            worker_id=f"{run.loop_name}-worker",
            evaluator_id=f"{run.loop_name}-evaluator",
            failure_codes=[f"fail.{run.loop_name}"],
        )
    server = prometheus([_target(configuration.url)], scrape={"sample_limit": 5000})
    server.wait_for("count_over_time(up[5m]) >= 2")
    assert _value(server, "min_over_time(up[5m])") == 1
    assert _value(server, "sum(loop_runs_active)") == len(runs)


def _page(metrics: MetricsProcessor, time_seconds: int) -> str:
    """Give the page as OpenMetrics, each sample with a timestamp."""
    page = render(metrics.snapshot(), OPENMETRICS_1_0_0).decode()
    lines = page.removesuffix("# EOF\n").splitlines(keepends=True)
    return "".join(
        line
        if line.startswith("#")
        else re.sub(r"( # \{.*)?\n$", f" {time_seconds}\n", line)
        for line in lines
    )


def _hour(folder, start: int) -> list[str]:
    """Run loops for an hour from `start`; give the pages, archive the documents."""
    clock = ManualClock(start * 10**9)
    metrics = MetricsProcessor(
        health=Health(), monotonic=lambda: clock.monotonic_ns() / 1e9
    )
    pipeline = Pipeline([ArchiveProcessor(folder), metrics])
    chance = random.Random(7)
    loops = ("code-repair", "test-writer", "web-research")

    def new(loop_name: str) -> LoopTracer:
        return LoopTracer(loop_name, pipeline=pipeline, clock=clock).__enter__()

    runs = [(new(name), chance.randint(1, 12)) for name in loops]
    pages = [_page(metrics, start)]
    for offset in range(_STEP_SECONDS, _HOUR + 1, _STEP_SECONDS):
        clock.advance(seconds=_STEP_SECONDS)
        for place, (run, left) in enumerate(runs):
            run.emit_iteration(
                iteration=1 + len(run.build_trace()["spans"]),
                goal_score=chance.random(),
                tokens_delta=chance.randint(0, 5000),
                cost_usd=round(chance.random(), 6),
                latency_ms=chance.random() * 15e3,
            )
            if left == 1 or offset == _HOUR:
                run.finish(outcome="success", termination_reason="goal_met")
                run.__exit__(None, None, None)
            runs[place] = (run, left - 1)
            if left == 1 and offset < _HOUR:
                runs[place] = (new(run.loop_name), chance.randint(1, 12))
        pages.append(_page(metrics, start + offset))
    return pages


def _archived(folder) -> dict[str, dict[str, float]]:
    """Give the totals of the archived documents: by metric, by loop."""
    totals: dict[str, dict[str, float]] = {}
    for line in (folder / "traces.jsonl").read_bytes().splitlines():
        document = ltf.decode(line)
        root, *iterations = document["spans"]
        for metric, amount in (
            ("loop_tokens_total", root["attributes"][semconv.TOKENS_TOTAL]),
            ("loop_iterations_total", len(iterations)),
            (
                "loop_cost_usd_total",
                sum(span["attributes"][semconv.COST_USD] for span in iterations),
            ),
            ("loop_run_duration_seconds_count", 1),
        ):
            by_loop = totals.setdefault(metric, {})
            name = document["loop_name"]
            by_loop[name] = by_loop.get(name, 0) + amount
    return totals


def test_an_hour_of_runs_adds_up_to_its_archive(prometheus, tmp_path):
    """What `increase` and `rate` find over an hour is what the documents say."""
    end = int(time.time()) // _HOUR * _HOUR - 4 * _HOUR
    start = end - _HOUR
    pages = _hour(tmp_path / "traces", start)
    (tmp_path / "pages.txt").write_text("".join(pages) + "# EOF\n")
    subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", "pages.txt", "data"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    server = prometheus([], data=tmp_path / "data")

    def found(expr: str) -> dict[str, float]:
        answer = server.api("query", query=expr, time=end)["result"]
        return {s["metric"]["loop_name"]: float(s["value"][1]) for s in answer}

    archived = _archived(tmp_path / "traces")
    assert sum(archived["loop_iterations_total"].values()) == 3 * _HOUR / _STEP_SECONDS
    for metric, expected in archived.items():
        close = pytest.approx(expected, rel=0.01)
        assert found(f"increase({metric}[1h])") == close
        assert found(f"rate({metric}[1h]) * 3600") == close


# Form.


def test_promtool_finds_nothing_to_say(configuration):
    """`promtool check metrics` accepts the page, and every name and help on it."""
    if shutil.which("promtool") is None:
        pytest.fail("no `promtool` on PATH; Debian's prometheus has it", pytrace=False)
    for number in range(3):
        with LoopTracer(f"linted-{number}", env_id='a "quoted"\nenv') as run:
            with run.iteration() as step:
                with step.worker("coder") as worker:
                    worker.add_tokens(input=5, output=7)
                    worker.add_cost(usd=0.1)
                with step.evaluator("rubric") as judge:
                    judge.score(0.5)
                step.failure("fail.oscillation")
                step.goal_score(0.5)
            run.finish(outcome="partial", termination_reason="human_stop")
    LoopTracer("live").emit_iteration(iteration=1, goal_score=float("nan"))
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(f"{configuration.url}/metrics", timeout=10).content
    assert page.count(b"\nloop_") > 100
    check = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, check=False
    )
    assert (check.returncode, check.stdout, check.stderr) == (0, b"", b"")
