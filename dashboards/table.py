"""Tables: a row for each series, a column for each query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.panel import (
    GOOD,
    NEUTRAL,
    QUIET,
    About,
    Json,
    Query,
    Steps,
    panel,
    thresholds,
)

_LEAST_WIDTH = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """
    One column.

    Attributes:
        name: Its heading; empty hides what only joins the others.
        expr: The instant query whose values it holds; None for a label's column.
        label: The label that it holds.
        unit: Grafana's name of the unit.
        steps: The thresholds that colour it.
        cell: How a cell is drawn: auto, color-text, color-background or gauge.
        decimals: Digits behind the point.
        width: Its width in pixels; None takes what is left.
        most: What fills a gauge.
        link: Where a click on a cell leads.
        tip: What the link says.
    """

    name: str
    expr: str | None = None
    label: str | None = None
    unit: str = "none"
    steps: Steps = NEUTRAL
    cell: str = "auto"
    decimals: int | None = None
    width: int | None = 90
    most: float | None = None
    link: str | None = None
    tip: str = ""


def table(
    about: About, columns: Sequence[Column], *, sort: str, falling: bool = True
) -> Json:
    """Show columns of values side by side, joined by the labels they share."""
    valued = [column for column in columns if column.expr is not None]
    queries = [
        Query(expr=column.expr or "", instant=True, shape="table") for column in valued
    ]
    return panel(
        about,
        "table",
        queries,
        custom={
            "align": "auto",
            "cellOptions": {"type": "auto"},
            "filterable": False,
            "inspect": False,
        },
        overrides=[_override(column) for column in columns if column.name],
        options={
            "cellHeight": "sm",
            "frameIndex": 0,
            "showHeader": True,
            "sortBy": [{"desc": falling, "displayName": sort}],
        },
    ) | {"transformations": _joined(columns, valued)}


def _joined(columns: Sequence[Column], valued: Sequence[Column]) -> list[Json]:
    """Merge the answers; name, order and pick the columns."""
    names = {}
    for column in columns:
        if column.label is not None:
            names[column.label] = column.name
        else:
            letter = chr(ord("A") + valued.index(column))
            names[f"Value #{letter}" if len(valued) > 1 else "Value"] = column.name
    return [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True}
                | {field: True for field, name in names.items() if not name},
                "includeByName": {},
                "indexByName": {field: place for place, field in enumerate(names)},
                "renameByName": {f: name for f, name in names.items() if name},
            },
        },
    ]


def _quiet(column: Column) -> Steps:
    if column.cell != "color-background":
        return column.steps
    return tuple(
        (value, QUIET if colour == GOOD else colour) for value, colour in column.steps
    )


def _override(column: Column) -> Json:
    cell: Json = {"type": column.cell}
    if column.cell == "gauge":
        cell |= {"mode": "basic", "valueDisplayMode": "text"}
    if column.cell == "color-background":
        cell |= {"mode": "basic"}
    properties: dict[str, Any] = {
        "custom.minWidth" if column.width is None else "custom.width": (
            column.width or _LEAST_WIDTH
        ),
        "custom.cellOptions": cell,
        "unit": column.unit,
        "thresholds": thresholds(_quiet(column)),
        "noValue": "-",
    }
    if column.decimals is not None:
        properties["decimals"] = column.decimals
    if column.most is not None:
        properties |= {"min": 0, "max": column.most}
    if column.link is not None:
        properties["links"] = [{"title": column.tip, "url": column.link}]
    return {
        "matcher": {"id": "byName", "options": column.name},
        "properties": [{"id": k, "value": v} for k, v in properties.items()],
    }
