"""The replay of an archive, as a Prometheus and a person would see it."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from tests.system.months import month

_BEGIN_NS = 1_714_521_600 * 10**9


@pytest.fixture
def archive(tmp_path) -> Path:
    """Make an archive of two days: thousands of seconds, and a night between."""
    month(_BEGIN_NS, runs_a_day=3, days=2).write(tmp_path / "traces")
    return tmp_path / "traces"


def _samples(url: str) -> dict[str, float]:
    text = requests.get(url, timeout=10).text
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
    return {name: float(value) for name, value in rows}


def test_a_replayed_run_looks_live(archive, command):
    """Its latest iteration has just ended; Ctrl-C ends all of it well."""
    child = command(
        *("replay", str(archive), "--speed", "200", "--max-gap", "0.1"),
        *("--listen", "127.0.0.1:0", "--json"),
    )
    url = json.loads(child.wait_for_line('"begin"').string)["url"]
    deadline = time.monotonic() + 30
    name = "loop_last_iteration_timestamp_seconds"
    while not (times := [v for k, v in _samples(url).items() if k.startswith(name)]):
        assert time.monotonic() < deadline, child.tail()
        time.sleep(0.1)
    assert abs(max(times) - time.time()) < 10
    child.process.send_signal(signal.SIGINT)
    assert child.wait() == 0
    summary = json.loads(child.stdout.read_text().splitlines()[-1])
    assert summary["complete"] is False
    assert summary["iterations"] > 0


def test_a_prometheus_sees_the_end_of_a_replay(archive, command, prometheus):
    """What was played too fast for it, it is waited for, and has it all."""
    child = command(
        *("replay", str(archive), "--speed", "max", "--drain", "60"),
        *("--listen", "127.0.0.1:0", "--json"),
    )
    url = json.loads(child.wait_for_line('"begin"').string)["url"]
    address = re.sub(r"^http://|/metrics$", "", url)
    server = prometheus([address])
    assert child.wait(90) == 0
    played = json.loads(child.stdout.read_text().splitlines()[-1])
    (total,) = server.wait_for("sum(loop_iterations_total)")
    assert (played["runs"], played["complete"]) == (18, True)
    assert total["value"] == played["iterations"]


def test_recorded_times_can_be_kept(archive, command):
    """On the page, runs are where they were."""
    child = command(
        *("replay", str(archive), "--speed", "max", "--times", "recorded"),
        *("--listen", "127.0.0.1:0", "--drain", "60", "--json"),
    )
    url = json.loads(child.wait_for_line('"begin"').string)["url"]
    name = 'loop_last_run_end_timestamp_seconds{loop_name="loop-0",'
    deadline = time.monotonic() + 30
    while not (times := [v for k, v in _samples(url).items() if k.startswith(name)]):
        assert time.monotonic() < deadline, child.tail()
        time.sleep(0.1)
    assert _BEGIN_NS / 1e9 < times[0] < _BEGIN_NS / 1e9 + 2 * 86_400


def test_a_person_sees_how_far_it_is(archive):
    """A bar on the terminal: the recorded time, runs, and a percentage."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [
            *(sys.executable, "-m", "loopotel_prom.cli", "replay", str(archive)),
            *("--speed", "2000", "--max-gap", "0.1", "--listen", "127.0.0.1:0"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    try:
        while not re.search(rb"2024-05-01 1.*[1-9]\d? of 18 runs.*\d+%", shown):
            piece = os.read(ours, 4096)
            assert piece, shown[-500:]
            shown += piece
    finally:
        child.terminate()
        child.wait(30)
        os.close(ours)
