"""The bytes of a document, written piece by piece as its spans come in."""

import json
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom import ltf, semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf.stream import stream
from loopotel_prom.span import (
    ChildSpan,
    EvaluatorSpan,
    Event,
    IterationSpan,
    RunSpan,
    WorkerSpan,
)

TRACE = "ltf-00000000-0000-4000-8000-000000000001"
ROOT = "0" * 16
START = 1_700_000_000_000_000_000
KIB = 1024

# Surrogates too: a string that UTF-8 cannot carry is the likeliest bad value.
texts = st.text(st.characters(), max_size=8)
names = st.none() | st.sampled_from(["coder", "judge", ""]) | texts
counts = st.none() | st.integers(0, 2**63 - 1)
amounts = st.none() | st.floats(0, 1e9)
moments = st.integers(START - 10**10, START + 10**10) | st.just(START)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
    max_leaves=4,
)
# Attributes of the program's own may bear a name that the format gives away.
keys = st.sampled_from([semconv.GOAL_SCORE, semconv.LOOP_NAME, "x"]) | texts
mappings = st.just({}) | st.dictionaries(keys, values, max_size=3)
events = st.lists(st.builds(Event, texts, moments, mappings), max_size=2).map(tuple)
rest = {"error_type": names, "attributes": mappings, "events": events}
usage = {"input_tokens": counts, "output_tokens": counts, "cost_usd": amounts}

runs = st.builds(
    RunSpan,
    trace_id=st.just(TRACE),
    span_id=st.just(ROOT),
    start_ns=moments,
    loop_name=st.just("code-repair") | texts,
    goal_target=st.floats(0, 1),
    env_id=names,
    task_id=names,
    end_ns=moments,
    outcome=st.sampled_from(semconv.OUTCOMES),
    termination_reason=texts,
    tokens_total=st.integers(0, 2**63 - 1),
    metadata=mappings,
    **rest,
)


def _iterations(span_id: str) -> st.SearchStrategy[IterationSpan]:
    return st.builds(
        IterationSpan,
        trace_id=st.just(TRACE),
        span_id=st.just(span_id),
        parent_span_id=st.just(ROOT),
        start_ns=moments,
        end_ns=moments,
        iteration=st.integers(0, 2**63 - 1),
        goal_score=amounts | st.just(-0.0),
        goal_target=st.floats(0, 1),
        effectiveness=amounts,
        les_cumulative=st.floats(0, 1),
        tokens_delta=counts,
        latency_ms=amounts,
        worker_id=names,
        evaluator_id=names,
        **usage,
        **rest,
    )


def _leaves(parent: str | None) -> st.SearchStrategy[ChildSpan]:
    place = {
        "trace_id": st.just(TRACE),
        "span_id": st.text("abc", min_size=1),
        "parent_span_id": st.just(parent),
        "start_ns": moments,
        "end_ns": moments,
    }
    workers = st.builds(
        WorkerSpan, worker_id=names, role=names, **place, **usage, **rest
    )
    evaluators = st.builds(
        EvaluatorSpan,
        evaluator_id=names,
        type=names,
        goal_score=amounts,
        **place,
        **usage,
        **rest,
    )
    return workers | evaluators


@st.composite
def ended_children(draw) -> list[ChildSpan]:
    """Draw children in the order in which they end, some without an iteration."""
    last = draw(st.integers(0, 3))
    children: list[ChildSpan] = []
    for number in range(last):
        # Of this iteration, of a later one, of one that never ends, of none.
        parents = [*map(str, range(number, last)), "lost", "gone", None]
        inside = draw(st.lists(st.sampled_from(parents), max_size=3))
        children += [draw(_leaves(parent)) for parent in inside]
        children.append(draw(_iterations(str(number))))
    return children


def _run(**fields) -> RunSpan:
    given = {"end_ns": START + 10**12, "outcome": "success"} | fields
    return RunSpan(TRACE, ROOT, START, "code-repair", 0.8, **given)


def _iteration(number: int, **fields) -> IterationSpan:
    end_ns = START + number * 1_000_000
    place = (TRACE, f"{number:016x}", ROOT, end_ns - 999_999, end_ns)
    values = (number, 0.5, 0.8, 0.625, 0.625, 1234, 0.01, 1.5, "coder", "judge")
    return IterationSpan(*place, *values, **fields)


@given(runs, ended_children())
def test_the_pieces_together_are_the_encoded_document(run, children):
    """Streaming is folding and encoding, byte for byte."""
    pieces = b"".join(stream(run, iter(children)))
    assert pieces == ltf.encode(ltf.fold([run, *children]))


def test_a_bad_value_harms_no_other_span():
    """The value is made plain; each other span is as it would be without it."""
    good = [_iteration(1), _iteration(2)]
    bad = _iteration(3, attributes={"x": "\ud800", "y": object, "z": 1})
    run = _run(metadata={"bad": "\ud800", "good": 1})
    document = ltf.decode(b"".join(stream(run, [*good, bad])))
    assert document["spans"][:3] == ltf.fold([run, *good])["spans"]
    assert document["spans"][3]["attributes"]["x"] == "\ufffd"
    assert document["metadata"] == {"bad": "\ufffd", "good": 1}


def test_a_value_without_an_end_is_cut():
    """Attributes that hold themselves are written as far as they go."""
    endless: dict[str, object] = {}
    endless["self"] = endless
    line = b"".join(stream(_run(), [_iteration(1, attributes=endless)]))
    assert json.loads(line)["spans"][1]["attributes"][semconv.ITERATION] == 1


def test_a_run_without_an_end_is_refused():
    """Its end stands before the children, so nothing of them is read."""
    children = iter([_iteration(1)])
    with pytest.raises(DocumentError, match="end_ns is None"):
        stream(_run(end_ns=None), children)
    assert next(children)


def test_a_child_that_comes_too_late_is_not_lost():
    """It stands at the end, among those whose iteration never came."""
    late = WorkerSpan(TRACE, "late", f"{1:016x}", START, START)
    pieces = stream(_run(), [_iteration(1), late, _iteration(2)])
    spans = ltf.decode(b"".join(pieces))["spans"]
    assert [span["span_id"][-4:] for span in spans] == ["0000", "0001", "0002", "late"]


def test_children_are_read_as_the_pieces_are_taken():
    """One piece taken, and most of a long run is still to be read."""
    taken = []

    def children() -> Iterator[ChildSpan]:
        for number in range(1, 1001):
            taken.append(number)
            yield _iteration(number)

    next(stream(_run(), children()))
    assert len(taken) < 200


def test_the_longest_run_takes_no_more_memory():
    """200,000 iterations leave nothing behind, and come out in even pieces."""
    thousand = [
        child
        for number in range(1, 1001)
        for child in (
            WorkerSpan(TRACE, "f" * 16, f"{number:016x}", START, START, "coder"),
            _iteration(number),
        )
    ]
    children = (child for _ in range(200) for child in thousand)
    sizes, blocks = [], []
    for piece in stream(_run(), children):
        sizes.append(len(piece))
        blocks.append(sys.getallocatedblocks())
    # A span has some twenty; a tenth of one kept of each would show.
    assert max(blocks) - min(blocks) < 20_000
    assert min(sizes[:-1]) >= 64 * KIB
    assert max(sizes) < 256 * KIB
