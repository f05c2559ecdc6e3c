"""Verdicts on documents, with the examples of the specification."""

import enum
import gzip
import io
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom.errors import ArchiveError, DocumentError
from loopotel_prom.validate import (
    Verdict,
    load_schema,
    validate_documents,
    validate_file,
    validate_trace,
)

EXAMPLES = Path(__file__).parents[2] / "specs" / "examples"
GOOD = sorted(EXAMPLES.glob("*.good.json"))
BAD = sorted(EXAMPLES.glob("*.bad.json"))


@pytest.fixture
def trace() -> dict[str, Any]:
    """Give a valid document with every optional part."""
    return json.loads((EXAMPLES / "full.good.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_example_is_valid(path: Path) -> None:
    """Nothing is held against it."""
    assert validate_file(path) == (True, [])


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_example_gets_the_expected_messages(path: Path) -> None:
    """Each of its faults is named, and nothing else."""
    expected = path.with_suffix(".expected.txt").read_text(encoding="utf-8")
    assert validate_file(path) == (False, expected.splitlines())


def test_the_examples_are_there() -> None:
    """The two tests above have something to look at."""
    assert len(GOOD) >= 2
    assert len(BAD) >= 9


def test_each_schema_is_the_callers_own() -> None:
    """Changing one harms no later verdict."""
    load_schema().clear()
    assert load_schema()["$id"].endswith("/ltf-0.1.schema.json")


def test_importing_loads_neither_validator() -> None:
    """A program that never validates does not pay for it."""
    code = "import sys, loopotel_prom.validate; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"jsonschema", "jsonschema_rs"} & set(run.stdout.split())


class Kind(enum.Enum):
    """An enum whose member's value is right."""

    LOOP = "loop"


class Text(enum.StrEnum):
    """An enum whose members are strings."""

    ENV_ID = "env_id"
    LOOP = "loop"


def test_a_tuple_is_no_array(trace: dict[str, Any]) -> None:
    """The fast validator takes it for one; the authority does not."""
    valid, messages = validate_trace(trace | {"spans": tuple(trace["spans"])})
    assert not valid
    assert messages[0].endswith("is not of type 'array'")


def test_a_tuple_of_events_is_no_array(trace: dict[str, Any]) -> None:
    """The same further down."""
    trace["spans"][1]["events"] = tuple(trace["spans"][1]["events"])
    assert not validate_trace(trace)[0]


def test_an_enum_member_is_no_string(trace: dict[str, Any]) -> None:
    """The fast validator looks at its value; the authority does not."""
    trace["spans"][0]["kind"] = Kind.LOOP
    assert not validate_trace(trace)[0]


def test_a_text_enum_is_a_string(trace: dict[str, Any]) -> None:
    """A member that is a str is one to both, as a key and as a value."""
    trace[Text.ENV_ID] = trace.pop("env_id")
    trace["spans"][0]["kind"] = Text.LOOP
    assert validate_trace(trace) == (True, [])


@pytest.mark.parametrize(
    "value",
    ("\ud800", 10**5000, float("nan"), (1, 2), b"", {1: 2}, Kind.LOOP),
    ids=("surrogate", "huge", "nan", "tuple", "bytes", "key", "enum"),
)
def test_attributes_are_free(trace: dict[str, Any], value: object) -> None:
    """Nothing within them has a verdict, not even what JSON cannot carry."""
    trace["spans"][0]["attributes"]["x"] = value
    assert validate_trace(trace) == (True, [])


def test_a_final_newline_passes_the_pattern(trace: dict[str, Any]) -> None:
    """The authority's ``$`` allows it, so we do: verdicts are the format's."""
    trace["spans"][0]["span_id"] += "\n"
    assert validate_trace(trace) == (True, [])


@pytest.mark.parametrize("trace", (None, 1, "ltf", [], True, 10**400, "\udfff"))
def test_what_is_no_object_is_invalid(trace: object) -> None:
    """Any value has a verdict; none raises."""
    valid, (message,) = validate_trace(trace)
    assert not valid
    assert message.endswith("is not of type 'object'")


@pytest.mark.parametrize("too_much", ("depth", "digits"))
def test_a_value_that_cannot_be_quoted_is_invalid(
    trace: dict[str, Any], too_much: str
) -> None:
    """A message that cannot be built does not hide the verdict."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    trace["env_id"] = deep if too_much == "depth" else 10**5000
    messages = ["$: a value that is wrong cannot be spelled out"]
    assert validate_trace(trace) == (False, messages)


def test_verdicts_are_the_same_from_concurrent_threads(trace: dict[str, Any]) -> None:
    """Both validators are shared, and compiled on first use."""
    wrong = trace | {"outcome": "won"}
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(validate_trace, [trace, wrong] * 100))
    assert verdicts == [(True, []), validate_trace(wrong)] * 100


@pytest.mark.parametrize(
    ("data", "message"),
    (
        (b'{"a": NaN}', "not JSON: NaN is no JSON number"),
        (b'{"a": 1', "not JSON: ends in the middle, at byte 7 of it"),
        (b"[]", "a JSON object is needed, this is list"),
        (b"\xff\xfe{}", "not UTF-8, at byte 0 of it"),
        (b"\n", "no document in it"),
        (gzip.compress(b"{}")[:-9], "the gzip stream ends here, torn"),
        (b"{%100s}" % b"", "a document longer than 99 bytes"),
    ),
)
def test_a_file_without_a_document_is_one_clear_error(
    tmp_path: Path, data: bytes, message: str
) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / "trace.json"
    path.write_bytes(data)
    with pytest.raises(DocumentError) as caught:
        validate_file(path, max_bytes=99)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("name", ("missing.json", "."))
def test_an_unreadable_file_is_an_archive_error(tmp_path: Path, name: str) -> None:
    """No file, or a folder."""
    with pytest.raises(ArchiveError, match="directory; "):
        validate_file(tmp_path / name)


def test_each_document_gets_a_verdict(trace: dict[str, Any]) -> None:
    """A bad line between two documents harms neither."""
    good = json.dumps(trace).encode()
    wrong = b'{"spans": []}'
    stream = io.BytesIO(b"\n".join((good, b"{", b"", wrong, good)))
    verdicts = list(validate_documents(stream))
    assert [v.label for v in verdicts] == [f"<stream>#{n}" for n in (1, 2, 4, 5)]
    assert [v.valid for v in verdicts] == [True, False, False, True]
    assert [v.fault is None for v in verdicts] == [True, False, True, True]
    assert "$.spans: [] should be non-empty" in verdicts[2].messages


def test_a_single_document_is_called_by_its_file(tmp_path: Path) -> None:
    """There is no other to tell it from."""
    path = tmp_path / "trace.json"
    path.write_bytes(GOOD[0].read_bytes())
    assert list(validate_documents(path)) == [
        Verdict(label=str(path), file=str(path), line=1, offset=0, valid=True)
    ]


def test_a_source_without_documents_gets_a_bad_verdict(tmp_path: Path) -> None:
    """An empty file is never taken for a good one."""
    path = tmp_path / "traces.jsonl"
    path.touch()
    (verdict,) = validate_documents(path)
    assert (verdict.valid, verdict.fault) == (False, "no document in it")
