"""The rules and the configuration for Prometheus: what promtool and we ask of them."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_FOLDER = _DEPLOY / "prometheus"
_RULES = {file.name: file for file in sorted(_FOLDER.glob("rules/*.rules.yml"))}
_TESTS = sorted(_FOLDER.glob("tests/*.test.yml"))
_CASES = ("firing", "not firing", "resolving", "flapping", "absence")


def _rules(kind: str) -> Iterator[dict[str, Any]]:
    for file in _RULES.values():
        for group in yaml.safe_load(file.read_text())["groups"]:
            yield from (rule for rule in group["rules"] if kind in rule)


_ALERTS = {rule["alert"]: rule for rule in _rules("alert")}
_RECORDED = {rule["record"]: rule for rule in _rules("record")}

each_alert = pytest.mark.parametrize("name", _ALERTS)


def _promtool(*arguments: str | Path, cwd: Path | None = None) -> str:
    """Run promtool; give what it says, and fail with that where it refuses."""
    if shutil.which("promtool") is None:
        pytest.fail("no `promtool` on PATH: run `make test`", pytrace=False)
    done = subprocess.run(
        ["promtool", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


# The configuration.


def test_promtool_accepts_the_configuration():
    """`check config` takes prometheus.yml, and the rules that it names."""
    said = _promtool("check", "config", _FOLDER / "prometheus.yml")
    assert said.count("rules found") == len(_RULES)


def _uncommented() -> str:
    """Give the configuration with all that it offers."""
    text = (_FOLDER / "prometheus.yml").read_text()
    return re.sub(r"^  #(?=[- ] )", "  ", text, flags=re.MULTILINE)


def test_promtool_accepts_the_discovery_that_is_commented_out(tmp_path: Path):
    """With HTTP and Kubernetes discovery uncommented it is a configuration too."""
    shutil.copytree(_FOLDER / "rules", tmp_path / "rules")
    # Debian builds Prometheus without Kubernetes: something else finds its pods here.
    text = _uncommented().replace("kubernetes_sd_configs:", "static_configs:")
    text = text.replace("- role: pod", "- targets: [pod]")
    (tmp_path / "prometheus.yml").write_text(text)
    _promtool("check", "config", tmp_path / "prometheus.yml")


def test_exporters_are_found_in_four_ways():
    """By name, in files, over HTTP, in Kubernetes; each time the job is `loopotel`."""
    jobs = yaml.safe_load(_uncommented())["scrape_configs"]
    ways = {key for job in jobs for key in job if key.endswith("_configs")}
    found = ("static", "file_sd", "http_sd", "kubernetes_sd", "relabel")
    assert ways == {f"{way}_configs" for way in found}
    for job in jobs:
        relabelled = {"target_label": "job", "replacement": "loopotel"}
        assert job["job_name"] == "loopotel" or relabelled in job["relabel_configs"]
    (pods,) = (job for job in jobs if "kubernetes_sd_configs" in job)
    assert pods["kubernetes_sd_configs"] == [{"role": "pod"}]


def test_promtool_accepts_the_example_of_a_target_file(tmp_path: Path):
    """Copied to where it says, the example is read as targets."""
    shutil.copytree(_FOLDER, tmp_path / "prometheus")
    targets = tmp_path / "prometheus/targets"
    (targets / "loops.yml.example").rename(targets / "loops.yml")
    _promtool("check", "config", tmp_path / "prometheus/prometheus.yml")


def test_the_example_of_a_target_file_is_not_a_target():
    """As it is shipped nothing but this machine is scraped."""
    assert not [*_FOLDER.glob("targets/*.yml"), *_FOLDER.glob("targets/*.json")]


# What promtool makes of the rules.


@pytest.mark.parametrize("name", _RULES)
def test_promtool_accepts_the_rules(name: str):
    """`check rules` finds nothing to say."""
    assert "SUCCESS" in _promtool("check", "rules", _RULES[name])


@each_alert
def test_the_alert_passes_its_unit_tests(name: str):
    """Its five cases are as promtool finds them."""
    _promtool("test", "rules", _FOLDER / f"tests/{name}.test.yml")


@each_alert
def test_the_alert_has_all_five_cases(name: str):
    """Firing, not firing, resolving, flapping, absence: each by name, and judged."""
    groups = yaml.safe_load((_FOLDER / f"tests/{name}.test.yml").read_text())["tests"]
    assert [group["name"] for group in groups] == [f"{name}: {case}" for case in _CASES]
    for group in groups:
        checks = group.get("alert_rule_test", []) + group.get("promql_expr_test", [])
        asked = [check.get("alertname") or check["expr"] for check in checks]
        assert any(name in each for each in asked), group["name"]


def test_every_file_of_tests_is_of_an_alert():
    """A test of an alert that is gone goes too."""
    assert {file.name.removesuffix(".test.yml") for file in _TESTS} == _ALERTS.keys()


# Alerts.


@each_alert
def test_the_alert_says_what_an_operator_needs(name: str):
    """Severity, a summary that stands still, a description that does not, links."""
    alert = _ALERTS[name]
    assert re.fullmatch(r"Loop([A-Z][a-z]+)+", name)
    assert alert["labels"].keys() == {"severity"}
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert alert["keep_firing_for"]
    notes = alert["annotations"]
    assert "{{" not in notes["summary"]
    assert "{{" in notes["description"]
    assert notes["runbook_url"] == f"http://localhost:10110/runbooks/{name}"


@each_alert
def test_the_alert_links_to_a_board_that_there_is(name: str):
    """The board has the uid of the link, and the variables that it sets."""
    link = _ALERTS[name]["annotations"]["dashboard_url"]
    # What is said if there is an instance only.
    link = re.sub(r"\{\{ (?:with [^}]*|end) \}\}", "", link)
    match = re.fullmatch(r"http://localhost:3000/d/([\w-]+)\?(.*)", link)
    assert match
    board = json.loads((_ROOT / f"dashboards/{match[1]}.json").read_text())
    assert board["uid"] == match[1]
    variables = {each["name"] for each in board["templating"]["list"]}
    assert {pair.split("=")[0] for pair in match[2].split("&")} <= {
        f"var-{variable}" for variable in variables
    }


@each_alert
def test_the_alert_has_a_runbook(name: str):
    """It says what the alert means, what to look at, why, what to do, how to tune."""
    text = (_DEPLOY / f"runbooks/{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert headings == [
        "What it means",
        "Look first",
        "Likely causes",
        "What to do",
        "Silence and tune",
    ]
    assert "/d/loopotel-" in text


def test_every_runbook_is_of_an_alert():
    """A runbook of an alert that is gone goes too."""
    assert {f.stem for f in _DEPLOY.glob("runbooks/Loop*.md")} == _ALERTS.keys()


@each_alert
def test_the_runbook_quotes_queries_that_prometheus_understands(
    name: str, tmp_path: Path
):
    """Each block of PromQL parses."""
    text = (_DEPLOY / f"runbooks/{name}.md").read_text()
    queries = re.findall(r"```promql\n(.*?)```", text, flags=re.DOTALL)
    assert queries
    rules = [{"record": f"q:{n}", "expr": q} for n, q in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "q", "rules": rules}]}))
    _promtool("check", "rules", file)
    assert not _unknown("\n".join(queries))


@each_alert
def test_the_readme_has_the_alert_as_it_is(name: str):
    """Severity, patience and how long it stays, in the table of the folder's README."""
    text = (_FOLDER / "README.md").read_text()
    (row,) = re.findall(rf"^\| \[`{name}`\].*$", text, flags=re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    alert = _ALERTS[name]
    waits, keeps = alert.get("for", "-"), alert["keep_firing_for"]
    assert (cells[1], cells[4], cells[5]) == (alert["labels"]["severity"], waits, keeps)


def test_the_projects_readme_lists_every_alert():
    """And no other."""
    section = (_ROOT / "README.md").read_text().split("\n## Alerts\n")[1]
    section = section.split("\n## ")[0]
    assert set(re.findall(r"`(Loop[A-Z]\w+)`", section)) == _ALERTS.keys()


# Recording rules.


def test_recorded_names_follow_the_convention():
    """Level, metric, operations: and the metric is one of ours."""
    for name in _RECORDED:
        assert re.fullmatch(r"loop(_le)?:[a-z_]+:[a-z0-9_]+", name), name


def _unknown(expr: str) -> set[str]:
    """Give what an expression asks for that is neither exposed nor recorded."""
    lines = (_ROOT / "specs/metrics.frozen.txt").read_text().splitlines()
    known = set(_RECORDED)
    for line in lines:
        name = line.split("{")[0]
        known |= {name, f"{name}_bucket", f"{name}_count", f"{name}_sum"}
    expr = re.sub(r"\b(by|on|without|group_left) \([^)]*\)", "", expr)
    asked = re.findall(r"\bloop(?:otel)?(?:_le)?[_:][\w:]+", expr)
    return set(asked) - known - {"loop_name"}


@pytest.mark.parametrize("name", (*_ALERTS, *_RECORDED))
def test_the_rule_asks_for_what_there_is(name: str):
    """Its metrics are on the page, or recorded by another rule."""
    rule = _ALERTS.get(name) or _RECORDED[name]
    assert not _unknown(rule["expr"])


def test_every_recorded_value_is_used():
    """A recording rule that nothing asks for costs, and helps nobody."""
    asked = " ".join(
        rule["expr"] for kind in ("alert", "record") for rule in _rules(kind)
    )
    assert not [name for name in _RECORDED if name not in asked]


# The budget of the objective.


@pytest.mark.parametrize("name", ("LoopLesBudgetBurnFast", "LoopLesBudgetBurnSlow"))
def test_every_burn_factor_can_fire(name: str):
    """Factor times budget is a share of runs, so it is below one."""
    pairs = re.findall(r"> ([\d.]+) \* ([\d.]+)", _ALERTS[name]["expr"])
    assert len(pairs) == 4
    assert {budget for _, budget in pairs} == {"0.2"}
    assert all(float(factor) * float(budget) < 1 for factor, budget in pairs)
