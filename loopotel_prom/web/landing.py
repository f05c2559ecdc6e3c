"""The landing page and the health pages."""

from html import escape
from http import HTTPStatus

from loopotel_prom.web.message import HTML, Request, Response, plain

_LANDING = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>loopotel-prom</title></head>
<body>
<h1>loopotel-prom</h1>
<p>Live metrics of the agent loops in this process.</p>
<ul>
<li><a href="{metrics}">Metrics</a></li>
<li><a href="{health}">Health</a></li>
</ul>
</body>
</html>
"""


class LandingView:
    """
    Shows what else there is.

    Args:
        telemetry_path: Where the metrics are.
    """

    def __init__(self, telemetry_path: str) -> None:
        self._telemetry_path = telemetry_path

    def __call__(self, request: Request) -> Response:
        """Give the page."""
        page = _LANDING.format(
            metrics=escape(request.prefix + self._telemetry_path),
            health=escape(request.prefix + "/-/healthy"),
        )
        return Response(content_type=HTML, body=page.encode())


def healthy(request: Request) -> Response:  # noqa: ARG001 - a view
    """Say that the process is alive; it would not answer otherwise."""
    return plain(HTTPStatus.OK, "ok")
