"""The HTTP face of a process."""

from loopotel_prom.web.address import Address, parse_address
from loopotel_prom.web.application import Application
from loopotel_prom.web.endpoint import Access, Endpoint
from loopotel_prom.web.message import Request, Response
from loopotel_prom.web.mounted import asgi_app, wsgi_app
from loopotel_prom.web.page import MetricsPage
from loopotel_prom.web.scrapes import Scrapes
from loopotel_prom.web.site import build_site

__all__ = [
    "Access",
    "Address",
    "Application",
    "Endpoint",
    "MetricsPage",
    "Request",
    "Response",
    "Scrapes",
    "asgi_app",
    "build_site",
    "parse_address",
    "wsgi_app",
]
