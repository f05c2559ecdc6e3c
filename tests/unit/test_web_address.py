"""Listen addresses, and the sockets behind them."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from loopotel_prom.errors import ConfigError
from loopotel_prom.web import parse_address
from loopotel_prom.web.address import Address, SystemdAddress, UnixAddress
from loopotel_prom.web.listeners import bind_all, close_all


@pytest.fixture
def bind():
    """Bind addresses, for as long as the test lasts."""
    bound = []

    def make(*texts: str):
        found = bind_all([parse_address(text) for text in texts])
        bound.extend(found)
        return found

    yield make
    close_all(bound)


@pytest.mark.parametrize(
    "address",
    (
        "",
        "10110",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "a:1/x",
        "a:0#x",
        "unix:",
        "u@a:1",
        "[::1:1",
        "::",
    ),
)
def test_an_address_that_is_none_is_refused(address):
    """The error shows what one looks like."""
    with pytest.raises(ConfigError, match=r"try 127\.0\.0\.1:10110"):
        parse_address(address)


@pytest.mark.parametrize(
    ("text", "address"),
    (
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("[::1]:9", Address("::1", 9)),
        (":10110", Address("", 10110)),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock")),
        ("systemd", SystemdAddress()),
    ),
)
def test_an_address_is_read_and_spelled_as_it_came(text, address):
    """Of every kind."""
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    ("text", "is_local"),
    (
        ("127.0.0.1:0", True),
        ("localhost:0", True),
        ("[::1]:0", True),
        ("0.0.0.0:0", False),
        ("[::]:0", False),
        (":0", False),
    ),
)
def test_what_other_machines_can_reach_is_known(bind, text, is_local):
    """By the address that was really bound, whatever it was called."""
    (listener,) = bind(text)
    assert listener.is_local is is_local


def test_an_address_that_cannot_be_bound_lets_go_of_the_others(tmp_path):
    """None of several listens if one cannot."""
    path = tmp_path / "x.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        texts = (f"unix:{path}", f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(ConfigError, match="0 for any free one"):
            bind_all([parse_address(text) for text in texts])
    assert not path.exists()


def test_a_unix_socket_is_for_its_owner_alone(bind, tmp_path):
    """Nothing else is left in the folder, and in the end nothing at all."""
    path = tmp_path / "x.sock"
    (listener,) = bind(f"unix:{path}")
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert listener.is_local
    assert list(tmp_path.iterdir()) == [path]
    close_all([listener])
    assert list(tmp_path.iterdir()) == []


def test_a_stale_unix_socket_is_replaced(bind, tmp_path):
    """What a process that died has left behind is in nobody's way."""
    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    (listener,) = bind(f"unix:{path}")
    listener.listen(1)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_live_unix_socket_is_refused(bind, tmp_path):
    """Two processes do not take each other's clients."""
    path = tmp_path / "x.sock"
    (listener,) = bind(f"unix:{path}")
    listener.listen(1)
    with pytest.raises(ConfigError, match="another process listens on it"):
        bind(f"unix:{path}")


def test_a_file_is_not_replaced_by_a_socket(bind, tmp_path):
    """A typing error costs nobody a file."""
    path = tmp_path / "notes.txt"
    path.write_text("dear")
    with pytest.raises(ConfigError, match="the file is no socket"):
        bind(f"unix:{path}")
    assert path.read_text() == "dear"


def test_another_s_socket_is_not_removed(bind, tmp_path):
    """Whoever has taken the place meanwhile keeps it."""
    path = tmp_path / "x.sock"
    (listener,) = bind(f"unix:{path}")
    path.unlink()
    bind(f"unix:{path}")
    close_all([listener])
    assert path.exists()


@pytest.mark.parametrize(
    "environment",
    (
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": "self"},
        {"LISTEN_PID": "self", "LISTEN_FDS": "x"},
    ),
)
def test_without_systemd_s_sockets_there_is_nothing_to_take(
    bind, monkeypatch, environment
):
    """The error says what starts the process as it wants to be started."""
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.replace("self", str(os.getpid())))
    with pytest.raises(ConfigError, match=r"a unit with a \.socket"):
        bind("systemd")


_ACTIVATED = """
import os, sys, urllib.request
os.environ["LISTEN_PID"] = str(os.getpid())
import loopotel_prom
from prometheus_client import CollectorRegistry
registry = CollectorRegistry()
for max_requests in (1, 2):
    handle = loopotel_prom.configure(
        listen="systemd", registry=registry, max_requests=max_requests
    )
    print(handle.url, urllib.request.urlopen(f"{handle.url}/-/ready").status)
"""


def test_systemd_s_socket_is_served_and_served_again(tmp_path: Path):
    """A process that is configured anew takes the same socket."""
    with socket.create_server(("127.0.0.1", 0)) as handed_over:
        port = handed_over.getsockname()[1]
        descriptor = handed_over.fileno()

        def place() -> None:
            os.dup2(descriptor, 3)

        run = subprocess.run(
            [sys.executable, "-c", _ACTIVATED],
            preexec_fn=place,
            close_fds=False,
            env=os.environ | {"LISTEN_FDS": "1", "no_proxy": "*"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert run.stdout.split() == [f"http://127.0.0.1:{port}", "200"] * 2
