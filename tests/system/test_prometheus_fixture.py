"""The bench itself: a real Prometheus scrapes what a test serves."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server


@pytest.fixture
def endpoint() -> Iterator[str]:
    """Serve one gauge on loopback; give its host:port."""
    registry = CollectorRegistry()
    Gauge("answer", "The answer.", registry=registry).set(42)
    server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_scraped_value_is_seen(prometheus: Callable[..., Any], endpoint: str) -> None:
    """What the endpoint serves is what Prometheus answers, under our job."""
    server = prometheus([endpoint])
    [series] = server.wait_for('answer{job="loopotel"}')
    assert series["value"] == 42
    assert series["metric"]["instance"] == endpoint


def test_a_wait_in_vain_tells_the_last_answer(prometheus: Callable[..., Any]) -> None:
    """A timeout names the expression, its last answer and the server's log."""
    server = prometheus([])
    with pytest.raises(AssertionError, match=r"(?s)vector\(1\) stayed .*log ends:\nts"):
        server.wait_for("vector(1)", lambda answer: len(answer) == 2, timeout=0)
