"""
How fast does an archive become the history of its metrics, and at what size?

A thousand overlapping runs of 50 iterations, from reading to the points, and to the
OpenMetrics files, as ``loopotel-prom export openmetrics`` has them; and to a live
pipeline, as ``loopotel-prom replay --speed max``. In iterations a second.

Run: ``python -m benchmarks.bench_history [--quick]``
"""

import argparse
import random
import tempfile
import time
from pathlib import Path

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom.archive.reader import read_archive
from loopotel_prom.exporter.jsonl import JsonlExporter
from loopotel_prom.exporter.openmetrics import OpenMetricsFiles
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.replay import Pace, Player, Timeline, history
from loopotel_prom.testing import ManualClock, SequentialIds
from loopotel_prom.tracer import LoopTracer

ITERATIONS = 50
GOAL = 20_000


def write(folder: Path, runs: int) -> None:
    """Write an archive of runs, several of which are under way at a time."""
    chance, ids = random.Random(1), SequentialIds()
    exporter = JsonlExporter(folder / "traces.jsonl")
    for number in range(runs):
        clock = ManualClock(1_700_000_000 * 10**9 + number * 100 * 10**9)
        tracer = LoopTracer("code-repair", clock=clock, ids=ids, pipeline=Pipeline())
        with tracer as run:
            for iteration in range(1, ITERATIONS + 1):
                clock.advance(seconds=round(chance.uniform(1, 10), 3))
                run.emit_iteration(
                    iteration=iteration,
                    goal_score=round(chance.random(), 3),
                    tokens_delta=900,
                    cost_usd=0.01,
                    latency_ms=1000.0,
                    worker_id="implementer",
                    evaluator_id="rubric",
                )
            run.finish(outcome="success", termination_reason="goal_met")
        exporter.export(run.build_trace())


def _read(folder: Path) -> Timeline:
    timeline = Timeline()
    timeline.read(read_archive(folder / "traces.jsonl"), print)
    return timeline


def points(folder: Path) -> int:
    """Make the history, and count its points."""
    with _read(folder) as timeline:
        return sum(instant.size for instant in history(timeline))


def files(folder: Path, target: Path) -> None:
    """Make the files."""
    with _read(folder) as timeline:
        OpenMetricsFiles(target).write(history(timeline))


def files_seconds(folder: Path) -> tuple[float, float]:
    """Time it, by the clock and by the processor; what was made goes untimed."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        begin = time.process_time()
        by_clock = seconds(lambda: files(folder, Path(target)))
        return by_clock, time.process_time() - begin


def size_of_files(folder: Path) -> int:
    """Make the files, and give their bytes."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        files(folder, Path(target))
        return sum(file.stat().st_size for file in Path(target).iterdir())


def play(folder: Path) -> None:
    """Play into a metrics processor, without waiting."""
    pace = Pace(
        speed=0.0, max_gap_seconds=None, wait=lambda _: False, monotonic=lambda: 0.0
    )
    pipeline = Pipeline([MetricsProcessor(health=Health())])
    with _read(folder) as timeline:
        Player(pipeline, pace, None).play(timeline, lambda: None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    runs, rounds = (100, 2) if quick else (1000, 5)
    print_machine("msgspec")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, runs)
        iterations = runs * ITERATIONS
        made, size = points(folder), size_of_files(folder)
        print(f"{made / iterations:.0f} points, {size / iterations:.0f} bytes each\n")
        best = fastest(
            {
                "read": lambda: seconds(lambda: _read(folder).close()),
                "points": lambda: seconds(lambda: points(folder)),
                "files": lambda: files_seconds(folder)[0],
                "files, by the processor": lambda: files_seconds(folder)[1],
                "replay": lambda: seconds(lambda: play(folder)),
            },
            rounds,
        )
        for what, took in best.items():
            print(f"  {what:<24} {iterations / took:10,.0f} iterations/s")
        for what in ("files", "replay"):
            share = iterations / best[what] / GOAL
            verdict(f"{what}: share of {GOAL} iterations/s", share, 1.0)


if __name__ == "__main__":
    main()
