"""The application: routes, methods, headers, packing, what counts as a scrape."""

import gzip
from http import HTTPStatus
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import LoopTracer
from loopotel_prom.exposed import exposed
from loopotel_prom.health import Health
from loopotel_prom.web import Application, MetricsPage, Request, Response, Scrapes
from loopotel_prom.web.message import HTML
from loopotel_prom.web.site import build_site

PROMETHEUS = {
    "accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1",
    "x-prometheus-scrape-timeout-seconds": "10",
}


@pytest.fixture
def scrapes() -> Scrapes:
    """Count the scrapes of `site`."""
    return Scrapes()


@pytest.fixture
def health() -> Health:
    """Count the failures of `site`'s collectors: the process's go on for ever."""
    return Health()


@pytest.fixture
def site(scrapes, health):
    """Build the site of a process that is configured without an endpoint."""

    def build(**options) -> Application:
        loopotel_prom.configure(listen=None, registry=CollectorRegistry())
        now = exposed()
        page = MetricsPage(now.registry, now.collector, now.processor, health)
        return build_site(page, scrapes, **options)

    return build


def _get(path: str = "/metrics", **options) -> Request:
    return Request(method="GET", path=path, **options)


def _delivered(response: Response) -> str:
    response.delivered()
    assert isinstance(response.body, bytes)
    coding = response.header("Content-Encoding")
    return (gzip.decompress(response.body) if coding else response.body).decode()


@pytest.mark.parametrize("method", ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get"))
def test_only_looking_is_allowed(site, method):
    """Whatever else is tried is told so."""
    response = site()(Request(method=method, path="/metrics"))
    assert response.status is HTTPStatus.METHOD_NOT_ALLOWED
    assert response.header("allow") == "GET, HEAD"


@pytest.mark.parametrize(
    "path", ("/x", "/metrics/", "//metrics", "/METRICS", "/metrics/../metrics", "/-/")
)
def test_other_paths_are_not_found(site, path):
    """A path is what it is, with nothing read into it."""
    assert site()(_get(path)).status is HTTPStatus.NOT_FOUND


@pytest.mark.parametrize("path", ("/", "/metrics", "/-/healthy", "/absent"))
def test_every_answer_has_security_headers(site, path):
    """A page can load nothing and be framed by nobody."""
    response = site()(_get(path))
    assert response.header("X-Content-Type-Options") == "nosniff"
    assert response.header("Content-Security-Policy").startswith("default-src 'none'")


def test_a_page_of_its_own_has_its_own_policy():
    """What a view says of itself stays."""
    application = Application()
    policy = ("Content-Security-Policy", "default-src 'self'")
    application.add("/", lambda _: Response(content_type=HTML, headers=(policy,)))
    headers = application(_get("/")).headers
    assert [value for name, value in headers if name == policy[0]] == [policy[1]]


@pytest.mark.parametrize(
    ("path", "found"),
    (
        ("/traces/ltf-1.json", "ltf-1"),
        ("/traces/a.json.json", "a.json"),
        ("/traces/..json", None),
        ("/traces/.json", None),
        ("/traces/../x.json", None),
        ("/traces/..%2fx.json", None),
        ("/traces/a/b.json", None),
        ("/traces/.hidden.json", None),
        ("/traces/a\nb.json", None),
        (f"/traces/{'a' * 129}.json", None),
    ),
)
def test_a_parameter_of_a_path_is_a_plain_name(path, found):
    """Nothing that could lead out of a folder reaches a view."""
    application = Application()
    seen = []

    def view(request: Request) -> Response:
        seen.append(request.parameters["trace_id"])
        return Response()

    application.add("/traces/{trace_id}.json", view)
    status = application(_get(path)).status
    assert seen == ([] if found is None else [found])
    assert status is (HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK)


def test_a_view_that_fails_costs_its_page_only(caplog):
    """The client is told to look where it is said."""
    application = Application()
    application.add("/", lambda _: 1 / 0)
    response = application(_get("/"))
    assert response.status is HTTPStatus.INTERNAL_SERVER_ERROR
    assert b"the program's log says why" in response.body
    assert "ZeroDivisionError" in caplog.text


def test_the_telemetry_path_is_the_users(site):
    """The landing page leads there, below where the site is mounted."""
    application = site(telemetry_path="/m")
    assert application(_get("/m")).status is HTTPStatus.OK
    assert application(_get("/metrics")).status is HTTPStatus.NOT_FOUND
    landing = application(_get("/", prefix="/loops"))
    assert b'href="/loops/m"' in landing.body


def test_too_many_requests_at_a_time_are_turned_away(site):
    """Until one has been answered."""
    application = site(max_requests=1)
    inner: list[Response] = []

    class Asking:
        def describe(self):
            return []

        def collect(self):
            inner.append(application(_get(query="name[]=x")))
            return []

    exposed().registry.register(Asking())
    assert application(_get()).status is HTTPStatus.OK
    assert [each.status for each in inner] == [HTTPStatus.SERVICE_UNAVAILABLE]
    assert application(_get()).status is HTTPStatus.OK


def test_a_slow_collector_does_not_cost_a_scrape_its_time(site, health, monkeypatch):
    """Those after it are not asked any more, and counted as failed."""
    asked = []
    # What the page takes for the time: 0.6 s for each that is asked.
    clock = SimpleNamespace(monotonic=lambda: 0.6 * len(asked))
    monkeypatch.setattr("loopotel_prom.web.page.time", clock)

    class Slow:
        def describe(self):
            return []

        def collect(self):
            asked.append(self)
            return []

    application = site()
    for _ in range(3):
        exposed().registry.register(Slow())
    headers = PROMETHEUS | {"x-prometheus-scrape-timeout-seconds": "0.9"}
    response = application(_get(headers=headers))
    assert response.status is HTTPStatus.OK
    assert len(asked) == 1
    assert health.processor_failures() == {"Slow": 2}


def _finished_run() -> None:
    with LoopTracer("code-repair") as run:
        run.emit_iteration(iteration=1, goal_score=0.4)


def _shows_the_run(application: Application, **options) -> bool:
    return "\nloop_goal_score{" in _delivered(application(_get(**options)))


@pytest.mark.parametrize(
    "options",
    (
        {"headers": {"accept": "*/*"}},
        {"headers": {"accept": "text/html,*/*;q=0.8"}},
        {"headers": PROMETHEUS, "query": "name[]=loop_goal_score"},
    ),
)
def test_who_only_looks_does_not_count_as_a_scrape(site, scrapes, options):
    """However often: an ended run is still there for Prometheus, twice."""
    application = site()
    _finished_run()
    assert all(_shows_the_run(application, **options) for _ in range(5))
    assert scrapes.begun() == 0
    shown = [_shows_the_run(application, headers=PROMETHEUS) for _ in range(3)]
    assert shown == [True, True, False]


def test_a_scrape_that_is_not_taken_to_its_end_does_not_count(site, scrapes):
    """Prometheus has not seen what it has not read."""
    application = site()
    _finished_run()
    for _ in range(5):
        application(_get(headers=PROMETHEUS))
    assert not scrapes.wait_for_next(0, since=0)
    assert _shows_the_run(application, headers=PROMETHEUS)
    assert scrapes.wait_for_next(0, since=0)


def test_a_run_that_ends_while_a_page_is_being_sent_has_not_been_on_it(site):
    """That scrape is none of its two."""
    application = site()
    response = application(_get(headers=PROMETHEUS))
    _finished_run()
    response.delivered()
    shown = [_shows_the_run(application, headers=PROMETHEUS) for _ in range(3)]
    assert shown == [True, True, False]
