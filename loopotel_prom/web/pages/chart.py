"""
Charts as SVG, drawn by the server.

The curve lies in an inner drawing that stretches with the page; texts lie outside
it and keep their size. Colours come from the style sheet, by class: an attribute
``style`` would need a weaker Content-Security-Policy.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from loopotel_prom.board.view import Points
from loopotel_prom.web.pages import figures
from loopotel_prom.web.pages.markup import NOTHING, Html, element

_WIDTH = 1000.0
_HEIGHT = 100.0
_TOP = 10
_BOTTOM = 22
_HUGE = 1e300
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_TICKS = 4

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Scale:
    """
    An axis: what lies at its bottom and at its top, and where it has lines.

    Attributes:
        low: The value at the bottom.
        high: The value at the top; more than `low`.
        ticks: Values with a line and a label.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Give the height of a value: 0 at the top, 1 at the bottom."""
        value = min(max(value, -_HUGE), _HUGE)
        return min(max((self.high - value) / (self.high - self.low), 0.0), 1.0)


def scale_of(values: Values, *, floor: float | None = None) -> Scale:
    """
    Choose an axis for values: from 0 to 1 if they fit there, else round numbers.

    Args:
        values: All that it has to show.
        floor: Where it starts at the latest.
    """
    known = [min(max(v, -_HUGE), _HUGE) for v in values if v is not None]
    known += [] if floor is None else [floor]
    low, high = min(known, default=0.0), max(known, default=1.0)
    if floor is None and low >= 0 and high <= 1:
        return Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0))
    if high - low <= 1e-9 * max(abs(high), 1.0):
        low, high = (low, low + 1.0) if floor is not None else (low - 0.5, low + 0.5)
        high = max(high, low + abs(low) * 1e-6)
    step = _round_step((high - low) / _TICKS)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = tuple(place * step for place in range(first, last + 1))
    return Scale(ticks[0], ticks[-1], ticks)


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(s * power for s in _STEPS if s * power >= rough * 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    One chart.

    Attributes:
        key: Tells it from others of the page.
        title: What it shows.
        description: The same in a sentence, for who cannot see it.
        iterations: The horizontal axis.
        values: The line.
        low: The lower edge of the band behind the line; empty for no band.
        high: Its upper edge.
        target: Where to draw a line across; None draws none.
        scale: The vertical axis.
        label: How its values are spelled.
        height: In pixels.
    """

    key: str
    title: str
    description: str
    iterations: Sequence[int]
    values: Values
    scale: Scale
    low: Values = ()
    high: Values = ()
    target: float | None = None
    label: Callable[[float | None], str] = figures.score
    height: int = 220


def draw(chart: Chart) -> Html:
    """Draw a chart."""
    inner = chart.height - _TOP - _BOTTOM
    ids = f"{chart.key}-title {chart.key}-desc"
    return element(
        "svg",
        element("title", chart.title, id=f"{chart.key}-title"),
        element("desc", chart.description, id=f"{chart.key}-desc"),
        *_grid(chart.scale, chart.label, inner),
        *_foot(chart),
        element(
            "svg",
            *_body(chart),
            class_="plot",
            y=_TOP,
            width="100%",
            height=inner,
            viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
            preserveAspectRatio="none",
        ),
        class_="chart",
        role="img",
        aria_labelledby=ids,
        width="100%",
        height=chart.height,
    )


def spark(points: Points, target: float | None, description: str) -> Html:
    """Draw a curve the size of a word: score, LES, and the target across."""
    scale = scale_of([*points.low, *points.high, target])
    return element(
        "svg",
        element("title", description),
        *_across(scale, target),
        _line(points.iterations, points.les, scale, "les"),
        _line(points.iterations, points.last, scale, "curve"),
        _end(points.iterations, points.last, scale),
        role="img",
        width=160,
        height=36,
        viewBox=f"-15 -10 {_WIDTH + 30:.0f} {_HEIGHT + 20:.0f}",
        preserveAspectRatio="none",
    )


def _grid(
    scale: Scale, label: Callable[[float | None], str], inner: int
) -> Iterator[Html]:
    for tick in scale.ticks:
        y = round(_TOP + scale.place(tick) * inner, 1)
        yield element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y)
        yield element("text", label(tick), class_="end", x=-8, y=y + 4)


def _foot(chart: Chart) -> Iterator[Html]:
    y = chart.height - 6
    last = max(chart.iterations, default=0)
    if last > 1:
        yield element("text", "1", x=0, y=y)
    yield element("text", "iteration", class_="mid", x="50%", y=y)
    yield element("text", figures.whole(last), class_="end", x="100%", y=y)


def _body(chart: Chart) -> Iterator[Html]:
    scale, iterations = chart.scale, chart.iterations
    yield from _across(scale, chart.target)
    if chart.low:
        yield _band(iterations, chart.low, chart.high, scale)
    yield _line(iterations, chart.values, scale, "curve")
    yield _end(iterations, chart.values, scale)


def _across(scale: Scale, target: float | None) -> Iterator[Html]:
    if target is not None:
        y = _height(scale, target)
        yield element("path", class_="aim", d=f"M0 {y}H{_WIDTH:.0f}")


def _line(iterations: Sequence[int], values: Values, scale: Scale, class_: str) -> Html:
    """Draw a line through the values; it has a gap where one is missing."""
    parts: list[str] = []
    pen = "M"
    for x, value in zip(_places(iterations), values, strict=True):
        if value is None:
            pen = "M"
            continue
        parts.append(f"{pen}{x} {_height(scale, value)}")
        pen = "L"
    return element("path", class_=class_, d="".join(parts)) if parts else NOTHING


def _end(iterations: Sequence[int], values: Values, scale: Scale) -> Html:
    """Put a dot where the curve ends: a line of no length with round ends."""
    for x, value in zip(reversed(_places(iterations)), reversed(values), strict=True):
        if value is not None:
            y = _height(scale, value)
            return element("path", class_="dot", d=f"M{x} {y}h0.01")
    return NOTHING


def _band(iterations: Sequence[int], low: Values, high: Values, scale: Scale) -> Html:
    """Fill what lies between the lowest and the highest values."""
    places = _places(iterations)
    edges = [
        (x, _height(scale, a), _height(scale, b))
        for x, a, b in zip(places, low, high, strict=True)
        if a is not None and b is not None
    ]
    if len(edges) < 2 or all(a == b for _, a, b in edges):  # noqa: PLR2004 - a line
        return NOTHING
    there = [f"{x},{b}" for x, _, b in edges]
    back = [f"{x},{a}" for x, a, _ in reversed(edges)]
    return element("polygon", class_="band", points=" ".join(there + back))


def _places(iterations: Sequence[int]) -> list[float]:
    """Give where iterations lie: the first at the left, the last at the right."""
    last = max(iterations, default=0)
    # A point that stands for several lies at the last of them.
    span = max(last - 1, 1)
    return [round(max(each - 1, 0) / span * _WIDTH, 1) for each in iterations]


def _height(scale: Scale, value: float) -> float:
    return round(scale.place(value) * _HEIGHT, 2)
