"""A curve drawn with characters: goal score over the iterations of a run."""

from collections.abc import Iterator, Sequence

from loopotel_prom.cli.terminal import can_show

_ROWS = 8
_MARGIN = 9
_MIN_COLUMNS = 20
_HUGE = 1e300
_EMPTY = 0x2800
# Bits of a braille character, by dot column and row.
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
_Range = tuple[float, float]


def plot(
    parts: Sequence[_Range], *, count: int, target: float | None, width: int
) -> Iterator[str]:
    """
    Yield the lines of a drawing at most `width` wide.

    Args:
        parts: Lowest and highest value of each part of the curve, in order.
        count: How many iterations they stand for.
        target: Where to draw a line across; None draws none.
        width: Columns of the terminal.
    """
    parts = [(_tame(low), _tame(high)) for low, high in parts]
    target = None if target is None else _tame(target)
    columns = max(width - _MARGIN, _MIN_COLUMNS)
    finer = can_show("⣿┤┄└─")
    across, down = (2, 4) if finer else (1, 1)
    low, high = _scale(parts, target)
    grid = _Grid(columns * across, _ROWS * down, low, high)
    grid.draw(_spread(parts, columns * across))
    line = None if target is None else grid.row(target) // down
    for row in range(_ROWS):
        value = high - (row + 0.5) * (high - low) / _ROWS
        if line == row and target is not None:
            value = target
        body = _braille(grid, row) if finer else _ascii(grid, row)
        if line == row:
            body = body.replace(" ", "┄" if finer else "-")
        edge = "┤" if finer else "|"
        yield f"{_label(value):>{_MARGIN - 2}} {edge}{body}".rstrip()
    floor, corner = ("─", "└") if finer else ("-", "+")
    yield " " * (_MARGIN - 1) + corner + floor * columns
    last = str(count)
    yield " " * _MARGIN + "1" + last.rjust(columns - 1)


def _tame(value: float) -> float:
    """Keep what is drawn so small that no difference overflows."""
    return min(max(value, -_HUGE), _HUGE)


class _Grid:
    """Dots, row 0 at the top."""

    def __init__(self, columns: int, rows: int, low: float, high: float) -> None:
        self._rows = rows
        self._low, self._high = low, high
        self.dots = [[False] * columns for _ in range(rows)]

    def row(self, value: float) -> int:
        """Give the row of a value."""
        share = (self._high - value) / (self._high - self._low)
        return min(max(int(share * self._rows), 0), self._rows - 1)

    def draw(self, parts: Sequence[_Range]) -> None:
        """Draw each part as an upright line that touches the one before."""
        before: tuple[int, int] | None = None
        for column, (low, high) in enumerate(parts):
            top, bottom = self.row(high), self.row(low)
            reach = (top, bottom)
            if before is not None and before[1] < top - 1:
                top = before[1] + 1
            elif before is not None and before[0] > bottom + 1:
                bottom = before[0] - 1
            for row in range(top, bottom + 1):
                self.dots[row][column] = True
            before = reach


def _scale(parts: Sequence[_Range], target: float | None) -> _Range:
    """Choose what the axis shows: all values and the target, with some air."""
    values = [value for part in parts for value in part]
    values += [] if target is None else [target]
    low, high = min(values), max(values)
    air = max((high - low) / 8, abs(high) * 0.01, 0.05)
    return low - air, high + air


def _spread(parts: Sequence[_Range], columns: int) -> list[_Range]:
    """Fit the curve to the columns: parts join, or lines are drawn between."""
    count = len(parts)
    if count >= columns:
        return [
            _joined(parts[c * count // columns : (c + 1) * count // columns])
            for c in range(columns)
        ]
    if count == 1:
        return list(parts) * columns
    return [_between(parts, c * (count - 1) / (columns - 1)) for c in range(columns)]


def _joined(parts: Sequence[_Range]) -> _Range:
    return min(low for low, _ in parts), max(high for _, high in parts)


def _between(parts: Sequence[_Range], place: float) -> _Range:
    at = min(int(place), len(parts) - 2)
    share = place - at
    (a, b), (c, d) = parts[at], parts[at + 1]
    return a * (1 - share) + c * share, b * (1 - share) + d * share


def _braille(grid: _Grid, row: int) -> str:
    text = []
    for column in range(0, len(grid.dots[0]), 2):
        bits = sum(
            _DOTS[x][y]
            for x in (0, 1)
            for y in range(4)
            if grid.dots[4 * row + y][column + x]
        )
        text.append(chr(_EMPTY + bits) if bits else " ")
    return "".join(text)


def _ascii(grid: _Grid, row: int) -> str:
    return "".join("*" if dot else " " for dot in grid.dots[row])


def _label(value: float) -> str:
    if abs(value) >= 1000:  # noqa: PLR2004 - what seven columns hold
        return f"{value:.0e}"
    # Adding 0.0 takes the sign off a zero.
    return f"{round(value, 2) + 0.0:.2f}"
