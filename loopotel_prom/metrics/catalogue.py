"""
The catalogue: every metric we expose, declared once.

Names, types and labels are a contract with dashboards and rules. Prefix
``loop_`` is about the loops, ``loopotel_`` about this package. `labels` are those
beyond the identity labels, which every ``loop_`` metric carries.
"""

from dataclasses import dataclass
from typing import Literal

IDENTITY_LABELS = ("loop_name", "env_id")

# An agent's run takes from seconds to days.
RUN_DURATION_BUCKETS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400)
ITERATIONS_BUCKETS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 100, 200, 500)
# An edge at every tenth, so that a score objective is an edge.
SCORE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

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
        query: A query that it is good for.
        labels: Labels beyond the identity.
        identity: The labels that say which loop it is about; none for our own.
        buckets: Upper bounds of a histogram, without +Inf.
    """

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    query: str
    labels: tuple[str, ...] = ()
    identity: tuple[str, ...] = IDENTITY_LABELS
    buckets: tuple[float, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        """All labels, the identity first."""
        return self.identity + self.labels


# The live state of each active run, told apart by a slot of its loop.
GOAL_SCORE = Metric(
    "loop_goal_score",
    "gauge",
    "Goal score of the latest iteration of an active run, 0 to 1.",
    "loop_goal_score / loop_goal_target",
    labels=("slot",),
)
GOAL_TARGET = Metric(
    "loop_goal_target",
    "gauge",
    "Goal score at which an active run has met its goal, 0 to 1.",
    "loop_goal_score >= loop_goal_target",
    labels=("slot",),
)
LES_CUMULATIVE = Metric(
    "loop_les_cumulative",
    "gauge",
    "Cumulative Loop Engineering Score of an active run, 0 to 1.",
    "bottomk(5, loop_les_cumulative)",
    labels=("slot",),
)
LES_EFFECTIVENESS = Metric(
    "loop_les_effectiveness",
    "gauge",
    "Goal score over target of the latest iteration of an active run, 0 to 1.",
    "deriv(loop_les_effectiveness[10m])",
    labels=("slot",),
)
ITERATION = Metric(
    "loop_iteration",
    "gauge",
    "Number of the latest iteration of an active run, 0 before the first.",
    "max by (loop_name) (loop_iteration)",
    labels=("slot",),
)
RUN_TOKENS = Metric(
    "loop_run_tokens",
    "gauge",
    "Tokens used by an active run so far.",
    "topk(5, loop_run_tokens)",
    labels=("slot",),
)
RUN_COST_USD = Metric(
    "loop_run_cost_usd",
    "gauge",
    "Reported cost of an active run so far, in US dollars.",
    "topk(5, loop_run_cost_usd)",
    labels=("slot",),
)
RUN_START_TIMESTAMP = Metric(
    "loop_run_start_timestamp_seconds",
    "gauge",
    "When an active run started, Unix time.",
    "time() - loop_run_start_timestamp_seconds",
    labels=("slot",),
)
LAST_ITERATION_TIMESTAMP = Metric(
    "loop_last_iteration_timestamp_seconds",
    "gauge",
    "When the latest iteration of an active run ended, Unix time.",
    "time() - loop_last_iteration_timestamp_seconds > 600",
    labels=("slot",),
)

RUN_INFO = Metric(
    "loop_run_info",
    "gauge",
    "Always 1; the trace of an active run. Off unless asked for.",
    "loop_les_cumulative * on (loop_name, env_id, slot) group_left (trace_id) loop_run_info",
    labels=("slot", "trace_id"),
)

# Over the active runs of an identity.
RUNS_ACTIVE = Metric(
    "loop_runs_active",
    "gauge",
    "Runs under way.",
    "sum by (loop_name) (loop_runs_active)",
)
GOAL_SCORE_MEAN = Metric(
    "loop_goal_score_mean",
    "gauge",
    "Mean latest goal score of the active runs, 0 to 1.",
    "loop_goal_score_mean",
)
GOAL_SCORE_MIN = Metric(
    "loop_goal_score_min",
    "gauge",
    "Least latest goal score of the active runs, 0 to 1.",
    "loop_goal_score_min < 0.3",
)
GOAL_SCORE_MAX = Metric(
    "loop_goal_score_max",
    "gauge",
    "Greatest latest goal score of the active runs, 0 to 1.",
    "loop_goal_score_max",
)
LES_CUMULATIVE_MEAN = Metric(
    "loop_les_cumulative_mean",
    "gauge",
    "Mean cumulative LES of the active runs, 0 to 1.",
    "avg_over_time(loop_les_cumulative_mean[1h])",
)
LES_CUMULATIVE_MIN = Metric(
    "loop_les_cumulative_min",
    "gauge",
    "Least cumulative LES of the active runs, 0 to 1.",
    "loop_les_cumulative_min < 0.5",
)

# The latest finished run.
LAST_RUN_GOAL_SCORE = Metric(
    "loop_last_run_goal_score",
    "gauge",
    "Final goal score of the latest finished run, 0 to 1.",
    "loop_last_run_goal_score",
)
LAST_RUN_LES = Metric(
    "loop_last_run_les",
    "gauge",
    "Final cumulative LES of the latest finished run, 0 to 1.",
    "loop_last_run_les < 0.6",
)
LAST_RUN_END_TIMESTAMP = Metric(
    "loop_last_run_end_timestamp_seconds",
    "gauge",
    "When the latest finished run ended, Unix time.",
    "time() - loop_last_run_end_timestamp_seconds > 86400",
)
LAST_RUN_SUCCESS_TIMESTAMP = Metric(
    "loop_last_run_success_timestamp_seconds",
    "gauge",
    "When the latest run that succeeded ended, Unix time.",
    "time() - loop_last_run_success_timestamp_seconds > 86400",
)

# Counters, updated as iterations happen.
ITERATIONS_TOTAL = Metric(
    "loop_iterations_total",
    "counter",
    "Iterations finished.",
    "sum by (loop_name) (rate(loop_iterations_total[5m]))",
)
TOKENS_TOTAL = Metric(
    "loop_tokens_total",
    "counter",
    "Tokens used.",
    "sum by (loop_name) (rate(loop_tokens_total[5m]))",
)
INPUT_TOKENS_TOTAL = Metric(
    "loop_input_tokens_total",
    "counter",
    "Input tokens used, where they were told apart.",
    "rate(loop_input_tokens_total[5m])",
)
OUTPUT_TOKENS_TOTAL = Metric(
    "loop_output_tokens_total",
    "counter",
    "Output tokens used, where they were told apart.",
    "rate(loop_output_tokens_total[5m])",
)
COST_USD_TOTAL = Metric(
    "loop_cost_usd_total",
    "counter",
    "Reported cost, in US dollars.",
    "sum(increase(loop_cost_usd_total[1d]))",
)
REGRESSIONS_TOTAL = Metric(
    "loop_regressions_total",
    "counter",
    "Iterations whose goal score was below that of the one before.",
    "rate(loop_regressions_total[1h]) / (rate(loop_iterations_total[1h]) > 0)",
)
GOAL_SCORE_GAIN_TOTAL = Metric(
    "loop_goal_score_gain_total",
    "counter",
    "Sum of the rises of the goal score from one iteration to the next.",
    "increase(loop_goal_score_gain_total[1h]) / (increase(loop_cost_usd_total[1h]) > 0)",
)
RUNS_STARTED_TOTAL = Metric(
    "loop_runs_started_total",
    "counter",
    "Runs started.",
    "increase(loop_runs_started_total[1h])",
)
RUNS_FINISHED_TOTAL = Metric(
    "loop_runs_finished_total",
    "counter",
    "Runs finished, by outcome: success, failure, partial or unknown.",
    "sum by (outcome) (increase(loop_runs_finished_total[1h]))",
    labels=("outcome",),
)
RUNS_FAILED_TOTAL = Metric(
    "loop_runs_failed_total",
    "counter",
    "Runs finished as a failure.",
    "rate(loop_runs_failed_total[1h]) / (rate(loop_runs_started_total[1h]) > 0)",
)
RUN_TERMINATIONS_TOTAL = Metric(
    "loop_run_terminations_total",
    "counter",
    "Runs finished, by reason: those of LoopNet, or other.",
    'increase(loop_run_terminations_total{reason="max_iterations"}[1d])',
    labels=("reason",),
)
FAILURES_TOTAL = Metric(
    "loop_failures_total",
    "counter",
    "Failure modes seen, by code.",
    "sum by (code) (increase(loop_failures_total[1h]))",
    labels=("code",),
)
SAFETY_VIOLATIONS_TOTAL = Metric(
    "loop_safety_violations_total",
    "counter",
    "Safety violations.",
    "increase(loop_safety_violations_total[5m]) > 0",
)
HUMAN_INTERVENTIONS_TOTAL = Metric(
    "loop_human_interventions_total",
    "counter",
    "Times that a human stepped in.",
    "increase(loop_human_interventions_total[1d])",
)
WORKER_CALLS_TOTAL = Metric(
    "loop_worker_calls_total",
    "counter",
    "Calls of workers.",
    "sum by (worker_id) (rate(loop_worker_calls_total[5m]))",
    labels=("worker_id",),
)
EVALUATOR_CALLS_TOTAL = Metric(
    "loop_evaluator_calls_total",
    "counter",
    "Calls of evaluators.",
    "sum by (evaluator_id) (rate(loop_evaluator_calls_total[5m]))",
    labels=("evaluator_id",),
)

# Histograms.
ITERATION_DURATION = Metric(
    "loop_iteration_duration_seconds",
    "histogram",
    "How long iterations took, where that was reported or measured.",
    "histogram_quantile(0.95, sum by (le, loop_name) (rate(loop_iteration_duration_seconds_bucket[5m])))",
    buckets=DURATION_BUCKETS,
)
RUN_DURATION = Metric(
    "loop_run_duration_seconds",
    "histogram",
    "How long runs took.",
    "histogram_quantile(0.5, sum by (le) (rate(loop_run_duration_seconds_bucket[1h])))",
    buckets=RUN_DURATION_BUCKETS,
)
RUN_ITERATIONS = Metric(
    "loop_run_iterations",
    "histogram",
    "How many iterations runs had.",
    "histogram_quantile(0.99, sum by (le, loop_name) (rate(loop_run_iterations_bucket[1d])))",
    buckets=ITERATIONS_BUCKETS,
)
RUN_FINAL_GOAL_SCORE = Metric(
    "loop_run_final_goal_score",
    "histogram",
    "Goal scores that runs ended with, 0 to 1.",
    "histogram_quantile(0.1, sum by (le) (rate(loop_run_final_goal_score_bucket[1h])))",
    buckets=SCORE_BUCKETS,
)
RUN_FINAL_LES = Metric(
    "loop_run_final_les",
    "histogram",
    "Cumulative LES that runs ended with, 0 to 1.",
    '1 - rate(loop_run_final_les_bucket{le="0.7"}[1h]) / on (loop_name, env_id) (rate(loop_run_final_les_count[1h]) > 0)',
    buckets=SCORE_BUCKETS,
)
WORKER_DURATION = Metric(
    "loop_worker_duration_seconds",
    "histogram",
    "How long calls of workers took.",
    "histogram_quantile(0.95, sum by (le, worker_id) (rate(loop_worker_duration_seconds_bucket[5m])))",
    labels=("worker_id",),
    buckets=DURATION_BUCKETS,
)
EVALUATOR_SCORE = Metric(
    "loop_evaluator_score",
    "histogram",
    "Scores that evaluators gave, 0 to 1.",
    "histogram_quantile(0.5, sum by (le, evaluator_id) (rate(loop_evaluator_score_bucket[1h])))",
    labels=("evaluator_id",),
    buckets=SCORE_BUCKETS,
)

# This package about itself.
BUILD_INFO = Metric(
    "loopotel_build_info",
    "gauge",
    "Always 1; the version of loopotel-prom.",
    "loopotel_build_info",
    labels=("version",),
    identity=(),
)
PROCESSOR_FAILURES_TOTAL = Metric(
    "loopotel_processor_failures_total",
    "counter",
    "Spans that a processor failed to take; the loop and the others went on.",
    "increase(loopotel_processor_failures_total[5m]) > 0",
    labels=("processor",),
    identity=(),
)
DROPPED_VALUES_TOTAL = Metric(
    "loopotel_dropped_values_total",
    "counter",
    "Reported values left out because they made no sense, by field.",
    "increase(loopotel_dropped_values_total[1h]) > 0",
    labels=("field",),
    identity=(),
)
UNSLOTTED_RUNS_TOTAL = Metric(
    "loopotel_unslotted_runs_total",
    "counter",
    "Runs beyond the slots of their loop: counted everywhere, shown in no slot.",
    "increase(loopotel_unslotted_runs_total[1h]) > 0",
    identity=(),
)
SERIES = Metric(
    "loopotel_series",
    "gauge",
    "Series of the loops on the page.",
    "loopotel_series",
    identity=(),
)
LABEL_OVERFLOWS_TOTAL = Metric(
    "loopotel_label_overflows_total",
    "counter",
    "Times that a label had no room for a value and showed __overflow__.",
    "increase(loopotel_label_overflows_total[1h]) > 0",
    labels=("label",),
    identity=(),
)
SLOW_EMITS_TOTAL = Metric(
    "loopotel_slow_emits_total",
    "counter",
    "Spans that took the processors more than 10 ms, and the loop with them.",
    "increase(loopotel_slow_emits_total[5m]) > 0",
    identity=(),
)
SCRAPE_DURATION = Metric(
    "loopotel_scrape_duration_seconds",
    "gauge",
    "How long the page before this one took to make.",
    "loopotel_scrape_duration_seconds > 1",
    identity=(),
)
SCRAPE_SIZE = Metric(
    "loopotel_scrape_size_bytes",
    "gauge",
    "How large the page before this one was, unpacked.",
    "loopotel_scrape_size_bytes > 10e6",
    identity=(),
)

# The archive, shown where there is one.
ARCHIVE_DEGRADED = Metric(
    "loopotel_archive_degraded",
    "gauge",
    "1 while the disk takes nothing and spans are kept in memory only, else 0.",
    "loopotel_archive_degraded > 0",
    identity=(),
)
ARCHIVE_BACKLOG_SPANS = Metric(
    "loopotel_archive_backlog_spans",
    "gauge",
    "Spans in memory only, waiting for a disk that takes them.",
    "loopotel_archive_backlog_spans",
    identity=(),
)
ARCHIVE_PENDING_RUNS = Metric(
    "loopotel_archive_pending_runs",
    "gauge",
    "Runs that have ended and are not sealed yet.",
    "loopotel_archive_pending_runs",
    identity=(),
)
ARCHIVE_JOURNAL_LAG = Metric(
    "loopotel_archive_journal_lag_seconds",
    "gauge",
    "For how long the oldest span has waited to be synced: what a loss of power takes.",
    "loopotel_archive_journal_lag_seconds > 10",
    identity=(),
)
ARCHIVE_BYTES_TOTAL = Metric(
    "loopotel_archive_bytes_total",
    "counter",
    "Bytes written, by file: journal or sealed.",
    "rate(loopotel_archive_bytes_total[5m])",
    labels=("file",),
    identity=(),
)
ARCHIVE_SEALS_TOTAL = Metric(
    "loopotel_archive_seals_total",
    "counter",
    "Runs sealed: their document is a line of the archive.",
    "increase(loopotel_archive_seals_total[1h])",
    identity=(),
)
ARCHIVE_RECOVERED_RUNS_TOTAL = Metric(
    "loopotel_archive_recovered_runs_total",
    "counter",
    "Runs sealed in the place of processes that died.",
    "increase(loopotel_archive_recovered_runs_total[1h]) > 0",
    identity=(),
)
ARCHIVE_LOST_SPANS_TOTAL = Metric(
    "loopotel_archive_lost_spans_total",
    "counter",
    "Spans that no disk took before memory for them ran out.",
    "increase(loopotel_archive_lost_spans_total[1h]) > 0",
    identity=(),
)
ARCHIVE_SYNCS_TOTAL = Metric(
    "loopotel_archive_syncs_total",
    "counter",
    "Syncs of the journal that succeeded.",
    "rate(loopotel_archive_syncs_total[5m])",
    identity=(),
)
ARCHIVE_SYNC_SECONDS_TOTAL = Metric(
    "loopotel_archive_sync_seconds_total",
    "counter",
    "Time that these syncs took together.",
    "rate(loopotel_archive_sync_seconds_total[5m]) / rate(loopotel_archive_syncs_total[5m])",
    identity=(),
)
ARCHIVE_SYNC_FAILURES_TOTAL = Metric(
    "loopotel_archive_sync_failures_total",
    "counter",
    "Syncs of any file that failed; what they were to save was written again.",
    "increase(loopotel_archive_sync_failures_total[1h]) > 0",
    identity=(),
)

# The sidecar, shown where there is one.
SIDECAR_JOURNALS = Metric(
    "loopotel_sidecar_journals",
    "gauge",
    "Journals that the sidecar follows: one for each process with runs.",
    "loopotel_sidecar_journals",
    identity=(),
)
SIDECAR_RECORDS_TOTAL = Metric(
    "loopotel_sidecar_records_total",
    "counter",
    "Records that the sidecar has read from journals.",
    "rate(loopotel_sidecar_records_total[5m])",
    identity=(),
)
SIDECAR_DOCUMENTS_TOTAL = Metric(
    "loopotel_sidecar_documents_total",
    "counter",
    "Documents that the sidecar has met in sealed files.",
    "rate(loopotel_sidecar_documents_total[5m])",
    identity=(),
)
SIDECAR_LAG = Metric(
    "loopotel_sidecar_lag_seconds",
    "gauge",
    "How old a value may be that is not on the sidecar's page yet.",
    "loopotel_sidecar_lag_seconds > 5",
    identity=(),
)
SIDECAR_DAMAGED_LINES_TOTAL = Metric(
    "loopotel_sidecar_damaged_lines_total",
    "counter",
    "Lines of the archive that the sidecar could not read, and passed over.",
    "increase(loopotel_sidecar_damaged_lines_total[1h]) > 0",
    identity=(),
)
SIDECAR_RECOVERIES_TOTAL = Metric(
    "loopotel_sidecar_recoveries_total",
    "counter",
    "Journals of dead processes that the sidecar has recovered.",
    "increase(loopotel_sidecar_recoveries_total[1h]) > 0",
    identity=(),
)
SIDECAR_CHECKPOINT_AGE = Metric(
    "loopotel_sidecar_checkpoint_age_seconds",
    "gauge",
    "How long ago the sidecar's checkpoint was written; it is while something changes.",
    "loopotel_sidecar_checkpoint_age_seconds",
    identity=(),
)
SIDECAR_CHECKPOINT_SIZE = Metric(
    "loopotel_sidecar_checkpoint_size_bytes",
    "gauge",
    "How large the sidecar's checkpoint is.",
    "loopotel_sidecar_checkpoint_size_bytes > 50e6",
    identity=(),
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
    RUN_INFO,
    RUNS_ACTIVE,
    GOAL_SCORE_MEAN,
    GOAL_SCORE_MIN,
    GOAL_SCORE_MAX,
    LES_CUMULATIVE_MEAN,
    LES_CUMULATIVE_MIN,
    LAST_RUN_GOAL_SCORE,
    LAST_RUN_LES,
    LAST_RUN_END_TIMESTAMP,
    LAST_RUN_SUCCESS_TIMESTAMP,
    ITERATIONS_TOTAL,
    TOKENS_TOTAL,
    INPUT_TOKENS_TOTAL,
    OUTPUT_TOKENS_TOTAL,
    COST_USD_TOTAL,
    REGRESSIONS_TOTAL,
    GOAL_SCORE_GAIN_TOTAL,
    RUNS_STARTED_TOTAL,
    RUNS_FINISHED_TOTAL,
    RUNS_FAILED_TOTAL,
    RUN_TERMINATIONS_TOTAL,
    FAILURES_TOTAL,
    SAFETY_VIOLATIONS_TOTAL,
    HUMAN_INTERVENTIONS_TOTAL,
    WORKER_CALLS_TOTAL,
    EVALUATOR_CALLS_TOTAL,
    ITERATION_DURATION,
    RUN_DURATION,
    RUN_ITERATIONS,
    RUN_FINAL_GOAL_SCORE,
    RUN_FINAL_LES,
    WORKER_DURATION,
    EVALUATOR_SCORE,
    BUILD_INFO,
    PROCESSOR_FAILURES_TOTAL,
    DROPPED_VALUES_TOTAL,
    UNSLOTTED_RUNS_TOTAL,
    SERIES,
    LABEL_OVERFLOWS_TOTAL,
    SLOW_EMITS_TOTAL,
    SCRAPE_DURATION,
    SCRAPE_SIZE,
    ARCHIVE_DEGRADED,
    ARCHIVE_BACKLOG_SPANS,
    ARCHIVE_PENDING_RUNS,
    ARCHIVE_JOURNAL_LAG,
    ARCHIVE_BYTES_TOTAL,
    ARCHIVE_SEALS_TOTAL,
    ARCHIVE_RECOVERED_RUNS_TOTAL,
    ARCHIVE_LOST_SPANS_TOTAL,
    ARCHIVE_SYNCS_TOTAL,
    ARCHIVE_SYNC_SECONDS_TOTAL,
    ARCHIVE_SYNC_FAILURES_TOTAL,
    SIDECAR_JOURNALS,
    SIDECAR_RECORDS_TOTAL,
    SIDECAR_DOCUMENTS_TOTAL,
    SIDECAR_LAG,
    SIDECAR_DAMAGED_LINES_TOTAL,
    SIDECAR_RECOVERIES_TOTAL,
    SIDECAR_CHECKPOINT_AGE,
    SIDECAR_CHECKPOINT_SIZE,
)
