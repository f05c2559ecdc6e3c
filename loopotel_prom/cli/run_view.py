"""A run for people: head, curve, iterations, events."""

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping

from loopotel_prom import semconv
from loopotel_prom.archive.open_runs import OpenRun
from loopotel_prom.cli import wording
from loopotel_prom.cli.columns import Column, render
from loopotel_prom.cli.plot import plot
from loopotel_prom.cli.terminal import (
    can_show,
    echo,
    echo_safe,
    escaped,
    shortened,
    styled,
)
from loopotel_prom.plain import text
from loopotel_prom.runs.course import Happening, Step
from loopotel_prom.runs.digest import Digest
from loopotel_prom.runs.excerpt import Curve, Ends

_ENDS = 20
_KINDS = 100
_WIDEST = 24
_VALUE_CHARACTERS = 200
_MAX_WIDTH = 120
_STEPS = (
    Column("iter", right=True),
    Column("started"),
    Column("score", right=True),
    Column("effect", right=True),
    Column("LES", right=True),
    Column("tokens", right=True),
    Column("cost $", right=True),
    Column("took", right=True),
    Column("worker", widest=_WIDEST),
    Column("evaluator", widest=_WIDEST),
    Column("events", widest=2 * _WIDEST),
)
_HAPPENINGS = (
    Column("time"),
    Column("iter", right=True),
    Column("event", widest=2 * _WIDEST),
    Column("code", widest=2 * _WIDEST),
)


class RunView:
    """
    Takes in the course of a run, then prints it; keeps what is printed only.

    Args:
        all_steps: Print every iteration, not the first and last 20 alone.
    """

    def __init__(self, *, all_steps: bool) -> None:
        self._steps: Ends[Step] = Ends(None if all_steps else _ENDS)
        self._happenings: Ends[Happening] = Ends(None if all_steps else _ENDS)
        self._kinds: Counter[str] = Counter()
        self._curve = Curve()

    def add(self, item: Step | Happening) -> None:
        """Take in what comes next."""
        if isinstance(item, Happening):
            self._happenings.add(item)
            kind = " ".join(filter(None, (item.name, item.code)))
            self._kinds[kind if len(self._kinds) < _KINDS else "others"] += 1
            return
        self._steps.add(item)
        if item.goal_score is not None:
            self._curve.add(item.goal_score)

    def print(
        self, run: Digest, *, metadata: object, open_run: OpenRun | None = None
    ) -> None:
        """Print all of it."""
        for name, value in _head(run, metadata, open_run):
            words = escaped(shortened(value, _VALUE_CHARACTERS))
            colour = wording.coloured(words, value) if name == "outcome" else words
            echo_safe(f"{name:<9} {colour}")
        self._print_curve(run.goal_target)
        self._print_steps()
        self._print_happenings()

    def _print_curve(self, target: float | None) -> None:
        if not self._curve.parts:
            return
        goal = "" if target is None else f", target {wording.score(target)}"
        echo_safe(styled(f"\ngoal score{goal}\n", bold=True))
        width = min(shutil.get_terminal_size().columns, _MAX_WIDTH)
        parts, count = self._curve.parts, self._curve.count
        for line in plot(parts, count=count, target=target, width=width):
            echo_safe(line)

    def _print_steps(self) -> None:
        if not self._steps.count:
            return
        echo_safe(styled("\niterations\n", bold=True))
        rows = [_step_cells(step) for step in self._steps.first]
        last = [_step_cells(step) for step in self._steps.last]
        _print_table(_STEPS, rows, last, self._steps.left_out, "iterations")

    def _print_happenings(self) -> None:
        if not self._happenings.count:
            return
        echo_safe(styled("\nevents\n", bold=True))
        for kind, times in self._kinds.most_common(_ENDS):
            echo(f"{times:>6} x {kind}")
        echo_safe("")
        rows = [_happening_cells(each) for each in self._happenings.first]
        last = [_happening_cells(each) for each in self._happenings.last]
        _print_table(_HAPPENINGS, rows, last, self._happenings.left_out, "events")


def _print_table(
    columns: tuple[Column, ...],
    first: list[list[str]],
    last: list[list[str]],
    left_out: int,
    what: str,
) -> None:
    lines = list(render(columns, [*first, *last], cut=_ellipsis()))
    for number, line in enumerate(lines):
        if left_out and number == len(first) + 1:
            echo_safe(f"{_ellipsis()} {left_out} {what} left out; --all shows them")
        echo_safe(line)


def _ellipsis() -> str:
    return "…" if can_show("…") else "..."


def _head(
    run: Digest, metadata: object, open_run: OpenRun | None
) -> Iterator[tuple[str, str]]:
    yield "run", run.trace_id
    yield "loop", run.loop_name
    for name, value in (("env", run.env_id), ("task", run.task_id)):
        if value is not None:
            yield name, value
    yield "started", wording.moment(run.started_ns)
    took = wording.duration(run.duration_seconds)
    until = "last seen" if open_run else "ended"
    yield until, f"{wording.moment(run.ended_ns)}, after {took}"
    yield "outcome", wording.state(open_run) if open_run else _outcome(run)
    reached = f"{wording.score(run.goal_score)} of {wording.score(run.goal_target)}"
    yield "goal", f"{reached}, LES {wording.score(run.les)}"
    cost = "" if run.cost_usd is None else f", $ {wording.money(run.cost_usd)}"
    steps = f"{wording.whole(run.iterations)} iterations"
    yield "spent", f"{steps}, {wording.whole(run.tokens)} tokens{cost}"
    yield from _marks(run, metadata)


def _outcome(run: Digest) -> str:
    return wording.ended(run.outcome, run.reason)


def _marks(run: Digest, metadata: object) -> Iterator[tuple[str, str]]:
    if run.is_recovered:
        yield "recovered", "from the journal of a process that died"
    if run.missing_spans:
        yield "missing", f"{run.missing_spans} spans are lost"
    if isinstance(metadata, Mapping) and metadata.get(semconv.PARENT) is not None:
        yield "parent", text(metadata[semconv.PARENT])


def _step_cells(step: Step) -> list[str]:
    took = None if step.latency_ms is None else step.latency_ms / 1000
    events = [step.error, *(name.removeprefix("loop.") for name in step.events)]
    return [
        wording.whole(step.number),
        step.started_at[11:19] or wording.NONE,
        wording.score(step.goal_score),
        wording.score(step.effectiveness),
        wording.score(step.les),
        wording.whole(step.tokens),
        wording.money(step.cost_usd),
        wording.duration(took),
        ", ".join(step.workers),
        ", ".join(step.evaluators),
        ", ".join(filter(None, events)),
    ]


def _happening_cells(happening: Happening) -> list[str]:
    return [
        happening.time[:19].replace("T", " "),
        wording.whole(happening.iteration),
        happening.name,
        happening.code,
    ]
