"""The deployment files, judged by the tools and schemas that they are made for."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import jsonschema
import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema

from loopotel_prom.provision.addresses import read_addresses
from loopotel_prom.provision.tree import files_of, parts_of
from loopotel_prom.provision.write import write_tree

_DEPLOY = Path(__file__).parents[2] / "deploy"
# What kubectl keeps of an object in an annotation, unless it applies on the server.
_APPLIED_BYTES = 256 * 1024
_OPERATOR = "monitoring.coreos.com/v1"
_INSTALLED = "/opt/loopotel-prom/bin/loopotel-prom"


def _tool(name: str) -> str:
    """Find a tool: in our environment, where a wheel brings it, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.fail(f"no `{name}`: run `make test`", pytrace=False)
    return found


def _ran(name: str, *args: str | Path) -> str:
    done = subprocess.run(
        [_tool(name), *map(str, args)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """Provision for other addresses, none of them as by default."""
    folder = tmp_path_factory.mktemp("provisioned")
    addresses = read_addresses(
        exporters=["agents-1.example.com:9400", "[2001:db8::7]:9401"],
        prometheus="https://metrics.example.com/prom",
        alertmanager="https://alerts.example.com/am",
        grafana="https://grafana.example.com",
        webhook="https://hooks.example.com/x?to=loops",
    )
    write_tree(folder, files_of(addresses, parts_of(())), force=False)
    return folder


@pytest.fixture(scope="module", params=("shipped", "provisioned"))
def tree(request, other) -> Path:
    """Give the shipped files, then those provisioned for other addresses."""
    return _DEPLOY if request.param == "shipped" else other


def test_prometheus_accepts_its_configuration(tree):
    """The rules with it; Compose's own in the place where it is mounted."""
    told = _ran("promtool", "check", "config", tree / "prometheus/prometheus.yml")
    assert "FAILED" not in told
    assert told.count("rules found") == 3


def test_prometheus_accepts_its_configuration_in_compose(tree, tmp_path):
    """With the rules where they are mounted."""
    shutil.copy(tree / "compose/prometheus.yml", tmp_path)
    shutil.copytree(tree / "prometheus/rules", tmp_path / "rules")
    told = _ran("promtool", "check", "config", tmp_path / "prometheus.yml")
    assert told.count("rules found") == 3


def test_alertmanager_accepts_its_configuration(tree):
    """The template is found, and no route leads to a receiver that is not there."""
    told = _ran("amtool", "check-config", tree / "alertmanager/alertmanager.yml")
    assert "1 templates" in told
    assert "SUCCESS" in told


@pytest.mark.parametrize(
    ("labels", "receiver"),
    (
        (("alertname=LoopExporterDown", "severity=critical"), "loopotel-page"),
        (
            ("alertname=LoopRunStalled", "severity=warning", "loop_name=code-repair"),
            "loopotel-ticket",
        ),
        (("alertname=LoopOscillating", "severity=info"), "loopotel-note"),
        (("alertname=LoopOscillating",), "loopotel-ticket"),
        (("alertname=DiskFull", "severity=critical"), "loopotel-ticket"),
    ),
)
def test_each_severity_has_its_receiver(labels, receiver):
    """Also what has none, and what is no loop's."""
    config = f"--config.file={_DEPLOY / 'alertmanager/alertmanager.yml'}"
    told = _ran(
        *("amtool", "config", "routes", "test", config),
        *(f"--verify.receivers={receiver}", *labels),
    )
    assert told.splitlines()[0] == receiver


def test_every_alert_has_a_route_of_its_severity():
    """No rule uses a severity that the routes do not know."""
    routes = yaml.safe_load((_DEPLOY / "alertmanager/alertmanager.yml").read_text())
    known = re.findall(
        r'severity="(\w+)"', json.dumps(routes["route"]).replace("\\", "")
    )
    used = {
        rule["labels"]["severity"]
        for rule in _rules(_DEPLOY / "prometheus/rules")
        if "alert" in rule
    }
    assert used <= set(known)


_ALERT = {
    "status": "firing",
    "labels": {
        "alertname": "LoopRunStalled",
        "severity": "warning",
        "loop_name": "code repair",
        "env_id": "prod/agent",
    },
    "annotations": {
        "summary": "A run makes no progress",
        "description": "Score 0.41 < 0.8 for ten minutes.",
        "runbook_url": "http://localhost:10110/runbooks/LoopRunStalled",
        "dashboard_url": "http://localhost:3000/d/loopotel-loop",
    },
    "startsAt": "2026-03-02T09:00:00Z",
    "endsAt": "2026-03-02T09:30:00Z",
    "generatorURL": "http://localhost:9090/graph",
}


def _rendered(tmp_path: Path, name: str, status: str, **labels: str) -> str:
    data = tmp_path / "data.json"
    data.write_text(
        json.dumps(
            {
                "receiver": "x",
                "status": status,
                "alerts": [_ALERT | {"status": status}],
                "groupLabels": {},
                "commonLabels": _ALERT["labels"] | labels,
                "commonAnnotations": _ALERT["annotations"],
                "externalURL": "http://localhost:9093",
            }
        )
    )
    kind = "html" if name == "html" else "text"
    return _ran(
        *("amtool", "template", "render", f"--template.type={kind}"),
        f"--template.glob={_DEPLOY / 'alertmanager/templates'}/*.tmpl",
        f'--template.text={{{{ template "loopotel.{name}" . }}}}',
        f"--template.data={data}",
    )


def test_a_message_says_what_it_is_about(tmp_path):
    """Its title on one line; in the text what, since when, and where to look."""
    title = _rendered(tmp_path, "title", "firing")
    said = "LoopRunStalled – code repair (prod/agent), warning"  # noqa: RUF001 - a dash
    assert title.strip() == f"[FIRING: 1] {said}"
    text = _rendered(tmp_path, "text", "firing")
    assert text.startswith(
        "A run makes no progress\n"
        "Score 0.41 < 0.8 for ten minutes.\n"
        "since 2026-03-02 09:00:00Z\n"
        "What to do: http://localhost:10110/runbooks/LoopRunStalled\n"
        "Dashboard: http://localhost:3000/d/loopotel-loop\n"
        "Query: http://localhost:9090/graph\n"
    )
    assert "http://localhost:9093/#/silences/new?filter=%7Balertname%3D%22" in text
    assert "loop_name%3D%22code%20repair%22" in text


def test_a_message_says_what_is_over(tmp_path):
    """Until when, and there is nothing to silence."""
    assert _rendered(tmp_path, "title", "resolved").startswith("[RESOLVED] Loop")
    text = _rendered(tmp_path, "text", "resolved")
    assert "Over now:" in text
    assert "until 2026-03-02 09:30:00Z" in text
    assert "Silence" not in text


def test_a_message_in_html_is_escaped(tmp_path):
    """And its links are links."""
    page = _rendered(tmp_path, "html", "firing")
    assert "Score 0.41 &lt; 0.8" in page
    assert '<a href="http://localhost:10110/runbooks/LoopRunStalled">' in page
    assert "loop_name%3D%22code%20repair%22" in page


@pytest.mark.parametrize("name", ("text", "html"))
def test_a_silence_is_offered_for_a_loop_of_any_name(tmp_path, name):
    """What the filter quotes has its own quotes and backslashes escaped."""
    page = _rendered(tmp_path, name, "firing", loop_name='a "b" \\ c+d')
    (sought,) = re.findall(r'filter=([^"\s]+)', page)
    assert 'loop_name="a \\"b\\" \\\\ c+d", severity=' in unquote(sought)


def test_compose_follows_its_schema(tree):
    """The file is what the Compose specification says."""
    schema = get_builtin_schema("vendor.compose-spec")
    compose = yaml.safe_load((tree / "compose/compose.yaml").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(compose)] == []


def test_every_container_is_pinned_checked_and_confined():
    """A version, a health check, no root, nothing writable but volumes."""
    compose = yaml.safe_load((_DEPLOY / "compose/compose.yaml").read_text())
    for name, service in compose["services"].items():
        assert "build" in service or re.search(r":v?\d+\.\d+\.\d+$", service["image"])
        assert service["healthcheck"]["test"], name
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert not service["user"].startswith(("0:", "root"))
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_the_dockerfile_has_no_faults():
    """As its linter sees it."""
    assert _ran("hadolint", _DEPLOY / "Dockerfile") == ""


def _built(folder: Path) -> list[dict[str, Any]]:
    """Give what `kubectl apply -k` would send."""
    told = subprocess.run(
        [_tool("kubectl"), "kustomize", str(folder)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert told.stderr == ""
    return list(yaml.safe_load_all(told.stdout))


@pytest.mark.parametrize("version", ("1.29", "1.33", "1.37"))
def test_kubernetes_follows_its_schemas(tree, version):
    """Each of its own kinds, strictly; the operator's kinds have none here."""
    kinds = []
    for resource in _built(tree / "kubernetes"):
        if resource["apiVersion"] == _OPERATOR:
            continue
        kinds.append(resource["kind"])
        kubernetes_validate.validate(resource, version, strict=True)
    assert set(kinds) == {"ConfigMap", "Deployment", "NetworkPolicy"}


def test_the_archive_may_have_a_volume_of_its_own(other, tmp_path):
    """The component that the overlay names in a comment."""
    shutil.copytree(other, tmp_path / "copy")
    overlay = tmp_path / "copy/kubernetes/kustomization.yaml"
    text = overlay.read_text()
    enabled = text.replace("# components:\n#   - ", "components:\n  - ")
    assert enabled != text
    overlay.write_text(enabled)
    by_kind = {each["kind"]: each for each in _built(overlay.parent)}
    claim = by_kind["PersistentVolumeClaim"]
    kubernetes_validate.validate(claim, "1.33", strict=True)
    kubernetes_validate.validate(by_kind["Deployment"], "1.33", strict=True)
    (volume,) = by_kind["Deployment"]["spec"]["template"]["spec"]["volumes"]
    name = volume["persistentVolumeClaim"]["claimName"]
    assert name == claim["metadata"]["name"]


def test_what_looks_for_the_pod_finds_it():
    """PodMonitor and NetworkPolicy: by its label, at its port."""
    by_kind = {each["kind"]: each for each in _built(_DEPLOY / "kubernetes")}
    pod = by_kind["Deployment"]["spec"]["template"]
    (sidecar,) = pod["spec"]["initContainers"]
    (port,) = sidecar["ports"]
    monitor = by_kind["PodMonitor"]["spec"]
    assert (
        monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    )
    assert [each["port"] for each in monitor["podMetricsEndpoints"]] == [port["name"]]
    policy = by_kind["NetworkPolicy"]["spec"]
    assert policy["podSelector"] == monitor["selector"]
    ((allowed,),) = (each["ports"] for each in policy["ingress"])
    assert allowed["port"] == port["containerPort"]


def test_every_container_of_the_pod_is_confined():
    """No root, no writes but to the archive, no capability."""
    by_kind = {each["kind"]: each for each in _built(_DEPLOY / "kubernetes")}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_operators_rules_are_the_rules(tree, tmp_path):
    """Prometheus accepts the resource's groups, and they are its own."""
    (rule,) = (e for e in _built(tree / "kubernetes") if e["kind"] == "PrometheusRule")
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    _ran("promtool", "check", "rules", file)
    groups = [
        group
        for path in sorted((tree / "prometheus/rules").glob("*.rules.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert rule["spec"]["groups"] == groups


def test_dashboards_are_small_enough_to_apply():
    """Each map of one fits what kubectl writes into an annotation."""
    maps = [e for e in _built(_DEPLOY / "kubernetes") if e["kind"] == "ConfigMap"]
    assert len(maps) >= 4
    for each in maps:
        assert len(json.dumps(each)) < _APPLIED_BYTES, each["metadata"]["name"]
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_grafana_has_the_same_alerts(tree):
    """Each that Prometheus has, with its expression, times and labels."""
    path = tree / "grafana/alerting/rules.yaml"
    found = {
        rule["title"]: (
            rule["data"][0]["model"]["expr"],
            rule["for"],
            rule["keepFiringFor"],
            rule["labels"],
        )
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    }
    assert found == {
        rule["alert"]: (
            rule["expr"],
            rule.get("for", "0s"),
            rule.get("keep_firing_for", "0s"),
            rule["labels"],
        )
        for rule in _rules(tree / "prometheus/rules")
        if "alert" in rule
    }


def _rules(folder: Path) -> Iterator[dict[str, Any]]:
    for path in folder.glob("*.rules.yml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


@pytest.fixture
def units(tree, tmp_path) -> Path:
    """Copy the units, for the command where it is installed here."""
    folder = tmp_path / "units"
    shutil.copytree(tree / "systemd", folder)
    for file in folder.rglob("*"):
        if file.is_file():
            command = file.read_text().replace(_INSTALLED, _tool("loopotel-prom"))
            file.write_text(command)
    return folder


def test_systemd_accepts_the_units(units):
    """Without and with the socket."""
    plain = sorted(units.glob("loopotel-prom*.*"))
    assert len(plain) == 3
    assert _ran("systemd-analyze", "verify", *plain) == ""
    for file in (units / "socket").iterdir():
        shutil.move(file, units)
    assert _ran("systemd-analyze", "verify", *units.glob("*.so*"), *plain) == ""


def test_systemd_finds_the_units_well_confined(units):
    """At most 2 of 10 points of exposure, where 10 is no confinement at all."""
    for name in ("loopotel-prom.service", "loopotel-prom-compact.service"):
        told = _ran(
            *("systemd-analyze", "security", "--offline=yes", "--no-pager"),
            *("--threshold=20", units / name),
        )
        assert "Overall exposure level" in told


def test_the_units_commands_work(units, command, free_port, tmp_path):
    """What they start, starts; with the folder and the port of this test."""
    port = free_port()
    starts = []
    for name in ("loopotel-prom.service", "loopotel-prom-compact.service"):
        text = (units / name).read_text().replace("\\\n", " ")
        (line,) = re.findall(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
        line = line.replace("%S", str(tmp_path))
        starts.append(
            re.sub(r"(127\.0\.0\.1)?:\d+\b", f"127.0.0.1:{port}", line).split()
        )
    serve = command(*starts[0])
    serve.wait_for_line(rf"listening on http://127\.0\.0\.1:{port}")
    assert command(*starts[1]).wait() == 0


def test_grafanas_alerts_are_as_grafana_asks():
    """Ids that it takes, groups in steps of ten seconds, values by their query."""
    text = (_DEPLOY / "grafana/alerting/rules.yaml").read_text()
    for group in yaml.safe_load(text)["groups"]:
        seconds = {"s": 1, "m": 60}[group["interval"][-1]] * int(group["interval"][:-1])
        assert seconds % 10 == 0
        for rule in group["rules"]:
            assert re.fullmatch(r"[\w-]{1,40}", rule["uid"])
            (source,) = {
                part["datasourceUid"] for part in rule["data"] if part["refId"] == "A"
            }
            assert source == "loopotel-prometheus"
            assert "$value " not in json.dumps(rule)


def test_grafana_loads_no_alerting_unless_asked():
    """What is mounted and copied has no folder of that name."""
    assert {path.name for path in (_DEPLOY / "grafana/provisioning").iterdir()} == {
        "dashboards",
        "datasources",
    }
    compose = yaml.safe_load((_DEPLOY / "compose/compose.yaml").read_text())
    volumes = compose["services"]["grafana"]["volumes"]
    assert not [volume for volume in volumes if "alerting" in volume]
