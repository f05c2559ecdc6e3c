"""The README: what it shows is what happens, and it leaves no option out."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer.main

from loopotel_prom.cli.commands import app
from loopotel_prom.metrics.catalogue import CATALOGUE

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def _blocks(language: str) -> list[str]:
    return [
        textwrap.dedent(body)
        for _, name, body in _BLOCK.findall(_README)
        if name == language
    ]


def _shell(command: str, folder: Path) -> str:
    run = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_its_examples_do_what_it_shows(tmp_path, free_port):
    """The program, its output, and the command after it, in that order."""
    port = str(free_port())
    program, inside = _blocks("python")
    (expected,) = _blocks("text")
    (tmp_path / "example.py").write_text(program.replace("10110", port))
    assert _shell(f"{sys.executable} example.py", tmp_path) == expected
    (tmp_path / "inside.py").write_text(inside)
    assert _shell(f"{sys.executable} -W error inside.py", tmp_path) == ""
    validate, _, output = _blocks("console")[0].partition("\n")
    command = validate.replace(
        "$ loopotel-prom", f"{sys.executable} -m loopotel_prom.cli"
    )
    assert _shell(command, tmp_path) == output


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """Copy what a clone would have: the files that git knows or would add."""
    folder = tmp_path_factory.mktemp("clone") / "loopotel prom"
    listed = _shell("git ls-files --cached --others --exclude-standard", _ROOT)
    for name in listed.splitlines():
        if (_ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, folder / name)
    return folder


@pytest.mark.timeout(900)  # it installs everything that the tests need
def test_its_commands_do_all_the_set_up(clone):
    """In a fresh clone, `make demo` and `make test` need nothing before them."""
    commands = [block.removeprefix("$ ").strip() for block in _blocks("console")]
    _, install, demo, test = commands
    assert "20 runs in" in _shell(
        demo.replace("--episodes 20", "--episodes 20 --listen 127.0.0.1:0 --think 0"),
        clone,
    )
    assert len((clone / "traces" / "traces.jsonl").read_text().splitlines()) == 20
    # The whole suite would run this test again; one file shows the set-up.
    assert " passed" in _shell(f'{test} ARGS="tests/unit/test_les.py"', clone)
    _shell(install.replace("python", ".venv/bin/python") + " --quiet", clone)


def test_every_command_and_option_is_explained():
    """Each one has help, and stands in the README."""
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert command.help
        assert f"loopotel-prom {name}" in _README
        for parameter in (*command.params, *group.params):
            if parameter.param_type_name == "option":
                assert parameter.help, (name, parameter.name)
                assert all(f"`{flag}" in _README for flag in parameter.opts)


def test_every_metric_is_explained():
    """The table names each of them."""
    for metric in CATALOGUE:
        assert f"`{metric.name}" in _README
