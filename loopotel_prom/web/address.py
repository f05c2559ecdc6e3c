"""Listen addresses, spelled ``HOST:PORT`` or ``[IPV6]:PORT``."""

import ipaddress
from typing import NamedTuple
from urllib.parse import urlsplit

from loopotel_prom.errors import ConfigError


class Address(NamedTuple):
    """A host and a port to listen on; port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if self.is_ipv6 else self.host
        return f"{host}:{self.port}"


def parse_address(text: str) -> Address:
    """
    Read a listen address.

    Raises:
        ConfigError: It has no host or no port from 0 to 65535.
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != text or "@" in text:
        raise ConfigError(
            f"listen address {text!r} is not HOST:PORT; try 127.0.0.1:10110"
        )
    return Address(host, port)
