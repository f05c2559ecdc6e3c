"""Tables: a caption, heads with scopes, and a box to scroll in on a narrow screen."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from loopotel_prom.web.pages.markup import Content, Html, element


class Head(NamedTuple):
    """
    The head of a column.

    Attributes:
        words: What stands there.
        class_: Of the column's cells: ``n`` for numbers.
        title: What it means, where the words are too short for that.
    """

    words: Content
    class_: str | None = None
    title: str | None = None


def table(
    key: str, caption: Content, heads: Sequence[Head], rows: Iterable[Content]
) -> Html:
    """
    Make a table.

    Args:
        key: Its id; tells it from others of the page.
        caption: What it shows.
        heads: The columns.
        rows: As `row` makes them.
    """
    cells = [
        element("th", each.words, scope="col", class_=each.class_, title=each.title)
        for each in heads
    ]
    inner = element(
        "table",
        element("caption", caption, id=f"{key}-caption"),
        element("thead", element("tr", *cells)),
        element("tbody", *rows),
        class_="rows",
    )
    # Focusable, so that the keyboard can scroll it too.
    return element(
        "div",
        inner,
        class_="scroll",
        id=key,
        role="region",
        aria_labelledby=f"{key}-caption",
        tabindex="0",
    )


def row(heads: Sequence[Head], cells: Sequence[Content]) -> Html:
    """Make a row; its first cell is the head of it."""
    first, *rest = [
        element(
            "td" if place else "th",
            cell,
            class_=head.class_,
            scope=None if place else "row",
        )
        for place, (head, cell) in enumerate(zip(heads, cells, strict=True))
    ]
    return element("tr", first, *rest)


def gap(heads: Sequence[Head], words: str) -> Html:
    """Make a row that says what is left out."""
    return element("tr", element("td", words, colspan=len(heads)), class_="gap")


def facts(
    pairs: Iterable[tuple[str, Content] | None], *, class_: str = "facts"
) -> Html:
    """List names with their values; None lists nothing."""
    items = [
        element("div", element("dt", pair[0]), element("dd", pair[1]))
        for pair in pairs
        if pair is not None
    ]
    return element("dl", *items, class_=class_)
