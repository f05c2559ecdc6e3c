"""Documents too long to be held: read, judged and exported while they are read."""

import copy
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from loopotel_prom.archive.document import DocumentStream, Head, read_head
from loopotel_prom.archive.lines import Line, LongLine, zstd
from loopotel_prom.archive.parser import Parser
from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.loopnet import steps, trajectory_from_trace
from loopotel_prom.ltf import decode, encode
from loopotel_prom.validate import validate_documents, validate_trace

EXAMPLES = sorted((Path(__file__).parents[2] / "specs/examples").glob("*.json"))
FULL: dict[str, Any] = json.loads(
    next(path for path in EXAMPLES if path.stem == "full.good").read_bytes()
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
}
thorough = settings(
    max_examples=300, deadline=None, suppress_health_check=list(HealthCheck)
)

scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=9)
values = st.recursive(
    scalars | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
layouts = st.sampled_from(
    ({}, {"indent": 1}, {"sort_keys": True}, {"ensure_ascii": False, "indent": "\t"})
)


def _long(data: bytes, size: int = 256 * 1024) -> LongLine:
    """Give a document in pieces of a size."""
    pieces = (data[begin : begin + size] for begin in range(0, len(data), size))
    return LongLine("<stream>", 1, 0, pieces)


def _read(data: bytes, size: int) -> Any:
    """Read a document in pieces and put it together again."""
    document = DocumentStream(_long(data, size), batch_characters=size)
    spans = list(document.spans())
    assert document.complete
    return document.fields | ({} if document.span_count is None else {"spans": spans})


def _containers(value: Any) -> list[Any]:
    """List the objects and arrays in a document that hold something."""
    if not isinstance(value, dict | list) or not value:
        return []
    inner = value.values() if isinstance(value, dict) else value
    return [value, *(found for item in inner for found in _containers(item))]


@st.composite
def mutants(draw: Callable[..., Any]) -> dict[str, Any]:
    """Draw a document with up to three changes anywhere in it."""
    document = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(0, 3))):
        spots = _containers(document)
        if not spots:
            break
        spot = draw(st.sampled_from(spots))
        place = draw(st.sampled_from([*spot] if isinstance(spot, dict) else [0, -1]))
        value = spot[place]
        change = draw(st.sampled_from(("replace", "drop", "rename", "repeat", "empty")))
        if change == "replace":
            spot[place] = draw(values)
        elif change == "empty":
            spot[place] = type(value)()
        elif change == "repeat" and isinstance(value, list):
            spot[place] = copy.deepcopy(value * 3)
        else:
            del spot[place]
            if change == "rename" and isinstance(spot, dict):
                spot[draw(st.text(max_size=5))] = value
    return document


@thorough
@given(mutants(), layouts, st.integers(1, 500), st.sampled_from(list(PACKERS)))
def test_a_document_gets_the_verdict_that_it_gets_whole(
    document: dict[str, Any], layout: dict[str, Any], batch: int, packer: str
) -> None:
    """Validity and each message, however it is cut and packed."""
    data = PACKERS[packer](json.dumps(document, **layout).encode(errors="replace"))
    whole, cut = (
        [
            (verdict.valid, verdict.fault, verdict.messages)
            for verdict in validate_documents(io.BytesIO(data), **options)
        ]
        for options in ({}, {"held_bytes": 4, "batch_characters": batch})
    )
    assert cut == whole


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_gets_the_verdict_that_it_gets_whole(path: Path) -> None:
    """All that the specification shows."""
    (whole,) = validate_documents(path)
    (cut,) = validate_documents(path, held_bytes=4, batch_characters=1)
    assert cut == whole


@thorough
@given(
    st.dictionaries(st.text() | st.just("spans"), values), layouts, st.integers(1, 40)
)
@example({"a": 1.5e300, "b": -0.5, "spans": [12345, 1e-9, True, None]}, {}, 1)
@example({"spans": [{"a": [{"a": 1}] * 3, "b": '{"a"'}] * 9}, {}, 40)
@example({"spans": [{"a": "\ud83d"}, {"a": 1}, {"a": 10**400}] * 9}, {}, 40)
@example({"spans": [], "a": '\\"\U0001f600\ud83d', "b": "\u00eb"}, {}, 1)
def test_any_object_is_read_as_it_is(
    document: dict[str, Any], layout: dict[str, Any], size: int
) -> None:
    """Wherever the pieces end: in a number, an escape, a character, a word."""
    words = json.dumps(document, **({"ensure_ascii": False} | layout))
    data = words.encode(errors="replace")
    assert _read(data, size) == json.loads(data)


@pytest.mark.parametrize("size", (1, 7, 1000))
@pytest.mark.parametrize(
    "data",
    (
        *(b"", b"  ", b"{", b'{"a"', b'{"a":', b'{"a":1', b'{"a":1,', b'{"spans":['),
        *(b'{"spans":[{}', b'{"spans":[{},', b'{"spans":[]', b'{"spans":[{}]'),
        *(b"nope", b"\0\0\0", b'{"a":1}}', b'{"a":1} x', b'{"a" 1}', b"{1:2}"),
        *(b'{"spans":[{} {}]}', b'{"spans":[tru]}', b'{"spans":[{"a":"\n"}]}'),
        *(b'{"a":"\\u12"}', b'{"a":"\\x"}', b'{"a":01}', b'{"a":1.}', b'{"a":-}'),
        *(b'{"spans":[{"a":[{"a":1},{"a":2},!]},{"a":[]},{"a":1}]}',),
        *(b'{"spans":[{"a":1},{"a":2},\xc2\xa0{"a":3},{"a":4}]}',),
        *(b'{"spans":[{"a":1},{"a":2},,{"a":3}]}', b'{"spans":[{"a":1};{"a":2}]}'),
        *(b'{"a":"\xff"}', b'{"spans":[{}],"\xc3\xab":"\xc3', b"\xff\xfe{}"),
    ),
)
def test_a_fault_is_that_of_the_whole(data: bytes, size: int) -> None:
    """What is wrong, and at which byte."""
    with pytest.raises(DocumentError) as whole:
        decode(data)
    with pytest.raises(DocumentError) as cut:
        _read(data, size)
    assert (str(cut.value), cut.value.offset) == (str(whole.value), whole.value.offset)


@pytest.mark.parametrize(
    ("value", "fault"),
    (
        (b"NaN", "not JSON: NaN is no JSON number"),
        (b"-Infinity", "not JSON: -Infinity is no JSON number"),
        (b"1" * 5000, "not JSON that can be read: a number too long"),
        (b"[" * 200_000, "nested too deeply"),
    ),
)
def test_a_value_that_is_refused_has_its_place(value: bytes, fault: str) -> None:
    """The offset is that of the span, or member, which holds it."""
    with pytest.raises(DocumentError) as caught:
        _read(b'{"spans":[{}, {"a":%s}]}' % value, 64)
    assert (str(caught.value), caught.value.offset) == (fault, 14)


@pytest.mark.parametrize(("data", "kind"), ((b"[1, 2]", "list"), (b'"text"', "str")))
def test_what_is_no_object_is_no_document(data: bytes, kind: str) -> None:
    """It is told from its first character: the rest may be long."""
    with pytest.raises(DocumentError, match=f"is needed, this is {kind}"):
        _read(data, 2)


def test_a_second_array_of_spans_is_refused() -> None:
    """Only the last would count, and the first has been given out."""
    data = b'{"spans":[{}],"spans":[]}'
    with pytest.raises(DocumentError, match="a second array of spans") as caught:
        _read(data, 5)
    assert caught.value.offset == data.rindex(b"[")


def test_a_value_beyond_the_limit_is_refused() -> None:
    """It is not held; the offset is where it begins."""
    parser = Parser((b'  "' + b"x" * 99, *[b"x" * 99] * 99), max_value_bytes=1000)
    with pytest.raises(DocumentError, match="longer than 1000 bytes") as caught:
        parser.value()
    assert caught.value.offset == 2


def test_members_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is short: together they would fill the memory."""
    monkeypatch.setattr("loopotel_prom.archive.document.MAX_VALUE_BYTES", 1000)
    members = ",".join(f'"{number}":1' for number in range(1000))
    with pytest.raises(DocumentError, match="longer than 1000 bytes beside"):
        _read(b"{%s}" % members.encode(), 64)


def test_fields_behind_the_spans_are_known_behind_them() -> None:
    """The head is read without the spans; the rest is complete with them."""
    data = json.dumps({"a": 1, "spans": [{"b": 2}], "c": 3}).encode()
    document = DocumentStream(_long(data, 4))
    assert (dict(document.read_head()), document.complete) == ({"a": 1}, False)
    assert list(document.spans()) == [{"b": 2}]
    assert (document.fields, document.complete) == ({"a": 1, "c": 3}, True)
    assert document.span_count == 1


def test_a_held_document_is_read_alike() -> None:
    """One interface, whatever the line."""
    document = DocumentStream(Line("<stream>", 1, 0, encode(FULL)))
    rest = {key: value for key, value in FULL.items() if key != "spans"}
    assert document.read_head() == rest
    assert list(document.spans()) == FULL["spans"]
    assert (document.span_count, document.complete) == (len(FULL["spans"]), True)


@pytest.mark.parametrize("sort_keys", (False, True))
def test_a_head_is_read_from_any_line(*, sort_keys: bool) -> None:
    """Held or long; in our order of keys, and in one that puts ids last."""
    data = json.dumps(FULL, sort_keys=sort_keys).encode()
    expected = Head(**{name: FULL.get(name) for name in Head.__struct_fields__})
    assert read_head(Line("<stream>", 1, 0, data)) == expected
    assert read_head(_long(data, 10)) == expected


def test_the_head_of_a_long_line_is_read_without_its_spans() -> None:
    """Listing a long archive takes no longer than it must."""
    head = {name: FULL[name] for name in Head.__struct_fields__}
    line = _long(encode(head | {"spans": [0] * 1000}), 64)
    assert read_head(line) == Head(**head)
    assert len(b"".join(line.pieces)) > 1800


@pytest.mark.parametrize("data", (b'{"env_id":5,"loop_name":"abc"}', b'{"a":1e999}'))
def test_a_head_is_read_from_a_bad_document(data: bytes) -> None:
    """What is no text is None."""
    name = decode(data).get("loop_name")
    assert read_head(Line("<stream>", 1, 0, data)) == Head(loop_name=name)
    assert read_head(_long(data, 3)) == Head(loop_name=name)


def test_messages_beyond_a_thousand_are_counted() -> None:
    """What is kept of a bad document is bounded."""
    spans = [span | {"kind": "x"} for span in FULL["spans"][:1]] * 1500
    data = io.BytesIO(encode(FULL | {"spans": spans, "outcome": "won"}))
    (verdict,) = validate_documents(data, held_bytes=4)
    *messages, last = verdict.messages
    assert messages[0].startswith("$.outcome: 'won' is not one of")
    assert (len(messages), last) == (1001, "$.spans: up to 500 more are wrong")
    assert set(messages) < set(validate_trace(decode(data.getvalue()))[1])


def test_steps_are_those_of_the_trajectory() -> None:
    """A run that is read in pieces gives the same steps, one by one."""
    document = DocumentStream(_long(encode(FULL), 100), batch_characters=1)
    assert list(steps(document.spans())) == trajectory_from_trace(FULL)


def _pieces_of_a_run(iterations: int) -> Iterator[bytes]:
    """Write a run of that many iterations, without ever holding it."""
    root, span = (dict(FULL["spans"][place]) for place in (0, 1))
    head = {key: FULL[key] for key in FULL if key not in ("spans", "metadata")}
    yield encode(head)[:-1] + b',"spans":[' + encode(root)
    for number in range(iterations):
        span["span_id"] = f"{number:016x}"
        span["attributes"] = span["attributes"] | {"loop.iteration": number}
        yield b"," + encode(span)
    yield b'],"metadata":{}}\n'


MEASURE = """
import re, resource, sys
from pathlib import Path
from loopotel_prom.archive.document import DocumentStream
from loopotel_prom.archive.lines import read_documents
from loopotel_prom.exporter.loopnet import steps
from loopotel_prom.validate import HELD_BYTES, validate_documents

def peak():
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # There getrusage may tell the peak of who has forked this.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s*(\\d+)", status)[1]) * 1024

small, large = sys.argv[1:]
for path in small, large:
    assert [v.messages for v in validate_documents(path) if v.valid] == [()], path
    for item in read_documents(path, held_bytes=HELD_BYTES):
        count = sum(1 for _ in steps(DocumentStream(item).spans()))
    print(count, peak())
"""


@pytest.mark.parametrize("suffix", ("", ".gz", ".zst"))
def test_a_document_of_100_megabytes_takes_little_memory(
    tmp_path: Path, suffix: str
) -> None:
    """Judged and turned into steps, it takes hardly more than a small one."""
    opened: Any = {"": open, ".gz": gzip.open, ".zst": zstd.open}[suffix]
    counts = 100, 100_000_000 // len(encode(FULL["spans"][1]))
    for number, count in enumerate(counts):
        with opened(tmp_path / f"{number}.jsonl{suffix}", "wb") as file:
            file.writelines(_pieces_of_a_run(count))
    # A process between, since a child's peak begins with its parent's size.
    between = "import subprocess, sys; sys.exit(subprocess.call(sys.argv[1:]))"
    paths = [str(tmp_path / f"{number}.jsonl{suffix}") for number in (0, 1)]
    command = [sys.executable, "-c", between, sys.executable, "-c", MEASURE, *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (small, before), (large, after) = map(str.split, done.stdout.splitlines())
    assert (int(small), int(large)) == counts
    assert int(after) - int(before) < 50_000_000
