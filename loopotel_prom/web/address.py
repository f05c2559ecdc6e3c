"""
Listen addresses, as text and taken apart.

``HOST:PORT``, ``[IPV6]:PORT``, ``:PORT`` for all interfaces, ``unix:PATH``, and
``systemd`` for the sockets that a unit's socket activation hands over.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from loopotel_prom.errors import ConfigError

SYSTEMD = "systemd"
_UNIX = "unix:"


class Address(NamedTuple):
    """A host and a port to listen on; no host for all, port 0 for a free one."""

    host: str
    port: int

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"{host}:{self.port}"


class UnixAddress(NamedTuple):
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return _UNIX + self.path


class SystemdAddress(NamedTuple):
    """The sockets that systemd hands over."""

    def __str__(self) -> str:
        return SYSTEMD


AnyAddress = Address | UnixAddress | SystemdAddress


def parse_address(text: str) -> AnyAddress:
    """
    Read a listen address.

    Raises:
        ConfigError: It is none, or its port is not from 0 to 65535.
    """
    if text == SYSTEMD:
        return SystemdAddress()
    if text.startswith(_UNIX) and len(text) > len(_UNIX):
        return UnixAddress(text.removeprefix(_UNIX))
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        port = None
    if port is None or parts.netloc != text or "@" in text:
        raise ConfigError(
            f"listen address {text!r} is not HOST:PORT; try 127.0.0.1:10110, :10110,"
            " [::1]:10110, unix:/run/loopotel.sock or systemd"
        )
    return Address(host, port)
