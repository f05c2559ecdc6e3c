"""The Grafana boards: their form, their queries, and what a real fleet puts there."""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import pytest

_ROOT = Path(__file__).parents[2]
_FILES = sorted((_ROOT / "dashboards").glob("*.json"))
_FLEET = Path(__file__).with_name("fleet.py")
_EMITTERS_OWN = ("code-repair", "doc-summary", "web-research", "sql-tuning")
_SIDECARS = ("deploy-agent", "debate-swarm", "support-triage")

# Grafana's names of the units that we use.
_UNITS = {
    "Bps",
    "bytes",
    "cpm",
    "cps",
    "currencyUSD",
    "dateTimeFromNow",
    "locale",
    "none",
    "percentunit",
    "s",
    "short",
    "string",
}
_KINDS = {"bargauge", "heatmap", "stat", "state-timeline", "table", "timeseries"}

# Where all is well there is no such series: nothing was ever counted.
_MAY_BE_EMPTY = {
    ("loopotel-exporter", 31, "A"): "no label has ever been without room",
    ("loopotel-exporter", 32, "B"): "no processor or collector has ever failed",
}


@cache
def _board(file: Path) -> dict[str, Any]:
    board: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return board


@pytest.fixture(params=_FILES, ids=lambda file: file.stem)
def board(request) -> dict[str, Any]:
    """Give each board."""
    return _board(request.param)


def _panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """Give a board's panels, those of folded rows too, without the headings."""
    every = [p for row in board["panels"] for p in (row, *row.get("panels", ()))]
    return [panel for panel in every if panel["type"] != "row"]


class _Query(NamedTuple):
    """A query, and where it stands."""

    board: dict[str, Any]
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def place(self) -> tuple[str, int, str]:
        return self.board["uid"], self.panel["id"], self.target["refId"]

    @property
    def seconds(self) -> int:
        """How long the board's time range is."""
        hours = re.fullmatch(r"now-(\d+)h", self.board["time"]["from"])
        assert hours is not None
        return int(hours[1]) * 3600

    @property
    def expr(self) -> str:
        """The expression, with values for the variables: all."""
        return _filled(self.target["expr"], self.seconds)


def _filled(expr: str, seconds: int) -> str:
    values = {
        "__from": str((int(time.time()) - seconds) * 1000),
        "__interval_ms": "60000",
        "__range": f"{seconds}s",
        "__rate_interval": "5m",
        "budget_usd": "1000",
        "env_id": ".*",
        "instance": ".+",
        "job": ".+",
        "loop_name": ".+",
    }
    return re.sub(r"\$(\w+)", lambda name: values[name[1]], expr)


def _queries(board: dict[str, Any]) -> list[_Query]:
    return [_Query(board, p, target) for p in _panels(board) for target in p["targets"]]


def _annotations(board: dict[str, Any]) -> list[str]:
    """Give the expressions of what marks times."""
    every = board["annotations"]["list"]
    return [_filled(each["expr"], 3600) for each in every if "expr" in each]


def _nodes(node: Any, *above: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Give each node of an expression, with those above it."""
    yield node, above
    below = [getattr(node, name, None) for name in ("expr", "lhs", "rhs")]
    below += [getattr(node, "vector_selector", None), *getattr(node, "args", ())]
    for each in below:
        if each is not None:
            yield from _nodes(each, *above, node)


def _selectors(expr: str) -> list[tuple[Any, tuple[Any, ...]]]:
    tree = promql_parser.parse(expr)
    selector = promql_parser.VectorSelector
    return [(n, above) for n, above in _nodes(tree) if isinstance(n, selector)]


def _frozen() -> dict[str, set[str]]:
    """Give the labels of each series' name that is a contract."""
    lines = (_ROOT / "specs" / "metrics.frozen.txt").read_text().splitlines()
    labels = {}
    for line in lines:
        match = re.fullmatch(r"(\w+)\{(.*)\} (\w+)", line)
        assert match is not None
        own = {"job", "instance", *filter(None, match[2].split(","))}
        if match[3] == "histogram":
            labels |= {f"{match[1]}_{s}": own for s in ("sum", "count")}
            labels[f"{match[1]}_bucket"] = own | {"le"}
        else:
            labels[match[1]] = own
    return labels


# The whole.


def test_the_boards_are_what_is_built():
    """`make dashboards` writes them anew."""
    check = subprocess.run(
        [sys.executable, "-m", "dashboards", "--check"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (check.returncode, check.stderr) == (0, "")


def test_there_are_four_boards():
    """Their addresses are a contract with alerts and provisioning."""
    uids = {"loopotel-fleet", "loopotel-loop", "loopotel-cost", "loopotel-exporter"}
    assert {_board(file)["uid"] for file in _FILES} == uids
    assert all(file.stem == _board(file)["uid"] for file in _FILES)


def test_a_board_is_provisioned_and_linked(board):
    """It has one format from Grafana 11 to 13, is not edited, and leads to others."""
    assert board["schemaVersion"] == 42
    assert board["editable"] is False
    assert board["tags"] == ["loopotel"]
    assert board["description"]
    [link] = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", ["loopotel"])
    assert (link["keepTime"], link["includeVars"]) == (True, True)


def test_panels_have_numbers_and_places_of_their_own(board):
    """No two have an id, and none lies on another or beyond the edge."""
    rows = board["panels"]
    every = [panel for row in rows for panel in (row, *row.get("panels", ()))]
    ids = [panel["id"] for panel in every]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_links_lead_to_boards_that_there_are(board):
    """Links between boards name their addresses; others lead to an exporter."""
    urls = re.findall(r'"url": "([^"]+)"', json.dumps(board))
    for url in filter(None, urls):
        inside = re.match(r"/d/([\w-]+)\?", url)
        if inside is None:
            assert url.startswith("http://${__"), url
        else:
            assert inside[1] in {file.stem for file in _FILES}


# Variables.


def test_variables_have_the_usual_form(board):
    """A data source first; job and instance take several values, or any."""
    source, *others = board["templating"]["list"]
    assert (source["name"], source["label"]) == ("datasource", "Data Source")
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    by_name = {each["name"]: each for each in others}
    for name in ("job", "instance"):
        variable = by_name[name]
        assert (variable["multi"], variable["includeAll"]) == (True, True)
        assert variable["allValue"] == ".+"
    for variable in others:
        assert variable["label"]
        assert variable["type"] == "textbox" or variable["refresh"] == 2


def test_variables_are_used_and_valid(board):
    """Each is in a query, and takes its values from a metric that there is."""
    exprs = " ".join(query.target["expr"] for query in _queries(board))
    for variable in board["templating"]["list"][1:]:
        name = variable["name"]
        assert re.search(rf"\${name}\b", exprs), name
        if variable["type"] != "query":
            continue
        asked = variable["query"]["query"]
        values = re.fullmatch(r"label_values\((.+), (\w+)\)", asked)
        assert values is not None
        assert values[2] == name
        [(selector, _)] = _selectors(_filled(values[1], 3600))
        assert name in _frozen()[selector.name]


# Panels.


def test_a_panel_says_what_it_shows(board):
    """Title, description, unit, thresholds, and words for nothing to show."""
    for panel in _panels(board):
        defaults = panel["fieldConfig"]["defaults"]
        assert panel["type"] in _KINDS
        assert panel["title"]
        assert len(panel["description"]) > 20, panel["title"]
        assert defaults["unit"] in _UNITS, panel["title"]
        assert defaults["noValue"], panel["title"]
        assert "mode" in defaults["color"]
        first, *steps = [s["value"] for s in defaults["thresholds"]["steps"]]
        assert first is None
        assert steps == sorted(steps), panel["title"]


def test_units_of_columns_are_known(board):
    """An override has a unit that Grafana has."""
    units = {
        change["value"]
        for panel in _panels(board)
        for override in panel["fieldConfig"]["overrides"]
        for change in override["properties"]
        if change["id"] == "unit"
    }
    assert units <= _UNITS


def test_titles_are_not_used_twice(board):
    """A panel is known by its title."""
    titles = [panel["title"] for panel in _panels(board)]
    assert len(set(titles)) == len(titles)


def test_panels_and_queries_use_the_chosen_data_source(board):
    """None is tied to one Prometheus."""
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for query in _queries(board):
        assert query.panel["datasource"] == query.target["datasource"] == chosen


def test_curves_have_names(board):
    """What is drawn over time has a legend made of its labels."""
    for query in _queries(board):
        if query.panel["type"] in {"timeseries", "state-timeline", "bargauge"}:
            assert query.target["legendFormat"] != "__auto", query.panel["title"]


# Queries.


def test_queries_parse_and_use_frozen_names(board):
    """Metric and label names are those of the contract, also of the marks."""
    frozen = _frozen()
    for expr in [q.expr for q in _queries(board)] + _annotations(board):
        for selector, _ in _selectors(expr):
            if selector.name == "ALERTS":
                continue
            names = {matcher.name for matcher in selector.matchers.matchers}
            assert names <= frozen[selector.name], expr


def test_selectors_carry_job_and_instance(board):
    """Who is chosen is what is shown."""
    for query in _queries(board):
        written = re.findall(r"\w+\{([^}]*)\}", query.target["expr"])
        assert written
        for matchers in written:
            assert 'job=~"$job", instance=~"$instance"' in matchers
        for selector, _ in _selectors(query.expr):
            names = {matcher.name for matcher in selector.matchers.matchers}
            assert {"job", "instance"} <= names, query.expr


def test_a_rate_is_taken_over_the_rate_interval(board):
    """No fixed window, which a longer scrape interval would leave empty."""
    for query in _queries(board):
        windows = re.findall(r"rate\([^\[]*\[([^\]]*)\]", query.target["expr"])
        assert set(windows) <= {"$__rate_interval"}, query.target["expr"]


def test_a_counter_is_read_through_rate_or_increase(board):
    """Its own value depends on when a process started."""
    counters = ("_total", "_bucket", "_sum", "_count")
    for query in _queries(board):
        for selector, above in _selectors(query.expr):
            if selector.name.endswith(counters):
                call = above[-2]
                assert call.func.name in {"rate", "increase"}, query.expr


def test_a_success_is_remembered_when_the_process_starts_anew(board):
    """Its page does not know of it any more, the time range does."""
    for query in _queries(board):
        for name in re.findall(r"\w*\(loop_last_run_success\w+", query.expr):
            assert name.startswith("max_over_time("), query.place


def test_buckets_become_quantiles_or_heatmaps(board):
    """A bucket by itself says nothing."""
    for query in _queries(board):
        for selector, above in _selectors(query.expr):
            if selector.name.endswith("_bucket"):
                calls = {node.func.name for node in above if hasattr(node, "func")}
                is_map = query.target["format"] == query.panel["type"] == "heatmap"
                assert is_map or "histogram_quantile" in calls, query.expr


def test_nothing_is_divided_by_zero(board):
    """What is divided by is a number, or compared with zero."""
    for query in _queries(board):
        # The divisor up to its end, or to the comparison that guards it.
        for after in re.findall(r" / (.*)", query.expr):
            if re.match(r"\d+\b", after):
                continue
            assert after[0] == "(", query.expr
            assert _within(after).endswith("> 0"), query.expr


def _within(text: str) -> str:
    """Give what stands in the parentheses that a text begins with."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[1:place]
    raise AssertionError(text)


def test_promtool_takes_every_query(tmp_path):
    """Prometheus 2.42 itself finds nothing wrong with any of them."""
    exprs = [
        expr
        for file in _FILES
        for expr in [q.expr for q in _queries(_board(file))]
        + _annotations(_board(file))
    ]
    rules = [{"record": f"q:{n}", "expr": expr} for n, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "boards", "rules": rules}]}))
    check = subprocess.run(
        ["promtool", "check", "rules", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr
    assert f"SUCCESS: {len(exprs)} rules found" in check.stdout


# A real fleet.


@pytest.fixture
def fleet(tmp_path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return `start(command, *arguments)`, which runs one of `fleet.py`."""
    with ExitStack() as stack:

        def start(*arguments: str) -> subprocess.Popen[str]:
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, _FLEET, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    cwd=tmp_path,
                    text=True,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def _is_empty(server: Any, query: _Query) -> bool:
    now = time.time()
    if query.target["instant"]:
        found = [[s["value"]] for s in server.query(query.expr)]
    else:
        every = server.query_range(
            query.expr, start=now - query.seconds, end=now, step=query.seconds / 60
        )
        found = [[value for _, value in series["values"]] for series in every]
    return not any(math.isfinite(value) for values in found for value in values)


def _has_exemplars(server: Any, query: _Query) -> bool:
    now = time.time()
    return bool(
        server.api("query_exemplars", query=query.expr, start=now - 600, end=now + 60)
    )


def _targets(fleet: Any, command: Any, tmp_path: Path) -> list[dict[str, Any]]:
    """Run a process with an endpoint, and one with a sidecar; give both to scrape."""
    emitter = fleet("live", "127.0.0.1:0", "emitter", "40", *_EMITTERS_OWN)
    fleet("live", "none", "followed", "40", *_SIDECARS)
    sidecar = command(
        "serve", "--archive", "followed", "--web.listen-address", "127.0.0.1:0"
    )
    served = sidecar.wait_for_line(r"listening on http://([\d.:]+)")[1]
    own = re.search(r"http://([\d.:]+)", emitter.stdout.readline())
    return [
        {"targets": [own[1]], "labels": {"instance": "emitter:10110"}},
        {"targets": [served], "labels": {"instance": "sidecar:10110"}},
    ]


def _past(fleet: Any, data: Path) -> None:
    """Put the hours that the boards look at into a folder of blocks."""
    players = [
        fleet("history", str(data), instance, since, until, "120", *names)
        for instance, names in (
            ("emitter:10110", _EMITTERS_OWN),
            ("sidecar:10110", _SIDECARS),
        )
        # Of yesterday the boards compare no more than six hours.
        for since, until in (("31", "23.5"), ("7", "0"))
    ]
    for player in players:
        assert player.wait(240) == 0


def test_no_panel_of_a_fleet_is_empty(fleet, command, prometheus, tmp_path):
    """Loops that converge, stall, regress and fail fill every panel of every board."""
    _past(fleet, tmp_path / "data")
    targets = _targets(fleet, command, tmp_path)
    server = prometheus([], scrape={"static_configs": targets}, data=tmp_path / "data")
    queries = [query for file in _FILES for query in _queries(_board(file))]
    deadline = time.monotonic() + 60
    empty = queries
    while time.monotonic() < deadline:
        empty = [query for query in empty if _is_empty(server, query)]
        if {query.place for query in empty} <= set(_MAY_BE_EMPTY):
            break
    assert {query.place for query in empty} <= set(_MAY_BE_EMPTY)
    marks = [expr for expr in _annotations(_board(_FILES[0])) if "ALERTS" not in expr]
    assert all(server.query(expr) for expr in marks)
    pointed = [query for query in queries if query.target["exemplar"]]
    assert [q.place for q in pointed if not _has_exemplars(server, q)] == []
