"""Beside the predecessor: its scripts run on us, and it accepts our documents."""

import asyncio
import math
import re
import subprocess
import sys
from pathlib import Path

import loopotel
import loopotel.exporter.loopnet
import loopotel.les
import loopotel.validate
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import loopotel_prom
import loopotel_prom.exporter.loopnet
import loopotel_prom.les
import loopotel_prom.validate
from loopotel_prom.pipeline import Pipeline

# Scripts of the kind that its users have; only the import is changed.
SCRIPTS = {
    "with block": """
from loopotel import LoopTracer, emit_iteration, current_tracer
with LoopTracer(loop_name="code-repair", env_id="prod", task_id="t",
                goal_target=0.8) as tracer:
    assert current_tracer() is tracer
    tracer.emit_iteration(iteration=1, goal_score=0.5, tokens_delta=100, cost_usd=0.01,
                          latency_ms=12.5, worker_id="w", evaluator_id="e")
    emit_iteration(iteration=2, goal_score=0.9, tokens_delta=50)
    tracer.finish(outcome="success", termination_reason="goal_met")
document = tracer.build_trace()
""",
    "positional": """
from loopotel import LoopTracer
with LoopTracer("code-repair", "prod", "t", 0.7) as tracer:
    tracer.emit_iteration(iteration=1, goal_score=0.7)
document = tracer.build_trace()
""",
    "finish after the block": """
from loopotel.tracer import LoopTracer
tracer = LoopTracer(loop_name="code-repair", env_id="prod", task_id="t")
with tracer:
    tracer.emit_iteration(iteration=1, goal_score=0.25, goal_target=0.5)
    tracer.metadata["model"] = "small"
tracer.finish(outcome="partial", termination_reason="human")
document = tracer.build_trace()
""",
    "outcome as attribute": """
from loopotel import LoopTracer
with LoopTracer(loop_name="code-repair", env_id="prod", task_id="t",
                metadata={"a": 1}) as tracer:
    tracer.outcome = "success"
    tracer.termination_reason = "goal_met"
document = tracer.build_trace()
""",
    "exception": """
from loopotel import LoopTracer
try:
    with LoopTracer(loop_name="code-repair", env_id="prod", task_id="t") as tracer:
        raise ValueError
except ValueError:
    document = tracer.build_trace()
""",
    "decorator": """
from loopotel import LoopTracer, current_tracer, emit_iteration, trace_loop
@trace_loop(loop_name="code-repair", env_id="prod", enabled=True)
def loop():
    emit_iteration(iteration=1, goal_score=0.8)
    tracer = current_tracer()
    tracer.metadata["task"] = "t"
    return tracer
document = loop().build_trace()
""",
    "file": """
import tempfile, pathlib
from loopotel import LoopTracer
from loopotel.exporter import JsonlExporter, trajectory_from_trace
from loopotel.exporter.jsonl import JsonlExporter
from loopotel.validate import validate_trace, validate_file, load_schema
with LoopTracer(loop_name="code-repair", env_id="prod", task_id="t") as tracer:
    tracer.emit_iteration(iteration=1, goal_score=0.8, cost_usd=0.1, latency_ms=10.0)
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "a" / "t.json"
    JsonlExporter(path).export_tracer(tracer)
    assert validate_file(path) == (True, [])
document = tracer.build_trace()
assert validate_trace(document) == (True, [])
assert load_schema()["$id"] == "https://loop-engineering.org/schema/ltf-0.1.schema.json"
assert trajectory_from_trace(document)[0]["latency_seconds"] == 0.01
""",
    "scores": """
from loopotel import LoopTracer, les
from loopotel.les import DEFAULT_GOAL_TARGET, cumulative_les, effectiveness
assert (effectiveness(0.4), effectiveness(2), effectiveness(0.4, 0)) == (0.5, 1.0, 0.0)
assert (cumulative_les([]), cumulative_les([0.4, 0.8])) == (0.0, 0.75)
assert DEFAULT_GOAL_TARGET == 0.8
with LoopTracer(loop_name="code-repair", env_id="prod", task_id="t") as tracer:
    for n, score in enumerate([0.1, 0.35, 0.3333, 0.9, 0.7]):
        tracer.emit_iteration(iteration=n + 1, goal_score=score)
document = tracer.build_trace()
""",
}

# Ids and times differ from run to run.
_VOLATILE = re.compile(r"^(trace_id|span_id|parent_span_id|.*_at|.*_time|timestamp)$")
# What we say beyond the predecessor.
_ADDED = {"error.type"}


def _run(script: str) -> dict:
    names: dict = {}
    exec(script, names)  # noqa: S102 - the scripts above
    return names["document"]


def _comparable(value):
    if isinstance(value, dict):
        return {
            key: _comparable(item)
            for key, item in value.items()
            # None: the null ids that its own schema rejects.
            if not _VOLATILE.match(key) and key not in _ADDED and item is not None
        }
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return value


@pytest.mark.parametrize("name", SCRIPTS)
def test_its_scripts_run_after_the_import_is_changed(name):
    """The document says the same, and both validators accept it."""
    theirs = _run(SCRIPTS[name])
    ours = _run(SCRIPTS[name].replace("from loopotel", "from loopotel_prom"))
    assert _comparable(ours) == _comparable(theirs)
    assert loopotel.validate.validate_trace(ours) == (True, [])
    assert loopotel_prom.validate.validate_trace(ours) == (True, [])


values = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=3)
)
calls = st.lists(
    st.fixed_dictionaries(
        {"iteration": values, "goal_score": values},
        optional={
            "goal_target": values,
            "tokens_delta": values,
            "cost_usd": values,
            "latency_ms": values,
            "worker_id": st.none() | st.text(max_size=3),
            "evaluator_id": st.none() | st.text(max_size=3),
            "failure_codes": st.lists(st.text(max_size=3), max_size=2),
        },
    ),
    max_size=5,
)


@settings(max_examples=300, deadline=None)
@given(
    name=st.text(min_size=3, max_size=80),
    env_id=st.none() | st.text(max_size=5),
    task_id=st.none() | st.text(max_size=5),
    calls=calls,
    outcome=st.sampled_from(["success", "failure", "partial", "unknown", "other"]),
    metadata=st.dictionaries(st.text(max_size=3), values, max_size=3),
)
def test_every_document_of_ours_is_valid_for_it(
    name, env_id, task_id, calls, outcome, metadata
):
    """Whatever a loop reports, its validator and ours find nothing."""
    run = loopotel_prom.LoopTracer(
        name, env_id, task_id, metadata=metadata, pipeline=Pipeline()
    )
    with run:
        for call in calls:
            run.emit_iteration(**call)
        run.finish(outcome=outcome)
    document = run.build_trace()
    assert loopotel.validate.validate_trace(document) == (True, [])
    assert loopotel_prom.validate.validate_trace(document) == (True, [])


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0.01, 1))
def test_scores_agree_with_its_own(scores, target):
    """Effectiveness and cumulative LES are those of the predecessor."""
    ours, theirs = loopotel_prom.les, loopotel.les
    assert ours.cumulative_les(scores, target) == theirs.cumulative_les(scores, target)
    for score in scores:
        assert math.isclose(
            ours.effectiveness(score, target), theirs.effectiveness(score, target)
        )


def test_its_trajectory_is_ours_where_all_is_known():
    """Steps agree once cost, latency and tokens have been reported."""
    document = _run(
        SCRIPTS["with block"].replace(
            "tokens_delta=50", "tokens_delta=50, cost_usd=1.0, latency_ms=1.0"
        )
    )
    theirs = loopotel.exporter.loopnet.trajectory_from_trace(document)
    assert loopotel_prom.exporter.loopnet.trajectory_from_trace(document) == theirs


def test_its_traced_coroutine_is_what_ours_repairs():
    """There, the run is over before the body begins; here it is not."""

    @loopotel_prom.trace_loop(loop_name="code-repair")
    async def loop():
        await asyncio.sleep(0)
        return loopotel_prom.current_tracer()

    assert asyncio.run(loop()) is not None


def test_both_can_be_installed_and_imported(tmp_path: Path):
    """Neither takes anything from the other."""
    code = (
        "import loopotel as a, loopotel_prom as b; print(a.LoopTracer is b.LoopTracer)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert run.stdout == "False\n"
