"""The endpoint: ``/metrics`` and health over HTTP, for Prometheus to scrape."""

import errno
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from loopotel_prom.errors import ConfigError
from loopotel_prom.version import __version__
from loopotel_prom.web.address import Address
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import Request
from loopotel_prom.web.page import MetricsPage
from loopotel_prom.web.scrapes import Scrapes
from loopotel_prom.web.site import build_site

_log = logging.getLogger("loopotel_prom")

# How soon the server notices that it is to stop.
_POLL_SECONDS = 0.05


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Another process on the same port is a mistake to be told, not to be shared.
    allow_reuse_address = True
    request_queue_size = 128

    application: Application
    scrapes: Scrapes

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
    server.scrapes = Scrapes()
    server.application = build_site(page, server.scrapes)
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
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(method=self.command, path=path, query=query, headers=headers)
        response = self.server.application(request)
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        for name, value in response.headers:
            self.send_header(name, value)
        body = response.body
        body = body if isinstance(body, bytes) else b"".join(body)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            response.delivered()

    do_HEAD = do_GET  # noqa: N815 - named by the standard library

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the standard library
        _log.debug(format, *args)
