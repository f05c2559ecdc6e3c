"""What became of the runs of a loop, and what went on inside them."""

from typing import Final

from dashboards.endings import failures, mishaps, outcomes
from dashboards.panel import (
    BAD,
    GOOD,
    PLAIN,
    POOR,
    SPARSE,
    STACKED,
    UNSEEN,
    About,
    Query,
    bars,
    heatmap,
    painted,
    series,
)
from dashboards.query import (
    HOUR,
    RANGE,
    RATE,
    grown,
    mean,
    pace,
    quantile,
)

ENDS: Final = outcomes(id=20, description="Runs that ended, by outcome.")

REASONS: Final = bars(
    About(
        id=21,
        title="Why runs end",
        description="Runs that ended in the time range, by reason. Other reasons than"
        " goal_met want a look: caps, stalls, errors.",
        unit="short",
        decimals=0,
        least=0,
        empty="no run has ended yet",
    ),
    Query(
        expr="sort_desc("
        + grown("loop_run_terminations_total", RANGE, by="reason")
        + " > 0)",
        legend="{{reason}}",
        instant=True,
    ),
    overrides=painted(
        {"goal_met": GOOD, "error": BAD, "safety_violation": BAD, "stall": POOR}
    ),
)

FAILURES: Final = failures(
    id=22, description="Failure modes that this loop has reported, by code."
)

FINAL_SCORES: Final = heatmap(
    About(
        id=23,
        title="Final goal scores",
        description="With which goal score runs ended. A band below the target is a"
        " loop that gives up at the same place again and again.",
        unit="percentunit",
    ),
    Query(
        expr=grown("loop_run_final_goal_score_bucket", RATE, by="le"),
        legend="{{le}}",
        shape="heatmap",
    ),
    scheme="Greens",
)

ITERATIONS: Final = series(
    About(
        id=24,
        title="Iterations of a run",
        description="How many iterations the runs of the last hour had: half of them"
        " at most the median.",
        unit="short",
        decimals=0,
        least=0,
    ),
    [
        Query(expr=quantile(0.5, "loop_run_iterations", HOUR), legend="median"),
        Query(expr=quantile(0.9, "loop_run_iterations", HOUR), legend="90 %"),
    ],
    drawn=SPARSE,
    overrides=painted({"median": PLAIN, "90 %": POOR}),
)

DURATIONS: Final = series(
    About(
        id=25,
        title="Duration of a run",
        description="How long the runs of the last hour took; points are runs, a click"
        " opens their page.",
        unit="s",
        least=0,
    ),
    [
        Query(expr=mean("loop_run_duration_seconds", HOUR), legend="mean"),
        Query(
            expr=quantile(0.9, "loop_run_duration_seconds", HOUR),
            legend="90 %",
            exemplar=True,
        ),
    ],
    drawn=SPARSE,
    overrides=painted({"mean": PLAIN, "90 %": POOR}),
)

LATENCY: Final = heatmap(
    About(
        id=30,
        title="Iteration latency",
        description="How long iterations took. Points are the slowest ones between two"
        " scrapes: a click opens the run's page.",
        unit="s",
        empty="no iteration was timed yet",
    ),
    Query(
        expr=grown("loop_iteration_duration_seconds_bucket", RATE, by="le"),
        legend="{{le}}",
        exemplar=True,
        shape="heatmap",
    ),
)

QUANTILES: Final = series(
    About(
        id=31,
        title="Iteration latency, quantiles",
        description="Within what time half, 90 % and 99 % of the iterations were done."
        " Points are single iterations: a click opens the run's page.",
        unit="s",
        steps=((None, UNSEEN), (300, BAD)),
        least=0,
        empty="no iteration was timed yet",
    ),
    [
        Query(
            expr=quantile(0.5, "loop_iteration_duration_seconds", RATE),
            legend="median",
        ),
        Query(
            expr=quantile(0.9, "loop_iteration_duration_seconds", RATE),
            legend="90 %",
        ),
        Query(
            expr=quantile(0.99, "loop_iteration_duration_seconds", RATE),
            legend="99 %",
            exemplar=True,
        ),
    ],
    drawn=SPARSE | {"fillOpacity": 0},
    overrides=painted({"median": PLAIN, "90 %": POOR, "99 %": BAD}),
)

CALLS: Final = series(
    About(
        id=40,
        title="Calls of workers, a minute",
        description="How often each worker is called.",
        unit="cpm",
        least=0,
        empty="no worker was named yet",
    ),
    [
        Query(
            expr=f"60 * {pace('loop_worker_calls_total', by='worker_id')}",
            legend="{{worker_id}}",
        )
    ],
    drawn=STACKED,
    points=120,
)

WORKER_TIMES: Final = series(
    About(
        id=41,
        title="Duration of workers, 90 %",
        description="Within what time 90 % of a worker's calls were done. The slowest"
        " one is where an iteration's time goes.",
        unit="s",
        least=0,
        empty="no worker was timed yet",
    ),
    [
        Query(
            expr=quantile(0.9, "loop_worker_duration_seconds", RATE, by="worker_id"),
            legend="{{worker_id}}",
        )
    ],
    drawn=SPARSE,
)

JUDGEMENTS: Final = series(
    About(
        id=42,
        title="Evaluator scores, median",
        description="What each evaluator gives, over an hour. Evaluators that drift"
        " apart do not measure the same thing; one that rises alone has become lax.",
        unit="none",
        decimals=2,
        least=0,
        most=1,
        empty="no evaluator was named yet",
    ),
    [
        Query(
            expr=quantile(0.5, "loop_evaluator_score", HOUR, by="evaluator_id"),
            legend="{{evaluator_id}}",
        )
    ],
    drawn=SPARSE,
)

TOKENS: Final = series(
    About(
        id=50,
        title="Tokens a minute",
        description="Token burn. Points are the most talkative iterations: a click"
        " opens the run's page.",
        unit="short",
        least=0,
    ),
    [Query(expr=f"60 * {pace('loop_tokens_total')}", legend="tokens", exemplar=True)],
)

MISHAPS: Final = mishaps(id=51, description="Safety violations should be none at all.")
