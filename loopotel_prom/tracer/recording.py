"""The recording: the spans of one run, as they come in."""

import sys
import threading
from typing import TYPE_CHECKING, Any

from loopotel_prom.les import RunningLes
from loopotel_prom.pipeline import Keeper, Pipeline
from loopotel_prom.span import ChildSpan, Event, IterationSpan, Span
from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.ids import IdSource
from loopotel_prom.tracer.values import Values

if TYPE_CHECKING:
    from loopotel_prom.tracer.step import Step

_TOO_MANY = 2**63
# Of a longer run the spans are had back from the pipeline's keeper.
_KEPT_SPANS = 1000
# For spans that nobody is to see.
NOWHERE = Pipeline()


class Recording:
    """
    Makes the spans of one run, keeps them, and passes them on to a pipeline.

    Takes checked values. Every method but `record` is called with `lock` held.

    Attributes:
        trace_id: The run's trace id.
        root_id: The span id of the run itself.
        goal_target: The target of iterations that have none of their own.
        start_ns: When the run started, Unix nanoseconds.
        tokens: Tokens of the iterations so far.
        open_steps: Iterations under way.
        ended: Whether the run is over. What comes later is kept for the document
            and counted, and no longer passed on.
        lock: Guards all of this. Re-entrant: a signal handler may report while a
            report is under way.
    """

    __slots__ = (
        "_acquire",
        "_are_with_keeper",
        "_keeper",
        "_kept",
        "_kept_most",
        "_latest_number",
        "_les",
        "_monotonic_ns",
        "_on_end",
        "_release",
        "_wall_offset_ns",
        "ended",
        "goal_target",
        "lock",
        "new_span_id",
        "open_steps",
        "root_id",
        "start_ns",
        "tokens",
        "trace_id",
        "values",
    )

    def __init__(
        self,
        *,
        trace_id: str,
        goal_target: float,
        clock: Clock,
        ids: IdSource,
        values: Values,
    ) -> None:
        self.trace_id = trace_id
        self.goal_target = goal_target
        self.values = values
        self.new_span_id = ids.span_id
        self.root_id = ids.span_id()
        # All that has ended, or what of it the keeper does not have.
        self._kept: list[ChildSpan] = []
        self._kept_most = sys.maxsize
        self._are_with_keeper = False
        self._keeper: Keeper | None = None
        self.open_steps: list[Step] = []
        self.tokens = 0
        self.ended = False
        self._les = RunningLes()
        self._latest_number = 0
        # The wall clock is read once: set back by a day, it moves no span.
        self._monotonic_ns = clock.monotonic_ns
        self._wall_offset_ns = clock.time_ns() - clock.monotonic_ns()
        self.start_ns = self.now_ns()
        self._on_end = NOWHERE.on_end
        self.renew_lock()

    def renew_lock(self) -> None:
        """Make a lock that nobody holds."""
        self.lock = threading.RLock()
        self._acquire = self.lock.acquire
        self._release = self.lock.release

    def pass_on_to(self, pipeline: Pipeline) -> None:
        """Pass spans on to this pipeline from now on."""
        self._on_end = pipeline.on_end
        self._keeper = pipeline.keeper
        if self._keeper is not None:
            self._kept_most = _KEPT_SPANS
        self.values.health = pipeline.health

    def spans(self) -> list[ChildSpan]:
        """Give what has ended so far, the run's own span aside."""
        if self._keeper is None or not self._are_with_keeper:
            return [*self._kept]
        try:
            return [*self._keeper.spans(self.trace_id), *self._kept]
        except Exception as error:  # noqa: BLE001 - a stranger's; half is better than none
            self.values.health.failed(type(self._keeper).__name__, error)
            return [*self._kept]

    def take(self, span: ChildSpan) -> None:
        """Keep a span that was made elsewhere, and pass it on."""
        self._kept.append(span)
        self.emit(span)
        if len(self._kept) > self._kept_most:
            self._leave_to_keeper()

    def _leave_to_keeper(self) -> None:
        """Let go of the spans, if they can be had back."""
        if self._keeper is None or self.ended:
            return
        if self._keeper.holds(self.trace_id):
            self._are_with_keeper = True
            self._kept_most = 0
            self._kept.clear()
        else:
            self._kept_most = 2 * len(self._kept)

    def now_ns(self) -> int:
        """Give the time, Unix nanoseconds, by a clock that never goes back."""
        return self._monotonic_ns() + self._wall_offset_ns

    def record(
        self,
        span_id: str,
        start_ns: int,
        end_ns: int,
        number: object,
        score: float | None,
        target: float,
        tokens: int | None,
        cost_usd: float | None,
        latency_ms: float | None,
        worker_id: str | None,
        evaluator_id: str | None,
        input_tokens: int | None,
        output_tokens: int | None,
        error_type: str | None,
        attributes: dict[str, Any],
        events: tuple[Event, ...],
    ) -> None:
        """
        Make an iteration's span: the one way there is.

        Arguments stand in the order of the span's fields: keywords would double
        the cost. A `number` that is none is replaced by the next. Thread-safe.
        """
        # Half the cost of a with statement.
        self._acquire()
        try:
            if type(number) is not int or not 0 <= number < _TOO_MANY:
                number = self.next_number(number)
            self._latest_number = number
            effectiveness = None if score is None else self._les.add(score, target)
            if tokens is not None:
                self.tokens += tokens
            if start_ns < self.start_ns:  # noqa: PLR1730 - min() costs thrice that
                # A parent contains its children.
                self.start_ns = start_ns
            span = IterationSpan(
                self.trace_id,
                span_id,
                self.root_id,
                start_ns,
                end_ns,
                number,
                score,
                target,
                effectiveness,
                self._les.value,
                tokens,
                cost_usd,
                latency_ms,
                worker_id,
                evaluator_id,
                input_tokens,
                output_tokens,
                error_type,
                attributes,
                events,
            )
            self._kept.append(span)
            if self.ended:
                self.values.drop("late_span", span)
            else:
                self._on_end(span)
                if len(self._kept) > self._kept_most:
                    self._leave_to_keeper()
        finally:
            self._release()

    def emit(self, span: Span) -> None:
        """Pass on a span that was made elsewhere."""
        if not self.ended:
            self._on_end(span)
        else:
            self.values.drop("late_span", span)

    def next_number(self, given: object) -> int:
        """Number an iteration: as given, or by the one after the latest."""
        number = None if given is None else self.values.count("iteration", given)
        if number is None:
            number = min(self._latest_number + 1, _TOO_MANY - 1)
        self._latest_number = number
        return number

    def close_steps(self) -> None:
        """End the iterations that are still under way."""
        for step in tuple(self.open_steps):
            step.end(self, self.now_ns())

    def current_span_id(self) -> str:
        """Give the iteration under way, if it is just one, else the run."""
        steps = self.open_steps
        return steps[0].span_id if len(steps) == 1 else self.root_id
