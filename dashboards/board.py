"""A board: its variables, links, annotations, and panels laid out in rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from dashboards.panel import BAD, DATASOURCE, PLAIN, Json
from dashboards.query import loop

TAG: Final = "loopotel"
_COLUMNS: Final = 24

# Keeps the time range and the choice of exporters when a link is followed.
_KEPT: Final = (
    "${__url_time_range}&${datasource:queryparam}&${job:queryparam}"
    "&${instance:queryparam}"
)
LOOP_URL: Final = f"/d/loopotel-loop?{_KEPT}&var-loop_name="


@dataclass(frozen=True, slots=True)
class Line:
    """
    Panels side by side.

    Attributes:
        height: Theirs, in the grid's units of 38 pixels.
        panels: From the left.
        widths: Of each, in 24ths; the same for all by default.
    """

    height: int
    panels: Sequence[Json]
    widths: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """
    Lines under a heading.

    Attributes:
        id: Its panel number; 0 for lines without a heading.
        title: The heading.
        lines: Its lines, from the top.
        folded: Whether it opens only when asked to.
    """

    id: int
    title: str
    lines: Sequence[Line]
    folded: bool = False


def board(
    *,
    uid: str,
    title: str,
    description: str,
    variables: Sequence[Json],
    rows: Sequence[Row],
    since: str,
    runs_end: Sequence[int] | None = None,
) -> Json:
    """
    Give a whole dashboard.

    Args:
        uid: Its address in Grafana, for good.
        title: Its name.
        description: Which question it answers.
        variables: What can be chosen, after the data source.
        rows: Its panels, from the top.
        since: Start of the time range, such as ``now-6h``.
        runs_end: The panels that show the ends of runs, once asked to if there
            are none; None for a board that is not about loops.
    """
    return {
        "annotations": {"list": _annotations(runs_end)},
        "description": description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_LINK],
        "panels": _laid_out(rows),
        "preload": False,
        "refresh": "30s",
        "schemaVersion": 42,
        "tags": [TAG],
        "templating": {"list": [_SOURCE, *variables]},
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": title,
        "uid": uid,
        "version": 1,
        "weekStart": "",
    }


_LINK: Final[Json] = {
    "asDropdown": True,
    "icon": "external link",
    "includeVars": True,
    "keepTime": True,
    "tags": [TAG],
    "targetBlank": False,
    "title": "Loop boards",
    "tooltip": "The other boards, for the same loops and time",
    "type": "dashboards",
    "url": "",
}
_SOURCE: Final[Json] = {
    "current": {"text": "", "value": ""},
    "hide": 0,
    "includeAll": False,
    "label": "Data Source",
    "multi": False,
    "name": "datasource",
    "options": [],
    "query": "prometheus",
    "refresh": 1,
    "regex": "",
    "skipUrlSync": False,
    "type": "datasource",
}


def choice(name: str, label: str, values_of: str, *, all_value: str = ".+") -> Json:
    """Let the values of a label be chosen: one, several or all."""
    query = f"label_values({values_of}, {name})"
    return {
        "allValue": all_value,
        "allowCustomValue": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"qryType": 1, "query": query, "refId": "PrometheusVariableQuery"},
        # Values come and go with the time range.
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def single(variable: Json) -> Json:
    """Let one value be chosen only; the first is, to begin with."""
    one = {key: value for key, value in variable.items() if key != "allValue"}
    return one | {
        "current": {"text": "", "value": ""},
        "includeAll": False,
        "multi": False,
    }


def typed(name: str, label: str, value: str) -> Json:
    """Let a value be typed."""
    return {
        "current": {"selected": True, "text": value, "value": value},
        "hide": 0,
        "label": label,
        "name": name,
        "options": [{"selected": True, "text": value, "value": value}],
        "query": value,
        "skipUrlSync": False,
        "type": "textbox",
    }


_ACTIVE: Final = "loop_runs_active"
_EXPORTERS: Final = 'job=~"$job", instance=~"$instance"'

JOB: Final = choice("job", "Job", _ACTIVE)
INSTANCE: Final = choice("instance", "Instance", f'{_ACTIVE}{{job=~"$job"}}')
# Loops without an environment have no such label, which only .* matches.
ENVIRONMENT: Final = choice(
    "env_id", "Environment", f"{_ACTIVE}{{{_EXPORTERS}}}", all_value=".*"
)
LOOP: Final = choice(
    "loop_name", "Loop", f'{_ACTIVE}{{{_EXPORTERS}, env_id=~"$env_id"}}'
)
# The name leads, the environment follows: an alert's link gives both.
ONE_LOOP: Final = single(choice("loop_name", "Loop", f"{_ACTIVE}{{{_EXPORTERS}}}"))
ITS_ENVIRONMENT: Final = choice(
    "env_id",
    "Environment",
    f'{_ACTIVE}{{{_EXPORTERS}, loop_name=~"$loop_name"}}',
    all_value=".*",
)


def _annotations(runs_end: Sequence[int] | None) -> list[Json]:
    grafanas = {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }
    if runs_end is None:
        # Alerts on exporters are those that name no loop.
        return [grafanas, _ALERTS | {"expr": _firing('loop_name=""')}]
    where = {"filter": {"exclude": False, "ids": list(runs_end)}} if runs_end else {}
    return [grafanas, _ALERTS, _RUN_ENDS | {"enable": bool(runs_end)} | where]


def _firing(*matchers: str) -> str:
    ours = ('alertname=~"Loop.*"', 'alertstate="firing"', *matchers)
    return f"ALERTS{{{', '.join(ours)}}}"


_ALERTS: Final[Json] = {
    "datasource": DATASOURCE,
    "enable": True,
    # An alert on a sum has none of these labels: empty must match as well.
    "expr": _firing('loop_name=~"$loop_name|"', 'env_id=~"$env_id|"'),
    "hide": False,
    "iconColor": BAD,
    "name": "Alerts",
    "step": "60s",
    "tagKeys": "severity,loop_name,env_id",
    "textFormat": "{{loop_name}} {{env_id}}",
    "titleFormat": "{{alertname}}",
}
_RUN_ENDS: Final[Json] = {
    "datasource": DATASOURCE,
    # The value is the time, in milliseconds: exact, however coarse the steps are.
    "expr": f"{loop('loop_last_run_end_timestamp_seconds')} * 1000 > $__from",
    "hide": False,
    "iconColor": PLAIN,
    "name": "Run ends",
    "step": "15s",
    "tagKeys": "loop_name,env_id",
    "textFormat": "{{instance}}",
    "titleFormat": "{{loop_name}}: a run ended",
    "useValueForTime": True,
}


def _laid_out(rows: Sequence[Row]) -> list[Json]:
    """Give panels their places; those of a folded row go inside it."""
    placed: list[Json] = []
    y = 0
    for row in rows:
        heading: Json | None = None
        if row.id:
            heading = _heading(row, y)
            placed.append(heading)
            y += 1
        inside = placed if heading is None or not row.folded else heading["panels"]
        for line in row.lines:
            inside.extend(_in_line(line, y))
            y += line.height
    return placed


def _heading(row: Row, y: int) -> Json:
    return {
        "collapsed": row.folded,
        "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": y},
        "id": row.id,
        "panels": [],
        "title": row.title,
        "type": "row",
    }


def _in_line(line: Line, y: int) -> list[Json]:
    widths = line.widths or [_COLUMNS // len(line.panels)] * len(line.panels)
    if sum(widths) != _COLUMNS:
        titles = [panel["title"] for panel in line.panels]
        raise ValueError(f"panels {titles} are {sum(widths)} wide, not {_COLUMNS}")
    lefts = accumulate(widths, initial=0)
    return [
        panel | {"gridPos": {"h": line.height, "w": width, "x": left, "y": y}}
        for panel, width, left in zip(line.panels, widths, lefts, strict=False)
    ]
