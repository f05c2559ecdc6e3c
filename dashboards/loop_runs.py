"""The runs of a loop that are under way."""

from typing import Final

from dashboards.panel import (
    BAD,
    BARS,
    FAINT,
    FAIR,
    GOOD,
    HIGH_IS_GOOD,
    PLAIN,
    STEPPED,
    UNSEEN,
    About,
    Query,
    override,
    painted,
    series,
)
from dashboards.query import (
    RATE,
    RUN,
    grown,
    loop,
    per_interval,
    silence_seconds,
)
from dashboards.table import Column, table

_RUN_LEGEND: Final = "{{env_id}} #{{slot}}"
NO_RUN: Final = "no run under way"


def each_run(metric: str) -> str:
    """Give a metric of each active run of the chosen loop."""
    return f"max by ({RUN}) ({loop(metric)})"


SCORES: Final = series(
    About(
        id=10,
        title="Goal score against target",
        description="Goal score of each active run, by slot; dashed is the target. A"
        " curve that flattens below it has stalled, one that falls regresses. A gap is"
        " a slot without a run.",
        unit="percentunit",
        decimals=0,
        least=0,
        most=1,
        empty=NO_RUN,
    ),
    [
        Query(expr=each_run("loop_goal_score"), legend=_RUN_LEGEND),
        Query(expr=each_run("loop_goal_target"), legend=f"target {_RUN_LEGEND}"),
    ],
    drawn=STEPPED,
    overrides=[
        override(
            "/^target/",
            color={"mode": "fixed", "fixedColor": FAINT},
            custom__lineStyle={"dash": [8, 6], "fill": "dash"},
            custom__lineWidth=1,
            custom__hideFrom={"legend": True, "tooltip": True, "viz": False},
        )
    ],
)

RUNS: Final = table(
    About(
        id=11,
        title="Runs under way",
        description="The active runs. The instance opens its page of runs; the trace,"
        " which an exporter shows with `run_info=True`, opens the run's own page.",
        unit="none",
        empty=NO_RUN,
    ),
    [
        Column(name="", label="loop_name"),
        Column(name="Environment", label="env_id", unit="string", width=None),
        Column(
            name="Instance",
            label="instance",
            unit="string",
            width=130,
            link="http://${__value.text}/",
            tip="Open its page of runs",
        ),
        Column(name="Slot", label="slot", unit="string", width=50),
        Column(
            name="Trace",
            label="trace_id",
            unit="string",
            width=170,
            link='http://${__data.fields["Instance"]}/runs/${__value.text}',
            tip="Open the run's page",
        ),
        Column(
            name="Goal score",
            expr=f"sort({each_run('loop_goal_score')})",
            unit="percentunit",
            steps=HIGH_IS_GOOD,
            cell="gauge",
            decimals=0,
            most=1,
            width=130,
        ),
        Column(
            name="Target",
            expr=each_run("loop_goal_target"),
            unit="percentunit",
            decimals=0,
            width=70,
        ),
        Column(
            name="LES",
            expr=each_run("loop_les_cumulative"),
            steps=HIGH_IS_GOOD,
            cell="color-text",
            decimals=2,
            width=60,
        ),
        Column(name="Iteration", expr=each_run("loop_iteration"), width=80),
        Column(
            name="Tokens",
            expr=each_run("loop_run_tokens"),
            unit="short",
            decimals=1,
            width=80,
        ),
        Column(
            name="Cost",
            expr=each_run("loop_run_cost_usd"),
            unit="currencyUSD",
            decimals=3,
            width=80,
        ),
        Column(
            name="Age",
            expr=f"time() - {each_run('loop_run_start_timestamp_seconds')}",
            unit="s",
            decimals=0,
            width=80,
        ),
        Column(
            name="Silent for",
            expr=f"max by ({RUN}) ({silence_seconds()})",
            unit="s",
            steps=((None, GOOD), (120, FAIR), (600, BAD)),
            cell="color-text",
            decimals=0,
            width=90,
        ),
        Column(name="", expr=f"max by ({RUN}, trace_id) ({loop('loop_run_info')})"),
    ],
    sort="Goal score",
    falling=False,
)

LES_OF_RUNS: Final = series(
    About(
        id=12,
        title="LES of runs",
        description="Cumulative LES of each active run: the mean of its effectiveness"
        " so far. It is slow to fall; the slope is quicker. Colours as above.",
        unit="none",
        steps=((None, UNSEEN), (0.5, BAD)),
        decimals=2,
        least=0,
        most=1,
        empty=NO_RUN,
    ),
    [Query(expr=each_run("loop_les_cumulative"), legend=_RUN_LEGEND)],
    legend=False,
    drawn=STEPPED,
)

EFFECTIVENESS: Final = series(
    About(
        id=13,
        title="Effectiveness",
        description="Goal score over target of the latest iteration, at most 1, where"
        " the goal is met.",
        unit="percentunit",
        decimals=0,
        least=0,
        most=1,
        empty=NO_RUN,
    ),
    [Query(expr=each_run("loop_les_effectiveness"), legend=_RUN_LEGEND)],
    legend=False,
    drawn=STEPPED,
)

SLOPE: Final = series(
    About(
        id=14,
        title="Slope",
        description="By how much effectiveness rises in a minute, over the last three."
        " Zero is a stall, less is a regression. Where a slot went from one run to"
        " another in that time there is none.",
        unit="percentunit",
        steps=((None, BAD), (0, UNSEEN)),
        decimals=1,
        empty="no run of three minutes",
    ),
    [
        Query(
            expr=f"60 * max by ({RUN}) (deriv({loop('loop_les_effectiveness')}[3m]))"
            f" and on ({RUN}) (changes("
            f"{loop('loop_run_start_timestamp_seconds')}[3m]) == 0)",
            legend=_RUN_LEGEND,
        )
    ],
    legend=False,
    drawn={
        "axisCenteredZero": True,
        # Of a short run there may be a single point.
        "showPoints": "auto",
        "thresholdsStyle": {"mode": "area"},
    },
)

REGRESSED_OVER_TIME: Final = series(
    About(
        id=15,
        title="Iterations",
        description="Iterations finished: those that regressed, whose goal score fell,"
        " and the others.",
        unit="short",
        decimals=0,
        least=0,
    ),
    [
        Query(expr=per_interval("loop_regressions_total"), legend="regressed"),
        Query(
            expr=f"{grown('loop_iterations_total', RATE)} -"
            f" {grown('loop_regressions_total', RATE)}",
            legend="others",
        ),
    ],
    drawn=BARS,
    overrides=painted({"regressed": BAD, "others": PLAIN}),
)
