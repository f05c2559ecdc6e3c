"""LoopNet trajectories from LTF documents, as the predecessor gives them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from loopotel_prom import semconv
from loopotel_prom.plain import count, number


def trajectory_from_trace(trace: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Give the steps of a run as ``ln/record-v1`` has them, by iteration.

    A cost or latency that the trace does not know is left out of its step: the
    record format has no null, and unknown is not 0.
    """
    found = steps(_list(trace.get("spans")))
    return sorted(found, key=lambda step: step["iteration"])


def steps(spans: Iterable[object]) -> Iterator[dict[str, Any]]:
    """
    Give the steps of a run one by one, in the order of its spans.

    Takes the raw spans of a document; one of another kind, or no object, is
    passed over. An iteration without a number has that of its position.
    """
    position = 0
    for span in spans:
        if isinstance(span, Mapping) and span.get("kind") == "iteration":
            position += 1
            yield _step(span, position)


def _step(span: Mapping[str, Any], position: int) -> dict[str, Any]:
    attributes = _attributes(span)
    iteration = count(attributes.get(semconv.ITERATION))
    score = number(attributes.get(semconv.GOAL_SCORE)) or 0.0
    step: dict[str, Any] = {
        "iteration": position if iteration is None else iteration,
        "goal_score": score,
        "primary_quality": score,
    }
    cost = number(attributes.get(semconv.COST_USD))
    if cost is not None:
        step["cost_usd"] = cost
    latency_ms = number(attributes.get(semconv.LATENCY_MS))
    if latency_ms is not None:
        step["latency_seconds"] = latency_ms / 1000.0
    tokens = count(attributes.get(semconv.TOKENS_DELTA))
    if tokens is not None:
        step["tokens"] = tokens
    events = [e for e in _list(span.get("events")) if isinstance(e, Mapping)]
    names = [event.get("name") for event in events]
    step["failure_codes"] = _failure_codes(events)
    step["safety_events"] = names.count(semconv.SAFETY_VIOLATION)
    step["human_intervention"] = semconv.HUMAN_INTERVENTION in names
    return step


def _failure_codes(events: list[Mapping[str, Any]]) -> list[str]:
    """List the codes of failure and safety events, each once, in their order."""
    codes = (
        _attributes(event).get(semconv.FAILURE_CODE)
        for event in events
        if event.get("name") in (semconv.FAILURE, semconv.SAFETY_VIOLATION)
    )
    return list(dict.fromkeys(code for code in codes if isinstance(code, str)))


def _attributes(item: Mapping[str, Any]) -> Mapping[str, Any]:
    found = item.get("attributes")
    return found if isinstance(found, Mapping) else {}


def _list(value: object) -> list[Any]:
    """Give an array as it is; an empty one for what is none, as in a bad document."""
    return [*value] if isinstance(value, list | tuple) else []
