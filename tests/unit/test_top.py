"""`loopotel-prom top`: what it shows, in what order, and from where."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from loopotel_prom.archive.processor import ArchiveProcessor
from loopotel_prom.board import BoardProcessor, Overview, RunSummary
from loopotel_prom.cli.commands import app
from loopotel_prom.cli.top_source import overview_of_metrics, source_of
from loopotel_prom.cli.top_state import TopState
from loopotel_prom.cli.top_view import bar, keys, lines
from loopotel_prom.errors import ConfigError, DeliveryError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.tracer import LoopTracer
from loopotel_prom.web.application import Application
from loopotel_prom.web.message import Request
from loopotel_prom.web.pages import add_pages

_NOW_NS = 2 * 10**18


def _run(name: str, **changes) -> RunSummary:
    return RunSummary(**({"trace_id": "ltf-1234567890", "loop_name": name} | changes))


_SEEN = Overview(
    now_ns=_NOW_NS,
    active=[
        _run("alpha", goal_score=0.7, goal_target=0.8, les=0.2, tokens=5, cost_usd=3.0),
        _run("beta", goal_score=0.2, goal_target=0.8, les=0.6, tokens=9, cost_usd=1.0),
        _run("gamma", started_ns=10**18, task_id="T-1", mark="stalled"),
    ],
)


def _order(state: TopState) -> str:
    return "".join(run.loop_name[0] for run in state.arranged(_SEEN))


@pytest.mark.parametrize(
    ("key", "order"),
    (
        ("w", "abg"),
        ("s", "bag"),
        ("l", "abg"),
        ("t", "bag"),
        ("c", "abg"),
        ("a", "gab"),
    ),
)
def test_a_key_sorts(key, order):
    """The lowest score and LES first, the most tokens, cost and age."""
    state = TopState()
    state.press(key)
    assert _order(state) == order


def test_a_filter_is_typed_kept_and_cleared():
    """After `/` all keys are text, until Enter; Escape clears."""
    state = TopState()
    for key in "/t-x\x7f1\n":
        state.press(key)
    assert (state.filter, state.is_typing, _order(state)) == ("t-1", False, "g")
    state.press("\x1b")
    assert _order(state) == "abg"


def test_q_ends_unless_it_is_typed():
    """In a filter it is a letter."""
    state = TopState()
    for key in "/q\n":
        state.press(key)
    assert not state.is_over
    state.press("q")
    assert state.is_over


def test_a_bar_shows_score_and_target():
    """Filled up to the score, with a mark where the target is."""
    assert bar(0.5, 0.8) == "##########......|..." or "│" in bar(0.5, 0.8)
    assert len(bar(1e308, -5.0)) == len(bar(-1.0, 1e308)) == 20
    assert bar(None, 0.8) == ""


def test_lines_fit_the_terminal():
    """What is narrow loses columns, what is low loses runs, and says so."""
    many = Overview(now_ns=_NOW_NS, active=[*_SEEN.active] * 20)
    shown = [*lines(many, TopState(), name="x", rows=15, width=60)]
    assert len(shown) <= 15
    assert all(len(line) <= 60 for line in shown[1:])
    assert "more" in shown[-1]


def test_names_cannot_control_the_terminal():
    """An escape sequence in a name is spelled out."""
    seen = Overview(now_ns=_NOW_NS, active=[_run("\x1b[2Jevil")])
    assert not any("\x1b" in line for line in lines(seen, TopState(), name="x"))


def test_the_keys_are_told():
    """Each order, the filter, and the way out."""
    assert all(word in keys(TopState()) for word in ("score", "/ filter", "q quit"))


@pytest.fixture
def board():
    """Keep the runs of the test."""
    return BoardProcessor()


@pytest.fixture
def serve():
    """Serve pages by path, and give the address."""
    servers = []

    def start(answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _site(board):
    site = Application()
    add_pages(site, board)

    def answer(path):
        response = site(Request(method="GET", path=path))
        return response.status, response.body

    return answer


def test_an_endpoint_is_asked_for_its_runs(board, serve):
    """All that the pages know."""
    with LoopTracer("code-repair", pipeline=Pipeline([board])) as run:
        run.emit_iteration(iteration=1, goal_score=0.5, tokens_delta=7)
        (seen,) = source_of(serve(_site(board))).read().active
    assert (seen.trace_id, seen.goal_score, seen.tokens) == (run.trace_id, 0.5, 7)


def test_an_endpoint_with_metrics_alone_will_do(serve):
    """Less is known of each run, but where it stands."""
    processor = MetricsProcessor(health=Health())
    registry = CollectorRegistry()
    registry.register(LoopCollector(processor.snapshot))
    with LoopTracer(
        "code-repair", env_id="prod", pipeline=Pipeline([processor])
    ) as run:
        run.emit_iteration(iteration=4, goal_score=0.5, tokens_delta=7)
        from prometheus_client import generate_latest  # noqa: PLC0415 - of this test

        page = generate_latest(registry)
    url = serve(lambda path: (200, page) if path == "/metrics" else (404, b""))
    (seen,) = source_of(url).read().active
    assert (seen.loop_name, seen.env_id, seen.iterations) == ("code-repair", "prod", 4)
    assert (seen.goal_score, seen.tokens) == (0.5, 7)


@pytest.mark.parametrize(
    ("status", "body", "told"),
    (
        (404, b"", "neither runs nor metrics"),
        (401, b"", "HTTP 401"),
        (200, b"<html>", "runs.json"),
        (200, b"\xff\xfe", "runs.json"),
    ),
)
def test_an_endpoint_of_something_else_is_told(serve, status, body, told):
    """In a line that says what was asked, and what to look for."""
    with pytest.raises(DeliveryError, match=re.escape(told)):
        source_of(serve(lambda _: (status, body))).read()


def test_a_page_that_is_no_metrics_page_is_told():
    """A parser's complaint, not a traceback."""
    with pytest.raises(ValueError, match=r".+"):
        overview_of_metrics('loop_goal_score{loop_name="x} 1\n')


def test_what_is_neither_is_refused(tmp_path):
    """Neither a folder nor an address."""
    with pytest.raises(ConfigError, match="no folder and no address"):
        source_of(str(tmp_path / "none"))


@pytest.fixture
def archive(tmp_path):
    """Make an archive with a run under way in it."""
    processor = ArchiveProcessor(tmp_path, durability="process", health=Health())
    processor.prepare()
    pipeline = Pipeline([processor], keeper=processor)
    with LoopTracer("code-repair", goal_target=0.8, pipeline=pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=7)
        yield tmp_path, run
    pipeline.close()


def test_an_archive_is_followed(archive):
    """What was in its journals, and what comes to be there."""
    folder, run = archive
    with contextlib.closing(source_of(str(folder))) as source:
        assert source.read().active[0].goal_score == 0.4
        run.emit_iteration(iteration=2, goal_score=0.6, tokens_delta=7)
        (seen,) = source.read().active
    assert (seen.goal_score, seen.tokens) == (0.6, 14)


def test_without_a_terminal_it_prints_once(archive):
    """A table, and an end."""
    result = CliRunner().invoke(app, ["top", str(archive[0])])
    assert result.exit_code == 0
    assert result.output.startswith("1 run under way")
    assert "code-repair" in result.output


def test_json_is_one_object_a_look(archive):
    """The overview, for machines; filtered all the same."""
    arguments = ["top", str(archive[0]), "--json", "--filter", "nothing"]
    result = CliRunner().invoke(app, arguments)
    assert json.loads(result.output)["active"] == []


def test_an_order_that_is_none_is_refused(archive):
    """With those that there are."""
    result = CliRunner().invoke(app, ["top", str(archive[0]), "--sort", "name"])
    assert isinstance(result.exception, ConfigError)
    assert "worst" in str(result.exception)


class _Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._file = pty.fork()
        if not self.pid:
            os.environ.update(TERM="xterm-256color", PYTHONIOENCODING="utf-8")
            command = [sys.executable, "-m", "loopotel_prom.cli", *arguments]
            os.execv(sys.executable, command)  # noqa: S606 - our own
        size = struct.pack("HHHH", 24, 100, 0, 0)
        fcntl.ioctl(self._file, termios.TIOCSWINSZ, size)
        self._seen = ""

    def wait_for(self, words: str, timeout: float = 30) -> None:
        """Read until the words come, from where the last ones were."""
        deadline = time.monotonic() + timeout
        while words not in self._seen:
            assert time.monotonic() < deadline, (
                f"no {words!r} in {self._seen[-2000:]!r}"
            )
            if select.select([self._file], [], [], 0.1)[0]:
                self._seen += os.read(self._file, 65_536).decode(errors="replace")
        self._seen = self._seen.split(words, 1)[1]

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._file, text.encode())

    def end(self) -> int:
        """Give the exit code."""
        while True:
            with contextlib.suppress(OSError):
                os.read(self._file, 65_536)
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                os.close(self._file)
                return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_in_a_terminal_it_is_live_and_takes_keys(archive):
    """New values show by themselves; a filter narrows; q quits."""
    folder, run = archive
    terminal = _Terminal("top", str(folder), "--interval", "0.2")
    terminal.wait_for("0.40")
    run.emit_iteration(iteration=2, goal_score=0.77, tokens_delta=7)
    terminal.wait_for("0.77")
    terminal.type("/none\r")
    terminal.wait_for("no run has 'none' in its names")
    terminal.type("q")
    assert terminal.end() == 0
