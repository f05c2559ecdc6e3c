"""`LoopTracer`: one run of a loop, from its first iteration to its outcome."""

import re
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from loopotel_prom import les, ltf, semconv
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.les import DEFAULT_GOAL_TARGET
from loopotel_prom.pipeline import Pipeline, installed
from loopotel_prom.plain import count, number, plain_mapping, text
from loopotel_prom.span import Event, IterationSpan, Outcome, RunSpan
from loopotel_prom.tracer.clock import Clock
from loopotel_prom.tracer.context import Activation
from loopotel_prom.tracer.ids import RANDOM_IDS, IdSource

_TRACE_ID = re.compile(r"ltf-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_ID = 256
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LoopTracer:
    """
    Trace one run of a loop.

    Use it as a context manager around the loop, and report each iteration with
    `emit_iteration`. The run starts on entering (or with the first iteration,
    without a ``with``) and ends on leaving (or with `finish`). An exception that
    leaves the block ends the run as a failure and goes on untouched.

    Thread-safe: iterations may be reported from several threads at once.

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
        ConfigError: The loop name, target or trace id cannot work.
    """

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
        self.strict = strict
        self._pipeline = pipeline
        self._cut_name = False
        self.loop_name = self._checked_name(loop_name)
        self.env_id = _identifier(env_id)
        self.task_id = _identifier(task_id)
        self.goal_target = _checked_target(goal_target)
        self.trace_id = ids.trace_id() if trace_id is None else _checked_id(trace_id)
        self.outcome = outcome
        self.termination_reason = termination_reason
        self.metadata: dict[str, Any] = {} if metadata is None else metadata
        self._ids = ids
        self._monotonic_ns = clock.monotonic_ns
        self._wall_offset_ns = clock.time_ns() - clock.monotonic_ns()
        self._start_ns = self._now_ns() if started_at is None else _unix_ns(started_at)
        # Re-entrant: a signal handler may emit while an emit is under way.
        self._lock = threading.RLock()
        self._root_id = ids.span_id()
        self._spans: list[IterationSpan] = []
        self._les = les.RunningMean()
        self._iterations = 0
        self._tokens = 0
        self._error_type: str | None = None
        self._started = False
        self._within = 0
        self._activation = Activation()
        self._run: RunSpan | None = None

    @property
    def started_at(self) -> datetime:
        """When the run started, in UTC."""
        return _moment(self._start_ns)

    @property
    def ended_at(self) -> datetime | None:
        """When the run ended, in UTC; None while it goes on."""
        run = self._run
        return None if run is None or run.end_ns is None else _moment(run.end_ns)

    # The run.

    def __enter__(self) -> Self:
        if self.enabled:
            self._start()
            self._within += 1
            self._activation.enter(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.enabled:
            return
        self._activation.leave()
        self._within -= 1
        if exc_type is not None:
            self.outcome = "failure"
            self.termination_reason = self.termination_reason or "error"
            self._error_type = exc_type.__qualname__
        self._end()

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
        if self._within == 0:
            self._start()
            self._end()

    def build_trace(self) -> ltf.Document:
        """
        Give the LTF 0.1 document of the run so far, a copy that nothing shares.

        A run that was never entered is finished by this, as the predecessor's
        is; one still inside its ``with`` block goes on.
        """
        if self.enabled and self._run is None and self._within == 0:
            self._start()
            self._end()
        with self._lock:
            return ltf.fold([self._run_span(), *self._spans])

    # Iterations.

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
        failure_codes: Iterable[str] = (),
        safety_violations: Iterable[str] = (),
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
        if not self._started:
            self._start()
        end_ns = self._monotonic_ns() + self._wall_offset_ns
        # The common case is tested here, at a tenth of what a call would cost.
        if type(goal_score) is not float or not 0.0 <= goal_score <= 1.0:
            goal_score = self._number("goal_score", goal_score)  # type: ignore[assignment]  # None is left out
        if goal_target is None:
            goal_target = self.goal_target
        else:
            goal_target = self._target(goal_target)
        if type(tokens_delta) is not int or not 0 <= tokens_delta < 2**63:
            tokens_delta = self._count("tokens_delta", tokens_delta)
        if cost_usd is not None:
            cost_usd = self._number("cost_usd", cost_usd)
        start_ns = end_ns
        if latency_ms is not None:
            latency_ms = self._number("latency_ms", latency_ms)
            if latency_ms is not None:
                start_ns -= int(latency_ms * 1e6)
        events: tuple[Event, ...] = ()
        if failure_codes or safety_violations or human_interventions:
            events = self._events(
                end_ns, failure_codes, safety_violations, human_interventions
            )
        with self._lock:
            if self._run is not None:
                return
            self._iterations += 1
            if type(iteration) is not int or not 0 <= iteration < 2**63:
                iteration = self._iteration_number(iteration)
            effectiveness = None
            if goal_score is not None:
                effectiveness = les.effectiveness(goal_score, goal_target)
                self._les.add(effectiveness)
            if tokens_delta is not None:
                self._tokens += tokens_delta
            # Positional, in the order of the fields: keywords cost twice that.
            span = IterationSpan(
                self.trace_id,
                self._ids.span_id(),
                self._root_id,
                start_ns,
                end_ns,
                iteration,
                goal_score,
                goal_target,
                effectiveness,
                self._les.value,
                tokens_delta,
                cost_usd,
                latency_ms,
                None if worker_id is None else _identifier(worker_id),
                None if evaluator_id is None else _identifier(evaluator_id),
                events=events,
            )
            if start_ns < self._start_ns:  # noqa: PLR1730 - min() costs thrice that
                # A parent contains its children.
                self._start_ns = start_ns
            self._spans.append(span)
            self._sink.on_end(span)

    # Inside.

    def _now_ns(self) -> int:
        return self._monotonic_ns() + self._wall_offset_ns

    def _start(self) -> None:
        with self._lock:
            if self._started:
                return
            self._started = True
            self._sink = self._pipeline or installed()
            if self._cut_name:
                self._sink.health.dropped("loop_name", self.loop_name)
            self._sink.on_start(self._run_span(open_end=True))

    def _end(self) -> None:
        with self._lock:
            if self._run is None:
                self._run = self._run_span()
                self._sink.on_end(self._run)

    def _run_span(self, *, open_end: bool = False) -> RunSpan:
        """Make the run's span as things stand, ending now unless it has ended."""
        end_ns = self._now_ns() if self._run is None else self._run.end_ns
        return RunSpan(
            trace_id=self.trace_id,
            span_id=self._root_id,
            start_ns=self._start_ns,
            loop_name=self.loop_name,
            goal_target=self.goal_target,
            env_id=self.env_id,
            task_id=self.task_id,
            end_ns=None if open_end else end_ns,
            outcome=self._checked_outcome(),
            termination_reason=text(self.termination_reason or ""),
            tokens_total=self._tokens,
            error_type=self._error_type,
            metadata=plain_mapping(self.metadata),
        )

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
                for code in self._codes(field, codes)
            ]
        times = self._count("human_interventions", human_interventions) or 0
        events += [Event(semconv.HUMAN_INTERVENTION, time_ns)] * min(times, 100)
        return tuple(events)

    # Values: each is what may go into a span, or counted and left out.

    def _health(self) -> Health:
        return (self._pipeline or installed()).health

    def _drop(self, field: str, value: object) -> None:
        if self.strict:
            raise ValueError(f"{field}: {text(value, limit=80)!r} is not usable")
        self._health().dropped(field, value)

    def _number(self, field: str, value: object) -> float | None:
        """A finite number from 0 up; None is a value that was not given."""
        if type(value) is float and 0.0 <= value < float("inf"):
            return value
        if value is None:
            return None
        result = number(value)
        if result is None or result < 0.0:
            self._drop(field, value)
            return None
        return result

    def _count(self, field: str, value: object) -> int | None:
        """A whole number from 0 up; None is a value that was not given."""
        result = count(value)
        if result is None and value is not None:
            self._drop(field, value)
        return result

    def _target(self, value: object) -> float:
        if type(value) is float and -1e300 < value < 1e300:  # noqa: PLR2004 - finite
            return value
        result = number(value)
        if result is None:
            self._drop("goal_target", value)
            return self.goal_target
        return result

    def _iteration_number(self, value: object) -> int:
        result = self._count("iteration", value)
        return self._iterations if result is None else result

    def _codes(self, field: str, codes: Iterable[str]) -> list[str]:
        if isinstance(codes, str):
            return [text(codes, limit=_MAX_ID)]
        try:
            return [text(code, limit=_MAX_ID) for code in codes]
        except Exception:  # noqa: BLE001 - a stranger's iterator may raise anything
            self._drop(field, codes)
            return []

    def _checked_outcome(self) -> Outcome:
        outcome = self.outcome
        if outcome in semconv.OUTCOMES:
            return outcome  # type: ignore[return-value]  # one of the literals
        self._drop("outcome", outcome)
        self.outcome = "unknown"
        return "unknown"

    def _checked_name(self, name: object) -> str:
        if not isinstance(name, str):
            raise ConfigError(
                f"loop_name must be text of 3 to 64 characters, got {type(name)}"
            )
        clean = text(name)
        if len(clean) < semconv.LOOP_NAME_MIN_LENGTH:
            raise ConfigError(
                f"loop_name must have 3 to 64 characters, got {clean!r};"
                " name the loop after what it does, such as 'code-repair'"
            )
        self._cut_name = len(clean) > semconv.LOOP_NAME_MAX_LENGTH
        return clean[: semconv.LOOP_NAME_MAX_LENGTH]


def _identifier(value: object) -> str | None:
    """Make an id that a label and a document can carry; none if it is empty."""
    if type(value) is str and len(value) <= _MAX_ID and value.isascii():
        return value or None
    return None if value is None else text(value, limit=_MAX_ID) or None


def _checked_target(value: object) -> float:
    target = number(value)
    if target is None:
        raise ConfigError(f"goal_target must be a finite number, got {value!r}")
    return target


def _checked_id(value: object) -> str:
    if not isinstance(value, str) or _TRACE_ID.fullmatch(value) is None:
        raise ConfigError(
            f"trace_id must be 'ltf-' and a lower-case UUID, got {value!r};"
            " leave it out for a new one"
        )
    return value


def _unix_ns(moment: datetime) -> int:
    since = moment.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def _moment(time_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
