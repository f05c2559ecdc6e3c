"""Imports point down only: the table of allowed edges, and what it forbids."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

_ROOT = Path(__file__).parents[1]
_PACKAGE = "loopotel_prom"

# From the bottom up. A unit is the first name after `loopotel_prom.`; it may
# import itself, every unit of a lower layer, and what SIDEWAYS adds.
LAYERS = {
    "core": (
        "errors",
        "les",
        "ltf",
        "plain",
        "rfc3339",
        "semconv",
        "span",
        "termination",
        "version",
        "zstandard",
    ),
    "run time": ("health", "pipeline", "testing", "tracer"),
    "sinks": ("archive", "metrics", "otlp"),
    "jobs": (
        "board",
        "engine",
        "exporter",
        "provision",
        "replay",
        "rescore",
        "runs",
        "sidecar",
        "validate",
    ),
    "faces": (
        "cli",
        "configuration",
        "exposed",
        "handle",
        "integrations",
        "settings",
        "web",
    ),
    "top": (_PACKAGE,),
}

# Edges within one layer. Sinks have none: they never import each other.
SIDEWAYS = {
    "plain": {"errors"},
    "rfc3339": {"errors"},
    "span": {"errors", "semconv"},
    "ltf": {"errors", "les", "plain", "rfc3339", "semconv", "span"},
    "pipeline": {"health"},
    "tracer": {"health", "pipeline"},
    "board": {"runs"},
    "exporter": {"replay"},
    "rescore": {"validate"},
    "runs": {"validate"},
    "web": {"exposed"},
    "handle": {"settings", "web"},
    "configuration": {"exposed", "handle", "settings", "web"},
    "cli": {"configuration", "handle", "integrations", "settings", "web"},
}

# Edges that the layers would allow, and the design does not: sinks are fed.
FORBIDDEN = {(sink, "tracer") for sink in LAYERS["sinks"]}

# A pure core has no clock, file, socket, environment, chance or log.
IMPURE = {"logging", "os", "pathlib", "random", "socket", "threading", "time"}


class Import(NamedTuple):
    """One imported name, absolute, and where it stands."""

    where: str
    unit: str
    target: str


def _unit(module: str) -> str:
    """Map `loopotel_prom.a.b` to `a`, and the package itself to its name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else _PACKAGE


def _targets(node: ast.AST, package: str) -> Iterator[str]:
    """Yield the absolute name of each thing that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) + 1 - node.level]
        start = ".".join([*(above if node.level else []), node.module or ""]).strip(".")
        yield from (f"{start}.{alias.name}" for alias in node.names)


def _imports(file: Path, root: Path) -> Iterator[Import]:
    """Yield every import of a module, those inside functions too."""
    path = file.relative_to(root)
    package = ".".join(path.parent.parts)
    name = package if path.stem == "__init__" else f"{package}.{path.stem}"
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for target in _targets(node, package):
            yield Import(f"{path}:{node.lineno}", _unit(name), target)


def _all_imports(root: Path) -> list[Import]:
    files = sorted((root / _PACKAGE).rglob("*.py"))
    assert files, f"no modules under {root / _PACKAGE}"
    return [found for file in files for found in _imports(file, root)]


def _units(root: Path) -> set[str]:
    """Return the units that exist."""
    entries = (root / _PACKAGE).iterdir()
    found = {e.stem for e in entries if e.suffix == ".py" or any(e.glob("*.py"))}
    return (found - {"__init__"}) | {_PACKAGE}


def _allowed(unit: str) -> set[str]:
    """Return the units that a unit may import."""
    below: set[str] = set()
    for layer in LAYERS.values():
        if unit in layer:
            return below | {unit} | SIDEWAYS.get(unit, set())
        below.update(layer)
    return below  # not in the table: another test says so


def _wrong_edges(root: Path) -> list[str]:
    """Return `file:line: importer -> imported` for each edge not in the table."""
    units, wrong = _units(root), []
    for where, unit, target in _all_imports(root):
        if target.split(".")[0] != _PACKAGE:
            continue
        imported = _unit(target)
        if target.count(".") == 1 and imported not in units:
            imported = _PACKAGE  # a name of the top, not a module
        if imported not in _allowed(unit) or (unit, imported) in FORBIDDEN:
            wrong.append(f"{where}: {unit} -> {imported}")
    return wrong


def test_every_unit_has_a_layer() -> None:
    """A new module or package is put into the table before it is used."""
    missing = _units(_ROOT) - {unit for layer in LAYERS.values() for unit in layer}
    assert not missing, f"put into LAYERS of {__file__}: {sorted(missing)}"


def test_imports_point_down() -> None:
    """Each import within the package is an edge of the table."""
    wrong = _wrong_edges(_ROOT)
    assert not wrong, "edges that the table does not allow:\n" + "\n".join(wrong)


def test_the_core_is_pure() -> None:
    """No module of the core imports a clock, a file, a thread or a log."""
    wrong = [
        f"{found.where}: {found.unit} imports {found.target}"
        for found in _all_imports(_ROOT)
        if found.unit in LAYERS["core"] and found.target.split(".")[0] in IMPURE
    ]
    assert not wrong, "the core must stay pure:\n" + "\n".join(wrong)


def test_importing_the_package_loads_no_sink() -> None:
    """A fresh `import loopotel_prom` leaves the heavy dependencies alone."""
    code = "import sys, loopotel_prom; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {module.split(".")[0] for module in run.stdout.split()}
    assert not loaded & {"jsonschema", "opentelemetry", "prometheus_client"}


@pytest.mark.parametrize(
    ("module", "statement", "edge"),
    (
        ("span.py", "from loopotel_prom import metrics", "span -> metrics"),
        ("span.py", "def f():\n    import loopotel_prom.ltf.fold", "span -> ltf"),
        ("les.py", "from . import cli", "les -> cli"),
        ("archive/read.py", "from ..metrics.page import x", "archive -> metrics"),
        ("otlp.py", "from loopotel_prom.tracer import x", "otlp -> tracer"),
        ("web/x.py", "from loopotel_prom import Span", "web -> loopotel_prom"),
    ),
)
def test_a_wrong_edge_is_found(
    tmp_path: Path, module: str, statement: str, edge: str
) -> None:
    """The check sees each way to write an import, and names file and line."""
    for name in {"metrics/page.py", "ltf/fold.py", "cli/__init__.py", module}:
        file = tmp_path / _PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"\n{statement}\n" if name == module else "")
    line = 3 if statement.startswith("def") else 2
    assert _wrong_edges(tmp_path) == [f"{_PACKAGE}/{module}:{line}: {edge}"]


@pytest.mark.parametrize(
    ("module", "statement"),
    (
        ("span.py", "from loopotel_prom import errors"),
        ("pipeline.py", "from .health import x"),
        ("metrics/page.py", "from .table import x"),
        ("cli/serve.py", "from ..web import x"),
        ("__init__.py", "from .tracer import x"),
    ),
)
def test_an_allowed_edge_is_accepted(
    tmp_path: Path, module: str, statement: str
) -> None:
    """What the table allows is not reported."""
    for name, text in {"errors.py": "", module: statement}.items():
        file = tmp_path / _PACKAGE / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert _wrong_edges(tmp_path) == []
