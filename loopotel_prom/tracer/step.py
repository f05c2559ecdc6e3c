"""Inside a run: an iteration, its workers and its evaluators, as they happen."""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from loopotel_prom import semconv
from loopotel_prom.plain import plain, text, type_name
from loopotel_prom.span import (
    ChildSpan,
    EvaluatorSpan,
    Event,
    WorkerSpan,
)
from loopotel_prom.tracer.values import identifier

if TYPE_CHECKING:
    from loopotel_prom.tracer.recording import Recording


Amount = TypeVar("Amount", int, float)

_MOST_TOKENS = 2**63 - 1
_MOST_USD = sys.float_info.max


class Scope:
    """
    A part of a run that starts on entering and ends on leaving its ``with``.

    An exception that leaves the block is noted by its type and goes on
    untouched. Thread-safe. Of a disabled tracer, every call does nothing.

    Attributes:
        span_id: Its span id; empty before it was entered.
    """

    __slots__ = (
        "_attributes",
        "_cost_usd",
        "_error_type",
        "_input_tokens",
        "_output_tokens",
        "_recording",
        "_start_ns",
        "_tokens",
        "span_id",
    )

    def __init__(self, recording: "Recording | None") -> None:
        self._recording = recording
        self.span_id = ""
        self._start_ns = 0
        self._tokens: int | None = None
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._cost_usd: float | None = None
        self._error_type: str | None = None
        self._attributes: dict[str, Any] = {}

    def add_tokens(
        self,
        *,
        input: int | None = None,  # noqa: A002 - the field's word for it
        output: int | None = None,
        total: int | None = None,
    ) -> None:
        """
        Add to the tokens used.

        Args:
            input: Tokens read.
            output: Tokens written.
            total: All of them, where they are not told apart; by default the
                sum of the two.
        """
        recording = self._recording
        if recording is None:
            return
        read = recording.values.count("input_tokens", input)
        written = recording.values.count("output_tokens", output)
        used = recording.values.count("tokens_delta", total)
        if used is None and (read is not None or written is not None):
            used = (read or 0) + (written or 0)
        with recording.lock:
            self._input_tokens = _sum(self._input_tokens, read)
            self._output_tokens = _sum(self._output_tokens, written)
            self._tokens = _sum(self._tokens, used)

    def add_cost(self, *, usd: float) -> None:
        """Add to the cost, in US dollars."""
        recording = self._recording
        if recording is not None:
            cost = recording.values.cost(usd)
            with recording.lock:
                self._cost_usd = _sum(self._cost_usd, cost)

    def set_attribute(self, key: str, value: Any) -> None:
        """Keep a value of your own with the span; made plain JSON."""
        recording = self._recording
        if recording is not None:
            with recording.lock:
                self._attributes[text(key, limit=256)] = plain(value)

    def __enter__(self) -> Self:
        recording = self._recording
        if recording is not None:
            with recording.lock:
                if self.span_id:
                    recording.values.drop("late_call", self)
                    return self
                self._start_ns = recording.now_ns()
                self.span_id = recording.new_span_id()
                self._begin(recording)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        recording = self._recording
        if recording is not None and self.span_id:
            with recording.lock:
                if exc_type is not None:
                    self._error_type = type_name(exc_type)
                self.end(recording, recording.now_ns())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def _begin(self, recording: "Recording") -> None:
        raise NotImplementedError

    def end(self, recording: "Recording", end_ns: int) -> None:
        """End it now, with the recording's lock held; once."""
        raise NotImplementedError


class Call(Scope):
    """One call of a worker or an evaluator inside an iteration."""

    __slots__ = ("_id", "_role", "_step")

    def __init__(self, step: "Step", name: str, role: str | None) -> None:
        super().__init__(step._recording)
        self._step = step
        self._id = identifier(name)
        self._role = identifier(role)

    def _begin(self, recording: "Recording") -> None:
        self._step._open_call(recording, self)

    def end(self, recording: "Recording", end_ns: int) -> None:
        """End it now, with the recording's lock held; once."""
        if self._step._close_call(self):
            span = self._span(recording, end_ns)
            recording.take(span)

    def _span(self, recording: "Recording", end_ns: int) -> ChildSpan:
        raise NotImplementedError


class Worker(Call):
    """One call of a worker: an agent, a model or a tool."""

    __slots__ = ()

    def _span(self, recording: "Recording", end_ns: int) -> WorkerSpan:
        return WorkerSpan(
            trace_id=recording.trace_id,
            span_id=self.span_id,
            parent_span_id=self._step.span_id,
            start_ns=self._start_ns,
            end_ns=end_ns,
            worker_id=self._id,
            role=self._role,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cost_usd=self._cost_usd,
            error_type=self._error_type,
            attributes=dict(self._attributes),
        )


class Evaluator(Call):
    """One judgement of an evaluator."""

    __slots__ = ("_score",)

    def __init__(self, step: "Step", name: str, role: str | None) -> None:
        super().__init__(step, name, role)
        self._score: float | None = None

    def score(self, value: float) -> None:
        """Give the score it came to, 0 to 1."""
        recording = self._recording
        if recording is not None:
            self._score = recording.values.amount("evaluator_score", value)

    def _span(self, recording: "Recording", end_ns: int) -> EvaluatorSpan:
        return EvaluatorSpan(
            trace_id=recording.trace_id,
            span_id=self.span_id,
            parent_span_id=self._step.span_id,
            start_ns=self._start_ns,
            end_ns=end_ns,
            evaluator_id=self._id,
            type=self._role,
            goal_score=self._score,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cost_usd=self._cost_usd,
            error_type=self._error_type,
            attributes=dict(self._attributes),
        )


class Step(Scope):
    """
    One iteration, from entering to leaving its ``with`` block.

    It numbers and measures itself. Tokens and cost are the sum of its own and
    those of its workers and evaluators.
    """

    __slots__ = (
        "_calls",
        "_ended",
        "_evaluator_id",
        "_events",
        "_goal_score",
        "_goal_target",
        "_number",
        "_worker_id",
    )

    def __init__(
        self, recording: "Recording | None", number: int | None = None
    ) -> None:
        super().__init__(recording)
        self._number = number
        self._goal_score: float | None = None
        self._goal_target: float | None = None
        self._worker_id: str | None = None
        self._evaluator_id: str | None = None
        self._events: list[Event] = []
        self._calls: list[Call] = []
        self._ended = False

    @property
    def number(self) -> int:
        """Its number, from 1 up; 0 before it was entered."""
        return self._number or 0

    def worker(self, worker_id: str, *, role: str | None = None) -> Worker:
        """Trace a call of a worker, as a ``with`` block inside this one."""
        return Worker(self, worker_id, role)

    def evaluator(
        self,
        evaluator_id: str,
        *,
        type: str | None = None,  # noqa: A002 - the field's word for it
    ) -> Evaluator:
        """
        Trace a judgement, as a ``with`` block inside this one.

        Args:
            evaluator_id: Who judges.
            type: How, such as deterministic or llm_rubric.
        """
        return Evaluator(self, evaluator_id, type)

    def goal_score(self, score: float, *, target: float | None = None) -> None:
        """
        Say how good the result is, 0 to 1.

        Args:
            score: The score; said again, the last one counts.
            target: The target, if this iteration has its own.
        """
        recording = self._recording
        if recording is not None:
            self._goal_score = recording.values.amount("goal_score", score)
            if target is not None:
                self._goal_target = recording.values.target(
                    target, recording.goal_target
                )

    def failure(self, code: str) -> None:
        """Note a failure mode, by its LoopNet slug, such as fail.oscillation."""
        self._note(semconv.FAILURE, code)

    def safety_violation(self, code: str) -> None:
        """Note a safety violation, by its slug, such as fail.safety_bypass."""
        self._note(semconv.SAFETY_VIOLATION, code)

    def human_intervention(self) -> None:
        """Note that a human stepped in."""
        self._note(semconv.HUMAN_INTERVENTION, None)

    def _note(self, name: str, code: str | None) -> None:
        recording = self._recording
        if recording is None:
            return
        attributes = {}
        if code is not None:
            attributes[semconv.FAILURE_CODE] = text(code, limit=256)
        with recording.lock:
            self._events.append(Event(name, recording.now_ns(), attributes))

    # Called with the run's lock held.

    def _begin(self, recording: "Recording") -> None:
        self._number = recording.next_number(self._number)
        recording.open_steps.append(self)

    def end(self, recording: "Recording", end_ns: int) -> None:
        """End it, and what is still open inside; once."""
        if self._ended:
            return
        for call in tuple(self._calls):
            call.end(recording, end_ns)
        self._ended = True
        if self in recording.open_steps:
            recording.open_steps.remove(self)
        self._record(recording, end_ns)

    def _open_call(self, recording: "Recording", call: Call) -> None:
        if self._ended or not self.span_id:
            recording.values.drop("late_call", call)
            return
        self._calls.append(call)
        # The first of each kind stands on the iteration as well.
        if isinstance(call, Worker):
            self._worker_id = self._worker_id or call._id
        else:
            self._evaluator_id = self._evaluator_id or call._id

    def _close_call(self, call: Call) -> bool:
        """Take over what a call used; False if it was over before."""
        if call not in self._calls:
            return False
        self._calls.remove(call)
        self._tokens = _sum(self._tokens, call._tokens)
        self._input_tokens = _sum(self._input_tokens, call._input_tokens)
        self._output_tokens = _sum(self._output_tokens, call._output_tokens)
        self._cost_usd = _sum(self._cost_usd, call._cost_usd)
        return True

    def _record(self, recording: "Recording", end_ns: int) -> None:
        recording.record(
            self.span_id,
            self._start_ns,
            end_ns,
            self._number,
            self._goal_score,
            recording.goal_target if self._goal_target is None else self._goal_target,
            self._tokens,
            self._cost_usd,
            (end_ns - self._start_ns) / 1e6,
            self._worker_id,
            self._evaluator_id,
            self._input_tokens,
            self._output_tokens,
            self._error_type,
            dict(self._attributes),
            tuple(self._events),
        )


def _sum(so_far: Amount | None, more: Amount | None) -> Amount | None:
    """Add where something is known; unknown is not 0."""
    if more is None:
        return so_far
    total = more if so_far is None else so_far + more
    # A sum must not leave the range that each of its parts keeps to.
    return min(total, _MOST_TOKENS if isinstance(total, int) else _MOST_USD)
