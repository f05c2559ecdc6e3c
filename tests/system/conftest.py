"""
Real servers and commands for the system tests.

Everything listens on loopback, keeps its files in `tmp_path`, and is ended by
its own pid. A server that is not installed fails the test: a skip would hide
that nothing was tested.
"""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

_POLL_SECONDS = 0.05


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Child:
    """
    One child process whose output goes to files.

    Attributes:
        process: The process, for its pid, its signals and its return code.
        stdout: File that holds its standard output.
        stderr: File that holds its standard error.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.stdout = folder / "stdout"
        self.stderr = folder / "stderr"
        with self.stdout.open("wb") as out, self.stderr.open("wb") as err:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=cwd,
                env=env,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def output(self) -> str:
        """Return what it has written so far: standard output, then error."""
        return "".join(
            file.read_text(errors="replace") for file in (self.stdout, self.stderr)
        )

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of `output`."""
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_for_line(self, regex: str, timeout: float = 30) -> re.Match[str]:
        """
        Wait until a line of the output matches.

        Raises:
            AssertionError: It ended, or `timeout` seconds passed, without one.
        """
        pattern = re.compile(regex)
        deadline = time.monotonic() + timeout
        while True:
            # Asked first: what a child wrote before its end is read after it.
            ended = self.process.poll() is not None
            for line in self.output().splitlines():
                if match := pattern.search(line):
                    return match
            if ended or time.monotonic() > deadline:
                state = f"ended with {self.process.returncode}" if ended else "runs"
                raise AssertionError(f"no line {regex!r}; it {state}:\n{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def wait(self, timeout: float = 30) -> int:
        """
        Wait for its end and return its exit code.

        Raises:
            AssertionError: It still runs after `timeout` seconds.
        """
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"pid {self.pid} still runs after {timeout} s:\n{self.tail()}"
            ) from None

    def close(self) -> None:
        """End it: politely first, by SIGKILL after ten seconds. Idempotent."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Prometheus:
    """
    One running Prometheus server.

    Attributes:
        url: Its base address, without a slash at the end.
        child: Its process and log.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        folder: Path,
        scrape_interval: str,
        flags: Sequence[str],
        scrape: Mapping[str, Any],
        data: Path | None,
        more: Mapping[str, Any],
    ) -> None:
        folder.mkdir()
        config = folder / "prometheus.yml"
        config.write_text(
            # JSON is YAML.
            json.dumps(
                {
                    "global": {"scrape_interval": scrape_interval},
                    "scrape_configs": [
                        {
                            "job_name": "loopotel",
                            "static_configs": [{"targets": list(targets)}],
                            **scrape,
                        }
                    ],
                    **more,
                }
            )
        )
        address = f"127.0.0.1:{_free_port()}"
        self.url = f"http://{address}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy knows nothing of our loopback
        self.child = Child(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={data or folder / 'data'}",
                f"--web.listen-address={address}",
                "--web.enable-remote-write-receiver",
                "--enable-feature=exemplar-storage",
                *flags,
            ],
            folder=folder / "log",
        )

    def wait_until_ready(self, timeout: float = 30) -> None:
        """
        Wait until it answers queries.

        Raises:
            AssertionError: It ended, or `timeout` seconds passed.
        """
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self.child.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"Prometheus does not get ready:\n{self.child.tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def api(self, path: str, **params: str | float) -> Any:
        """
        Return the `data` of one GET of the HTTP API.

        Args:
            path: What follows `/api/v1/`.
            params: The parameters of the query string.

        Raises:
            AssertionError: It refused: a bad expression, for example.
        """
        answer = self._session.get(
            f"{self.url}/api/v1/{path}", params=params, timeout=30
        )
        assert answer.ok, f"{answer.url}: {answer.status_code} {answer.text}"
        return answer.json()["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """
        Evaluate an expression now.

        Returns:
            One `{"metric": labels, "value": float}` a series; a scalar is a
            series without labels.
        """
        data = self.api("query", query=expr)
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": float(data["result"][1])}]
        return [
            {"metric": series["metric"], "value": float(series["value"][1])}
            for series in data["result"]
        ]

    def query_range(
        self, expr: str, *, start: float, end: float, step: float = 1
    ) -> list[dict[str, Any]]:
        """
        Evaluate an expression over a time range.

        Args:
            expr: The expression.
            start: First instant, Unix seconds.
            end: Last instant, Unix seconds.
            step: Seconds between two points.

        Returns:
            One `{"metric": labels, "values": [(Unix seconds, float), ...]}` a
            series.
        """
        data = self.api("query_range", query=expr, start=start, end=end, step=step)
        return [
            {
                "metric": series["metric"],
                "values": [(when, float(value)) for when, value in series["values"]],
            }
            for series in data["result"]
        ]

    def wait_for(
        self,
        expr: str,
        predicate: Callable[[list[dict[str, Any]]], object] = bool,
        timeout: float = 30,
    ) -> list[dict[str, Any]]:
        """
        Poll `query` until its answer satisfies a predicate; return that answer.

        Raises:
            AssertionError: `timeout` seconds passed; with the last answer and
                the end of the server's log.
        """
        deadline = time.monotonic() + timeout
        while not predicate(answer := self.query(expr)):
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"{expr} stayed {answer} for {timeout} s;"
                    f" Prometheus' log ends:\n{self.child.tail()}"
                )
            time.sleep(_POLL_SECONDS)
        return answer

    def close(self) -> None:
        """End the server. Idempotent."""
        self.child.close()
        self._session.close()

    def _is_ready(self) -> bool:
        try:
            return self._session.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.ConnectionError:
            return False


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that finds a loopback TCP port nobody listens on."""
    return _free_port


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[..., Prometheus]]:
    """
    Return `start(targets, *, scrape_interval="1s", flags=(), scrape={}, ...)`.

    It starts a real Prometheus that scrapes `targets` ("host:port") as job
    "loopotel", and returns it ready. `scrape` adds to that job's configuration,
    `more` to the whole; `data` is a folder of blocks that it goes on from.
    """
    if shutil.which("prometheus") is None:
        pytest.fail(
            "no `prometheus` on PATH: run `make test`, or"
            " apt-get install --no-install-recommends prometheus",
            pytrace=False,
        )
    numbers = itertools.count()

    def start(
        targets: Sequence[str],
        *,
        scrape_interval: str = "1s",
        flags: Sequence[str] = (),
        scrape: Mapping[str, Any] | None = None,
        data: Path | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> Prometheus:
        server = Prometheus(
            targets,
            folder=tmp_path / f"prometheus-{next(numbers)}",
            scrape_interval=scrape_interval,
            flags=flags,
            scrape=scrape or {},
            data=data,
            more=more or {},
        )
        stack.callback(server.close)
        server.wait_until_ready()
        return server

    with ExitStack() as stack:
        yield start


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """
    Return `start(*args, env=None, cwd=None)`, which runs our command line.

    `env` adds to the environment, from which the variables that configure us
    or OpenTelemetry are taken out. The working folder is `tmp_path`.
    """
    numbers = itertools.count()

    def start(
        *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Child:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOOPOTEL_", "OTEL_"))
        }
        child = Child(
            [sys.executable, "-m", "loopotel_prom.cli", *args],
            folder=tmp_path / f"command-{next(numbers)}",
            cwd=cwd or tmp_path,
            env={**inherited, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        stack.callback(child.close)
        return child

    with ExitStack() as stack:
        yield start


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Return `start(argv)`, which runs any program in `tmp_path`."""
    numbers = itertools.count()

    def start(argv: Sequence[str]) -> Child:
        folder = tmp_path / f"program-{next(numbers)}"
        child = Child(argv, folder=folder, cwd=tmp_path)
        stack.callback(child.close)
        return child

    with ExitStack() as stack:
        yield start
