"""The command `loopotel-prom validate`, run as its users run it."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loopotel_prom.archive.lines import zstd

EXAMPLES = Path(__file__).parents[2] / "specs" / "examples"
PRETTY = (EXAMPLES / "full.good.json").read_bytes()
GOOD = json.dumps(json.loads(PRETTY)).encode()
INVALID = b'{"spans": [], "outcome": "\x7f\\u001b[31m"}'

Run = Callable[..., subprocess.CompletedProcess[bytes]]
Write = Callable[[str, bytes], None]
Pack = Callable[[bytes], bytes]


@pytest.fixture
def validate(tmp_path: Path) -> Run:
    """Run the command in a folder of its own; it must never traceback."""

    def run(*args: str, stdin: bytes = b"", **env: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", "validate", *args],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            check=False,
            env=os.environ | env,
            timeout=60,
        )
        assert b"Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the folder that the command runs in."""
    return lambda name, data: (tmp_path / name).write_bytes(data) and None


def test_a_good_file_is_valid(validate: Run, write: Write) -> None:
    """The verdict goes to standard output, nothing to standard error."""
    write("trace.json", PRETTY)
    done = validate("trace.json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == b"VALID: trace.json\n"


def test_an_invalid_document_gets_its_messages(validate: Run) -> None:
    """Each message has a line of its own, below the file."""
    example = EXAMPLES / "null-env-id.bad.json"
    done = validate(str(example))
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().splitlines() == [
        f"INVALID: {example}",
        "  - $.env_id: None is not of type 'string'",
        "  - $.task_id: None is not of type 'string'",
    ]


@pytest.mark.parametrize(
    ("bad", "fault"),
    (
        (b'{"a": 1', "not JSON: ends in the middle"),
        (b'{"a": NaN}', "not JSON: NaN is no JSON number"),
        (b"[1]", "a JSON object is needed, this is list"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b"\0" * 50, "not JSON: expecting value, at byte 0"),
        (b"\x1b[2J", "not JSON: expecting value, at byte 0"),
        (b'{"a": ' * 100_000, "nested too deeply"),
    ),
    ids=("torn", "nan", "array", "encoding", "zeros", "escape", "deep"),
)
def test_a_bad_line_is_one_line_and_no_end(
    validate: Run, write: Write, bad: bytes, fault: str
) -> None:
    """File, line and offset are named; documents after it are judged."""
    write("t.jsonl", b"\n".join((GOOD, b"", bad, GOOD)))
    done = validate("t.jsonl")
    place = f"line 3 (byte {len(GOOD) + 2})"
    assert done.returncode == 1
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"INVALID: t.jsonl: {place}: {fault}")
    assert done.stdout == b"VALID: t.jsonl#1\nVALID: t.jsonl#4\n"


@pytest.mark.parametrize(
    ("path", "error"),
    (
        ("missing.json", "missing.json: No such file or directory; check the path"),
        (".", ".: Is a directory; name the files in it"),
        ("empty.jsonl", "empty.jsonl: line 1 (byte 0): no document in it"),
        ("empty.json", "empty.json: line 1 (byte 0): no document in it"),
        ("-", "<stdin>: line 1 (byte 0): no document in it"),
    ),
)
def test_a_path_without_documents_is_one_line_and_no_end(
    validate: Run, write: Write, path: str, error: str
) -> None:
    """The next path is judged all the same."""
    write("empty.jsonl", b"\n")
    write("empty.json", b"\n")
    write("good.json", GOOD)
    done = validate(path, "good.json")
    assert (done.returncode, done.stdout) == (1, b"VALID: good.json\n")
    assert done.stderr.decode() == f"INVALID: {error}\n"


def test_a_huge_line_takes_little_memory(tmp_path: Path, write: Write) -> None:
    """A line of 120 MB of no document between good ones is skipped."""
    write("t.jsonl", GOOD + b"\n")
    with (tmp_path / "t.jsonl").open("ab") as file:
        file.truncate(len(GOOD) + 120_000_000)  # a hole: no disk is written
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + GOOD)
    # A process between, since a child's peak begins with its parent's size.
    measure = (
        "import resource as r, subprocess, sys; subprocess.run(sys.argv[1:]);"
        "print(r.getrusage(r.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-m", "loopotel_prom.cli", "validate", "t.jsonl"]
    done = subprocess.run(
        [sys.executable, "-c", measure, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    *verdicts, peak = done.stdout.splitlines()
    assert verdicts == ["VALID: t.jsonl#1", "VALID: t.jsonl#3"]
    assert done.stderr.endswith("): not JSON: expecting value, at byte 0 of it\n")
    assert int(peak) * (1 if sys.platform == "darwin" else 1024) < 100_000_000


def test_standard_input_is_read_by_lines(validate: Run) -> None:
    """One document a line, as from a pipe."""
    done = validate("-", stdin=GOOD + b"\n" + GOOD)
    assert done.stdout == b"VALID: <stdin>#1\nVALID: <stdin>#2\n"


def test_standard_input_may_be_pretty_printed(validate: Run) -> None:
    """A document on many lines is one document."""
    done = validate("-", stdin=PRETTY)
    assert (done.returncode, done.stdout) == (0, b"VALID: <stdin>\n")


@pytest.mark.parametrize("pack", (gzip.compress, zstd.compress))
def test_compressed_files_are_read(validate: Run, write: Write, pack: Pack) -> None:
    """By content: a suffix that says nothing harms nothing."""
    write("t.jsonl.packed", pack(GOOD + b"\n" + GOOD))
    write("t.json.gz", pack(PRETTY))
    done = validate("t.jsonl.packed", "t.json.gz", "-", stdin=pack(GOOD))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"VALID: ") == 4


@pytest.mark.parametrize(
    ("pack", "name"), ((gzip.compress, "gzip"), (zstd.compress, "zstd"))
)
def test_a_truncated_compressed_file_is_one_line(
    validate: Run, write: Write, pack: Pack, name: str
) -> None:
    """The documents before the tear are judged."""
    whole = GOOD + b"\n" + b'{"x":"' + os.urandom(500_000).hex().encode() + b'"}'
    write("t", pack(whole)[:400_000])
    done = validate("t")
    place = f"line 2 (byte {len(GOOD) + 1})"
    fault = f"the {name} stream ends here, torn"
    assert (done.returncode, done.stdout) == (1, b"VALID: t#1\n")
    assert done.stderr.decode() == f"INVALID: t: {place}: {fault}\n"


def test_the_limit_can_be_set(validate: Run, write: Write) -> None:
    """`--max-line-bytes` bounds a document, and so the memory."""
    write("t.jsonl", GOOD)
    done = validate("t.jsonl", "--max-line-bytes", "99")
    assert done.stderr == b"INVALID: t.jsonl: line 1 (byte 0): longer than 99 bytes\n"


@pytest.mark.parametrize("encoding", ("utf-8", "ascii"))
def test_echoed_text_cannot_control_the_terminal(validate: Run, encoding: str) -> None:
    """Escape sequences, in names and documents, are spelled out."""
    name = "\x1b[31m\udcff\u202e.json"
    text = INVALID.replace(b'"spans"', '"Zo\u00eb"'.encode())
    done = validate(name, "-", stdin=text, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert done.stderr.startswith(rb"INVALID: \x1b[31m\udcff\u202e.json: No such")
    assert not set(done.stderr) & (set(range(32)) - {10} | {127})


def test_a_message_that_quotes_too_much_is_cut(validate: Run) -> None:
    """A large value in the wrong place does not flood the terminal."""
    done = validate("-", stdin=b'{"trace_id": "%s"}' % (b"x" * 100_000))
    longest = max(done.stderr.splitlines(), key=len)
    assert len(longest) < 2100
    assert longest.endswith(b" characters more)")


def test_json_gives_one_object_a_verdict(validate: Run) -> None:
    """All verdicts are on standard output, for a program to read."""
    stdin = b"\n".join((GOOD, INVALID, b"{"))
    done = validate("--json", "-", "missing", stdin=stdin)
    good, invalid, bad, missing = map(json.loads, done.stdout.splitlines())
    assert (done.returncode, done.stderr) == (1, b"")
    assert good == {
        "label": "<stdin>#1",
        "file": "<stdin>",
        "line": 1,
        "offset": 0,
        "valid": True,
        "fault": None,
        "messages": [],
    }
    assert "$.spans: [] should be non-empty" in invalid["messages"]
    assert bad["fault"].startswith("not JSON")
    assert missing["fault"].startswith("missing: No such file")


@pytest.mark.parametrize("machine", ((), ("--json",)))
def test_quiet_tells_only_what_is_invalid(
    validate: Run, machine: tuple[str, ...]
) -> None:
    """Good documents pass in silence."""
    done = validate("--quiet", *machine, "-", stdin=GOOD + b"\n" + INVALID)
    assert b"<stdin>#1" not in done.stdout + done.stderr
    assert b"<stdin>#2" in done.stdout + done.stderr


@pytest.mark.parametrize("args", ((), ("--max-line-bytes", "0", "-"), ("--what", "-")))
def test_bad_usage_is_told_apart(validate: Run, args: tuple[str, ...]) -> None:
    """It exits with 2, bad data with 1."""
    assert validate(*args).returncode == 2


def test_a_closed_standard_input_is_one_line(tmp_path: Path) -> None:
    """As under some service managers."""
    command = '"$0" -m loopotel_prom.cli validate - <&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"INVALID: <stdin>: it is closed; ")
