"""
The predecessor's known defects, by their numbers, each one kept away.

Those that another test file is about: 10 (OTLP ids, times, events) and 11 in
test_otlp.py, 13 (LoopGym) in tests/peer/test_loopgym.py, 14 (the validator) in
test_cli_validate.py, 16 (canned panels) with the dashboards.
"""

import asyncio
import json
import subprocess
import sys
import time

import pytest

from loopotel_prom import LoopTracer, current_tracer, emit_iteration, trace_loop
from loopotel_prom.errors import ConfigError
from loopotel_prom.exporter import JsonlExporter, trajectory_from_trace
from loopotel_prom.pipeline import Pipeline, install
from loopotel_prom.validate import validate_trace


def test_01_an_absent_id_is_no_null(new_run):
    """The document without an environment or a task is valid."""
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    document = run.build_trace()
    assert validate_trace(document) == (True, [])
    assert None not in (document.get("env_id", ""), document.get("task_id", ""))


def test_02_an_iteration_costs_the_same_however_many_there_were(new_run):
    """The last thousand of a long run take no longer than the first, by far."""

    def seconds() -> float:
        before = time.perf_counter()
        for number in range(1000):
            run.emit_iteration(iteration=number, goal_score=0.5)
        return time.perf_counter() - before

    with new_run() as run:
        first = min(seconds() for _ in range(3))
        for _ in range(50):
            seconds()
        last = min(seconds() for _ in range(3))
    # Recomputing the mean would make it fifty times as long.
    assert last < 10 * first


def test_03_leaving_a_tracer_restores_the_one_around_it(new_run):
    """An inner loop does not take the outer one's tracer away."""
    with new_run() as outer:
        with new_run():
            pass
        assert current_tracer() is outer


def test_04_a_decorated_coroutine_is_traced_and_its_document_kept(recorder):
    """The trace is open while the body runs, and goes to the pipeline."""
    install(Pipeline([recorder]))

    @trace_loop(loop_name="code-repair")
    async def loop() -> None:
        await asyncio.sleep(0)
        emit_iteration(iteration=1, goal_score=0.4)

    asyncio.run(loop())
    assert len(recorder.ended) == 2


def test_05_an_iteration_lasts_its_latency(new_run):
    """Start and end in the document are as far apart as it took."""
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.4, latency_ms=2000)
    span = run.build_trace()["spans"][1]
    assert span["start_time"] == "2023-11-14T22:13:18.000000Z"
    assert span["end_time"] == "2023-11-14T22:13:20.000000Z"


def test_06_a_document_is_a_copy(new_run):
    """Later iterations do not appear in an earlier document, nor its edits here."""
    with new_run(metadata={"list": []}) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        early = run.build_trace()
        early["spans"][0]["attributes"].clear()
        early["metadata"]["list"].append(1)
        run.emit_iteration(iteration=2, goal_score=0.4)
    assert len(early["spans"]) == 2
    assert run.build_trace()["spans"][0]["attributes"]
    assert run.build_trace()["metadata"] == {"list": []}


def test_07_a_disabled_tracers_document_is_valid():
    """It has its root span."""
    with LoopTracer("code-repair", enabled=False) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    assert validate_trace(run.build_trace()) == (True, [])


@pytest.mark.parametrize("value", (float("nan"), float("inf"), -1, True, 2**70))
def test_08_no_value_makes_the_json_invalid(new_run, tmp_path, value):
    """What is written is strict JSON and a valid document."""
    with new_run(metadata={"value": value}) as run:
        run.emit_iteration(
            iteration=value,
            goal_score=value,
            tokens_delta=value,
            cost_usd=value,
            latency_ms=value,
        )
    JsonlExporter(tmp_path / "t.jsonl").export_tracer(run)
    written = (tmp_path / "t.jsonl").read_text()
    assert validate_trace(json.loads(written, parse_constant=pytest.fail))[0]


def test_09_a_name_that_the_format_rejects_is_not_accepted(new_run):
    """One too short is refused, one too long is cut."""
    with pytest.raises(ConfigError):
        new_run("ab")
    with new_run("x" * 100) as run:
        pass
    assert validate_trace(run.build_trace()) == (True, [])


def test_12_a_trajectory_has_no_null(new_run):
    """A cost or a latency that is unknown is left out."""
    with new_run() as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    (step,) = trajectory_from_trace(run.build_trace())
    assert None not in step.values()
    assert not {"cost_usd", "latency_seconds"} & step.keys()


RUN_LOOPS = """
import sys
import loopotel_prom
loopotel_prom.configure(listen=None, archive=sys.argv[1])
for number in range(20):
    run = loopotel_prom.LoopTracer("code-repair", metadata={"x": "y" * 30_000})
    with run:
        run.emit_iteration(iteration=1, goal_score=number / 20)
"""


def test_15_concurrent_writers_interleave_no_document(tmp_path):
    """Long lines of three processes come out whole."""
    command = [sys.executable, "-c", RUN_LOOPS, str(tmp_path)]
    writers = [subprocess.Popen(command) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0] * 3
    lines = (tmp_path / "traces.jsonl").read_text().splitlines()
    assert [validate_trace(json.loads(line))[0] for line in lines] == [True] * 60
