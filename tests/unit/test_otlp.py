"""OTLP: what a real receiver reads of a document, and what a bad one does."""

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otlp extra")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs the otlp extra"
)

from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan

from loopotel_prom.errors import ConfigError, DocumentError
from loopotel_prom.exporter import otlp as exporter_module
from loopotel_prom.exporter.otlp import OtlpExporter
from loopotel_prom.otlp import readable_spans
from tests.unit.otlp_receiver import (
    Receiver,
    receiving,
    refusing,
    run_script,
    values,
)

TRACE_ID = "ltf-0af76519-16cd-43dd-8448-eb211c80319c"
TRACE_BYTES = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
ROOT, STEP, WORKER = "00000000000000a1", "00000000000000b2", "00000000000000c3"
NOON_NS = 1_767_268_800 * 10**9  # 2026-01-01T12:00:00Z


def a_span(span_id: str = ROOT, **changes: Any) -> dict[str, Any]:
    """Build one span of LTF, a root unless changed."""
    return {
        "span_id": span_id,
        "name": "loop.run",
        "kind": "loop",
        "start_time": "2026-01-01T12:00:00Z",
        "end_time": "2026-01-01T12:00:09Z",
        "attributes": {},
        **changes,
    }


def a_document(*spans: Any, **changes: Any) -> dict[str, Any]:
    """Build a document of these spans, or of one root."""
    return {
        "schema_version": "ltf/0.1",
        "trace_id": TRACE_ID,
        "loop_name": "code-repair",
        "started_at": "2026-01-01T12:00:00Z",
        "ended_at": "2026-01-01T12:00:10.5Z",
        "outcome": "success",
        "termination_reason": "goal_met",
        "spec_pins": {"lss": "lss@1.0.0", "les": "les@1.0.0", "ltf": "ltf@0.1.0"},
        "spans": list(spans) or [a_span()],
        **changes,
    }


def a_family() -> dict[str, Any]:
    """Build a run with an iteration, and a worker inside that."""
    event = {
        "name": "loop.iteration.end",
        "timestamp": "2026-01-01T12:00:03.000000001Z",
        "attributes": {"loop.iteration": 1, "loop.goal_score": 0.66},
    }
    step = a_span(STEP, name="loop.iteration", kind="iteration", parent_span_id=ROOT)
    step |= {"events": [event], "attributes": {"loop.iteration": 1}}
    worker = a_span(WORKER, name="loop.worker", kind="worker", parent_span_id=STEP)
    return a_document(a_span(), step, worker)


def translated(document: dict[str, Any]) -> list[ReadableSpan]:
    """Translate without a receiver."""
    return readable_spans(document, resource=Resource({}))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    with receiving() as server:
        yield server


@pytest.fixture
def refused_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Hold a port that refuses connections."""
    # The SDK tries again for this long; its default is 10 s.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1")
    with refusing() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the OTEL_* settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def delivered(receiver: Receiver, document: dict[str, Any]) -> list[Span]:
    """Send one document and return the spans that arrived."""
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export(document)
        assert exporter.flush(timeout_seconds=30)
    return receiver.spans()


def test_ids_are_those_of_the_document(receiver: Receiver) -> None:
    """The trace id is the uuid's 128 bits and a span id is taken as is."""
    spans = delivered(receiver, a_family())
    assert {span.trace_id for span in spans} == {TRACE_BYTES}
    assert [span.span_id.hex() for span in spans] == [ROOT, STEP, WORKER]


def test_grandchildren_keep_their_parents(receiver: Receiver) -> None:
    """Parents are kept at any depth."""
    spans = delivered(receiver, a_family())
    assert [span.parent_span_id.hex() for span in spans] == ["", ROOT, STEP]


def test_spans_are_internal(receiver: Receiver) -> None:
    """Nothing in a loop is a server, client, producer or consumer."""
    spans = delivered(receiver, a_family())
    assert {span.kind for span in spans} == {Span.SPAN_KIND_INTERNAL}


def test_times_arrive_to_the_nanosecond(receiver: Receiver) -> None:
    """Nine places and an offset survive, which a float would round away."""
    span = a_span(
        start_time="2026-01-01T14:30:00.123456789+02:30",
        end_time="2026-01-01T12:00:01.000000001Z",
    )
    (read,) = delivered(receiver, a_document(span))
    assert read.start_time_unix_nano == NOON_NS + 123_456_789
    assert read.end_time_unix_nano == NOON_NS + 1_000_000_001


def test_a_span_without_end_ends_with_the_document(receiver: Receiver) -> None:
    """A span that never ended takes the document's ended_at."""
    span = a_span()
    del span["end_time"]
    (read,) = delivered(receiver, a_document(span))
    assert read.end_time_unix_nano == NOON_NS + 10_500_000_000


def test_events_keep_time_and_attributes(receiver: Receiver) -> None:
    """An event arrives with its own time and its own attributes."""
    delivered(receiver, a_family())
    (event,) = receiver.span("loop.iteration").events
    assert event.name == "loop.iteration.end"
    assert event.time_unix_nano == NOON_NS + 3_000_000_001
    assert values(event.attributes) == {"loop.iteration": 1, "loop.goal_score": 0.66}


ODD_VALUES = [
    ("text", "text"),
    (True, True),
    (7, 7),
    (-(2**63), -(2**63)),
    (0.5, 0.5),
    (["a", "b"], ["a", "b"]),
    ([1, 2], [1, 2]),
    ([True, False], [True, False]),
    ([], []),
    (2**63, "9223372036854775808"),
    (-(10**30), "-1000000000000000000000000000000"),
    ([1, "a"], '[1,"a"]'),
    ([1, 2.5], "[1,2.5]"),
    ([1, True], "[1,true]"),
    ([None], "[null]"),
    ([[1], [2]], "[[1],[2]]"),
    ({"ü": [1, {"b": None}]}, '{"ü":[1,{"b":null}]}'),
    ("lone \ud800 surrogate", "lone \ufffd surrogate"),
]


def test_any_json_value_becomes_a_legal_attribute(receiver: Receiver) -> None:
    """Legal values arrive as they are, all others as compact JSON text."""
    attributes = {f"k{n}": given for n, (given, _) in enumerate(ODD_VALUES)}
    step = a_span(kind="iteration", attributes=attributes)
    (span,) = delivered(receiver, a_document(step))
    read = values(list(span.attributes))
    expected = {f"k{n}": wanted for n, (_, wanted) in enumerate(ODD_VALUES)}
    assert read == expected
    assert {k: type(v) for k, v in read.items()} == {
        k: type(v) for k, v in expected.items()
    }


def test_absent_values_are_left_out(receiver: Receiver) -> None:
    """OpenTelemetry has no null attribute and no empty key."""
    attributes = {"none": None, "": "no key", "kept": 1}
    step = a_span(kind="iteration", attributes=attributes)
    (span,) = delivered(receiver, a_document(step))
    assert values(list(span.attributes)) == {"kept": 1}


@pytest.mark.parametrize(
    ("outcome", "code", "message"),
    (
        ("success", Status.STATUS_CODE_OK, ""),
        ("failure", Status.STATUS_CODE_ERROR, "goal_met"),
        ("partial", Status.STATUS_CODE_UNSET, ""),
        ("unknown", Status.STATUS_CODE_UNSET, ""),
    ),
)
def test_the_outcome_is_the_status_of_the_root(
    receiver: Receiver, outcome: str, code: int, message: str
) -> None:
    """The root's status tells the outcome, and why the run ended if it failed."""
    delivered(receiver, a_family() | {"outcome": outcome})
    status = receiver.span("loop.run").status
    assert (status.code, status.message) == (code, message)


def test_only_the_root_has_a_status(receiver: Receiver) -> None:
    """A failed run says nothing about one of its iterations."""
    delivered(receiver, a_family() | {"outcome": "failure"})
    assert receiver.span("loop.iteration").status.code == Status.STATUS_CODE_UNSET
    assert receiver.span("loop.worker").status.code == Status.STATUS_CODE_UNSET


def test_a_root_below_a_foreign_span_has_the_status() -> None:
    """A run whose parent is in no document still carries the outcome."""
    inner = a_span(STEP, parent_span_id=ROOT)
    root = a_span(ROOT, parent_span_id="00000000000000ff")
    spans = translated(a_document(inner, root))
    assert [span.status.is_ok for span in spans] == [True, True]
    assert [span.status.is_unset for span in spans] == [True, False]


def test_the_resource_names_the_service(receiver: Receiver) -> None:
    """The resource carries service.name, the scope this package's name."""
    with OtlpExporter(receiver.endpoint, "checkout") as exporter:
        exporter.export(a_document())
    (resource,) = receiver.requests[0].resource_spans
    assert values(list(resource.resource.attributes))["service.name"] == "checkout"
    assert [scope.scope.name for scope in resource.scope_spans] == ["loopotel_prom"]


def test_the_endpoint_may_come_from_the_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an endpoint the OTEL_* variables decide, compression too."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", receiver.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
    with OtlpExporter() as exporter:
        exporter.export(a_document())
        assert exporter.flush(timeout_seconds=30)
    assert len(receiver.spans()) == 1


def test_the_global_tracer_provider_stays(receiver: Receiver) -> None:
    """Another library's provider is neither replaced nor set."""
    before = trace.get_tracer_provider()
    delivered(receiver, a_document())
    assert trace.get_tracer_provider() is before


BAD_SPANS = [
    "no span",
    a_span(span_id="short"),
    a_span(span_id="0" * 16),
    a_span(span_id=["list"]),
    a_span(STEP, name=""),
    a_span(STEP, name=7),
    a_span(STEP, start_time="yesterday"),
    a_span(STEP, start_time=None),
    a_span(STEP, start_time="1969-12-31T23:59:59Z"),
    a_span(STEP, start_time="2600-01-01T00:00:00Z"),
]


@pytest.mark.parametrize("bad", BAD_SPANS)
def test_a_bad_span_costs_no_neighbour(
    bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A span that OTLP cannot express is left out, counted in one warning."""
    spans = translated(a_document(a_span(ROOT), bad, a_span(WORKER)))
    assert [f"{span.context.span_id:016x}" for span in spans] == [ROOT, WORKER]
    assert [record.args for record in caplog.records] == [(1, TRACE_ID)]


BAD_EVENTS = [
    "no event",
    {"timestamp": "2026-01-01T12:00:00Z"},
    {"name": 7, "timestamp": "2026-01-01T12:00:00Z"},
    {"name": "x"},
    {"name": "x", "timestamp": 1_767_268_800},
    {"name": "x", "timestamp": "1900-01-01T00:00:00Z"},
]


@pytest.mark.parametrize("bad", BAD_EVENTS)
def test_a_bad_event_costs_no_neighbour(
    bad: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that OTLP cannot express is left out, counted in one warning."""
    good = {"name": "good", "timestamp": "2026-01-01T12:00:00Z"}
    (span,) = translated(a_document(a_span(events=[good, bad, good])))
    assert [event.name for event in span.events] == ["good", "good"]
    assert [record.args for record in caplog.records] == [(1, TRACE_ID)]


@pytest.mark.parametrize("field", ("events", "attributes", "parent_span_id"))
@pytest.mark.parametrize("bad", ("text", 7, {"a": 1}, [1]))
def test_a_bad_field_costs_no_span(field: str, bad: Any) -> None:
    """A field of the wrong kind leaves its span standing."""
    (span,) = translated(a_document(a_span(**{field: bad})))
    assert span.parent is None
    assert not span.events


@pytest.mark.parametrize("bad", ("yesterday", 7, "1969-12-31T23:59:59Z"))
def test_a_bad_end_is_the_end_of_the_document(bad: Any) -> None:
    """An unreadable end falls back as a missing one does."""
    (span,) = translated(a_document(a_span(end_time=bad)))
    assert span.end_time == NOON_NS + 10_500_000_000


def test_no_end_at_all_gives_an_instant() -> None:
    """Where the document's end is unreadable too, the span has no length."""
    (span,) = translated(a_document(a_span(end_time=None), ended_at=None))
    assert span.start_time == span.end_time == NOON_NS


@pytest.mark.parametrize(
    "changes",
    (
        {"trace_id": None},
        {"trace_id": "ltf-0AF76519-16CD-43DD-8448-EB211C80319C"},
        {"trace_id": TRACE_ID + "\n"},
        {"trace_id": "ltf-00000000-0000-0000-0000-000000000000"},
        {"spans": None},
        {"spans": "text"},
    ),
)
def test_a_document_without_id_or_spans_is_an_error(changes: dict[str, Any]) -> None:
    """What has no trace id or no spans cannot be a trace."""
    with pytest.raises(DocumentError, match="validate"):
        translated(a_document(**changes))


def test_a_document_longer_than_the_queue_arrives_whole(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full queue makes export wait; it loses no span."""
    monkeypatch.setattr(exporter_module, "_QUEUE_SPANS", 512)
    steps = [a_span(f"{n:016x}", kind="iteration") for n in range(1, 2001)]
    assert len(delivered(receiver, a_document(*steps))) == 2000


def test_a_queue_without_room_gives_spans_up(
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without time to wait, what does not fit is lost, and flush says so."""
    monkeypatch.setattr(exporter_module, "_QUEUE_SPANS", 512)
    receiver.may_answer.clear()
    with OtlpExporter(receiver.endpoint, room_seconds=0) as exporter:
        exporter.export(a_document(*(a_span(f"{n:016x}") for n in range(1, 600))))
        receiver.may_answer.set()
        assert not exporter.flush(timeout_seconds=30)
    assert "87 span(s) lost" in caplog.text
    assert len(receiver.spans()) == 512


def test_a_refused_request_makes_flush_false(receiver: Receiver) -> None:
    """HTTP 400 is a loss, reported once; what follows can be well again."""
    receiver.status = 400
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export(a_document())
        assert not exporter.flush(timeout_seconds=30)
        receiver.status = 200
        exporter.export(a_document())
        assert exporter.flush(timeout_seconds=30)


def test_an_unreachable_receiver_makes_flush_false(refused_endpoint: str) -> None:
    """A refused connection raises nothing and is reported by flush."""
    with OtlpExporter(refused_endpoint) as exporter:
        exporter.export(a_document())
        assert not exporter.flush(timeout_seconds=30)


def test_flush_keeps_its_time_limit(receiver: Receiver) -> None:
    """A receiver that does not answer holds flush no longer than allowed."""
    receiver.may_answer.clear()
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export(a_document())
        started = time.monotonic()
        assert not exporter.flush(timeout_seconds=0.05)
        assert time.monotonic() - started < 5
        receiver.may_answer.set()


def test_a_late_answer_counts_for_the_next_flush(receiver: Receiver) -> None:
    """A flush that ran out of time has lost nothing yet."""
    receiver.may_answer.clear()
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export(a_document())
        assert not exporter.flush(timeout_seconds=0.01)
        receiver.may_answer.set()
        assert exporter.flush(timeout_seconds=30)


def test_flush_without_documents_is_true(refused_endpoint: str) -> None:
    """Nothing handed over, nothing lost."""
    with OtlpExporter(refused_endpoint) as exporter:
        assert exporter.flush(timeout_seconds=1)


def test_close_sends_what_is_queued(receiver: Receiver) -> None:
    """Leaving the context delivers without a flush."""
    with OtlpExporter(receiver.endpoint) as exporter:
        exporter.export(a_document())
    assert len(receiver.spans()) == 1


def test_close_tells_what_it_could_not_send(
    refused_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A loss at the very end is logged, for nobody flushes any more."""
    with OtlpExporter(refused_endpoint) as exporter:
        exporter.export(a_document())
    assert "closed with 1 span(s) not delivered" in caplog.text


def test_export_after_close_is_a_loss(receiver: Receiver) -> None:
    """A closed exporter takes nothing, raises nothing and says so at once."""
    exporter = OtlpExporter(receiver.endpoint)
    exporter.close()
    exporter.close()
    exporter.export(a_document())
    assert not exporter.flush(timeout_seconds=30)
    assert receiver.spans() == []


def test_concurrent_exports_all_arrive(receiver: Receiver) -> None:
    """Threads may share one exporter."""
    with OtlpExporter(receiver.endpoint) as exporter:
        threads = [
            threading.Thread(
                target=exporter.export,
                args=(a_document(*(a_span(f"{n:016x}") for n in range(k, k + 100))),),
            )
            for k in range(1, 801, 100)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert exporter.flush(timeout_seconds=30)
    assert len({span.span_id for span in receiver.spans()}) == 800


def test_a_setting_that_the_sdk_refuses_is_a_config_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bad OTEL_* variable is reported when the exporter is made."""
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1000000")
    with pytest.raises(ConfigError, match="OTEL_"):
        OtlpExporter("http://127.0.0.1:1/v1/traces")


def test_a_program_that_ends_loses_nothing(receiver: Receiver) -> None:
    """What was handed over is sent at exit, without flush or close."""
    script = f"""
        import sys
        from loopotel_prom.exporter.otlp import OtlpExporter
        OtlpExporter(sys.argv[1]).export({a_family()!r})
    """
    finished = run_script(script, receiver.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert len(receiver.spans()) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_starts_clean(receiver: Receiver) -> None:
    """Parent and child each send their own document, once."""
    other = TRACE_ID.replace("0af7", "1af7")
    script = f"""
        import os, sys
        from loopotel_prom.exporter.otlp import OtlpExporter
        exporter = OtlpExporter(sys.argv[1])
        exporter.export({a_document()!r})
        child = os.fork()
        if not child:
            exporter.export({a_document(trace_id=other)!r})
            os._exit(0 if exporter.flush(timeout_seconds=30) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert exporter.flush(timeout_seconds=30)
    """
    finished = run_script(script, receiver.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(span.trace_id[0] for span in receiver.spans()) == [0x0A, 0x1A]


@pytest.mark.parametrize(
    "use",
    (
        "OtlpExporter('http://127.0.0.1:1/v1/traces')",
        f"readable_spans({a_document()!r}, resource=None)",
    ),
)
def test_a_missing_extra_is_named(use: str) -> None:
    """Without OpenTelemetry the error says what to install, and is no exit."""
    script = f"""
        import sys
        sys.modules["opentelemetry"] = None
        from loopotel_prom.errors import MissingExtraError
        from loopotel_prom.exporter.otlp import OtlpExporter
        from loopotel_prom.otlp import readable_spans
        try:
            {use}
        except MissingExtraError as error:
            print(error.extra, error)
    """
    finished = run_script(script)
    assert finished.stdout.startswith("otlp OpenTelemetry is not installed; install")
    assert "loopotel-prom[otlp]" in finished.stdout


def test_importing_loads_no_opentelemetry() -> None:
    """OpenTelemetry is loaded on first use, not on import."""
    script = """
        import sys
        import loopotel_prom.exporter.otlp
        print([name for name in sys.modules if name.startswith("opentelemetry")])
    """
    assert run_script(script).stdout == "[]\n"
