"""
LoopGym episodes, traced.

Every environment that ``loopgym.list_envs()`` names works: simulated,
perturbed, composed, live and replayed ones. They report the same things in
different places; `_Episode` knows where.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from loopotel_prom.errors import MissingExtraError
from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.ltf import Document
from loopotel_prom.plain import count, number
from loopotel_prom.tracer import LoopTracer

_UNNAMED = "unknown-loop"
_HUMAN_REASONS = ("human_rejected", "human_stop")
_SAFETY_REASON = "safety_violation"
_SAFETY_BYPASS = "fail.safety_bypass"


def make_environment(env_id: str, *, seed: int = 0) -> Any:
    """
    Make one of LoopGym's environments.

    Raises:
        MissingExtraError: LoopGym is not installed, or cannot be on this Python.
        ValueError: LoopGym has no such environment.
    """
    return _loopgym().make(env_id, seed=seed)


def environment_ids() -> list[str]:
    """
    Name LoopGym's environments.

    Raises:
        MissingExtraError: LoopGym is not installed, or cannot be on this Python.
    """
    return list(_loopgym().list_envs())


def task_ids(env_id: str) -> list[str]:
    """
    Name the tasks that an environment brings; its default task if none are.

    Raises:
        MissingExtraError: LoopGym is not installed, or cannot be on this Python.
        ValueError: LoopGym has no such environment.
    """
    path = getattr(make_environment(env_id), "tasks_path", None)
    if path is None:
        return [""]
    tasks = json.loads(path.read_text(encoding="utf-8")).get("tasks")
    return [str(task["id"]) for task in _mappings(tasks) if task.get("id")] or [""]


def run_traced_episode(
    env: Any, *, task_id: str = "", seed: int | None = None, enabled: bool = True
) -> tuple[dict[str, Any], Document]:
    """
    Run one episode to its end and trace it.

    Goal target, worker and evaluator come from the environment's specification,
    or from the record that it replays. What an environment does not report is
    left unknown.

    Args:
        env: A LoopGym environment.
        task_id: The task to reset it to; its default task if empty.
        seed: The seed to reset it with; its own if None.
        enabled: False runs the episode without tracing it.

    Returns:
        The result (task_id, seed, env_id, success, quality_score,
        termination_reason), and the LTF document.

    Raises:
        Exception: Whatever the environment raises, once the run has been
            recorded as a failure.
    """
    episode = _Episode(env)
    started_at = datetime.now(UTC)
    try:
        observation = env.reset(task_id=task_id, seed=seed)
    except BaseException:
        with _tracer(episode, task_id, seed, started_at, enabled=enabled):
            raise
    # A replayed record names its loop only once it has been reset to it.
    tracer = _tracer(
        episode,
        task_id or observation.task_id,
        seed,
        started_at,
        enabled=enabled,
    )
    with tracer:
        observation, info = _run(episode, tracer, observation)
        success = episode.succeeded(observation, info)
        reason = str(info.get("termination_reason") or episode.recorded_reason)
        tracer.finish(outcome=episode.outcome(success), termination_reason=reason)
    result = {
        "task_id": task_id,
        "seed": seed,
        "env_id": episode.env_id,
        "success": success,
        "quality_score": observation.quality_score,
        "termination_reason": reason,
    }
    return result, tracer.build_trace()


def trace_live_episode(
    env: Any, *, task_id: str = "", seed: int | None = None
) -> tuple[dict[str, Any], Document]:
    """Run and trace one episode, as `run_traced_episode` with tracing on."""
    return run_traced_episode(env, task_id=task_id, seed=seed, enabled=True)


def _loopgym() -> Any:
    try:
        import loopgym  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        hint = ""
        if sys.version_info < (3, 12):
            running = ".".join(map(str, sys.version_info[:2]))
            hint = f"it needs Python 3.12 or later, this is {running}"
        raise MissingExtraError("LoopGym", extra="loopgym", hint=hint) from error
    return loopgym


def _tracer(
    episode: "_Episode",
    task_id: str,
    seed: int | None,
    started_at: datetime,
    *,
    enabled: bool,
) -> LoopTracer:
    return LoopTracer(
        episode.loop_name,
        env_id=episode.env_id,
        task_id=task_id or None,
        goal_target=episode.goal_target,
        enabled=enabled,
        started_at=started_at,
        metadata=episode.metadata(seed),
    )


def _run(
    episode: "_Episode", tracer: LoopTracer, observation: Any
) -> tuple[Any, Mapping[str, Any]]:
    """Step to the end, reporting each iteration; give the last observation."""
    info: Mapping[str, Any] = {}
    if observation.iteration > 0:
        # The reset of a replay is its first iteration.
        _report(episode, tracer, observation, info, None)
    done = bool(episode.env.done or observation.done)
    while not done:
        before = time.perf_counter()
        latest, _reward, done, info = episode.env.step()
        milliseconds = (time.perf_counter() - before) * 1000.0
        # Past its end, an environment gives its last observation once more.
        if latest is not observation and latest.iteration > 0:
            _report(episode, tracer, latest, info, milliseconds)
        observation = latest
        done = bool(done or episode.env.done)
    return observation, info


def _report(
    episode: "_Episode",
    tracer: LoopTracer,
    observation: Any,
    info: Mapping[str, Any],
    milliseconds: float | None,
) -> None:
    step = episode.recorded_step(observation.iteration)
    seen = {**(observation.info or {}), **info}
    seconds = number(step.get("latency_seconds"))
    codes = seen.get("failure_codes") or step.get("failure_codes") or ()
    reason = seen.get("termination_reason")
    violations = [_SAFETY_BYPASS] if reason == _SAFETY_REASON and not step else []
    violations += [_SAFETY_BYPASS] * (count(step.get("safety_events")) or 0)
    human = bool(step.get("human_intervention")) or reason in _HUMAN_REASONS
    tracer.emit_iteration(
        iteration=observation.iteration,
        goal_score=observation.quality_score,
        tokens_delta=episode.take_tokens(step),
        cost_usd=number(seen.get("cost_usd", step.get("cost_usd"))),
        latency_ms=milliseconds if seconds is None else seconds * 1000.0,
        worker_id=episode.worker_id,
        evaluator_id=episode.evaluator_id,
        failure_codes=codes,
        safety_violations=violations,
        human_interventions=int(human),
    )


class _Episode:
    """What an environment tells about the episode it runs, wherever it does."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.env_id: str | None = getattr(env, "env_id", None)
        self._tokens_before = 0

    @property
    def _spec(self) -> Mapping[str, Any]:
        for owner in (self.env, getattr(self.env, "_sim", None)):
            for name in ("spec", "orchestrator_spec"):
                spec = getattr(owner, name, None)
                if isinstance(spec, Mapping):
                    return spec
        return {}

    @property
    def _record(self) -> Mapping[str, Any]:
        """The ln/record-v1 that a replay replays; empty for any other."""
        record = getattr(self.env, "_record", None)
        return record if isinstance(record, Mapping) else {}

    @property
    def loop_name(self) -> str:
        name = self._spec.get("loop_name") or self._record.get("loop_name")
        return str(name or _UNNAMED)

    @property
    def goal_target(self) -> float:
        for target in self._stated_targets():
            value = number(target)
            if value is not None:
                return value
        return DEFAULT_GOAL_TARGET

    def _stated_targets(self) -> Iterator[object]:
        conditions = self._spec.get("termination_conditions")
        if isinstance(conditions, Mapping):
            for condition in _mappings(conditions.get("success")):
                yield condition.get("value")
        for evaluator in _mappings(self._spec.get("evaluators")):
            rubric = evaluator.get("rubric")
            if isinstance(rubric, Mapping):
                yield rubric.get("pass_threshold")
        facts = self._record.get("metadata")
        if isinstance(facts, Mapping):
            yield facts.get("goal_target")

    @property
    def worker_id(self) -> str | None:
        return self._first_id("workers")

    @property
    def evaluator_id(self) -> str | None:
        return self._first_id("evaluators")

    def _first_id(self, role: str) -> str | None:
        for item in _mappings(self._spec.get(role)):
            return str(item["id"]) if item.get("id") else None
        return None

    @property
    def recorded_reason(self) -> str:
        return str(self._record.get("termination_reason") or "")

    def recorded_step(self, iteration: int) -> Mapping[str, Any]:
        """The step of the replayed record with this number; empty without one."""
        for step in _mappings(self._record.get("trajectory")):
            if step.get("iteration") == iteration:
                return step
        return {}

    def take_tokens(self, step: Mapping[str, Any]) -> int | None:
        """Tokens used since the last call, or as the record has them, if known."""
        used = self._tokens_used()
        if used is None:
            return count(step.get("tokens"))
        grown = max(0, used - self._tokens_before)
        self._tokens_before = used
        return grown

    def _tokens_used(self) -> int | None:
        """What the models have used so far, a composed one's branches too."""
        owners = (self.env, *(getattr(self.env, name, None) for name in _INNER))
        models = (
            getattr(getattr(each, "_runtime", None), "llm", None) for each in owners
        )
        branches = _mappings(getattr(self.env, "_branch_episodes", None))
        meters = [
            *(count(getattr(model, "tokens_used", None)) for model in models),
            *(count(branch.get("tokens_used")) for branch in branches),
        ]
        known = [meter for meter in meters if meter is not None]
        return sum(known) if known else None

    def succeeded(self, observation: Any, info: Mapping[str, Any]) -> bool:
        """Whether the goal was met, by the environment or, silent, by the score."""
        if "success" in info:
            return bool(info["success"])
        if self._record:
            return self._record.get("outcome") == "success"
        return bool(observation.quality_score >= self.goal_target)

    def outcome(self, success: bool) -> str:  # noqa: FBT001 - the one thing it maps
        """The outcome as recorded, or success or failure."""
        recorded = self._record.get("outcome")
        if recorded is not None:
            return str(recorded)
        return "success" if success else "failure"

    def metadata(self, seed: int | None) -> dict[str, Any]:
        """What a reader of the document will want to know besides."""
        objective = self._spec.get("objective") or self._record.get("objective")
        facts = {
            "seed": seed,
            "objective": objective and " ".join(str(objective).split()),
            "record_id": self._record.get("record_id"),
            **(self._recorded_facts() if self._record else self._specified_facts()),
        }
        return {key: value for key, value in facts.items() if value is not None}

    def _recorded_facts(self) -> dict[str, Any]:
        """What the record of a replay says of its loop, so that it stays said."""
        record, counts = self._record, self._record.get("metadata")
        counts = counts if isinstance(counts, Mapping) else {}
        facts = {name: record.get(name) for name in ("patterns", "loop_spec")}
        return facts | {name: counts.get(name) for name in _COUNTS}

    def _specified_facts(self) -> dict[str, Any]:
        spec = self._spec
        if not spec:
            return {}
        return {
            "loop_spec": spec,
            "max_iterations_budget": self._max_iterations(),
            "worker_count": len(list(_mappings(spec.get("workers")))) or None,
            "evaluator_count": len(list(_mappings(spec.get("evaluators")))) or None,
        }

    def _max_iterations(self) -> int | None:
        conditions = self._spec.get("termination_conditions")
        if isinstance(conditions, Mapping):
            for condition in _mappings(conditions.get("failure")):
                if condition.get("type") == "max_iterations":
                    return count(condition.get("value"))
        return None


_INNER = ("_sim", "_orch")
_COUNTS = (
    "iteration_count",
    "max_iterations_budget",
    "worker_count",
    "evaluator_count",
)


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    """Give the mappings in a list; a specification may hold anything."""
    if isinstance(value, list | tuple):
        yield from (item for item in value if isinstance(item, Mapping))
