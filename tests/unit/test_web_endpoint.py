"""The endpoint on real sockets: connections, TLS, users, addresses, reloads."""

import base64
import contextlib
import http.client
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest
import trustme
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom.errors import ConfigError, MissingExtraError
from loopotel_prom.web import Access, Application, Endpoint, Response, Scrapes
from loopotel_prom.web import auth as auth_module
from loopotel_prom.web.address import parse_address
from loopotel_prom.web.limits import Limits

_GET = b"GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
_HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
_BASIC = b"Authorization: Basic %s\r\n" % base64.b64encode(b"prometheus:secret")
_QUICK = Limits(handshake_seconds=0.3, head_seconds=0.3, idle_seconds=2.0)
# So that a machine that stalls does not look like a client that does.
_PATIENT = Limits(handshake_seconds=60.0, head_seconds=60.0, request_seconds=60.0)


@pytest.fixture
def site() -> Application:
    """Give a site of a text, a long one, and one that comes in pieces."""
    application = Application()
    application.add("/", lambda _: Response(body=b"hello\n"))
    application.add("/long", lambda _: Response(body=os.urandom(8_000_000)))
    application.add("/pieces", lambda _: Response(body=(b"%d\n" % n for n in range(3))))
    return application


@pytest.fixture
def serve(site):
    """Serve the site on a free port, with other limits or a web configuration."""
    with contextlib.ExitStack() as stack:

        def start(*addresses: str, limits: Limits | None = None, **access) -> Endpoint:
            parsed = [parse_address(text) for text in addresses or ("127.0.0.1:0",)]
            access_ = Access(**access)
            endpoint = Endpoint(parsed, site, Scrapes(), access_, limits or _PATIENT)
            stack.callback(endpoint.close)
            return endpoint

        yield start


def _connect(endpoint: Endpoint, number: int = 0) -> socket.socket:
    address = endpoint._listeners[number].address
    return socket.create_connection((address.host, address.port), timeout=30)


def _ask(client: socket.socket, path: bytes = b"/", headers: bytes = b"") -> bytes:
    """Ask, and read one answer to its end as its length says."""
    client.sendall(_GET % (path, headers))
    return _answer(client)


def _answer(client: socket.socket) -> bytes:
    response = http.client.HTTPResponse(client)
    response.begin()
    return b"%d %s" % (response.status, response.read())


def _rest(client: socket.socket) -> bytes:
    """Read until the server ends the connection, however it does."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while more := client.recv(65536):
            received += more
    return received


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if "endpoint" in t.name]


def _eventually(holds: Callable[[], object]) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.01)
    return False


# Connections.


def test_a_connection_is_kept(serve):
    """One request after the other, of every kind, on the same one."""
    with _connect(serve()) as client:
        assert _ask(client) == b"200 hello\n"
        assert _ask(client, b"/absent") == b"404 not found\n"
        assert _ask(client, b"/pieces") == b"200 0\n1\n2\n"
        assert len(_ask(client, b"/long")) == 8_000_004
        assert _ask(client) == b"200 hello\n"


def test_requests_in_a_row_are_answered_in_a_row(serve):
    """A client need not wait for the first answer."""
    with _connect(serve()) as client:
        client.sendall(_GET % (b"/", b"") + _GET % (b"/absent", b""))
        client.sendall(_GET % (b"/", b"Connection: close\r\n"))
        received = _rest(client)
    assert received.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert received.count(b"HTTP/1.1 404 Not Found\r\n") == 1
    assert received.endswith(b"hello\n")


def test_a_request_may_come_byte_by_byte(serve):
    """If it is there in time."""
    with _connect(serve()) as client:
        for byte in _GET % (b"/", b""):
            client.send(bytes((byte,)))
        assert _answer(client) == b"200 hello\n"


def test_head_is_answered_without_a_body(serve):
    """With the length that it would have, and the connection goes on."""
    with _connect(serve()) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.sendall(_GET % (b"/", b"Connection: close\r\n"))
        first, _, second = _rest(client).partition(b"\r\n\r\n")
    assert b"Content-Length: 6" in first
    assert second.startswith(b"HTTP/1.1 200")


def test_an_old_client_gets_its_answer_and_its_end(serve):
    """Pieces too: there the end of the connection is that of the body."""
    endpoint = serve()
    for path, body in ((b"/", b"hello\n"), (b"/pieces", b"0\n1\n2\n")):
        with _connect(endpoint) as client:
            client.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path)
            assert _rest(client).endswith(b"\r\n\r\n" + body)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    (
        (b"\x16\x03\x01\x00\xc8garbage", 400),
        (b"GET / HTTP/9.9\r\nHost: a\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"a" * 17_000, 431),
        (b"GET /" + b"a" * 17_000, 431),
        (
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                b"Content-Length: 1\r\n\r\n"
            ),
            413,
        ),
    ),
)
def test_what_is_refused_is_told_why_and_ended(serve, request_bytes, status):
    """However much more it sends meanwhile."""
    with _connect(serve()) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request_bytes + b"x" * 50_000)
        received = _rest(client)
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in received


@pytest.mark.parametrize("sent", (b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"))
def test_who_does_not_ask_in_time_is_let_go(serve, sent):
    """Whether nothing came, or not enough."""
    endpoint, begin = serve(limits=_QUICK), time.monotonic()
    with _connect(endpoint) as client:
        client.sendall(sent)
        assert _rest(client) == b""
    assert time.monotonic() - begin > 0.1


def test_who_has_nothing_more_to_ask_is_let_go_later(serve):
    """A connection rests for longer than a request may take."""
    with _connect(serve(limits=_QUICK)) as client:
        _ask(client)
        time.sleep(0.4)
        assert _ask(client) == b"200 hello\n"
        assert _rest(client) == b""


def test_who_does_not_take_its_answer_is_let_go(serve):
    """A thread is not held for longer than a request may take."""
    endpoint = serve(limits=replace(_QUICK, request_seconds=0.5))
    with _connect(endpoint) as client:
        client.sendall(_GET % (b"/long", b""))
        assert _eventually(lambda: not endpoint._server._crew._busy)


def test_a_stalled_answer_makes_way_for_others(serve):
    """With all threads held, the next is answered all the same."""
    endpoint = serve(limits=replace(_PATIENT, threads=2))
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stalled = stack.enter_context(_connect(endpoint))
            stalled.sendall(_GET % (b"/long", b""))
        with _connect(endpoint) as client:
            assert _ask(client) == b"200 hello\n"


def test_one_connection_too_many_ends_the_longest_silent(serve):
    """The newest is always heard."""
    endpoint = serve(limits=replace(_PATIENT, connections=4))
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(_connect(endpoint)) for _ in range(4)]
        assert _eventually(lambda: len(endpoint._server._rows[0]) == 4)
        with _connect(endpoint) as client:
            assert _ask(client) == b"200 hello\n"
        assert _rest(silent[0]) == b""
        assert _ask(silent[3]) == b"200 hello\n"


def test_a_view_with_a_broken_header_ends_its_connection_only(serve, site, caplog):
    """The thread lives on, and the log says what it was."""
    site.add("/broken", lambda _: Response(headers=(("A", "b\r\nC: d"),)))
    endpoint = serve()
    with _connect(endpoint) as client:
        client.sendall(_GET % (b"/broken", b""))
        assert _rest(client) == b""
    with _connect(endpoint) as client:
        assert _ask(client) == b"200 hello\n"
    assert "has characters that none may have" in caplog.text


def test_threads_end_with_the_endpoint(serve):
    """And its connections, idle ones at once."""
    endpoint = serve()
    with _connect(endpoint) as client:
        _ask(client)
        begin = time.monotonic()
        endpoint.close()
        # Idle, it could stay for 75 s.
        assert time.monotonic() - begin < 30
        assert _rest(client) == b""
    assert _threads() == []
    with pytest.raises(ConnectionRefusedError):
        _connect(endpoint)


def test_a_request_under_way_is_finished(serve, site):
    """Even if the endpoint is closed meanwhile."""
    asked, go_on = threading.Event(), threading.Event()

    def view(_request) -> Response:
        asked.set()
        go_on.wait(10)
        return Response(body=b"late\n")

    site.add("/slow", view)
    endpoint = serve()
    with _connect(endpoint) as client:
        client.sendall(_GET % (b"/slow", b""))
        asked.wait(10)
        closing = threading.Thread(target=endpoint.close)
        closing.start()
        go_on.set()
        assert _rest(client).endswith(b"late\n")
        closing.join()


# Addresses.


def test_several_addresses_serve_the_same(serve, tmp_path):
    """A port, another, and a socket in the file system."""
    path = tmp_path / "x.sock"
    endpoint = serve("127.0.0.1:0", "[::1]:0", f"unix:{path}")
    for number in (0, 1):
        with _connect(endpoint, number) as client:
            assert _ask(client) == b"200 hello\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert _ask(client) == b"200 hello\n"
    assert endpoint.url == f"http://{endpoint._listeners[0].address}"
    endpoint.close()
    assert not path.exists()


def test_a_configured_process_has_several_addresses(tmp_path):
    """Its url is the first one's."""
    addresses = (f"unix:{tmp_path}/x.sock", "127.0.0.1:0")
    with loopotel_prom.configure(
        listen=addresses, registry=CollectorRegistry()
    ) as handle:
        assert handle.url == addresses[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ("0.0.0.0:0", ":0", "[::]:0"))
def test_others_may_ask_only_if_that_is_said(address):
    """Without authentication an address that others can reach is refused."""
    options = {"listen": address, "registry": CollectorRegistry()}
    with pytest.raises(ConfigError, match="there is no authentication"):
        loopotel_prom.configure(**options)
    with loopotel_prom.configure(**options, web_allow_unauthenticated=True) as handle:
        assert handle.url.startswith("http://")


def test_with_users_others_may_ask(tmp_path):
    """Then nothing has to be said."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
    options = {"listen": "0.0.0.0:0", "registry": CollectorRegistry()}
    with loopotel_prom.configure(**options, web_config=config):
        pass
    config.write_text("http_server_config:\n  headers: {X-Frame-Options: deny}\n")
    with pytest.raises(ConfigError, match="there is no authentication"):
        loopotel_prom.configure(**options, web_config=config)


_FORKED = """
import os, socket, urllib.request, warnings
warnings.simplefilter("ignore")
import loopotel_prom
handle = loopotel_prom.configure(listen=["127.0.0.1:0", "unix:x.sock"])
port = int(handle.url.rpartition(":")[2])
client = socket.create_connection(("127.0.0.1", port))
client.sendall(b"GET /-/ready HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
assert client.recv(12) == b"HTTP/1.1 200"
inherited = {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{n}")}
sockets = {name for name in inherited if name.startswith("socket:")}
pid = os.fork()
if pid == 0:
    left = {os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
            if os.path.lexists(f"/proc/self/fd/{n}")}
    # Of those, only the child's copy of its own client's end is left.
    os._exit(len(left & sockets) != 1 or not os.path.exists("x.sock"))
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print(urllib.request.urlopen(f"{handle.url}/-/ready").status)
client.close()
handle.close()
print(os.path.exists("x.sock"))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc")
def test_a_forked_child_has_none_of_the_sockets(tmp_path):
    """The parent's endpoint goes on, its file too."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOOPOTEL_")}
    run = subprocess.run(
        [sys.executable, "-c", _FORKED],
        cwd=tmp_path,
        env=environment | {"no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout.split(), run.stderr) == (["200", "False"], "")


# TLS, users, headers.


class _Authority:
    """Certificates of the test's own, and a web configuration that names them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(folder / "ca.pem")
        self.issue("server", "localhost")

    def issue(self, name: str, identity: str) -> None:
        made = self._authority.issue_cert(identity)
        made.private_key_pem.write_to_path(self.folder / f"{name}.key")
        (self.folder / f"{name}.pem").write_bytes(made.cert_chain_pems[0].bytes())

    def config(self, tls: str = "", rest: str = "") -> Path:
        path = self.folder / "web.yml"
        path.write_text(
            "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
            f"{tls}\n{rest}\n"
        )
        return path

    def connect(
        self, endpoint: Endpoint, client: str | None = None, **options
    ) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        for name, value in options.items():
            setattr(context, name, value)
        if client is not None:
            context.load_cert_chain(
                self.folder / f"{client}.pem", self.folder / f"{client}.key"
            )
        return context.wrap_socket(_connect(endpoint), server_hostname="localhost")


@pytest.fixture(scope="module")
def certified(tmp_path_factory) -> _Authority:
    """Make certificates for the module."""
    authority = _Authority(tmp_path_factory.mktemp("certified"))
    authority.issue("client", "prometheus.example")
    authority.issue("stranger", "other.example")
    return authority


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
def test_tls_is_spoken(serve, certified, version):
    """In the two versions that are safe; a connection is kept there too."""
    endpoint = serve(web_config=certified.config())
    assert endpoint.url.startswith("https://127.0.0.1:")
    with certified.connect(
        endpoint, minimum_version=version, maximum_version=version
    ) as client:
        assert [_ask(client) for _ in range(3)] == [b"200 hello\n"] * 3
        assert len(_ask(client, b"/long")) == 8_000_004


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_old_tls_is_not_spoken(serve, certified):
    """1.1 is refused in the handshake."""
    endpoint = serve(web_config=certified.config())
    old = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)):
        certified.connect(endpoint, minimum_version=old, maximum_version=old)


def test_plain_http_finds_no_answer_where_tls_is_spoken(serve, certified):
    """Not one byte of the page."""
    with _connect(serve(web_config=certified.config())) as client:
        client.sendall(_GET % (b"/", b""))
        assert b"hello" not in _rest(client)


_VERIFIED = "  client_ca_file: ca.pem\n  client_auth_type: "


@pytest.mark.parametrize(
    ("tls", "client", "is_let_in"),
    (
        ("  client_auth_type: RequestClientCert", None, True),
        (_VERIFIED + "VerifyClientCertIfGiven", None, True),
        (_VERIFIED + "VerifyClientCertIfGiven", "client", True),
        (_VERIFIED + "RequireAndVerifyClientCert", None, False),
        (_VERIFIED + "RequireAndVerifyClientCert", "client", True),
        (_VERIFIED + "RequireAnyClientCert", None, False),
        (
            _VERIFIED + "RequireAndVerifyClientCert\n"
            "  client_allowed_sans: [a.example, prometheus.example]",
            "client",
            True,
        ),
        (
            _VERIFIED + "RequireAndVerifyClientCert\n"
            "  client_allowed_sans: [prometheus.example]",
            "stranger",
            False,
        ),
    ),
)
def test_a_client_shows_the_certificate_that_is_asked_for(
    serve, certified, tls, client, is_let_in
):
    """Or does not come in."""
    endpoint = serve(web_config=certified.config(tls))
    try:
        with certified.connect(endpoint, client) as stream:
            answer = _ask(stream)
    except (OSError, http.client.HTTPException):
        answer = b""
    assert answer == (b"200 hello\n" if is_let_in else b"")


def test_a_certificate_of_another_authority_is_none(serve, certified, tmp_path):
    """It is the signature that counts, not the name."""
    forger = _Authority(tmp_path)
    forger.issue("client", "prometheus.example")
    for suffix in ("pem", "key"):
        forged = (tmp_path / f"client.{suffix}").read_bytes()
        (certified.folder / f"forged.{suffix}").write_bytes(forged)
    config = certified.config(_VERIFIED + "RequireAndVerifyClientCert")
    endpoint = serve(web_config=config)
    with (
        pytest.raises((OSError, http.client.HTTPException)),
        certified.connect(endpoint, "forged") as client,
    ):
        _ask(client)


@pytest.mark.parametrize(
    "start",
    (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /absent HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //  HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%2f HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /./ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /?x=/-/healthy HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Original-URL: /-/healthy\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-User: prometheus\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Basic eA==\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + _BASIC + _BASIC + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \r\n " + _BASIC + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + _BASIC.replace(b":", b" :", 1) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: prometheus:secret@a\r\n\r\n",
        b"GET http://prometheus:secret@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
)
def test_no_way_leads_past_the_users(serve, tmp_path, start):
    """No path, method, version, encoding or header."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
    with _connect(serve(web_config=config)) as client:
        client.sendall(start)
        client.shutdown(socket.SHUT_WR)
        received = _rest(client)
    assert received[9:12] in {b"401", b"400"}
    assert b"hello" not in received


def test_a_user_is_let_in(serve, tmp_path):
    """And a refusal costs a connection nothing."""
    config = tmp_path / "web.yml"
    config.write_text(
        f"basic_auth_users:\n  prometheus: {_HASH}\n"
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    )
    with _connect(serve(web_config=config)) as client:
        assert _ask(client) == b"401 unauthorized\n"
        assert _ask(client, headers=_BASIC) == b"200 hello\n"
        client.sendall(_GET % (b"/", b"Connection: close\r\n"))
        received = _rest(client)
    assert b"X-Frame-Options: deny" in received
    assert b"X-Content-Type-Options: nosniff" in received


def test_users_need_an_extra_and_are_told_which(serve, tmp_path, monkeypatch):
    """Without it the endpoint does not start as if there were none."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
    monkeypatch.setattr(auth_module, "bcrypt", None)
    with pytest.raises(MissingExtraError, match=r"install loopotel-prom\[web\]"):
        serve(web_config=config)


# Reloads.


@pytest.fixture
def impatient(monkeypatch):
    """Look at the files as often as there are requests."""
    monkeypatch.setattr("loopotel_prom.web.terms._LOOK_SECONDS", 0.0)


def test_a_file_is_read_again_when_it_changes(serve, tmp_path, impatient, caplog):
    """A bad one changes nothing, and is told of once."""
    config = tmp_path / "web.yml"
    config.write_text("{}")
    endpoint = serve(web_config=config)

    def status(headers: bytes = b"") -> bytes:
        with _connect(endpoint) as client:
            return _ask(client, headers=headers)[:3]

    assert status() == b"200"
    config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
    assert [status(), status(_BASIC)] == [b"401", b"200"]
    config.write_text("basic_auth_users:\n  prometheus: oops\n")
    assert [status(), status(_BASIC), status(_BASIC)] == [b"401", b"200", b"200"]
    config.unlink()
    assert [status(), status(_BASIC)] == [b"401", b"200"]
    config.write_text("{}")
    assert status() == b"200"
    told = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(told) == 2
    assert "prometheus is no bcrypt hash" in told[0]
    assert all("what was read before stays in use" in message for message in told)


def test_a_kept_connection_follows_a_change(serve, tmp_path, impatient):
    """Once it has had its answer it ends, and the next has the new terms."""
    config = tmp_path / "web.yml"
    config.write_text("{}")
    endpoint = serve(web_config=config)
    with _connect(endpoint) as client:
        _ask(client)
        config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
        _ask(client)
        assert _rest(client) == b""
    with _connect(endpoint) as client:
        assert _ask(client) == b"401 unauthorized\n"


def test_a_certificate_is_read_again_when_it_changes(serve, tmp_path, impatient):
    """As its renewal needs nobody to restart anything."""
    authority = _Authority(tmp_path)
    endpoint = serve(web_config=authority.config())

    def serial() -> str:
        with authority.connect(endpoint) as client:
            _ask(client)
            return str(client.getpeercert()["serialNumber"])

    before = serial()
    (tmp_path / "server.key").write_text("half a")
    assert serial() == before
    authority.issue("server", "localhost")
    assert serial() != before


def test_a_reload_opens_nothing_to_strangers(tmp_path, impatient, caplog):
    """Users that are gone would leave an open endpoint: it keeps them."""
    config = tmp_path / "web.yml"
    config.write_text(f"basic_auth_users:\n  prometheus: {_HASH}\n")
    with loopotel_prom.configure(
        listen="0.0.0.0:0", registry=CollectorRegistry(), web_config=config
    ) as handle:
        port = int(handle.url.rpartition(":")[2])
        config.write_text("{}")
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                assert _ask(client) == b"401 unauthorized\n"
    assert "there is no authentication" in caplog.text
