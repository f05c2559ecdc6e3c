"""How commands end: told to by a signal, without a reader, or for want of a folder."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

_EXAMPLE = Path(__file__).parents[2] / "specs/examples/full.good.json"
# As a shell starts it: who starts the tests may have Ctrl-C ignored.
_MAIN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from loopotel_prom.cli import main
main()
"""
_INTERRUPTED = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "loopotel_prom.cli.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from loopotel_prom.cli import main
main()
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of one run."""
    folder = tmp_path / "traces"
    folder.mkdir(mode=0o700)
    line = _EXAMPLE.read_bytes().replace(b"\n", b"") + b"\n"
    (folder / "traces.jsonl").write_bytes(line)
    (folder / "traces.jsonl").chmod(0o600)
    return folder


def _start(*args: str, cwd: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _MAIN, *args]
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]  # as given
        command, cwd=cwd, text=True, stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
@pytest.mark.parametrize(
    "args", (("export", "loopnet"), ("rescore", "--goal-target", "1"))
)
def test_a_signal_leaves_nothing_half_done(
    archive: Path, tmp_path: Path, args: tuple[str, ...], number: int
) -> None:
    """Neither a file nor a folder, and the exit code tells which it was."""
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    # It waits for who reads the rejects, with the output begun.
    child = _start(*args, "--output", "new", "--rejects", "pipe", cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not list(tmp_path.rglob(".*.unfinished")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(number)
    assert child.communicate(timeout=60)[1] == ""
    assert child.returncode == 128 + number
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_is_quiet_while_modules_load(tmp_path: Path) -> None:
    """That takes half a second of every command."""
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED], capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.parametrize(
    "command",
    (
        "archive ls",
        "archive ls --json",
        "archive show 0b6f",
        "archive stats",
        "archive verify",
        "validate traces/traces.jsonl",
        "rescore --goal-target 1 --output new",
        "export loopnet --goal repair-the-code --output -",
        "export loopnet --help",
    ),
)
def test_a_reader_that_has_gone_is_no_error(
    archive: Path, tmp_path: Path, command: str
) -> None:
    """As of `ls | head -1`: nothing is said, and the exit code is SIGPIPE's."""
    assert archive.is_dir()
    out, into = os.pipe()
    os.close(out)
    child = _start(*command.split(), cwd=tmp_path, stdout=into)
    os.close(into)
    assert child.communicate(timeout=60)[1] == ""
    assert child.returncode == 128 + signal.SIGPIPE


def test_a_server_that_cannot_listen_leaves_no_folder(tmp_path: Path) -> None:
    """Nor one above it that it made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        args = ("serve", "--archive", "new/traces", "--web.listen-address", address)
        child = _start(*args, cwd=tmp_path)
        assert "cannot listen" in child.communicate(timeout=60)[1]
    assert list(tmp_path.iterdir()) == []
