"""`LoopTracer`: one run of a loop, from its first iteration to its outcome."""

import os
import threading
import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from weakref import WeakValueDictionary

from loopotel_prom import ltf, semconv
from loopotel_prom.les import DEFAULT_GOAL_TARGET, RunningLes
from loopotel_prom.pipeline import Parent, Pipeline, installed
from loopotel_prom.plain import plain_mapping, text
from loopotel_prom.span import ChildSpan, Event, IterationSpan, RunSpan
from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.context import Activation, current_tracer
from loopotel_prom.tracer.ids import RANDOM_IDS, IdSource
from loopotel_prom.tracer.step import Step
from loopotel_prom.tracer.values import (
    Values,
    goal_target_of,
    identifier,
    loop_name_of,
    moment_of,
    trace_id_of,
    unix_ns_of,
)

# A run told to have been interrupted more often than this is told so often.
_MAX_INTERVENTIONS = 100
_NOTHING: tuple[str, ...] = ()
_NO_ATTRIBUTES: dict[str, Any] = {}
_TOO_MANY = 2**63
_INFINITE = float("inf")
_SILENT_STEP = Step(None)


class LoopTracer:
    """
    Trace one run of a loop.

    Use it as a context manager around the loop (``async with`` works too), and
    report each iteration: with `iteration`, which measures it and takes workers
    and evaluators, or with `emit_iteration` once it is over. The run starts on
    entering (or with the first iteration, without a ``with``) and ends on leaving
    (or with `finish`). An exception that leaves the block ends the run as a
    failure and goes on untouched.

    Thread-safe: iterations may be reported from several threads at once. In a
    forked child a tracer of the parent's does nothing: the run is the parent's.

    Args:
        loop_name: The loop's name, 3 to 64 characters; a longer one is cut and
            counted.
        env_id: Where it runs, such as ``prod/agent``.
        task_id: What it works on.
        goal_target: The goal score at which the loop has met its goal.
        enabled: False makes every call a no-op.
        trace_id: ``ltf-<uuid>``; a new one by default.
        started_at: When the run began, if that was earlier.
        ended_at: Taken for the predecessor's sake; the end is measured.
        outcome: The outcome unless `finish` says another.
        termination_reason: Why it ended, unless `finish` says another.
        metadata: Anything to keep with the document; made plain JSON.
        pipeline: Where spans go; the process's own by default.
        clock: The clocks to read; the ``time`` module by default.
        ids: Where ids come from; random ones by default.
        strict: Raise ValueError for a value that would be left out. For tests.

    Raises:
        ConfigError: The loop name, target, trace id or start cannot work.
    """

    # Slots are read faster than a dictionary of this many names; the dictionary
    # is there for what a program may want to hang on its tracer.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_acquire",
        "_activations",
        "_error_type",
        "_evaluator_id",
        "_latest_number",
        "_les",
        "_lock",
        "_monotonic_ns",
        "_name_was_cut",
        "_new_span_id",
        "_on_end",
        "_open_steps",
        "_parent",
        "_pipeline",
        "_release",
        "_root_id",
        "_run",
        "_spans",
        "_start_ns",
        "_started",
        "_tokens",
        "_values",
        "_wall_offset_ns",
        "_worker_id",
        "enabled",
        "env_id",
        "goal_target",
        "loop_name",
        "metadata",
        "outcome",
        "task_id",
        "termination_reason",
        "trace_id",
    )

    def __init__(
        self,
        loop_name: str,
        env_id: str | None = None,
        task_id: str | None = None,
        goal_target: float = DEFAULT_GOAL_TARGET,
        enabled: bool = True,  # noqa: FBT001, FBT002 - as the predecessor's
        trace_id: str | None = None,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,  # noqa: ARG002 - as the predecessor's
        outcome: str = "unknown",
        termination_reason: str = "",
        metadata: dict[str, Any] | None = None,
        *,
        pipeline: Pipeline | None = None,
        clock: Clock = time,
        ids: IdSource = RANDOM_IDS,
        strict: bool = False,
    ) -> None:
        self.enabled = enabled
        self.loop_name, self._name_was_cut = loop_name_of(loop_name)
        self.env_id = identifier(env_id)
        self.task_id = identifier(task_id)
        self.goal_target = goal_target_of(goal_target)
        self.trace_id = ids.trace_id() if trace_id is None else trace_id_of(trace_id)
        self.outcome = outcome
        self.termination_reason = termination_reason
        self.metadata: dict[str, Any] = {} if metadata is None else metadata
        self._values = Values(strict=strict)
        self._pipeline = pipeline
        self._monotonic_ns = clock.monotonic_ns
        self._wall_offset_ns = clock.time_ns() - clock.monotonic_ns()
        self._start_ns = (
            self._now_ns() if started_at is None else unix_ns_of(started_at)
        )
        # Re-entrant: a signal handler may emit while an emit is under way.
        self._use_lock(threading.RLock())
        self._new_span_id = ids.span_id
        self._root_id = ids.span_id()
        self._spans: list[ChildSpan] = []
        self._open_steps: list[Step] = []
        self._les = RunningLes()
        self._latest_number = 0
        self._worker_id: str | None = None
        self._evaluator_id: str | None = None
        self._tokens = 0
        self._error_type: str | None = None
        self._parent: Parent | None = None
        self._started = False
        self._activations: list[Activation] = []
        self._run: RunSpan | None = None

    @property
    def started_at(self) -> datetime:
        """When the run started, in UTC."""
        return moment_of(self._start_ns)

    @property
    def ended_at(self) -> datetime | None:
        """When the run ended, in UTC; None while it goes on."""
        run = self._run
        return None if run is None or run.end_ns is None else moment_of(run.end_ns)

    # The run.

    def __enter__(self) -> Self:
        if self.enabled and self._start():
            self._activations.append(Activation(self))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._activations:
            self._activations.pop().leave()
        if self.enabled and self._started:
            self._leave(exc_type)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def finish(self, *, outcome: str = "unknown", termination_reason: str = "") -> None:
        """
        Say how the run ended.

        Inside the ``with`` block the run ends when the block does; without one
        it ends now. Said again after the end, it changes what `build_trace`
        gives, and no more what the sinks already have.

        Args:
            outcome: success, failure, partial or unknown; another value counts
                as left out and gives unknown.
            termination_reason: Why, in a word or a sentence, such as goal_met.
        """
        if not self.enabled:
            return
        self.outcome = outcome
        self.termination_reason = termination_reason
        if not self._activations:
            self._start()
            self._end()

    def build_trace(self) -> ltf.Document:
        """
        Give the LTF 0.1 document of the run so far, a copy that nothing shares.

        A run that was never entered is finished by this, as the predecessor's
        is; one still inside its ``with`` block goes on.
        """
        if self.enabled and self._run is None and not self._activations:
            self._start()
            self._end()
        with self._lock:
            return ltf.fold([self._run_span(), *self._spans])

    def environment(self) -> dict[str, str]:
        """
        Give the variables that make a subprocess's runs children of this one.

        ``LOOPOTEL_PARENT`` for loops, ``TRACEPARENT`` (W3C) for all else::

            subprocess.run(command, env=os.environ | run.environment())
        """
        if not self.enabled:
            return {}
        span_id = self._current_span_id()
        digits = self.trace_id.removeprefix("ltf-").replace("-", "")
        return {
            "LOOPOTEL_PARENT": f"{self.trace_id}/{span_id}",
            "TRACEPARENT": f"00-{digits}-{span_id}-01",
        }

    # Iterations.

    def iteration(self, number: int | None = None) -> Step:
        """
        Trace an iteration as a ``with`` block.

        Args:
            number: Its number; by default the one after the latest.
        """
        return Step(self, number) if self.enabled else _SILENT_STEP

    def emit_iteration(  # noqa: C901, PLR0912 - the loop's own path: tests stand inline
        self,
        *,
        iteration: int,
        goal_score: float,
        goal_target: float | None = None,
        tokens_delta: int | None = 0,
        cost_usd: float | None = None,
        latency_ms: float | None = None,
        worker_id: str | None = None,
        evaluator_id: str | None = None,
        failure_codes: Iterable[str] = _NOTHING,
        safety_violations: Iterable[str] = _NOTHING,
        human_interventions: int = 0,
    ) -> None:
        """
        Report an iteration that has just ended.

        A value that makes no sense (NaN, infinite, negative, a bool, no number)
        is left out and counted; the rest of the iteration is kept.

        Args:
            iteration: Its number, from 1 up.
            goal_score: How good the result is, 0..1.
            goal_target: The target, if this iteration has its own.
            tokens_delta: Tokens that it used; None where unknown.
            cost_usd: What it cost; None where unknown, which is not 0.
            latency_ms: How long it took; its span starts as long before now.
            worker_id: The worker that acted.
            evaluator_id: The evaluator that judged.
            failure_codes: LoopNet failure slugs seen, such as fail.oscillation.
            safety_violations: Failure slugs of safety violations.
            human_interventions: How often a human stepped in.
        """
        if not self.enabled:
            return
        if not self._started and not self._start():
            return
        end_ns = start_ns = self._monotonic_ns() + self._wall_offset_ns
        # The common case is tested here, at a tenth of what a call would cost.
        score: float | None = goal_score
        if type(goal_score) is not float or not 0.0 <= goal_score <= 1.0:
            score = self._values.amount("goal_score", goal_score)
        if goal_target is None:
            goal_target = self.goal_target
        else:
            goal_target = self._values.target(goal_target, self.goal_target)
        if type(tokens_delta) is not int or not 0 <= tokens_delta < _TOO_MANY:
            tokens_delta = self._values.count("tokens_delta", tokens_delta)
        if cost_usd is not None and not (
            type(cost_usd) is float and 0.0 <= cost_usd < _INFINITE
        ):
            cost_usd = self._values.amount("cost_usd", cost_usd)
        if latency_ms is not None:
            if type(latency_ms) is not float or not 0.0 <= latency_ms < _INFINITE:
                latency_ms = self._values.amount("latency_ms", latency_ms)
            if latency_ms is not None:
                start_ns -= int(latency_ms * 1e6)
        # Nearly always the same as the last time.
        if worker_id is not None and worker_id is not self._worker_id:
            self._worker_id = worker_id = identifier(worker_id)
        if evaluator_id is not None and evaluator_id is not self._evaluator_id:
            self._evaluator_id = evaluator_id = identifier(evaluator_id)
        events: tuple[Event, ...] = ()
        if (
            failure_codes is not _NOTHING
            or safety_violations is not _NOTHING
            or type(human_interventions) is not int
            or human_interventions
        ):
            events = self._events(
                end_ns, failure_codes, safety_violations, human_interventions
            )
        self._record(
            self._new_span_id(),
            start_ns,
            end_ns,
            iteration,
            score,
            goal_target,
            tokens_delta,
            cost_usd,
            latency_ms,
            worker_id,
            evaluator_id,
            None,
            None,
            None,
            _NO_ATTRIBUTES,
            events,
        )

    # Inside. All of these are called with the lock held, but for _start.

    def _use_lock(self, lock: "threading.RLock") -> None:
        self._lock = lock
        self._acquire = lock.acquire
        self._release = lock.release

    def _now_ns(self) -> int:
        return self._monotonic_ns() + self._wall_offset_ns

    def _start(self) -> bool:
        """Start the run unless it has started; False if all is disabled."""
        with self._lock:
            if self._started:
                return True
            sink = self._pipeline or installed()
            if sink.disabled:
                self.enabled = False
                return False
            self._started = True
            self._on_end = sink.on_end
            self._values.health = sink.health
            if self._name_was_cut:
                sink.health.dropped("loop_name", self.loop_name)
            outer = current_tracer()
            if outer is not None and outer is not self:
                self._parent = Parent(outer.trace_id, outer._current_span_id())
            else:
                self._parent = sink.parent
            _open_runs[id(self)] = self
            sink.on_start(self._run_span(open_end=True))
            return True

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        """End the run, as a failure if an exception ended it."""
        if exc_type is not None:
            self.outcome = "failure"
            self.termination_reason = self.termination_reason or "error"
            self._error_type = exc_type.__qualname__
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self._run is None and self._started:
                for step in tuple(self._open_steps):
                    step._end(self, self._now_ns())
                self._run = self._run_span()
                _open_runs.pop(id(self), None)
                self._on_end(self._run)

    def _emit(self, span: ChildSpan) -> None:
        """Keep a span and pass it on; after the run's end, leave it out."""
        if self._run is not None:
            self._values.drop("late_span", span)
            return
        self._spans.append(span)
        self._on_end(span)

    def _record(
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
        """Make an iteration's span of checked values: the one way there is."""
        # Half the cost of a with statement.
        self._acquire()
        try:
            if type(number) is not int or not 0 <= number < _TOO_MANY:
                number = self._next_number(number)
            self._latest_number = number
            effectiveness = None
            if score is not None and self._run is None:
                effectiveness = self._les.add(score, target)
            if tokens is not None:
                self._tokens += tokens
            if start_ns < self._start_ns:  # noqa: PLR1730 - min() costs thrice that
                # A parent contains its children.
                self._start_ns = start_ns
            span = IterationSpan(
                self.trace_id,
                span_id,
                self._root_id,
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
            if self._run is None:
                self._spans.append(span)
                self._on_end(span)
            else:
                self._emit(span)
        finally:
            self._release()

    def _next_number(self, given: object) -> int:
        """Give the number of an iteration that has none, or none that can be."""
        known = None if given is None else self._values.count("iteration", given)
        return self._latest_number + 1 if known is None else known

    def _current_span_id(self) -> str:
        """Give the iteration under way, if it is just one, else the run."""
        steps = self._open_steps
        return steps[0]._span_id if len(steps) == 1 else self._root_id

    def _run_span(self, *, open_end: bool = False) -> RunSpan:
        """Make the run's span as things stand, ending now unless it has ended."""
        end_ns = self._now_ns() if self._run is None else self._run.end_ns
        outcome = self._values.outcome(self.outcome)
        self.outcome = outcome
        return RunSpan(
            trace_id=self.trace_id,
            span_id=self._root_id,
            start_ns=self._start_ns,
            loop_name=self.loop_name,
            goal_target=self.goal_target,
            env_id=self.env_id,
            task_id=self.task_id,
            end_ns=None if open_end else end_ns,
            outcome=outcome,
            termination_reason=text(self.termination_reason or ""),
            tokens_total=self._tokens,
            error_type=self._error_type,
            metadata=self._metadata(),
        )

    def _metadata(self) -> dict[str, Any]:
        metadata = plain_mapping(self.metadata) if self.metadata else {}
        parent = self._parent
        if parent is not None and semconv.PARENT not in metadata:
            metadata[semconv.PARENT] = {"trace_id": parent.trace_id}
            if parent.span_id is not None:
                metadata[semconv.PARENT]["span_id"] = parent.span_id
        return metadata

    def _events(
        self,
        time_ns: int,
        failure_codes: Iterable[str],
        safety_violations: Iterable[str],
        human_interventions: int,
    ) -> tuple[Event, ...]:
        events = []
        for name, field, codes in (
            (semconv.FAILURE, "failure_codes", failure_codes),
            (semconv.SAFETY_VIOLATION, "safety_violations", safety_violations),
        ):
            events += [
                Event(name, time_ns, {semconv.FAILURE_CODE: code})
                for code in self._values.codes(field, codes)
            ]
        times = self._values.count("human_interventions", human_interventions) or 0
        event = Event(semconv.HUMAN_INTERVENTION, time_ns)
        events += [event] * min(times, _MAX_INTERVENTIONS)
        return tuple(events)

    def _disown(self) -> None:
        """Fall silent in a forked child: the run goes on in the parent."""
        self.enabled = False
        self._use_lock(threading.RLock())
        self._open_steps = []


# The runs under way, for a forked child to fall silent about.
_open_runs: WeakValueDictionary[int, LoopTracer] = WeakValueDictionary()


def _after_fork() -> None:
    for run in list(_open_runs.values()):
        run._disown()
    _open_runs.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
