"""
A hostile world: a scrape is answered within a second, whatever else comes.

Run as a program, this file is the process that is attacked (``serve``), a loop and
its endpoint, or the one that attacks (``attack``). With ``LOOPOTEL_FAULTS=full`` the
attacks last longer and the requests are as many as RELIABILITY asks.
"""

import base64
import http.client
import itertools
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest
import trustme
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom.web.auth import Doorman
from loopotel_prom.web.message import Request

FULL = os.environ.get("LOOPOTEL_FAULTS") == "full"
SECONDS = 20.0 if FULL else 1.0
FUZZED = 100_000 if FULL else 2_000
GUESSES = 2_000 if FULL else 200

CLIENTS = 400
# Main, the loop, the watch, the server, its crew.
THREADS = 3 + 1 + 16
GROWTH_BYTES = 40 * 2**20

_PASSWORD = "secret"  # noqa: S105 - of a server on loopback, for a second
_GOOD = base64.b64encode(f"prometheus:{_PASSWORD}".encode()).decode()


# The process that is attacked.


def _serve(web_config: str) -> None:
    """Emit until told to end; then tell how long the calls took, and what it cost."""
    configuration = loopotel_prom.configure(
        listen="127.0.0.1:0",
        registry=CollectorRegistry(),
        web_config=web_config or None,
    )
    _tell(configuration.url)
    for _ in sys.stdin:
        watch, stop, taken = _Watch(), threading.Event(), []
        threads = [
            threading.Thread(target=watch.run, args=(stop,)),
            threading.Thread(target=_emit, args=(stop, taken)),
        ]
        for thread in threads:
            thread.start()
        _tell("started")
        sys.stdin.readline()
        stop.set()
        for thread in threads:
            thread.join()
        taken.sort()
        p99 = taken[int(len(taken) * 0.99)] * 1e3
        _tell(json.dumps([watch.threads, watch.growth_bytes, p99]))


def _emit(stop: threading.Event, taken: list[float]) -> None:
    for number in itertools.count():
        with loopotel_prom.LoopTracer(f"loop-{number % 20}") as run:
            for iteration in range(1, 101):
                if stop.wait(0.002):
                    return
                begin = time.perf_counter()
                run.emit_iteration(iteration=iteration, goal_score=0.5, tokens_delta=1)
                taken.append(time.perf_counter() - begin)


class _Watch:
    """The most threads and memory that the process has had."""

    def __init__(self) -> None:
        self._begin = _rss_bytes()
        self.threads = self.growth_bytes = 0

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(0.02):
            self.threads = max(self.threads, threading.active_count())
            growth = _rss_bytes() - self._begin
            self.growth_bytes = max(self.growth_bytes, growth)


def _rss_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _tell(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is how the test hears of it


# The one that attacks.


class Attack(NamedTuple):
    """
    What each of many clients does, over and over.

    Attributes:
        first: It sends this at once,
        more: and this again and again,
        pause_seconds: so often.
        clients: So many do.
        window: The size of its receive buffer, of which it reads nothing.
    """

    first: bytes = b""
    more: bytes = b""
    pause_seconds: float = 0.05
    clients: int = CLIENTS
    window: int | None = None


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.create_default_context()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


_HEAD = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n"
ATTACKS = {
    "silent": Attack(),
    "half-open": Attack(first=_HEAD),
    "trickle": Attack(first=_HEAD + b"X: ", more=b"x"),
    "headers": Attack(
        first=_HEAD, more=b"X-Flood: " + b"x" * 4000 + b"\r\n", clients=50
    ),
    "line": Attack(first=b"GET /", more=b"x" * 60_000, clients=50),
    "body": Attack(
        first=b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n",
        more=b"x" * 60_000,
        clients=50,
    ),
    "garbage": Attack(first=random.Random(7).randbytes(2000)),
    "slow readers": Attack(first=(_HEAD + b"\r\n") * 50, window=1, clients=50),
    "guesses": Attack(
        first=_HEAD + b"Authorization: Basic cm9vdDp4\r\n\r\n", clients=50
    ),
    "hello": Attack(first=_client_hello()),
}


def _attack(port: int, name: str) -> None:
    attack = ATTACKS[name]
    clients = [_Client(port, attack) for _ in range(attack.clients)]
    _tell("started")
    while True:
        for client in clients:
            client.go_on()
        time.sleep(attack.pause_seconds)


class _Client:
    """One of many, which comes again when it has been turned away."""

    def __init__(self, port: int, attack: Attack) -> None:
        self._port = port
        self._attack = attack
        self._begin()

    def _begin(self) -> None:
        self._socket = socket.socket()
        if self._attack.window is not None:
            option = (socket.SOL_SOCKET, socket.SO_RCVBUF, self._attack.window)
            self._socket.setsockopt(*option)
        self._socket.setblocking(False)
        self._socket.connect_ex(("127.0.0.1", self._port))
        self._greeted = False

    def go_on(self) -> None:
        try:
            if not self._greeted:
                self._socket.send(self._attack.first)
                self._greeted = True
            elif self._attack.more:
                self._socket.send(self._attack.more)
            if self._attack.window is None and self._socket.recv(65536) == b"":
                raise ConnectionResetError
        except BlockingIOError:
            return
        except OSError:
            self._socket.close()
            self._begin()


# Those who watch.


class Victim:
    """The process that is attacked."""

    def __init__(self, process: subprocess.Popen, url: str, ca: Path) -> None:
        self._process = process
        self.port = int(url.rpartition(":")[2])
        self._tls = None
        if url.startswith("https:"):
            self._tls = ssl.create_default_context(cafile=ca)

    def scrape(self, authorization: str = f"Basic {_GOOD}") -> tuple[int, bytes]:
        """Scrape once, on a connection of its own."""
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            if self._tls is None
            else http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=10, context=self._tls
            )
        )
        try:
            headers = {"Authorization": authorization, "Accept": "text/plain"}
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """Have it emit: most threads, bytes grown by, p99 of emit in milliseconds."""
        self._say("begin")
        cost: list[float] = []
        try:
            yield cost
        finally:
            cost += json.loads(self._say("end"))

    def _say(self, word: str) -> str:
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()


@contextmanager
def _program(*arguments: str) -> Iterator[subprocess.Popen]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOPOTEL_")}
    with subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module", params=("plain", "TLS"))
def victim(request, tmp_path_factory) -> Iterator[Victim]:
    """Start one with users, without and with TLS."""
    folder = tmp_path_factory.mktemp("victim")
    web_config = _secured(folder, tls=request.param == "TLS")
    with _program("serve", str(web_config)) as process:
        url = process.stdout.readline().strip()
        found = Victim(process, url, folder / "ca.pem")
        assert found.scrape()[0] == 200
        yield found


def _secured(folder: Path, *, tls: bool) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made = authority.issue_cert("127.0.0.1", "localhost")
    made.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(10)).decode()
    path = folder / "web.yml"
    text = f"basic_auth_users:\n  prometheus: {hashed}\n"
    if tls:
        text += "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("victim", "name"),
    (
        *(("plain", name) for name in ATTACKS if name != "hello"),
        *(("TLS", name) for name in ("silent", "half-open", "garbage", "hello")),
    ),
    indirect=["victim"],
)
def test_a_scrape_is_answered_while(victim, name):
    """Within a second, by few threads, in little memory, beside a loop that goes on."""
    taken = []
    with (
        victim.watched() as cost,
        _program("attack", str(victim.port), name) as attackers,
    ):
        attackers.stdout.readline()
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            begin = time.perf_counter()
            status, page = victim.scrape()
            taken.append(time.perf_counter() - begin)
            assert (status, b"loop_iterations_total{" in page) == (200, True)
            time.sleep(0.05)
    threads, growth, p99 = cost
    figures = (
        f"{name}: {len(taken)} scrapes, median {sorted(taken)[len(taken) // 2]:.3f} s,"
        f" slowest {max(taken):.3f} s; {threads} threads, {growth / 2**20:.1f} MiB"
        f" more; emit p99 {p99:.3f} ms"
    )
    print(figures)  # noqa: T201 - pytest shows it with -s or -rP
    assert max(taken) < 1, figures
    assert threads <= THREADS, figures
    assert growth < GROWTH_BYTES, figures
    assert p99 < 5, figures


# Requests that make no sense.

_PIECES = (
    *(b"GET", b"HEAD", b"POST", b"get", b"PRI", b" ", b"  ", b"\t", b"/", b"/metrics"),
    *(b"/-/healthy", b"//metrics", b"/%6detrics", b"/..", b"*", b"http://a/metrics"),
    *(b"?name[]=x", b"#", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"HTTP/2.0", b"\r"),
    *(b"\r\n", b"\n", b"\r\n\r\n", b"Host: a", b"Host:", b"Content-Length: 0"),
    *(b"Content-Length: 7", b"Content-Length: -1", b"Transfer-Encoding: chunked"),
    *(b"Authorization: Basic ", b"Authorization: Bearer ", b"cm9vdDp4", b"Og=="),
    *(b"Connection: keep-alive", b"Connection: close", b"Upgrade: h2c", b": ", b"\0"),
    *(b"Expect: 100-continue", b"Accept-Encoding: gzip", b"X: " + b"x" * 5000, b"\xff"),
)
_LINES = (b"GET /metrics HTTP/1.1\r\nHost: a\r\n", b"GET / HTTP/1.0\r\n", b"")


def _fuzzed(draw: random.Random) -> bytes:
    pieces = draw.choices(_PIECES, k=draw.randint(1, 12))
    raw = bytearray(draw.choice(_LINES) + b"".join(pieces))
    for _ in range(draw.randint(0, 3)):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    return bytes(raw) + draw.choice((b"", b"\r\n\r\n"))


def _exchange(port: int, raw: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        received = b""
        with suppress(ConnectionError):
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            while more := client.recv(65536):
                received += more
        return received


@pytest.mark.timeout(1800)
def test_no_request_that_makes_no_sense_breaks_anything_or_gets_past_the_users(
    tmp_path,
):
    """Each is answered with an error or ended, and the process is as it was."""
    hashed = bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  prometheus: {hashed}\n")
    draw = random.Random(38)
    with _program("serve", str(config)) as process:
        victim = Victim(process, process.stdout.readline().strip(), config)
        seen = set()
        with victim.watched() as cost:
            for _ in range(FUZZED):
                raw = _fuzzed(draw)
                answer = _exchange(victim.port, raw)
                assert answer[:9] in {b"", b"HTTP/1.1 "}, raw
                seen.add(answer[9:12])
            assert seen <= {b"", b"400", b"401", b"413", b"429", b"431", b"505"}, seen
            assert {b"400", b"401", b"413", b"505"} <= seen
            status, page = victim.scrape()
    threads, growth, _ = cost
    assert (status, b"loop_iterations_total{" in page) == (200, True)
    assert threads <= THREADS
    assert growth < GROWTH_BYTES


# What the time tells.


def test_an_unknown_user_and_a_wrong_password_take_the_same_time():
    """Of pairs of guesses, either is the slower one about as often."""
    users = {
        name: bcrypt.hashpw(b"x", bcrypt.gensalt(5)).decode()
        for name in ("prometheus", "grafana")
    }
    clock = itertools.count(step=100)
    doorman = Doorman(monotonic=lambda: float(next(clock)))

    def seconds(name: str, guess: int) -> float:
        credentials = base64.b64encode(f"{name}:{guess}".encode()).decode()
        headers = {"authorization": f"Basic {credentials}"}
        request = Request(method="GET", path="/", headers=headers)
        begin = time.perf_counter()
        refusal = doorman.refusal(request, users)
        taken = time.perf_counter() - begin
        assert refusal is not None
        assert refusal.status == 401
        return taken

    seconds("prometheus", -1)
    draw, slower = random.Random(41), 0
    for guess in range(GUESSES):
        names = ["prometheus", "nobody-her"]
        draw.shuffle(names)
        taken = {name: seconds(name, guess) for name in names}
        slower += taken["nobody-her"] > taken["prometheus"]
    # Four standard deviations of a fair coin.
    assert abs(slower - GUESSES / 2) < 4 * (GUESSES / 4) ** 0.5


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2])
    else:
        _attack(int(sys.argv[2]), sys.argv[3])
