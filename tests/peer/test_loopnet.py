"""Our LoopNet records, in LoopGym's hands."""

import json
from pathlib import Path
from typing import Any

import loopgym
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopgym.export.les import les_from_trajectory

from loopotel_prom import pipeline
from loopotel_prom.exporter.loopnet import RecordOptions, record_from_trace
from loopotel_prom.exporter.loopnet.score import observed_les
from loopotel_prom.exporter.loopnet.terms import FAILURES
from loopotel_prom.integrations.loopgym import (
    environment_ids,
    make_environment,
    run_traced_episode,
    task_ids,
)
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.tracer import LoopTracer

OPTIONS = RecordOptions(objective="do what was recorded", missing_cost="zero")
EPISODES = [
    (env_id, task)
    for env_id in environment_ids()
    if not env_id.startswith("replay/")
    for task in task_ids(env_id)
]
# What a replay must give back, whatever it calls the run.
SAME = (
    *("loop_name", "objective", "patterns", "loop_spec", "outcome"),
    *("termination_reason", "failure_modes", "failure_mode", "trajectory"),
    *("les_observed", "metadata"),
)


@pytest.fixture(autouse=True)
def _installed(recorder):
    """Keep the spans of the episodes from the process's own pipeline."""
    pipeline.install(Pipeline([recorder]))


def _replayed(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Replay a record in LoopGym's own environment, and export the trace of that."""
    path = folder / "records.jsonl"
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    env = loopgym.make("replay/loopnet-v1", records_path=path)
    _, document = run_traced_episode(env, task_id=record["record_id"])
    return record_from_trace(document, OPTIONS)


def _said(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in SAME}


@pytest.mark.parametrize(("env_id", "task_id"), EPISODES)
def test_the_record_of_an_episode_is_replayed(env_id, task_id, tmp_path):
    """The trace of the replay exports again to the same record."""
    _, document = run_traced_episode(make_environment(env_id), task_id=task_id, seed=3)
    record = record_from_trace(document, OPTIONS)
    assert _said(_replayed(record, tmp_path)) == _said(record)


@pytest.mark.parametrize("outcome", ("success", "failure", "partial", "unknown"))
@pytest.mark.parametrize("reason", ("goal_met", "human_stop", "safety breach", "", "?"))
@pytest.mark.parametrize("length", (1, 7, 173))
def test_the_record_of_any_run_is_replayed(new_run, outcome, reason, length, tmp_path):
    """Of one that was put together into 50 steps, too."""
    run: LoopTracer = new_run(metadata={"max_iterations_budget": 173})
    with run:
        for number in range(1, length + 1):
            run.emit_iteration(
                iteration=number,
                goal_score=(number * 37 % 101) / 100,
                tokens_delta=number * 11,
                cost_usd=number * 0.0007,
                latency_ms=1000 / 3 + number,
                failure_codes=["fail.oscillation"] if number % 5 == 2 else [],
                safety_violations=["fail.open_loop"] if number % 6 == 5 else [],
                human_interventions=number % 7 == 6,
            )
        run.finish(outcome=outcome, termination_reason=reason)
    record = record_from_trace(run.build_trace(), OPTIONS)
    assert _said(_replayed(record, tmp_path)) == _said(record)


_ratio = st.floats(0, 1).map(lambda value: round(value, 4))
_steps = st.fixed_dictionaries(
    {
        "iteration": st.just(1),
        "goal_score": _ratio,
        "cost_usd": st.floats(0, 10),
        "latency_seconds": st.floats(0, 1000),
        "safety_events": st.integers(0, 3),
        "human_intervention": st.booleans(),
    }
)


@given(
    steps=st.lists(_steps, min_size=1, max_size=50),
    target=_ratio,
    outcome=st.sampled_from(("success", "failure", "partial")),
    mode=st.sampled_from((None, *FAILURES)),
    budget=st.integers(1, 60),
)
def test_les_categories_are_those_of_the_corpus(steps, target, outcome, mode, budget):
    """LoopGym's captures are scored alike; it only weighs the categories otherwise."""
    theirs = les_from_trajectory(
        steps,
        goal_target=target,
        outcome=outcome,
        failure_mode=mode,
        max_iterations_budget=budget,
    )
    ours = observed_les(
        steps,
        goal_target=target,
        outcome=outcome,
        failure_mode=mode,
        is_partial=len(steps) < budget and outcome != "success",
    )
    assert ours["categories"] == pytest.approx(theirs["categories"], abs=1.01e-4)
    assert ours["partial"] == theirs["partial"]
