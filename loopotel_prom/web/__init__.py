"""The HTTP face of a process."""

from loopotel_prom.web.address import Address, parse_address
from loopotel_prom.web.application import Application
from loopotel_prom.web.endpoint import Endpoint
from loopotel_prom.web.message import Request, Response
from loopotel_prom.web.page import MetricsPage

__all__ = [
    "Address",
    "Application",
    "Endpoint",
    "MetricsPage",
    "Request",
    "Response",
    "parse_address",
]
