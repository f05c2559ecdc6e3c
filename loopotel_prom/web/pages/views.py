"""The views: what is answered for each path of the pages."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec

from loopotel_prom.archive.document import Head
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.reader import (
    Seen,
    entry_of,
    full_prefix,
    is_full,
    read_items,
)
from loopotel_prom.board import BoardProcessor
from loopotel_prom.board.archived import BusyError, Found, Shelf
from loopotel_prom.errors import ArchiveError, ConfigError
from loopotel_prom.web.flights import Flights
from loopotel_prom.web.message import JSON, Request, Response
from loopotel_prom.web.pages.archive import archive_page, stock_of
from loopotel_prom.web.pages.frame import Frame, Link
from loopotel_prom.web.pages.overview import overview_page
from loopotel_prom.web.pages.run import run_page
from loopotel_prom.web.pages.trouble import choice_page, home, trouble_page

_NO_STORE = ("Cache-Control", "no-store")
_NEWEST = 100
_SECONDS = 5.0

View = Callable[[Request], Response]


class _Site(Protocol):
    def add(self, pattern: str, view: View) -> None: ...


def add_pages(
    site: _Site,
    board: BoardProcessor,
    *,
    archive: Path | None = None,
    telemetry_path: str = "/metrics",
) -> None:
    """
    Put the pages on a site.

    Args:
        site: Where: an `Application`.
        board: The runs of the moment.
        archive: The folder of the archive, for all other runs.
        telemetry_path: Where the metrics are. At ``/`` there is no landing page.
    """
    pages = Pages(board, archive=archive, telemetry_path=telemetry_path)
    if telemetry_path != "/":
        site.add("/", pages.overview)
    site.add("/runs.json", pages.overview_json)
    site.add("/runs/{trace_id}", pages.run)
    site.add("/traces/{trace_id}.json", pages.document)
    if archive is not None:
        site.add("/archive", pages.archive)


class Pages:
    """
    The views of the pages; see `add_pages`. Thread-safe.

    Args:
        board: The runs of the moment.
        archive: The folder of the archive.
        telemetry_path: Where the metrics are.
    """

    def __init__(
        self, board: BoardProcessor, *, archive: Path | None, telemetry_path: str
    ) -> None:
        self._board = board
        self._shelf = None if archive is None else Shelf(archive)
        self._flights: Flights[Response] = Flights()
        links = [Link("Runs", "/"), Link("Metrics", telemetry_path)]
        if archive is not None:
            links.append(Link("Archive", "/archive"))
        self._frame = Frame([*links, Link("Health", "/-/healthy")])

    def overview(self, request: Request) -> Response:
        """Show all runs; those who look at the same time share a page."""
        prefix, part = request.prefix, _wants_part(request)

        def make() -> Response:
            folder = None if self._shelf is None else str(self._shelf.folder)
            seen = self._board.overview()
            page = overview_page(seen, prefix=prefix, archive=folder)
            return self._frame.response(page, prefix=prefix, part=part)

        return self._flights.join((prefix, part), make, _SECONDS)

    def overview_json(self, request: Request) -> Response:  # noqa: ARG002 - a view
        """Give all runs for machines: `Overview`."""

        def make() -> Response:
            body = msgspec.json.encode(self._board.overview())
            return Response(content_type=JSON, body=body, headers=(_NO_STORE,))

        return self._flights.join("json", make, _SECONDS)

    def run(self, request: Request) -> Response:
        """Show one run, by its id or the beginning of it."""
        typed = request.parameters["trace_id"]
        try:
            return self._run(request, full_prefix(typed))
        except (ConfigError, ArchiveError) as error:
            return self._refusal(request, error)

    def document(self, request: Request) -> Response:
        """Give one run's LTF document."""
        try:
            trace_id = full_prefix(request.parameters["trace_id"])
            if self._shelf is None:
                return self._trouble(
                    request,
                    "No archive",
                    "Documents are read from an archive, and this endpoint has none."
                    ' Give it one: configure(archive="traces").',
                )
            with ExitStack() as stack:
                stack.enter_context(self._shelf.reading())
                found = self._shelf.find(trace_id)
                if len(found) != 1:
                    return self._not_one(request, trace_id, found)
                pieces = self._shelf.document(found[0])
                first = next(pieces, b"")
        except (ConfigError, ArchiveError) as error:
            return self._refusal(request, error)
        name = f'inline; filename="{found[0].trace_id}.json"'
        return Response(
            content_type=JSON,
            body=_chained(first, pieces),
            headers=(_NO_STORE, ("Content-Disposition", name)),
        )

    def archive(self, request: Request) -> Response:
        """Show what the archive holds."""
        assert self._shelf is not None  # noqa: S101 - the path is not there without
        try:
            with self._shelf.reading():
                newest = _newest(self._shelf.folder)
            stock = stock_of(self._shelf.folder)
        except OSError as error:
            return self._refusal(request, error)
        page = archive_page(stock, newest, prefix=request.prefix)
        return self._frame.response(page, prefix=request.prefix)

    def _run(self, request: Request, prefix: str) -> Response:
        known = self._board.find(prefix)
        detail = self._board.detail(known[0]) if len(known) == 1 else None
        if detail is None and self._shelf is not None:
            with self._shelf.reading():
                found = self._shelf.find(prefix)
                if not known and len(found) == 1:
                    detail = self._shelf.detail(found[0])
            known = [*dict.fromkeys((*known, *(each.trace_id for each in found)))]
        if detail is None:
            return self._none(request, prefix, known)
        page = run_page(
            detail,
            now_ns=self._board.now_ns(),
            prefix=request.prefix,
            has_document=self._shelf is not None,
        )
        return self._frame.response(
            page, prefix=request.prefix, part=_wants_part(request)
        )

    def _not_one(self, request: Request, trace_id: str, found: list[Found]) -> Response:
        return self._none(request, trace_id, [each.trace_id for each in found])

    def _none(self, request: Request, trace_id: str, known: list[str]) -> Response:
        """Answer that there is no such run, or more than one."""
        if len(known) > 1:
            page = choice_page(known, prefix=request.prefix)
            return self._frame.response(
                page, prefix=request.prefix, status=HTTPStatus.MULTIPLE_CHOICES
            )
        what = f"No run {trace_id}" if is_full(trace_id) else f"No run {trace_id}…"
        where = "It is not among the runs of the moment"
        where += (
            ", and this endpoint has no archive to look for it in."
            if self._shelf is None
            else f", nor in the archive {self._shelf.folder}."
        )
        return self._trouble(request, what, where)

    def _trouble(
        self,
        request: Request,
        title: str,
        advice: str,
        status: HTTPStatus = HTTPStatus.NOT_FOUND,
    ) -> Response:
        page = trouble_page(title, advice, home(request.prefix))
        return self._frame.response(page, prefix=request.prefix, status=status)

    def _refusal(self, request: Request, error: Exception) -> Response:
        if isinstance(error, ConfigError):
            return self._trouble(request, "No such run", str(error))
        status = HTTPStatus.INTERNAL_SERVER_ERROR
        if isinstance(error, BusyError):
            status = HTTPStatus.SERVICE_UNAVAILABLE
        title = "The archive cannot be read now"
        return self._trouble(request, title, str(error), status)


def _wants_part(request: Request) -> bool:
    return request.values("part") == ("live",)


def _newest(folder: Path) -> list[Head]:
    """Read what the latest documents say of their runs, as far as time allows."""
    deadline = time.monotonic() + _SECONDS
    heads: list[Head] = []
    seen = Seen()
    # Each file is read from its beginning, the newest file first.
    file, latest = "", deque[Head](maxlen=_NEWEST)
    for item in read_items(folder, newest_first=True):
        if item.file != file:
            heads += reversed(latest)
            latest.clear()
            file = item.file
        if len(heads) >= _NEWEST or time.monotonic() > deadline:
            break
        entry = entry_of(item)
        if not isinstance(entry, BadLine) and seen.add(entry.trace_id):
            latest.append(entry.head)
    return [*islice((*heads, *reversed(latest)), _NEWEST)]


def _chained(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
