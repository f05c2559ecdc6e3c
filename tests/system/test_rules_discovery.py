"""Exporters that the shipped configuration finds by itself, by a real Prometheus."""

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

import loopotel_prom

_FILE = Path(__file__).parents[2] / "deploy/prometheus/prometheus.yml"


def _job(way: str) -> dict[str, Any]:
    """Give the shipped job that finds exporters in a way, uncommented."""
    text = re.sub(r"^  #(?=[- ] )", "  ", _FILE.read_text(), flags=re.MULTILINE)
    (job,) = (job for job in yaml.safe_load(text)["scrape_configs"] if way in job)
    return {**job, "scrape_interval": "1s", "scrape_timeout": "1s"}


@pytest.fixture
def target() -> Iterator[str]:
    """Serve our metrics; give host:port."""
    with loopotel_prom.configure(
        listen="127.0.0.1:0", registry=CollectorRegistry()
    ) as handle:
        yield handle.url.removeprefix("http://")


@pytest.fixture
def inventory(target: str) -> Iterator[str]:
    """Serve the list of targets as JSON; give its URL."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            listed = [{"targets": [target], "labels": {"team": "research"}}]
            self.wfile.write(json.dumps(listed).encode())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/targets.json"
        server.shutdown()
        thread.join()


def test_targets_of_a_file_are_scraped_without_a_restart(
    prometheus, target: str, tmp_path: Path
):
    """The example, with another address, put there while Prometheus runs."""
    job = _job("file_sd_configs")
    job["static_configs"] = []
    job["file_sd_configs"] = [{"files": [f"{tmp_path}/*.yml"]}]
    server = prometheus([], more={"scrape_configs": [job]})
    example = (_FILE.parent / "targets/loops.yml.example").read_text()
    text = example.replace("agents-1.example.com:10110", target)
    text = text.replace("    - agents-2.example.com:10110\n", "")
    (tmp_path / "new").write_text(text)
    (tmp_path / "new").rename(tmp_path / "loops.yml")
    server.wait_for('up{job="loopotel", team="research"} == 1')


def test_targets_of_an_inventory_are_of_the_rules_job(
    prometheus, target: str, inventory: str
):
    """HTTP discovery, as it is commented out, but for the address."""
    job = _job("http_sd_configs")
    job["http_sd_configs"][0]["url"] = inventory
    server = prometheus([], more={"scrape_configs": [job]})
    server.wait_for(f'up{{job="loopotel", instance="{target}"}} == 1')
