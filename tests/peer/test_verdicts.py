"""Our verdicts and messages beside those of the predecessor, `loopotel`."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loopotel.validate import load_schema as peer_schema
from loopotel.validate import validate_trace as peer_verdict

from loopotel_prom.validate import _is_surely_valid, load_schema, validate_trace

EXAMPLES = sorted((Path(__file__).parents[2] / "specs/examples").glob("*.json"))
JUDGE = jsonschema.Draft202012Validator(load_schema())
PEER_SCHEMA = peer_schema()

# Values that a constraint of the schema lets pass by a hair, or stops by one.
EDGES = (
    *(None, True, False, 0, 1, 1.0, -0.0, 0.1, 10**400, -(2**63), 2**64),
    *(float("nan"), float("inf"), "", " ", "\0", "\ud800", "\U0001f600", "a\n"),
    *("ltf/0.1", "ltf/0.1\n", "LTF/0.1", "lss@1.0.0", "les@1.0.0", "ltf@0.1.0"),
    *("success", "Success", "failure", "loop", "iteration", "evaluator", "2026"),
    *("ab", "abc", "x" * 64, "x" * 65, "\U0001f600" * 64, "e\u0301" * 32),
    *("\U0001f600" * 2, "\ud83d\ude00" * 32, "\ud83d\ude00" * 33),
    *("0" * 15, "0" * 16, "0" * 17, "0" * 16 + "\n", "\n" + "0" * 16, "A" * 16),
    *("\uff10" * 16, "0" * 16 + "\r\n", "0" * 16 + "\n\n", "0123456789abcdeg"),
    *("ltf-" + "0" * 36, "ltf-00000000-0000-0000-0000-000000000000\n"),
    *([], {}, [[]], [{}], [None], {"": None}, {"lss": "lss@1.0.0"}),
)
KEYS = (
    *("schema_version", "trace_id", "loop_name", "env_id", "task_id", "metadata"),
    *("started_at", "ended_at", "spec_pins", "spans", "outcome", "events", "kind"),
    *("termination_reason", "lss", "les", "ltf", "span_id", "name", "attributes"),
    *("parent_span_id", "start_time", "end_time", "timestamp", "", "$ref", "a.b"),
    *("a b", "a'b", "\u00eb", "\n", "\ud800", "Name", "name "),
)

scalars = st.sampled_from(EDGES) | st.text(max_size=70) | st.integers() | st.floats()
keys = st.sampled_from(KEYS) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner),
    max_leaves=5,
)
free = st.dictionaries(st.text(max_size=5), values, max_size=3)
texts = st.text(max_size=10)


def _hex(size: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=size, max_size=size)


events = st.fixed_dictionaries(
    {"name": texts, "timestamp": texts}, optional={"attributes": free}
)
spans = st.fixed_dictionaries(
    {
        "span_id": _hex(16),
        "name": st.text(min_size=1, max_size=10),
        "kind": st.sampled_from(("loop", "iteration", "worker", "evaluator")),
        "start_time": texts,
        "attributes": free,
    },
    optional={
        "parent_span_id": st.none() | texts,
        "end_time": texts,
        "events": st.lists(events, max_size=2),
    },
)
documents = st.fixed_dictionaries(
    {
        "schema_version": st.just("ltf/0.1"),
        "trace_id": st.uuids().map(lambda run: f"ltf-{run}"),
        "loop_name": st.text(min_size=3, max_size=64),
        "started_at": texts,
        "ended_at": texts,
        "spec_pins": st.fixed_dictionaries(
            {
                "lss": st.just("lss@1.0.0"),
                "les": st.just("les@1.0.0"),
                "ltf": st.just("ltf@0.1.0"),
            }
        ),
        "spans": st.lists(spans, min_size=1, max_size=3),
    },
    optional={
        "env_id": texts,
        "task_id": texts,
        "outcome": st.sampled_from(("success", "failure", "partial", "unknown")),
        "termination_reason": texts,
        "metadata": free,
    },
)


def _containers(value: Any) -> list[Any]:
    """List the objects and arrays in a document, the outermost first."""
    if not isinstance(value, dict | list):
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(found for item in inner for found in _containers(item))]


def _fresh(draw: Callable[..., Any]) -> Any:
    """Draw a value that a later change may alter: what is sampled is shared."""
    return copy.deepcopy(draw(values))


def _replace(draw: Callable[..., Any], spot: Any, place: Any) -> None:
    spot[place] = _fresh(draw)


def _drop(_draw: Callable[..., Any], spot: Any, place: Any) -> None:
    del spot[place]


def _append(draw: Callable[..., Any], spot: Any, place: Any) -> None:
    """Lengthen a text by what a careless pattern overlooks; add to the rest."""
    if isinstance(spot[place], str):
        spot[place] += draw(st.sampled_from(("\n", "\r", " ", "\0", "x" * 64)))
    elif isinstance(spot[place], list):
        spot[place].append(_fresh(draw))
    elif isinstance(spot[place], dict):
        spot[place][draw(keys)] = _fresh(draw)


def _rename(draw: Callable[..., Any], spot: Any, place: Any) -> None:
    if isinstance(spot, dict):
        spot[draw(keys)] = spot.pop(place)


def _empty(_draw: Callable[..., Any], spot: Any, place: Any) -> None:
    spot[place] = type(spot[place])()


CHANGES = (_replace, _replace, _drop, _append, _rename, _empty)


@st.composite
def mutants(draw: Callable[..., Any]) -> Any:
    """Draw a valid document and change up to three things anywhere in it."""
    document = copy.deepcopy(draw(documents))
    for _ in range(draw(st.integers(1, 3))):
        spots = [found for found in _containers(document) if found]
        if not spots:
            break
        spot = draw(st.sampled_from(spots))
        places = list(spot) if isinstance(spot, dict) else range(len(spot))
        draw(st.sampled_from(CHANGES))(draw, spot, draw(st.sampled_from(places)))
    return document


def _same(document: object) -> bool:
    """Compare with the peer, and the fast path with the authority."""
    verdict = validate_trace(document)
    assert verdict == peer_verdict(document)
    assert not _is_surely_valid(document) or JUDGE.is_valid(document)
    return verdict[0]


some = settings(
    max_examples=500, deadline=None, suppress_health_check=list(HealthCheck)
)
many = settings(some, max_examples=2000)


@some
@given(documents)
def test_both_accept_what_the_format_allows(document: dict[str, Any]) -> None:
    """Valid documents of every shape are valid to both."""
    assert _same(document)


@many
@given(mutants())
def test_both_say_the_same_of_changed_documents(document: object) -> None:
    """The verdict and each message are equal, whatever was done to it."""
    _same(document)


@some
@given(values)
def test_both_say_the_same_of_any_value(value: object) -> None:
    """Documents that are far from valid too."""
    _same(value)


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: ascii(edge)[:20])
def test_both_say_the_same_of_every_edge_everywhere(edge: object) -> None:
    """Each value on the edge, in each place that the schema constrains."""
    full = json.loads(
        EXAMPLES[[p.stem for p in EXAMPLES].index("full.good")].read_text()
    )
    for number, spot in enumerate(_containers(full)):
        for place in list(spot) if isinstance(spot, dict) else range(len(spot)):
            document = copy.deepcopy(full)
            _containers(document)[number][place] = edge
            _same(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_both_say_the_same_of_the_examples(path: Path) -> None:
    """The examples of our specification are the predecessor's format."""
    assert _same(json.loads(path.read_text())) == (not path.stem.endswith(".bad"))


def test_the_fast_path_takes_what_is_plainly_valid() -> None:
    """The equality above is not for want of a fast verdict."""
    good = [path for path in EXAMPLES if path.stem.endswith(".good")]
    assert all(_is_surely_valid(json.loads(path.read_text())) for path in good)


def _constraints(schema: object, root: dict[str, Any]) -> object:
    """Reduce a schema to what it demands: no prose, its references resolved."""
    if isinstance(schema, list):
        return [_constraints(item, root) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _constraints(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    return {
        key: {name: _constraints(part, root) for name, part in value.items()}
        if key == "properties"
        else _constraints(value, root)
        for key, value in schema.items()
        if key not in {"title", "description", "$defs"}
    }


def test_both_schemas_demand_the_same() -> None:
    """Word for word, prose and the names of their parts aside."""
    ours = load_schema()
    assert _constraints(ours, ours) == _constraints(PEER_SCHEMA, PEER_SCHEMA)
