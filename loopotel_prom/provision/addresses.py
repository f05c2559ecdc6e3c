"""Addresses: where the parts of a monitoring stack are."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from loopotel_prom.errors import ConfigError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Nothing that YAML, JSON, a shell or a template would read as more than text.
_PLAIN = r"[A-Za-z0-9._~:/\[\]-]+"
_WITH_QUERY = r"[A-Za-z0-9._~:/\[\]?&=+-]+"
_NETLOC = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)(?::[0-9]+)?"


class Place(NamedTuple):
    """
    One address, taken apart.

    Attributes:
        scheme: ``http`` or ``https``.
        netloc: Host, and port where one was given, as they were spelled.
        path: What follows, without a slash at the end.
    """

    scheme: str
    netloc: str
    path: str = ""

    @property
    def url(self) -> str:
        """The whole, without a slash at the end."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def port(self) -> int | None:
        """The port that was given."""
        return urlsplit(f"//{self.netloc}").port

    @property
    def authority(self) -> str:
        """Host and port, the scheme's own where none was given."""
        port = 443 if self.scheme == "https" else 80
        return self.netloc if self.port is not None else f"{self.netloc}:{port}"

    @property
    def is_local(self) -> bool:
        """Whether it is this machine by its name or its own numbers."""
        return urlsplit(f"//{self.netloc}").hostname in _LOOPBACK


_EXPORTER = Place("http", "localhost:10110")
_PROMETHEUS = Place("http", "localhost:9090")
_ALERTMANAGER = Place("http", "localhost:9093")
_GRAFANA = Place("http", "localhost:3000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """
    Where everything is; the defaults are those of the shipped files.

    Attributes:
        exporters: What Prometheus scrapes. Links to runs and runbooks lead to the
            first.
        prometheus: Its own address, as Grafana and a browser reach it.
        alertmanager: As Prometheus and a browser reach it.
        grafana: As a browser reaches it.
        runbooks: What an alert's name follows to be the address of its runbook.
        webhook: What Alertmanager's receivers post to.
    """

    exporters: tuple[Place, ...] = (_EXPORTER,)
    prometheus: Place = _PROMETHEUS
    alertmanager: Place = _ALERTMANAGER
    grafana: Place = _GRAFANA
    runbooks: str = f"{_EXPORTER.url}/runbooks"
    webhook: str = "http://localhost:5001/"


DEFAULT = Addresses()


def read_addresses(
    *,
    exporters: Iterable[str] = (),
    prometheus: str | None = None,
    alertmanager: str | None = None,
    grafana: str | None = None,
    runbooks: str | None = None,
    webhook: str | None = None,
) -> Addresses:
    """
    Read what a user typed; what was not is as in the shipped files.

    Args:
        exporters: ``HOST:PORT`` each.
        prometheus: An ``http`` or ``https`` URL, perhaps with a path; so the others.
        alertmanager: As Prometheus and a browser reach it.
        grafana: As a browser reaches it.
        runbooks: What comes before ``/ALERT``; at the first exporter unless given.
        webhook: May have a query.

    Raises:
        ConfigError: One is no such address.
    """
    targets = tuple(dict.fromkeys(map(_target, exporters))) or DEFAULT.exporters
    pages = targets[0].url + "/runbooks"
    return Addresses(
        exporters=targets,
        prometheus=_place("--prometheus", prometheus, DEFAULT.prometheus),
        alertmanager=_place("--alertmanager", alertmanager, DEFAULT.alertmanager),
        grafana=_place("--grafana", grafana, DEFAULT.grafana),
        runbooks=pages if runbooks is None else _url("--runbook-url", runbooks).url,
        webhook=DEFAULT.webhook if webhook is None else _webhook(webhook),
    )


def _target(text: str) -> Place:
    wrong = ConfigError(
        f"--exporter {text!r} is not HOST:PORT; try localhost:10110 or [::1]:10110"
    )
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if not _is_plain(text, _NETLOC) or parts.netloc != text or not host or not port:
        raise wrong
    return Place("http", text)


def _place(option: str, text: str | None, default: Place) -> Place:
    return default if text is None else _url(option, text)


def _url(option: str, text: str, allowed: str = _PLAIN) -> Place:
    without = "user, query or fragment" if allowed == _PLAIN else "user or fragment"
    wrong = ConfigError(
        f"{option} {text!r} is not an address; try http://localhost:9090 or"
        f" https://example.com/path, without {without}"
    )
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    if (
        not _is_plain(text, allowed)
        or parts.scheme not in ("http", "https")
        or not host
        or not _is_plain(parts.netloc, _NETLOC)
        or port == 0
    ):
        raise wrong
    return Place(parts.scheme, parts.netloc, parts.path.rstrip("/"))


def _webhook(text: str) -> str:
    _url("--webhook", text, _WITH_QUERY)
    return text


def _is_plain(text: str, allowed: str) -> bool:
    return re.fullmatch(allowed, text) is not None
