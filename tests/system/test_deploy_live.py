"""What is provisioned, at work: real servers take it as it is."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from loopotel_prom.provision.addresses import read_addresses
from loopotel_prom.provision.tree import files_of, parts_of
from loopotel_prom.provision.write import write_tree

_SESSION = requests.Session()
_SESSION.trust_env = False  # a proxy knows nothing of our loopback


def _get(url: str) -> Any:
    answer = _SESSION.get(url, timeout=10)
    assert answer.ok, f"{url}: {answer.status_code} {answer.text}"
    return answer.json()


def _until(look: Callable[[], Any], *, seconds: float = 60) -> Any:
    """Look until there is something to see; a refused connection is nothing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            seen = look()
        except requests.ConnectionError:
            seen = None
        if seen:
            return seen
        assert time.monotonic() < deadline, f"nothing to see in {seconds} s"
        time.sleep(0.1)


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Take what is posted to a webhook."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            posted.append(json.loads(self.rfile.read(size)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", posted
        server.shutdown()
        thread.join()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., None]]:
    """Start servers, and end them."""
    running: list[subprocess.Popen[bytes]] = []

    def run(program: str, *args: str) -> None:
        found = shutil.which(program)
        if found is None:
            pytest.fail(f"no `{program}` on PATH: run `make test`", pytrace=False)
        with (tmp_path / f"{program}.log").open("wb") as log:
            running.append(
                subprocess.Popen([found, *args], stdout=log, stderr=log, cwd=tmp_path)
            )

    yield run
    for process in running:
        process.terminate()
    for process in running:
        process.wait(timeout=20)


@pytest.fixture
def ports(free_port) -> dict[str, str]:
    """Give each part an address of its own."""
    names = ("exporter", "prometheus", "alertmanager")
    return {name: f"127.0.0.1:{free_port()}" for name in names}


@pytest.fixture
def provisioned(tmp_path, ports, hook) -> Path:
    """Provision for them."""
    addresses = read_addresses(
        exporters=[ports["exporter"]],
        prometheus=f"http://{ports['prometheus']}",
        alertmanager=f"http://{ports['alertmanager']}",
        webhook=hook[0],
    )
    folder = tmp_path / "monitoring"
    write_tree(folder, files_of(addresses, parts_of(())), force=False)
    return folder


@pytest.fixture
def alertmanager(start, provisioned, ports, tmp_path) -> str:
    """Start Alertmanager with its provisioned configuration."""
    start(
        "prometheus-alertmanager",
        f"--config.file={provisioned / 'alertmanager/alertmanager.yml'}",
        f"--storage.path={tmp_path / 'alertmanager'}",
        f"--web.listen-address={ports['alertmanager']}",
        "--cluster.listen-address=",
    )
    url = f"http://{ports['alertmanager']}"
    _until(lambda: _SESSION.get(f"{url}/-/ready", timeout=5).ok)
    return url


def _alert(name: str, severity: str, **labels: str) -> dict[str, Any]:
    return {"labels": {"alertname": name, "severity": severity, **labels}}


def _post(url: str, *alerts: dict[str, Any]) -> None:
    answer = _SESSION.post(f"{url}/api/v2/alerts", json=alerts, timeout=10)
    assert answer.ok, answer.text


def test_prometheus_finds_exporter_rules_and_alertmanager(
    command, start, provisioned, ports, alertmanager, tmp_path
):
    """Started on the folder as it is, with an exporter that shows loops."""
    command(
        *("demo", "--listen", ports["exporter"], "--think", "0.01", "--quiet"),
        *("--archive", str(tmp_path / "traces")),
    )
    start(
        "prometheus",
        f"--config.file={provisioned / 'prometheus/prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address={ports['prometheus']}",
        "--enable-feature=exemplar-storage",
    )
    api = f"http://{ports['prometheus']}/api/v1"

    def targets() -> Any:
        active = _get(f"{api}/targets")["data"]["activeTargets"]
        return [each["labels"] for each in active if each["health"] == "up"]

    _until(lambda: _SESSION.get(api.replace("api/v1", "-/ready"), timeout=5).ok)
    labels = {"job": "loopotel", "instance": ports["exporter"]}
    assert _until(targets) == [labels]
    found = _until(lambda: _get(f"{api}/alertmanagers")["data"]["activeAlertmanagers"])
    assert found == [{"url": f"{alertmanager}/api/v2/alerts"}]
    groups = _until(lambda: _get(f"{api}/rules")["data"]["groups"])
    for rule in (rule for group in groups for rule in group["rules"]):
        answer = _SESSION.post(
            f"{api}/query", data={"query": rule["query"]}, timeout=10
        )
        assert answer.ok, (rule["name"], answer.text)
        if rule["type"] == "alerting":
            page = _SESSION.get(rule["annotations"]["runbook_url"], timeout=10)
            assert page.ok, page.url


def test_an_alert_reaches_the_webhook(alertmanager, hook):
    """By the receiver of its severity, one message for the loop."""
    loop = {"loop_name": "code-repair", "env_id": "prod/agent"}
    _post(
        alertmanager,
        _alert("LoopSafetyViolation", "critical", instance="a:1", **loop),
        _alert("LoopSafetyViolation", "critical", instance="b:1", **loop),
    )
    (message,) = _until(lambda: hook[1])
    assert message["receiver"] == "loopotel-page"
    assert message["groupLabels"] == {"alertname": "LoopSafetyViolation", **loop}
    assert len(message["alerts"]) == 2


_LOOP = {"loop_name": "code-repair", "env_id": "prod/agent"}
_HERE = {"job": "loopotel", "instance": "a:1"}
_DOWN = _alert("LoopExporterDown", "critical", **_HERE)


@pytest.mark.parametrize(
    ("source", "target", "is_inhibited"),
    (
        (_DOWN, _alert("LoopRunsAbandoned", "warning", **_HERE), True),
        (_DOWN, _alert("LoopArchiveDegraded", "critical", **_HERE), True),
        (
            _DOWN,
            _alert("LoopRunsAbandoned", "warning", job="loopotel", instance="b:1"),
            False,
        ),
        (
            _alert("LoopSafetyViolation", "critical", **_LOOP),
            _alert("LoopRunStalled", "warning", slot="0", **_LOOP),
            True,
        ),
        (
            _alert("LoopSafetyViolation", "critical", **_LOOP),
            _alert("LoopRunStalled", "warning", loop_name="other", env_id="prod/agent"),
            False,
        ),
        (
            _alert("LoopRunStalled", "warning", **_LOOP),
            _alert("LoopOscillating", "info", **_LOOP),
            True,
        ),
        (
            _alert("LoopSafetyViolation", "critical", **_LOOP),
            _alert("LoopSeriesOverflow", "warning", **_HERE),
            False,
        ),
        (
            _alert("DiskFull", "critical", **_LOOP),
            _alert("LoopRunStalled", "warning", **_LOOP),
            False,
        ),
    ),
)
def test_what_follows_from_an_alert_is_not_said_again(
    alertmanager, source, target, is_inhibited
):
    """Of the same exporter and the same loop, and of no other."""
    _post(alertmanager, source, target)

    def states() -> Any:
        found = _get(f"{alertmanager}/api/v2/alerts")
        by_labels = {
            json.dumps(each["labels"], sort_keys=True): each["status"]
            for each in found
            if each["status"]["state"] != "unprocessed"
        }
        return by_labels if len(by_labels) == 2 else None

    status = _until(states)[json.dumps(target["labels"], sort_keys=True)]
    assert bool(status["inhibitedBy"]) is is_inhibited
