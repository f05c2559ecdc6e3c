"""Runs under way: typed spans to OpenTelemetry's, as their documents will have them."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from msgspec import Struct
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, TraceFlags

from loopotel_prom.ltf.fold import opening
from loopotel_prom.ltf.shape import child_shapes, copy_mapping, run_shape
from loopotel_prom.ltf.wire import span_dict
from loopotel_prom.otlp.translation import Translation
from loopotel_prom.span import ChildSpan, EvaluatorSpan, RunSpan, Span, WorkerSpan

# Of iterations that never come, for their place in the queue was taken.
_MOST_ITERATIONS = 1000


class LiveRun:
    """
    A run under way, and what of it waits to be told with something else.

    Args:
        span: The run as it started.
        resource: What its spans are of.
        active: The OpenTelemetry span in which it started.

    Raises:
        DocumentError: The trace id is none that OpenTelemetry could have.
    """

    __slots__ = ("_active", "_span", "_translation", "_waiting")

    def __init__(
        self, span: RunSpan, resource: Resource, active: SpanContext | None
    ) -> None:
        self._span = span
        self._active = active
        self._translation = Translation(
            span.trace_id, resource, goal_target=span.goal_target
        )
        # Workers and evaluators by the iteration, which tells of them, too.
        self._waiting: dict[str | None, list[WorkerSpan | EvaluatorSpan]] = {}

    def translate(self, span: Span) -> ReadableSpan | None:
        """
        Translate a span that has ended; None if it cannot be expressed.

        To be called in the order in which they ended, by one thread at a time.
        """
        if isinstance(span, RunSpan):
            return self._root(span)
        inside: list[ChildSpan] = []
        if isinstance(span, WorkerSpan | EvaluatorSpan):
            self._keep(span)
        else:
            inside += self._waiting.pop(span.span_id, ())
        shape = next(child_shapes(self._span, [*inside, span]))
        return self._translation.child(span_dict(shape))

    def _root(self, span: RunSpan) -> ReadableSpan | None:
        ended_ns = span.start_ns if span.end_ns is None else span.end_ns
        document = {
            **opening(span, ended_ns),
            "metadata": copy_mapping(span.metadata),
        }
        piece = span_dict(run_shape(span, ended_ns))
        return self._translation.root(piece, document, self._active)

    def _keep(self, span: WorkerSpan | EvaluatorSpan) -> None:
        self._waiting.setdefault(span.parent_span_id, []).append(span)
        if len(self._waiting) > _MOST_ITERATIONS:
            del self._waiting[next(iter(self._waiting))]


class Queued(Struct, frozen=True, gc=False):
    """
    A span in the SDK's queue, not translated yet.

    Attributes:
        context: All that the SDK asks of it: whether it is sampled.
        run: The run that it is of.
        span: The span.
    """

    context: ClassVar = SpanContext(
        1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
    run: LiveRun
    span: Span


def translate_queued(
    batch: Sequence[Queued], *, on_failure: Callable[[Exception], None]
) -> list[ReadableSpan]:
    """Translate what was queued; what fails is told, and costs no neighbour."""
    spans = []
    for queued in batch:
        try:
            span = queued.run.translate(queued.span)
        except Exception as error:  # noqa: BLE001 - isolation is the purpose
            on_failure(error)
            continue
        if span is not None:
            spans.append(span)
    return spans
