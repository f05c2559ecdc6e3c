"""Loop detail: where the runs of one loop are heading, and what is behind it."""

from typing import Final

from dashboards.board import (
    INSTANCE,
    ITS_ENVIRONMENT,
    JOB,
    ONE_LOOP,
    Line,
    Row,
    board,
)
from dashboards.loop_past import (
    CALLS,
    DURATIONS,
    ENDS,
    FAILURES,
    FINAL_SCORES,
    ITERATIONS,
    JUDGEMENTS,
    LATENCY,
    MISHAPS,
    QUANTILES,
    REASONS,
    TOKENS,
    WORKER_TIMES,
)
from dashboards.loop_runs import (
    EFFECTIVENESS,
    LES_OF_RUNS,
    NO_RUN,
    REGRESSED_OVER_TIME,
    RUNS,
    SCORES,
    SLOPE,
    each_run,
)
from dashboards.panel import (
    BAD,
    FAIR,
    GOOD,
    HIGH_IS_GOOD,
    POOR,
    About,
    Json,
    Query,
    Steps,
    stat,
)
from dashboards.query import (
    HOUR,
    RANGE,
    cap_hits,
    convergence,
    last_success,
    les,
    les_change,
    loop,
    regressions,
    summed,
)

_REGRESSED: Final[Steps] = ((None, GOOD), (0.1, FAIR), (0.25, POOR), (0.4, BAD))
_ACTIVE: Final = stat(
    About(
        id=1,
        title="Active runs",
        description="Runs of this loop under way now.",
        unit="short",
    ),
    Query(expr=summed(loop("loop_runs_active"))),
)

_NEAREST: Final = stat(
    About(
        id=2,
        title="Farthest from its goal",
        description="Goal score over target of the active run that is farthest from"
        " its goal. Young runs are far; an old one that stays so has stalled.",
        unit="percentunit",
        steps=HIGH_IS_GOOD,
        decimals=0,
        least=0,
        most=1,
        empty=NO_RUN,
    ),
    Query(
        expr=f"min({each_run('loop_goal_score')} / ({each_run('loop_goal_target')}"
        " > 0))"
    ),
)

_LES: Final = stat(
    About(
        id=3,
        title="LES",
        description="Mean final LES (Loop Engineering Score, 0 to 1) of the runs that"
        " ended within an hour. 0.8 is good, below 0.5 is bad.",
        unit="none",
        steps=HIGH_IS_GOOD,
        decimals=2,
    ),
    Query(expr=les(HOUR)),
)

_AGAINST_YESTERDAY: Final = stat(
    About(
        id=4,
        title="LES against yesterday",
        description="Mean final LES of the runs that ended in the time range, less"
        " that of the same hours of yesterday.",
        unit="none",
        steps=((None, BAD), (-0.1, POOR), (-0.03, GOOD)),
        decimals=3,
        empty="no runs to compare",
    ),
    Query(expr=les_change(RANGE), instant=True),
)

_CONVERGENCE: Final = stat(
    About(
        id=5,
        title="Convergence",
        description="Share of the runs that ended within an hour which met their goal.",
        unit="percentunit",
        steps=HIGH_IS_GOOD,
        decimals=0,
    ),
    Query(expr=convergence(HOUR)),
)

_CAP_HITS: Final = stat(
    About(
        id=6,
        title="Cap hits",
        description="Share of the runs that ended within an hour because of a cap:"
        " iterations, budget, cost or time.",
        unit="percentunit",
        steps=((None, GOOD), (0.1, FAIR), (0.25, POOR), (0.5, BAD)),
        decimals=0,
    ),
    Query(expr=cap_hits(HOUR)),
)

_REGRESSIONS: Final = stat(
    About(
        id=7,
        title="Regressions",
        description="Share of the iterations of the last hour whose goal score fell"
        " below that of the one before. Beyond a quarter the loop oscillates.",
        unit="percentunit",
        steps=_REGRESSED,
        decimals=0,
    ),
    Query(expr=regressions(HOUR)),
)

_SINCE_SUCCESS: Final = stat(
    About(
        id=8,
        title="Since last success",
        description="How long ago a run of this loop last met its goal.",
        unit="s",
        steps=((None, GOOD), (3600, FAIR), (21_600, POOR), (86_400, BAD)),
        decimals=0,
        empty="no success yet",
    ),
    Query(
        expr=f"time() - {last_success()}",
        instant=True,
    ),
)


def build() -> Json:
    """Give the board."""
    top = (
        _ACTIVE,
        _NEAREST,
        _LES,
        _AGAINST_YESTERDAY,
        _CONVERGENCE,
        _CAP_HITS,
        _REGRESSIONS,
        _SINCE_SUCCESS,
    )
    course = (LES_OF_RUNS, EFFECTIVENESS, SLOPE, REGRESSED_OVER_TIME)
    runs = (ITERATIONS, DURATIONS, FINAL_SCORES)
    return board(
        uid="loopotel-loop",
        title="Loops / Loop detail",
        description="Where are the runs of one loop heading? Goal score against target,"
        " LES, slope, regressions, failures, latency, and the runs behind them.",
        variables=[JOB, INSTANCE, ONE_LOOP, ITS_ENVIRONMENT],
        rows=[
            Row(
                0,
                "",
                [
                    Line(3, top[:4]),
                    Line(3, top[4:]),
                    Line(9, [SCORES]),
                    Line(7, course),
                    Line(6, [RUNS]),
                ],
            ),
            Row(60, "Outcomes and failures", [Line(8, (ENDS, REASONS, FAILURES))]),
            Row(61, "Latency", [Line(9, (LATENCY, QUANTILES))]),
            Row(
                62,
                "Workers and evaluators",
                [Line(8, (CALLS, WORKER_TIMES, JUDGEMENTS))],
            ),
            Row(
                63,
                "Runs, tokens and mishaps",
                [Line(8, runs), Line(7, (TOKENS, MISHAPS))],
                folded=True,
            ),
        ],
        since="now-1h",
        runs_end=(10,),
    )
