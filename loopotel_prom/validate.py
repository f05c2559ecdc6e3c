"""
Verdicts on LTF documents.

Two validators share the work. jsonschema_rs is fast, and what it calls valid
is valid; jsonschema is the authority on all else, and gives the messages. The
two differ only where jsonschema_rs is the stricter (a pattern's ``$`` before a
final newline, text that is not UTF-8), and on Python values that no JSON text
gives, such as a tuple or an enum member: those are left to the authority.

A document too long to be held is judged by its spans, each as the only one of a
document that is otherwise good, and by what is left without them: no rule of
the schema reaches from one span to another.
"""

import gc
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

from loopotel_prom.archive.document import BATCH_CHARACTERS, DocumentStream
from loopotel_prom.archive.lines import (
    MAX_DOCUMENT_BYTES,
    BadLine,
    Item,
    LongLine,
    Source,
    read_documents,
    read_whole,
)
from loopotel_prom.errors import DocumentError
from loopotel_prom.ltf import decode

_SCHEMA = "specs/ltf-0.1.schema.json"
_JSON_TYPES = {bool, dict, float, int, list, str, type(None)}
_UNSPOKEN = "$: a value that is wrong cannot be spelled out"

# Beyond this a document is judged while it is read: it takes no longer, and what
# is decoded whole takes ten times its length in memory.
HELD_BYTES = 4 * 1024**2
# Of a document judged while it is read; nobody reads more.
MAX_MESSAGES = 1000
_MAX_CHARACTERS = 4 * 1024**2

_SPAN = {
    "span_id": "0" * 16,
    "name": "loop.run",
    "kind": "loop",
    "start_time": "",
    "attributes": {},
}
_FRAME = {
    "schema_version": "ltf/0.1",
    "trace_id": "ltf-00000000-0000-0000-0000-000000000000",
    "loop_name": "any",
    "started_at": "",
    "ended_at": "",
    "spec_pins": {"lss": "lss@1.0.0", "les": "les@1.0.0", "ltf": "ltf@0.1.0"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """
    What is to be said about one document, or about a line that is none.

    Attributes:
        label: What to call it: the file, and the line if it may hold several.
        file: The path, or the name of the stream.
        line: Counted from 1.
        offset: Where it starts, in bytes of the uncompressed input.
        valid: It follows the schema.
        fault: Why there is no document at all; None if there is one.
        messages: What the schema has against it, sorted, without repeats. Of a
            document too long to be held about a thousand, and then how many
            more spans may be wrong.
    """

    label: str
    file: str
    line: int
    offset: int
    valid: bool
    fault: str | None = None
    messages: tuple[str, ...] = ()


def load_schema() -> dict[str, Any]:
    """Read the JSON Schema (Draft 2020-12) of LTF 0.1; each call gives its own."""
    package = Path(__file__).parent
    # A wheel carries the schema within the package, a checkout beside it.
    installed = package / _SCHEMA
    path = installed if installed.exists() else package.parent / _SCHEMA
    schema: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def validate_trace(trace: object) -> tuple[bool, list[str]]:
    """
    Judge one document: is it valid, and what is wrong with it.

    Messages read ``<json path>: <what is wrong>``, sorted, without repeats.
    Formats such as date-time are not checked. Thread-safe. The first call
    compiles the schema.
    """
    if _is_surely_valid(trace):
        return True, []
    messages = _messages(trace)
    return not messages, messages


def validate_file(
    path: str | PathLike[str], *, max_bytes: int = MAX_DOCUMENT_BYTES
) -> tuple[bool, list[str]]:
    """
    Judge a file that holds one document, plain or compressed.

    One of more than 4 MiB is judged as `validate_documents` does.

    Raises:
        DocumentError: The file holds no JSON object, or one beyond `max_bytes`.
        ArchiveError: The file cannot be read.
    """
    items = read_whole(path, max_bytes=max_bytes, held_bytes=HELD_BYTES)
    verdict = next(map(_verdict, items), None) or _none(str(path))
    if verdict.fault is not None:
        raise DocumentError(f"{verdict.file}: {verdict.fault}")
    return verdict.valid, list(verdict.messages)


def validate_documents(
    source: Source,
    *,
    max_document_bytes: int = MAX_DOCUMENT_BYTES,
    held_bytes: int = HELD_BYTES,
    batch_characters: int = BATCH_CHARACTERS,
) -> Iterator[Verdict]:
    """
    Judge the documents of a file or stream one after the other.

    Which bytes are one document is decided by `read_documents`. What is none,
    and a source without any, gets a verdict with a fault; the next document
    is judged all the same. A document of more than `held_bytes` is judged while
    it is read, so many characters of its spans at a time, in constant memory.

    Raises:
        ArchiveError: The source cannot be opened, or reading it failed.
    """
    item = None
    for item in read_documents(
        source, max_document_bytes=max_document_bytes, held_bytes=held_bytes
    ):
        yield _verdict(item, batch_characters)
    if item is None:
        yield _none(str(getattr(source, "name", source)))


def _verdict(item: Item, batch_characters: int = BATCH_CHARACTERS) -> Verdict:
    whole = not isinstance(item, BadLine) and item.whole
    label = item.file if whole else f"{item.file}#{item.number}"
    valid, fault = False, None
    messages: list[str] = []
    try:
        if isinstance(item, BadLine):
            fault = item.fault
        elif isinstance(item, LongLine):
            document = DocumentStream(item, batch_characters=batch_characters)
            valid, messages = _judge(document)
        else:
            valid, messages = validate_trace(decode(item.data))
    except DocumentError as error:
        fault = str(error)
        if error.offset is not None:
            fault += f", at byte {error.offset} of it"
    return Verdict(
        label=label,
        file=item.file,
        line=item.number,
        offset=item.offset,
        valid=valid,
        fault=fault,
        messages=tuple(messages),
    )


def _none(file: str) -> Verdict:
    fault = "no document in it"
    return Verdict(label=file, file=file, line=1, offset=0, valid=False, fault=fault)


def _judge(document: DocumentStream) -> tuple[bool, list[str]]:
    """Judge a document while it is read, with the messages it would get whole."""
    findings = _Findings()
    for batch in document.batches():
        if batch and not _is_surely_valid(_FRAME | {"spans": batch}):
            first = (document.span_count or 0) - len(batch)
            for index, span in enumerate(batch, first):
                findings.judge(index, span)
    rest = document.fields
    if document.span_count is not None:
        rest = rest | {"spans": [_SPAN][: document.span_count]}
    messages = findings.all(validate_trace(rest)[1])
    return not messages, messages


class _Findings:
    """What is wrong with the spans of a document, as much of it as is kept."""

    def __init__(self) -> None:
        self._messages: set[str] = set()
        self._characters = 0
        self._more = 0

    def judge(self, index: int, span: object) -> None:
        """Judge one span: list what is wrong, or count it where the list is full."""
        trace = _FRAME | {"spans": [span]}
        if _is_surely_valid(trace):
            return
        if len(self._messages) < MAX_MESSAGES and self._characters < _MAX_CHARACTERS:
            self._list(index, _messages(trace))
        else:
            # Perhaps it is not: the authority would take minutes to tell.
            self._more += 1

    def _list(self, index: int, messages: list[str]) -> None:
        place = f"$.spans[{index}]"
        for message in messages:
            self._characters += len(message)
            _, here, rest = message.partition("$.spans[0]")
            self._messages.add(place + rest if here else message)

    def all(self, others: list[str]) -> list[str]:
        """Give all messages, those on other parts of the document among them."""
        found = self._messages.union(others)
        if _UNSPOKEN in found:
            return [_UNSPOKEN]
        more = [f"$.spans: up to {self._more} more are wrong"] if self._more else []
        return sorted(found) + more


def _is_surely_valid(trace: object) -> bool:
    try:
        return _fast().is_valid(trace) and _is_json(trace)
    except Exception:  # noqa: BLE001 - what cannot be converted has no verdict
        return False


def _is_json(trace: Any) -> bool:
    """
    Tell whether JSON's own types stand wherever the schema looks.

    jsonschema_rs takes a tuple for an array, and an enum member for its value;
    jsonschema does not. Called on what the first has found valid, so the shape
    is known; what lies within attributes and metadata is free.
    """
    spans = trace["spans"]
    events = chain.from_iterable(span.get("events", ()) for span in spans)
    rows = [trace, trace["spec_pins"], *spans, *events]
    # The values of all these dicts in one call: asking each of them for its
    # own costs as much as the verdict itself.
    inside = gc.get_referents(*rows)
    return set(map(type, chain(rows, inside))) <= _JSON_TYPES


def _messages(trace: object) -> list[str]:
    errors = _authority().iter_errors(trace)
    try:
        return sorted({f"{error.json_path}: {error.message}" for error in errors})
    except Exception:  # noqa: BLE001 - a stranger's __repr__ may raise anything
        # Or Python will not spell it: nested too deeply, or over 4,300 digits.
        return [_UNSPOKEN]


@cache
def _fast() -> Any:
    # Here, not above: most programs that import this module never validate.
    import jsonschema_rs  # noqa: PLC0415

    return jsonschema_rs.Draft202012Validator(load_schema(), validate_formats=False)


@cache
def _authority() -> Any:
    # Here, not above: 100 ms to import, and needed for invalid documents only.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    return Draft202012Validator(load_schema())
