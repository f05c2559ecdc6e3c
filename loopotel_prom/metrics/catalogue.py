"""
The catalogue: every metric we expose, declared once.

Names, types and labels are a contract with dashboards and rules. Prefix
``loop_`` is about the loops, ``loopotel_`` about this package. `labels` are those
beyond the identity labels, which every ``loop_`` metric carries.
"""

from dataclasses import dataclass
from typing import Literal

IDENTITY_LABELS = ("loop_name", "env_id")

# An agent's iteration takes from tens of milliseconds (a cached tool call) to
# tens of minutes (a build, a human).
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


@dataclass(frozen=True, slots=True)
class Metric:
    """
    One metric.

    Attributes:
        name: As it stands on the page, ``_total`` included.
        type: Its Prometheus type.
        help: One sentence with unit and range.
        labels: Labels beyond the identity.
        identity: Whether it carries the identity labels.
        buckets: Upper bounds of a histogram, without +Inf.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    identity: bool = True
    buckets: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels, the identity first."""
        return (IDENTITY_LABELS if self.identity else ()) + self.labels


# The live state of each active run, told apart by a slot of its loop.
GOAL_SCORE = Metric(
    "loop_goal_score",
    "gauge",
    "Goal score of the latest iteration of an active run, 0 to 1.",
    ("slot",),
)
GOAL_TARGET = Metric(
    "loop_goal_target",
    "gauge",
    "Goal score at which an active run has met its goal, 0 to 1.",
    ("slot",),
)
LES_CUMULATIVE = Metric(
    "loop_les_cumulative",
    "gauge",
    "Cumulative Loop Engineering Score of an active run, 0 to 1.",
    ("slot",),
)
LES_EFFECTIVENESS = Metric(
    "loop_les_effectiveness",
    "gauge",
    "Goal score over target of the latest iteration of an active run, 0 to 1.",
    ("slot",),
)
ITERATION = Metric(
    "loop_iteration",
    "gauge",
    "Number of the latest iteration of an active run, 0 before the first.",
    ("slot",),
)
RUN_TOKENS = Metric(
    "loop_run_tokens", "gauge", "Tokens used by an active run so far.", ("slot",)
)
RUN_COST_USD = Metric(
    "loop_run_cost_usd",
    "gauge",
    "Reported cost of an active run so far, in US dollars.",
    ("slot",),
)
RUN_START_TIMESTAMP = Metric(
    "loop_run_start_timestamp_seconds",
    "gauge",
    "When an active run started, Unix time.",
    ("slot",),
)
LAST_ITERATION_TIMESTAMP = Metric(
    "loop_last_iteration_timestamp_seconds",
    "gauge",
    "When the latest iteration of an active run ended, Unix time.",
    ("slot",),
)

# Over all runs of an identity.
RUNS_ACTIVE = Metric("loop_runs_active", "gauge", "Runs under way.")
LAST_RUN_GOAL_SCORE = Metric(
    "loop_last_run_goal_score",
    "gauge",
    "Final goal score of the latest finished run, 0 to 1.",
)
LAST_RUN_LES = Metric(
    "loop_last_run_les",
    "gauge",
    "Final cumulative Loop Engineering Score of the latest finished run, 0 to 1.",
)
LAST_RUN_END_TIMESTAMP = Metric(
    "loop_last_run_end_timestamp_seconds",
    "gauge",
    "When the latest finished run ended, Unix time.",
)
ITERATIONS_TOTAL = Metric("loop_iterations_total", "counter", "Iterations finished.")
TOKENS_TOTAL = Metric("loop_tokens_total", "counter", "Tokens used.")
COST_USD_TOTAL = Metric(
    "loop_cost_usd_total", "counter", "Reported cost, in US dollars."
)
RUNS_STARTED_TOTAL = Metric("loop_runs_started_total", "counter", "Runs started.")
RUNS_FINISHED_TOTAL = Metric(
    "loop_runs_finished_total",
    "counter",
    "Runs finished, by outcome: success, failure, partial or unknown.",
    ("outcome",),
)
ITERATION_DURATION = Metric(
    "loop_iteration_duration_seconds",
    "histogram",
    "How long iterations took, where that was reported or measured.",
    buckets=DURATION_BUCKETS,
)

# This package about itself.
BUILD_INFO = Metric(
    "loopotel_build_info",
    "gauge",
    "Always 1; the version of loopotel-prom.",
    ("version",),
    identity=False,
)
PROCESSOR_FAILURES_TOTAL = Metric(
    "loopotel_processor_failures_total",
    "counter",
    "Spans that a processor failed to take; the loop and the others went on.",
    ("processor",),
    identity=False,
)
DROPPED_VALUES_TOTAL = Metric(
    "loopotel_dropped_values_total",
    "counter",
    "Reported values left out because they made no sense, by field.",
    ("field",),
    identity=False,
)
UNSLOTTED_RUNS_TOTAL = Metric(
    "loopotel_unslotted_runs_total",
    "counter",
    "Runs beyond the slots of their loop: counted everywhere, shown in no slot.",
    identity=False,
)

CATALOGUE: tuple[Metric, ...] = (
    GOAL_SCORE,
    GOAL_TARGET,
    LES_CUMULATIVE,
    LES_EFFECTIVENESS,
    ITERATION,
    RUN_TOKENS,
    RUN_COST_USD,
    RUN_START_TIMESTAMP,
    LAST_ITERATION_TIMESTAMP,
    RUNS_ACTIVE,
    LAST_RUN_GOAL_SCORE,
    LAST_RUN_LES,
    LAST_RUN_END_TIMESTAMP,
    ITERATIONS_TOTAL,
    TOKENS_TOTAL,
    COST_USD_TOTAL,
    RUNS_STARTED_TOTAL,
    RUNS_FINISHED_TOTAL,
    ITERATION_DURATION,
    BUILD_INFO,
    PROCESSOR_FAILURES_TOTAL,
    DROPPED_VALUES_TOTAL,
    UNSLOTTED_RUNS_TOTAL,
)
