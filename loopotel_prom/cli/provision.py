"""The command `loopotel-prom provision`."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated

import typer

from loopotel_prom.cli.output import new_folder
from loopotel_prom.cli.places import folder_of
from loopotel_prom.cli.terminal import echo
from loopotel_prom.provision.addresses import Addresses, read_addresses
from loopotel_prom.provision.steps import next_steps, notes
from loopotel_prom.provision.tree import PARTS, File, files_of, parts_of
from loopotel_prom.provision.write import Written, write_tree


def provision(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", parser=folder_of, help="Where to write; made if absent."
        ),
    ],
    *,
    exporter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="What Prometheus scrapes; repeatable. Links lead to the first.",
            show_default="localhost:10110",
        ),
    ] = None,
    prometheus: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Prometheus is, for Grafana and browsers.",
            show_default="http://localhost:9090",
        ),
    ] = None,
    alertmanager: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Alertmanager is, for Prometheus and browsers.",
            show_default="http://localhost:9093",
        ),
    ] = None,
    grafana: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where Grafana is, for browsers.",
            show_default="http://localhost:3000",
        ),
    ] = None,
    runbook_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="What comes before /ALERT in the links to runbooks.",
            show_default="/runbooks of the first exporter",
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="What Alertmanager posts to; there need not be anything.",
            show_default="http://localhost:5001/",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PARTS",
            help=f"Some of {', '.join(PARTS)}, and what they need; commas between.",
            show_default="all",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that say something else.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with what was done.")
    ] = False,
) -> None:
    """
    Write dashboards, alert rules and deployment files for your addresses.

    Prometheus, Alertmanager, Grafana, Compose, Kubernetes and systemd; the same
    files each time. What is there and says the same is left; what says something
    else is kept, and nothing is written, unless --force is given.
    """
    addresses = read_addresses(
        exporters=exporter or (),
        prometheus=prometheus,
        alertmanager=alertmanager,
        grafana=grafana,
        runbooks=runbook_url,
        webhook=webhook,
    )
    parts = parts_of(name.strip() for names in only or () for name in names.split(","))
    files = files_of(addresses, parts)
    with new_folder(folder):
        written = write_tree(folder, files, force=force)
    if as_json:
        typer.echo(json.dumps(_told(folder, addresses, written, parts)))
    else:
        _tell(folder, addresses, files, written, parts)


def _told(
    folder: Path, addresses: Addresses, written: Written, parts: frozenset[str]
) -> dict[str, object]:
    return {
        "folder": str(folder),
        "addresses": {
            "exporters": [each.netloc for each in addresses.exporters],
            "prometheus": addresses.prometheus.url,
            "alertmanager": addresses.alertmanager.url,
            "grafana": addresses.grafana.url,
            "runbooks": addresses.runbooks,
            "webhook": addresses.webhook,
        },
        **asdict(written),
        "notes": notes(folder, addresses, parts),
        "next": [command for _, command in next_steps(folder, parts)],
    }


def _tell(
    folder: Path,
    addresses: Addresses,
    files: list[File],
    written: Written,
    parts: frozenset[str],
) -> None:
    counts = Counter(file.part for file in files)
    for part in sorted(counts):
        number = counts[part]
        echo(f"{part:<13} {number:>3} {'file' if number == 1 else 'files'}")
    changes = [
        f"{len(paths)} {what}" for what, paths in asdict(written).items() if paths
    ]
    echo(f"{folder}: {', '.join(changes)}")
    for note in notes(folder, addresses, parts):
        echo(f"note: {note}")
    steps = next_steps(folder, parts)
    if steps:
        echo("next, for what you have of these:")
    for part, commands in groupby(steps, key=itemgetter(0)):
        echo(f"  # {part}")
        for _, command in commands:
            echo(f"  {command}")
