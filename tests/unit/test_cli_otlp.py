"""The command `loopotel-prom export otlp`, run as its users run it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otlp extra")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs the otlp extra"
)

from loopotel_prom import ltf
from loopotel_prom.archive.lines import LongLine
from loopotel_prom.archive.reader import Entry, read_archive
from loopotel_prom.errors import DocumentError
from loopotel_prom.exporter.otlp import OtlpExporter
from loopotel_prom.otlp import readable_spans
from loopotel_prom.otlp.document import translate_stream
from loopotel_prom.otlp.resource import resource_of
from tests.unit.otlp_receiver import Receiver, receiving, refusing, values

FULL = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
SPANS = len(FULL["spans"])

Run = Callable[..., subprocess.CompletedProcess[str]]


def a_document(number: int, **changes: Any) -> bytes:
    """Spell the full example as another run."""
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return json.dumps(FULL | {"trace_id": trace_id} | changes).encode() + b"\n"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    with receiving() as server:
        yield server


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Make an archive of three runs, one of them twice."""
    folder = tmp_path / "traces"
    folder.mkdir()
    days = ("2026-01-01", "2026-01-02", "2026-01-03")
    lines = [
        a_document(number, started_at=f"{day}T00:00:00Z")
        for number, day in enumerate(days, 1)
    ]
    (folder / "traces.jsonl").write_bytes(b"".join([*lines, lines[0]]))
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Run:
    """Run the command in a folder of its own; it must never traceback."""

    def run(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
        done = subprocess.run(
            [sys.executable, "-m", "loopotel_prom.cli", "export", "otlp", *args],
            cwd=tmp_path,
            env=inherited | variables,
            capture_output=True,
            check=False,
            text=True,
            timeout=120,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


def runs_of(receiver: Receiver) -> list[int]:
    """Give the numbers of the runs that arrived, in order."""
    roots = (span for span in receiver.spans() if span.name == "loop.run")
    return [int(span.trace_id.hex()[:8], 16) for span in roots]


def test_each_run_is_sent_once_in_order(
    archive: Path, export: Run, receiver: Receiver
) -> None:
    """The default folder, the counts at the end."""
    done = export("--endpoint", receiver.endpoint)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"3 runs, {3 * SPANS} spans sent, 0 lost, 0 rejected\n"
    assert runs_of(receiver) == [1, 2, 3]


def test_the_environment_may_say_all(
    archive: Path, export: Run, receiver: Receiver
) -> None:
    """Where to, and the service's name."""
    variables = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.endpoint,
        "OTEL_SERVICE_NAME": "checkout",
    }
    assert export(**variables).returncode == 0
    resource = receiver.requests[0].resource_spans[0].resource
    assert values(resource.attributes)["service.name"] == "checkout"


def test_a_period_selects_by_start(
    archive: Path, export: Run, receiver: Receiver
) -> None:
    """From the one time up, and before the other."""
    period = ("--since", "2026-01-02", "--until", "2026-01-03")
    done = export("--endpoint", receiver.endpoint, *period, "--json")
    assert json.loads(done.stdout)["runs"] == 1
    assert runs_of(receiver) == [2]


def test_what_is_no_trace_is_named_and_ends_nothing(
    archive: Path, export: Run, receiver: Receiver
) -> None:
    """Its neighbours arrive; the exit code tells of it."""
    file = archive / "traces.jsonl"
    bad = a_document(7, trace_id="ltf-none") + b"{bad\n" + a_document(8)
    file.write_bytes(file.read_bytes() + bad)
    done = export("--endpoint", receiver.endpoint)
    assert done.returncode == 1
    rejected = [line for line in done.stderr.splitlines() if "rejected: " in line]
    assert ["line 5" in rejected[0], "line 6" in rejected[1]] == [True, True]
    assert runs_of(receiver) == [1, 2, 3, 8]


def test_rejects_have_a_file(
    archive: Path, export: Run, receiver: Receiver, tmp_path: Path
) -> None:
    """An object for each, as of the other exports."""
    (archive / "traces.jsonl").write_bytes(a_document(7, spans="none"))
    done = export("--endpoint", receiver.endpoint, "--rejects", "r.jsonl")
    told = json.loads((tmp_path / "r.jsonl").read_bytes())
    assert (told["line"], told["trace_id"][:12]) == (1, "ltf-00000007")
    assert done.stderr == "0 runs, 0 spans sent, 0 lost, 1 rejected\n"


def test_a_dead_receiver_ends_it(archive: Path, export: Run) -> None:
    """Exit code 1, one line of why, and the counts."""
    with refusing() as endpoint:
        done = export(
            *("--endpoint", endpoint, "--json"), OTEL_EXPORTER_OTLP_TIMEOUT="2"
        )
    assert done.returncode == 1
    assert json.loads(done.stdout)["spans_lost"] == 3 * SPANS
    (line,) = done.stderr.splitlines()
    assert line.startswith("loopotel-prom: the receiver did not take all spans: ")


@pytest.mark.parametrize("status", (301, 304, 307))
def test_a_redirect_is_no_delivery(
    archive: Path, export: Run, receiver: Receiver, status: int
) -> None:
    """Nobody has the spans; the line tells what to do."""
    receiver.status = status
    done = export("--endpoint", receiver.endpoint, "--json")
    assert (done.returncode, json.loads(done.stdout)["spans_sent"]) == (1, 0)
    assert f"it redirects ({status})" in done.stderr


def test_a_receiver_that_recovers_gets_all(
    archive: Path, export: Run, receiver: Receiver
) -> None:
    """The SDK tries again."""
    receiver.statuses = [503]
    done = export("--endpoint", receiver.endpoint, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["spans_sent"] == 3 * SPANS


def test_a_bad_address_is_bad_usage(archive: Path, export: Run) -> None:
    """Before anything is read."""
    done = export("--endpoint", "collector")
    assert done.returncode == 2
    assert "http://127.0.0.1:4318/v1/traces" in done.stderr.replace("\n", "")


def long_entry(folder: Path, document: dict[str, Any]) -> Entry:
    """Read a document as one that is longer than may be held."""
    (folder / "long.jsonl").write_bytes(ltf.encode(document) + b"\n")
    (entry,) = read_archive(folder / "long.jsonl")
    assert isinstance(entry, Entry)
    return entry


def test_a_long_document_is_the_same_trace(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read piece by piece, its own span last."""
    monkeypatch.setattr("loopotel_prom.archive.reader.LONG_BYTES", 64)
    entry = long_entry(tmp_path, FULL)
    assert isinstance(entry.line, LongLine)
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export_entry(entry)
        assert exporter.flush(timeout_seconds=30)
    names = [span.name for span in receiver.spans()]
    assert len(names) == SPANS
    assert names[-1] == "loop.run"


def test_a_long_document_without_spans_is_none(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a short one is none."""
    monkeypatch.setattr("loopotel_prom.archive.reader.LONG_BYTES", 64)
    entry = long_entry(tmp_path, {**FULL, "spans": "none"})
    with (
        OtlpExporter(receiver.endpoint) as exporter,
        pytest.raises(DocumentError, match="not a list"),
    ):
        exporter.export_entry(entry)


def test_a_stream_of_batches_translates_as_the_whole() -> None:
    """Whatever is in a batch, with metadata that comes behind the spans."""
    resource, fields = resource_of(), {**FULL}
    pieces, metadata = fields.pop("spans"), fields.pop("metadata")

    def batches() -> Iterator[list[Any]]:
        yield from ([piece] for piece in pieces)
        fields["metadata"] = metadata

    streamed = [
        span.to_json()
        for batch in translate_stream(fields, batches(), resource)
        for span in batch
    ]
    whole = [span.to_json() for span in readable_spans(FULL, resource=resource)]
    assert streamed == [*whole[1:], whole[0]]
