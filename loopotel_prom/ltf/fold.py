"""Spans to document: the one way in which an LTF document comes to be."""

from collections.abc import Iterable
from typing import Any

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf.codec import Document
from loopotel_prom.ltf.shape import child_shapes, copy_mapping, run_shape
from loopotel_prom.ltf.wire import span_dict
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.span import ChildSpan, IterationSpan, RunSpan, Span


def fold(spans: Iterable[Span]) -> Document:
    """
    Make the document of one run from its spans.

    The spans may come in any order. Of several run spans (a start and an end)
    the one that has ended counts. A run that has not ended yet ends, in the
    document, with its latest span. Iterations stand in the order given, each
    followed by its children. The document shares nothing with the spans.

    Raises:
        DocumentError: There is no run span.
    """
    run: RunSpan | None = None
    leaves: list[ChildSpan] = []
    iterations: list[ChildSpan] = []
    for span in spans:
        if isinstance(span, IterationSpan):
            iterations.append(span)
        elif not isinstance(span, RunSpan):
            leaves.append(span)
        elif run is None or span.end_ns is not None:
            run = span
    if run is None:
        raise DocumentError("these spans hold no run span (kind 'loop')")
    # Children before their parents, as `child_shapes` needs them.
    return _document(run, leaves + iterations)


def _document(run: RunSpan, children: list[ChildSpan]) -> Document:
    ended_ns = run.end_ns
    if ended_ns is None:
        ended_ns = max((span.end_ns for span in children), default=run.start_ns)
    return {
        **opening(run, ended_ns),
        "spans": [
            span_dict(run_shape(run, ended_ns)),
            *(span_dict(shape) for shape in child_shapes(run, children)),
        ],
        "metadata": copy_mapping(run.metadata),
    }


def opening(run: RunSpan, ended_ns: int) -> dict[str, Any]:
    """Give what stands in a document before its spans."""
    return {
        "schema_version": semconv.SCHEMA_VERSION,
        "trace_id": run.trace_id,
        "loop_name": run.loop_name,
        **_present(env_id=run.env_id, task_id=run.task_id),
        "started_at": format_time(run.start_ns),
        "ended_at": format_time(ended_ns),
        "outcome": run.outcome,
        "termination_reason": run.termination_reason,
        "spec_pins": dict(semconv.SPEC_PINS),
    }


def _present(**values: str | None) -> dict[str, str]:
    """Keep what is there: the format has no null for an absent id."""
    return {key: value for key, value in values.items() if value is not None}
