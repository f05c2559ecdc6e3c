"""What stands around every page: head, navigation, style, script, and their policy."""

from base64 import b64encode
from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib import resources
from typing import NamedTuple

from loopotel_prom.version import __version__
from loopotel_prom.web.message import HTML, Response
from loopotel_prom.web.pages.markup import NOTHING, Content, Html, element, join

_NO_STORE = ("Cache-Control", "no-store")
# A trace id in an address is nobody else's business.
_NO_REFERRER = ("Referrer-Policy", "no-referrer")


class Link(NamedTuple):
    """An entry of the navigation."""

    words: str
    path: str


class Page(NamedTuple):
    """
    One page.

    Attributes:
        title: Of its window.
        status: In a few words; read out when it changes.
        body: What is swapped for a new one while it is live.
        is_live: It changes by itself.
        path: Its own, to mark it in the navigation.
    """

    title: str
    status: str
    body: Content
    is_live: bool = False
    path: str = ""


class Frame:
    """
    Puts pages into a frame.

    Args:
        links: The navigation.
    """

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = tuple(links)

    def response(
        self,
        page: Page,
        *,
        prefix: str,
        part: bool = False,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> Response:
        """
        Answer with a page.

        Args:
            page: What to show.
            prefix: Where the application is mounted.
            part: Only what is swapped.
            status: The answer's.
        """
        content = _live(page) if part else self._whole(page, prefix)
        return Response(
            status=status,
            content_type=HTML,
            body=content.encode("utf-8", "replace"),
            headers=(
                ("Content-Security-Policy", _policy()),
                _NO_STORE,
                _NO_REFERRER,
            ),
        )

    def _whole(self, page: Page, prefix: str) -> Html:
        head = element(
            "head",
            element("meta", charset="utf-8"),
            element(
                "meta", name="viewport", content="width=device-width, initial-scale=1"
            ),
            element("meta", name="color-scheme", content="light dark"),
            # No request for an icon either.
            element("link", rel="icon", href="data:,"),
            element("title", page.title),
            element("style", Html(_text("style.css"))),
        )
        body = element(
            "body",
            element("a", "Skip to the content", class_="skip", href="#main"),
            self._top(page, prefix),
            element("main", _live(page), id="main", tabindex="-1"),
            element("footer", f"loopotel-prom {__version__}"),
            element("script", Html(_text("live.js"))) if page.is_live else NOTHING,
        )
        return join(
            Html("<!DOCTYPE html>\n"), element("html", head, body, lang="en"), "\n"
        )

    def _top(self, page: Page, prefix: str) -> Html:
        items = [
            element(
                "a",
                link.words,
                href=prefix + link.path,
                aria_current="page" if link.path == page.path else None,
            )
            for link in self._links
        ]
        home = element("a", "loopotel-prom", href=f"{prefix}/")
        # What the script puts another word in the place of.
        hint = "Reload the page for the latest."
        return element(
            "header",
            element("strong", home),
            element("p", hint, class_="status", id="pulse") if page.is_live else "",
            # Only what changes is read out, and only when it does.
            element("p", class_="unseen", id="status", role="status"),
            element("nav", *items, aria_label="Pages"),
            class_="top",
        )


def _live(page: Page) -> Html:
    return element(
        "div",
        page.body,
        id="live",
        data_live="yes" if page.is_live else "no",
        data_title=page.title,
        data_status=page.status,
    )


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def _policy() -> str:
    """Allow our own style, our own script by their hashes, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash('style.css')}",
            f"script-src {_hash('live.js')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(name: str) -> str:
    digest = b64encode(sha256(_text(name).encode()).digest())
    return f"'sha256-{digest.decode()}'"
