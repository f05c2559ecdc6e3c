"""The site in other people's servers: WSGI and ASGI, and the examples of both."""

import asyncio
import runpy
from pathlib import Path
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import loopotel_prom
from loopotel_prom import LoopTracer
from loopotel_prom.web import asgi_app, wsgi_app

_EXAMPLES = Path(__file__).parents[2] / "examples"


def _wsgi(app, path: str, **environ: str) -> tuple[str, dict[str, str], bytes]:
    """Ask as a server does that checks every word of PEP 3333."""
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": "", **environ}
    setup_testing_defaults(environ)
    told: list = []

    def start_response(status, headers, exc_info=None):
        told.extend((status, dict(headers)))
        return lambda _: None

    pieces = validator(app)(environ, start_response)
    body = b"".join(pieces)
    pieces.close()
    return told[0], told[1], body


def _asgi(app, path: str, **scope) -> tuple[int, dict[bytes, bytes], bytes]:
    """Ask as a server does."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        **scope,
    }
    sent: list = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event):
        sent.append(event)

    asyncio.run(app(scope, receive, send))
    start, *bodies = sent
    body = b"".join(event["body"] for event in bodies)
    assert not bodies[-1].get("more_body", False)
    return start["status"], dict(start["headers"]), body


def _names(page: bytes) -> set[str]:
    return {family.name for family in text_string_to_metric_families(page.decode())}


@pytest.fixture
def run():
    """Have a run in a registry that is configured after the app was made."""

    def make():
        loopotel_prom.configure(listen=None, registry=CollectorRegistry())
        with LoopTracer("code-repair") as tracer:
            tracer.emit_iteration(iteration=1, goal_score=0.4)

    return make


def test_a_wsgi_app_shows_the_registry_that_is_configured_when_asked(run):
    """Configured before or after, or once more."""
    app = wsgi_app()
    for _ in range(2):
        run()
        status, headers, page = _wsgi(app, "/metrics")
        assert (status, headers["X-Content-Type-Options"]) == ("200 OK", "nosniff")
        assert b'loop_iterations_total{loop_name="code-repair",env_id=""} 1\n' in page


def test_an_asgi_app_shows_the_registry_that_is_configured_when_asked(run):
    """As the other."""
    app = asgi_app()
    for _ in range(2):
        run()
        status, _, page = _asgi(app, "/metrics")
        assert status == 200
        assert b'loop_iterations_total{loop_name="code-repair",env_id=""} 1\n' in page


def test_a_wsgi_app_can_be_mounted(run):
    """Its links lead to where it is."""
    run()
    page = _wsgi(wsgi_app(), "", SCRIPT_NAME="/loops")[2]
    assert b'href="/loops/metrics"' in page
    page = _wsgi(wsgi_app(telemetry_path="/"), "", SCRIPT_NAME="/metrics")[2]
    assert "loop_iterations" in _names(page)


@pytest.mark.parametrize("path", ("/loops/", "/loops", "/"))
def test_an_asgi_app_can_be_mounted(run, path):
    """Whether its path has the prefix in it, as in Starlette, or has not."""
    run()
    page = _asgi(asgi_app(), path, root_path="/loops")[2]
    assert b'href="/loops/metrics"' in page


@pytest.mark.parametrize(
    ("method", "path", "status"),
    (
        ("GET", "/-/healthy", 200),
        ("HEAD", "/metrics", 200),
        ("POST", "/metrics", 405),
        ("GET", "/absent", 404),
        ("GET", "/metrics\n\x00é", 404),
    ),
)
def test_both_answer_alike(run, method, path, status):
    """With the same status, and to HEAD without a body."""
    run()
    told, _, body = _wsgi(
        wsgi_app(), path.encode().decode("latin-1"), REQUEST_METHOD=method
    )
    assert told.startswith(str(status))
    code, _, same = _asgi(asgi_app(), path, method=method)
    assert (code, same) == (status, body)
    assert bool(body) is (method != "HEAD")


def test_scrapers_in_other_people_s_servers_are_scrapers(run):
    """A run is on two of their pages; gzip and OpenMetrics are theirs for asking."""
    app = wsgi_app()
    run()
    asking = {"HTTP_ACCEPT": "application/openmetrics-text"}
    pages = [_wsgi(app, "/metrics", **asking)[2] for _ in range(3)]
    assert all(page.endswith(b"# EOF\n") for page in pages)
    assert [b"\nloop_goal_score{" in page for page in pages] == [True, True, False]
    headers = _wsgi(app, "/metrics", HTTP_ACCEPT_ENCODING="gzip")[1]
    assert headers["Content-Encoding"] == "gzip"


def test_an_asgi_app_lives_and_dies_with_its_server():
    """It says yes to both, and closes what is no HTTP."""
    events = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))
    sent: list = []

    async def receive():
        return next(events)

    async def send(event):
        sent.append(event["type"])

    asyncio.run(asgi_app()({"type": "lifespan"}, receive, send))
    asyncio.run(asgi_app()({"type": "websocket"}, receive, send))
    complete = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert sent == [*complete, "websocket.close"]


@pytest.mark.skipif(not _EXAMPLES.is_dir(), reason="the examples are in the checkout")
def test_the_flask_example_shows_its_loops():
    """After a visit, the run is on the page."""
    client = runpy.run_path(str(_EXAMPLES / "flask_app.py"))["app"].test_client()
    assert client.get("/solve").json == {"goal_score": 0.9}
    page = client.get("/loops/metrics").data
    assert b'loop_goal_score{loop_name="solver"' in page
    assert client.get("/loops/").status_code == 200


@pytest.mark.skipif(not _EXAMPLES.is_dir(), reason="the examples are in the checkout")
def test_the_starlette_example_shows_its_loops():
    """After a visit, the run is on the page."""
    app = runpy.run_path(str(_EXAMPLES / "starlette_app.py"))["app"]
    assert _asgi(app, "/solve")[2] == b'{"goal_score":0.9}'
    page = _asgi(app, "/loops/metrics")[2]
    assert b'loop_goal_score{loop_name="solver"' in page
    assert _asgi(app, "/loops/")[0] == 200
