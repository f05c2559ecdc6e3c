"""
Panels as the JSON that Grafana reads: one function for each kind.

Each has a title, a description, a unit and thresholds, and says so when there is
nothing to show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]
# From which value on a colour holds; the first from minus infinity.
Steps = tuple[tuple[float | None, str], ...]

NO_RUNS: Final = "no runs yet"
DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}

GOOD, FAIR, POOR, BAD = "green", "yellow", "orange", "red"
PLAIN: Final = "blue"
FAINT: Final = "#8e8e99"
# Of the steps below a limit, which is drawn as a line.
UNSEEN: Final = "transparent"

NEUTRAL: Final[Steps] = ((None, PLAIN),)
# Behind a cell that is as it should be: what is not stands out.
QUIET: Final = "#20352a"
# Of a score or a share from 0 to 1 that should be high.
HIGH_IS_GOOD: Final[Steps] = ((None, BAD), (0.5, POOR), (0.65, FAIR), (0.8, GOOD))
# Of a count that should be zero.
ZERO_IS_GOOD: Final[Steps] = ((None, GOOD), (1, BAD))

OUTCOMES: Final = {
    "success": GOOD,
    "partial": FAIR,
    "failure": BAD,
    "unknown": FAINT,
}


_BY_THRESHOLD: Final[Json] = {"mode": "thresholds"}
_BY_SERIES: Final[Json] = {"mode": "palette-classic"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """
    One query of a panel.

    Attributes:
        expr: PromQL.
        legend: What its series are called.
        instant: Whether only the end of the time range is asked for.
        exemplar: Whether the runs behind it are shown as points.
        shape: What Grafana makes of the answer.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    exemplar: bool = False
    shape: str = "time_series"

    def json(self, ref: str) -> Json:
        """Give it as Grafana reads it, under a reference such as A."""
        return {
            "datasource": DATASOURCE,
            "editorMode": "code",
            "exemplar": self.exemplar,
            "expr": self.expr,
            "format": self.shape,
            "instant": self.instant,
            "legendFormat": self.legend or "__auto",
            "range": not self.instant,
            "refId": ref,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """
    What every panel says of itself.

    Attributes:
        id: Its number on the board, for good: links and images name it.
        title: A few words.
        description: What it shows, what a good value is, what to do about a bad one.
        unit: Grafana's name of the unit.
        steps: The thresholds.
        decimals: Digits behind the point; Grafana's choice by default.
        least: Lower end of the scale.
        most: Upper end of the scale.
        empty: What stands there while there is nothing to show.
    """

    id: int
    title: str
    description: str
    unit: str
    steps: Steps = NEUTRAL
    decimals: int | None = None
    least: float | None = None
    most: float | None = None
    empty: str = NO_RUNS


# More would be thinner than a gap between two.
_MOST_BARS: Final = 60


def thresholds(steps: Steps) -> Json:
    """Give thresholds as Grafana reads them."""
    return {
        "mode": "absolute",
        "steps": [{"color": colour, "value": value} for value, colour in steps],
    }


def override(pattern: str, **properties: Any) -> Json:
    """Set properties of the fields whose name matches; ``__`` stands for a dot."""
    return {
        "matcher": {"id": "byRegexp", "options": pattern},
        "properties": [
            {"id": name.replace("__", "."), "value": value}
            for name, value in properties.items()
        ],
    }


def _shades(colour: str) -> Json:
    return {"mode": "shades", "fixedColor": colour}


def painted(colours: dict[str, str]) -> list[Json]:
    """Give the series of these names these colours."""
    return [
        override(f"/^{name}$/", color={"mode": "fixed", "fixedColor": colour})
        for name, colour in colours.items()
    ]


def _nothing(words: str) -> Json:
    """Give nothing its words, and no colour: it is neither good nor bad."""
    result = {"color": FAINT, "index": 0, "text": words}
    return {"type": "special", "options": {"match": "null", "result": result}}


def panel(
    about: About,
    kind: str,
    queries: Sequence[Query],
    *,
    options: Json,
    colour: Json = _BY_THRESHOLD,
    custom: Json | None = None,
    mappings: Sequence[Json] = (),
    overrides: Sequence[Json] = (),
    links: Sequence[Json] = (),
) -> Json:
    """Give a panel of any kind."""
    defaults: Json = {
        "color": colour,
        "mappings": list(mappings),
        "noValue": about.empty,
        "thresholds": thresholds(about.steps),
        "unit": about.unit,
    }
    for key, value in (
        ("decimals", about.decimals),
        ("min", about.least),
        ("max", about.most),
        ("custom", custom),
        ("links", list(links)),
    ):
        if value not in (None, []):
            defaults[key] = value
    return {
        "datasource": DATASOURCE,
        "description": about.description,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "id": about.id,
        "options": options,
        "pluginVersion": "13.2.1",
        "targets": [query.json(chr(ord("A") + n)) for n, query in enumerate(queries)],
        "title": about.title,
        "type": kind,
    }


def stat(about: About, query: Query, *, filled: bool = False) -> Json:
    """Show one number; on a coloured ground if it calls for action."""
    shape = panel(
        about,
        "stat",
        [query],
        mappings=[_nothing(about.empty)],
        options={
            "colorMode": "background" if filled else "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "value",
            "wideLayout": True,
        },
    )
    return shape | {"maxDataPoints": _MOST_BARS}


_LINE: Final[Json] = {
    "axisBorderShow": False,
    "axisCenteredZero": False,
    "axisColorMode": "text",
    "axisLabel": "",
    "axisPlacement": "auto",
    "barAlignment": 0,
    "barWidthFactor": 0.7,
    "drawStyle": "line",
    "fillOpacity": 8,
    "gradientMode": "opacity",
    "hideFrom": {"legend": False, "tooltip": False, "viz": False},
    "insertNulls": False,
    "lineInterpolation": "linear",
    "lineWidth": 2,
    "pointSize": 5,
    "scaleDistribution": {"type": "linear"},
    "showPoints": "never",
    "spanNulls": False,
    "stacking": {"group": "A", "mode": "none"},
    "thresholdsStyle": {"mode": "off"},
}
# How a series may be drawn.
STACKED: Final[Json] = {
    "fillOpacity": 45,
    "gradientMode": "none",
    "lineWidth": 1,
    "stacking": {"group": "A", "mode": "normal"},
}
BARS: Final[Json] = {
    "drawStyle": "bars",
    "fillOpacity": 70,
    "gradientMode": "none",
    "lineWidth": 0,
    "stacking": {"group": "A", "mode": "normal"},
}
STEPPED: Final[Json] = {"fillOpacity": 0, "lineInterpolation": "stepAfter"}
# A line at each threshold.
_LIMITED: Final[Json] = {"thresholdsStyle": {"mode": "dashed"}}
# Values are far between, as runs end now and then.
SPARSE: Final[Json] = {"spanNulls": True}


def series(
    about: About,
    queries: Sequence[Query],
    *,
    drawn: Json | None = None,
    overrides: Sequence[Json] = (),
    links: Sequence[Json] = (),
    shades: str | None = None,
    points: int | None = None,
    legend: bool = True,
) -> Json:
    """
    Show courses over time.

    Args:
        about: What it says of itself.
        queries: What is drawn.
        drawn: How it differs from thin lines: `STACKED`, `BARS` and so on.
        overrides: What differs for some series.
        links: Where a click on a series leads.
        shades: One colour whose shades the series have, where a palette's
            green would mislead.
        points: How many points a curve has at most; fewer are smoother.
        legend: Whether it has one of its own.
    """
    if points is None and drawn is not None:
        points = _MOST_BARS if drawn.get("drawStyle") == "bars" else None
    shape = panel(
        about,
        "timeseries",
        queries,
        colour=_BY_SERIES if shades is None else _shades(shades),
        custom=_LINE
        | (_LIMITED if any(colour == UNSEEN for _, colour in about.steps) else {})
        | (drawn or {}),
        overrides=overrides,
        links=links,
        options={
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": legend,
            },
            "tooltip": {"hideZeros": False, "mode": "multi", "sort": "desc"},
        },
    )
    return shape if points is None else shape | {"maxDataPoints": points}


def heatmap(about: About, query: Query, *, scheme: str = "Turbo") -> Json:
    """Show how the buckets of a histogram fill over time."""
    shape = panel(
        about,
        "heatmap",
        [query],
        custom={
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "scaleDistribution": {"type": "linear"},
        },
        options={
            "calculate": False,
            "cellGap": 1,
            "cellValues": {"unit": "short"},
            "color": {
                "exponent": 0.5,
                "fill": "dark-orange",
                "mode": "scheme",
                "reverse": False,
                "scale": "exponential",
                "scheme": scheme,
                "steps": 64,
            },
            "exemplars": {"color": "rgba(255,255,255,0.85)"},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "showValue": "never",
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": about.unit},
        },
    )
    return shape | {"maxDataPoints": 2 * _MOST_BARS}


def timeline(about: About, query: Query, *, links: Sequence[Json] = ()) -> Json:
    """Show by colour in which state each series was."""
    return panel(
        about,
        "state-timeline",
        [query],
        custom={
            "axisPlacement": "auto",
            "fillOpacity": 80,
            "hideFrom": {"legend": False, "tooltip": False, "viz": False},
            "lineWidth": 0,
        },
        links=links,
        options={
            "alignValue": "center",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": False,
            },
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "never",
            "tooltip": {"hideZeros": False, "mode": "single", "sort": "none"},
        },
    )


def bars(about: About, query: Query, *, overrides: Sequence[Json] = ()) -> Json:
    """Show numbers as lying bars, side by side."""
    return panel(
        about,
        "bargauge",
        [query],
        overrides=overrides,
        options={
            "displayMode": "basic",
            "legend": {
                "calcs": [],
                "displayMode": "list",
                "placement": "bottom",
                "showLegend": False,
            },
            "maxVizHeight": 26,
            "minVizHeight": 16,
            "minVizWidth": 8,
            "namePlacement": "left",
            "orientation": "horizontal",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showUnfilled": True,
            "sizing": "auto",
            "valueMode": "color",
        },
    )
