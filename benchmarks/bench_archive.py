"""
What does the archive cost, and how fast is what it keeps read again?

``emit_iteration`` at each durability; a document appended, against the
predecessor's JsonlExporter, same documents, same folder; runs sealed; the recovery
of 1,000,000 journalled iterations; reading; memory.

Run: ``python -m benchmarks.bench_archive [--quick]``
"""

import argparse
import functools
import itertools
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import loopotel
from loopotel.exporter.jsonl import JsonlExporter as TheirExporter
from prometheus_client import CollectorRegistry

import loopotel_prom
import loopotel_prom.pipeline
from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom.archive.reader import read_archive
from loopotel_prom.exporter import JsonlExporter

RUN = {"loop_name": "code-repair", "env_id": "prod/agent", "task_id": "cr-001"}
ITERATION = {
    "goal_score": 0.66,
    "tokens_delta": 120,
    "cost_usd": 0.004,
    "latency_ms": 12.5,
    "worker_id": "implementer",
    "evaluator_id": "rubric",
}
DURABILITIES = ("none", "process", "run", "power")
# The same work in a process of its own: what it adds to its memory is then known.
LONG_RUN = """
import os, resource, sys
import loopotel_prom
folder, n, end = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def rss():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with loopotel_prom.configure(listen=None, archive=folder) as archive:
    run = loopotel_prom.LoopTracer("code-repair", env_id="prod/agent")
    run.__enter__()
    for number in range(1, n + 1):
        if number == 1000:
            before = rss()
        run.emit_iteration(iteration=number, goal_score=0.66, tokens_delta=120,
            cost_usd=0.004, latency_ms=12.5, worker_id="w", evaluator_id="e")
    if end == "killed":
        print(rss() - before, flush=True)
        os._exit(0)
    run.__exit__(None, None, None)
print(rss() - before)
"""
RECOVER = """
import resource, sys, time
from pathlib import Path
from loopotel_prom.archive.recovery import recover
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
found = recover(Path(sys.argv[1]))
took = time.perf_counter() - begin
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
assert len(found.runs) == 1, found
print(took, grown)
"""


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
                    run.emit_iteration(iteration=number, **ITERATION)
                taken += time.perf_counter_ns() - begin

    seconds(work)
    return taken / runs / n / 1e3


def archived(
    measure: Callable[[], float], folder: Path, durability: Any
) -> Callable[[], float]:
    """Measure with an archive in the folder."""

    def contender() -> float:
        with loopotel_prom.configure(
            listen=None,
            registry=CollectorRegistry(),
            archive=folder / durability,
            durability=durability,
        ):
            return measure()

    return contender


def runs_of_ten(count: int) -> float:
    """Give microseconds a run of ten iterations, sealed."""

    def work() -> None:
        for _ in range(count):
            with loopotel_prom.LoopTracer(**RUN) as run:
                for number in range(1, 11):
                    run.emit_iteration(iteration=number, **ITERATION)

    return seconds(work) / count * 1e6


def document(iterations: int) -> dict[str, Any]:
    """Make a document that both exporters can write."""
    run = loopotel_prom.LoopTracer(**RUN, pipeline=loopotel_prom.pipeline.Pipeline())
    with run:
        for number in range(1, iterations + 1):
            run.emit_iteration(iteration=number, **ITERATION)
    return run.build_trace()


def exports(exporter: Any, trace: dict[str, Any], count: int) -> float:
    """Give microseconds for appending a document."""

    def work() -> None:
        for _ in range(count):
            exporter.export(trace)

    return seconds(work) / count * 1e6


def in_a_process(code: str, *arguments: object) -> list[float]:
    """Run a program; give the numbers that it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    return [float(word) for word in ended.stdout.split()]


def reading(folder: Path) -> tuple[float, float]:
    """Give MB/s of listing an archive's runs, and the memory that it took."""
    size = sum(path.stat().st_size for path in folder.glob("traces*.jsonl")) / 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = seconds(lambda: [None for _ in read_archive(folder)])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return size / took, grown / 1024


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    quick = parser.parse_args().quick
    print_machine("loopotel", "msgspec", "backports.zstd")
    folder = Path(tempfile.mkdtemp())
    try:
        measure(folder, quick=quick)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, *, quick: bool) -> None:
    """Measure everything in a folder."""
    rounds = 3 if quick else 9
    ours, theirs = loopotel_prom.LoopTracer, loopotel.LoopTracer
    contenders: dict[str, Callable[[], float]] = {
        "predecessor in memory, n = 10": lambda: emits(theirs, 10)
    }
    for mode in DURABILITIES:
        least = 200 if mode == "power" else 3_000
        contenders[f"durability {mode}, n = 10"] = archived(
            functools.partial(emits, ours, 10, least), folder, mode
        )
    for mode in DURABILITIES:
        count = 20 if mode in ("power", "run") else 300
        contenders[f"a run of 10, {mode}"] = archived(
            functools.partial(runs_of_ten, count), folder, mode
        )
    for n in (1, 10, 50, 500):
        trace, count = document(n), max(20, 2_000 // n)
        for name, make in (("ours", JsonlExporter), ("predecessor", TheirExporter)):
            exporter = make(folder / f"{name}.jsonl")
            contenders[f"append {n} iterations, {name}"] = functools.partial(
                exports, exporter, trace, count
            )
    figures = fastest(contenders, rounds)
    print("Microseconds:")
    for name, figure in figures.items():
        print(f"  {name:<44} {figure:10.2f}")
    judge(figures)
    longs(folder, 100_000 if quick else 1_000_000)


def judge(figures: dict[str, float]) -> None:
    """Print the goals, and what became of them."""
    peer = figures["predecessor in memory, n = 10"]
    with_archive = figures["durability process, n = 10"]
    print()
    verdict("process durability, against the predecessor", peer / with_archive, 2)
    for n in (1, 10, 50, 500):
        theirs = figures[f"append {n} iterations, predecessor"]
        mine = figures[f"append {n} iterations, ours"]
        verdict(f"append a document of {n} iterations", theirs / mine, 3)


def longs(folder: Path, n: int) -> None:
    """Measure one run of n iterations: journalled, recovered, sealed, read."""
    print(f"\nA run of {n:,} iterations:")
    killed = folder / "killed"
    begin = time.perf_counter()
    (grown,) = in_a_process(LONG_RUN, killed, n, "killed")
    took = time.perf_counter() - begin
    print(f"  journalled in {took:.1f} s, the process included")
    verdict("the program's memory grew by", grown, 50, "MB")
    took, grown = in_a_process(RECOVER, killed)
    verdict(f"recovery of {n:,} iterations", took, 10 * n / 1e6, "s")
    verdict("its memory grew by", grown, 50, "MB")
    (grown,) = in_a_process(LONG_RUN, folder / "ended", n, "ended")
    verdict("a program that ends its run itself grew by", grown, 50, "MB")
    many = folder / "many"
    line = loopotel_prom.ltf.encode(document(50))
    ids = itertools.count(1)
    many.mkdir()
    with (many / "traces.jsonl").open("wb") as file:
        start = line.index(b"ltf-")
        for _ in range(n // 100):
            trace_id = b"ltf-00000000-0000-4000-8000-%012x" % next(ids)
            file.write(line[:start] + trace_id + line[start + len(trace_id) :] + b"\n")
    rate, grown = reading(many)
    print(f"  {n // 100:,} runs listed at {rate:.0f} MB/s, memory +{grown:.0f} MB")


if __name__ == "__main__":
    main()
