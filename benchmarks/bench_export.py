"""
How fast do runs become LoopNet records, on one core?

Files of runs of 10, 50 and 500 iterations, from reading to the records' bytes, as
``loopotel-prom export loopnet`` does it, without the start of the interpreter.

Run: ``python -m benchmarks.bench_export [--quick]``
"""

import argparse
import functools
import tempfile
import uuid
from pathlib import Path

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom import LoopTracer
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import read_archive
from loopotel_prom.exporter.loopnet import RecordOptions, record_from_line
from loopotel_prom.ltf import encode
from loopotel_prom.pipeline import Pipeline

LENGTHS = (10, 50, 500)
GOAL = 100e6
OPTIONS = RecordOptions(objective="repair the code at hand")


def write(path: Path, iterations: int, megabytes: int) -> Path:
    """Write about as many bytes of runs, each with an id of its own."""
    with LoopTracer("code-repair", env_id="prod/agent", pipeline=Pipeline()) as run:
        for number in range(1, iterations + 1):
            run.emit_iteration(
                iteration=number,
                goal_score=0.66,
                tokens_delta=120,
                cost_usd=0.004,
                latency_ms=12.5,
                worker_id="implementer",
                evaluator_id="rubric",
            )
        run.finish(outcome="success", termination_reason="goal_met")
    trace = run.build_trace()
    before, after = encode(trace).split(trace["trace_id"].encode(), 1)
    lines = megabytes * 1_000_000 // (len(before) + len(after))
    with path.open("wb") as file:
        for number in range(lines):
            trace_id = f"ltf-{uuid.UUID(int=number)}"
            file.writelines((before, trace_id.encode(), after, b"\n"))
    return path


def export(path: Path) -> None:
    """Make the record of each run in a file."""
    for entry in read_archive(path):
        if isinstance(entry, BadLine):
            raise TypeError(entry.fault)
        encode(record_from_line(entry.line, OPTIONS))


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="files of 10 MB, not 100")
    megabytes = 10 if parser.parse_args().quick else 100
    print_machine("jsonschema-rs", "msgspec")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = {n: write(folder / f"{n}.jsonl", n, megabytes) for n in LENGTHS}
        taken = fastest(
            {
                str(n): functools.partial(seconds, functools.partial(export, path))
                for n, path in paths.items()
            },
            rounds=3,
        )
        rates = {n: path.stat().st_size / taken[str(n)] for n, path in paths.items()}
    for iterations, rate in rates.items():
        question = f"runs of {iterations} iterations, against 100 MB/s"
        verdict(question, rate / GOAL, 1)


if __name__ == "__main__":
    main()
