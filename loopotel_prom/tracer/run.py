"""`LoopTracer`: one run of a loop, from its first iteration to its outcome."""

import time
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from loopotel_prom import ltf, semconv
from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.pipeline import Parent, Pipeline, installed
from loopotel_prom.plain import plain_mapping, text
from loopotel_prom.span import Event, RunSpan
from loopotel_prom.tracer import open_runs
from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.context import Activation, current_tracer
from loopotel_prom.tracer.ids import RANDOM_IDS, IdSource
from loopotel_prom.tracer.recording import NOWHERE, Recording
from loopotel_prom.tracer.step import Step
from loopotel_prom.tracer.values import (
    MAX_COST_USD,
    MAX_LATENCY_MS,
    Values,
    goal_target_of,
    identifier,
    loop_name_of,
    moment_of,
    trace_id_of,
    truth,
    type_name,
    unix_ns_of,
)

_NOTHING: tuple[str, ...] = ()
_NO_ATTRIBUTES: dict[str, Any] = {}
_TOO_MANY = 2**63
_SILENT_STEP = Step(None)


class LoopTracer:
    """
    Trace one run of a loop.

    Use it as a context manager around the loop (``async with`` works too), and
    report each iteration: with `iteration`, which measures it and takes workers
    and evaluators, or with `emit_iteration` once it is over. The run starts on
    entering (or with the first iteration, without a ``with``) and ends on leaving
    (or with `finish`); one that is dropped without an end is ended as abandoned.
    An exception that leaves the block ends the run as a failure and goes on
    untouched. A tracer is one run: what is reported after its end is kept for
    `build_trace` and counted, and goes no further.

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

    # Slots are read faster than a dictionary; the dictionary is there for what a
    # program may want to hang on its tracer.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_activations",
        "_env_id",
        "_error_type",
        "_evaluator_id",
        "_loop_name",
        "_name_was_cut",
        "_parent",
        "_pipeline",
        "_recording",
        "_run",
        "_started",
        "_task_id",
        "_values",
        "_worker_id",
        "enabled",
        "metadata",
        "outcome",
        "termination_reason",
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
        # First of all: __del__ reads them, whatever fails below.
        self._started = False
        self._run: RunSpan | None = None
        self.enabled = truth(enabled)
        self._loop_name, self._name_was_cut = loop_name_of(loop_name)
        self._env_id = identifier(env_id)
        self._task_id = identifier(task_id)
        self.outcome = outcome
        self.termination_reason = termination_reason
        self.metadata: dict[str, Any] = {} if metadata is None else metadata
        self._pipeline = pipeline
        self._values = Values(strict=strict)
        self._recording = Recording(
            trace_id=ids.trace_id() if trace_id is None else trace_id_of(trace_id),
            goal_target=goal_target_of(goal_target),
            clock=clock,
            ids=ids,
            values=self._values,
        )
        if started_at is not None:
            # One that is yet to come would have the run end before it began.
            self._recording.start_ns = min(
                self._recording.start_ns, unix_ns_of(started_at)
            )
        self._worker_id: str | None = None
        self._evaluator_id: str | None = None
        self._error_type: str | None = None
        self._parent: Parent | None = None
        self._activations: list[Activation] = []

    def __repr__(self) -> str:
        state = "ended" if self._run else "started" if self._started else "new"
        return f"<LoopTracer {self.loop_name!r} {self.trace_id} {state}>"

    def __del__(self) -> None:
        if self._started and self._run is None and self.enabled:
            self._abandon()

    # What may be changed on the way, and what may not.

    @property
    def loop_name(self) -> str:
        """The loop's name."""
        return self._loop_name

    @property
    def trace_id(self) -> str:
        """The run's trace id."""
        return self._recording.trace_id

    @property
    def env_id(self) -> str | None:
        """Where the loop runs; may be set until the run ends."""
        return self._env_id

    @env_id.setter
    def env_id(self, value: str | None) -> None:
        self._env_id = identifier(value)

    @property
    def task_id(self) -> str | None:
        """What the loop works on; may be set until the run ends."""
        return self._task_id

    @task_id.setter
    def task_id(self, value: str | None) -> None:
        self._task_id = identifier(value)

    @property
    def goal_target(self) -> float:
        """The target; set on the way, it holds for the iterations to come."""
        return self._recording.goal_target

    @goal_target.setter
    def goal_target(self, value: float) -> None:
        recording = self._recording
        recording.goal_target = self._values.target(value, recording.goal_target)

    @property
    def started_at(self) -> datetime:
        """When the run started, in UTC."""
        return moment_of(self._recording.start_ns)

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
        if self.enabled and self._started and not self._activations:
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
        if not self._activations and self._start():
            self._end()

    def build_trace(self) -> ltf.Document:
        """
        Give the LTF 0.1 document of the run so far, a copy that nothing shares.

        The run goes on, if it has not ended yet. Of a run of more than a thousand
        spans these are read back from the archive, where there is one.
        """
        with self._recording.lock:
            return ltf.fold([self._run_span(), *self._recording.spans()])

    def environment(self) -> dict[str, str]:
        """
        Give the variables that make a subprocess's runs children of this one.

        ``LOOPOTEL_PARENT`` for loops, ``TRACEPARENT`` (W3C) for all else::

            subprocess.run(command, env=os.environ | run.environment())
        """
        if not self.enabled:
            return {}
        span_id = self._recording.current_span_id()
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
        if self.enabled and self._start():
            return Step(self._recording, number)
        return _SILENT_STEP

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
        recording = self._recording
        end_ns = start_ns = recording.now_ns()
        # The common case is tested here, at a tenth of what a call would cost.
        score: float | None = goal_score
        if type(goal_score) is not float or not 0.0 <= goal_score <= 1.0:
            score = self._values.amount("goal_score", goal_score)
        if goal_target is None:
            goal_target = recording.goal_target
        else:
            goal_target = self._values.target(goal_target, recording.goal_target)
        if type(tokens_delta) is not int or not 0 <= tokens_delta < _TOO_MANY:
            tokens_delta = self._values.count("tokens_delta", tokens_delta)
        if cost_usd is not None and not (
            type(cost_usd) is float and 0.0 <= cost_usd < MAX_COST_USD
        ):
            cost_usd = self._values.cost(cost_usd)
        if latency_ms is not None:
            if type(latency_ms) is not float or not 0.0 <= latency_ms < MAX_LATENCY_MS:
                latency_ms = self._values.latency(latency_ms)
            if latency_ms is not None:
                start_ns -= int(latency_ms * 1e6)
        # Nearly always the same as the last time.
        if worker_id is not None and worker_id is not self._worker_id:
            self._worker_id = worker_id = identifier(worker_id)
        if evaluator_id is not None and evaluator_id is not self._evaluator_id:
            self._evaluator_id = evaluator_id = identifier(evaluator_id)
        events: tuple[Event, ...] = ()
        # Not by their truth, which an array, say, does not have.
        if (
            failure_codes is not _NOTHING
            or safety_violations is not _NOTHING
            or type(human_interventions) is not int
            or human_interventions
        ):
            events = self._events(
                end_ns, failure_codes, safety_violations, human_interventions
            )
        recording.record(
            recording.new_span_id(),
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

    # Inside.

    def _start(self) -> bool:
        """Start the run unless it has started; False if all is disabled."""
        with self._recording.lock:
            if self._started:
                return True
            sink = self._pipeline or installed()
            if sink.disabled:
                self.enabled = False
                return False
            self._started = True
            self._recording.pass_on_to(sink)
            if self._name_was_cut:
                sink.health.dropped("loop_name", self.loop_name)
            outer = current_tracer()
            if outer is not None and outer is not self:
                span_id = outer._recording.current_span_id()
                self._parent = Parent(outer.trace_id, span_id)
            else:
                self._parent = sink.parent
            open_runs.add(self)
            sink.on_start(self._run_span(open_end=True))
            return True

    def _leave(self, exc_type: type[BaseException] | None) -> None:
        """End the run, as a failure if an exception ended it."""
        if exc_type is not None:
            self.outcome = "failure"
            self.termination_reason = self._reason() or "error"
            self._error_type = type_name(exc_type)
        self._end()

    def _end(self) -> None:
        recording = self._recording
        with recording.lock:
            if self._run is None:
                recording.close_steps()
                self._run = self._run_span()
                open_runs.discard(self)
                recording.emit(self._run)
                recording.ended = True

    def _abandon(self) -> None:
        """End the run because nobody will."""
        self.termination_reason = self._reason() or "abandoned"
        self._end()

    def _disown(self) -> None:
        """Fall silent in a forked child: the run goes on in the parent."""
        self.enabled = False
        self._recording.renew_lock()
        # Of a step under way, too: its end is the parent's to tell.
        self._recording.pass_on_to(NOWHERE)

    def _run_span(self, *, open_end: bool = False) -> RunSpan:
        """Make the run's span as things stand, ending now unless it has ended."""
        recording = self._recording
        end_ns = recording.now_ns() if self._run is None else self._run.end_ns
        self.outcome = outcome = self._values.outcome(self.outcome)
        return RunSpan(
            trace_id=recording.trace_id,
            span_id=recording.root_id,
            start_ns=recording.start_ns,
            loop_name=self._loop_name,
            goal_target=recording.goal_target,
            env_id=self._env_id,
            task_id=self._task_id,
            end_ns=None if open_end else end_ns,
            outcome=outcome,
            termination_reason=self._reason(),
            tokens_total=min(recording.tokens, _TOO_MANY - 1),
            error_type=self._error_type,
            metadata=self._metadata(),
        )

    def _reason(self) -> str:
        reason = self.termination_reason
        return "" if reason is None else text(reason)

    def _metadata(self) -> dict[str, Any]:
        metadata = plain_mapping(self.metadata)
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
        values = self._values
        events = []
        for name, field, codes in (
            (semconv.FAILURE, "failure_codes", failure_codes),
            (semconv.SAFETY_VIOLATION, "safety_violations", safety_violations),
        ):
            events += [
                Event(name, time_ns, {semconv.FAILURE_CODE: code})
                for code in values.codes(field, codes)
            ]
        times = values.few("human_interventions", human_interventions)
        events += [Event(semconv.HUMAN_INTERVENTION, time_ns)] * times
        return tuple(events)
