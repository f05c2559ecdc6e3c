"""The public names as a user's typed program would use them; mypy reads this."""

from pathlib import Path
from typing import Any, assert_type

import loopotel_prom
from loopotel_prom import LoopTracer, current_tracer, emit_iteration, trace_loop
from loopotel_prom.exporter import JsonlExporter, trajectory_from_trace
from loopotel_prom.exporter.otlp import OtlpExporter
from loopotel_prom.integrations.loopgym import run_traced_episode
from loopotel_prom.les import cumulative_les, effectiveness
from loopotel_prom.validate import load_schema, validate_file, validate_trace

with loopotel_prom.configure(listen="127.0.0.1:0", archive=Path("traces")) as handle:
    assert_type(handle.url, str | None)
    assert_type(handle.drain(1.0), bool)
loopotel_prom.configure(listen=None, otlp="http://127.0.0.1:4318/v1/traces").close()
loopotel_prom.configure(listen=None, otlp=True).close()

with LoopTracer("code-repair", env_id="prod/agent", goal_target=0.8) as run:
    assert_type(run, LoopTracer)
    run.emit_iteration(iteration=1, goal_score=0.66, tokens_delta=120, cost_usd=0.01)
    emit_iteration(iteration=2, goal_score=0.81, latency_ms=12.5, worker_id="w")
    run.finish(outcome="success", termination_reason="goal_met")

document = run.build_trace()
assert_type(document, dict[str, Any])
assert_type(current_tracer(), LoopTracer | None)
assert_type(validate_trace(document), tuple[bool, list[str]])
assert_type(validate_file(Path("trace.json")), tuple[bool, list[str]])
assert_type(load_schema(), dict[str, Any])
assert_type(trajectory_from_trace(document), list[dict[str, Any]])
assert_type(effectiveness(0.4, 0.8), float)
assert_type(cumulative_les([0.4, 0.8]), float)
JsonlExporter("traces.jsonl").export(document)
with OtlpExporter("http://127.0.0.1:4318/v1/traces") as sender:
    sender.export(document)
    assert_type(sender.flush(timeout_seconds=5.0), bool)
    assert_type(sender.lost, int)


@trace_loop(loop_name="code-repair")
def loop(task: str) -> int:
    """Solve a task."""
    return len(task)


@trace_loop(loop_name="code-repair")
async def async_loop(task: str) -> int:
    """Solve a task."""
    return len(task)


async def use() -> None:
    """Call both; decorated functions keep their types."""
    assert_type(loop("a"), int)
    assert_type(await async_loop("a"), int)
    async with LoopTracer("code-repair") as tracer:
        assert_type(tracer, LoopTracer)


def episode(env: Any) -> None:
    """Trace an episode of any environment."""
    result, trace = run_traced_episode(env, task_id="cr-001", seed=1)
    assert_type(result, dict[str, Any])
    assert_type(trace, dict[str, Any])
