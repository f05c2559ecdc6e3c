"""A real Pushgateway takes the page of a short job."""

import shutil
import subprocess
import time

import pytest
import requests
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import loopotel_prom
from loopotel_prom import LoopTracer


@pytest.fixture
def gateway(tmp_path, free_port):
    """Start a Pushgateway on a free port, and end it."""
    program = shutil.which("prometheus-pushgateway") or shutil.which("pushgateway")
    assert program, "install it: apt-get install prometheus-pushgateway"
    address = f"127.0.0.1:{free_port()}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
    deadline = time.monotonic() + 30
    while not _ready(address):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield address
    process.terminate()
    process.wait(timeout=10)


def _ready(address: str) -> bool:
    try:
        return requests.get(f"http://{address}/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_pushed_page_is_on_the_gateway(gateway):
    """With its job and grouping key, and the values of the run."""
    registry = CollectorRegistry()
    with loopotel_prom.configure(listen=None, registry=registry) as handle:
        with LoopTracer("code-repair") as run:
            run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=7)
        handle.push(gateway, job="nightly", grouping_key={"shard": "3"})
    page = requests.get(f"http://{gateway}/metrics", timeout=5).text
    families = {f.name: f for f in text_string_to_metric_families(page)}
    (sample,) = families["loop_tokens"].samples
    assert sample.value == 7
    assert sample.labels["job"] == "nightly"
    assert sample.labels["shard"] == "3"
