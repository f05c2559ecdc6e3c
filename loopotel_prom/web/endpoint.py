"""The endpoint: ``/metrics`` and health over HTTP, for Prometheus to scrape."""

import errno
import gzip
import logging
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

from loopotel_prom.errors import ConfigError
from loopotel_prom.metrics.negotiation import choose_encoding, negotiate
from loopotel_prom.version import __version__
from loopotel_prom.web.address import Address
from loopotel_prom.web.page import MetricsPage

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_log = logging.getLogger("loopotel_prom")

# How soon the server notices that it is to stop.
_POLL_SECONDS = 0.05

_PLAIN = "text/plain; charset=utf-8"
# Less gains nothing.
_WORTH_PACKING = 1024
_PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda body: gzip.compress(body, compresslevel=1),
    "zstd": zstd.compress,
}

_LANDING = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>loopotel-prom</title></head>
<body>
<h1>loopotel-prom</h1>
<p>Live metrics of the agent loops in this process.</p>
<ul>
<li><a href="/metrics">Metrics</a></li>
<li><a href="/-/healthy">Health</a></li>
</ul>
</body>
</html>
"""


class Endpoint:
    """
    An HTTP server in threads of its own, which end with the process.

    Args:
        address: Where to listen; on this machine only, for there is no
            authentication.
        page: What ``/metrics`` shows.

    Raises:
        ConfigError: The address cannot be listened on.
    """

    def __init__(self, address: Address, page: MetricsPage) -> None:
        if not address.is_loopback:
            raise ConfigError(
                f"cannot listen on {address}: only loopback addresses (127.0.0.1, ::1,"
                " localhost) are served, for there is no authentication; put a reverse"
                " proxy in front"
            )
        self._server = _listen(address, page)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_POLL_SECONDS,),
            name="loopotel-endpoint",
            daemon=True,
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """The base URL, with the port that was really taken."""
        host, port = self._server.server_address[:2]
        return f"http://{Address(str(host), port)}"

    def scrapes_begun(self) -> int:
        """Give the number of scrapes so far, those under way included."""
        return self._server.scrapes.begun()

    def wait_for_scrape(
        self, timeout_seconds: float, *, since: int | None = None
    ) -> bool:
        """
        Wait for a scrape to be answered that begins after `since` have begun.

        Returns:
            False if none was in time.
        """
        return self._server.scrapes.wait_for_next(timeout_seconds, since)

    def abandon(self) -> None:
        """Give up the inherited socket in a forked child; the parent goes on."""
        self._server.socket.close()

    def close(self) -> None:
        """Stop listening; requests under way are finished."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)


class _Scrapes:
    """Counts scrapes from their beginning to their end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._begun = 0
        self._latest_finished = 0

    def begin(self) -> int:
        """Number a scrape that begins."""
        with self._changed:
            self._begun += 1
            return self._begun

    def finish(self, ticket: int) -> None:
        """Say that a scrape has been answered whole."""
        with self._changed:
            self._latest_finished = max(self._latest_finished, ticket)
            self._changed.notify_all()

    def begun(self) -> int:
        """Give the number of scrapes that have begun."""
        with self._changed:
            return self._begun

    def wait_for_next(self, timeout_seconds: float, since: int | None) -> bool:
        """Wait until a scrape numbered beyond `since` (now) has been answered."""
        with self._changed:
            seen = self._begun if since is None else since
            return self._changed.wait_for(
                lambda: self._latest_finished > seen, timeout_seconds
            )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Another process on the same port is a mistake to be told, not to be shared.
    allow_reuse_address = True
    request_queue_size = 128

    page: MetricsPage
    scrapes: _Scrapes

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - named by the standard library
        """Log what ended a connection; clients may go away at any time."""
        _log.debug("connection of %s ended", client_address, exc_info=True)


class _Server6(_Server):
    address_family = socket.AF_INET6


def _listen(address: Address, page: MetricsPage) -> _Server:
    kind = _Server6 if address.is_ipv6 else _Server
    try:
        server = kind((address.host, address.port), _Handler)
    except OSError as error:
        hint = "choose another port, or 0 for any free one"
        if error.errno != errno.EADDRINUSE:
            hint = "choose another address"
        raise ConfigError(
            f"cannot listen on {address}: {error.strerror}; {hint}"
        ) from error
    server.page = page
    server.scrapes = _Scrapes()
    return server


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = f"loopotel-prom/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    # Of each read: a silent client is let go.
    timeout = 10.0
    # Headers and body are two writes; Nagle would hold the second back for 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._metrics()
        elif path == "/":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", _LANDING.encode())
        elif path in ("/-/healthy", "/-/ready"):
            self._answer(HTTPStatus.OK, _PLAIN, b"ok\n")
        else:
            self._answer(HTTPStatus.NOT_FOUND, _PLAIN, b"not found\n")

    do_HEAD = do_GET  # noqa: N815 - named by the standard library

    def _metrics(self) -> None:
        wanted = negotiate(self.headers.get("Accept"))
        if self.command == "HEAD":
            # A look at the headers is no scrape: it collects nothing.
            self._answer(HTTPStatus.OK, wanted.content_type, b"")
            return
        ticket = self.server.scrapes.begin()
        query = parse_qs(self.path.partition("?")[2])
        try:
            page = self.server.page.render(wanted, frozenset(query.get("name[]", ())))
        except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer
            _log.exception("the metrics page cannot be made; this scrape gets a 500")
            self._answer(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                _PLAIN,
                b"the page cannot be made; the program's log says why\n",
            )
            return
        self._answer(HTTPStatus.OK, wanted.content_type, page)
        self.server.scrapes.finish(ticket)

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        if len(body) > _WORTH_PACKING:
            coding = choose_encoding(
                self.headers.get("Accept-Encoding"), tuple(_PACKERS)
            )
            if coding in _PACKERS:
                body = _PACKERS[coding](body)
                self.send_header("Content-Encoding", coding)
            self.send_header("Vary", "Accept, Accept-Encoding")
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the standard library
        _log.debug(format, *args)
