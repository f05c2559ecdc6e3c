"""The HTTP face of a process."""

from loopotel_prom.web.address import Address, parse_address
from loopotel_prom.web.endpoint import Endpoint
from loopotel_prom.web.page import MetricsPage

__all__ = ["Address", "Endpoint", "MetricsPage", "parse_address"]
