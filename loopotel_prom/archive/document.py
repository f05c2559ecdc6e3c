"""
One LTF document, read with as little of it in memory as its reader needs.

A document that is held as a `Line` is decoded whole. One that comes as a
`LongLine` is parsed while it is read: what is kept of it are its top-level
members, the array of spans excepted, and the spans that stand in one buffer.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import msgspec

from loopotel_prom.archive.lines import Line, LongLine
from loopotel_prom.archive.parser import MAX_VALUE_BYTES, Parser
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf import decode

# Some thirty spans: more of them leave the cache before they are looked at, and
# with ten times as many, all takes up to twice as long.
BATCH_CHARACTERS = 32 * 1024

# What each writer that we know of puts into every document, before the spans.
_USUAL = {
    "trace_id",
    "loop_name",
    "started_at",
    "ended_at",
    "outcome",
    "termination_reason",
}


class Head(msgspec.Struct, frozen=True):
    """What a list of runs shows; None for what is absent, or no text."""

    trace_id: str | None = None
    loop_name: str | None = None
    env_id: str | None = None
    task_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    outcome: str | None = None
    termination_reason: str | None = None


_head_decoder = msgspec.json.Decoder(Head)


def read_head(item: Line | LongLine) -> Head:
    """
    Read what tells a run from others, without its spans where that can be.

    The spans of a `Line` are not looked into. Of a `LongLine`, reading ends where
    they begin, unless one of these fields but the optional `env_id` and
    `task_id` has not been met by then: it may stand behind them.

    Raises:
        DocumentError: There is no document.
        ArchiveError: Reading failed.
    """
    if isinstance(item, Line):
        try:
            return _head_decoder.decode(item.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _head(decode(item.data))
    document = DocumentStream(item)
    if not document.read_head().keys() >= _USUAL:
        for _ in document.batches():
            pass
    return _head(document.fields)


def _head(fields: dict[str, Any]) -> Head:
    values = {name: fields.get(name) for name in Head.__struct_fields__}
    texts = {name: text for name, text in values.items() if isinstance(text, str)}
    return Head(**texts)


class DocumentStream:
    """
    One document, its spans read once, in their order.

    Attributes:
        fields: The top-level members met so far, without the array of spans.
            What stands behind the array in a `LongLine` is there once the spans
            have been read. If `spans` is anything but an array, it is here.
        span_count: How many spans have been read; None before the array, and
            for good if there is none.
        complete: Nothing is missing in `fields`.
    """

    def __init__(
        self, item: Line | LongLine, *, batch_characters: int = BATCH_CHARACTERS
    ) -> None:
        self.fields: dict[str, Any] = {}
        self.span_count: int | None = None
        self.complete = False
        self._at_start = True
        self._batch_characters = batch_characters
        # The first batch is always empty: it tells that the array begins.
        self._batches = (
            self._decoded(item.data)
            if isinstance(item, Line)
            else self._parsed(Parser(item.pieces))
        )

    def read_head(self) -> dict[str, Any]:
        """
        Read up to the array of spans, or to the end without one; give `fields`.

        Raises:
            DocumentError: As `batches`.
            ArchiveError: As `batches`.
        """
        if self._at_start:
            self._at_start = False
            next(self._batches, None)
        return self.fields

    def spans(self) -> Iterator[Any]:
        """
        Read the spans one by one: `batches`, unpacked.

        Raises:
            DocumentError: As `batches`.
            ArchiveError: As `batches`.
        """
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[list[Any]]:
        """
        Read the spans that are left, many at a time, and then the rest.

        A span is what stands in its place: in a bad document not always a dict.

        Raises:
            DocumentError: The bytes are no JSON, or no object; or, in a
                `LongLine`, a value or all members beside the spans are longer
                than 64 MiB, or a second array of spans follows, where only the
                last would count. `offset` is the byte at which reading failed.
                Spans before it have been given out, the latest perhaps not.
            ArchiveError: Reading failed.
        """
        self.read_head()
        yield from self._batches

    def _decoded(self, data: bytes) -> Iterator[list[Any]]:
        self.fields = decode(data)
        self.complete = True
        if isinstance(self.fields.get("spans"), list):
            spans = self.fields.pop("spans")
            self.span_count = 0
            yield []
            self.span_count = len(spans)
            yield spans

    def _parsed(self, parser: Parser) -> Iterator[list[Any]]:
        _begin(parser)
        room = MAX_VALUE_BYTES
        mark = _first(parser, "}")
        while mark == ",":
            name = _name(parser)
            begin = parser.characters
            if name == "spans" and parser.peek() == "[":
                yield from self._spans(parser)
            else:
                self.fields[name] = parser.value()
                room -= parser.characters - begin + len(name)
            if room < 0:
                fault = f"members longer than {MAX_VALUE_BYTES} bytes beside the spans"
                parser.refuse(fault)
            mark = parser.take(",}", "expecting ',' delimiter")
        if parser.peek():
            parser.fail("extra data")
        self.complete = True

    def _spans(self, parser: Parser) -> Iterator[list[Any]]:
        if self.span_count is not None:
            parser.refuse("a second array of spans")
        self.span_count = 0
        parser.take("[", "")
        yield []
        mark = _first(parser, "]")
        while mark == ",":
            batch: list[Any] = []
            end = parser.characters + self._batch_characters
            while mark == "," and parser.characters < end:
                batch += parser.objects(self._batch_characters)
                batch.append(parser.value())
                mark = parser.take(",]", "expecting ',' delimiter")
            self.span_count += len(batch)
            yield batch


def _begin(parser: Parser) -> None:
    kind = {"[": "list", '"': "str"}.get(parser.peek())
    if kind is not None:
        raise DocumentError(f"a JSON object is needed, this is {kind}")
    parser.take("{", "expecting value")


def _first(parser: Parser, closing: str) -> str:
    """Take the bracket that closes what is empty; else all is as behind a comma."""
    return parser.take(closing, "") if parser.peek() == closing else ","


def _name(parser: Parser) -> str:
    if parser.peek() != '"':
        parser.fail("expecting property name enclosed in double quotes")
    name = parser.value()
    parser.take(":", "expecting ':' delimiter")
    return str(name)
