"""The tree: which files there are, by the part of the stack that needs them."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from loopotel_prom.errors import ConfigError
from loopotel_prom.provision.addresses import Addresses
from loopotel_prom.provision.edit import edit, relocate
from loopotel_prom.provision.shipped import shipped

# Each part, and what it does not work without.
PARTS: dict[str, tuple[str, ...]] = {
    "alertmanager": (),
    "compose": ("alertmanager", "dashboards", "grafana", "image", "prometheus"),
    "dashboards": (),
    "grafana": ("dashboards",),
    "image": (),
    "kubernetes": ("dashboards", "image"),
    "prometheus": (),
    "runbooks": (),
    "systemd": (),
}
_IMAGE = ("Dockerfile", "Dockerfile.dockerignore")
_DASHBOARD_SUFFIXES = (".json", ".yaml")
# For who changes the rules, not for who uses them.
# (pip compiles what it installs.)
_WORKSHOP = ("prometheus/tests/", "prometheus/simulate.py", "prometheus/__pycache__/")


class File(NamedTuple):
    """
    One file of the tree.

    Attributes:
        part: What it is for.
        path: Its own, relative to the tree's folder, with slashes.
        data: What is in it.
    """

    part: str
    path: str
    data: bytes


def parts_of(names: Iterable[str]) -> frozenset[str]:
    """
    Give the parts that were named, and those that they need; all for no names.

    Raises:
        ConfigError: There is no such part.
    """
    wanted = frozenset(names)
    for name in sorted(wanted - PARTS.keys()):
        raise ConfigError(f"--only {name!r} is no part; there are {', '.join(PARTS)}")
    needed = wanted.union(*(PARTS[name] for name in wanted))
    return needed or frozenset(PARTS)


def files_of(addresses: Addresses, parts: frozenset[str]) -> list[File]:
    """
    Make the files of some parts, in the order of their paths.

    Raises:
        ConfigError: This installation came without them.
    """
    found = [
        File(part, path, _data(path, file, addresses))
        for path, file in sorted(_sources())
        if (part := _part(path)) in parts
    ]
    if missing := sorted(parts - {file.part for file in found}):
        raise ConfigError(
            f"this installation has no files for {', '.join(missing)};"
            " install the wheel again"
        )
    return found


def _sources() -> Iterator[tuple[str, Path]]:
    deploy, dashboards = shipped("deploy"), shipped("dashboards")
    for file in deploy.rglob("*"):
        path = file.relative_to(deploy).as_posix()
        if file.is_file() and not path.startswith(_WORKSHOP):
            yield path, file
    for file in dashboards.glob("*"):
        if file.suffix in _DASHBOARD_SUFFIXES:
            yield f"dashboards/{file.name}", file


def _part(path: str) -> str | None:
    """Tell what a file is for; the map of the folder is for everyone's."""
    if path in _IMAGE:
        return "image"
    name, slash, _ = path.partition("/")
    return name if slash and name in PARTS else None


def _data(path: str, file: Path, addresses: Addresses) -> bytes:
    text = file.read_text(encoding="utf-8")
    # The image listens where it does, whatever it is called from outside.
    if path in _IMAGE:
        return text.encode()
    return relocate(path, edit(path, text, addresses)).encode()
