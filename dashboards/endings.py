"""The panels that two boards have: how runs end, and what goes wrong in them."""

from dashboards.panel import (
    BAD,
    BARS,
    OUTCOMES,
    POOR,
    ZERO_IS_GOOD,
    About,
    Json,
    Query,
    painted,
    series,
)
from dashboards.query import per_interval


def outcomes(*, id: int, description: str) -> Json:  # noqa: A002 - Grafana's word
    """Show the runs that ended, by outcome."""
    about = About(
        id=id,
        title="How runs end",
        description=description,
        unit="short",
        decimals=0,
        least=0,
    )
    ended = per_interval("loop_runs_finished_total", by="outcome")
    queries = [Query(expr=ended, legend="{{outcome}}")]
    return series(about, queries, drawn=BARS, overrides=painted(OUTCOMES))


def failures(*, id: int, description: str) -> Json:  # noqa: A002 - Grafana's word
    """Show the failure modes reported, by code."""
    about = About(
        id=id,
        title="Failure codes",
        description=description,
        unit="short",
        decimals=0,
        least=0,
        empty="no failures reported",
    )
    reported = per_interval("loop_failures_total", by="code")
    queries = [Query(expr=reported, legend="{{code}}")]
    return series(about, queries, shades=POOR, drawn=BARS)


def mishaps(*, id: int, description: str) -> Json:  # noqa: A002 - Grafana's word
    """Show safety violations, and where a human stepped in."""
    about = About(
        id=id,
        title="Safety violations and human interventions",
        description=description,
        unit="short",
        steps=ZERO_IS_GOOD,
        decimals=0,
        least=0,
    )
    queries = [
        Query(
            expr=per_interval("loop_safety_violations_total"),
            legend="safety violations",
        ),
        Query(
            expr=per_interval("loop_human_interventions_total"),
            legend="human interventions",
        ),
    ]
    colours = {"safety violations": BAD, "human interventions": "purple"}
    return series(about, queries, drawn=BARS, overrides=painted(colours))
