"""LoopNet records: valid whatever the run, and true to it."""

import copy
import json
import sys
from collections.abc import Callable
from itertools import pairwise
from math import fsum
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.errors import ConfigError, DocumentError, MissingExtraError
from loopotel_prom.exporter.loopnet import (
    RecordOptions,
    load_record_schema,
    record_from_line,
    record_from_trace,
    redact,
)
from loopotel_prom.exporter.loopnet.record import split_of
from loopotel_prom.exporter.loopnet.score import WEIGHTS, observed_les
from loopotel_prom.exporter.loopnet.terms import FAILURES, PATTERNS
from loopotel_prom.termination import REASONS

FULL: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
OPTIONS = RecordOptions(objective="repair the code at hand")
VALIDATOR = jsonschema.Draft202012Validator(load_record_schema())

_ratio = st.floats(0, 1).map(lambda value: round(value, 4))
_cost = st.floats(0, 10).map(lambda value: round(value, 6))
_code = st.sampled_from((*FAILURES, "fail.of_my_own"))
_event = st.one_of(
    _code.map(lambda code: ("loop.failure", {"loop.failure.code": code})),
    _code.map(lambda code: ("loop.safety.violation", {"loop.failure.code": code})),
    st.sampled_from((("loop.human_intervention", {}), ("loop.iteration.end", {}))),
)


@st.composite
def _iterations(draw: st.DrawFn) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "loop.goal_score": draw(_ratio),
        "loop.cost_usd": draw(_cost),
        "loop.latency_ms": draw(st.floats(0, 1e6)),
        "loop.tokens_delta": draw(st.integers(0, 10**6)),
    }
    if draw(st.booleans()):
        del attributes[draw(st.sampled_from(("loop.goal_score", "loop.tokens_delta")))]
    return _iteration(attributes, draw(st.lists(_event, max_size=3)))


def _iteration(attributes: dict[str, Any], events: Any = ()) -> dict[str, Any]:
    return {
        "span_id": "00f067aa0ba902b8",
        "name": "loop.iteration",
        "kind": "iteration",
        "start_time": "2026-03-02T09:00:00.000000Z",
        "end_time": "2026-03-02T09:00:02.500000Z",
        "attributes": attributes,
        "events": [
            {"name": name, "timestamp": "2026-03-02T09:00:01Z", "attributes": more}
            for name, more in events
        ],
    }


def _document(iterations: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Number the iterations, and put them under the root of the example."""
    spans = copy.deepcopy([FULL["spans"][0], *iterations])
    for position, span in enumerate(spans[1:], start=1):
        span["attributes"].setdefault("loop.iteration", position)
    return copy.deepcopy(FULL) | {"spans": spans} | changes


def _simple(scores: list[float], **changes: Any) -> dict[str, Any]:
    told = {"loop.cost_usd": 0.01, "loop.latency_ms": 1500.0, "loop.tokens_delta": 7}
    spans = [_iteration({"loop.goal_score": score, **told}) for score in scores]
    return _document(spans, **changes)


_documents = st.builds(
    _document,
    st.lists(_iterations(), min_size=1, max_size=70),
    outcome=st.sampled_from(("success", "failure", "partial", "unknown")),
    termination_reason=st.sampled_from((*REASONS, "", "as it pleased")),
    loop_name=st.text(min_size=3, max_size=64).map(lambda name: f"é{name}a1"),
    metadata=st.fixed_dictionaries(
        {},
        optional={
            "objective": st.text(max_size=30),
            "patterns": st.lists(st.sampled_from(PATTERNS), max_size=3),
            "loop_spec": st.dictionaries(
                st.text(max_size=5), st.integers(), max_size=2
            ),
            "max_iterations_budget": st.integers(-1, 100),
            "worker_count": st.integers(0, 5),
        },
    ),
)


def _line(document: dict[str, Any]) -> Line:
    return Line("t.jsonl", 1, 0, ltf.encode(document))


@given(document=_documents)
@settings(max_examples=150, deadline=None)
def test_every_record_is_valid(document: dict[str, Any]) -> None:
    """The authority on schemas has nothing against it."""
    document["spans"][1]["attributes"]["loop.goal_score"] = 0.5
    record = record_from_trace(document, OPTIONS)
    assert list(VALIDATOR.iter_errors(record)) == []


@given(document=_documents)
@settings(max_examples=60, deadline=None)
def test_each_way_to_read_a_document_gives_the_same_record(
    document: dict[str, Any],
) -> None:
    """As an object, as a line, as a long line; and nothing is changed in it."""
    document["spans"][1]["attributes"]["loop.goal_score"] = 0.5
    before = copy.deepcopy(document)
    record = record_from_trace(document, OPTIONS)
    assert document == before
    line = _line(document)
    assert record_from_line(line, OPTIONS) == record
    assert record_from_trace(DocumentStream(line), OPTIONS) == record
    long_line = LongLine("t.jsonl", 1, 0, iter((line.data[:99], line.data[99:])))
    assert record_from_line(long_line, OPTIONS) == record


@given(document=_documents)
@settings(max_examples=100, deadline=None)
def test_putting_iterations_together_keeps_totals_and_ends(
    document: dict[str, Any],
) -> None:
    """Tokens, cost, latency, violations; the first score and the last."""
    document["spans"][1]["attributes"]["loop.goal_score"] = 0.5
    steps = record_from_trace(document, OPTIONS)["trajectory"]
    spans = document["spans"][1:]
    told = [span["attributes"] for span in spans]
    assert len(steps) == min(len(told), 50)
    for name, key, unit in (
        ("cost_usd", "loop.cost_usd", 1),
        ("latency_seconds", "loop.latency_ms", 1000),
        ("tokens", "loop.tokens_delta", 1),
    ):
        total = fsum(one.get(key, 0) for one in told) / unit
        assert fsum(s.get(name, 0) for s in steps) == pytest.approx(total, abs=1e-6)
    events = [event["name"] for span in spans for event in span["events"]]
    violations = events.count("loop.safety.violation")
    assert sum(step["safety_events"] for step in steps) == violations
    known = [one["loop.goal_score"] for one in told if "loop.goal_score" in one]
    ends = (steps[0]["goal_score"], steps[-1]["goal_score"])
    assert ends == (known[0], known[-1])


@pytest.mark.parametrize("length", (49, 50, 51, 99, 100, 1000))
def test_a_step_has_the_number_of_its_last_iteration(length: int) -> None:
    """In order, the first alone, the others evenly shared."""
    record = record_from_trace(_simple([0.5] * length), OPTIONS)
    numbers = [step["iteration"] for step in record["trajectory"]]
    assert (numbers[0], numbers[-1], len(numbers)) == (1, length, min(length, 50))
    sizes = {after - before for before, after in pairwise(numbers)}
    assert max(sizes) - min(sizes) <= 1
    assert record["metadata"]["iteration_count"] == length


def _naive_les(
    steps: list[dict[str, Any]], target: float, outcome: str, mode: str | None
) -> tuple[float, dict[str, float]]:
    """Spell the corpus' formulas out, one after the other."""

    def within(value: float) -> float:
        return 0.0 if value < 0 else 1.0 if value > 1 else value

    n = len(steps)
    g0, g = steps[0]["goal_score"], steps[-1]["goal_score"]
    e = within(g / max(target, 0.01))
    if outcome == "failure" and g < target:
        e *= 0.6
    m = sorted(step["latency_seconds"] for step in steps)[n // 2]
    speed = 1 / (1 + m / 30)
    if any(step["latency_seconds"] > 3 * m for step in steps):
        speed *= 0.85
    spent = fsum(step["cost_usd"] for step in steps)
    cost = within(2 * (g - g0) / spent) if spent > 0 and g > g0 else 0.0
    falls = 0
    for i in range(1, n):
        if steps[i]["goal_score"] < steps[i - 1]["goal_score"]:
            falls += 1
    events = sum(step["safety_events"] for step in steps)
    safety = 0.0 if mode == "fail.safety_bypass" else 1 - min(0.2 * events, 0.8)
    human = len([step for step in steps if step["human_intervention"]])
    found = {
        "effectiveness": e,
        "speed": speed,
        "cost": cost,
        "robustness": within(0.75 - 0.05 * falls),
        "scalability": within(0.55 + 0.05 * min(n, 6)),
        "safety": safety,
        "adaptability": within(0.45 + 0.1 * (g - g0)),
        "autonomy": 1 - min(human / n, 0.6),
    }
    if n < 2 and outcome == "failure":
        for name in found:
            found[name] *= 1 if name == "safety" else 0.5
    found = {name: round(value, 4) for name, value in found.items()}
    weights = (0.20, 0.15, 0.12, 0.13, 0.10, 0.12, 0.10, 0.08)
    return sum(w * v for w, v in zip(weights, found.values(), strict=True)), found


_steps = st.fixed_dictionaries(
    {
        "goal_score": _ratio,
        "cost_usd": _cost,
        "latency_seconds": st.floats(0, 1000),
        "safety_events": st.integers(0, 3),
        "human_intervention": st.booleans(),
    }
)


@given(
    steps=st.lists(_steps, min_size=1, max_size=50),
    target=_ratio,
    outcome=st.sampled_from(("success", "failure", "partial")),
    mode=st.sampled_from((None, *FAILURES)),
    is_partial=st.booleans(),
)
def test_les_is_that_of_the_formulas(
    steps: list[dict[str, Any]],
    target: float,
    outcome: str,
    mode: str | None,
    is_partial: bool,  # noqa: FBT001 - drawn by name
) -> None:
    """All categories, their composite, its display."""
    les = observed_les(
        steps,
        goal_target=target,
        outcome=outcome,
        failure_mode=mode,
        is_partial=is_partial,
    )
    composite, categories = _naive_les(steps, target, outcome, mode)
    assert les["categories"] == pytest.approx(categories, abs=1e-9)
    assert les["les_normalized"] == pytest.approx(composite, abs=5.1e-5)
    assert les["les_display"] == round(100 * les["les_normalized"], 1)
    assert les["partial"] is is_partial


def test_weights_sum_up_to_one() -> None:
    """No category is forgotten."""
    assert fsum(WEIGHTS.values()) == pytest.approx(1)


def test_the_split_is_stable() -> None:
    """It follows from the id alone, about 80 to 10 to 10."""
    splits = [split_of(f"{n:08x}-0000-4000-8000-000000000000") for n in range(10_000)]
    assert splits[:6] == [
        split_of(f"{n:08x}-0000-4000-8000-000000000000") for n in range(6)
    ]
    assert splits.count("train") == pytest.approx(8000, rel=0.03)
    assert splits.count("val") == pytest.approx(1000, rel=0.1)


def test_the_id_is_that_of_the_trace() -> None:
    """So a second export has it again."""
    record = record_from_trace(FULL, OPTIONS)
    assert record["record_id"] == "ln-" + FULL["trace_id"].removeprefix("ltf-")


@pytest.mark.parametrize(
    ("name", "slug"),
    (
        ("Code Repair_v2", "code-repair-v2"),
        ("2nd loop", "loop-2nd-loop"),
        ("a!!", "loop-a"),
        ("x" * 60 + " yyyy", "x" * 60 + "-yyy"),
        ("x" * 63 + " y", "x" * 63),
    ),
)
def test_a_loops_name_becomes_a_slug(name: str, slug: str) -> None:
    """As the format has it."""
    record = record_from_trace(FULL | {"loop_name": name}, OPTIONS)
    assert record["loop_name"] == slug


@pytest.mark.parametrize(
    ("scores", "outcome", "words", "modes"),
    (
        ([0.1, 0.2], "failure", "safety violation", ["fail.safety_bypass"]),
        ([0.1, 0.2], "failure", "evaluator_error", ["fail.evaluator_drift"]),
        ([0.1, 0.9], "failure", "error", ["fail.state_corruption"]),
        ([0.1, 0.9], "failure", "timeout", ["fail.false_fail"]),
        ([0.3, 0.2, 0.3, 0.2], "failure", "timeout", ["fail.oscillation"]),
        ([0.1, 0.2], "failure", "max_iterations (2)", ["fail.resource_bleed"]),
        ([0.1, 0.2], "failure", "goal_met", ["fail.false_pass"]),
        ([0.1, 0.2], "partial", "human_stop", ["fail.tau_omission"]),
        ([0.1, 0.1], "failure", "stalled", ["fail.meta_instability"]),
        ([0.1, 0.9], "success", "goal_met", None),
    ),
)
def test_a_failure_mode_is_inferred_by_the_rules(
    scores: list[float], outcome: str, words: str, modes: list[str] | None
) -> None:
    """Where no code was recorded."""
    document = _simple(scores, outcome=outcome, termination_reason=words)
    record = record_from_trace(document, OPTIONS)
    assert record.get("failure_modes") == modes
    assert record.get("failure_mode") == (modes[0] if modes else None)


def test_recorded_codes_come_before_rules() -> None:
    """The most frequent first, but a bypass of safety before all; others as tags."""
    document = _simple([0.1, 0.2], outcome="failure", termination_reason="timeout")
    codes = ("fail.open_loop", "fail.oscillation", "fail.my_own", "fail.safety_bypass")
    for span, some in zip(document["spans"][1:], (codes, codes[1:2]), strict=True):
        events = [("loop.failure", {"loop.failure.code": code}) for code in some]
        span["events"] = _iteration({}, events)["events"]
    record = record_from_trace(document, OPTIONS)
    assert record["failure_modes"] == [codes[3], codes[1], codes[0]]
    assert record["metadata"]["tags"] == ["fail.my_own"]


@pytest.mark.parametrize(
    ("scores", "words", "outcome", "reason"),
    (
        ([0.1, 0.9], "", "success", "goal_met"),
        ([0.1, 0.9], "max_iterations", "success", "max_iterations"),
        ([0.1, 0.5], "budget gone", "partial", "budget_exhausted"),
        ([0.5, 0.1], "timeout", "failure", "timeout"),
        ([0.1, 0.5], "", "failure", "max_iterations"),
        ([0.1, 0.9], "error", "failure", "error"),
    ),
)
def test_an_unknown_outcome_is_labelled(
    scores: list[float], words: str, outcome: str, reason: str
) -> None:
    """By what LoopNet calls success, failure and partial."""
    document = _simple(scores, outcome="unknown", termination_reason=words)
    if reason == "max_iterations":
        document["metadata"] = {"max_iterations_budget": 2}
    record = record_from_trace(document, OPTIONS)
    expected = "partial" if (words, reason) == ("", "max_iterations") else outcome
    assert (record["outcome"], record["termination_reason"]) == (expected, reason)


def test_metadata_comes_before_options() -> None:
    """It is about this run, they are about all."""
    said = {
        "objective": "what this run was for",
        "patterns": "debate-loop",
        "loop_spec": {"version": "1"},
        "max_iterations_budget": 9,
        "worker_count": 4,
    }
    options = RecordOptions(
        objective="what others are for",
        patterns=("planning-loop",),
        loop_spec={"version": "2"},
        max_iterations_budget=7,
        worker_count=2,
        evaluator_count=5,
    )
    record = record_from_trace(FULL | {"metadata": said}, options)
    assert record["objective"] == said["objective"]
    assert record["patterns"] == ["debate-loop"]
    assert record["loop_spec"] == {"version": "1"}
    counts = ("max_iterations_budget", "worker_count", "evaluator_count")
    assert [record["metadata"][name] for name in counts] == [9, 4, 5]


def test_an_unfinished_iteration_keeps_the_latest_score() -> None:
    """Unknown is not 0; and its latency is that of its span."""
    document = _simple([0.4, 0.5])
    for key in ("loop.goal_score", "loop.latency_ms"):
        del document["spans"][2]["attributes"][key]
    last = record_from_trace(document, OPTIONS)["trajectory"][-1]
    assert (last["goal_score"], last["latency_seconds"]) == (0.4, 2.5)


Change = Callable[[dict[str, Any]], object]


def _set(key: str, value: object) -> Change:
    return lambda document: document.update({key: value})


def _attribute(key: str, value: object) -> Change:
    return lambda document: document["spans"][1]["attributes"].update({key: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    (
        (_set("schema_version", "ltf/9"), "its schema_version is 'ltf/9'"),
        (_set("trace_id", "ltf-1"), "its trace_id is none: 'ltf-1'"),
        (_set("ended_at", "yesterday"), "yesterday"),
        (_set("spans", []), "it has no iteration"),
        (_set("spans", None), "it has no iteration"),
        (_set("loop_name", "\u00e9\u00e9\u00e9"), "its loop_name has no letter"),
        (_set("outcome", "won"), "$.outcome: 'won' is not one of"),
        (_set("metadata", {"patterns": ["x"]}), "metadata.patterns: 'x' is no pattern"),
        (_attribute("loop.cost_usd", None), "the cost of iteration 1 is not known"),
        (_attribute("loop.cost_usd", -1), "the cost_usd of iteration 1 is -1"),
        (_attribute("loop.latency_ms", -3e4), "the latency_seconds of iteration 1"),
        (_attribute("loop.cost_usd", 1e308), "the cost_usd of iteration 1 is 1e+308"),
        (_attribute("loop.tokens_delta", 2**62), "the tokens of iteration 1"),
        (_attribute("loop.goal_score", 1.5), "the goal_score of iteration 1 is 1.5"),
        (_attribute("loop.goal_score", "high"), "no iteration has a goal score"),
        (_attribute("loop.iteration", 0), "$.trajectory[0].iteration"),
    ),
)
def test_what_cannot_be_a_record_is_rejected(change: Change, reason: str) -> None:
    """With the reason, from an object as from a line."""
    document = _simple([0.5])
    change(document)
    for make in (record_from_trace, lambda d, o: record_from_line(_line(d), o)):
        with pytest.raises(DocumentError) as caught:
            make(document, OPTIONS)
        assert reason in str(caught.value)


@pytest.mark.parametrize(
    "change",
    (
        _set("metadata", [1]),
        _set("metadata", {"patterns": {"a": 1}, "max_iterations_budget": "5"}),
        _set("metadata", {"loop_spec": {"a": "\ud800", "b": 10**30}}),
        _set("outcome", 5),
        _set("termination_reason", None),
        _attribute("loop.iteration", 2**70),
        _attribute("loop.worker.id", {"a": 1}),
        lambda document: document["spans"].extend((1, None)),
        lambda document: document["spans"][1].update(events=[1, {"name": 5}]),
    ),
)
def test_a_value_of_another_type_counts_as_not_said(change: Change) -> None:
    """What is left makes a record."""
    document = _simple([0.5])
    change(document)
    line = Line("t.jsonl", 1, 0, json.dumps(document).encode())
    record = json.loads(ltf.encode(record_from_line(line, OPTIONS)))
    assert list(VALIDATOR.iter_errors(record)) == []


def test_a_run_without_an_objective_is_rejected() -> None:
    """None is made up for it."""
    with pytest.raises(DocumentError, match="no objective"):
        record_from_trace(FULL)


@pytest.mark.parametrize("wrong", ({"objective": "short"}, {"patterns": ("no-loop",)}))
def test_options_that_cannot_work_are_refused(wrong: dict[str, Any]) -> None:
    """At once, not at each run."""
    with pytest.raises(ConfigError):
        RecordOptions(**wrong)


def test_each_loaded_schema_is_its_own() -> None:
    """And follows the draft that it names."""
    load_record_schema().clear()
    jsonschema.Draft202012Validator.check_schema(load_record_schema())


def test_redaction_without_a_scanner_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It never exports what it could not look at."""
    monkeypatch.setattr(redact, "scanner", redact.scanner.__wrapped__)
    for name in (*sys.modules, "detect_secrets"):
        if name.split(".")[0] == "detect_secrets":
            monkeypatch.setitem(sys.modules, name, None)
    options = RecordOptions(
        source="production_redacted", objective="repair the code at hand"
    )
    with pytest.raises(MissingExtraError, match=r"install loopotel-prom\[redact\]"):
        record_from_trace(FULL, options)


def test_full_redaction_needs_no_scanner() -> None:
    """There is nothing left to scan."""
    options = RecordOptions(objective="repair the code at hand", redact="full")
    record = record_from_trace(FULL, options)
    assert record["objective"] == redact.OBJECTIVE
    assert list(VALIDATOR.iter_errors(record)) == []
