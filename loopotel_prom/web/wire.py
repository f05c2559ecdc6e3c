"""
The wire: heads of HTTP/1.1 requests read, heads of answers written.

Pure. What RFC 9112 leaves to a server's taste is refused here: a request that two
programs could read in two ways is read by none.
"""

import re
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from loopotel_prom.errors import LoopotelError
from loopotel_prom.version import __version__
from loopotel_prom.web.message import Request, Response

END = b"\r\n\r\n"
_MOST_HEADERS = 100

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) HTTP/(\d)\.(\d)" % _TOKEN)
_HEADER = re.compile(rb"(%s):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*" % _TOKEN)
# RFC 9112, 3.2: origin form, or the absolute form that every server must accept.
_TARGET = re.compile(
    r"(?:https?://[^/?#]+(?=[/?]|\Z))?([^?#]*)(?:\?([^#]*))?", re.IGNORECASE
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Two of one of these, and it is anyone's guess which one counts.
_SINGLE = frozenset(("authorization", "content-length", "host", "transfer-encoding"))


class RefusedError(LoopotelError, ValueError):
    """
    A request is not taken; the connection ends with the answer.

    Attributes:
        status: What the client is told.
    """

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Head(NamedTuple):
    """A request, and whether its client would like to go on."""

    request: Request
    keep_alive: bool
    takes_chunks: bool


def check_start(start: bytes) -> None:
    """
    Look at the first bytes of a head that is still coming.

    Raises:
        RefusedError: This will never be a request.
    """
    line, end, _ = start.partition(b"\n")
    if not start[:1].isalpha() or (end and not _REQUEST_LINE.fullmatch(line[:-1])):
        raise _bad("no request line")


def parse_head(head: bytes, client: str) -> Head:
    """
    Read a head.

    Args:
        head: All of it, without the empty line.
        client: Who sent it.

    Raises:
        RefusedError: It is malformed, ambiguous, or announces a body.
    """
    line, *lines = head.split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise _bad("no request line")
    method, target, *version = match.groups()
    if version not in ([b"1", b"1"], [b"1", b"0"]):
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "not HTTP/1.1")
    is_current = version == [b"1", b"1"]
    headers = _headers(lines)
    if is_current and "host" not in headers:
        raise _bad("no Host header")
    _refuse_body(headers)
    path, query = _path_and_query(target.decode("ascii"))
    request = Request(
        method=method.decode("ascii"),
        path=path,
        query=query,
        headers=headers,
        client=client,
    )
    options = headers.get("connection", "").lower().replace(" ", "").split(",")
    return Head(request, is_current and "close" not in options, is_current)


def _bad(reason: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, reason)


def _headers(lines: list[bytes]) -> dict[str, str]:
    if len(lines) > _MOST_HEADERS:
        raise RefusedError(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"more than {_MOST_HEADERS} headers",
        )
    headers: dict[str, str] = {}
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _bad("malformed header")
        name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
        if name in headers:
            if name in _SINGLE:
                raise _bad(f"two headers {name}")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _refuse_body(headers: dict[str, str]) -> None:
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        raise _bad("malformed Content-Length")
    if length.strip("0") or "transfer-encoding" in headers:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "no body is taken")


def _path_and_query(target: str) -> tuple[str, str]:
    match = _TARGET.fullmatch(target)
    if match is None or _BAD_ESCAPE.search(match[1]):
        raise _bad("malformed target")
    if match[1].startswith("/"):
        raw = match[1]
    elif not match[1] and "://" in target:
        raw = "/"
    else:
        raise _bad("malformed target")
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise _bad("malformed target") from None
    if not path.isprintable():
        raise _bad("malformed target")
    return path, match[2] or ""


def format_head(
    response: Response, *, framing: tuple[str, str] | None, keep_alive: bool
) -> bytes:
    """
    Write the head of an answer.

    Args:
        response: The answer.
        framing: The header that says where the body ends; None where only the
            connection's end does.
        keep_alive: Whether the connection goes on.

    Raises:
        ValueError: A header of the response would break the line.
    """
    headers = [
        ("Server", f"loopotel-prom/{__version__}"),
        ("Date", formatdate(usegmt=True)),
        ("Content-Type", response.content_type),
        *response.headers,
        *([framing] if framing else ()),
        ("Connection", "keep-alive" if keep_alive else "close"),
    ]
    for name, value in headers:
        if not f"{name}{value}".isprintable():
            raise ValueError(f"header {name!r} has characters that none may have")
    lines = [f"HTTP/1.1 {response.status.value} {response.status.phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join((*lines, "", "")).encode("latin-1")
