"""Provisioning: the shipped files, with other addresses and nothing else changed."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from loopotel_prom.errors import ConfigError
from loopotel_prom.provision.addresses import DEFAULT, Addresses, read_addresses
from loopotel_prom.provision.derived import derived
from loopotel_prom.provision.edit import edit
from loopotel_prom.provision.shipped import shipped
from loopotel_prom.provision.tree import PARTS, File, files_of, parts_of
from loopotel_prom.provision.write import write_tree

_OTHER = read_addresses(
    exporters=["agents-1.example.com:9400", "[2001:db8::7]:9401"],
    prometheus="https://metrics.example.com/prom/",
    alertmanager="https://alerts.example.com:8443/am",
    grafana="http://grafana.example.com:8080",
    runbooks="https://wiki.example.com/runbooks",
    webhook="https://hooks.example.com/x?to=loops",
)
# What a container publishes (a second port) stays this machine's alone.
_DEFAULTS = re.compile(r"(localhost|127\.0\.0\.1):(10110|9090|9093|3000|5001)\b(?!:\d)")
# In a container it listens where it does, whoever asks from wherever.
_INSIDE = ("Dockerfile", "Dockerfile.dockerignore")


@cache
def _tree(addresses: Addresses, *only: str) -> dict[str, str]:
    files = files_of(addresses, parts_of(only))
    return {file.path: file.data.decode() for file in files}


def _documents(path: str, text: str) -> list[Any]:
    if path.endswith(".json"):
        return [json.loads(text)]
    is_yaml = path.endswith((".yml", ".yaml", ".yaml.example"))
    return list(yaml.safe_load_all(text)) if is_yaml else []


def _keys(value: object) -> object:
    """Give what a document is made of, without its texts and lists of them."""
    if isinstance(value, dict):
        return {key: _keys(each) for key, each in value.items()}
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        return [_keys(each) for each in value]
    return type(value)


@pytest.fixture
def provision(tmp_path: Path):
    """Run the command in a folder of its own; it must never traceback."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", "provision", *args],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def test_the_defaults_are_the_shipped_files():
    """Only what lies beside deploy/ is referred to where it is now."""
    tree = _tree(DEFAULT)
    for path, text in tree.items():
        folder, _, name = path.partition("/")
        source = shipped("dashboards") / name
        if folder != "dashboards":
            source = shipped("deploy") / path
        differing = set(text.splitlines()) - set(source.read_text().splitlines())
        assert all(
            re.search(r"\.\./dashboards|context: \.\.$|dockerfile: Dockerfile$", line)
            for line in differing
        ), path


def test_no_default_address_is_left():
    """Neither in a setting nor in a comment."""
    left = {
        path: found[0]
        for path, text in _tree(_OTHER).items()
        if path not in _INSIDE and (found := _DEFAULTS.search(text))
    }
    assert left == {}


def test_nothing_but_addresses_changes():
    """Each file has the same keys and types as before."""
    before, after = _tree(DEFAULT), _tree(_OTHER)
    assert before.keys() == after.keys()
    for path in before:
        old, new = _documents(path, before[path]), _documents(path, after[path])
        if path == "prometheus/prometheus.yml":
            # With HTTPS, and below a path, Alertmanager is reached otherwise.
            (server,) = new[0]["alerting"]["alertmanagers"]
            assert server.pop("scheme") == "https"
            assert server.pop("path_prefix") == "/am"
        assert _keys(old) == _keys(new), path


def test_links_lead_to_the_addresses():
    """Runbooks, dashboards, runs and the webhook: each to its own."""
    tree = _tree(_OTHER)
    rules = yaml.safe_load(tree["prometheus/rules/exporter.rules.yml"])
    notes = rules["groups"][0]["rules"][0]["annotations"]
    runbook = "https://wiki.example.com/runbooks/LoopExporterDown"
    assert notes["runbook_url"] == runbook
    board = "http://grafana.example.com:8080/d/loopotel-exporter"
    assert notes["dashboard_url"].startswith(board)
    source = yaml.safe_load(tree["grafana/provisioning/datasources/loopotel.yaml"])
    (source,) = source["datasources"]
    assert source["url"] == "https://metrics.example.com/prom"
    (exemplar,) = source["jsonData"]["exemplarTraceIdDestinations"]
    run = "http://agents-1.example.com:9400/runs/$${__value.raw}"
    assert exemplar["url"] == run
    alerting = yaml.safe_load(tree["alertmanager/alertmanager.yml"])
    hooks = {each["webhook_configs"][0]["url"] for each in alerting["receivers"]}
    assert hooks == {"https://hooks.example.com/x?to=loops"}


def test_every_exporter_is_a_target():
    """A list of one becomes a list of all, quoted where YAML asks for it."""
    text = "a:\n  - targets: [localhost:10110]\nb:\n  - targets:\n"
    text += '      - "localhost:10110"\n'
    made = yaml.safe_load(edit("prometheus/x.yml", text, _OTHER))
    both = ["agents-1.example.com:9400", "[2001:db8::7]:9401"]
    assert made == {"a": [{"targets": both}], "b": [{"targets": both}]}


@pytest.mark.parametrize(
    "text",
    (
        *("mylocalhost:9090", "localhost:90901", "localhost:9090.example.com"),
        *(
            "http://x/localhost:9090",
            "a-localhost:3000",
        ),
        *("demo:10110", "prometheus:9090", ":10110", "http://[::1]:9090"),
    ),
)
def test_only_whole_addresses_are_replaced(text):
    """What merely has one in it stays."""
    assert edit("grafana/x", text, _OTHER) == text


def test_an_address_may_end_a_sentence():
    """Or stand before a colon."""
    text = "at http://localhost:3000: see http://localhost:3000. Or localhost:3000."
    board = "http://grafana.example.com:8080"
    made = f"at {board}: see {board}. Or grafana.example.com:8080."
    assert edit("x", text, _OTHER) == made


def test_an_address_that_holds_a_default_one_is_put_in_once():
    """What has been put in is not looked at again."""
    other = read_addresses(prometheus="http://localhost:3000", grafana="http://g:1")
    text = "http://localhost:9090 http://localhost:3000/d/x"
    assert edit("x", text, other) == "http://localhost:3000 http://g:1/d/x"


@pytest.mark.parametrize(
    ("exporter", "listens"),
    (
        ("localhost:9400", "--web.listen-address 127.0.0.1:9400\n"),
        ("[::1]:9400", "--web.listen-address [::1]:9400\n"),
        (
            "agents:9400",
            "--web.listen-address :9400 \\\n    --web.allow-unauthenticated\n",
        ),
    ),
)
def test_the_service_listens_for_who_will_ask(exporter, listens):
    """On this machine alone, or for others where the exporter has a name for them."""
    tree = _tree(read_addresses(exporters=[exporter]), "systemd")
    assert listens in tree["systemd/loopotel-prom.service"]


@pytest.mark.parametrize("unit", ("loopotel-prom.service", "socket/socket.conf"))
def test_a_service_that_others_may_ask_says_what_they_can_read(unit):
    """And how to ask them for a password; one for this machine says nothing."""
    path = f"systemd/{unit.replace('socket/', 'socket/loopotel-prom.service.d/')}"
    opened = _tree(read_addresses(exporters=["agents:9400"]), "systemd")[path]
    comment, _, _ = opened.partition("ExecStart=/opt")
    assert "can read all of it" in comment
    assert "--web.config.file" in comment
    assert "can read all of it" not in _tree(DEFAULT, "systemd")[path]


def test_it_notes_that_others_can_read_the_traces(provision):
    """Before the commands, where the exporter is for other machines."""
    done = provision("monitoring", "--exporter", "agents:9400", "--only", "systemd")
    (note,) = re.findall(r"^note: (.*)$", done.stdout, re.MULTILINE)
    assert "anyone who reaches port 9400 can read" in note
    assert "--web.config.file" in note
    assert "note:" not in provision("local", "--only", "systemd").stdout


def test_what_a_container_publishes_stays_local():
    """The port is the address's own, on loopback."""
    tree = _tree(read_addresses(grafana="http://g.example.com:8080"))
    compose = yaml.safe_load(tree["compose/compose.yaml"])
    assert compose["services"]["grafana"]["ports"] == ["127.0.0.1:8080:3000"]
    assert compose["services"]["prometheus"]["ports"] == ["127.0.0.1:9090:9090"]


def test_containers_find_each_other_as_before():
    """By their services' names, whatever they are called from outside."""
    trees = _tree(DEFAULT), _tree(_OTHER)
    before, after = (yaml.safe_load(tree["compose/compose.yaml"]) for tree in trees)
    for name, service in before["services"].items():
        assert f"//{name}:" in " ".join(service["healthcheck"]["test"])
        assert after["services"][name]["healthcheck"] == service["healthcheck"]
    for tree in trees:
        assert 'targets: ["demo:10110"]' in tree["compose/prometheus.yml"]
        assert "url: http://prometheus:9090" in tree["compose/datasource.yaml"]


def test_what_files_refer_to_is_there(tmp_path):
    """Compose's volumes, Kustomize's resources and Prometheus' rule files exist."""
    write_tree(tmp_path, files_of(DEFAULT, parts_of(())), force=False)
    compose = tmp_path / "compose/compose.yaml"
    services = yaml.safe_load(compose.read_text())["services"]
    build = compose.parent / services["demo"]["build"]["context"]
    assert (build / services["demo"]["build"]["dockerfile"]).is_file()
    for service in services.values():
        for volume in service["volumes"]:
            place = volume.partition(":")[0]
            if place.startswith("."):
                assert (compose.parent / place).exists(), place
    for file in tmp_path.rglob("kustomization.yaml"):
        for resource in yaml.safe_load(file.read_text()).get("resources", ()):
            found = file.parent / resource
            assert found.is_file() or (found / "kustomization.yaml").is_file()


def test_the_derived_files_are_up_to_date():
    """`make specs` would change nothing."""
    deploy = shipped("deploy")
    for path, text in derived(deploy).items():
        assert (deploy / path).read_text(encoding="utf-8") == text, (
            f"{path}: make specs"
        )


def test_the_datasource_knows_the_scrape_interval():
    """As Prometheus and the PodMonitor have it."""
    deploy = shipped("deploy")
    source = deploy / "grafana/provisioning/datasources/loopotel.yaml"
    (source,) = yaml.safe_load(source.read_text())["datasources"]
    prometheus = yaml.safe_load((deploy / "prometheus/prometheus.yml").read_text())
    monitor = deploy / "kubernetes/monitoring/podmonitor.yaml"
    (scrape,) = yaml.safe_load(monitor.read_text())["spec"]["podMetricsEndpoints"]
    interval = prometheus["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval == scrape["interval"]
    assert source["uid"] == "loopotel-prometheus"


@pytest.mark.parametrize(
    ("name", "value"),
    (
        ("exporters", ["localhost"]),
        ("exporters", ["http://localhost:10110"]),
        ("exporters", ["localhost:0"]),
        ("exporters", ["localhost:99999"]),
        ("exporters", ['x:1"]']),
        ("exporters", ["user@x:1"]),
        ("prometheus", "localhost:9090"),
        ("prometheus", "ftp://localhost"),
        ("prometheus", "http://"),
        ("prometheus", "http://x:"),
        ("alertmanager", "http://u:p@x"),
        ("grafana", "http://x/?y=1"),
        ("grafana", "http://x/${HOME}"),
        ("runbooks", "http://x/#there"),
        ("webhook", "http://x/\nurl: y"),
        ("webhook", "http://[::1"),
        ("prometheus", "http://[::1]x:80"),
        ("exporters", ["-x:80"]),
    ),
)
def test_what_is_no_address_is_refused(name, value):
    """Nothing that a file would read as more than an address gets into one."""
    with pytest.raises(ConfigError, match=r"^--\S+ .* try "):
        read_addresses(**{name: value})


@pytest.mark.parametrize(
    ("option", "value"),
    (("--grafana", "grafana:3000"), ("--only", "prometheus,grafna"), ("--only", "")),
)
def test_a_wrong_option_is_one_clear_line(provision, tmp_path, option, value):
    """It names the option and its value, and nothing is written."""
    done = provision("there", option, value)
    assert done.returncode == 2
    assert done.stderr.startswith(f"loopotel-prom: {option} ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "there").exists()


def test_it_says_what_it_wrote_and_what_comes_next(provision, tmp_path):
    """Each part, how many files, and commands."""
    done = provision("there", "--only", "alertmanager")
    assert done.returncode == 0
    assert done.stdout.startswith("alertmanager    2 files\nthere: 2 written\n")
    assert "amtool check-config there/alertmanager/alertmanager.yml" in done.stdout
    assert (tmp_path / "there/alertmanager/alertmanager.yml").is_file()


def test_for_machines_it_is_one_object(provision):
    """What was written, where everything is, and the commands."""
    done = provision("there", "--json", "--exporter", "a:1", "--exporter", "b:2")
    told = json.loads(done.stdout)
    assert told["addresses"]["exporters"] == ["a:1", "b:2"]
    assert told["addresses"]["runbooks"] == "http://a:1/runbooks"
    assert "compose/compose.yaml" in told["written"]
    assert told["unchanged"] == told["replaced"] == []
    assert any(command.startswith("docker compose") for command in told["next"])


def test_a_second_time_nothing_changes(tmp_path):
    """Not even a file's time."""
    files = files_of(_OTHER, parts_of(()))
    write_tree(tmp_path, files, force=False)
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    again = write_tree(tmp_path, files_of(_OTHER, parts_of(())), force=False)
    assert len(again.unchanged) == len(files)
    assert all(path.stat().st_mtime == 1 for path in tmp_path.rglob("*"))


def test_a_changed_file_is_kept(tmp_path):
    """Then nothing is written, the missing ones neither."""
    (tmp_path / "b").write_text("mine")
    files = [File("x", "a", b"1"), File("x", "b", b"2")]
    with pytest.raises(ConfigError, match=r"b would change; .* --force"):
        write_tree(tmp_path, files, force=False)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text() == "mine"


def test_force_replaces_a_changed_file(tmp_path):
    """And says which."""
    (tmp_path / "b").write_text("mine")
    (tmp_path / "c").write_text("3")
    files = [File("x", name, name.encode()) for name in "abc"]
    written = write_tree(tmp_path, files, force=True)
    assert (tmp_path / "b").read_text() == "b"
    assert written.written == ("a",)
    assert written.replaced == ("b", "c")


def test_files_can_be_read_by_the_servers(tmp_path):
    """They have the modes that any file of this user gets, and no leftovers remain."""
    write_tree(tmp_path, [File("x", "d/a", b"1")], force=False)
    usual = tmp_path / "usual"
    usual.touch()
    assert (tmp_path / "d/a").stat().st_mode == usual.stat().st_mode
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]


def test_a_part_comes_with_what_it_needs():
    """Compose mounts the files of others."""
    assert parts_of(["kubernetes"]) == {"kubernetes", "dashboards", "image"}
    assert "prometheus" in parts_of(["compose"])
    assert parts_of(()) == PARTS.keys()


def test_what_cannot_be_written_is_one_line(provision, tmp_path):
    """A file where a folder has to be."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there/alertmanager").touch()
    done = provision("there", "--only", "alertmanager")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    """It is no file of anybody's, and so not replaced either."""
    os.mkfifo(tmp_path / "a")
    with pytest.raises(ConfigError, match="it is no file"):
        write_tree(tmp_path, [File("x", "a", b"1")], force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_without_a_name_is_none(provision, tmp_path):
    """Only a dot is the current one: a variable may not have been set."""
    assert provision("").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_dashboards_are_told_to_the_wheel():
    """Each one that there is, is among those that Kustomize makes maps of."""
    folder = shipped("dashboards")
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())
    maps = [name for each in listed["configMapGenerator"] for name in each["files"]]
    assert sorted(maps) == sorted(file.name for file in folder.glob("*.json"))
