"""Rows as columns: aligned, without ever holding more than a page of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rich.cells import cell_len, set_cell_size

from loopotel_prom.cli.terminal import escaped

_PAGE_ROWS = 200
_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """
    One column.

    Attributes:
        title: What stands above it.
        right: It is aligned to the right, as numbers are.
        widest: Longer text is cut; None cuts nothing.
        style: How a cell is coloured, by its text.
    """

    title: str
    right: bool = False
    widest: int | None = None
    style: Callable[[str, str], str] | None = None


def render(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], *, cut: str = "…"
) -> Iterator[str]:
    """
    Yield the lines of a table, the titles first.

    Widths are those of the first 200 rows; a later, longer text pushes its row
    out of line. Cells are escaped: any text is safe.
    """
    rest = iter(rows)
    page = [_cells(columns, row, cut) for row in islice(rest, _PAGE_ROWS)]
    titles = [column.title for column in columns]
    widths = [max(map(cell_len, cells)) for cells in zip(titles, *page, strict=True)]
    yield _line([Column(c.title, right=c.right) for c in columns], widths, titles)
    for cells in page:
        yield _line(columns, widths, cells)
    for row in rest:
        yield _line(columns, widths, _cells(columns, row, cut))


def _cells(columns: Sequence[Column], row: Sequence[str], cut: str) -> list[str]:
    return [
        _cut(escaped(text), column.widest, cut)
        for column, text in zip(columns, row, strict=True)
    ]


def _cut(text: str, widest: int | None, mark: str) -> str:
    if widest is None or cell_len(text) <= widest:
        return text
    return set_cell_size(text, widest - len(mark)) + mark


def _line(
    columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]
) -> str:
    parts = []
    for column, width, text in zip(columns, widths, cells, strict=True):
        blank = " " * (width - cell_len(text))
        shown = column.style(text, text) if column.style else text
        parts.append(blank + shown if column.right else shown + blank)
    return _GAP.join(parts).rstrip()
