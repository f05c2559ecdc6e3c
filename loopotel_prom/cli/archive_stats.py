"""The command `loopotel-prom archive stats`."""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import typer

from loopotel_prom.cli import wording
from loopotel_prom.cli.archive_source import (
    DEFAULT_ARCHIVE,
    Archive,
    Damage,
    digest,
    entries,
)
from loopotel_prom.cli.columns import Column, render
from loopotel_prom.cli.terminal import echo_safe
from loopotel_prom.engine import place_of
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.runs.statistics import Distribution, Group, Statistics

_SHARES = {"p10": 0.1, "p50": 0.5, "p90": 0.9, "p95": 0.95}
_WIDEST = 32
_COLUMNS = (
    Column("runs", right=True),
    Column("success", right=True),
    Column("failure", right=True),
    Column("partial", right=True),
    Column("unknown", right=True),
    Column("converged", right=True),
    Column("iter mean/p50/p95", right=True),
    Column("tokens", right=True),
    Column("per success", right=True),
    Column("cost $", right=True),
    Column("$ per success", right=True),
    Column("LES p10/p50/p90", right=True),
    Column("score p50", right=True),
    Column("first run"),
    Column("last run"),
)


class By(StrEnum):
    """What runs are grouped by."""

    LOOP = "loop"
    ENV = "env"
    TASK = "task"
    OUTCOME = "outcome"


def stats(
    archive: Archive = DEFAULT_ARCHIVE,
    *,
    by: Annotated[
        By, typer.Option(help="What the runs are grouped by.", show_default=True)
    ] = By.LOOP,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with all groups.")
    ] = False,
) -> None:
    """
    Sum up the runs of an archive: outcomes, iterations, tokens, cost, LES, score.

    Percentiles are exact, as values are counted at the 4 places that documents
    give them; beyond 20,000 different values they have 3 digits.
    """
    place = place_of(archive)
    bad = Damage()
    statistics = Statistics(by.value)
    for entry in entries(place, bad, bar=True):
        found = digest(entry, bad)
        if found is not None:
            statistics.add(found)
    if as_json:
        groups = [_values(group) for group in statistics.groups()]
        whole = {"by": by.value, "groups": groups, "all": _values(statistics.all)}
        typer.echo(json.dumps(whole))
    else:
        rows = (
            [group.name or wording.NONE, *_cells(group)] for group in _rows(statistics)
        )
        for line in render((Column(by.value, widest=_WIDEST), *_COLUMNS), rows):
            echo_safe(line)
    bad.end(place)


def _rows(statistics: Statistics) -> Iterator[Group]:
    groups = list(statistics.groups())
    yield from groups
    if len(groups) > 1:
        statistics.all.name = "all"
        yield statistics.all


def _cells(group: Group) -> list[str]:
    mean = group.iterations.mean
    iterations = [wording.NONE if mean is None else f"{mean:.1f}"]
    iterations += [_whole(group.iterations.percentile(share)) for share in (0.5, 0.95)]
    les = [wording.score(group.les.percentile(share)) for share in (0.1, 0.5, 0.9)]
    return [
        str(group.runs),
        *(str(group.outcomes[name]) for name in ("success", "failure", "partial")),
        str(_other(group)),
        f"{100 * group.successes / group.runs:.1f} %" if group.runs else wording.NONE,
        "/".join(iterations),
        str(group.tokens),
        _whole(_per_success(group, group.tokens)),
        wording.money(group.cost_usd),
        wording.money(_per_success(group, group.cost_usd)),
        "/".join(les),
        wording.score(group.goal_score.percentile(0.5)),
        wording.moment(group.first_ns),
        wording.moment(group.last_ns),
    ]


def _other(group: Group) -> int:
    """Count the runs of unknown outcome, and of one that the format has not."""
    told = (group.outcomes[name] for name in ("success", "failure", "partial"))
    return group.runs - sum(told)


def _per_success(group: Group, total: float | None) -> float | None:
    """Spread over the successes what all runs took."""
    return None if total is None or not group.successes else total / group.successes


def _whole(value: float | None) -> str:
    return wording.NONE if value is None else f"{value:.0f}"


def _values(group: Group) -> dict[str, Any]:
    return {
        "name": group.name,
        "runs": group.runs,
        "outcomes": dict(group.outcomes),
        "convergence_rate": group.successes / group.runs if group.runs else None,
        "iterations": _percentiles(group.iterations),
        "tokens": group.tokens,
        "tokens_per_success": _per_success(group, group.tokens),
        "cost_usd": group.cost_usd,
        "cost_usd_per_success": _per_success(group, group.cost_usd),
        "final_les": _percentiles(group.les),
        "final_goal_score": _percentiles(group.goal_score),
        "first_started_at": _time(group.first_ns),
        "last_started_at": _time(group.last_ns),
    }


def _percentiles(values: Distribution) -> dict[str, float | None]:
    shares = {name: values.percentile(share) for name, share in _SHARES.items()}
    return {"mean": values.mean, **shares}


def _time(time_ns: int | None) -> str | None:
    return None if time_ns is None else format_time(time_ns)
