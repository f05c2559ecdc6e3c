"""Request and response: what an application sees of HTTP, whoever serves it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"

Headers = tuple[tuple[str, str], ...]


def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    A request whose head has been read; there is never a body.

    Attributes:
        method: As it came: ``GET``, or whatever was asked.
        path: Begins with a slash, percent-decoded, below `prefix`.
        query: What follows the question mark, as it came.
        headers: By name in lower case; repeated ones joined by a comma.
        prefix: Where the application is mounted: ``/loops``, or nothing.
        client: Who asks, an IP address; empty where that is not known.
        parameters: What the route's pattern found in the path.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    client: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def values(self, name: str) -> tuple[str, ...]:
        """Give all values of a parameter of the query."""
        try:
            return tuple(parse_qs(self.query).get(name, ()))
        except ValueError:
            # More parameters than anyone means.
            return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """
    An answer.

    Attributes:
        status: Its code and phrase.
        content_type: Of the body.
        body: All of it, or its pieces one after another.
        headers: More headers; a server adds those of the connection.
        delivered: Called once the whole body has been sent, and only then.
    """

    status: HTTPStatus = HTTPStatus.OK
    content_type: str = PLAIN
    body: bytes | Iterable[bytes] = b""
    headers: Headers = ()
    delivered: Callable[[], None] = _nothing

    def header(self, name: str) -> str | None:
        """Give a header's value, by its name in any case."""
        wanted = name.lower()
        return next((v for n, v in self.headers if n.lower() == wanted), None)


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """Answer with one line of text."""
    return Response(status=status, body=f"{text}\n".encode(), headers=headers)
