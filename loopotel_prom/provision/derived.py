"""
The derived files of ``deploy/``: what says the same as another file, elsewhere.

The rules are written once, for Prometheus. The operator's resource and Grafana's own
alerting have them again, and Compose has configurations with its services' names.
``python -m loopotel_prom.provision.derived`` writes them anew; a test compares.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from loopotel_prom.provision.addresses import DEFAULT, Place
from loopotel_prom.provision.edit import edit
from loopotel_prom.provision.shipped import shipped

_MADE = "# Made from {} by `make specs`.\n"
_RULES = "prometheus/rules"
_IN_COMPOSE = replace(
    DEFAULT,
    exporters=(Place("http", "demo:10110"),),
    prometheus=Place("http", "prometheus:9090"),
    alertmanager=Place("http", "alertmanager:9093"),
)

_OPERATOR = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: loopotel
  labels:
    app.kubernetes.io/part-of: loopotel
spec:
  groups:
"""
_GRAFANA = """#
# Optional: Grafana's own alerting in place of Prometheus' and Alertmanager's. Copy it,
# and contact-points.yaml, to /etc/grafana/provisioning/alerting/. The recording rules
# that some of it asks for stay Prometheus'.

"""
# Any series at all means that it fires, whatever its value; so does 0.
_FIRES = "is_number($A) || is_nan($A) || is_inf($A)"


def derived(deploy: Path) -> dict[str, str]:
    """Make all derived files of a folder; by their paths in it."""
    return {path: make(deploy) for path, make in _DERIVED.items()}


def _prometheus_rule(deploy: Path) -> str:
    """Put the groups of all files, comments and all, into the operator's resource."""
    groups = []
    for file in _rule_files(deploy):
        _, _, body = file.read_text(encoding="utf-8").partition("\ngroups:\n")
        lines = body.strip("\n").splitlines()
        groups += [f"    # {file.name}", *(f"  {line}".rstrip() for line in lines)]
    return _MADE.format(f"../../{_RULES}/") + _OPERATOR + "\n".join(groups) + "\n"


def _grafana_rules(deploy: Path) -> str:
    """Say the alerts as Grafana's alerting provisioning has them."""
    groups = []
    for file in _rule_files(deploy):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]:
            rules = [_grafana_rule(each) for each in group["rules"] if "alert" in each]
            if rules:
                groups.append(
                    {
                        "orgId": 1,
                        "name": group["name"],
                        "folder": "Agent loops",
                        "interval": group.get("interval", "1m"),
                        "rules": rules,
                    }
                )
    body = yaml.safe_dump(
        {"apiVersion": 1, "groups": groups},
        sort_keys=False,
        width=10_000,
        allow_unicode=True,
    )
    return _MADE.format(f"../../{_RULES}/") + _GRAFANA + body


def _grafana_rule(rule: dict[str, Any]) -> dict[str, Any]:
    annotations = {
        # Of several queries; ours is A.
        name: re.sub(r"\$value\b", "$values.A.Value", text)
        for name, text in rule["annotations"].items()
    }
    return {
        "uid": rule["alert"],
        "title": rule["alert"],
        "condition": "B",
        "data": [
            {
                "refId": "A",
                "relativeTimeRange": {"from": 600, "to": 0},
                "datasourceUid": "loopotel-prometheus",
                "model": {
                    "refId": "A",
                    "expr": rule["expr"],
                    "instant": True,
                    "range": False,
                },
            },
            {
                "refId": "B",
                "relativeTimeRange": {"from": 0, "to": 0},
                "datasourceUid": "__expr__",
                "model": {"refId": "B", "type": "math", "expression": _FIRES},
            },
        ],
        "for": rule.get("for", "0s"),
        "keepFiringFor": rule.get("keep_firing_for", "0s"),
        # No series means that all is well.
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": rule["labels"],
        "annotations": annotations,
    }


def _for_compose(source: str) -> Callable[[Path], str]:
    def make(deploy: Path) -> str:
        text = (deploy / source).read_text(encoding="utf-8")
        # Its address within the network; those that a browser follows are as before.
        inside = _IN_COMPOSE
        if source.startswith("grafana/"):
            inside = replace(DEFAULT, prometheus=_IN_COMPOSE.prometheus)
        return _MADE.format(f"../{source}") + "\n" + edit(source, text, inside)

    return make


def _rule_files(deploy: Path) -> Iterator[Path]:
    yield from sorted((deploy / _RULES).glob("*.rules.yml"))


_DERIVED: dict[str, Callable[[Path], str]] = {
    "compose/datasource.yaml": _for_compose(
        "grafana/provisioning/datasources/loopotel.yaml"
    ),
    "compose/prometheus.yml": _for_compose("prometheus/prometheus.yml"),
    "grafana/alerting/rules.yaml": _grafana_rules,
    "kubernetes/monitoring/prometheusrule.yaml": _prometheus_rule,
}

if __name__ == "__main__":
    _deploy = shipped("deploy")
    for _path, _text in derived(_deploy).items():
        (_deploy / _path).write_text(_text, encoding="utf-8")
