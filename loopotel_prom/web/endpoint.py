"""The endpoint: the process's site over HTTP, for Prometheus to scrape."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loopotel_prom.errors import ConfigError
from loopotel_prom.web.address import Address, AnyAddress, UnixAddress
from loopotel_prom.web.application import Application
from loopotel_prom.web.limits import Limits
from loopotel_prom.web.listeners import Listener, bind_all, close_all
from loopotel_prom.web.scrapes import Scrapes
from loopotel_prom.web.server import Server
from loopotel_prom.web.terms import LiveTerms, Terms
from loopotel_prom.web.web_config import WebConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """
    Who may ask.

    Attributes:
        web_config: The web configuration file: TLS, users, headers; None for none.
        allow_unauthenticated: Whether other machines may ask without having to say
            who they are.
    """

    web_config: Path | None = None
    allow_unauthenticated: bool = False


class Endpoint:
    """
    An HTTP server in threads of its own, which end with the process.

    Args:
        addresses: Where to listen, at least one. Others than of this machine only
            with authentication, or where it is said that none is wanted.
        site: Answers.
        scrapes: Those that `site` counts.
        access: Who may ask.
        limits: What clients may take.

    Raises:
        ConfigError: An address cannot be listened on, or the web configuration
            cannot work.
        MissingExtraError: It has users, and bcrypt is not installed.
    """

    def __init__(
        self,
        addresses: Sequence[AnyAddress],
        site: Application,
        scrapes: Scrapes,
        access: Access | None = None,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._access = access or Access()
        self._scrapes = scrapes
        self._listeners = bind_all(addresses)
        try:
            self._terms = LiveTerms(self._access.web_config, site, self._check)
            for listener in self._listeners:
                listener.listen(limits.backlog)
            sockets = [listener.socket for listener in self._listeners]
            self._server = Server(sockets, self, limits)
        except BaseException:
            close_all(self._listeners)
            raise

    @property
    def url(self) -> str:
        """The first base URL, with the port that was really taken."""
        address = self._listeners[0].address
        if isinstance(address, UnixAddress):
            return str(address)
        if isinstance(address, Address) and not address.host:
            address = address._replace(host="localhost")
        scheme = "http" if self._terms.current().config.tls is None else "https"
        return f"{scheme}://{address}"

    def reception(self) -> Terms:
        """Give the terms on which clients are received now."""
        return self._terms.current()

    def scrapes_begun(self) -> int:
        """Give the number of scrapes so far, those under way included."""
        return self._scrapes.begun()

    def wait_for_scrape(
        self, timeout_seconds: float, *, since: int | None = None
    ) -> bool:
        """
        Wait for a scrape to be answered that begins after `since` have begun.

        Returns:
            False if none was in time.
        """
        return self._scrapes.wait_for_next(timeout_seconds, since)

    def abandon(self) -> None:
        """Give up the inherited sockets in a forked child; the parent goes on."""
        self._server.abandon()

    def close(self) -> None:
        """Stop listening; requests under way are finished."""
        self._server.close()
        close_all(self._listeners)

    def _check(self, config: WebConfig) -> None:
        """
        Make sure that no stranger on another machine can ask.

        Raises:
            ConfigError: One could.
        """
        if config.authenticates or self._access.allow_unauthenticated:
            return
        for listener in self._listeners:
            if not listener.is_local:
                raise ConfigError(_open_to_all(listener))


def _open_to_all(listener: Listener) -> str:
    return (
        f"cannot listen on {listener.address}: other machines can reach it and there"
        " is no authentication; listen on 127.0.0.1, give a web configuration"
        " (web_config, --web.config.file) with basic_auth_users or client certificates,"
        " or allow it (web_allow_unauthenticated, --web.allow-unauthenticated)"
    )
