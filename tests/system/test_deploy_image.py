"""
The image, step by step without an engine: there is none where the tests run.

The context is what the ignore file leaves, the package is installed by the
Dockerfile's own command, and what it starts is watched for writes.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import requests

_ROOT = Path(__file__).parents[2]
_DEPLOY = _ROOT / "deploy"
_INSTALLED = "/opt/loopotel-prom"
_DATA = "/var/lib/loopotel-prom"


def _steps(word: str) -> list[str]:
    """Give what follows each instruction of a kind, continued lines as one."""
    text = (_DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{word} +(.*)$", text, re.MULTILINE)


def _is_sent(path: str) -> bool:
    """Tell whether a file is in the context: the last line that matches decides."""
    sent = True
    for line in (_DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        starts = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        names = parts if "**/" in line else starts
        if line and not line.startswith("#"):
            depth = pattern.count("/")
            if any(n.count("/") == depth and fnmatchcase(n, pattern) for n in names):
                sent = line.startswith("!")
    return sent


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Run the build stage: the folder that the image takes over."""
    context = tmp_path_factory.mktemp("context")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=_ROOT,
        capture_output=True,
        check=True,
        text=True,
    )
    for name in filter(_is_sent, listed.stdout.splitlines()):
        if (_ROOT / name).is_file():
            (context / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, context / name)
    opt = tmp_path_factory.mktemp("opt") / "loopotel-prom"
    install = _steps("RUN")[0].replace(_INSTALLED, str(opt))
    extras = next(step for step in _steps("ARG") if step.startswith("EXTRAS="))
    done = subprocess.run(
        ["sh", "-ec", install],
        cwd=context,
        env={
            **os.environ,
            "EXTRAS": extras.partition("=")[2],
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        capture_output=True,
        check=False,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return opt


def test_the_context_has_no_more_than_it_needs():
    """Neither history nor tests nor what a developer has lying about."""
    assert _is_sent("loopotel_prom/cli/__init__.py")
    assert _is_sent("deploy/prometheus/prometheus.yml")
    assert _is_sent("loopotel_prom-0.1.0-py3-none-any.whl")
    for path in (".git/config", "tests/conftest.py", "traces/traces.jsonl", ".env"):
        assert not _is_sent(path)
    assert not _is_sent("loopotel_prom/cli/__pycache__/x.pyc")


def test_it_is_nobody_who_starts():
    """A user by number, who is not root."""
    (user,) = _steps("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)


def test_it_serves_and_writes_to_its_volume_only(installed, free_port, tmp_path):
    """So the rest of its file system may be read-only."""
    # strace -D: the process that ends by a signal is the one that serves.
    data, log, port = tmp_path / "data", tmp_path / "strace", free_port()
    data.mkdir()
    strace = shutil.which("strace")
    assert strace, "install it: apt-get install strace"
    (command,) = _steps("CMD")
    arguments = [
        each.replace(_DATA, str(data)).replace(":10110", f"127.0.0.1:{port}")
        for each in json.loads(command)
    ]
    settings = dict(re.findall(r"(PYTHON\w+)=(\S+)", _steps("ENV")[0]))
    process = subprocess.Popen(
        [
            *(
                strace,
                "-D",
                "-f",
                "-qq",
                "-o",
                log,
                "-e",
                "trace=openat,open,creat,mkdir",
            ),
            *("--", installed / "bin/loopotel-prom", *arguments),
        ],
        cwd=data,
        env={**settings, "PATH": f"{installed}/bin"},
    )
    try:
        deadline = time.monotonic() + 60
        while not _is_ready(f"http://127.0.0.1:{port}/-/ready"):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait(20)
    opened = re.findall(
        r'"([^"]+)", [^)]*O_(?:WRONLY|RDWR|CREAT)[^)]*\) += \d', log.read_text()
    )
    assert any(path.startswith(str(data)) for path in opened)
    assert [path for path in opened if not path.startswith((str(data), "/dev/"))] == []


def test_it_has_what_demo_and_provision_need(installed, tmp_path):
    """LoopGym, and the deployment files themselves."""
    command = installed / "bin/loopotel-prom"
    for arguments in (
        *(("demo", "--episodes", "1", "--think", "0", "--listen", "127.0.0.1:0"),),
        *(("provision", "monitoring"),),
    ):
        subprocess.run([command, *arguments], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "monitoring/dashboards/loopotel-fleet.json").is_file()


def _is_ready(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False
