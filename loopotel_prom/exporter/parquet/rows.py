"""The rows of one document, in one pass over its spans."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from loopotel_prom import ltf, semconv
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.reader import Entry
from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import count, number, text
from loopotel_prom.rfc3339 import parse_time

Row: TypeAlias = tuple[Any, ...]

_MOST = 2**63 - 1
_COMPLETES = (semconv.WORKER_COMPLETE, semconv.EVALUATOR_COMPLETE)
_FAILS = (semconv.FAILURE, semconv.SAFETY_VIOLATION)


class Iteration:
    """
    One iteration, while what stands in it is read.

    Args:
        span: Its span, as the document has it.
        position: Counted from 1.
    """

    def __init__(self, span: Mapping[str, Any], position: int) -> None:
        self._span = span
        self._position = position
        self.attributes = _mapping(span.get("attributes"))
        self.worker_ids: dict[str, None] = {}
        self.evaluator_ids: dict[str, None] = {}
        self.failure_codes: dict[str, None] = {}
        self.safety_violations = 0
        self.human_interventions = 0
        self._name(self.attributes)
        events = span.get("events")
        for event in events if isinstance(events, list) else ():
            self._take(_mapping(event))

    def contains(self, span: Mapping[str, Any]) -> bool:
        """Tell whether a span names it as its parent."""
        parent = span.get("parent_span_id")
        return parent is not None and parent == self._span.get("span_id")

    def take(self, span: Mapping[str, Any]) -> None:
        """Count a worker or evaluator in."""
        self._name(_mapping(span.get("attributes")))

    def row(self, identity: Row) -> Row:
        """Give the row, in the order of the columns."""
        get = self.attributes.get
        latency_ms = number(get(semconv.LATENCY_MS))
        return (
            *identity,
            self._position,
            count(get(semconv.ITERATION)),
            _time(self._span.get("start_time")),
            _time(self._span.get("end_time")),
            number(get(semconv.GOAL_SCORE)),
            number(get(semconv.GOAL_TARGET)),
            number(get(semconv.LES_EFFECTIVENESS)),
            number(get(semconv.LES_CUMULATIVE)),
            count(get(semconv.TOKENS_DELTA)),
            count(get(semconv.INPUT_TOKENS)),
            count(get(semconv.OUTPUT_TOKENS)),
            number(get(semconv.COST_USD)),
            None if latency_ms is None else latency_ms / 1000,
            [*self.worker_ids],
            [*self.evaluator_ids],
            [*self.failure_codes],
            self.safety_violations,
            self.human_interventions,
            _text(get(semconv.ERROR_TYPE)),
        )

    def _name(self, attributes: Mapping[str, Any]) -> None:
        _note(self.worker_ids, attributes.get(semconv.WORKER_ID))
        _note(self.evaluator_ids, attributes.get(semconv.EVALUATOR_ID))

    def _take(self, event: Mapping[str, Any]) -> None:
        name = event.get("name")
        if name in _COMPLETES:
            self._name(_mapping(event.get("attributes")))
        elif name in _FAILS:
            attributes = _mapping(event.get("attributes"))
            _note(self.failure_codes, attributes.get(semconv.FAILURE_CODE))
            self.safety_violations += name == semconv.SAFETY_VIOLATION
        elif name == semconv.HUMAN_INTERVENTION:
            self.human_interventions += 1


class RunRows:
    """
    The rows of one document: those of its iterations, and then that of the run.

    Attributes:
        count: How many iterations have been read.
    """

    def __init__(self, entry: Entry) -> None:
        head = entry.head
        self._head = head
        self._document = DocumentStream(entry.line)
        self._identity: Row = (
            text(entry.trace_id),
            _text(head.loop_name),
            _text(head.env_id),
            _text(head.task_id),
        )
        self._root: Mapping[str, Any] = {}
        self.count = self._tokens = self._violations = self._interventions = 0
        self._cost_usd: float | None = None
        self._latest: dict[str, float] = {}
        self._workers: dict[str, None] = {}
        self._evaluators: dict[str, None] = {}
        self._codes: dict[str, None] = {}

    def iterations(self) -> Iterator[Row]:
        """
        Give the rows of the iterations, in their order.

        Raises:
            DocumentError: The document is damaged, or has no spans.
            ArchiveError: Reading failed.
        """
        open_: Iteration | None = None
        for span in self._document.spans():
            if not isinstance(span, dict):
                continue
            kind = span.get("kind")
            if kind == "iteration":
                if open_ is not None:
                    yield self._closed(open_)
                open_ = Iteration(span, self.count + 1)
            elif kind == "loop":
                self._root = _mapping(span.get("attributes"))
            elif open_ is not None and open_.contains(span):
                open_.take(span)
        if open_ is not None:
            yield self._closed(open_)
        if self._document.span_count is None:
            raise DocumentError("it has no array of spans")
        ltf.check_version(self._document.fields.get("schema_version"))

    def run(self) -> Row:
        """Give the row of the run, once the iterations have been read."""
        head, root = self._head, self._root
        metadata = _mapping(self._document.fields.get("metadata"))
        started, ended = _time(head.started_at), _time(head.ended_at)
        took = None
        if started is not None and ended is not None:
            took = max(ended - started, 0) / 1e9
        told = count(root.get(semconv.TOKENS_TOTAL))
        tokens = self._tokens if told is None else told
        target = number(root.get(semconv.GOAL_TARGET))
        return (
            *self._identity,
            started,
            ended,
            took,
            _text(head.outcome),
            _text(head.termination_reason),
            _text(root.get(semconv.ERROR_TYPE)),
            self._latest.get(semconv.GOAL_TARGET) if target is None else target,
            self._latest.get(semconv.GOAL_SCORE),
            self._latest.get(semconv.LES_CUMULATIVE),
            self.count,
            tokens if tokens <= _MOST else None,
            self._cost_usd,
            [*self._workers],
            [*self._evaluators],
            [*self._codes],
            self._violations,
            self._interventions,
            metadata.get("recovered") is True,
            count(metadata.get("missing_spans")) or 0,
            ltf.encode(metadata).decode(),
        )

    def _closed(self, iteration: Iteration) -> Row:
        """Count an iteration that is complete; give its row."""
        self.count += 1
        get = iteration.attributes.get
        self._tokens += count(get(semconv.TOKENS_DELTA)) or 0
        cost_usd = number(get(semconv.COST_USD))
        if cost_usd is not None:
            self._cost_usd = (self._cost_usd or 0.0) + cost_usd
        for key in (semconv.GOAL_TARGET, semconv.GOAL_SCORE, semconv.LES_CUMULATIVE):
            value = number(get(key))
            if value is not None:
                self._latest[key] = value
        self._workers.update(iteration.worker_ids)
        self._evaluators.update(iteration.evaluator_ids)
        self._codes.update(iteration.failure_codes)
        self._violations += iteration.safety_violations
        self._interventions += iteration.human_interventions
        return iteration.row(self._identity)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str | None:
    return text(value) if isinstance(value, str) else None


def _note(names: dict[str, None], value: object) -> None:
    if isinstance(value, str):
        names[text(value)] = None


def _time(spelled: object) -> int | None:
    """Read a time that 64 bits of nanoseconds can hold."""
    if not isinstance(spelled, str):
        return None
    try:
        time_ns = parse_time(spelled)
    except DocumentError:
        return None
    return time_ns if -_MOST <= time_ns <= _MOST else None
