"""The site: which view is where."""

from pathlib import Path

from loopotel_prom.board import BoardProcessor
from loopotel_prom.provision.shipped import shipped
from loopotel_prom.web.application import Application
from loopotel_prom.web.landing import LandingView, healthy
from loopotel_prom.web.metrics_view import MetricsView
from loopotel_prom.web.page import MetricsPage
from loopotel_prom.web.pages import add_pages, add_runbooks
from loopotel_prom.web.scrapes import Scrapes

TELEMETRY_PATH = "/metrics"
# As many as other exporters answer at a time.
MAX_REQUESTS = 40


def build_site(
    page: MetricsPage,
    scrapes: Scrapes,
    *,
    telemetry_path: str = TELEMETRY_PATH,
    max_requests: int = MAX_REQUESTS,
    board: BoardProcessor | None = None,
    archive: Path | None = None,
) -> Application:
    """
    Put the views of a process together.

    Args:
        page: The metrics.
        scrapes: Counts those of them.
        telemetry_path: Where the metrics are. At ``/`` there is no landing page.
        max_requests: How many scrapes are answered at a time; 0 for any number.
        board: The runs of the moment; without it there are no pages of runs.
        archive: The archive's folder, for the pages of other runs.
    """
    site = Application()
    site.add("/", LandingView(telemetry_path))
    site.add("/-/healthy", healthy)
    site.add("/-/ready", healthy)
    add_runbooks(site, shipped("deploy") / "runbooks", telemetry_path=telemetry_path)
    if board is not None:
        add_pages(site, board, archive=archive, telemetry_path=telemetry_path)
    site.add(telemetry_path, MetricsView(page, scrapes, max_requests))
    return site
