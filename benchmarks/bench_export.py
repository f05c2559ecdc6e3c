"""
How fast do runs become LoopNet records: on one core, on two, and in what memory?

Files of runs of 10, 50 and 500 iterations, from reading to the records' bytes, as
``loopotel-prom export loopnet`` does it, without the start of the interpreter. Then two
processes, and two workers of a Dask cluster on this machine, against one. Then the
command itself over 0.1 and 2 GB: what the largest of its processes holds.

Run: ``python -m benchmarks.bench_export [--quick]``
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from distributed import LocalCluster

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom import LoopTracer
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import Entry
from loopotel_prom.engine import Engine, open_engine, run
from loopotel_prom.exporter.loopnet import RecordOptions, record_from_line
from loopotel_prom.ltf import encode
from loopotel_prom.pipeline import Pipeline

LENGTHS = (10, 50, 500)
GOAL = 100e6
FLAT_MEGABYTES = 100
_PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
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


def record(entry: Entry) -> bytes:
    """Make the record of a run."""
    return encode(record_from_line(entry.line, OPTIONS))


def export(path: Path, engine: Engine) -> None:
    """Make the record of each run in a file."""
    for done in run(record, path, engine=engine):
        if isinstance(done, BadLine):
            raise TypeError(done.fault)


def one_core(folder: Path, megabytes: int) -> None:
    """Compare with the goal, by the length of runs."""
    paths = {n: write(folder / f"{n}.jsonl", n, megabytes) for n in LENGTHS}
    taken = fastest(
        {
            str(n): functools.partial(
                seconds, functools.partial(export, path, Engine())
            )
            for n, path in paths.items()
        },
        rounds=20,  # short ones: some meet with no other work
    )
    for iterations, path in paths.items():
        rate = path.stat().st_size / taken[str(iterations)]
        question = f"runs of {iterations} iterations, against 100 MB/s"
        verdict(question, rate / GOAL, 1)
        # What it takes of a core that others want, too.
        begin = time.process_time()
        export(path, Engine())
        rate = path.stat().st_size / (time.process_time() - begin)
        print(f"    {rate / 1e6:.0f} MB a second of CPU")


@contextmanager
def engines() -> Iterator[dict[str, Engine]]:
    """Start two of each kind, and see them at work before they are measured."""
    with ExitStack() as stack:
        cluster = stack.enter_context(
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        )
        address = cluster.scheduler_address
        made = {
            "one process": Engine(),
            "two processes": open_engine(jobs=2),
            "two Dask workers": open_engine("dask", scheduler=address),
        }
        for engine in made.values():
            stack.enter_context(engine)
        yield made


def two_cores(folder: Path, megabytes: int) -> None:
    """Compare two workers with one process."""
    path = write(folder / "two.jsonl", 50, megabytes)
    with engines() as made:
        contenders = {
            name: functools.partial(seconds, functools.partial(export, path, engine))
            for name, engine in made.items()
        }
        for contender in contenders.values():
            contender()
        taken = fastest(contenders, rounds=3)
    one = taken.pop("one process")
    for name, found in taken.items():
        verdict(f"{name}, against one process", one / found, 1)


def memory(folder: Path, megabytes: int) -> None:
    """Compare what the command holds, over little and over much."""
    small = write(folder / "small.jsonl", 10, 100)
    large = write(folder / "large.jsonl", 10, megabytes)
    for name, options in {
        "one process": ("--engine", "none"),
        "two processes": ("--jobs", "2"),
    }.items():
        least, most = (peak(path, *options) for path in (small, large))
        print(
            f"  {name}: {least:.0f} MB over 0.1 GB, {most:.0f} MB over {megabytes} MB"
        )
        verdict(f"{name}, grown by", most - least, FLAT_MEGABYTES, "MB")


def peak(path: Path, *options: str) -> float:
    """Run the command; give the most that one of its processes held, in megabytes."""
    goal = ("--goal", "repair the code at hand", "--output", os.devnull)
    command = (sys.executable, "-m", "loopotel_prom.cli", "export", "loopnet")
    # Not our own child: what we hold would count as its own.
    small = (sys.executable, "-ISc", _PEAK)
    told = subprocess.run(  # noqa: S603 - our own command
        [*small, *command, str(path), *goal, *options],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    return int(told.stdout) * 1024 / 1e6


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the bytes")
    share = 10 if parser.parse_args().quick else 1
    print_machine("distributed", "jsonschema-rs", "msgspec")
    print(f"load: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one_core(folder, 20 // share)
        two_cores(folder, 600 // share)
        memory(folder, 2000 // share)
    print(f"load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
