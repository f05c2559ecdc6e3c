"""
The state behind the metrics: per loop, per active run.

Nothing here locks; `MetricsProcessor` does, around every call.
"""

from collections.abc import Container

from loopotel_prom import semconv
from loopotel_prom.metrics import catalogue
from loopotel_prom.metrics.catalogue import DURATION_BUCKETS, SCORE_BUCKETS
from loopotel_prom.metrics.histogram import Calls, Histogram
from loopotel_prom.metrics.labels import LabelValues
from loopotel_prom.metrics.snapshot import Exemplar
from loopotel_prom.span import EvaluatorSpan, IterationSpan, RunSpan, WorkerSpan
from loopotel_prom.termination import OTHER, REASONS, reason_of

# A run that is over is shown for two more scrapes, so that a scraper sees how
# it ended and a second one does too.
RESTING_SCRAPES = 2
# By what an iteration may be the worst.
_WORST = ("latency_ms", "tokens_delta", "cost_usd")
# What a run shows in its slot, and how many slots a loop's own size has in it.
SLOT_SERIES = 10
SLOTS_INCLUDED = 2
# Calls, buckets, +Inf, sum and count.
WORKER_SERIES = len(DURATION_BUCKETS) + 4
EVALUATOR_SERIES = len(SCORE_BUCKETS) + 4


class RunState:
    """
    What is shown of one run.

    Attributes:
        loop: The loop it is a run of.
        trace_id: Its trace.
        slot: Its place among the loop's active runs; None beyond the last.
        start_ns: When it started, Unix nanoseconds.
        goal_target: Its target before the first iteration.
        pending: Iterations not yet taken in; a batch costs half of one by one.
        latest: Its latest iteration; most of what is shown is read off this.
        scored: Its latest iteration that has a score.
        iterations: How many it has had.
        tokens: Tokens so far.
        cost_usd: Reported cost so far; None before the first.
        freed_at: When it ended, monotonic seconds; its slot then rests.
        scrapes_left: For how many more scrapes the slot rests.
        called: Iterations under way whose workers or evaluators have spans of
            their own, by the kind of those.
    """

    __slots__ = (
        "called",
        "cost_usd",
        "freed_at",
        "goal_target",
        "iterations",
        "latest",
        "loop",
        "pending",
        "scored",
        "scrapes_left",
        "slot",
        "start_ns",
        "tokens",
        "trace_id",
    )

    def __init__(self, loop: "LoopState", span: RunSpan) -> None:
        self.loop = loop
        self.trace_id = span.trace_id
        self.slot: int | None = None
        self.start_ns = span.start_ns
        self.goal_target = span.goal_target
        self.pending: list[IterationSpan] = []
        self.latest: IterationSpan | None = None
        self.scored: IterationSpan | None = None
        self.iterations = 0
        self.tokens = 0
        self.cost_usd: float | None = None
        self.freed_at: float | None = None
        self.scrapes_left = RESTING_SCRAPES
        self.called: set[tuple[str, str | None]] = set()

    def on_iterations(self) -> None:
        """Take in the pending iterations, for the run and for its loop."""
        spans, self.pending = self.pending, []
        loop = self.loop
        loop.iterations += len(spans)
        self.iterations += len(spans)
        self.latest = spans[-1]
        tokens = [span.tokens_delta or 0 for span in spans]
        self.tokens += sum(tokens)
        loop.tokens += sum(tokens)
        costs = [span.cost_usd for span in spans if span.cost_usd is not None]
        if costs:
            self.cost_usd = sum(costs, self.cost_usd or 0.0)
            loop.cost_usd = sum(costs, loop.cost_usd)
        times = [span.latency_ms for span in spans if span.latency_ms is not None]
        loop.iteration_duration.observe_all([time / 1e3 for time in times])
        worst = (max(times, default=0.0), max(tokens), max(costs, default=0.0))
        for field, most in zip(_WORST, worst, strict=True):
            loop.note_worst(field, most, spans)
        for span in spans:
            if span.events:
                loop.on_events(span)
        self._on_scores(spans)
        self._on_names(spans)

    def _on_scores(self, spans: list[IterationSpan]) -> None:
        """Note the latest score, and the rises and falls on the way to it."""
        before = None if self.scored is None else self.scored.goal_score
        regressions, gain, scored = 0, self.loop.gain, self.scored
        for span in spans:
            score = span.goal_score
            if score is None:
                continue
            if before is not None:
                if score < before:
                    regressions += 1
                else:
                    gain += score - before
            before, scored = score, span
        self.scored = scored
        self.loop.regressions += regressions
        self.loop.gain = gain

    def _on_names(self, spans: list[IterationSpan]) -> None:
        """Count those that are named or told apart on the iterations."""
        loop = self.loop
        workers: dict[str, int] = {}
        judged: dict[str, list[float | None]] = {}
        for span in spans:
            worker_id, evaluator_id = span.worker_id, span.evaluator_id
            if self.called:
                # Those with spans of their own were counted by these.
                worker_id = None if self._had("worker", span) else worker_id
                evaluator_id = None if self._had("evaluator", span) else evaluator_id
            if worker_id is not None:
                workers[worker_id] = workers.get(worker_id, 0) + 1
            if evaluator_id is not None:
                judged.setdefault(evaluator_id, []).append(span.goal_score)
            if span.input_tokens is not None or span.output_tokens is not None:
                loop.input_tokens += span.input_tokens or 0
                loop.output_tokens += span.output_tokens or 0
        for name, calls in workers.items():
            loop.worker(name).count += calls
        for name, scores in judged.items():
            judgements = loop.evaluator(name)
            judgements.count += len(scores)
            judgements.observed.observe_all([s for s in scores if s is not None])

    def _had(self, kind: str, span: IterationSpan) -> bool:
        place = (kind, span.span_id)
        if place not in self.called:
            return False
        self.called.discard(place)
        return True

    def on_worker(self, span: WorkerSpan) -> None:
        """Take in a worker's call."""
        self.called.add(("worker", span.parent_span_id))
        calls = self.loop.worker(span.worker_id)
        calls.count += 1
        calls.observed.observe((span.end_ns - span.start_ns) / 1e9)

    def on_evaluator(self, span: EvaluatorSpan) -> None:
        """Take in an evaluator's judgement."""
        self.called.add(("evaluator", span.parent_span_id))
        calls = self.loop.evaluator(span.evaluator_id)
        calls.count += 1
        if span.goal_score is not None:
            calls.observed.observe(span.goal_score)


class LoopState:
    """
    The counters of one loop (one identity), and the slots of its runs.

    Args:
        labels: Its identity, as shown.
        slots: How many active runs are shown apart.
        values: The label values that the page has room for.
    """

    def __init__(
        self, labels: tuple[str, ...], slots: int, values: LabelValues
    ) -> None:
        self.labels = labels
        self._values = values
        self.slots: list[RunState | None] = [None] * slots
        self._occupied = 0
        self._waiting: dict[RunState, None] = {}
        self.active = 0
        self.started = 0
        self.finished = dict.fromkeys(semconv.OUTCOMES, 0)
        self.terminations = dict.fromkeys((*REASONS, OTHER), 0)
        self.failures: dict[str, int] = {}
        self.safety_violations = 0
        self.human_interventions = 0
        self.iterations = 0
        self.tokens = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd = 0.0
        self.regressions = 0
        self.gain = 0.0
        self.workers: dict[str, Calls] = {}
        self.evaluators: dict[str, Calls] = {}
        self.iteration_duration = Histogram(DURATION_BUCKETS)
        self.run_duration = Histogram(catalogue.RUN_DURATION_BUCKETS)
        self.run_iterations = Histogram(catalogue.ITERATIONS_BUCKETS)
        self.final_goal_score = Histogram(SCORE_BUCKETS)
        self.final_les = Histogram(SCORE_BUCKETS)
        self.worst: dict[str, IterationSpan] = {}
        self.last_run_end_ns: int | None = None
        self.last_run_success_ns: int | None = None
        self.last_run_goal_score: float | None = None
        self.last_run_les: float | None = None

    # Runs.

    def on_start(self, span: RunSpan) -> RunState:
        """Take in a run that starts; it gets a slot if one can be had."""
        self.started += 1
        return self.admit(span)

    def admit(self, span: RunSpan) -> RunState:
        """Show a run under way that was counted before."""
        self.active += 1
        run = RunState(self, span)
        index = self._free_slot()
        if index is None:
            self._waiting[run] = None
        else:
            self._place(run, index)
        return run

    def on_finish(self, run: RunState, span: RunSpan, now: float) -> None:
        """Take in the end of a run; `now` is a monotonic time in seconds."""
        if run.pending:
            run.on_iterations()
        self.active -= 1
        self.finished[span.outcome] += 1
        self.terminations[reason_of(span.termination_reason)] += 1
        end_ns = span.start_ns if span.end_ns is None else span.end_ns
        self.last_run_end_ns = end_ns
        if span.outcome == "success":
            self.last_run_success_ns = end_ns
        scored = run.scored
        self.last_run_goal_score = self.last_run_les = None
        if scored is not None and scored.goal_score is not None:
            self.last_run_goal_score = scored.goal_score
            self.last_run_les = scored.les_cumulative
        self._note_run(run, end_ns, (end_ns - span.start_ns) / 1e9)
        run.freed_at = now
        self._waiting.pop(run, None)
        if self._waiting and (index := self._free_slot()) is not None:
            self._place(next(iter(self._waiting)), index)

    def _note_run(self, run: RunState, end_ns: int, seconds: float) -> None:
        """Put a run that has ended into the histograms, each with its trace."""
        observations = [
            (self.run_duration, seconds),
            (self.run_iterations, float(run.iterations)),
        ]
        if self.last_run_goal_score is not None and self.last_run_les is not None:
            observations += [
                (self.final_goal_score, self.last_run_goal_score),
                (self.final_les, self.last_run_les),
            ]
        for histogram, value in observations:
            exemplar = Exemplar(run.trace_id, value, end_ns / 1e9)
            histogram.observe(value, exemplar)

    def release(self, moment: float) -> None:
        """Count a scrape of that moment; free the slots that enough have shown."""
        self.worst = {}
        for index, run in self._resting(moment):
            run.scrapes_left -= 1
            if run.scrapes_left <= 0:
                self._free(index)

    def expire(self, moment: float) -> None:
        """Free the slots that have rested since that moment or longer."""
        for index, _ in self._resting(moment):
            self._free(index)

    def _resting(self, moment: float) -> list[tuple[int, RunState]]:
        """Give the slots of runs that were over at a moment."""
        return [
            (index, run)
            for index, run in enumerate(self.slots)
            if run is not None and run.freed_at is not None and run.freed_at <= moment
        ]

    def _free(self, index: int) -> None:
        self.slots[index] = None
        self._occupy(-1)

    def _free_slot(self) -> int | None:
        """Give the lowest free slot, or else the one that has rested longest."""
        has_room = self._occupied < SLOTS_INCLUDED or self._values.has_room(SLOT_SERIES)
        resting: list[tuple[float, int]] = []
        for index, run in enumerate(self.slots):
            if run is None and has_room:
                return index
            if run is not None and run.freed_at is not None:
                resting.append((run.freed_at, index))
        # A live run is worth more than the last of one that is over.
        return min(resting)[1] if resting else None

    def _place(self, run: RunState, index: int) -> None:
        self._waiting.pop(run, None)
        if self.slots[index] is None:
            self._occupy(1)
        run.slot = index
        self.slots[index] = run

    def _occupy(self, change: int) -> None:
        """Keep count of the slots in use, and of the series of those beyond two."""
        before = max(0, self._occupied - SLOTS_INCLUDED)
        self._occupied += change
        after = max(0, self._occupied - SLOTS_INCLUDED)
        self._values.series += (after - before) * SLOT_SERIES

    # What happens in iterations.

    def note_worst(self, field: str, most: float, spans: list[IterationSpan]) -> None:
        """Note the worst iteration by a field since the last scrape, for its trace."""
        known = self.worst.get(field)
        if most > (0.0 if known is None else getattr(known, field)):
            worst = (span for span in spans if getattr(span, field) == most)
            self.worst[field] = next(worst)

    def exemplar(self, field: str, scale: float = 1.0) -> Exemplar | None:
        """Give the trace of the worst iteration by a field since the last scrape."""
        span = self.worst.get(field)
        if span is None:
            return None
        value = getattr(span, field) * scale
        return Exemplar(span.trace_id, value, span.end_ns / 1e9)

    def on_events(self, span: IterationSpan) -> None:
        """Count failures, violations and interventions."""
        for event in span.events:
            if event.name == semconv.FAILURE:
                self._on_failure(event.attributes.get(semconv.FAILURE_CODE))
            elif event.name == semconv.SAFETY_VIOLATION:
                self.safety_violations += 1
                self._on_failure(event.attributes.get(semconv.FAILURE_CODE))
            elif event.name == semconv.HUMAN_INTERVENTION:
                self.human_interventions += 1

    def _on_failure(self, code: str | None) -> None:
        shown = self._child("code", code, self.failures, 1)
        self.failures[shown] = self.failures.get(shown, 0) + 1

    def worker(self, worker_id: str | None) -> Calls:
        """Give the calls of a worker, by the name that it is shown under."""
        size = WORKER_SERIES
        shown = self._child("worker_id", worker_id, self.workers, size)
        calls = self.workers.get(shown)
        if calls is None:
            calls = self.workers[shown] = Calls(DURATION_BUCKETS)
        return calls

    def evaluator(self, evaluator_id: str | None) -> Calls:
        """Give the judgements of an evaluator, likewise."""
        size = EVALUATOR_SERIES
        shown = self._child("evaluator_id", evaluator_id, self.evaluators, size)
        calls = self.evaluators.get(shown)
        if calls is None:
            calls = self.evaluators[shown] = Calls(SCORE_BUCKETS)
        return calls

    def _child(
        self, label: str, value: str | None, known: Container[str], size: int
    ) -> str:
        """Give the value to show for a label of this loop's own series."""
        if value is not None and value in known:
            return value
        return self._values.admit_child(label, value, known, size)


def size_of_loop() -> int:
    """
    Give the number of series that every loop may come to.

    Two slots are in it, and the worker, evaluator and code that its overflow
    shows, so that these need no room when there is none.
    """
    metrics = [m for m in catalogue.CATALOGUE if m.identity and not m.labels]
    series = sum(len(m.buckets) + 3 if m.buckets else 1 for m in metrics)
    children = len(semconv.OUTCOMES) + len(REASONS) + 1
    overflow = WORKER_SERIES + EVALUATOR_SERIES + 1
    return series + children + SLOTS_INCLUDED * SLOT_SERIES + overflow
