"""The application: every request gets its answer here, whichever server asks."""

import logging
from dataclasses import replace
from http import HTTPStatus

from loopotel_prom.web.message import Headers, Request, Response, plain
from loopotel_prom.web.packing import packed
from loopotel_prom.web.routes import Routes, View

_log = logging.getLogger("loopotel_prom")

_METHODS = ("GET", "HEAD")
_NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
# A page that shows more than text says itself what it may load.
_POLICY = ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")


class Application:
    """
    Answers requests by its views.

    It knows no server and no socket: a request goes in, a response comes out, never
    an exception. Thread-safe once all routes are there.
    """

    def __init__(self) -> None:
        self._routes = Routes()

    def add(self, pattern: str, view: View) -> None:
        """Have a view answer for a path; see `Routes.add`."""
        self._routes.add(pattern, view)

    def __call__(self, request: Request) -> Response:
        """Give the answer, packed as the client likes, with its security headers."""
        return hardened(packed(request, self._answer(request)))

    def _answer(self, request: Request) -> Response:
        found = self._routes.find(request.path)
        if found is None:
            return plain(HTTPStatus.NOT_FOUND, "not found")
        if request.method not in _METHODS:
            allow = ("Allow", ", ".join(_METHODS))
            return plain(HTTPStatus.METHOD_NOT_ALLOWED, "method not allowed", allow)
        view, parameters = found
        try:
            return view(replace(request, parameters=parameters))
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer
            _log.exception("%s cannot be made; this request gets a 500", request.path)
            return plain(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "the page cannot be made; the program's log says why",
            )


def hardened(response: Response) -> Response:
    """Add the security headers that a response does not have."""
    missing = tuple(
        each for each in (_NO_SNIFFING, _POLICY) if response.header(each[0]) is None
    )
    return replace(response, headers=response.headers + missing)


def with_headers(response: Response, headers: Headers) -> Response:
    """Give a response further headers, in place of its own of the same names."""
    if not headers:
        return response
    names = {name.lower() for name, _ in headers}
    kept = tuple(each for each in response.headers if each[0].lower() not in names)
    return replace(response, headers=kept + headers)
