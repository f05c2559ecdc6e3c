"""A simulated month: an archive of it, and what is to be found in its history."""

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loopotel_prom import ltf
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock, SequentialIds
from loopotel_prom.tracer import LoopTracer

DAYS = 30
_DAY_NS = 86_400 * 10**9
_MS = 1_000_000
# How long a run keeps its slot after its end, as the history has it unless told.
_LINGER_NS = 30 * 10**9
_TARGET = 0.8


@dataclass(frozen=True)
class Step:
    """One iteration, as it was reported; `score` and `les` as they are shown."""

    end_ns: int
    score: float
    les: float
    tokens: int
    cost_usd: float
    seconds: float


@dataclass
class Run:
    """One run, as it was reported, and the slot that it should have."""

    loop: str
    start_ns: int
    end_ns: int
    outcome: str
    steps: list[Step]
    document: ltf.Document
    slot: int = 0

    @property
    def query_times(self) -> list[float]:
        """The times of its iterations, rounded up to milliseconds, in seconds."""
        return [at(step.end_ns) for step in self.steps]


@dataclass
class Month:
    """All runs, in the order of their starts."""

    runs: list[Run] = field(default_factory=list)

    @property
    def loops(self) -> list[str]:
        """The names of the loops."""
        return sorted({run.loop for run in self.runs})

    @property
    def begin_ns(self) -> int:
        """When the first run starts."""
        return min(run.start_ns for run in self.runs)

    @property
    def end_ns(self) -> int:
        """When the last run ends."""
        return max(run.end_ns for run in self.runs)

    def write(self, folder: Path) -> None:
        """Make an archive of it: documents in the order in which the runs ended."""
        folder.mkdir(parents=True, exist_ok=True)
        ended = sorted(self.runs, key=lambda run: run.end_ns)
        lines = [ltf.encode(run.document) for run in ended]
        (folder / "traces.jsonl").write_bytes(b"\n".join(lines) + b"\n")

    def steps(self, loop: str, until_s: float) -> Iterator[Step]:
        """Yield the iterations of a loop that have ended by a time."""
        for run in self.runs:
            if run.loop == loop:
                yield from (step for step in run.steps if at(step.end_ns) <= until_s)

    def ended(self, loop: str, until_s: float) -> list[Run]:
        """Give the runs of a loop that have ended by a time."""
        runs = (run for run in self.runs if run.loop == loop)
        return [run for run in runs if at(run.end_ns) <= until_s]

    def tokens(self, loop: str, until_s: float) -> int:
        """Sum up the tokens of a loop by a time."""
        return sum(step.tokens for step in self.steps(loop, until_s))


def at(time_ns: int) -> float:
    """Give the instant of a time: rounded up to milliseconds, in Unix seconds."""
    return -(-time_ns // _MS) / 1e3


def month(
    begin_ns: int,
    *,
    loops: int = 3,
    runs_a_day: int = 8,
    seed: int = 1,
    days: int = DAYS,
) -> Month:
    """
    Simulate loops at work, by day, several runs at a time.

    Times are whole microseconds, as those of documents are.

    Args:
        begin_ns: The first day, Unix nanoseconds.
        loops: How many.
        runs_a_day: Of each loop, two hours around noon, so that they overlap.
        seed: Of all chance.
        days: How long.
    """
    chance = random.Random(seed)
    ids = SequentialIds()
    names = [f"loop-{number}" for number in range(loops)]
    starts = sorted(
        (
            begin_ns + day * _DAY_NS + chance.randrange(11 * 3600, 13 * 3600) * 10**9,
            name,
        )
        for day in range(days)
        for name in names
        for _ in range(runs_a_day)
    )
    # No two at a time: what is first would be a matter of the archive's order.
    runs = [
        _run(name, start_ns + number * 1_003_000, chance, ids)
        for number, (start_ns, name) in enumerate(starts)
    ]
    simulated = Month(sorted(runs, key=lambda run: run.start_ns))
    _place(simulated.runs)
    return simulated


def _run(loop: str, start_ns: int, chance: random.Random, ids: SequentialIds) -> Run:
    clock = ManualClock(start_ns)
    run = LoopTracer(
        loop,
        env_id="month/simulated",
        goal_target=_TARGET,
        clock=clock,
        ids=ids,
        pipeline=Pipeline(),
    )
    steps: list[Step] = []
    effects: list[float] = []
    with run:
        for number in range(1, chance.randint(3, 20)):
            seconds = round(chance.uniform(2.0, 90.0), 6)
            clock.advance(seconds=seconds)
            score = round(chance.random(), 3)
            effects.append(min(score / _TARGET, 1.0))
            steps.append(
                Step(
                    clock.time_ns(),
                    score,
                    round(sum(effects) / len(effects), 4),
                    chance.randrange(100, 5000),
                    round(chance.uniform(0.001, 0.2), 6),
                    seconds,
                )
            )
            step = steps[-1]
            run.emit_iteration(
                iteration=number,
                goal_score=score,
                tokens_delta=step.tokens,
                cost_usd=step.cost_usd,
                latency_ms=seconds * 1e3,
                worker_id="coder",
                evaluator_id="rubric",
            )
        clock.advance(seconds=round(chance.uniform(0.0, 2.0), 6))
        outcome = "success" if steps[-1].score >= _TARGET else "failure"
        run.finish(outcome=outcome, termination_reason="goal_met")
    return Run(loop, start_ns, clock.time_ns(), outcome, steps, run.build_trace())


def _place(runs: list[Run]) -> None:
    """Give each run the lowest slot that no run is in, nor has just been."""
    free_from: dict[str, list[int]] = {}
    for run in runs:
        slots = free_from.setdefault(run.loop, [])
        free = (n for n, since in enumerate(slots) if since <= run.start_ns)
        run.slot = next(free, len(slots))
        if run.slot == len(slots):
            slots.append(0)
        slots[run.slot] = run.end_ns + _LINGER_NS + _MS


def share_below(values: list[float], bound: float) -> int:
    """Count the values up to a bucket's bound."""
    return bisect_right(sorted(values), bound)
