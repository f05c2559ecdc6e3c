"""What the demo tells: a line an episode, a table at the end."""

import json
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from loopotel_prom import ltf, semconv
from loopotel_prom.handle import Configuration


@dataclass(frozen=True, slots=True)
class Episode:
    """What is told of an episode that has ended."""

    number: int
    loop_name: str
    env_id: str
    task_id: str
    outcome: str
    goal_scores: list[float]
    les: float
    tokens: int
    trace_id: str


def episode_of(number: int, document: ltf.Document) -> Episode:
    """Take what is told of an episode from its document."""
    root, *others = document["spans"]
    steps = [s["attributes"] for s in others if s["kind"] == "iteration"]
    return Episode(
        number=number,
        loop_name=document["loop_name"],
        env_id=document.get("env_id", ""),
        task_id=document.get("task_id", ""),
        outcome=document["outcome"],
        goal_scores=[step[semconv.GOAL_SCORE] for step in steps],
        les=steps[-1][semconv.LES_CUMULATIVE] if steps else 0.0,
        tokens=root["attributes"][semconv.TOKENS_TOTAL],
        trace_id=document["trace_id"],
    )


@dataclass(slots=True)
class LoopSummary:
    """Totals of one loop."""

    runs: int = 0
    successes: int = 0
    iterations: int = 0
    tokens: int = 0
    les: list[float] = field(default_factory=list)

    @property
    def mean_les(self) -> float:
        """Mean final LES of the runs, 0 to 1."""
        return round(sum(self.les) / len(self.les), 4) if self.les else 0.0


class Summary:
    """Totals of all loops, by name."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.loops: defaultdict[str, LoopSummary] = defaultdict(LoopSummary)

    def add(self, episode: Episode) -> None:
        """Take in an episode."""
        loop = self.loops[episode.loop_name]
        loop.runs += 1
        loop.successes += episode.outcome == "success"
        loop.iterations += len(episode.goal_scores)
        loop.tokens += episode.tokens
        loop.les.append(episode.les)

    @property
    def runs(self) -> int:
        """All runs."""
        return sum(loop.runs for loop in self.loops.values())

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began


class Face:
    """Where the demo tells what happens."""

    def begin(self, configuration: Configuration) -> None:
        """Say where to look."""

    def episode(self, episode: Episode) -> None:
        """Tell of an episode that has ended."""

    def end(self, summary: Summary, archive: Path, unwritten: int) -> None:
        """Sum up."""


class TextFace(Face):
    """Lines and a table for people."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = Console(highlight=False, soft_wrap=True)

    def begin(self, configuration: Configuration) -> None:
        """Say where to look."""
        if self._quiet:
            return
        address = (configuration.url or "").removeprefix("http://")
        archive = configuration.archive
        self._console.print(f"metrics   {configuration.url}/metrics", markup=False)
        self._console.print(f"archive   {archive}/traces.jsonl", markup=False)
        self._console.print(
            f"scrape    add the target {address} to a Prometheus job\n", markup=False
        )

    def episode(self, episode: Episode) -> None:
        """Tell of an episode that has ended."""
        if self._quiet:
            return
        scores = " → ".join(f"{score:.2f}" for score in episode.goal_scores)
        self._console.print(
            f"{episode.number:>5}  {episode.loop_name:<28} {episode.task_id:<11}"
            f" {episode.outcome:<8} LES {episode.les:.2f} "
            f" {episode.tokens:>5} tokens  {scores}",
            markup=False,
        )

    def end(self, summary: Summary, archive: Path, unwritten: int) -> None:
        """Sum up."""
        table = Table(
            title=f"{summary.runs} runs in {summary.seconds:.1f} s", box=box.SIMPLE
        )
        table.add_column("loop", no_wrap=True)
        for title in ("runs", "success", "iterations", "mean LES", "tokens"):
            table.add_column(title, justify="right")
        for name, loop in sorted(summary.loops.items()):
            table.add_row(
                name,
                str(loop.runs),
                str(loop.successes),
                str(loop.iterations),
                f"{loop.mean_les:.2f}",
                str(loop.tokens),
            )
        self._console.print()
        self._console.print(table)
        if not unwritten:
            command = Path(sys.argv[0])
            program = command if command.name == "loopotel-prom" else "loopotel-prom"
            self._console.print(
                f"documents in {archive}/traces.jsonl;"
                f" check them: {program} validate {archive}/traces.jsonl",
                markup=False,
            )


class JsonFace(Face):
    """A JSON object a line for machines."""

    def begin(self, configuration: Configuration) -> None:
        """Say where to look."""
        archive = f"{configuration.archive}/traces.jsonl"
        self._print(event="begin", url=f"{configuration.url}/metrics", archive=archive)

    def episode(self, episode: Episode) -> None:
        """Tell of an episode that has ended."""
        self._print(event="episode", **asdict(episode))

    def end(self, summary: Summary, archive: Path, unwritten: int) -> None:
        """Sum up."""
        loops = {
            name: {
                "runs": loop.runs,
                "successes": loop.successes,
                "iterations": loop.iterations,
                "mean_les": loop.mean_les,
                "tokens": loop.tokens,
            }
            for name, loop in summary.loops.items()
        }
        self._print(
            event="summary",
            runs=summary.runs,
            seconds=round(summary.seconds, 3),
            archive=f"{archive}/traces.jsonl",
            unwritten=unwritten,
            loops=loops,
        )

    def _print(self, **values: Any) -> None:
        typer.echo(json.dumps(values))
