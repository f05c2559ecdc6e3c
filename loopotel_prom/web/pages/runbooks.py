"""The runbooks: what to do about an alert, where the alert's own link leads."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import Protocol

from loopotel_prom.web.message import Request, Response
from loopotel_prom.web.pages.frame import Frame, Link, Page
from loopotel_prom.web.pages.markup import Html, element, join
from loopotel_prom.web.pages.trouble import trouble_page
from loopotel_prom.web.routes import View

# Alerts share their first word; a README beside the runbooks does not.
_FILES = "Loop*.md"
_LINK = re.compile(r"(https?://[\w./:?=&%#+~-]*[\w/])")
# The exporter, as the runbooks call it: that is us, wherever we are.
_US = "http://localhost:10110"
# They come with the package, which knows of no addresses but the default ones.
_ELSEWHERE = (
    "Grafana, Prometheus and Alertmanager are named here as if they were on this"
    " machine, at their default ports. The alert's own links lead to yours, and so do"
    " the runbooks that loopotel-prom provision writes."
)


class _Site(Protocol):
    def add(self, pattern: str, view: View) -> None: ...


def add_runbooks(site: _Site, folder: Path, *, telemetry_path: str) -> None:
    """
    Put the runbooks on a site, at ``/runbooks/``.

    Args:
        site: Where: an `Application`.
        folder: Of the runbooks: a ``.md`` file an alert, named as the alert is. It
            may be absent; then there are none.
        telemetry_path: Where the metrics are.
    """
    runbooks = Runbooks(folder, telemetry_path=telemetry_path)
    # With and without the slash: people type it.
    site.add("/runbooks", runbooks.index)
    site.add("/runbooks/", runbooks.index)
    site.add("/runbooks/{alert}", runbooks.one)


class Runbooks:
    """
    The views of the runbooks; see `add_runbooks`. Thread-safe.

    They are shown as they are written, Markdown as text: it was made to be read so.
    Their title is the page's, and addresses are links.
    """

    def __init__(self, folder: Path, *, telemetry_path: str) -> None:
        self._folder = folder
        self._frame = Frame(
            (
                Link("Runs", "/"),
                Link("Metrics", telemetry_path),
                Link("Runbooks", "/runbooks/"),
                Link("Health", "/-/healthy"),
            )
        )

    def index(self, request: Request) -> Response:
        """List the runbooks."""
        links = [
            element("li", element("a", name, href=f"{request.prefix}/runbooks/{name}"))
            for name in sorted(self._files())
        ]
        body = join(
            element("h1", "Runbooks"),
            element("p", "What each alert means, and what to do about it."),
            element("ul", *links)
            if links
            else element("p", "There are none in this installation."),
        )
        page = Page("Runbooks", "Runbooks", body, path="/runbooks/")
        return self._frame.response(page, prefix=request.prefix)

    def one(self, request: Request) -> Response:
        """Show the runbook of an alert."""
        name = request.parameters["alert"]
        # Looked up among what is there: no name can lead anywhere else.
        file = self._files().get(name)
        if file is None:
            return self._none(request, name)
        body = _shown(name, file.read_text(encoding="utf-8"), request.prefix)
        return self._frame.response(Page(name, name, body), prefix=request.prefix)

    def _files(self) -> dict[str, Path]:
        return {file.stem: file for file in self._folder.glob(_FILES)}

    def _none(self, request: Request, name: str) -> Response:
        every = element("a", "See all runbooks", href=f"{request.prefix}/runbooks/")
        page = trouble_page(f"No runbook {name}", every)
        return self._frame.response(
            page, prefix=request.prefix, status=HTTPStatus.NOT_FOUND
        )


def _shown(name: str, text: str, prefix: str) -> Html:
    title = f"# {name}\n"
    # Of the pieces every other one is an address.
    pieces = [
        element("a", piece, href=_href(piece, prefix)) if place % 2 else piece
        for place, piece in enumerate(_LINK.split(text.removeprefix(title).strip()))
    ]
    return join(
        element("h1", name),
        element("pre", *pieces, class_="text"),
        element("p", _ELSEWHERE),
    )


def _href(url: str, prefix: str) -> str:
    """Lead to a page of ours where the runbook means one; else where it says."""
    rest = url.removeprefix(_US)
    ours = rest != url and not rest[:1].isdigit()
    return f"{prefix}{rest or '/'}" if ours else url
