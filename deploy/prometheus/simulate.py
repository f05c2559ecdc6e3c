"""
How well the LES alerts work: false alarms and detection over simulated fleets.

From a clone, with `make test`'s environment and Prometheus on PATH::

    .venv/bin/python deploy/prometheus/simulate.py

Loops of several kinds run for ten simulated days and end with LES values drawn at
random. A real Prometheus evaluates the rules of `rules/les.rules.yml` over them;
`for` and `keep_firing_for` are applied here, as Prometheus defines them. Prints the
table of README.md. Takes minutes; the same seed gives the same table.
"""

import argparse
import itertools
import math
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

_RULES = Path(__file__).parent / "rules" / "les.rules.yml"
_LIVE = {"LoopRunLesLow"}  # of runs under way, which are not simulated
_HOUR = 3600
_DAY = 24 * _HOUR
_DAYS = 10
# A week is the longest baseline.
_QUIET_DAYS = 7
_STEP_SECONDS = 120
_BLOCK_SECONDS = 2 * _HOUR


@dataclass(frozen=True, slots=True)
class Loop:
    """
    One simulated loop.

    Attributes:
        fleet: The kind it is of.
        name: Its name.
        runs_per_hour: How many end in an hour, on average over a day.
        spread: Standard deviation of its runs' LES.
        mean: Mean LES of its runs while it is well.
        onset: When it goes bad, seconds from the start; None if it stays well.
        fall: By how much the mean LES is lower then.
        fall_seconds: How long that takes to come about.
    """

    fleet: str
    name: str
    runs_per_hour: float = 12.0
    spread: float = 0.1
    mean: float = 0.75
    onset: float | None = None
    fall: float = 0.0
    fall_seconds: float = 1.0

    def runs(self, dice: random.Random) -> Iterator[tuple[float, float]]:
        """Yield the runs that end: when, and with which LES."""
        moment = 0.0
        while moment < _DAYS * _DAY:
            # By day three times the runs of the night.
            daylight = 1 + 0.5 * math.sin(2 * math.pi * moment / _DAY)
            moment += dice.expovariate(self.runs_per_hour * daylight / _HOUR)
            gone = 0.0 if self.onset is None else (moment - self.onset)
            fallen = self.fall * min(1.0, max(0.0, gone / self.fall_seconds))
            yield (
                moment,
                min(1.0, max(0.0, dice.gauss(self.mean - fallen, self.spread))),
            )


def fleets(dice: random.Random) -> list[Loop]:
    """Give the loops of all fleets."""

    def onset() -> float:
        return _QUIET_DAYS * _DAY + dice.random() * _DAY

    ten = range(10)
    return [
        *(Loop("healthy", f"healthy-{n}") for n in ten),
        *(Loop("noisy", f"noisy-{n}", spread=0.18, mean=0.78) for n in ten),
        *(
            Loop(
                "noisy, drop",
                f"noisy-drop-{n}",
                spread=0.18,
                mean=0.78,
                onset=onset(),
                fall=0.35,
            )
            for n in ten
        ),
        *(Loop("sudden drop", f"sudden-{n}", onset=onset(), fall=0.35) for n in ten),
        *(Loop("small drop", f"small-{n}", onset=onset(), fall=0.15) for n in ten),
        *(
            Loop(
                "slow decay",
                f"decay-{n}",
                onset=_QUIET_DAYS * _DAY,
                fall=0.3,
                fall_seconds=3 * _DAY,
            )
            for n in ten
        ),
        *(Loop("sparse", f"sparse-{n}", runs_per_hour=0.5) for n in ten),
        *(
            Loop(
                "sparse, drop",
                f"sparse-drop-{n}",
                runs_per_hour=0.5,
                onset=onset(),
                fall=0.35,
            )
            for n in ten
        ),
        *(Loop("one bad of 100", f"crowd-{n}") for n in range(99)),
        Loop("one bad of 100", "crowd-bad", onset=onset(), fall=0.35),
    ]


# The samples, as blocks.


def _series(loop: Loop, dice: random.Random) -> list[tuple[int, int, float]]:
    """Give runs, bad runs and the sum of LES at each scrape."""
    found = []
    runs, bad, total = 0, 0, 0.0
    ends = loop.runs(dice)
    end, les = next(ends)
    for moment in range(0, _DAYS * _DAY, _STEP_SECONDS):
        while end <= moment:
            runs, bad, total = runs + 1, bad + (les <= 0.6), total + les
            end, les = next(ends)
        found.append((runs, bad, total))
    return found


def write_blocks(loops: Sequence[Loop], start: int, folder: Path, seed: int) -> None:
    """Write what a Prometheus would have scraped, from `start` on, as blocks."""
    columns = [_series(loop, random.Random(f"{seed} {loop.name}")) for loop in loops]
    a_block = _BLOCK_SECONDS // _STEP_SECONDS
    blocks = range(0, len(columns[0]), a_block)
    for first in blocks:
        _progress("writing", first, len(columns[0]))
        lines = ["# TYPE loop_run_final_les histogram"]
        for loop, column in zip(loops, columns, strict=True):
            labels = f'loop_name="{loop.name}",env_id="simulated"'
            for place, (runs, bad, total) in enumerate(
                column[first : first + a_block], start=first
            ):
                now = start + place * _STEP_SECONDS
                for suffix, more, value in (
                    ("bucket", ',le="0.6"', bad),
                    ("bucket", ',le="+Inf"', runs),
                    ("count", "", runs),
                    ("sum", "", round(total, 4)),
                ):
                    name = f"loop_run_final_les_{suffix}"
                    lines.append(f"{name}{{{labels}{more}}} {value} {now}")
        page = folder / "page.txt"
        page.write_text("\n".join([*lines, "# EOF", ""]))
        _promtool("tsdb", "create-blocks-from", "openmetrics", page, folder / "data")


# The rules, by a real Prometheus.


def _promtool(*arguments: object) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"promtool {arguments[0]} {arguments[1]}: {done.stderr.strip()}")


@contextmanager
def _prometheus(folder: Path, address: str) -> Iterator[str]:
    """Run a Prometheus on the blocks in `folder`; give its address."""
    config = folder / "prometheus.yml"
    config.write_text("{}\n")
    with (
        (folder / "log").open("ab") as log,
        subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=10y",
                "--query.max-samples=500000000",
                f"--web.listen-address={address}",
            ],
            stderr=log,
        ) as server,
    ):
        try:
            _wait_for(f"http://{address}/-/ready")
            yield f"http://{address}"
        finally:
            server.terminate()


def _wait_for(url: str) -> None:
    for _ in range(600):
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    sys.exit(f"{url}: nobody answers; is another server on that port?")


def stages(rules: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Order recording rules: each stage needs only those before it."""
    left = {rule["record"]: rule for rule in rules if "record" in rule}
    ordered = []
    while left:
        stage = [
            rule
            for rule in left.values()
            if not left.keys() & set(re.findall(r"[\w:]+", rule["expr"]))
        ]
        ordered.append(stage)
        for rule in stage:
            del left[rule["record"]]
    return ordered


def record(
    rules: Sequence[dict[str, Any]], start: int, folder: Path, address: str
) -> None:
    """Evaluate the recording rules over all days, and keep the results as blocks."""
    ordered = stages(rules)
    for number, stage in enumerate(ordered):
        _progress("recording", number, len(ordered))
        file = folder / "stage.yml"
        group = {"name": "stage", "interval": f"{_STEP_SECONDS}s", "rules": stage}
        file.write_text(yaml.safe_dump({"groups": [group]}))
        with _prometheus(folder, address) as url:
            _promtool(
                "tsdb",
                "create-blocks-from",
                "rules",
                f"--start={start}",
                f"--end={start + _DAYS * _DAY}",
                f"--url={url}",
                f"--output-dir={folder / 'data'}",
                file,
            )


def _seconds(duration: str) -> int:
    units = {"s": 1, "m": 60, "h": _HOUR, "d": _DAY}
    return int(duration[:-1]) * units[duration[-1]]


def episodes(
    active: set[int], rule: dict[str, Any], steps: int
) -> list[tuple[int, int]]:
    """
    Apply `for` and `keep_firing_for` as Prometheus does.

    Args:
        active: Steps at which the expression has a result.
        rule: The alert.
        steps: How many steps there are.

    Returns:
        Where it fired: first and last step of each episode.
    """
    wait = _seconds(rule.get("for", "0s")) // _STEP_SECONDS
    keep = _seconds(rule.get("keep_firing_for", "0s")) // _STEP_SECONDS
    found: list[tuple[int, int]] = []
    since: int | None = None
    firing_from: int | None = None
    last = 0
    for step in range(steps):
        if step in active:
            since = step if since is None else since
            last = step
            if firing_from is None and step - since >= wait:
                firing_from = step
        elif firing_from is None:
            since = None
        # Kept from the first step without a result on.
        elif step - last > keep:
            found.append((firing_from, step))
            since = firing_from = None
    return [*found, (firing_from, steps)] if firing_from is not None else found


def firing(
    rule: dict[str, Any], start: int, url: str
) -> dict[str, list[tuple[int, int]]]:
    """Give the episodes of an alert by loop, after the baseline's days."""
    begin = start + _DAY
    answer = requests.get(
        f"{url}/api/v1/query_range",
        params={
            "query": rule["expr"],
            "start": begin,
            "end": start + _DAYS * _DAY - 1,
            "step": _STEP_SECONDS,
        },
        timeout=600,
    ).json()
    steps = (_DAYS - 1) * _DAY // _STEP_SECONDS
    active: dict[str, set[int]] = {}
    for series in answer["data"]["result"]:
        # What `or` joins comes under the names of both sides; an alert has no name.
        places = active.setdefault(series["metric"]["loop_name"], set())
        places |= {(int(when) - begin) // _STEP_SECONDS for when, _ in series["values"]}
    return {
        loop: [
            (_DAY + first * _STEP_SECONDS, _DAY + last * _STEP_SECONDS)
            for first, last in episodes(places, rule, steps)
        ]
        for loop, places in active.items()
    }


# The table.


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one alert did on one fleet; `delays` in seconds, of those detected."""

    bad: int
    delays: list[float]
    true: int
    false: int
    loop_weeks: float


def judge(loops: Sequence[Loop], found: dict[str, list[tuple[int, int]]]) -> Verdict:
    """Compare what fired with what was wrong."""
    delays, true, false, well_seconds = [], 0, 0, 0.0
    for loop in loops:
        onset = math.inf if loop.onset is None else loop.onset
        fired = found.get(loop.name, [])
        well_seconds += min(onset, _DAYS * _DAY) - _DAY
        false += sum(1 for first, _ in fired if first < onset)
        right = [first for first, _ in fired if first >= onset]
        true += len(right)
        if right:
            delays.append(right[0] - onset)
    bad = sum(1 for loop in loops if loop.onset is not None)
    return Verdict(bad, delays, true, false, well_seconds / (7 * _DAY))


def table(
    rules: Sequence[dict[str, Any]], loops: Sequence[Loop], start: int, url: str
) -> Iterator[str]:
    """Yield the lines of the table, in Markdown; at last, of all alerts together."""
    yield (
        "| alert | loops | detected | delay, median | delay, worst"
        " | precision | false alarms | in loop-weeks |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    alerts = [rule for rule in rules if rule.get("alert", "") not in {"", *_LIVE}]
    together: dict[str, list[tuple[int, int]]] = {}
    for number, rule in enumerate(alerts):
        _progress("alerting", number, len(alerts))
        found = firing(rule, start, url)
        yield from _rows(f"`{rule['alert']}`", loops, found)
        for name, fired in found.items():
            together[name] = sorted([*together.get(name, []), *fired])
    yield from _rows("any of them", loops, together)


def _rows(
    alert: str, loops: Sequence[Loop], found: dict[str, list[tuple[int, int]]]
) -> Iterator[str]:
    for fleet, members in itertools.groupby(loops, lambda loop: loop.fleet):
        yield _row(alert, fleet, judge(list(members), found))


def _row(alert: str, fleet: str, verdict: Verdict) -> str:
    delays = verdict.delays
    fired = verdict.true + verdict.false
    cells = (
        alert,
        fleet,
        f"{len(delays)} of {verdict.bad}" if verdict.bad else "-",
        _hours(statistics.median(delays)) if delays else "-",
        _hours(max(delays)) if delays else "-",
        f"{verdict.true / fired:.2f}" if fired and verdict.bad else "-",
        str(verdict.false),
        f"{verdict.loop_weeks:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _hours(seconds: float) -> str:
    return f"{seconds / _HOUR:.1f} h"


def _progress(what: str, done: int, total: int) -> None:
    print(
        f"\r{what}: {100 * done // total:3d} %   ", end="", file=sys.stderr, flush=True
    )


def main() -> None:
    """Simulate, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0].strip())
    parser.add_argument("--seed", type=int, default=1, help="of the chances, 1")
    options = parser.parse_args()
    for tool in ("prometheus", "promtool"):
        if shutil.which(tool) is None:
            sys.exit(f"no `{tool}` on PATH: apt-get install prometheus")
    rules = [
        rule
        for group in yaml.safe_load(_RULES.read_text())["groups"]
        for rule in group["rules"]
    ]
    loops = fleets(random.Random(options.seed))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    # Blocks of the last hours would meet the head; whole days keep hours whole.
    start = int(time.time()) // _DAY * _DAY - (_DAYS + 1) * _DAY
    with tempfile.TemporaryDirectory(prefix="loopotel-simulate-") as name:
        folder = Path(name)
        write_blocks(loops, start, folder, options.seed)
        record(rules, start, folder, address)
        with _prometheus(folder, address) as url:
            lines = list(table(rules, loops, start, url))
    print("\r", end="", file=sys.stderr)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
