"""Fleet overview: which loops are unhealthy, and since when."""

from typing import Final

from dashboards.board import (
    ENVIRONMENT,
    INSTANCE,
    JOB,
    LOOP,
    LOOP_URL,
    Line,
    Row,
    board,
)
from dashboards.endings import failures, mishaps, outcomes
from dashboards.fleet_table import CAPPED, CHANGE, SIGN_WORDS, TABLE, signs
from dashboards.panel import (
    BAD,
    FAINT,
    FAIR,
    GOOD,
    HIGH_IS_GOOD,
    POOR,
    SPARSE,
    STACKED,
    UNSEEN,
    About,
    Json,
    Query,
    override,
    painted,
    series,
    stat,
    timeline,
)
from dashboards.query import (
    HOUR,
    IDENTITY,
    RANGE,
    cap_hits,
    convergence,
    les,
    les_change,
    loop,
    pace,
    summed,
)

_CLICK: Final[Json] = {
    "title": "Open the loop",
    "url": LOOP_URL + "${__field.labels.loop_name:percentencode}",
}


_ACTIVE: Final = stat(
    About(
        id=1,
        title="Active runs",
        description="Runs under way now, of all chosen loops.",
        unit="short",
    ),
    Query(expr=summed(loop("loop_runs_active"))),
)

_TROUBLE: Final = stat(
    About(
        id=2,
        title="Loops in trouble",
        description=f"Loops with at least one sign. {SIGN_WORDS}",
        unit="short",
        steps=((None, GOOD), (1, POOR), (3, BAD)),
    ),
    Query(
        expr=f"count({signs()}) or 0 * {summed(loop('loop_runs_active'))}",
        instant=True,
    ),
    filled=True,
)

_AGAINST_YESTERDAY: Final = stat(
    About(
        id=3,
        title="LES against yesterday",
        description="Mean final LES (Loop Engineering Score, 0 to 1)"
        " of the runs that ended in the time range, less that of the"
        " same hours of yesterday. Below -0.03 look at the table:"
        " which loop fell?",
        unit="none",
        steps=CHANGE,
        decimals=3,
        empty="no runs to compare",
    ),
    Query(expr=les_change(RANGE), instant=True),
    filled=True,
)

_CONVERGENCE: Final = stat(
    About(
        id=4,
        title="Convergence",
        description="Share of the runs that ended within an hour"
        " which met their goal. 80 % is good, under half is bad.",
        unit="percentunit",
        steps=HIGH_IS_GOOD,
        decimals=0,
    ),
    Query(expr=convergence(HOUR)),
)

_CAP_HITS: Final = stat(
    About(
        id=5,
        title="Cap hits",
        description="Share of the runs that ended within an hour"
        " because of a cap: iterations, budget, cost or time. Beyond"
        " a quarter, caps are too low or loops stall.",
        unit="percentunit",
        steps=CAPPED,
        decimals=0,
    ),
    Query(expr=cap_hits(HOUR)),
)

_SPEND: Final = stat(
    About(
        id=6,
        title="Spend per hour",
        description="Reported cost of all chosen loops, in US dollars"
        " an hour. The cost board says on what.",
        unit="currencyUSD",
        decimals=2,
    ),
    Query(expr=f"{pace('loop_cost_usd_total')} * 3600"),
)

_TIMELINE: Final = timeline(
    About(
        id=11,
        title="LES by loop",
        description="Mean final LES of the runs that ended within"
        " an hour, as a colour: green from 0.8, yellow from 0.65,"
        " orange from 0.5, red below.",
        unit="none",
        steps=HIGH_IS_GOOD,
        decimals=2,
        least=0,
        most=1,
    ),
    Query(expr=les(HOUR, IDENTITY), legend="{{loop_name}}"),
    links=[_CLICK],
)

_TWO_DAYS: Final = series(
    About(
        id=12,
        title="LES, today and yesterday",
        description="Mean final LES of the runs that ended within"
        " an hour, of all chosen loops; grey is the same hour of"
        " yesterday. Below 0.65 most runs end short of their"
        " target.",
        unit="none",
        steps=((None, UNSEEN), (0.65, FAIR)),
        decimals=2,
    ),
    [
        Query(expr=les(HOUR), legend="today"),
        Query(expr=les(HOUR, offset="1d"), legend="yesterday"),
    ],
    drawn=SPARSE | {"axisSoftMin": 0.5, "axisSoftMax": 1},
    overrides=[
        *painted({"today": GOOD, "yesterday": FAINT}),
        override(
            "/yesterday/",
            custom__lineStyle={"dash": [6, 6], "fill": "dash"},
            custom__fillOpacity=0,
        ),
    ],
)

_OUTCOMES_OVER_TIME: Final = outcomes(
    id=20,
    description="Runs that ended, by outcome. Partial is progress"
    " that a human or a budget has stopped; unknown, mostly a"
    " process that died.",
)

_ENDINGS: Final = series(
    About(
        id=21,
        title="Convergence and cap hits",
        description="Of the runs that ended within an hour: the share"
        " that met its goal, and the share that a cap has ended."
        " When the two meet, loops run out of room.",
        unit="percentunit",
        steps=((None, UNSEEN), (0.5, BAD)),
        decimals=0,
        least=0,
        most=1,
    ),
    [
        Query(expr=convergence(HOUR), legend="convergence"),
        Query(expr=cap_hits(HOUR), legend="cap hits"),
    ],
    drawn=SPARSE,
    overrides=painted({"convergence": GOOD, "cap hits": POOR}),
)

_SPEND_BY_LOOP: Final = series(
    About(
        id=22,
        title="Spend per hour, by loop",
        description="Reported cost in US dollars an hour, stacked: the"
        " height is the whole fleet's.",
        unit="currencyUSD",
        decimals=2,
        least=0,
    ),
    [
        Query(
            expr=f"{pace('loop_cost_usd_total', by='loop_name')} * 3600",
            legend="{{loop_name}}",
        )
    ],
    drawn=STACKED,
    points=120,
)

_ACTIVE_BY_LOOP: Final = series(
    About(
        id=31,
        title="Active runs, by loop",
        description="Runs under way, stacked.",
        unit="short",
        decimals=0,
        least=0,
    ),
    [
        Query(
            expr=summed(loop("loop_runs_active"), "loop_name"),
            legend="{{loop_name}}",
        )
    ],
    drawn=STACKED | {"lineInterpolation": "stepAfter"},
    points=120,
)

_FAILURES: Final = failures(
    id=32,
    description="Failure modes that loops have reported,"
    " by code. A code that grows is the first thing to"
    " look for in the traces.",
)

_MISHAPS: Final = mishaps(
    id=33,
    description="Safety violations should be none at all;"
    " each is in its run's trace. A human who steps in"
    " often is a loop that cannot do without.",
)


def build() -> Json:
    """Give the board."""
    top = (_ACTIVE, _TROUBLE, _AGAINST_YESTERDAY, _CONVERGENCE, _CAP_HITS, _SPEND)
    ends = (_OUTCOMES_OVER_TIME, _ENDINGS, _SPEND_BY_LOOP)
    activity = (_ACTIVE_BY_LOOP, _FAILURES, _MISHAPS)
    return board(
        uid="loopotel-fleet",
        title="Loops / Fleet overview",
        description="Which loops are unhealthy? LES against yesterday, convergence,"
        " cap hits, spend.",
        variables=[JOB, INSTANCE, ENVIRONMENT, LOOP],
        rows=[
            Row(
                0,
                "",
                [
                    Line(3, top[:3]),
                    Line(3, top[3:]),
                    Line(9, [TABLE]),
                    Line(8, [_TIMELINE, _TWO_DAYS]),
                    Line(8, ends),
                ],
            ),
            Row(30, "Activity and mishaps", [Line(8, activity)], folded=True),
        ],
        since="now-6h",
        runs_end=(),
    )
