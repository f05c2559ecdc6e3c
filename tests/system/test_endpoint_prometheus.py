"""A real Prometheus at the endpoint: over TLS, with a password, until the end."""

from pathlib import Path

import bcrypt
import pytest
import trustme
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import LoopTracer

_PASSWORD = "secret"  # noqa: S105 - of a server on loopback, for a second


@pytest.fixture
def secured(tmp_path: Path):
    """Configure a process with TLS and a user; give its target and its authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = authority.issue_cert("127.0.0.1")
    made.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    config = tmp_path / "web.yml"
    config.write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
        f"basic_auth_users: {{prometheus: {hashed}}}\n"
    )
    with loopotel_prom.configure(
        listen="127.0.0.1:0", registry=CollectorRegistry(), web_config=config
    ) as configuration:
        yield configuration, str(tmp_path / "ca.pem")


def _scrape(ca_file: str, password: str) -> dict:
    return {
        "scheme": "https",
        "tls_config": {"ca_file": ca_file},
        "basic_auth": {"username": "prometheus", "password": password},
    }


def test_prometheus_scrapes_over_tls_with_a_password(prometheus, secured):
    """It sees a run's end, and the process knows that it has."""
    configuration, ca_file = secured
    target = configuration.url.removeprefix("https://")
    server = prometheus([target], scrape=_scrape(ca_file, _PASSWORD))
    server.wait_for('up{job="loopotel"} == 1')
    with LoopTracer("code-repair", goal_target=0.8) as run:
        run.emit_iteration(iteration=1, goal_score=0.9)
    assert configuration.drain(30)
    server.wait_for('loop_goal_score{loop_name="code-repair"} == 0.9')


def test_prometheus_with_a_wrong_password_gets_nothing(prometheus, secured):
    """It says so itself."""
    configuration, ca_file = secured
    target = configuration.url.removeprefix("https://")
    server = prometheus([target], scrape=_scrape(ca_file, "wrong"))
    server.wait_for('up{job="loopotel"} == 0')
    (found,) = server.api("targets")["activeTargets"]
    assert "401" in found["lastError"]
    assert server.query("loopotel_build_info") == []
