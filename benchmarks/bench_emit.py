"""
What does the tracer cost the loop?

``emit_iteration`` against the predecessor's, and against an OpenTelemetry SDK
span with the same attributes and events; at the 10th and at the 1,000,000th
iteration; with and without metrics and archive; disabled; and in memory.

Run: ``python -m benchmarks.bench_emit [--quick]``
"""

import argparse
import functools
import shutil
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopotel
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import loopotel_prom
from benchmarks.rounds import fastest, print_machine, seconds, verdict
from benchmarks.sink import sink
from loopotel_prom.pipeline import Pipeline, install

RUN = {"loop_name": "code-repair", "env_id": "prod/agent", "task_id": "cr-001"}
# Beyond this the predecessor, whose cost grows with n, takes minutes.
PEER_LIMIT = 1_000


def emits(tracer: Callable[..., Any], n: int, least: int = 3_000) -> float:
    """Give microseconds for each of the n iterations of a run, over many runs."""
    runs = max(1, least // n)
    taken = 0

    def work() -> None:
        nonlocal taken
        for _ in range(runs):
            with tracer(**RUN) as run:
                begin = time.perf_counter_ns()
                for number in range(1, n + 1):
                    run.emit_iteration(
                        iteration=number,
                        goal_score=0.66,
                        tokens_delta=120,
                        cost_usd=0.004,
                        latency_ms=12.5,
                        worker_id="implementer",
                        evaluator_id="rubric",
                    )
                taken += time.perf_counter_ns() - begin

    seconds(work)
    return taken / runs / n / 1e3


def whole_runs(tracer: Callable[..., Any], n: int, runs: int = 300) -> float:
    """Give microseconds an iteration, start and end of the run included."""

    def work() -> None:
        for _ in range(runs):
            with tracer(**RUN) as run:
                for number in range(1, n + 1):
                    run.emit_iteration(
                        iteration=number,
                        goal_score=0.66,
                        tokens_delta=120,
                        cost_usd=0.004,
                        latency_ms=12.5,
                        worker_id="implementer",
                        evaluator_id="rubric",
                    )

    return seconds(work) / runs / n * 1e6


def steps(n: int, runs: int = 300) -> float:
    """Give microseconds for an iteration with a worker and an evaluator inside."""

    def work() -> None:
        for _ in range(runs):
            with loopotel_prom.LoopTracer(**RUN) as run:
                for _ in range(n):
                    with run.iteration() as step:
                        with step.worker("implementer", role="coder") as worker:
                            worker.add_tokens(input=90, output=30)
                        with step.evaluator("rubric", type="llm_rubric") as judge:
                            judge.score(0.66)
                        step.goal_score(0.66)

    return seconds(work) / runs / n * 1e6


class OtelSpans:
    """An OpenTelemetry tracer that says what one of our iteration spans says."""

    def __init__(self) -> None:
        self._tracer = TracerProvider().get_tracer("bench")

    def emit(self, number: int) -> None:
        """Make one span with the attributes and events of an iteration."""
        with self._tracer.start_as_current_span("loop.iteration") as span:
            span.set_attributes(
                {
                    "loop.name": "code-repair",
                    "loop.env_id": "prod/agent",
                    "loop.task_id": "cr-001",
                    "loop.lss_version": "1.0.0",
                    "loop.les_version": "1.0.0",
                    "loop.iteration": number,
                    "loop.goal_score": 0.66,
                    "loop.goal_target": 0.8,
                    "loop.tokens_delta": 120,
                    "loop.cost_usd": 0.004,
                    "loop.latency_ms": 12.5,
                    "loop.les.cumulative_normalized": 0.825,
                    "loop.les.effectiveness": 0.825,
                    "loop.worker.id": "implementer",
                    "loop.evaluator.id": "rubric",
                }
            )
            span.add_event("loop.iteration.start", {"loop.iteration": number})
            span.add_event("loop.worker.complete", {"loop.worker.id": "implementer"})
            span.add_event(
                "loop.evaluator.complete",
                {"loop.evaluator.id": "rubric", "loop.goal_score": 0.66},
            )
            span.add_event(
                "loop.iteration.end",
                {"loop.iteration": number, "loop.goal_score": 0.66},
            )

    def __call__(self) -> float:
        """Give microseconds a span."""

        def work() -> None:
            for number in range(1, 1001):
                self.emit(number)

        return seconds(work) / 1000 * 1e6


def with_sinks(measure: Callable[[], float], **sinks: Any) -> Callable[[], float]:
    """Measure with these sinks configured, and nothing else."""

    def contender() -> float:
        if sinks.get("none"):
            install(Pipeline())
            return measure()
        with loopotel_prom.configure(
            listen=None, registry=CollectorRegistry(), **sinks
        ):
            return measure()

    return contender


def with_receiver(measure: Callable[[], float]) -> Callable[[], float]:
    """Measure with metrics, and spans sent to a receiver in another process."""

    def contender() -> float:
        with sink() as address:
            return with_sinks(measure, otlp=address)()

    return contender


def disabled_call() -> float:
    """Give microseconds for a call of a disabled tracer."""
    run = loopotel_prom.LoopTracer(**RUN, enabled=False)
    emit = run.emit_iteration

    def work() -> None:
        for number in range(100_000):
            emit(iteration=number, goal_score=0.66, tokens_delta=120)

    return seconds(work) / 100_000 * 1e6


def import_milliseconds(module: str, runs: int = 20) -> float:
    """Give the milliseconds that importing a module takes a fresh interpreter."""
    code = (
        "import time; begin = time.perf_counter();"
        f"import {module}; print((time.perf_counter() - begin) * 1e3)"
    )
    command = [sys.executable, "-c", code]
    return min(
        float(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603 - ours
        for _ in range(runs)
    )


def bytes_an_iteration(tracer: Callable[..., Any], n: int = 10_000) -> float:
    """Give the memory that a run keeps for each iteration."""
    tracemalloc.start()
    with tracer(**RUN) as run:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1, n + 1):
            run.emit_iteration(
                iteration=number,
                goal_score=0.66,
                tokens_delta=120,
                cost_usd=0.004,
                latency_ms=12.5,
                worker_id="implementer",
                evaluator_id="rubric",
            )
        kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return kept / n


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out n > 1,000")
    quick = parser.parse_args().quick
    print_machine("loopotel", "opentelemetry-sdk", "prometheus-client", "msgspec")
    ours, theirs = loopotel_prom.LoopTracer, loopotel.LoopTracer
    folder = Path(tempfile.mkdtemp())
    figures = fastest(
        {
            "predecessor, n = 10": lambda: emits(theirs, 10),
            "metrics + trace, n = 10": with_sinks(lambda: emits(ours, 10)),
            "trace alone, n = 10": with_sinks(lambda: emits(ours, 10), none=True),
            "with archive, n = 10": with_sinks(lambda: emits(ours, 10), archive=folder),
            "with OTLP, n = 10": with_receiver(lambda: emits(ours, 10)),
            "whole runs of 10, predecessor": lambda: whole_runs(theirs, 10),
            "whole runs of 10, metrics + trace": with_sinks(
                lambda: whole_runs(ours, 10)
            ),
            "whole runs of 10, with archive": with_sinks(
                lambda: whole_runs(ours, 10), archive=folder
            ),
            "step, worker and evaluator, n = 10": with_sinks(lambda: steps(10)),
            "OpenTelemetry span": OtelSpans(),
            "disabled": disabled_call,
        }
    )
    sizes = [1_000] if quick else [1_000, 100_000, 1_000_000]
    for n in sizes:
        mine = with_sinks(functools.partial(emits, ours, n))
        contenders: dict[str, Callable[[], float]] = {
            f"metrics + trace, n = {n:,}": mine
        }
        if n <= PEER_LIMIT:
            contenders[f"predecessor, n = {n:,}"] = functools.partial(emits, theirs, n)
        # Beside it in the same rounds: a machine's speed changes from minute to minute.
        contenders["predecessor, n = 10, later"] = lambda: emits(theirs, 10)
        contenders["metrics + trace, n = 10, later"] = with_sinks(
            lambda: emits(ours, 10)
        )
        figures |= fastest(contenders, rounds=3)
    shutil.rmtree(folder)
    print("Microseconds an iteration:")
    for name, figure in figures.items():
        print(f"  {name:<40} {figure:9.3f}")
    print("Bytes an iteration:")
    print(f"  {'ours':<40} {bytes_an_iteration(ours):9.0f}")
    print(f"  {'predecessor':<40} {bytes_an_iteration(theirs):9.0f}")
    print("Milliseconds of import:")
    imported = import_milliseconds("loopotel_prom")
    print(f"  {'loopotel_prom':<40} {imported:9.1f}")
    print(f"  {'of which msgspec':<40} {import_milliseconds('msgspec'):9.1f}\n")
    judge(figures, sizes[-1], imported)


def judge(figures: dict[str, float], largest: int, imported: float) -> None:
    """Print the goals, and what became of them."""
    peer, ours = figures["predecessor, n = 10"], figures["metrics + trace, n = 10"]
    long = figures[f"metrics + trace, n = {largest:,}"]
    later = figures["metrics + trace, n = 10, later"]
    peer_later = figures["predecessor, n = 10, later"]
    verdict("metrics + trace, n = 10, against the predecessor", peer / ours, 5)
    verdict(f"cost at n = {largest:,} over that at n = 10", long / later, 1.3, "of")
    # Metrics are taken in by batches, of which a run of 10 ends before the first.
    verdict(f"the same at n = {largest:,}, against it at n = 10", peer_later / long, 5)
    verdict(
        "with archive, n = 10, against the predecessor in memory",
        peer / figures["with archive, n = 10"],
        2,
    )
    verdict("against an OpenTelemetry span", figures["OpenTelemetry span"] / ours, 6)
    verdict("disabled", figures["disabled"], 0.3, "us")
    verdict("import loopotel_prom", imported, 60, "ms")


if __name__ == "__main__":
    main()
