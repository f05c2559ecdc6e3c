"""The job that scores a document anew."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from loopotel_prom import ltf
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.archive.reader import Entry
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf import Document
from loopotel_prom.rescore.scoring import Scoring
from loopotel_prom.validate import validate_documents, validate_trace
from loopotel_prom.zstandard import zstd

_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """
    The new targets.

    Attributes:
        goal_target: Of all loops that are not named; None leaves those alone.
        by_loop: Of loops, by their names.
    """

    goal_target: float | None = None
    by_loop: Mapping[str, float] = field(default_factory=dict)

    def of(self, loop_name: str) -> float | None:
        """Give a loop's; None for none."""
        return self.by_loop.get(loop_name, self.goal_target)


@dataclass(frozen=True, slots=True)
class Rescored:
    """
    What a document became.

    Attributes:
        loop_name: Its loop.
        goal_target: The new target; None if the loop has none.
        les_before: Its final cumulative LES as recorded; None without a score.
        les_after: The same under the new target.
        reached_before: Its final score reaches the old target.
        reached_after: It reaches the new one.
        data: The document, `is_packed` by zstd or as it is.
    """

    loop_name: str
    goal_target: float | None
    les_before: float | None
    les_after: float | None
    reached_before: bool
    reached_after: bool
    data: bytes = field(repr=False)
    is_packed: bool = False

    def pieces(self) -> Iterator[bytes]:
        """Give the document's bytes, a piece at a time."""
        if not self.is_packed:
            yield self.data
            return
        with zstd.open(io.BytesIO(self.data), "rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                yield piece


@dataclass(frozen=True, slots=True)
class RescoreJob:
    """Scores documents anew; those of other loops are copied."""

    targets: Targets

    def __call__(self, entry: Entry) -> Rescored:
        """
        Score one.

        Raises:
            DocumentError: It is no valid document.
            ArchiveError: Reading failed.
        """
        loop_name = entry.head.loop_name or ""
        target = self.targets.of(loop_name)
        # Without a target it is read all the same, and compared with itself.
        scoring = _Copying() if target is None else Scoring(target)
        if isinstance(entry.line, Line):
            data, is_packed = _held(entry.line, scoring), False
        else:
            data, is_packed = _streamed(entry.line, scoring), True
        before = scoring.has_reached(before=True)
        return Rescored(
            loop_name,
            target,
            None if scoring.goal_score is None else scoring.les_before,
            scoring.les_after,
            before,
            before if target is None else scoring.has_reached(before=False),
            data,
            is_packed,
        )


class _Copying(Scoring):
    """Scores nothing; sees what there is."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def take(self, span: object) -> None:
        """Look at a copy of a span's attributes."""
        attributes = span.get("attributes") if isinstance(span, dict) else None
        if isinstance(span, dict) and isinstance(attributes, dict):
            super().take({**span, "attributes": {**attributes}})
        self.is_changed = False


def _held(line: Line, scoring: Scoring) -> bytes:
    document = ltf.decode(line.data)
    _check(document)
    for span in document["spans"]:
        scoring.take(span)
    if not scoring.is_changed:
        return line.data
    document["metadata"] = scoring.mark(document.get("metadata"))
    return ltf.encode(document)


def _check(document: Document) -> None:
    is_valid, messages = validate_trace(document)
    if not is_valid:
        raise DocumentError(f"no valid document: {messages[0]}")


def _streamed(line: LongLine, scoring: Scoring) -> bytes:
    buffer = io.BytesIO()
    with zstd.open(buffer, "wb") as packed:
        for piece in _pieces(DocumentStream(line), scoring):
            packed.write(piece)
    with zstd.open(io.BytesIO(buffer.getvalue()), "rb") as written:
        for verdict in validate_documents(cast("BinaryIO", written)):
            if not verdict.valid:
                fault = verdict.fault or verdict.messages[0]
                raise DocumentError(f"no valid document: {fault}")
    return buffer.getvalue()


def _pieces(document: DocumentStream, scoring: Scoring) -> Iterator[bytes]:
    """Spell it while it is read; each member where it stood."""
    head = {**document.read_head()}
    yield ltf.encode(head)[:-1]
    if document.span_count is None:
        raise DocumentError("no valid document: it has no array of spans")
    separator = b',"spans":[' if head else b'"spans":['
    for batch in document.batches():
        for span in batch:
            scoring.take(span)
            yield separator + ltf.encode(span)
            separator = b","
    rest = {key: value for key, value in document.fields.items() if key not in head}
    if scoring.is_changed:
        if "metadata" in head:
            raise DocumentError("too long to be held, and metadata before its spans")
        rest["metadata"] = scoring.mark(document.fields.get("metadata"))
    tail = ltf.encode(rest)[1:]
    yield b"]," + tail if rest else b"]" + tail
