"""A sealed run: its document, read as its journal would have told it."""

from collections.abc import Iterable, Iterator
from typing import Any

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.archive.record import decode, encode_span
from loopotel_prom.errors import DocumentError
from loopotel_prom.span import ChildSpan, IterationSpan, RunSpan, Span

_GROUP_SPANS = 500


class SealedRun:
    """
    A document's spans, judged as the records of a journal are.

    Args:
        line: The document.

    Attributes:
        run: Its root. Of a `LongLine`, without what stands behind the spans.

    Raises:
        DocumentError: It is no trace.
    """

    def __init__(self, line: Line | LongLine) -> None:
        stream = DocumentStream(line)
        stream.read_head()
        self._raw = stream.spans()
        self._fields = stream.fields
        self._root = next(self._raw, None)
        (run,) = _unfolded(self._fields, [self._root])
        if not isinstance(run, RunSpan):
            raise DocumentError("no trace: it does not begin with its loop")
        self.run = run

    @property
    def schema_version(self) -> object:
        """What the document says; known once its groups have been read."""
        return self._fields.get("schema_version")

    def groups(self) -> Iterator[list[ChildSpan]]:
        """
        Yield the other spans, once, hundreds at a time: children before parents.

        Raises:
            DocumentError: What follows is no trace.
        """
        for group in _groups(self._raw):
            spans = _unfolded(self._fields, [self._root, *group])
            yield [*_inside_out(spans[1:])]


def _groups(raw: Iterable[Any]) -> Iterator[list[Any]]:
    """Cut before iterations, so that what belongs to one stays together."""
    group: list[Any] = []
    for span in raw:
        starts = isinstance(span, dict) and span.get("kind") == "iteration"
        if starts and len(group) >= _GROUP_SPANS:
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _unfolded(fields: dict[str, Any], raw: list[Any]) -> list[Span]:
    try:
        spans = ltf.unfold({**fields, "spans": raw})
        return [_judged(span) for span in spans]
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        # Whatever a document has in the place of something else.
        raise DocumentError(f"no trace: {error}") from error


def _judged(span: Span) -> Span:
    """See to its types and limits: anyone can write a document."""
    record = decode(encode_span(0, span)[:-1])
    assert record.span is not None  # noqa: S101 - it was encoded as one
    return record.span


def _inside_out(spans: Iterable[Span]) -> Iterator[ChildSpan]:
    """Put each iteration behind what stands in it, as it ended after it."""
    iteration: IterationSpan | None = None
    for span in spans:
        if isinstance(span, RunSpan):
            raise DocumentError("no trace: a second loop in it")
        if not isinstance(span, IterationSpan):
            yield span
            continue
        if iteration is not None:
            yield iteration
        iteration = span
    if iteration is not None:
        yield iteration
