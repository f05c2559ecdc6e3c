"""The fleet, loop by loop, and the signs that one is in trouble."""

from typing import Final

from dashboards.board import (
    LOOP_URL,
)
from dashboards.panel import (
    BAD,
    FAIR,
    GOOD,
    HIGH_IS_GOOD,
    POOR,
    ZERO_IS_GOOD,
    About,
    Steps,
)
from dashboards.query import (
    IDENTITY,
    RANGE,
    cap_hits,
    convergence,
    grown,
    last_success,
    les,
    les_change,
    loop,
    regressions,
    silence_seconds,
    summed,
)
from dashboards.table import Column, table

CHANGE: Final[Steps] = ((None, BAD), (-0.1, POOR), (-0.03, GOOD))
CAPPED: Final[Steps] = ((None, GOOD), (0.1, FAIR), (0.25, POOR), (0.5, BAD))
_REGRESSED: Final[Steps] = ((None, GOOD), (0.1, FAIR), (0.25, POOR), (0.4, BAD))
_SIGNS: Final[Steps] = ((None, GOOD), (1, POOR), (2, BAD))


# What makes a loop unhealthy. Each sign is a condition on a vector by loop.
_SIGN_CONDITIONS: Final = {
    "convergence": f"{convergence(RANGE, IDENTITY)} < 0.5",
    "les": f"{les(RANGE, IDENTITY)} < 0.6",
    "yesterday": f"{les_change(RANGE, IDENTITY)} < -0.1",
    "caps": f"{cap_hits(RANGE, IDENTITY)} > 0.5",
    "regressions": f"{regressions(RANGE, IDENTITY)} > 0.25",
    "safety": f"{grown('loop_safety_violations_total', RANGE, by=IDENTITY)} > 0",
    "silence": f"max by ({IDENTITY}) ({silence_seconds()}) > 600",
}


SIGN_WORDS: Final = (
    "Signs of trouble, over the time range: under half of its runs meet their goal;"
    " mean final LES below 0.6, or 0.1 below that of yesterday; a cap ends over half"
    " of its runs; over a quarter of its iterations regress; a safety violation; a"
    " live run without an iteration for ten minutes."
)


def signs() -> str:
    """Count the signs of trouble of each loop that has any."""
    # The label keeps `or` from taking the signs of one loop for the same.
    marked = [
        f'label_replace({condition}, "sign", "{sign}", "", "")'
        for sign, condition in _SIGN_CONDITIONS.items()
    ]
    return f"count by ({IDENTITY}) ({' or '.join(marked)})"


TABLE: Final = table(
    About(
        id=10,
        title="Loops, the worst first",
        description="Each loop over the time range. A click on its name opens"
        f" its own board. {SIGN_WORDS}",
        unit="none",
    ),
    [
        Column(
            name="Loop",
            label="loop_name",
            width=None,
            unit="string",
            link=LOOP_URL + "${__value.text:percentencode}",
            tip="Open the loop",
        ),
        Column(
            name="Environment",
            label="env_id",
            width=None,
            unit="string",
            link=LOOP_URL + '${__data.fields["Loop"]:percentencode}'
            "&var-env_id=${__value.text:percentencode}",
            tip="Open the loop, in this environment",
        ),
        Column(
            name="Signs",
            expr=f"sort_desc({signs()}"
            f" or 0 * {summed(loop('loop_runs_active'), IDENTITY)})",
            steps=_SIGNS,
            cell="color-background",
            width=65,
        ),
        Column(
            name="Active",
            expr=summed(loop("loop_runs_active"), IDENTITY),
            width=65,
        ),
        Column(
            name="LES",
            expr=les(RANGE, IDENTITY),
            steps=HIGH_IS_GOOD,
            cell="gauge",
            decimals=2,
            most=1,
            width=130,
        ),
        Column(
            name="vs yesterday",
            expr=les_change(RANGE, IDENTITY),
            steps=CHANGE,
            cell="color-text",
            decimals=3,
            width=105,
        ),
        Column(
            name="Convergence",
            expr=convergence(RANGE, IDENTITY),
            unit="percentunit",
            steps=HIGH_IS_GOOD,
            cell="color-background",
            decimals=0,
            width=110,
        ),
        Column(
            name="Cap hits",
            expr=cap_hits(RANGE, IDENTITY),
            unit="percentunit",
            steps=CAPPED,
            cell="color-background",
            decimals=0,
            width=85,
        ),
        Column(
            name="Regressions",
            expr=regressions(RANGE, IDENTITY),
            unit="percentunit",
            steps=_REGRESSED,
            cell="color-background",
            decimals=0,
            width=105,
        ),
        Column(
            name="Safety",
            expr=grown("loop_safety_violations_total", RANGE, by=IDENTITY),
            steps=ZERO_IS_GOOD,
            cell="color-text",
            decimals=0,
            width=70,
        ),
        Column(
            name="Spend",
            expr=grown("loop_cost_usd_total", RANGE, by=IDENTITY),
            unit="currencyUSD",
            decimals=2,
            width=85,
        ),
        Column(
            name="Last success",
            expr=f"{last_success(IDENTITY)} * 1000",
            unit="dateTimeFromNow",
            width=150,
        ),
    ],
    sort="Signs",
)
