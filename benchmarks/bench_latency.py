"""
What does a scrape cost the loop?

The latency of ``emit_iteration``, and how late an iteration is reported, in a process
whose endpoint another process scrapes ten times a second, with about 5,000 series on
the page; against the same without scrapes. Four threads report 2,000 iterations a
second between them, or as many as they can.

*Emit* is the call. *Late* is from when an iteration was due until it had been
reported: what the call does not see, for the thread had to wait to get that far.

Run: ``python -m benchmarks.bench_latency [--quick]``
"""

import argparse
import http.client
import itertools
import multiprocessing
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import NamedTuple

from prometheus_client import CollectorRegistry

import loopotel_prom
from benchmarks.rounds import print_machine, verdict
from loopotel_prom import LoopTracer

GOAL_MS = 1.0
SERIES = 5_000
THREADS = 4
PACES = {"paced": 2_000, "flat out": None}
SCRAPE_SECONDS = 0.1
# Of a run; then the next begins.
ITERATIONS = 200
FORMATS = ("text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0")


class Latencies(NamedTuple):
    """Milliseconds: of the calls, and from when they were due to their end."""

    emit: list[float]
    late: list[float]


class Scrapes(NamedTuple):
    """What the scraping process saw."""

    milliseconds: list[float]
    lines: int


def host_of(configuration: loopotel_prom.Configuration) -> str:
    """Give the endpoint's host and port."""
    return str(configuration.url).removeprefix("http://")


def fetch(connection: http.client.HTTPConnection, accept: str) -> bytes:
    """Scrape once."""
    connection.request("GET", "/metrics", headers={"Accept": accept})
    return connection.getresponse().read()


def series(page: bytes) -> int:
    """Count the series of a page."""
    return sum(not line.startswith(b"#") for line in page.splitlines())


def scrape(host: str, pipe: Connection) -> None:
    """Scrape on schedule until told to stop: the other process's whole work."""
    connection = http.client.HTTPConnection(host)
    taken: list[float] = []
    page = b""
    due = time.monotonic()
    for accept in itertools.cycle(FORMATS):
        begin = time.perf_counter()
        page = fetch(connection, accept)
        taken.append((time.perf_counter() - begin) * 1e3)
        due += SCRAPE_SECONDS
        if pipe.poll(max(0.0, due - time.monotonic())):
            break
    connection.close()
    pipe.send(Scrapes(taken, series(page)))


@contextmanager
def scraped(
    configuration: loopotel_prom.Configuration, seen: list[Scrapes]
) -> Iterator[None]:
    """Have another process scrape meanwhile; what it saw is added to `seen`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=scrape, args=(host_of(configuration), theirs))
    process.start()
    # To start Python is no scrape.
    configuration.drain(30)
    try:
        yield
    finally:
        ours.send(None)
        seen.append(ours.recv())
        process.join()


def emit(loops: Sequence[str], until: float, period: float) -> Latencies:
    """Report iterations of run after run: one each `period` seconds, or flat out."""
    taken = Latencies([], [])
    due = time.perf_counter()
    for loop_name in itertools.cycle(loops):
        with LoopTracer(loop_name, env_id="prod/agent") as run:
            for number in range(1, ITERATIONS + 1):
                due += period
                ahead = due - time.perf_counter()
                if ahead > 0:
                    time.sleep(ahead)
                begin = time.perf_counter()
                run.emit_iteration(
                    iteration=number,
                    goal_score=0.66,
                    tokens_delta=120,
                    cost_usd=0.004,
                    latency_ms=12.5,
                    worker_id="implementer",
                    evaluator_id="rubric",
                )
                end = time.perf_counter()
                taken.emit.append((end - begin) * 1e3)
                taken.late.append((end - due) * 1e3)
                if end > until:
                    return taken
    return taken


def emit_all(loops: Sequence[str], seconds: float, rate: int | None) -> Latencies:
    """Report from all threads, each with loops of its own to begin with."""
    until = time.perf_counter() + seconds
    period = THREADS / rate if rate else 0.0
    share = len(loops) // THREADS
    turned = [[*loops[n * share :], *loops[: n * share]] for n in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(emit, turned, [until] * THREADS, [period] * THREADS))
    return Latencies(
        *(list(itertools.chain(*each)) for each in zip(*parts, strict=True))
    )


def fill(configuration: loopotel_prom.Configuration) -> list[str]:
    """Run so many loops that the page has about `SERIES` series."""
    connection = http.client.HTTPConnection(host_of(configuration))
    loops: list[str] = []
    while not loops or series(fetch(connection, FORMATS[0])) < SERIES:
        loops.append(f"code-repair-{len(loops)}")
        emit(loops[-1:], 0.0, 0.0)
    connection.close()
    return loops


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def row(name: str, values: Sequence[float]) -> str:
    """Give a line of the table."""
    figures = [percentile(values, percent) for percent in (50, 99, 99.9)]
    columns = "".join(f"{figure:10.3f}" for figure in (*figures, max(values)))
    return f"  {name:<34}{len(values):>10,}{columns}"


def calmest(rounds: Iterable[Sequence[float]]) -> Sequence[float]:
    """Give the round with the least p99: noise only ever adds."""
    return min(rounds, key=lambda values: percentile(values, 99))


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    rounds, length = (1, 3.0) if parser.parse_args().quick else (5, 6.0)
    print_machine("prometheus-client")
    taken: dict[str, list[Latencies]] = defaultdict(list)
    seen: dict[str, list[Scrapes]] = defaultdict(list)
    with loopotel_prom.configure(
        listen="127.0.0.1:0", registry=CollectorRegistry(), max_series=100_000
    ) as configuration:
        loops = fill(configuration)
        for _ in range(rounds):
            for pace, rate in PACES.items():
                taken[pace].append(emit_all(loops, length, rate))
                with scraped(configuration, seen[pace]):
                    taken[f"{pace}, scraped"].append(emit_all(loops, length, rate))
    report(taken, seen)


def report(
    taken: Mapping[str, Sequence[Latencies]], seen: Mapping[str, Sequence[Scrapes]]
) -> None:
    """Print the latencies, and what became of the goal."""
    columns = "".join(f"{name:>10}" for name in ("p50", "p99", "p99.9", "max"))
    print(f"Milliseconds:\n  {'':<34}{'emits':>10}{columns}")
    for name, rounds in taken.items():
        print(row(f"{name}: emit", calmest(each.emit for each in rounds)))
        if name.startswith("paced"):
            print(row(f"{name}: late", calmest(each.late for each in rounds)))
    for pace, scrapes in seen.items():
        milliseconds = list(itertools.chain(*(each.milliseconds for each in scrapes)))
        lines = f"{max(each.lines for each in scrapes):,} series"
        print(row(f"{pace}: scrapes of {lines}", milliseconds))
    print()
    for pace in PACES:
        emits = calmest(each.emit for each in taken[f"{pace}, scraped"])
        verdict(f"{pace}, scraped: emit, p99", percentile(emits, 99), GOAL_MS, "ms")


if __name__ == "__main__":
    main()
