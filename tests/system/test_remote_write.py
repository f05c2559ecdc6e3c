"""An archive, remote-written into real receivers, and asked for there."""

import json
import math
import shutil
import signal
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from loopotel_prom.archive.reader import read_archive
from loopotel_prom.exporter.remote_write import Address, Encoder, HttpReceiver
from loopotel_prom.replay import (
    HistoryOptions,
    Instant,
    Series,
    Timeline,
    history,
    is_stale,
)
from tests.system.conftest import Child, Prometheus, _free_port
from tests.system.months import Month, Run, at, month

# 2024-05-01T00:00:00Z
_BEGIN_NS = 1_714_521_600 * 10**9
_DAY_NS = 86_400 * 10**9
_KEPT = ("--storage.tsdb.retention.time=100y",)
_LINGER_SECONDS = 30

# What is stored: by name and labels, the value at each Unix millisecond.
Points = dict[frozenset[tuple[str, str]], dict[int, float]]


class Store:
    """A receiver that can be asked for what it has."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.write_url = f"{url}/api/v1/write"
        self._session = requests.Session()
        self._session.trust_env = False

    def get(self, path: str, **params: str) -> requests.Response:
        """Ask for something."""
        answer = self._session.get(f"{self.url}{path}", params=params, timeout=60)
        assert answer.ok, f"{answer.url}: {answer.status_code} {answer.text[:500]}"
        return answer

    def ask(self, expr: str, time_s: float) -> list[dict[str, Any]]:
        """Evaluate an expression at a time of the past; give the series."""
        answer = self.get("/api/v1/query", query=expr, time=f"{time_s:.3f}")
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def value(self, expr: str, time_s: float) -> float:
        """Evaluate what is one series there."""
        found = self.ask(expr, time_s)
        assert len(found) == 1, f"{expr} at {time_s:.3f}: {found}"
        return float(found[0]["value"][1])

    def points(self, end_s: float, days: int) -> Points:
        """Give all that is stored of the loops."""
        return {
            frozenset(series["metric"].items()): {
                round(when * 1000): float(value)
                for when, value in series["values"]
                # As VictoriaMetrics has the end of a series.
                if value != "NaN"
            }
            for series in self.ask(f'{{job="loops"}}[{days}d]', end_s)
        }

    def settle(self) -> None:
        """Make visible what was written."""

    def close(self) -> None:
        """End it."""
        self._session.close()


class PrometheusStore(Store):
    """A Prometheus that scrapes nothing."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.server = Prometheus(
            [],
            folder=folder,
            scrape_interval="1h",
            flags=_KEPT,
            scrape={},
            **{"data": None, "more": {}, **options},
        )
        super().__init__(self.server.url)
        self.server.wait_until_ready()

    def close(self) -> None:
        """End it."""
        super().close()
        self.server.close()


class VictoriaStore(Store):
    """A VictoriaMetrics."""

    def __init__(self, folder: Path) -> None:
        address = f"127.0.0.1:{_free_port()}"
        super().__init__(f"http://{address}")
        self._child = Child(
            [
                "victoria-metrics",
                f"-storageDataPath={folder / 'data'}",
                f"-httpListenAddr={address}",
                "-retentionPeriod=100y",
                "-search.latencyOffset=0s",
            ],
            folder=folder / "log",
        )
        deadline = time.monotonic() + 30
        while not self._is_ready():
            assert time.monotonic() < deadline, self._child.tail()
            time.sleep(0.05)

    def settle(self) -> None:
        """Make visible what was written."""
        self.get("/internal/force_flush")

    def close(self) -> None:
        """End it."""
        super().close()
        self._child.close()

    def _is_ready(self) -> bool:
        try:
            return self._session.get(f"{self.url}/health", timeout=5).ok
        except requests.ConnectionError:
            return False


_STORES: dict[str, type[PrometheusStore | VictoriaStore]] = {
    "prometheus": PrometheusStore,
    "victoria-metrics": VictoriaStore,
}


def a_store(program: str, folder: Path, **options: Any) -> Store:
    """Start one; fail if it is not installed."""
    if shutil.which(program) is None:
        pytest.fail(f"no `{program}` on PATH: run `make test`", pytrace=False)
    return _STORES[program](folder, **options)


def sent(folder: Path, *, behind_ms: int = 0, until_ms: int | None = None) -> Points:
    """Give the history of an archive, as it is to be stored; ends are no samples."""
    points: Points = {}
    with Timeline() as timeline:
        timeline.read(read_archive(folder), lambda line: pytest.fail(str(line)))
        for instant in history(timeline, HistoryOptions(until_ms=until_ms)):
            for series, value in instant.points:
                if instant.time_ms > behind_ms and not is_stale(value):
                    key = frozenset((("__name__", series.name), *series.labels))
                    points.setdefault(key, {})[instant.time_ms] = value
    return points


def difference(stored: Points, wanted: Points) -> str:
    """Say where they differ; nothing if they do not."""
    if stored == wanted:
        return ""
    for key in stored.keys() | wanted.keys():
        one, other = stored.get(key, {}), wanted.get(key, {})
        for when in sorted(one.keys() | other.keys()):
            if one.get(when) != other.get(when):
                got = f"{one.get(when)}, not {other.get(when)}"
                return f"{dict(key)} at {when}: {got}; {len(one)} of {len(other)}"
    return ""


# A month in each of them.


class Written(NamedTuple):
    """What was simulated, what the export said, and where it can be asked for."""

    month: Month
    told: dict[str, Any]
    store: Store

    @property
    def some_runs(self) -> list[Run]:
        """Give runs from all over the month."""
        return self.month.runs[::9]


@pytest.fixture(scope="module", params=sorted(_STORES))
def written(request, tmp_path_factory) -> Iterator[Written]:
    """Simulate a month, send it by the command, and let it be asked for."""
    folder = tmp_path_factory.mktemp("month")
    simulated = month(_BEGIN_NS)
    simulated.write(folder / "traces")
    store = a_store(request.param, folder / "store")
    try:
        child = export(folder, store.write_url)
        assert child.wait(80) == 0, child.tail()
        store.settle()
        yield Written(simulated, json.loads(child.stdout.read_text()), store)
    finally:
        store.close()


def export(folder: Path, url: str, *more: str) -> Child:
    """Start the command, on the archive of a folder; its position stays there."""
    number = len([*folder.glob("export-*")])
    return Child(
        [
            *(sys.executable, "-m", "loopotel_prom.cli", "export", "remote-write"),
            *("traces", "--url", url, "--json", *more),
        ],
        folder=folder / f"export-{number}",
        cwd=folder,
    )


def test_every_iteration_of_the_month_is_at_its_own_time(written):
    """Score by score, in each slot, all samples are those that were reported."""
    found = written.store.ask("loop_goal_score[31d]", at(written.month.end_ns))
    stored = {
        (series["metric"]["loop_name"], series["metric"]["slot"]): series["values"]
        for series in found
    }
    for run in written.month.runs:
        values = stored[run.loop, str(run.slot)]
        for step in run.steps:
            # What stays the same has no sample of its own.
            latest = bisect_right(values, at(step.end_ns), key=itemgetter(0)) - 1
            assert float(values[latest][1]) == step.score


def test_a_query_at_a_recorded_time_gives_what_was_archived(written):
    """Score, LES and tokens of the run, and the total of its loop by then."""
    for run in written.some_runs:
        where = f'{{loop_name="{run.loop}",slot="{run.slot}"}}'
        spent = 0
        for step in run.steps:
            time_s = at(step.end_ns)
            spent += step.tokens
            got = [
                written.store.value(expr, time_s)
                for expr in (
                    f"loop_goal_score{where}",
                    f"loop_les_cumulative{where}",
                    f"loop_run_tokens{where}",
                    f'loop_tokens_total{{loop_name="{run.loop}"}}',
                )
            ]
            total = written.month.tokens(run.loop, time_s)
            assert got == [step.score, step.les, spent, total]


def test_a_slot_ends_when_its_run_has_lingered(written):
    """The mark of the end is there: not a look back of five minutes is needed."""
    for run in written.some_runs:
        where = f'loop_run_tokens{{loop_name="{run.loop}",slot="{run.slot}"}}'
        end_s = at(run.end_ns) + _LINGER_SECONDS
        assert written.store.value(where, end_s - 1) == sum(s.tokens for s in run.steps)
        ended = written.store.ask(where, end_s + 0.001)
        # Unless the next run is in it by then.
        assert ended == [] or float(ended[0]["value"][1]) == 0


def test_a_month_is_told_of(written):
    """By its numbers: every run, nothing refused, nothing twice."""
    told = written.told
    assert (told["runs"], told["rejected"]) == (len(written.month.runs), 0)
    assert (told["retries"], told["repeated"]) == (0, 0)
    assert told["requests"] == pytest.approx(told["samples"] / 10_000, rel=0.1)


# A few days, to the bit.


@pytest.fixture
def archive(tmp_path: Path) -> Callable[[float], Month]:
    """Return `make(days)`, which simulates some days into the archive."""

    def make(days: int) -> Month:
        simulated = month(_BEGIN_NS, days=days)
        simulated.write(tmp_path / "traces")
        return simulated

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Return `start(program, **options)`, which starts a store."""
    with ExitStack() as stack:

        def make(program: str = "prometheus", **options: Any) -> Store:
            number = len([*tmp_path.glob("store-*")])
            store = a_store(program, tmp_path / f"store-{number}", **options)
            stack.callback(store.close)
            return store

        yield make


def test_prometheus_stores_all_that_was_sent_to_the_last_bit(tmp_path, archive, start):
    """Every sample of every series, and no other."""
    days = archive(2)
    store = start()
    child = export(tmp_path, store.write_url)
    assert child.wait(60) == 0, child.tail()
    stored = store.points(at(days.end_ns) + 3600, 3)
    assert not difference(stored, sent(tmp_path / "traces"))


def test_victoria_metrics_stores_all_that_was_sent(tmp_path, archive, start):
    """Likewise, but to fifteen digits, as it keeps decimal numbers."""
    days = archive(2)
    store = start("victoria-metrics")
    child = export(tmp_path, store.write_url)
    assert child.wait(60) == 0, child.tail()
    store.settle()
    stored = store.points(at(days.end_ns) + 3600, 3)
    wanted = sent(tmp_path / "traces")
    assert {key: [*values] for key, values in stored.items()} == {
        key: [*values] for key, values in wanted.items()
    }
    # Half of the fifteenth digit, where the first is 1.
    assert all(
        math.isclose(stored[key][when], value, rel_tol=5e-15)
        for key, values in wanted.items()
        for when, value in values.items()
    )


def position(folder: Path) -> int:
    """Give what is acknowledged so far, Unix milliseconds; 0 for nothing."""
    try:
        written = json.loads((folder / "loopotel-remote-write.json").read_text())
    except FileNotFoundError:
        return 0
    return written["time_ms"] or 0


def wait_beyond(folder: Path, time_ms: int, child: Child) -> None:
    """Wait until more is acknowledged."""
    deadline = time.monotonic() + 30
    while position(folder) <= time_ms:
        assert time.monotonic() < deadline, child.tail()
        assert child.process.poll() is None, child.tail()
        time.sleep(0.01)


def test_what_was_killed_goes_on_where_it_stopped(tmp_path, archive, start):
    """Killed four times, wherever that was: each sample is there, once."""
    days = archive(3)
    store = start()
    for _ in range(4):
        before_ms = position(tmp_path)
        child = export(tmp_path, store.write_url, "--batch-samples", "1000")
        wait_beyond(tmp_path, before_ms + 3_600_000, child)
        child.process.send_signal(signal.SIGKILL)
        child.wait()
    child = export(tmp_path, store.write_url, "--batch-samples", "1000")
    assert child.wait(60) == 0, child.tail()
    told = json.loads(child.stdout.read_text())
    wanted = sent(tmp_path / "traces")
    assert 0 < told["samples"] < sum(map(len, wanted.values()))
    assert not difference(store.points(at(days.end_ns) + 3600, 4), wanted)


def test_a_grown_archive_is_sent_from_where_it_had_ended(tmp_path, archive, start):
    """A look at noon, with runs under way, and one after the end: totals are right."""
    days = archive(2)
    noon_ns = _BEGIN_NS + _DAY_NS + _DAY_NS // 2
    assert any(run.start_ns < noon_ns < run.end_ns for run in days.runs)
    Month([run for run in days.runs if run.end_ns < noon_ns]).write(tmp_path / "traces")
    store = start()
    noon_ms = noon_ns // 10**6
    early = export(tmp_path, store.write_url, "--until", "2024-05-02T12:00:00Z")
    assert early.wait(60) == 0, early.tail()
    wanted = sent(tmp_path / "traces", until_ms=noon_ms)
    stopped_ms = position(tmp_path)

    days.write(tmp_path / "traces")
    late = export(tmp_path, store.write_url)
    assert late.wait(60) == 0, late.tail()
    assert json.loads(late.stdout.read_text())["behind_ms"] == stopped_ms
    for key, values in sent(tmp_path / "traces", behind_ms=stopped_ms).items():
        wanted.setdefault(key, {}).update(values)
    assert not difference(store.points(at(days.end_ns) + 3600, 3), wanted)
    for loop in days.loops:
        end_s = max(at(run.end_ns) for run in days.runs if run.loop == loop)
        total = store.value(f'loop_tokens_total{{loop_name="{loop}"}}', end_s)
        assert total == days.tokens(loop, end_s)


# A receiver that has its troubles.


class _Between(BaseHTTPRequestHandler):
    """Hands requests on, and loses answers as `server.loses` tells."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.count += 1
        try:
            answer = server.session.post(
                server.target, data=body, headers=dict(self.headers), timeout=30
            )
            status, text = answer.status_code, answer.content
        except requests.ConnectionError:
            status, text = 502, b"the store is down"
        if server.loses(server.count):
            self.close_connection = True
            return
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text if status != 204 else b"")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Proxy(ThreadingHTTPServer):
    """What stands in front of a store, which may change."""

    def handle_error(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def proxy(store: Store) -> Iterator[Any]:
    """Serve in front of a store."""
    server: Any = _Proxy(("127.0.0.1", 0), _Between)
    server.target, server.count, server.loses = store.write_url, 0, lambda _count: False
    server.session = requests.Session()
    server.session.trust_env = False
    server.url = f"http://127.0.0.1:{server.server_port}/api/v1/write"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        server.session.close()


def test_lost_answers_lose_no_sample(tmp_path, archive, start):
    """What came through is found to be there, though it is refused the second time."""
    days = archive(1)
    store = start()
    with proxy(store) as between:
        between.loses = lambda count: count in {1, 4}
        child = export(tmp_path, between.url, "--batch-samples", "3000")
        assert child.wait(60) == 0, child.tail()
    told = json.loads(child.stdout.read_text())
    assert told["retries"] == 2
    assert told["repeated"] > 0
    stored = store.points(at(days.end_ns) + 3600, 2)
    assert not difference(stored, sent(tmp_path / "traces"))


def test_a_store_that_restarts_is_waited_for(tmp_path, archive, start):
    """The command goes on when it is back."""
    days = archive(2)
    store = start(data=tmp_path / "data")
    with proxy(store) as between:
        child = export(tmp_path, between.url, "--batch-samples", "1000")
        wait_beyond(tmp_path, 0, child)
        store.close()
        again = start(data=tmp_path / "data")
        between.target = again.write_url
        assert child.wait(60) == 0, child.tail()
    assert json.loads(child.stdout.read_text())["retries"] > 0
    stored = again.points(at(days.end_ns) + 3600, 3)
    assert not difference(stored, sent(tmp_path / "traces"))


def window(length: str) -> dict[str, Any]:
    """Have Prometheus take samples that are so much older than the newest."""
    return {"storage": {"tsdb": {"out_of_order_time_window": length}}}


@pytest.mark.parametrize(
    ("length", "said"), (("0s", "400 out of bounds"), ("1d", "500 too old sample"))
)
def test_a_store_with_newer_samples_is_to_take_older_ones(
    tmp_path, archive, start, length, said
):
    """It refuses, and says what to change; then the same command sends all of it."""
    days = archive(1)
    store = start(data=tmp_path / "data", more=window(length))
    receiver = HttpReceiver(Address(url=store.write_url))
    now = Instant(time.time_ns() // 10**6, [(Series("up", ()), 1.0)])
    assert receiver.post(Encoder().encode([now])).status == 204
    receiver.close()
    with proxy(store) as between:
        child = export(tmp_path, between.url)
        assert child.wait(60) == 1
        assert f"{said}, of samples from 2024-05-01 11:" in child.tail()
        assert "storage.tsdb.out_of_order_time_window that reaches" in child.tail()
        store.close()
        again = start(data=tmp_path / "data", more=window("3000d"))
        between.target = again.write_url
        child = export(tmp_path, between.url)
        assert child.wait(60) == 0, child.tail()
    stored = again.points(at(days.end_ns) + 3600, 2)
    assert not difference(stored, sent(tmp_path / "traces"))


def test_a_store_that_is_away_for_too_long_ends_the_command(tmp_path, archive, start):
    """In one line, with exit code 1; the position is kept, and all arrives later."""
    days = archive(1)
    store = start(data=tmp_path / "data")
    with proxy(store) as between:
        more = ("--batch-samples", "1000", "--patience", "1")
        child = export(tmp_path, between.url, *more)
        wait_beyond(tmp_path, 0, child)
        store.close()
        assert child.wait(60) == 1
        error = child.stderr.read_text().splitlines()
        assert len([line for line in error if not line.startswith("waiting: ")]) == 1
        assert "502 the store is down, at " in error[-1]
        again = start(data=tmp_path / "data")
        between.target = again.write_url
        child = export(tmp_path, between.url, *more)
        assert child.wait(60) == 0, child.tail()
    stored = again.points(at(days.end_ns) + 3600, 2)
    assert not difference(stored, sent(tmp_path / "traces"))
