"""The state of the loops as families: what a scrape sees of them."""

from collections.abc import Callable, Iterable, Iterator
from statistics import fmean

from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.histogram import Histogram
from loopotel_prom.metrics.snapshot import Family, Sample
from loopotel_prom.metrics.state import LoopState, RunState

_PLACES = 4


def loop_families(loops: list[LoopState], *, run_info: bool) -> Iterator[Family]:
    """
    Give the families of all loops and of the runs in their slots.

    Args:
        loops: The loops.
        run_info: Whether the traces of active runs are shown.
    """
    yield from _slot_families(loops, run_info=run_info)
    yield from _of_loops(loops)


def _slot_families(loops: Iterable[LoopState], *, run_info: bool) -> Iterator[Family]:
    shown = [
        ((*loop.labels, str(index)), run)
        for loop in loops
        for index, run in enumerate(loop.slots)
        if run is not None
    ]
    for metric, read in OF_RUN:
        samples = (
            Sample(labels, value)
            for labels, run in shown
            if (value := read(run)) is not None
        )
        yield Family(metric, tuple(samples))
    traces = shown if run_info else []
    yield Family(
        catalogue.RUN_INFO,
        tuple(Sample((*labels, run.trace_id), 1) for labels, run in traces),
    )


def _rounded(value: float | None) -> float | None:
    # As the document has it, so that the two can be compared.
    return None if value is None else round(value, _PLACES) + 0.0


def _seconds(time_ns: int | None) -> float | None:
    return None if time_ns is None else time_ns / 1e9


def _goal_target(run: RunState) -> float:
    return run.goal_target if run.latest is None else run.latest.goal_target


def _last_iteration(run: RunState) -> float | None:
    return None if run.latest is None else run.latest.end_ns / 1e9


def _of_scored(field: str) -> Callable[[RunState], float | None]:
    """Read a field of the latest iteration with a score."""

    def read(run: RunState) -> float | None:
        return None if run.scored is None else _rounded(getattr(run.scored, field))

    return read


# What a scrape sees, by what it is read off; public for those who look at one loop, and
# often.
OF_RUN: tuple[tuple[Metric, Callable[[RunState], float | None]], ...] = (
    (catalogue.GOAL_SCORE, _of_scored("goal_score")),
    (catalogue.GOAL_TARGET, _goal_target),
    (catalogue.LES_CUMULATIVE, _of_scored("les_cumulative")),
    (catalogue.LES_EFFECTIVENESS, _of_scored("effectiveness")),
    (catalogue.ITERATION, lambda run: run.latest.iteration if run.latest else 0),
    (catalogue.RUN_TOKENS, lambda run: run.tokens),
    (catalogue.RUN_COST_USD, lambda run: run.cost_usd),
    (catalogue.RUN_START_TIMESTAMP, lambda run: run.start_ns / 1e9),
    (catalogue.LAST_ITERATION_TIMESTAMP, _last_iteration),
)


def _over_active(
    field: str, over: Callable[[list[float]], float]
) -> Callable[[LoopState], float | None]:
    """Read a field of the latest scored iteration, over the active runs shown."""

    def read(loop: LoopState) -> float | None:
        values = [
            getattr(run.scored, field)
            for run in loop.slots
            if run is not None and run.freed_at is None and run.scored is not None
        ]
        return _rounded(over(values)) if values else None

    return read


OF_LOOP: tuple[tuple[Metric, Callable[[LoopState], float | None]], ...] = (
    (catalogue.RUNS_ACTIVE, lambda loop: loop.active),
    (catalogue.GOAL_SCORE_MEAN, _over_active("goal_score", fmean)),
    (catalogue.GOAL_SCORE_MIN, _over_active("goal_score", min)),
    (catalogue.GOAL_SCORE_MAX, _over_active("goal_score", max)),
    (catalogue.LES_CUMULATIVE_MEAN, _over_active("les_cumulative", fmean)),
    (catalogue.LES_CUMULATIVE_MIN, _over_active("les_cumulative", min)),
    (catalogue.LAST_RUN_GOAL_SCORE, lambda loop: _rounded(loop.last_run_goal_score)),
    (catalogue.LAST_RUN_LES, lambda loop: _rounded(loop.last_run_les)),
    (catalogue.LAST_RUN_END_TIMESTAMP, lambda loop: _seconds(loop.last_run_end_ns)),
    (
        catalogue.LAST_RUN_SUCCESS_TIMESTAMP,
        lambda loop: _seconds(loop.last_run_success_ns),
    ),
    (catalogue.ITERATIONS_TOTAL, lambda loop: loop.iterations),
    (catalogue.TOKENS_TOTAL, lambda loop: loop.tokens),
    (catalogue.INPUT_TOKENS_TOTAL, lambda loop: loop.input_tokens),
    (catalogue.OUTPUT_TOKENS_TOTAL, lambda loop: loop.output_tokens),
    (catalogue.COST_USD_TOTAL, lambda loop: loop.cost_usd),
    (catalogue.REGRESSIONS_TOTAL, lambda loop: loop.regressions),
    (catalogue.GOAL_SCORE_GAIN_TOTAL, lambda loop: loop.gain),
    (catalogue.RUNS_STARTED_TOTAL, lambda loop: loop.started),
    (catalogue.RUNS_FAILED_TOTAL, lambda loop: loop.finished["failure"]),
    (catalogue.SAFETY_VIOLATIONS_TOTAL, lambda loop: loop.safety_violations),
    (catalogue.HUMAN_INTERVENTIONS_TOTAL, lambda loop: loop.human_interventions),
)

CHILDREN_OF_LOOP: tuple[
    tuple[Metric, Callable[[LoopState], Iterable[tuple[str, float]]]], ...
] = (
    (catalogue.RUNS_FINISHED_TOTAL, lambda loop: loop.finished.items()),
    (catalogue.RUN_TERMINATIONS_TOTAL, lambda loop: loop.terminations.items()),
    (catalogue.FAILURES_TOTAL, lambda loop: loop.failures.items()),
    (
        catalogue.WORKER_CALLS_TOTAL,
        lambda loop: [(name, calls.count) for name, calls in loop.workers.items()],
    ),
    (
        catalogue.EVALUATOR_CALLS_TOTAL,
        lambda loop: [(name, calls.count) for name, calls in loop.evaluators.items()],
    ),
)

HISTOGRAMS_OF_CHILDREN: tuple[
    tuple[Metric, Callable[[LoopState], Iterable[tuple[str, Histogram]]]], ...
] = (
    (
        catalogue.WORKER_DURATION,
        lambda loop: [(name, calls.observed) for name, calls in loop.workers.items()],
    ),
    (
        catalogue.EVALUATOR_SCORE,
        lambda loop: [(n, calls.observed) for n, calls in loop.evaluators.items()],
    ),
)

HISTOGRAMS_OF_LOOP: tuple[tuple[Metric, Callable[[LoopState], Histogram]], ...] = (
    (catalogue.ITERATION_DURATION, lambda loop: loop.iteration_duration),
    (catalogue.RUN_DURATION, lambda loop: loop.run_duration),
    (catalogue.RUN_ITERATIONS, lambda loop: loop.run_iterations),
    (catalogue.RUN_FINAL_GOAL_SCORE, lambda loop: loop.final_goal_score),
    (catalogue.RUN_FINAL_LES, lambda loop: loop.final_les),
)


# Of which iterations the totals show a trace.
_WORST_BY: dict[Metric, str] = {
    catalogue.TOKENS_TOTAL: "tokens_delta",
    catalogue.COST_USD_TOTAL: "cost_usd",
}


def _of_loops(loops: list[LoopState]) -> Iterator[Family]:
    for loop in loops:
        slowest = loop.exemplar("latency_ms", 1e-3)
        if slowest is not None:
            loop.iteration_duration.show(slowest)
    for metric, read in OF_LOOP:
        worst = _WORST_BY.get(metric)
        samples = (
            Sample(loop.labels, value, loop.exemplar(worst) if worst else None)
            for loop in loops
            if (value := read(loop)) is not None
        )
        yield Family(metric, tuple(samples))
    for metric, children in CHILDREN_OF_LOOP:
        yield Family(
            metric,
            tuple(
                Sample((*loop.labels, name), value)
                for loop in loops
                for name, value in children(loop)
            ),
        )
    for metric, histograms in HISTOGRAMS_OF_CHILDREN:
        yield Family(
            metric,
            tuple(
                Sample((*loop.labels, name), each.value())
                for loop in loops
                for name, each in histograms(loop)
            ),
        )
    for metric, histogram in HISTOGRAMS_OF_LOOP:
        yield Family(
            metric,
            tuple(Sample(loop.labels, histogram(loop).value()) for loop in loops),
        )
