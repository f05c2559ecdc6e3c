"""The page of the archive: its files, and the runs that it has of late."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from loopotel_prom.archive.document import Head as Document
from loopotel_prom.archive.files import folder_bytes
from loopotel_prom.archive.layout import SEALED, rotated_files, segments
from loopotel_prom.runs.digest import time_of
from loopotel_prom.web.pages import figures
from loopotel_prom.web.pages.frame import Page
from loopotel_prom.web.pages.mark import mark
from loopotel_prom.web.pages.markup import NOTHING, Html, element, join
from loopotel_prom.web.pages.table import Head, facts, row, table

_HEADS = (
    Head("Run", "wide"),
    Head("Outcome"),
    Head("Reason", "wide"),
    Head("Environment", "wide"),
    Head("Task", "wide"),
    Head("Started"),
    Head("Took", "n"),
)


class Stock(NamedTuple):
    """
    What an archive's folder holds.

    Attributes:
        folder: Its path.
        sealed_bytes: Of its sealed files.
        files: How many of these there are.
        segments: How many journal segments there are.
    """

    folder: Path
    sealed_bytes: int
    files: int
    segments: int


def stock_of(folder: Path) -> Stock:
    """
    Look at an archive's folder; nothing is read.

    Raises:
        OSError: That cannot be.
    """
    current = 1 if (folder / SEALED).exists() else 0
    size = folder_bytes(folder) if folder.is_dir() else 0
    count = len(rotated_files(folder)) + current
    return Stock(folder, size, count, len(segments(folder)))


def archive_page(stock: Stock, newest: Sequence[Document], *, prefix: str) -> Page:
    """
    Make the page.

    Args:
        stock: The folder.
        newest: What the latest documents say of their runs, the newest first.
        prefix: Where the application is mounted.
    """
    name = str(stock.folder)
    body = join(
        element("h1", "Archive"),
        element("p", element("code", name), class_="soft"),
        facts(
            (
                ("Sealed files", figures.whole(stock.files)),
                ("Their size", f"{figures.compact(stock.sealed_bytes)}B"),
                ("Journal segments", figures.whole(stock.segments)),
            )
        ),
        element("h2", "Latest documents"),
        _documents(newest, prefix) if newest else element("p", "None yet."),
        element(
            "p",
            "Percentiles of each loop: ",
            element("code", f"loopotel-prom archive stats {name}"),
            class_="soft",
        ),
    )
    return Page("Archive – loopotel-prom", "archive", body, path="/archive")  # noqa: RUF001 - a dash


def _documents(newest: Sequence[Document], prefix: str) -> Html:
    rows = [_row(head, prefix) for head in newest]
    return table("documents", "Of the newest files, the latest first", _HEADS, rows)


def _row(head: Document, prefix: str) -> Html:
    trace_id = head.trace_id or ""
    start_ns, end_ns = time_of(head.started_at), time_of(head.ended_at)
    took = None
    if start_ns is not None and end_ns is not None:
        took = max(end_ns - start_ns, 0) / 1e9
    link = element("a", figures.name(head.loop_name), href=f"{prefix}/runs/{trace_id}")
    reason = head.termination_reason
    short = element("code", figures.short_id(trace_id)[:8])
    return row(
        _HEADS,
        [
            join(link, " ", element("small", short)),
            mark(head.outcome or "unknown"),
            figures.name(reason) if reason else NOTHING,
            figures.name(head.env_id),
            figures.name(head.task_id),
            figures.moment(start_ns),
            figures.duration(took),
        ],
    )
