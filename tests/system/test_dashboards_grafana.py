"""The Grafana boards as Grafana's own types and models see them."""

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_FILES = sorted((Path(__file__).parents[2] / "dashboards").glob("*.json"))

# Both are read only; nothing of theirs becomes part of the project.
_PACKAGES = {"@grafana/schema": "13.2.1", "typescript": "7.0.2"}

_RAW = "@grafana/schema/dist/esm/raw"
# Where the schema has the options of a kind of panel.
_KINDS = {
    "bargauge": "bargauge/panelcfg/x/BarGaugePanelCfg_types.gen",
    "heatmap": "heatmap/panelcfg/x/HeatmapPanelCfg_types.gen",
    "stat": "stat/panelcfg/x/StatPanelCfg_types.gen",
    "state-timeline": "statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen",
    "table": "table/panelcfg/x/TablePanelCfg_types.gen",
    "timeseries": "timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen",
}
_WITHOUT_FIELDS = {"bargauge", "stat"}

# What a mark has for Prometheus alone; the schema knows the rest only.
_FOR_PROMETHEUS = {
    "expr",
    "step",
    "tagKeys",
    "textFormat",
    "titleFormat",
    "useValueForTime",
}

# JSON has the values of enums, where TypeScript wants their names.
_HEAD = f"""
import type {{ Dashboard, Panel, RowPanel }}
  from '{_RAW}/dashboard/x/Dashboard_types.gen';
type Json<T> = T extends string ? `${{T}}`
  : T extends number ? (`${{T}}` extends `${{infer N extends number}}` ? N : T)
  : T extends boolean | null | undefined ? T
  : T extends (infer U)[] ? Json<U>[]
  : T extends object ? {{ [K in keyof T]: Json<T[K]> }}
  : T;
"""


@pytest.fixture(params=_FILES, ids=lambda file: file.stem)
def board(request) -> dict[str, Any]:
    """Give each board."""
    read: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return read


def test_grafanas_sdk_reads_what_we_wrote(board):
    """Its model of a dashboard keeps all that we say; it only adds defaults."""
    once = _through_the_sdk(board)
    assert list(_lost(board, once)) == []
    assert _through_the_sdk(once) == once


def _through_the_sdk(board: dict[str, Any]) -> dict[str, Any]:
    with warnings.catch_warnings():
        # It would rather have the format that only Grafana 13 reads from a file.
        warnings.simplefilter("ignore", DeprecationWarning)
        from grafana_foundation_sdk.cog import encoder, plugins  # noqa: PLC0415
        from grafana_foundation_sdk.models import dashboard  # noqa: PLC0415

    plugins.register_default_plugins()
    model = dashboard.Dashboard.from_json(board)
    written: dict[str, Any] = json.loads(encoder.JSONEncoder().encode(model))
    return written


def _lost(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """Name what is not there any more, or is another."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from _lost(value, theirs.get(key), f"{at}.{key}")
    elif isinstance(ours, list) and isinstance(theirs, list):
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from _lost(one, other, f"{at}[{place}]")
    elif ours != theirs:
        yield f"{at}: {ours!r} became {theirs!r}"


@pytest.fixture(scope="module")
def compiler() -> Path:
    """Give a folder with Grafana's schema and a TypeScript compiler in it."""
    if shutil.which("npm") is None:
        words = "no `npm` on PATH to get Grafana's types with: `make test` installs it"
        pytest.fail(words, pytrace=False)
    # Beside what pip has installed for the tests, and as long-lived.
    folder = Path(sys.prefix) / "npm"
    wanted = json.dumps({"private": True, "dependencies": _PACKAGES})
    done = folder / "done.json"
    if not done.exists() or done.read_text() != wanted:
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text(wanted)
        flags = ("--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps")
        subprocess.run(["npm", "install", *flags], cwd=folder, check=True)
        done.write_text(wanted)
    return folder


def test_grafanas_types_fit(compiler, tmp_path):
    """`@grafana/schema` knows every option that a panel has, and its values."""
    found = _check(compiler, tmp_path, [json.loads(f.read_text()) for f in _FILES])
    assert found == ""


def test_grafanas_types_find_a_wrong_option(compiler, tmp_path):
    """An option by the wrong name or with the wrong value is an error."""
    board = json.loads(_FILES[0].read_text())
    one, other = (panel for panel in board["panels"][:2] if panel["type"] == "stat")
    one["options"] |= {"colourMode": "value"}
    other["options"] |= {"textMode": "loud"}
    found = _check(compiler, tmp_path, [board])
    assert "'\"colourMode\"' does not exist" in found
    assert "Type '\"loud\"' is not assignable" in found


def _check(compiler: Path, folder: Path, boards: list[dict[str, Any]]) -> str:
    """Give what the compiler says to boards."""
    (folder / "node_modules").symlink_to(compiler / "node_modules")
    options = {
        "lib": ["es2022", "dom"],
        "module": "esnext",
        "moduleResolution": "bundler",
        "noEmit": True,
        "skipLibCheck": True,
        "strict": True,
        "target": "es2022",
        "types": [],
    }
    files = [f"{board['uid']}.ts" for board in boards]
    config = {"compilerOptions": options, "files": files}
    (folder / "tsconfig.json").write_text(json.dumps(config))
    for board, file in zip(boards, files, strict=True):
        (folder / file).write_text(_typed(board))
    check = subprocess.run(
        [compiler / "node_modules" / ".bin" / "tsc", "-p", "tsconfig.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode == 0) == (check.stdout == ""), check.stderr
    return check.stdout


def _typed(board: dict[str, Any]) -> str:
    """Give a board as constants, each of the type that Grafana has for it."""
    rest = {key: value for key, value in board.items() if key != "panels"}
    marks = [
        {key: value for key, value in mark.items() if key not in _FOR_PROMETHEUS}
        for mark in board["annotations"]["list"]
    ]
    rest["annotations"] = {"list": marks}
    lines = [_HEAD, *_imports()]
    lines.append(_constant("board", "Json<Omit<Dashboard, 'panels'>>", rest))
    for row in board["panels"]:
        if row["type"] == "row":
            heading = row | {"panels": []}
            lines.append(_constant(f"row{row['id']}", "Json<RowPanel>", heading))
        panels = row["panels"] if row["type"] == "row" else [row]
        lines += [line for panel in panels for line in _typed_panel(panel)]
    return "\n".join(lines)


def _imports() -> Iterator[str]:
    for kind, path in _KINDS.items():
        name = kind.replace("-", "_")
        names = [f"Options as Options_{name}"]
        if kind not in _WITHOUT_FIELDS:
            names.append(f"FieldConfig as Fields_{name}")
        module = f"{_RAW}/composable/{path}"
        yield f"import type {{ {', '.join(names)} }} from '{module}';"


def _typed_panel(panel: dict[str, Any]) -> Iterator[str]:
    number, kind = panel["id"], panel["type"].replace("-", "_")
    general = {key: value for key, value in panel.items() if key != "options"}
    config = general["fieldConfig"]
    custom = config["defaults"].get("custom", {})
    general["fieldConfig"] = config | {
        "defaults": {k: v for k, v in config["defaults"].items() if k != "custom"}
    }
    yield _constant(f"panel{number}", "Json<Omit<Panel, 'options'>>", general)
    options = f"Partial<Json<Options_{kind}>>"
    yield _constant(f"options{number}", options, panel["options"])
    if panel["type"] not in _WITHOUT_FIELDS:
        yield _constant(f"fields{number}", f"Partial<Json<Fields_{kind}>>", custom)


def _constant(name: str, kind: str, value: Any) -> str:
    return f"export const {name}: {kind} = {json.dumps(value)};"
