"""
What does a verdict cost?

`validate_trace` against the predecessor's, on a valid document of 50 iterations;
and how fast documents are read from a file and judged: held, one to a line, and
in pieces, one line of hundreds of megabytes.

Run: ``python -m benchmarks.bench_validate [--quick]``
"""

import argparse
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopotel.validate import validate_trace as peer_verdict

from benchmarks.rounds import fastest, print_machine, seconds, verdict
from loopotel_prom import LoopTracer
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import BadLine, read_documents, zstd
from loopotel_prom.ltf import encode
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.validate import HELD_BYTES, validate_documents, validate_trace

ITERATIONS = 50
# Of a line that is read in pieces.
READ_GOAL = 60e6


def document(iterations: int) -> dict[str, Any]:
    """Make the document of a run."""
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
    return run.build_trace()


def microseconds(judge: Callable[[object], tuple[bool, list[str]]], n: int) -> float:
    """Give microseconds for a verdict, over n of them."""
    trace = document(ITERATIONS)
    if judge(trace) != (True, []):
        raise ValueError("the document is to be valid")

    def work() -> None:
        for _ in range(n):
            judge(trace)

    return seconds(work) / n * 1e6


def write_archives(folder: Path, megabytes: int) -> dict[str, Path]:
    """Write about as many bytes as lines of 50 iterations and as one line."""
    line = encode(document(ITERATIONS)) + b"\n"
    short = folder / "short.jsonl"
    with short.open("wb") as file:
        file.writelines([line] * (megabytes * 1_000_000 // len(line)))
    trace = document(900)
    before, after = encode(trace | {"spans": [None]}).split(b"null]")
    spans = b",".join(map(encode, trace["spans"]))
    row = [spans, *[b"," + spans] * (megabytes * 1_000_000 // len(spans))]
    long, packed = folder / "long.jsonl", folder / "long.jsonl.zst"
    with long.open("wb") as file, zstd.open(packed, "wb") as archive:
        for stream in file, archive:
            stream.writelines([before, *row, b"]", after, b"\n"])
    return {"ordinary lines": short, "a long line": long, "a long line, zstd": packed}


def read(path: Path) -> None:
    """Read all spans of a file."""
    for item in read_documents(path, held_bytes=HELD_BYTES):
        if isinstance(item, BadLine):
            raise TypeError(item.fault)
        for _ in DocumentStream(item).batches():
            pass


def judge_all(path: Path) -> None:
    """Judge all documents of a file."""
    if not all(found.valid for found in validate_documents(path)):
        raise ValueError("the documents are to be valid")


def rates(paths: dict[str, Path]) -> dict[str, float]:
    """Give bytes a second, before compression, for reading and judging each file."""
    sizes = {"ordinary lines": paths["ordinary lines"].stat().st_size}
    long = paths["a long line"].stat().st_size
    work = {"read": read, "judge": judge_all}
    taken = fastest(
        {
            f"{verb} {name}": functools.partial(
                seconds, functools.partial(work[verb], path)
            )
            for verb in work
            for name, path in paths.items()
        },
        rounds=3,
    )
    return {
        name: sizes.get(name.split(" ", 1)[1], long) / figure
        for name, figure in taken.items()
    }


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="read 20 MB, not 200")
    quick = parser.parse_args().quick
    print_machine("loopotel", "jsonschema", "jsonschema-rs", "msgspec")
    figures = fastest(
        {
            "predecessor": lambda: microseconds(peer_verdict, 3),
            "ours": lambda: microseconds(validate_trace, 300),
        }
    )
    print(f"Microseconds for a verdict on {ITERATIONS} iterations:")
    for name, figure in figures.items():
        print(f"  {name:<40} {figure:9.1f}")
    with tempfile.TemporaryDirectory() as folder:
        paths = write_archives(Path(folder), 20 if quick else 200)
        found = rates(paths)
    print("\nMB/s, uncompressed:")
    for name, rate in found.items():
        print(f"  {name:<40} {rate / 1e6:9.1f}")
    print()
    times = figures["predecessor"] / figures["ours"]
    verdict("a verdict, against the predecessor", times, 100)
    slowest = min(found["read a long line"], found["read a long line, zstd"])
    verdict("reading a long line, against 60 MB/s", slowest / READ_GOAL, 1)


if __name__ == "__main__":
    main()
