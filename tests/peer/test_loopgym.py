"""LoopGym's environments, traced: nothing lost, everything valid."""

import json
from pathlib import Path

import loopgym
import loopotel.validate
import pytest

from loopotel_prom import pipeline, semconv
from loopotel_prom.exporter import trajectory_from_trace
from loopotel_prom.integrations.loopgym import (
    environment_ids,
    make_environment,
    run_traced_episode,
    task_ids,
    trace_live_episode,
)
from loopotel_prom.pipeline import Pipeline


@pytest.fixture(autouse=True)
def installed(recorder):
    """Keep the spans of the episodes."""
    pipeline.install(Pipeline([recorder]))
    return recorder


EPISODES = [(env_id, task) for env_id in environment_ids() for task in task_ids(env_id)]

# These lower a score after LoopGym has put it into its own trajectory.
PERTURBED = (
    "loopbench/hitl-gate-v1",
    "loopbench/rag-retrieval-v1",
    "loopbench/safety-constrained-v1",
)

RECORD = {
    "record_id": "ln-00000000-0000-4000-8000-000000000001",
    "loop_name": "recorded-loop",
    "objective": "Do what was recorded",
    "outcome": "partial",
    "termination_reason": "human_stop",
    "trajectory": [
        {
            "iteration": 1,
            "goal_score": 0.3,
            "primary_quality": 0.3,
            "cost_usd": 0.01,
            "latency_seconds": 2.5,
            "tokens": 900,
            "failure_codes": ["fail.open_loop"],
            "safety_events": 0,
            "human_intervention": False,
        },
        {
            "iteration": 2,
            "goal_score": 0.6,
            "primary_quality": 0.6,
            "cost_usd": 0.02,
            "latency_seconds": 1.5,
            "tokens": 400,
            "failure_codes": ["fail.safety_bypass"],
            "safety_events": 1,
            "human_intervention": True,
        },
    ],
    "metadata": {"goal_target": 0.9},
}


def _records(folder: Path, *records: dict) -> Path:
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def _scores(document: dict) -> list[float]:
    return [step["goal_score"] for step in trajectory_from_trace(document)]


def test_every_environment_is_known():
    """What LoopGym lists is what we run."""
    assert environment_ids() == loopgym.list_envs()
    assert len(EPISODES) > len(environment_ids())


@pytest.mark.parametrize(("env_id", "task_id"), EPISODES)
def test_an_episode_of_every_task_is_traced_whole(env_id, task_id):
    """The trajectory is the one that LoopGym's own episode has."""
    result, document = run_traced_episode(
        make_environment(env_id, seed=7), task_id=task_id, seed=7
    )
    assert loopotel.validate.validate_trace(document) == (True, [])
    expected = make_environment(env_id, seed=7).run_episode(task_id=task_id, seed=7)
    recorded = [step["quality_score"] for step in expected["trajectory"]]
    assert len(_scores(document)) == len(recorded)
    if env_id not in PERTURBED:
        assert _scores(document) == pytest.approx(recorded, abs=1e-4)
    assert _scores(document)[-1] == pytest.approx(result["quality_score"], abs=1e-4)
    assert result["termination_reason"] == document["termination_reason"]
    assert document["outcome"] == ("success" if result["success"] else "failure")


def test_the_result_has_the_predecessors_keys():
    """A script that reads them goes on working."""
    env = make_environment("loopbench/code-repair-v1")
    result, document = trace_live_episode(env, task_id="cr-001", seed=1)
    assert result.keys() == {
        *("task_id", "seed", "env_id", "success"),
        *("quality_score", "termination_reason"),
    }
    assert document["task_id"] == "cr-001"


def test_target_worker_and_evaluator_come_from_the_specification():
    """Of a simulated environment as of a composed one."""
    for env_id, target, worker in (
        ("loopbench/code-repair-v1", 0.8, "implementer"),
        ("loopbench/composed-swarm-v1", 0.8, "orchestrator"),
    ):
        _, document = run_traced_episode(make_environment(env_id), seed=1)
        attributes = document["spans"][1]["attributes"]
        assert attributes[semconv.GOAL_TARGET] == target
        assert attributes[semconv.WORKER_ID] == worker


def test_a_replay_gives_the_record_back(tmp_path):
    """Scores, costs, latencies, tokens, codes and outcome are the record's."""
    env = loopgym.make("replay/loopnet-v1", records_path=_records(tmp_path, RECORD))
    _, document = run_traced_episode(env, task_id=RECORD["record_id"])
    assert trajectory_from_trace(document) == RECORD["trajectory"]
    assert document["loop_name"] == "recorded-loop"
    assert (document["outcome"], document["termination_reason"]) == (
        "partial",
        "human_stop",
    )
    root = document["spans"][0]["attributes"]
    assert root[semconv.GOAL_TARGET] == 0.9
    assert root[semconv.TOKENS_TOTAL] == 1300


def test_a_replay_of_one_step_is_one_iteration(tmp_path):
    """The reset is the first iteration, and the last is not told twice."""
    record = RECORD | {"trajectory": RECORD["trajectory"][:1]}
    env = loopgym.make("replay/loopnet-v1", records_path=_records(tmp_path, record))
    _, document = run_traced_episode(env, task_id=RECORD["record_id"])
    assert _scores(document) == [0.3]


def test_the_first_iteration_of_a_replay_is_not_lost():
    """Its reset already returns it."""
    _, document = run_traced_episode(make_environment("replay/loopnet-v1"), seed=1)
    assert _scores(document) == [0.5, 0.85]


class DoneAfterReset:
    """An environment whose goal is met before the first step."""

    env_id = "already/done"
    done = True
    spec = None

    def reset(self, task_id: str = "", seed: int | None = None):
        """Give an observation of an iteration that has been."""
        return loopgym.Observation(task_id, 1, "", 0.9, "", done=True)


def test_an_environment_done_after_its_reset_is_traced():
    """Its one iteration is there, and the score decides."""
    result, document = run_traced_episode(DoneAfterReset())
    assert _scores(document) == [0.9]
    assert result["success"]


class Failing(DoneAfterReset):
    """An environment that cannot be reset."""

    def reset(self, task_id: str = "", seed: int | None = None):
        """Fail."""
        raise RuntimeError("no such task")


def test_an_environment_that_fails_is_a_failed_run(installed):
    """Its own error goes on, and the run is recorded."""
    with pytest.raises(RuntimeError, match="no such task"):
        run_traced_episode(Failing())
    assert [span.outcome for span in installed.ended] == ["failure"]
    assert installed.ended[0].error_type == "RuntimeError"


def test_a_live_environment_ends(installed):
    """One that never says done of itself is over when its step says so."""
    env = loopgym.make("loopbench/code-repair-v1", backend="live")
    result, document = run_traced_episode(env, task_id="cr-001", seed=3)
    assert result["success"]
    assert document["loop_name"] == "code-repair-loop"
    assert document["spans"][0]["attributes"][semconv.TOKENS_TOTAL] > 0


@pytest.mark.parametrize(
    ("env_id", "task_id", "event"),
    (
        ("loopbench/hitl-gate-v1", "LB-HITL-2", semconv.HUMAN_INTERVENTION),
        ("loopbench/safety-constrained-v1", "LB-SAFE-2", semconv.SAFETY_VIOLATION),
    ),
)
def test_a_perturbation_that_ends_an_episode_is_an_event(env_id, task_id, event):
    """A human's rejection and a safety violation stand in the trace."""
    _, document = run_traced_episode(make_environment(env_id), task_id=task_id, seed=1)
    assert event in [e["name"] for e in document["spans"][-1]["events"]]


def test_tokens_of_the_branches_are_counted():
    """A composed episode burns more than its orchestrator does."""
    env = make_environment("loopbench/composed-swarm-v1", seed=1)
    _, document = run_traced_episode(env, task_id="comp-001", seed=1)
    total = env._orch._runtime.llm.tokens_used
    total += sum(branch["tokens_used"] for branch in env._branch_episodes)
    assert document["spans"][0]["attributes"][semconv.TOKENS_TOTAL] == total


def test_an_episode_can_run_untraced(installed):
    """The result is the same, and nothing is reported."""
    env = make_environment("loopbench/code-repair-v1")
    result, _ = run_traced_episode(env, task_id="cr-001", seed=1, enabled=False)
    assert result["success"]
    assert installed.ended == []
