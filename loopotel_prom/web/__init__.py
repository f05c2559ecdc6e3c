"""The HTTP face of a process."""

from loopotel_prom.web.address import Address, parse_address
from loopotel_prom.web.endpoint import Endpoint

__all__ = ["Address", "Endpoint", "parse_address"]
