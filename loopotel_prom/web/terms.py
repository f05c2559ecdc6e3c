"""Terms: on which clients are received, and how they follow the file they stand in."""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from loopotel_prom.errors import ConfigError, MissingExtraError
from loopotel_prom.web.application import hardened, with_headers
from loopotel_prom.web.auth import Doorman, require_bcrypt
from loopotel_prom.web.message import Request, Response
from loopotel_prom.web.tls import make_context, names_one_of
from loopotel_prom.web.web_config import WebConfig, read_web_config

_log = logging.getLogger("loopotel_prom")

# How often at most the files are looked at.
_LOOK_SECONDS = 1.0

Respond = Callable[[Request], Response]
_State = tuple[int, ...]


class Terms:
    """
    Receives clients by what one web configuration says.

    Args:
        config: What it says.
        context: TLS's; None where it is not spoken.
        doorman: Checks passwords.
        respond: Answers those who may ask.
    """

    def __init__(
        self,
        config: WebConfig,
        context: ssl.SSLContext | None,
        doorman: Doorman,
        respond: Respond,
    ) -> None:
        self.config = config
        self._context = context
        self._doorman = doorman
        self._respond = respond

    def secure(self, stream: socket.socket) -> socket.socket:
        """
        Put TLS around a new connection; the handshake is left to its thread.

        Raises:
            OSError: The client is gone.
        """
        if self._context is None:
            return stream
        return self._context.wrap_socket(
            stream, server_side=True, do_handshake_on_connect=False
        )

    def admits(self, certificate: Mapping[str, object] | None) -> bool:
        """Whether one that has shown this certificate may ask."""
        tls = self.config.tls
        if tls is None or not tls.client_allowed_sans:
            return True
        return names_one_of(certificate, tls.client_allowed_sans)

    def respond(self, request: Request) -> Response:
        """Answer: with what is asked for, or with what is missing to ask."""
        refusal = self._doorman.refusal(request, self.config.users)
        response = self._respond(request) if refusal is None else hardened(refusal)
        return with_headers(response, self.config.headers)


class LiveTerms:
    """
    Gives the terms as they stand in the file now. Thread-safe.

    The file, the certificates and keys are looked at when the terms are asked for,
    once a second at most. One that has become bad changes nothing, and is told of
    in the log once.

    Args:
        path: The web configuration file; None for no TLS, no users, no headers.
        respond: Answers those who may ask.
        check: Called with a configuration before it is used.

    Raises:
        ConfigError: The file cannot work.
        MissingExtraError: It has users, and bcrypt is not installed.
    """

    def __init__(
        self,
        path: Path | None,
        respond: Respond,
        check: Callable[[WebConfig], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._respond = respond
        self._check = check
        self._monotonic = monotonic
        self._doorman = Doorman()
        self._lock = threading.Lock()
        self._seen: dict[Path, _State] = {}
        self._complaint = ""
        self._terms = self._read()
        self._looked = monotonic()

    def current(self) -> Terms:
        """Give the terms; the same object until they change."""
        # Whoever cannot have the lock takes what there is: another is looking.
        if (
            self._path is not None
            and self._monotonic() - self._looked >= _LOOK_SECONDS
            and self._lock.acquire(blocking=False)
        ):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._terms

    def _look(self) -> None:
        self._looked = self._monotonic()
        if self._seen and all(_state_of(p) == known for p, known in self._seen.items()):
            return
        try:
            self._terms = self._read()
        except (ConfigError, MissingExtraError) as error:
            # Read again at the next look: what was missing may be there by then.
            self._seen = {}
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("%s; what was read before stays in use", error)
        else:
            self._complaint = ""
            _log.info("web config %s read again", self._path)

    def _read(self) -> Terms:
        config, context = WebConfig(), None
        if self._path is not None:
            # Their states first: what changes while it is read is read again.
            seen = {self._path: _state_of(self._path)}
            config = read_web_config(self._path)
            seen.update((path, _state_of(path)) for path in _files_of(config))
            if config.tls is not None:
                context = make_context(config.tls, self._path)
            self._seen = seen
        if config.users:
            require_bcrypt()
        self._check(config)
        for what in config.ignored:
            _log.debug("web config %s: %s", self._path, what)
        return Terms(config, context, self._doorman, self._respond)


def _files_of(config: WebConfig) -> list[Path]:
    tls = config.tls
    if tls is None:
        return []
    return [p for p in (tls.cert_file, tls.key_file, tls.client_ca_file) if p]


def _state_of(path: Path) -> _State:
    try:
        found = os.stat(path)  # noqa: PTH116 - at each look
    except OSError as error:
        return (error.errno or 0,)
    return found.st_mtime_ns, found.st_size, found.st_ino
