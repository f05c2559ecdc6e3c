"""
`loopotel-prom serve`: all processes of an archive on one page, each count once.

An ordinary run makes few attempts of each kind, `LOOPOTEL_FAULTS=full` all of them.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom import LoopTracer
from loopotel_prom.archive import layout
from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.pipeline import Pipeline

FULL = os.environ.get("LOOPOTEL_FAULTS") == "full"
pytestmark = pytest.mark.timeout(900 if FULL else 300)
_EMITTERS = Path(__file__).with_name("emitters.py")
_OF_COUNTERS = ("_total", "_bucket", "_count", "_sum")

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Served:
    """
    A sidecar that can be killed and started again on its port.

    Attributes:
        url: Where it is.
        folder: The archive.
    """

    def __init__(self, command: Callable, folder: Path, port: int) -> None:
        self._command = command
        self.folder = folder
        self.url = f"http://127.0.0.1:{port}"
        self._address = f"127.0.0.1:{port}"
        self._session = requests.Session()
        self._session.trust_env = False
        # Else it is someone who looks, and what rests goes on resting.
        self._session.headers["Accept"] = "text/plain;version=0.0.4"
        self._latest: Series = {}
        self.start()

    def start(self, *flags: str) -> None:
        """Start it, and wait until it listens."""
        self.child = self._command(
            *("serve", "--archive", str(self.folder)),
            *("--web.listen-address", self._address, *flags),
        )
        self.child.wait_for_line("listening on", timeout=60)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.child.process.kill()
        self.child.process.wait()

    def page(self, path: str) -> str:
        """Give one of the pages for people."""
        return self._session.get(self.url + path, timeout=30).text

    def scrape(self) -> Series:
        """Give the page; no counter of a loop may have gone down."""
        answer = self._session.get(f"{self.url}/metrics", timeout=30)
        assert answer.ok, answer.text
        found = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        for key, value in self._latest.items():
            if key[0].startswith("loop_") and key[0].endswith(_OF_COUNTERS):
                assert found[key] >= value, (key, value, found[key])
        self._latest = found
        return found

    def total(self, name: str, **labels: str) -> float:
        """Sum a metric over its series."""
        return sum(
            value
            for (found, of), value in self.scrape().items()
            if found == name and labels.items() <= dict(of).items()
        )

    def totals(self) -> Counter[str]:
        """Give what emitters add up, as the page has it."""
        return Counter(
            {
                "iterations": round(self.total("loop_iterations_total")),
                "tokens": round(self.total("loop_tokens_total")),
                "workers": round(self.total("loop_worker_calls_total")),
                "failures": round(self.total("loop_failures_total")),
                "runs": round(self.total("loop_runs_started_total")),
                "success": round(
                    self.total("loop_runs_finished_total", outcome="success")
                ),
            }
        )

    def wait_for(self, is_so: Callable[[], object], timeout: float = 30) -> float:
        """Poll until something is so; give the seconds that it took."""
        begin = time.monotonic()
        while not is_so():
            if time.monotonic() - begin > timeout:
                raise AssertionError(f"not within {timeout} s; {self.child.tail()}")
            time.sleep(0.02)
        return time.monotonic() - begin


@pytest.fixture
def served(command, tmp_path, free_port) -> Served:
    """Start a sidecar on an archive that is not there yet."""
    return Served(command, tmp_path / "traces", free_port())


@pytest.fixture
def report(tmp_path) -> Path:
    """Name the file that emitters say in what they emitted."""
    return tmp_path / "report"


@pytest.fixture
def emit(served, report) -> Iterator[Callable[..., subprocess.Popen]]:
    """Return `start(function, **arguments)`, which runs one of `emitters.py`."""

    def start(function: str, **arguments: float) -> subprocess.Popen:
        argv = [sys.executable, str(_EMITTERS), function]
        argv += [str(served.folder), str(report), json.dumps(arguments)]
        child = subprocess.Popen(argv, start_new_session=True)
        stack.callback(_end, child)
        return child

    with ExitStack() as stack:
        yield start


def _end(child: subprocess.Popen) -> None:
    """End emitters that a test has left, with all their children."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _emitted(report: Path) -> Counter[str]:
    total: Counter[str] = Counter()
    for line in report.read_text().splitlines():
        total.update(json.loads(line))
    return total


def test_every_counter_is_the_sum_whenever_the_sidecar_is_killed(served, emit, report):
    """Eight processes at a time emit; no counter that was scraped goes down."""
    kills, dice = (100 if FULL else 8), random.Random(11)
    seconds = 240 if FULL else 15
    emitters = emit("herd", lanes=8, seconds=seconds)
    until = time.monotonic() + seconds
    for left in range(kills, 0, -1):
        pause = max(until - time.monotonic(), 0) / left
        until_kill = time.monotonic() + pause * dice.uniform(0.2, 0.9)
        served.scrape()
        while time.monotonic() < until_kill:
            served.scrape()
            time.sleep(dice.random() * 0.1)
        served.kill()
        time.sleep(dice.random() * 0.2)
        served.start()
    assert emitters.wait(120) == 0
    wanted = _emitted(report)
    assert wanted["runs"] > 50
    served.wait_for(lambda: served.totals() == wanted or served.child.process.poll())
    # The histograms agree, and nothing is left open.
    assert served.total("loop_iteration_duration_seconds_count") == wanted["iterations"]
    assert served.total("loop_run_iterations_sum") == wanted["iterations"]
    assert served.total("loop_runs_active") == 0
    assert served.total("loopotel_sidecar_damaged_lines_total") == 0


def test_an_iteration_is_on_the_page_within_a_second(served):
    """From its emit to a scrape that has it, at an idle moment."""
    processor = ArchiveProcessor(served.folder)
    run = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    took = []
    for number in range(1, 11):
        run.emit_iteration(iteration=number, goal_score=0.5)
        took.append(
            served.wait_for(
                lambda number=number: served.total("loop_iteration") == number
            )
        )
        time.sleep(0.07)
    run.finish()
    processor.close()
    assert sorted(took)[8] < 1.0, took


def test_processes_that_come_and_go_leave_nothing_behind(served, emit, report):
    """No journal, no descriptor, no series, and next to no memory."""
    processes = 1000 if FULL else 30
    # Enough for each loop, worker and code to have been seen.
    assert emit("one_by_one", processes=12).wait(60) == 0
    served.wait_for(lambda: served.totals() == _emitted(report))
    descriptors, series, memory = _held(served)
    assert emit("one_by_one", processes=processes).wait(280) == 0
    served.wait_for(lambda: served.totals() == _emitted(report))
    served.wait_for(lambda: served.total("loopotel_sidecar_journals") == 0)
    served.wait_for(lambda: served.total("loop_runs_active") == 0)
    assert not layout.segments(served.folder)
    now = _held(served)
    assert now[0] <= descriptors + 2
    assert now[1] <= series
    assert now[2] - memory < 20e6


def _held(served: Served) -> tuple[int, int, float]:
    """Give descriptors, series and bytes of memory."""
    for _ in range(3):
        page = served.scrape()  # what lingers goes
    descriptors = len(list(Path(f"/proc/{served.child.pid}/fd").iterdir()))
    series = sum(1 for name, _ in page if name.startswith("loop_"))
    return descriptors, series, page["process_resident_memory_bytes", ()]


def test_runs_of_killed_processes_end_as_abandoned(served, emit, report):
    """Their iterations are counted, and recovery is the sidecar's own."""
    processes = 100 if FULL else 5
    assert emit("doomed", processes=processes).wait(200) == 0
    wanted = _emitted(report)
    served.wait_for(lambda: served.totals() == wanted)
    served.wait_for(
        lambda: served.total("loop_run_terminations_total", reason="other") == processes
    )
    assert served.total("loop_runs_finished_total", outcome="unknown") == processes
    assert served.total("loop_runs_active") == 0
    assert served.totals() == wanted
    assert served.total("loopotel_sidecar_recoveries_total") == processes
    assert not layout.segments(served.folder)


def test_rotation_and_compression_are_followed(served, emit, report):
    """Files come, are renamed and compressed; each document counts once."""
    emitters = emit("herd", lanes=3, seconds=40 if FULL else 6, rotate_bytes=4000)
    while emitters.poll() is None:
        served.scrape()
        time.sleep(0.05)
    assert emitters.returncode == 0
    rotated = layout.rotated_files(served.folder)
    assert any(path.suffix == ".zst" for path in rotated)
    served.wait_for(lambda: served.totals() == _emitted(report))
    served.kill()
    served.start()
    assert served.totals() == _emitted(report)


def test_the_pages_show_the_runs_of_all_processes(served):
    """Those under way, over a restart, and the archive."""
    processor = ArchiveProcessor(served.folder)
    run = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    run.emit_iteration(iteration=1, goal_score=0.5)
    for _ in range(2):
        served.wait_for(lambda: served.total("loop_iterations_total") == 1)
        served.wait_for(lambda: "code-repair" in served.page("/"))
        assert "code-repair" in served.page(f"/runs/{run.trace_id}")
        served.kill()
        served.start()
    run.finish()
    processor.close()
    served.wait_for(lambda: "code-repair" in served.page("/archive"))


def test_a_damaged_checkpoint_is_told_of_and_begins_anew(served, emit, report):
    """One line; history is not counted, what comes is."""
    assert emit("one_by_one", processes=2).wait(60) == 0
    served.wait_for(lambda: served.totals() == _emitted(report))
    served.kill()
    (served.folder / "sidecar.checkpoint").write_bytes(b"{}\n")
    served._latest = {}
    served.start()
    served.child.wait_for_line("counters begin at zero")
    assert served.total("loop_iterations_total") == 0
    assert emit("one_by_one", processes=1).wait(60) == 0
    served.wait_for(lambda: served.total("loop_runs_started_total") == 1)


def test_a_second_sidecar_with_the_same_checkpoint_is_refused(served, command):
    """Each of them would write over the other's."""
    other = command(
        *("serve", "--archive", str(served.folder)),
        *("--web.listen-address", "127.0.0.1:0"),
    )
    assert other.wait() == 2
    assert "another sidecar" in other.output()


def test_it_ends_when_told_to_and_goes_on_where_it_was(served, emit, report):
    """SIGTERM ends it with 0, its checkpoint written."""
    assert emit("one_by_one", processes=3).wait(60) == 0
    served.wait_for(lambda: served.totals() == _emitted(report))
    served.child.process.send_signal(signal.SIGTERM)
    assert served.child.wait() == 0
    served.start("--log.format", "json", "--log.level", "debug")
    assert json.loads(served.child.stderr.read_text().splitlines()[0])["level"]
    assert served.totals() == _emitted(report)


def _example(name: str) -> str:
    return str(Path(__file__).parents[2] / "examples" / name)


def test_a_gunicorn_app_of_four_workers_is_on_one_page(served, free_port, tmp_path):
    """One of them is killed, and no request goes uncounted."""
    port = free_port()
    argv = [sys.executable, "-m", "gunicorn", "--workers", "4", "gunicorn_app:app"]
    argv += ["--bind", f"127.0.0.1:{port}", "--chdir", _example("")]
    argv += ["--no-control-socket"]
    with (tmp_path / "gunicorn.log").open("wb") as log, ExitStack() as stack:
        child = subprocess.Popen(
            argv,
            env={**os.environ, "ARCHIVE": str(served.folder)},
            stderr=log,
            start_new_session=True,
        )
        stack.callback(_end, child)
        pids: Counter[int] = Counter()

        def ask() -> bool:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/", timeout=10)
            except requests.ConnectionError:
                return False
            pids[answer.json()["pid"]] += 1
            return True

        served.wait_for(lambda: child.poll() is not None or ask())
        served.wait_for(lambda: ask() and len(pids) > 1)
        os.kill(next(iter(pids)), signal.SIGKILL)
        served.wait_for(lambda: ask() and pids.total() >= 60)
        served.wait_for(
            lambda: served.total("loop_iterations_total") == 3 * pids.total()
        )
        assert served.total("loop_tokens_total", loop_name="solver") == (
            360 * pids.total()
        )
        child.terminate()
        child.wait(30)
        served.wait_for(lambda: not layout.segments(served.folder))


def test_a_pool_of_eight_processes_is_on_one_page(served):
    """The example's own sum is that of the page, and no journal is left."""
    output = subprocess.run(
        [sys.executable, _example("pool.py")],
        env={**os.environ, "ARCHIVE": str(served.folder)},
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert output == "40 tasks, 2340 tokens\n"
    served.wait_for(lambda: served.total("loop_tokens_total") == 2340)
    assert served.total("loop_runs_finished_total", outcome="success") == 40
    served.wait_for(lambda: not layout.segments(served.folder))
    assert served.total("loop_iterations_total") == 120
