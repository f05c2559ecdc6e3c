"""The next steps: what to do with a part that has been written, and what to mind."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from loopotel_prom.provision.addresses import Addresses
from loopotel_prom.version import __version__

_NAME = "loopotel-prom"
_UNITS = "loopotel-prom.service loopotel-prom-compact.timer"


def next_steps(folder: Path, parts: frozenset[str]) -> list[tuple[str, str]]:
    """Give commands for the parts of a folder, each with its part, in good order."""
    at = shlex.quote(str(folder))
    wheel = (
        f"python -m pip wheel --quiet --no-deps --wheel-dir {at} {_package()}",
        f"docker build --file {at}/Dockerfile --tag loopotel-prom {at}",
    )
    steps = {
        "prometheus": (f"promtool check config {at}/prometheus/prometheus.yml",),
        "alertmanager": (f"amtool check-config {at}/alertmanager/alertmanager.yml",),
        "grafana": (
            f"sudo cp -r {at}/grafana/provisioning/. /etc/grafana/provisioning/",
            "sudo mkdir -p /var/lib/grafana/dashboards/loopotel",
            f"sudo cp {at}/dashboards/*.json /var/lib/grafana/dashboards/loopotel/",
        ),
        "image": wheel,
        "compose": (
            f"docker compose --file {at}/compose/compose.yaml up --detach --wait",
        ),
        "kubernetes": (f"kubectl apply --server-side -k {at}/kubernetes",),
        "systemd": (
            "sudo python3 -m venv /opt/loopotel-prom",
            f"sudo /opt/loopotel-prom/bin/pip install {_package()}",
            f"sudo cp {at}/systemd/loopotel-prom*.* /etc/systemd/system/",
            "sudo systemctl daemon-reload",
            f"sudo systemctl enable --now {_UNITS}",
        ),
    }
    return [
        (part, command)
        for part, commands in steps.items()
        if part in parts
        for command in commands
    ]


def notes(folder: Path, addresses: Addresses, parts: frozenset[str]) -> tuple[str, ...]:
    """Say what somebody should know before taking the next steps; a line each."""
    first = addresses.exporters[0]
    if "systemd" not in parts or first.is_local:
        return ()
    unit = f"{folder}/systemd/loopotel-prom.service"
    return (
        (
            f"anyone who reaches port {first.port} can read the runs and their traces;"
            f" {unit} says how to ask for a password (--web.config.file)"
        ),
    )


def _package() -> str:
    """Say what pip got us from, or by what name it would."""
    try:
        told = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        told = None
    if told is None:
        return f"{_NAME}=={__version__}"
    return shlex.quote(str(json.loads(told)["url"]))
