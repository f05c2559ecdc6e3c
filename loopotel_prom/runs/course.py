"""The course of a run: its iterations in order, and what happened in them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from msgspec import Struct

from loopotel_prom import semconv
from loopotel_prom.plain import count, number, text
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.span import Event, IterationSpan, RunSpan, Span, WorkerSpan

# What every iteration reports anyway, and is told of it otherwise.
_USUAL = {
    semconv.ITERATION_START,
    semconv.ITERATION_END,
    semconv.WORKER_COMPLETE,
    semconv.EVALUATOR_COMPLETE,
}
_NAMES = 8
_LIMIT = 256


class Happening(Struct, gc=False):
    """An event worth telling: a failure, a violation, a call for a human."""

    time: str
    iteration: int | None
    name: str
    code: str = ""


class Step(Struct, gc=False, kw_only=True):
    """One iteration as it is shown; None for what was not reported."""

    number: int | None = None
    started_at: str = ""
    goal_score: float | None = None
    goal_target: float | None = None
    effectiveness: float | None = None
    les: float | None = None
    tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: float | None = None
    workers: tuple[str, ...] = ()
    evaluators: tuple[str, ...] = ()
    error: str = ""
    events: tuple[str, ...] = ()


def course_of(spans: Iterable[Any]) -> Iterator[Step | Happening]:
    """
    Read the course from a document's spans, whatever shape they have.

    What happened in an iteration comes after it; what its workers and evaluators
    report, after that.
    """
    latest = None
    for span in spans:
        if not isinstance(span, Mapping):
            continue
        attributes = _mapping(span.get("attributes"))
        events = [e for e in _list(span.get("events")) if isinstance(e, Mapping)]
        if span.get("kind") == "iteration":
            latest = count(attributes.get(semconv.ITERATION))
            yield _step(span, attributes, events)
        number_of = None if span.get("kind") == "loop" else latest
        for event in events:
            if _is_unusual(event):
                yield _happening(event, number_of)


def course_of_open(spans: Iterable[Span]) -> Iterator[Step | Happening]:
    """Read the course from the spans of a journal, in the order of their ends."""
    inside: list[Span] = []
    for span in spans:
        if isinstance(span, IterationSpan):
            inside = [s for s in inside if s.parent_span_id == span.span_id]
            yield _typed_step(span, inside)
            for one in (span, *inside):
                yield from _typed_happenings(one.events, span.iteration)
            inside = []
        elif isinstance(span, RunSpan):
            yield from _typed_happenings(span.events, None)
        else:
            inside.append(span)


def _step(
    span: Mapping[str, Any],
    attributes: Mapping[str, Any],
    events: list[Mapping[str, Any]],
) -> Step:
    return Step(
        number=count(attributes.get(semconv.ITERATION)),
        started_at=_text(span.get("start_time")),
        goal_score=number(attributes.get(semconv.GOAL_SCORE)),
        goal_target=number(attributes.get(semconv.GOAL_TARGET)),
        effectiveness=number(attributes.get(semconv.LES_EFFECTIVENESS)),
        les=number(attributes.get(semconv.LES_CUMULATIVE)),
        tokens=count(attributes.get(semconv.TOKENS_DELTA)),
        cost_usd=number(attributes.get(semconv.COST_USD)),
        latency_ms=number(attributes.get(semconv.LATENCY_MS)),
        workers=_who(attributes, events, semconv.WORKER_COMPLETE, semconv.WORKER_ID),
        evaluators=_who(
            attributes, events, semconv.EVALUATOR_COMPLETE, semconv.EVALUATOR_ID
        ),
        error=_text(attributes.get(semconv.ERROR_TYPE)),
        events=tuple(
            _text(event.get("name")) for event in events if _is_unusual(event)
        )[:_NAMES],
    )


def _who(
    attributes: Mapping[str, Any],
    events: list[Mapping[str, Any]],
    name: str,
    key: str,
) -> tuple[str, ...]:
    """Name who took part: as the iteration says, and as its events do."""
    told = (_mapping(e.get("attributes")) for e in events if e.get("name") == name)
    return _unique(_text(one.get(key)) for one in chain((attributes,), told))


def _is_unusual(event: Mapping[str, Any]) -> bool:
    # As text: what is no text may not even have a hash.
    return _text(event.get("name")) not in _USUAL


def _happening(event: Mapping[str, Any], iteration: int | None) -> Happening:
    attributes = _mapping(event.get("attributes"))
    return Happening(
        _text(event.get("timestamp")),
        iteration,
        _text(event.get("name")),
        _text(attributes.get(semconv.FAILURE_CODE)),
    )


def _typed_step(span: IterationSpan, inside: list[Span]) -> Step:
    workers = [s.worker_id for s in inside if isinstance(s, WorkerSpan)]
    others = [getattr(s, "evaluator_id", None) for s in inside]
    return Step(
        number=span.iteration,
        started_at=format_time(span.start_ns),
        goal_score=span.goal_score,
        goal_target=span.goal_target,
        effectiveness=span.effectiveness,
        les=span.les_cumulative,
        tokens=span.tokens_delta,
        cost_usd=span.cost_usd,
        latency_ms=span.latency_ms,
        workers=_unique(_text(one) for one in (span.worker_id, *workers)),
        evaluators=_unique(_text(one) for one in (span.evaluator_id, *others)),
        error=_text(span.error_type),
        events=tuple(event.name for event in span.events)[:_NAMES],
    )


def _typed_happenings(
    events: Iterable[Event], iteration: int | None
) -> Iterator[Happening]:
    for event in events:
        code = _text(event.attributes.get(semconv.FAILURE_CODE))
        yield Happening(format_time(event.time_ns), iteration, event.name, code)


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))[:_NAMES]


def _text(value: object) -> str:
    return "" if value is None else text(value, limit=_LIMIT)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
