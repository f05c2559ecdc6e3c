"""The simulation behind the table of false alarms: it fires when Prometheus would."""

import importlib.util
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

_FILE = Path(__file__).parents[2] / "deploy/prometheus/simulate.py"
_MINUTES = 240
_STEP = 2


@pytest.fixture(scope="module")
def simulate():
    """Import the script."""
    spec = importlib.util.spec_from_file_location("simulate", _FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulate"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulate"]


def _promtool(folder: Path, alert: dict, values: str, firing: set[int]) -> None:
    """Have promtool say that the alert fires at these steps, and at no others."""
    group = {"name": "alerts", "rules": [{"alert": "Flaps", "expr": "x > 0", **alert}]}
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [group]}))
    some = [{"labels": "{}", "value": 1}]
    checks = [
        {
            "expr": 'count(ALERTS{alertstate="firing"})',
            "eval_time": f"{step * _STEP}m",
            "exp_samples": some if step in firing else [],
        }
        for step in range(_MINUTES // _STEP)
    ]
    tests = [
        {
            "interval": f"{_STEP}m",
            "input_series": [{"series": "x", "values": values}],
            "promql_expr_test": checks,
        }
    ]
    document = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": f"{_STEP}m",
        "tests": tests,
    }
    (folder / "test.yml").write_text(yaml.safe_dump(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "alert",
    (
        {"for": "10m", "keep_firing_for": "14m"},
        {"keep_firing_for": "30m"},
        {"for": "6m"},
        {},
    ),
    ids=["both", "kept", "waits", "neither"],
)
def test_it_fires_when_promtool_says_so(simulate, tmp_path: Path, alert: dict):
    """Of an input that comes and goes at random, the episodes are Prometheus'."""
    dice = random.Random(f"{alert}")
    steps = _MINUTES // _STEP
    values: list[int] = []
    while len(values) < steps:
        values += [dice.randrange(2)] * dice.randrange(1, 12)
    active = {step for step in range(steps) if values[step]}
    firing = {
        step
        for first, last in simulate.episodes(active, alert, steps)
        for step in range(first, last)
    }
    _promtool(tmp_path, alert, " ".join(map(str, values)), firing)


def test_a_recording_rule_comes_after_those_that_it_asks_for(simulate):
    """Rules are staged by what they need, whatever their order."""
    rules = [
        {"record": "c", "expr": "a / b"},
        {"record": "b", "expr": "sum(a)"},
        {"record": "a", "expr": "raw"},
        {"alert": "A", "expr": "c > 1"},
    ]
    stages = simulate.stages(rules)
    assert [[rule["record"] for rule in stage] for stage in stages] == [
        ["a"],
        ["b"],
        ["c"],
    ]


def test_the_same_seed_gives_the_same_loops(simulate):
    """The table can be made again."""
    first, second = (simulate.fleets(random.Random(3)) for _ in range(2))
    assert first == second
    runs = [list(first[0].runs(random.Random(5))) for _ in range(2)]
    assert runs[0] == runs[1]
