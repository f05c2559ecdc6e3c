"""What each loop costs, and what comes of it."""

from typing import Final

from dashboards.board import (
    LOOP_URL,
)
from dashboards.panel import (
    BAD,
    FAIR,
    GOOD,
    PLAIN,
    POOR,
    About,
)
from dashboards.query import (
    IDENTITY,
    RANGE,
    grown,
    ratio,
)
from dashboards.table import Column, table

COST: Final = "loop_cost_usd_total"
TOKENS: Final = "loop_tokens_total"
_GAIN: Final = "loop_goal_score_gain_total"
_SUCCESS: Final = 'outcome="success"'


def per_success(metric: str, window: str, by: str = "") -> str:
    """Give how much of something was used for each run that met its goal."""
    won = grown("loop_runs_finished_total", window, _SUCCESS, by=by)
    return ratio(grown(metric, window, by=by), won)


def gain_per(metric: str, window: str, by: str = "") -> str:
    """Give by how much goal scores rose for each unit of something."""
    return ratio(grown(_GAIN, window, by=by), grown(metric, window, by=by))


TABLE: Final = table(
    About(
        id=10,
        title="Loops, the dearest first",
        description="What each loop used in the time range, and what came of it. A"
        " dear loop that gains little is the one to look at: a click on its name opens"
        " it.",
        unit="none",
    ),
    [
        Column(
            name="Loop",
            label="loop_name",
            unit="string",
            width=None,
            link=LOOP_URL + "${__value.text:percentencode}",
            tip="Open the loop",
        ),
        Column(
            name="Environment",
            label="env_id",
            unit="string",
            width=None,
            link=LOOP_URL + '${__data.fields["Loop"]:percentencode}'
            "&var-env_id=${__value.text:percentencode}",
            tip="Open the loop, in this environment",
        ),
        Column(
            name="Spend",
            expr=f"sort_desc({grown(COST, RANGE, by=IDENTITY)})",
            unit="currencyUSD",
            decimals=2,
            width=90,
        ),
        Column(
            name="of the budget",
            expr=f"{grown(COST, RANGE, by=IDENTITY)} / $budget_usd",
            unit="percentunit",
            steps=((None, GOOD), (0.25, FAIR), (0.5, POOR), (1, BAD)),
            cell="gauge",
            decimals=0,
            most=1,
            width=130,
        ),
        Column(
            name="Tokens",
            expr=grown(TOKENS, RANGE, by=IDENTITY),
            unit="short",
            decimals=1,
            width=90,
        ),
        Column(
            name="Successes",
            expr=grown("loop_runs_finished_total", RANGE, _SUCCESS, by=IDENTITY),
            steps=((None, BAD), (0.5, PLAIN)),
            cell="color-text",
            decimals=0,
            width=90,
        ),
        Column(
            name="Cost per success",
            expr=per_success(COST, RANGE, IDENTITY),
            unit="currencyUSD",
            decimals=3,
            width=130,
        ),
        Column(
            name="Tokens per success",
            expr=per_success(TOKENS, RANGE, IDENTITY),
            unit="short",
            decimals=1,
            width=145,
        ),
        Column(
            name="Gain per dollar",
            # No colour: what a gain may cost differs from loop to loop.
            expr=gain_per(COST, RANGE, IDENTITY),
            decimals=1,
            width=115,
        ),
        Column(
            name="Gain per 1k tokens",
            expr=f"1000 * {gain_per(TOKENS, RANGE, IDENTITY)}",
            decimals=3,
            width=140,
        ),
    ],
    sort="Spend",
)
