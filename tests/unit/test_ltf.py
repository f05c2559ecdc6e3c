"""Documents from spans, spans from documents, and the bytes of both."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom import ltf
from loopotel_prom.errors import DocumentError
from loopotel_prom.span import (
    EvaluatorSpan,
    Event,
    IterationSpan,
    RunSpan,
    Span,
    WorkerSpan,
)

MICROSECOND = 1000
START = 1_700_000_000_000_000_000

texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
ids = st.text("abc-", min_size=1, max_size=6)
plain_values = st.dictionaries(
    texts.map("x.".__add__),
    st.none() | st.booleans() | st.integers(0, 9) | texts,
    max_size=3,
)
scores = st.floats(0, 1).map(lambda score: round(score, 4))
finite = st.floats(0, 1e6)
moments = st.integers(0, 10**6).map(lambda n: START + n * MICROSECOND)
events = st.builds(Event, texts, moments, plain_values)


def _leaf(draw, *place_and_times) -> Span:
    """Draw a worker or an evaluator."""
    usage = {
        "input_tokens": draw(st.none() | st.integers(0, 9)),
        "cost_usd": draw(st.none() | finite),
        "error_type": draw(st.none() | ids),
        "attributes": draw(plain_values),
    }
    name, role = draw(st.none() | ids), draw(st.none() | ids)
    if draw(st.booleans()):
        return WorkerSpan(*place_and_times, name, role, **usage)
    score = draw(st.none() | scores)
    return EvaluatorSpan(*place_and_times, name, role, goal_score=score, **usage)


@st.composite
def spans_of_a_run(draw) -> list[Span]:
    """Draw a run span, iterations, and workers and evaluators inside them."""
    numbers = iter(range(1, 10_000))

    def span_id() -> str:
        return f"{next(numbers):016x}"

    run = RunSpan(
        trace_id="ltf-00000000-0000-4000-8000-000000000001",
        span_id=span_id(),
        start_ns=START,
        loop_name="code-repair",
        goal_target=draw(scores),
        env_id=draw(st.none() | ids),
        task_id=draw(st.none() | ids),
        end_ns=START + 10**10,
        outcome=draw(st.sampled_from(["success", "failure", "partial", "unknown"])),
        termination_reason=draw(texts),
        tokens_total=draw(st.integers(0, 10**6)),
        metadata=draw(plain_values),
        attributes=draw(plain_values),
        events=tuple(draw(st.lists(events, max_size=2))),
    )
    spans: list[Span] = [run]
    for number in range(1, draw(st.integers(0, 4)) + 1):
        iteration = IterationSpan(
            run.trace_id,
            span_id(),
            run.span_id,
            draw(moments),
            draw(moments),
            iteration=number,
            goal_score=draw(st.none() | scores),
            goal_target=draw(scores),
            effectiveness=draw(st.none() | scores),
            les_cumulative=draw(scores),
            tokens_delta=draw(st.none() | st.integers(0, 10**6)),
            cost_usd=draw(st.none() | finite),
            latency_ms=draw(st.none() | finite),
            worker_id=draw(st.none() | ids),
            evaluator_id=draw(st.none() | ids),
            input_tokens=draw(st.none() | st.integers(0, 9)),
            output_tokens=draw(st.none() | st.integers(0, 9)),
            error_type=draw(st.none() | ids),
            attributes=draw(plain_values),
            events=tuple(draw(st.lists(events, max_size=2))),
        )
        spans.append(iteration)
        for _ in range(draw(st.integers(0, 2))):
            place = (run.trace_id, span_id(), iteration.span_id)
            times = (draw(moments), draw(moments))
            spans.append(_leaf(draw, *place, *times))
    return spans


@given(spans_of_a_run())
def test_unfolding_a_folded_run_gives_the_same_document(spans):
    """Fold and unfold are inverses on every document that fold makes."""
    document = ltf.fold(spans)
    assert ltf.fold(ltf.unfold(document)) == document


@given(spans_of_a_run())
def test_a_document_survives_its_bytes(spans):
    """Encoded and decoded a document is the same, on one line."""
    document = ltf.fold(spans)
    line = ltf.encode(document)
    assert b"\n" not in line
    assert ltf.decode(line) == document


@given(spans_of_a_run(), st.randoms())
def test_the_order_of_start_and_end_does_not_matter(spans, random):
    """The run span may stand anywhere among the others."""
    run, *others = spans
    shuffled = list(others)
    shuffled.insert(random.randint(0, len(others)), run)
    assert ltf.fold(shuffled) == ltf.fold(spans)


def _run(**values) -> RunSpan:
    fields = {
        "trace_id": "ltf-00000000-0000-4000-8000-000000000001",
        "span_id": "1" * 16,
        "start_ns": START,
        "loop_name": "code-repair",
        "goal_target": 0.8,
    }
    return RunSpan(**(fields | values))


def test_a_run_that_has_not_ended_ends_with_its_latest_span():
    """A document can be had of a run under way."""
    iteration = IterationSpan(
        "t", "2" * 16, "1" * 16, START, START + 10**9, 1, 0.5, 0.8, 0.625, 0.625
    )
    document = ltf.fold([_run(), iteration])
    assert document["ended_at"] == document["spans"][1]["end_time"]
    assert document["outcome"] == "unknown"


ties = st.integers(0, 10**10).map(lambda number: (2 * number + 1) / 20_000)
near_ties = st.builds(math.nextafter, ties, st.sampled_from([0.0, math.inf]))


@given(st.floats(allow_nan=False) | st.floats(0, 1) | ties | near_ties)
def test_a_score_is_rounded_to_four_places(score):
    """Ties, huge and tiny numbers too come out as the standard library rounds."""
    iteration = IterationSpan(
        "t", "2" * 16, "1" * 16, START, START, 1, score, 0.8, None, 0.0
    )
    attributes = ltf.fold([_run(), iteration])["spans"][1]["attributes"]
    assert attributes["loop.goal_score"] == round(score, 4)


def test_an_absent_id_has_no_key():
    """The format has no null for an environment or a task."""
    document = ltf.fold([_run()])
    assert not {"env_id", "task_id"} & document.keys()


def test_without_a_run_there_is_no_document():
    """The error says what is missing."""
    with pytest.raises(DocumentError, match="no run span"):
        ltf.fold([])


def test_a_foreign_document_keeps_what_we_do_not_know():
    """Extra attributes and events of another writer come out again."""
    document = ltf.fold([_run()])
    span = {
        "span_id": "3" * 16,
        "name": "loop.iteration",
        "kind": "iteration",
        "start_time": "2026-01-01T00:00:00Z",
        "attributes": {"their.own": {"a": [1]}, "loop.iteration": 1},
        "events": [{"name": "their.event", "timestamp": "2026-01-01T00:00:00Z"}],
    }
    document["spans"].append(span)
    again = ltf.fold(ltf.unfold(document))["spans"][1]
    assert again["attributes"]["their.own"] == {"a": [1]}
    assert "their.event" in [event["name"] for event in again["events"]]


def test_changing_a_document_changes_no_span():
    """Nothing is shared between a document and the spans it was made of."""
    run = _run(metadata={"nested": {"list": [1]}})
    ltf.fold([run])["metadata"]["nested"]["list"].append(2)
    assert run.metadata == {"nested": {"list": [1]}}


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    (
        (b"{", "not JSON: ends in the middle", 1),
        (b'{"a": NaN}', "not JSON: NaN is no JSON number", None),
        (b"[]", "a JSON object is needed, this is list", None),
        (b"null", "a JSON object is needed, this is null", None),
        (b'{"\xc3\xa4": "\xff"}', "not UTF-8", 8),
        (b'{"\xc3\xa4": 01}', "not JSON: expecting ',' delimiter", 8),
        (b'{"a":' + b"9" * 5000 + b"}", "a number too long", None),
        (b"\xef\xbb\xbf{}", "not JSON: unexpected UTF-8 BOM", 0),
        (b"[" * 100_000, "nested too deeply", None),
        (b"", "not JSON: ends in the middle", 0),
    ),
)
def test_bytes_that_are_no_document_are_refused(data, message, offset):
    """The error says what is wrong and at which byte."""
    with pytest.raises(DocumentError, match=message) as caught:
        ltf.decode(data)
    assert caught.value.offset == offset


def test_one_bad_value_cuts_nothing_else():
    """Of two thousand spans all are there, and only the value is changed."""
    document = ltf.fold([_run()])
    span = document["spans"][0]
    document["spans"] = [span] * 2000
    document["metadata"] = {"bad": "\ud800", "good": 1}
    again = ltf.decode(ltf.encode(document))
    assert again["spans"] == document["spans"]
    assert again["metadata"] == {"bad": "\ufffd", "good": 1}


def test_an_escaped_lone_surrogate_is_read():
    """It is JSON by the letter, and the predecessor takes it."""
    assert ltf.decode(b'{"a":"\\ud800"}') == {"a": "\ud800"}


@pytest.mark.parametrize(
    "value", (float("nan"), float("inf"), 2**70, "\ud800", {1: 2}, object())
)
def test_what_json_cannot_carry_is_made_plain(value):
    """Encoding never fails and never writes a bare NaN."""
    json.loads(ltf.encode({"metadata": {"value": value}}), parse_constant=pytest.fail)
