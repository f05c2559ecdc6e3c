"""Tokens and cost: what is burnt, for what, and how long the budget lasts."""

from typing import Final

from dashboards.board import (
    ENVIRONMENT,
    INSTANCE,
    JOB,
    LOOP,
    Line,
    Row,
    board,
    typed,
)
from dashboards.cost_table import COST, TABLE, TOKENS, gain_per, per_success
from dashboards.panel import (
    BAD,
    BARS,
    FAINT,
    FAIR,
    GOOD,
    PLAIN,
    POOR,
    SPARSE,
    STACKED,
    About,
    Json,
    Query,
    Steps,
    override,
    painted,
    series,
    stat,
)
from dashboards.query import (
    HOUR,
    RANGE,
    grown,
    pace,
    per_interval,
    ratio,
)

_NO_COST: Final = "no cost reported"
_NO_SUCCESS: Final = "no success yet"
_SPENT: Final[Steps] = ((None, GOOD), (0.7, FAIR), (0.9, POOR), (1, BAD))
_SPEND: Final = stat(
    About(
        id=1,
        title="Spend",
        description="Reported cost of the chosen loops in the time range.",
        unit="currencyUSD",
        decimals=2,
        empty=_NO_COST,
    ),
    Query(expr=grown(COST, RANGE), instant=True),
)

_BUDGET_USED: Final = stat(
    About(
        id=2,
        title="Budget used",
        description="Spend of the time range over the budget typed above; a budget is"
        " for the time range. Orange from 90 %, red from all of it.",
        unit="percentunit",
        steps=_SPENT,
        decimals=0,
        empty=_NO_COST,
    ),
    Query(expr=f"{grown(COST, RANGE)} / $budget_usd", instant=True),
    filled=True,
)

_BUDGET_LASTS: Final = stat(
    About(
        id=3,
        title="Budget lasts for",
        description="What is left of the budget, at the pace of the last hour. Red: not"
        " an hour; orange: not six; yellow: not a day.",
        unit="s",
        steps=((None, BAD), (3600, POOR), (21_600, FAIR), (86_400, GOOD)),
        decimals=1,
        empty="nothing is spent",
    ),
    Query(
        expr=f"clamp_min($budget_usd - {grown(COST, RANGE)}, 0)"
        f" / ({grown(COST, HOUR)} > 0) * 3600",
        instant=True,
    ),
    filled=True,
)

_FORECAST: Final = stat(
    About(
        id=4,
        title="Forecast, 24 hours",
        description="What the next 24 hours cost at the pace of the last one, in US"
        " dollars.",
        unit="currencyUSD",
        decimals=2,
        empty=_NO_COST,
    ),
    Query(expr=f"24 * {grown(COST, HOUR)}"),
)

_COST_PER_SUCCESS: Final = stat(
    About(
        id=5,
        title="Cost per success",
        description="Spend of the time range over the runs that met their goal: what"
        " failed runs cost is in it.",
        unit="currencyUSD",
        decimals=3,
        empty=_NO_SUCCESS,
    ),
    Query(expr=per_success(COST, RANGE), instant=True),
)

_TOKENS_PER_SUCCESS: Final = stat(
    About(
        id=6,
        title="Tokens per success",
        description="Tokens of the time range over the runs that met their goal.",
        unit="short",
        decimals=1,
        empty=_NO_SUCCESS,
    ),
    Query(expr=per_success(TOKENS, RANGE), instant=True),
)

_GAIN_PER_DOLLAR: Final = stat(
    About(
        id=7,
        title="Gain per dollar",
        description="By how much goal scores rose (1 is from nothing to all) for each"
        " US dollar of the time range. More is better.",
        unit="none",
        decimals=2,
        empty=_NO_COST,
    ),
    Query(expr=gain_per(COST, RANGE), instant=True),
)

_GAIN_PER_TOKENS: Final = stat(
    About(
        id=8,
        title="Gain per 1k tokens",
        description="By how much goal scores rose for every thousand tokens of the time"
        " range. More is better.",
        unit="none",
        decimals=3,
    ),
    Query(expr=f"1000 * {gain_per(TOKENS, RANGE)}", instant=True),
)

_TOKENS_BY_LOOP: Final = series(
    About(
        id=20,
        title="Tokens a minute, by loop",
        description="Token burn, stacked: the height is the whole fleet's. Points are"
        " the most talkative iterations: a click opens the run's page.",
        unit="short",
        least=0,
    ),
    [
        Query(
            expr=f"60 * {pace(TOKENS, by='loop_name')}",
            legend="{{loop_name}}",
            exemplar=True,
        )
    ],
    drawn=STACKED,
    points=120,
)

_SPEND_BY_LOOP: Final = series(
    About(
        id=21,
        title="Spend per hour, by loop",
        description="Reported cost in US dollars an hour, stacked.",
        unit="currencyUSD",
        decimals=2,
        least=0,
        empty=_NO_COST,
    ),
    [
        Query(
            expr=f"3600 * {pace(COST, by='loop_name')}",
            legend="{{loop_name}}",
        )
    ],
    drawn=STACKED,
    points=120,
)

_DAYS: Final = series(
    About(
        id=22,
        title="Spend and forecast",
        description="What the 24 hours before each moment cost, and what 24 hours cost"
        " at the pace of the hour before it: where the forecast is above, spending"
        " grows.",
        unit="currencyUSD",
        least=0,
        empty=_NO_COST,
    ),
    [
        Query(expr=grown(COST, "1d"), legend="last 24 hours"),
        Query(expr=f"24 * {grown(COST, HOUR)}", legend="forecast"),
    ],
    drawn=SPARSE,
    overrides=[
        *painted({"last 24 hours": PLAIN, "forecast": POOR}),
        override(
            "/forecast/",
            custom__lineStyle={"dash": [8, 6], "fill": "dash"},
            custom__fillOpacity=0,
        ),
    ],
)

_SUCCESS_COST: Final = series(
    About(
        id=23,
        title="Cost per success, by loop",
        description="Spend of an hour over the runs that met their goal in it. A gap is"
        " an hour without success.",
        unit="currencyUSD",
        least=0,
        empty=_NO_SUCCESS,
    ),
    [
        Query(
            expr=per_success(COST, HOUR, "loop_name"),
            legend="{{loop_name}}",
        )
    ],
    drawn={"fillOpacity": 0, "scaleDistribution": {"type": "log", "log": 10}},
)

_DOLLARS_WORTH: Final = series(
    About(
        id=24,
        title="Gain per dollar, by loop",
        description="By how much goal scores rose for each US dollar, over an hour. A"
        " curve that falls is a loop that pays more for the same.",
        unit="none",
        least=0,
        empty=_NO_COST,
    ),
    [
        Query(
            expr=gain_per(COST, HOUR, "loop_name"),
            legend="{{loop_name}}",
        )
    ],
    drawn=SPARSE | {"fillOpacity": 0, "scaleDistribution": {"type": "log", "log": 10}},
)

_TOKENS_WORTH: Final = series(
    About(
        id=25,
        title="Gain per 1k tokens, by loop",
        description="By how much goal scores rose for every thousand tokens, over an"
        " hour.",
        unit="none",
        decimals=3,
        least=0,
    ),
    [
        Query(
            expr=f"1000 * {gain_per(TOKENS, HOUR, 'loop_name')}",
            legend="{{loop_name}}",
        )
    ],
    drawn=SPARSE | {"fillOpacity": 0, "scaleDistribution": {"type": "log", "log": 10}},
)

_IN_AND_OUT: Final = series(
    About(
        id=31,
        title="Input and output tokens",
        description="Tokens read and written, of the loops that tell them apart."
        " Written ones cost several times as much.",
        unit="short",
        least=0,
        empty="not told apart",
    ),
    [
        Query(expr=per_interval("loop_input_tokens_total"), legend="input"),
        Query(expr=per_interval("loop_output_tokens_total"), legend="output"),
    ],
    drawn=BARS,
    overrides=painted({"input": PLAIN, "output": POOR}),
)

_TOKENS_PER_ITERATION: Final = series(
    About(
        id=32,
        title="Tokens per iteration, by loop",
        description="A loop whose iterations grow drags its history along.",
        unit="short",
        least=0,
    ),
    [
        Query(
            expr=ratio(
                grown(TOKENS, HOUR, by="loop_name"),
                grown("loop_iterations_total", HOUR, by="loop_name"),
            ),
            legend="{{loop_name}}",
        )
    ],
    drawn=SPARSE | {"fillOpacity": 0},
)

_WASTE: Final = series(
    About(
        id=33,
        title="Cost per run, against per success",
        description="Spend of an hour over all runs that ended, and over those that met"
        " their goal. What lies between is paid for runs that did not.",
        unit="currencyUSD",
        least=0,
        empty=_NO_COST,
    ),
    [
        Query(
            expr=ratio(grown(COST, HOUR), grown("loop_runs_finished_total", HOUR)),
            legend="per run",
        ),
        Query(expr=per_success(COST, HOUR), legend="per success"),
    ],
    drawn=SPARSE,
    overrides=painted({"per run": FAINT, "per success": GOOD}),
)


def build() -> Json:
    """Give the board."""
    top = (
        _SPEND,
        _BUDGET_USED,
        _BUDGET_LASTS,
        _FORECAST,
        _COST_PER_SUCCESS,
        _TOKENS_PER_SUCCESS,
        _GAIN_PER_DOLLAR,
        _GAIN_PER_TOKENS,
    )
    worth = (_SUCCESS_COST, _DOLLARS_WORTH, _TOKENS_WORTH)
    details = (_IN_AND_OUT, _TOKENS_PER_ITERATION, _WASTE)
    return board(
        uid="loopotel-cost",
        title="Loops / Tokens and cost",
        description="What do loops burn, for what, and how long does the budget last?",
        variables=[
            JOB,
            INSTANCE,
            ENVIRONMENT,
            LOOP,
            typed("budget_usd", "Budget (USD)", "1000"),
        ],
        rows=[
            Row(
                0,
                "",
                [
                    Line(3, top[:4]),
                    Line(3, top[4:]),
                    Line(8, (_TOKENS_BY_LOOP, _SPEND_BY_LOOP, _DAYS)),
                    Line(10, [TABLE]),
                ],
            ),
            Row(40, "What it is worth", [Line(8, worth)]),
            Row(41, "Iterations and runs", [Line(8, details)], folded=True),
        ],
        since="now-24h",
        runs_end=(),
    )
