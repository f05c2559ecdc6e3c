"""A month out of an archive, backfilled into a real Prometheus, and asked for there."""

import json
import shutil
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from loopotel_prom.archive.reader import read_archive
from loopotel_prom.exporter.openmetrics import OpenMetricsFiles
from loopotel_prom.replay import Timeline, history
from tests.system.conftest import Prometheus
from tests.system.months import Month, Run, at, month, share_below

# 2024-05-01T00:00:00Z
_BEGIN_NS = 1_714_521_600 * 10**9
_DAY = 86_400
_EVERY = 9
_MONTH = f"}}[{31 * _DAY}s]"


class Backfill(NamedTuple):
    """What was simulated, what the export said, and where it can be asked for."""

    month: Month
    told: dict[str, Any]
    folder: Path
    server: Prometheus

    def ask(self, expr: str, time_s: float) -> list[dict[str, Any]]:
        """Evaluate an expression at a time of the past; give the series."""
        found = self.server.api("query", query=expr, time=f"{time_s:.3f}")
        return found["result"]

    def value(self, expr: str, time_s: float) -> float:
        """Evaluate what is one series there."""
        found = self.ask(expr, time_s)
        assert len(found) == 1, f"{expr} at {time_s:.3f}: {found}"
        return float(found[0]["value"][1])


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def backfill(tmp_path_factory) -> Iterator[Backfill]:
    """Simulate, export, make blocks, and start a Prometheus on them."""
    for program in ("promtool", "prometheus"):
        if shutil.which(program) is None:
            pytest.fail(f"no `{program}` on PATH: run `make test`", pytrace=False)
    folder = tmp_path_factory.mktemp("backfill")
    simulated = month(_BEGIN_NS)
    simulated.write(folder / "traces")
    files = folder / "files"
    told = json.loads(
        _run(
            *(sys.executable, "-m", "loopotel_prom.cli", "export", "openmetrics"),
            *(str(folder / "traces"), "--output", str(files), "--json"),
        )
    )
    # The command that it says to run next, as it stands.
    data = folder / "data"
    _run("sh", "-ec", told["next"].replace("DATA", str(data)))
    server = Prometheus(
        [],
        folder=folder / "prometheus",
        scrape_interval="1h",
        flags=["--storage.tsdb.retention.time=100y"],
        scrape={},
        data=data,
        more={},
    )
    try:
        server.wait_until_ready()
        yield Backfill(simulated, told, files, server)
    finally:
        server.close()


@pytest.fixture(scope="module")
def some_runs(backfill) -> list[Run]:
    """Give runs from all over the month."""
    return backfill.month.runs[::_EVERY]


def test_every_iteration_of_the_month_is_there_from_its_own_time_on(backfill):
    """Score by score, in each slot: those that were reported, none before its time."""
    window = f"{30 * _DAY}s"
    found = backfill.ask(
        f'loop_goal_score{{job="loops",instance="archive"}}[{window}]',
        at(backfill.month.end_ns),
    )
    stored = {
        (series["metric"]["loop_name"], int(series["metric"]["slot"])): series["values"]
        for series in found
    }
    wrong = []
    for run in backfill.month.runs:
        samples = stored[run.loop, run.slot]
        times = [when for when, _ in samples]
        for step in run.steps:
            # The same score as before needs no sample of its own.
            when, value = samples[bisect_right(times, at(step.end_ns)) - 1]
            is_now = when == at(step.end_ns) or step is not run.steps[0]
            if float(value) != step.score or not is_now:
                wrong.append((run.loop, run.slot, at(step.end_ns), step.score, value))
    assert not wrong, f"{len(wrong)} iterations, the first {wrong[:3]}"


def test_a_query_at_a_recorded_time_gives_what_was_archived(backfill, some_runs):
    """The live values of a run are those of the iteration that has just ended."""
    for run in some_runs:
        where = f'{{loop_name="{run.loop}",slot="{run.slot}"}}'
        for number, step in enumerate(run.steps, start=1):
            time_s = at(step.end_ns)
            spent = sum(each.tokens for each in run.steps[:number])
            got = [
                backfill.value(name + where, time_s)
                for name in ("loop_goal_score", "loop_les_cumulative")
            ]
            assert got == pytest.approx([step.score, step.les], abs=1e-9)
            assert backfill.value(f"loop_run_tokens{where}", time_s) == spent


def test_totals_are_those_of_all_that_had_happened_by_then(backfill, some_runs):
    """Tokens, iterations and cost of a loop, over all its runs."""
    for run in some_runs:
        time_s = at(run.steps[-1].end_ns)
        steps = [*backfill.month.steps(run.loop, time_s)]
        where = f'{{loop_name="{run.loop}"}}'
        got = [
            backfill.value(f"loop_{name}_total{where}", time_s)
            for name in ("tokens", "iterations", "cost_usd")
        ]
        spent = sum(step.cost_usd for step in steps)
        wanted = [backfill.month.tokens(run.loop, time_s), len(steps), spent]
        assert got == pytest.approx(wanted, abs=1e-9)


def test_histograms_are_those_of_all_that_had_happened_by_then(backfill, some_runs):
    """Each bucket of scores that runs ended with, and durations of iterations."""
    for run in some_runs:
        time_s = at(run.end_ns)
        where = f'{{loop_name="{run.loop}"}}'
        finals = [r.steps[-1].les for r in backfill.month.ended(run.loop, time_s)]
        buckets = backfill.ask(f"loop_run_final_les_bucket{where}", time_s)
        got = {b["metric"]["le"]: float(b["value"][1]) for b in buckets}
        assert got == {le: share_below(finals, float(le)) for le in got}
        assert len(got) == 11
        seconds = [step.seconds for step in backfill.month.steps(run.loop, time_s)]
        total = backfill.value(f"loop_iteration_duration_seconds_sum{where}", time_s)
        assert total == pytest.approx(sum(seconds), rel=1e-9)


@pytest.mark.parametrize(
    ("expr", "count"),
    (
        ("loop_tokens_total{%s}", lambda run: sum(step.tokens for step in run.steps)),
        ("loop_runs_started_total{%s}", lambda _run: 1),
        (
            'loop_runs_finished_total{%s,outcome="success"}',
            lambda r: r.outcome[0] == "s",
        ),
        ('loop_worker_calls_total{%s,worker_id="coder"}', lambda run: len(run.steps)),
        ("loop_run_final_les_count{%s}", lambda _run: 1),
    ),
)
def test_the_increase_over_the_month_is_the_total(backfill, expr, count):
    """Not the first rise is lost, though each day begins with a gap."""
    for loop in backfill.month.loops:
        runs = [run for run in backfill.month.runs if run.loop == loop]
        time_s = at(max(run.end_ns for run in runs))
        series = expr % f'loop_name="{loop}"'
        # Behind its latest sample, Prometheus would extrapolate.
        latest_s = backfill.value(f"timestamp({series})", time_s)
        got = backfill.value(f"increase({series.replace('}', _MONTH)})", latest_s)
        assert got == pytest.approx(sum(map(count, runs)), rel=1e-9)


def test_a_loop_at_rest_is_not_there(backfill):
    """At midnight all of them have been quiet for long."""
    assert backfill.ask('{__name__=~"loop_.*"}', _BEGIN_NS / 1e9 + 15 * _DAY) == []


def test_files_are_in_order_and_none_is_larger_than_it_should_be(backfill):
    """Their names sort by time, and what is told of them is true."""
    files = sorted(backfill.folder.glob("*.om"))
    assert len(files) == backfill.told["files"]
    samples, latest = 0, 0.0
    for file in files:
        times = [
            float(line.rpartition(b" ")[2])
            for line in file.read_bytes().splitlines()
            if not line.startswith(b"#")
        ]
        assert latest < min(times)
        latest, samples = max(times), samples + len(times)
    assert samples == backfill.told["samples"]


def test_files_of_the_same_two_hours_add_up(tmp_path, prometheus):
    """What was too much for one file is in blocks that overlap, and all there."""
    simulated = month(_BEGIN_NS, loops=1, runs_a_day=6, days=1)
    simulated.write(tmp_path / "traces")
    files, data = tmp_path / "files", tmp_path / "data"
    files.mkdir()
    with Timeline() as timeline:
        timeline.read(read_archive(tmp_path / "traces"), print)
        writer = OpenMetricsFiles(files, most_samples=2000)
        writer.write(history(timeline))
    names = [file.name for file in sorted(files.iterdir())]
    assert len(names) > 2 * len({name[:22] for name in names})
    for name in names:
        make = ("promtool", "tsdb", "create-blocks-from", "openmetrics")
        _run(*make, str(files / name), str(data))
    server = prometheus(
        [],
        flags=["--storage.tsdb.retention.time=100y"],
        data=data,
        scrape_interval="1h",
    )
    loop = simulated.loops[0]
    for run in simulated.runs:
        for step in run.steps:
            found = server.api(
                "query", query="loop_tokens_total", time=f"{at(step.end_ns):.3f}"
            )
            (series,) = found["result"]
            wanted = simulated.tokens(loop, at(step.end_ns))
            assert float(series["value"][1]) == wanted
