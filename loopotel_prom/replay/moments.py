"""Moments: what happened in a run, each with its time."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from loopotel_prom import ltf
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.archive.sealed_run import SealedRun
from loopotel_prom.span import EvaluatorSpan, IterationSpan, RunSpan, WorkerSpan

# What comes first of what happened at the same time.
START: Final = 0
INSIDE: Final = 1
END: Final = 2


class Moment(NamedTuple):
    """
    Something that happened: a run started, or a span ended.

    Moments sort by their time; no two of an archive are equal before the span.

    Attributes:
        time_ns: When, Unix nanoseconds.
        rank: `START`, `INSIDE` or `END` of its run.
        run: The number of its document.
        place: Its place in that.
        span: The span; of a run that starts, without its end.
    """

    time_ns: int
    rank: int
    run: int
    place: int
    span: RunSpan | IterationSpan | WorkerSpan | EvaluatorSpan


def moments_of(line: Line | LongLine, number: int) -> Iterator[Moment]:
    """
    Read the moments of a run, in the order of its document.

    A time outside of the run is moved to its start or end; what stands in an
    iteration has not ended after it.

    Raises:
        DocumentError: It is no trace; perhaps only after some moments.
    """
    sealed = SealedRun(line)
    run = sealed.run
    begin_ns = run.start_ns
    end_ns = begin_ns if run.end_ns is None else max(begin_ns, run.end_ns)
    yield Moment(begin_ns, START, number, 0, _beginning(run))
    place = 0
    for group in sealed.groups():
        ends: dict[str | None, int] = {
            span.span_id: min(span.end_ns, end_ns)
            for span in group
            if isinstance(span, IterationSpan)
        }
        for span in group:
            place += 1
            latest = ends.get(span.parent_span_id, end_ns)
            time_ns = max(begin_ns, min(span.end_ns, latest))
            yield Moment(time_ns, INSIDE, number, place, span)
    ltf.check_version(sealed.schema_version)
    yield Moment(end_ns, END, number, place + 1, run)


def _beginning(run: RunSpan) -> RunSpan:
    """Give what was known of a run when it started."""
    return replace(
        run,
        end_ns=None,
        outcome="unknown",
        termination_reason="",
        tokens_total=0,
        error_type=None,
        events=(),
    )
