"""
How the benchmarks measure: side by side, in rounds, as ratios.

Contenders take turns, so that a machine that slows down slows all of them down.
Of each, the fastest round counts: noise only ever adds.
"""

import gc
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Contender = Callable[[], float]


def print_machine(*packages: str) -> None:
    """Print the machine and the versions that the figures belong to."""
    print(f"{platform.platform()}, {os.cpu_count()} cores, {_processor()}")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    print(", ".join([f"Python {platform.python_version()}", *versions]))
    print()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line for line in lines if line.startswith("model name")]
    return names[0].split(":")[1].strip() if names else platform.machine()


def seconds(work: Callable[[], object]) -> float:
    """Time one call, without garbage collection by chance in it."""
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    finally:
        gc.enable()


def fastest(contenders: Mapping[str, Contender], rounds: int = 9) -> dict[str, float]:
    """
    Let each contender give a figure in each round; the least of each counts.

    A figure is what the contender returns, in any unit.
    """
    best = dict.fromkeys(contenders, float("inf"))
    for _ in range(rounds):
        for name, contender in contenders.items():
            best[name] = min(best[name], contender())
    return best


def verdict(question: str, figure: float, goal: float, unit: str = "x") -> None:
    """Print a figure against its goal; a ratio is to be reached, a time kept."""
    kept = figure >= goal if unit == "x" else figure <= goal
    sign = ">=" if unit == "x" else "<="
    outcome = "reached" if kept else "MISSED"
    print(f"  {question:<58} {figure:8.2f} {unit:<3} {sign} {goal:g}  {outcome}")
