"""The view of the metrics: what Prometheus scrapes."""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from loopotel_prom.metrics.negotiation import names_a_format, negotiate
from loopotel_prom.web.flights import PageTimeoutError
from loopotel_prom.web.message import Request, Response, plain
from loopotel_prom.web.page import MetricsPage
from loopotel_prom.web.scrapes import Scrapes

# Prometheus' own, where a client does not say how long it waits.
_USUAL_TIMEOUT_SECONDS = 10.0
# The way back; as other exporters have it.
_MARGIN_SECONDS = 0.5
# A client must not be able to cut off collectors that are quick.
_LEAST_SECONDS = 0.5
_TIMEOUT_HEADER = "x-prometheus-scrape-timeout-seconds"


class MetricsView:
    """
    Answers scrapes with the metrics page.

    What counts as a scrape, for `scrapes` and for runs that rest until they have
    been seen: a GET of the whole page, by a client that names a format of metrics or
    Prometheus' own time-out, once it has been sent to the end. Someone who looks
    with a browser or with curl changes nothing.

    Args:
        page: What is shown.
        scrapes: Counts.
        max_requests: How many are answered at a time, others get 503; 0 for any.
    """

    def __init__(self, page: MetricsPage, scrapes: Scrapes, max_requests: int) -> None:
        self._page = page
        self._scrapes = scrapes
        self._max_requests = max_requests
        self._places = threading.BoundedSemaphore(max_requests or 1)

    def __call__(self, request: Request) -> Response:
        """Give the page in the format that the client likes best."""
        if request.method == "HEAD":
            # A look at the headers collects nothing.
            wanted = negotiate(request.headers.get("accept"))
            return Response(content_type=wanted.content_type)
        with self._place() as free:
            if not free:
                return plain(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{self._max_requests} requests are being answered; try again",
                )
            return self._answer(request)

    @contextmanager
    def _place(self) -> Iterator[bool]:
        if not self._max_requests:
            yield True
        elif self._places.acquire(blocking=False):
            try:
                yield True
            finally:
                self._places.release()
        else:
            yield False

    def _answer(self, request: Request) -> Response:
        accept = request.headers.get("accept")
        wanted, names = negotiate(accept), frozenset(request.values("name[]"))
        is_scrape = not names and (
            names_a_format(accept) or _TIMEOUT_HEADER in request.headers
        )
        ticket = self._scrapes.begin() if is_scrape else 0
        try:
            page = self._page.render(wanted, names, timeout_seconds=_seconds(request))
        except PageTimeoutError as error:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

        def delivered() -> None:
            if is_scrape:
                self._page.seen(page)
                self._scrapes.finish(ticket)

        return Response(
            content_type=wanted.content_type,
            body=page.body,
            headers=(("Vary", "Accept"),),
            delivered=delivered,
        )


def _seconds(request: Request) -> float:
    """Give how long the page may take."""
    try:
        timeout = float(request.headers.get(_TIMEOUT_HEADER, ""))
    except ValueError:
        timeout = math.nan
    if not 0 < timeout <= _USUAL_TIMEOUT_SECONDS * 60:
        timeout = _USUAL_TIMEOUT_SECONDS
    return max(timeout - _MARGIN_SECONDS, _LEAST_SECONDS)
