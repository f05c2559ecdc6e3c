"""Pages that say what went wrong, and what to do."""

from collections.abc import Sequence

from loopotel_prom.web.pages.frame import Page
from loopotel_prom.web.pages.markup import Content, Html, element, join


def trouble_page(title: str, *advice: Content) -> Page:
    """Say what is the matter, and what to do about it."""
    body = join(
        element("h1", title),
        *(element("p", each) for each in advice),
    )
    return Page(f"{title} – loopotel-prom", title, body)  # noqa: RUF001 - a dash


def choice_page(trace_ids: Sequence[str], *, prefix: str) -> Page:
    """Let one of several runs be chosen."""
    links = [
        element(
            "li",
            element("a", element("code", each), href=f"{prefix}/runs/{each}"),
        )
        for each in trace_ids
    ]
    return Page(
        "Several runs – loopotel-prom",  # noqa: RUF001 - a dash
        "several runs",
        join(
            element("h1", "Several runs begin so"),
            element("p", "Choose one, or give more of the id:"),
            element("ul", *links),
        ),
    )


def home(prefix: str) -> Html:
    """Link to where the runs are."""
    return element("a", "See the runs of the moment", href=f"{prefix}/")
