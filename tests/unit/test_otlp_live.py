"""OTLP, live: what a receiver reads of runs under way, and what a bad one costs."""

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs the otlp extra")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="needs the otlp extra"
)

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import LoopTracer, ltf, semconv
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.otlp import processor as processor_module
from loopotel_prom.otlp import readable_spans
from loopotel_prom.otlp.live import LiveRun
from loopotel_prom.otlp.processor import OtlpProcessor
from loopotel_prom.otlp.resource import resource_of
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.rfc3339 import parse_time
from loopotel_prom.testing import RecordingProcessor
from tests.unit.otlp_receiver import (
    Receiver,
    receiving,
    refusing,
    run_script,
    values,
)

SDK_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"

Sending = Callable[..., OtlpProcessor]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the OTEL_* settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    with receiving() as server:
        yield server


@pytest.fixture
def health() -> Health:
    """Give a health of the test's own."""
    return Health()


@pytest.fixture
def sending(health: Health) -> Iterator[Sending]:
    """Make processors that count into `health`, and close them."""
    made: list[OtlpProcessor] = []

    def make(endpoint: str, **options: Any) -> OtlpProcessor:
        made.append(OtlpProcessor(endpoint, health=health, **options))
        return made[-1]

    yield make
    for processor in made:
        processor.close()


def a_run(pipeline: Pipeline | None = None, **options: Any) -> LoopTracer:
    """Report a run with one of everything."""
    run = LoopTracer("code-repair", pipeline=pipeline, goal_target=0.8, **options)
    with run:
        with run.iteration() as step:
            with step.worker("implementer", role="coder") as worker:
                worker.add_tokens(input=900, output=210)
            with step.evaluator("rubric", type="llm_rubric") as judge:
                judge.score(0.66)
            step.goal_score(0.66)
            step.failure("fail.oscillation")
        run.emit_iteration(iteration=2, goal_score=0.81, evaluator_id="rubric")
        run.finish(outcome="success", termination_reason="goal_met")
    return run


def as_document(span: Span) -> dict[str, Any]:
    """Spell what arrived as its document does, added attributes aside."""
    attributes = values(span.attributes)
    own = {k: v for k, v in attributes.items() if not k.startswith("gen_ai.op")}
    own.pop("gen_ai.workflow.name", None)
    return {
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "name": span.name,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": own,
        "events": [
            (event.name, event.time_unix_nano, values(event.attributes))
            for event in span.events
            if not event.name.startswith("gen_ai.")
        ],
    }


def expected(piece: dict[str, Any]) -> dict[str, Any]:
    """Spell a document's span likewise."""
    return {
        "span_id": piece["span_id"],
        "parent_span_id": piece["parent_span_id"],
        "name": piece["name"],
        "start": parse_time(piece["start_time"]),
        "end": parse_time(piece["end_time"]),
        "attributes": piece["attributes"],
        "events": [
            (event["name"], parse_time(event["timestamp"]), event["attributes"])
            for event in piece["events"]
        ],
    }


def test_a_configured_run_arrives_as_its_document(receiver: Receiver) -> None:
    """Ids, tree, times, attributes and events are the document's."""
    with loopotel_prom.configure(
        listen=None, otlp=receiver.endpoint, registry=CollectorRegistry()
    ) as handle:
        document = a_run().build_trace()
        assert handle.flush(30)
    arrived = {span.span_id.hex(): as_document(span) for span in receiver.spans()}
    assert {span.trace_id.hex() for span in receiver.spans()} == {
        document["trace_id"].removeprefix("ltf-").replace("-", "")
    }
    assert arrived == {piece["span_id"]: expected(piece) for piece in document["spans"]}


SCORES = st.none() | st.floats(0, 1)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "workers": st.lists(st.sampled_from(["a", "b"]), max_size=2),
            "judges": st.lists(
                st.tuples(st.sampled_from(["r", "s"]), SCORES), max_size=2
            ),
            "score": SCORES,
            "code": st.none() | st.just("fail.oscillation"),
            "fails": st.booleans(),
            "note": st.none() | st.integers(-9, 9) | st.text(max_size=5),
        }
    ),
    max_size=4,
)


def drive(run: LoopTracer, steps: list[dict[str, Any]]) -> None:
    """Report what Hypothesis thought of."""
    for plan in steps:
        with run.iteration() as step:
            for name in plan["workers"]:
                with step.worker(name) as worker:
                    worker.add_tokens(input=3)
                    worker.set_attribute("note", plan["note"])
            for name, score in plan["judges"]:
                with step.evaluator(name) as judge:
                    if score is not None:
                        judge.score(score)
            if plan["score"] is not None:
                step.goal_score(plan["score"])
            if plan["code"] is not None:
                step.failure(plan["code"])
            if plan["fails"]:
                raise KeyError("no more")


# A machine that is busy is no failure.
@settings(deadline=None)
@given(
    steps=STEPS,
    outcome=st.sampled_from(semconv.OUTCOMES),
    metadata=st.dictionaries(
        st.text(max_size=3), st.text(max_size=3) | st.lists(st.integers(), max_size=2)
    ),
)
def test_a_live_trace_is_the_documents(
    steps: list[dict[str, Any]], outcome: str, metadata: dict[str, Any]
) -> None:
    """Span by span, whatever a run reports, as it would be read from an archive."""
    recorder, resource = RecordingProcessor(), resource_of()
    run = LoopTracer("code-repair", pipeline=Pipeline([recorder]), metadata=metadata)
    try:
        with run:
            drive(run, steps)
            run.finish(outcome=outcome)
    except KeyError:
        pass
    live = LiveRun(recorder.started[0], resource, None)
    spans = [live.translate(span) for span in recorder.ended]
    document = ltf.decode(ltf.encode(run.build_trace()))
    archived = readable_spans(document, resource=resource)
    assert sorted(span.to_json() for span in spans if span) == sorted(
        span.to_json() for span in archived
    )


def test_a_run_says_what_genai_tools_look_for(
    receiver: Receiver, sending: Sending
) -> None:
    """The run is a workflow, and an evaluator has a result."""
    processor = sending(receiver.endpoint)
    a_run(Pipeline([processor]))
    assert processor.flush(30)
    attributes = values(receiver.span("loop.run").attributes)
    assert attributes["gen_ai.operation.name"] == "invoke_workflow"
    assert attributes["gen_ai.workflow.name"] == "code-repair"
    (result,) = receiver.span("loop.evaluator").events
    assert (result.name, values(result.attributes)) == (
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "rubric",
            "gen_ai.evaluation.score.value": 0.66,
            "gen_ai.evaluation.score.label": "fail",
        },
    )


def test_an_exception_is_an_error_wherever_it_passed(
    receiver: Receiver, sending: Sending
) -> None:
    """Worker, iteration and run have status Error and the exception's class."""
    processor = sending(receiver.endpoint)
    run = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    with pytest.raises(KeyError), run, run.iteration() as step, step.worker("coder"):
        raise KeyError
    assert processor.flush(30)
    spans = receiver.spans()
    assert {span.status.code for span in spans} == {Status.STATUS_CODE_ERROR}
    assert {values(span.attributes)["error.type"] for span in spans} == {"KeyError"}


def test_a_nested_run_links_to_the_run_around_it(
    receiver: Receiver, sending: Sending
) -> None:
    """A trace of its own, with a link to the iteration that it was started in."""
    pipeline = Pipeline([sending(receiver.endpoint)])
    with (
        LoopTracer("outer-loop", pipeline=pipeline) as outer,
        outer.iteration() as step,
    ):
        inner = a_run(pipeline)
        current = step.span_id
    assert pipeline.flush(30)
    digits = inner.trace_id.removeprefix("ltf-").replace("-", "")
    (root,) = (
        span
        for span in receiver.spans()
        if span.trace_id.hex() == digits and span.name == "loop.run"
    )
    (link,) = root.links
    assert (link.span_id.hex(), values(link.attributes)) == (
        current,
        {"loop.link": "parent_run"},
    )


def test_the_active_span_becomes_a_link(receiver: Receiver, sending: Sending) -> None:
    """The run starts in another library's trace, and is a trace of its own."""
    processor = sending(receiver.endpoint)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("host")
    with tracer.start_as_current_span("request") as active:
        a_run(Pipeline([processor]))
    assert processor.flush(30)
    root = receiver.span("loop.run")
    (link,) = root.links
    context = active.get_span_context()
    assert int.from_bytes(link.span_id) == context.span_id
    assert int.from_bytes(link.trace_id) == context.trace_id
    assert values(link.attributes) == {"loop.link": "active_span"}
    assert int.from_bytes(root.trace_id) != context.trace_id


def test_the_global_tracer_provider_stays(receiver: Receiver) -> None:
    """Configuring sets none, and asks none for spans."""
    before = trace._TRACER_PROVIDER
    with loopotel_prom.configure(
        listen=None, otlp=receiver.endpoint, registry=CollectorRegistry()
    ):
        a_run()
    assert trace._TRACER_PROVIDER is before


@pytest.mark.parametrize(
    ("variables", "service"),
    (
        ({}, "loop-runtime"),
        ({"OTEL_SERVICE_NAME": "checkout"}, "checkout"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=till"}, "till"),
    ),
)
def test_the_environment_names_the_service(
    variables: dict[str, str], service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenTelemetry has it; ours is the name where nobody gave one."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert resource_of().attributes["service.name"] == service


def test_metadata_stands_on_the_run_within_bounds() -> None:
    """Scalars as they are, the rest as JSON, neither many nor long."""
    metadata = {
        "team": "core",
        "budget": 7,
        "plan": {"a": [1]},
        "none": None,
        "long": "x" * 5000,
        **{f"k{n:02}": n for n in range(99)},
    }
    run = LoopTracer("code-repair", pipeline=Pipeline(), metadata=metadata)
    (root,) = readable_spans(run.build_trace(), resource=resource_of())
    found = {
        key.removeprefix("loop.metadata."): value
        for key, value in root.attributes.items()
        if key.startswith("loop.metadata.")
    }
    assert len(found) == 64
    assert (found["team"], found["budget"], found["plan"]) == ("core", 7, '{"a":[1]}')
    assert found["long"] == "x" * 4095 + "…"


@pytest.mark.parametrize(
    ("reason", "error"),
    (
        ("stall", "stall"),
        ("max_iterations (6)", "max_iterations"),
        ("gave up", "_OTHER"),
    ),
)
def test_a_failed_run_has_an_error_type(reason: str, error: str) -> None:
    """One of a closed set, as OpenTelemetry wants it."""
    run = LoopTracer("code-repair", pipeline=Pipeline())
    run.finish(outcome="failure", termination_reason=reason)
    (root,) = readable_spans(run.build_trace(), resource=resource_of())
    assert root.attributes["error.type"] == error


def test_a_receiver_that_recovers_loses_nothing(
    receiver: Receiver,
    sending: Sending,
    health: Health,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A 503 is tried again, and nobody hears of it."""
    receiver.statuses = [503]
    processor = sending(receiver.endpoint)
    a_run(Pipeline([processor], health=health))
    assert processor.flush(30)
    assert len(receiver.requests) == 2
    assert not health.processor_failures()
    assert not caplog.records


def test_a_dead_collector_is_counted_and_told_once(
    sending: Sending,
    health: Health,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The loop goes on; of the SDK's own words, none is logged."""
    # Long enough for one more try: the SDK tells the cause when it announces that.
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2")
    with refusing() as endpoint:
        processor = sending(endpoint)
        for _ in range(2):
            a_run(Pipeline([processor], health=health))
            assert not processor.flush(30)
    assert health.processor_failures() == {"OtlpProcessor": 2}
    (record,) = caplog.records
    assert "5 span(s) lost: " in record.getMessage()
    assert "refused" in record.getMessage()


def test_another_exporters_words_are_logged_as_before(
    sending: Sending, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """Only what is said of our own requests is kept from the log."""
    receiver.status = 400
    processor = sending(receiver.endpoint)
    a_run(Pipeline([processor]))
    assert not processor.flush(30)
    logging.getLogger(SDK_LOGGER).error("theirs")
    assert [r.getMessage() for r in caplog.records if r.name == SDK_LOGGER] == [
        "theirs"
    ]


def test_a_full_queue_drops_and_counts(
    receiver: Receiver, sending: Sending, health: Health
) -> None:
    """What finds no place is lost at once; the rest arrives."""
    receiver.may_answer.clear()
    processor = sending(receiver.endpoint, queue_spans=512)
    with LoopTracer(
        "code-repair", pipeline=Pipeline([processor], health=health)
    ) as run:
        for number in range(1, 600):
            run.emit_iteration(iteration=number, goal_score=0.5)
    receiver.may_answer.set()
    assert not processor.flush(30)
    assert health.processor_failures() == {"OtlpProcessor": 88}
    assert len(receiver.spans()) == 512


def test_concurrent_runs_all_arrive(receiver: Receiver, sending: Sending) -> None:
    """Loops in several threads share the queue, and none loses a span."""
    pipeline = Pipeline([sending(receiver.endpoint)])
    threads = [
        threading.Thread(target=lambda: [a_run(pipeline) for _ in range(20)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline.flush(60)
    assert len({span.span_id for span in receiver.spans()}) == 8 * 20 * 5


def test_too_many_runs_are_left_out(
    receiver: Receiver,
    sending: Sending,
    health: Health,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Memory stays bounded; a run beyond the limit counts once."""
    monkeypatch.setattr(processor_module, "_MOST_RUNS", 1)
    pipeline = Pipeline([sending(receiver.endpoint)], health=health)
    with LoopTracer("code-repair", pipeline=pipeline):
        a_run(pipeline)
    assert pipeline.flush(30)
    assert len(receiver.spans()) == 1
    assert health.processor_failures() == {"OtlpProcessor": 1}


def test_a_closed_processor_ignores_spans(
    receiver: Receiver, sending: Sending, health: Health
) -> None:
    """A run that outlives it is no failure."""
    processor = sending(receiver.endpoint)
    pipeline = Pipeline([processor], health=health)
    with LoopTracer("code-repair", pipeline=pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.5)
        processor.close()
        run.emit_iteration(iteration=2, goal_score=0.5)
    a_run(pipeline)
    assert [span.name for span in receiver.spans()] == ["loop.iteration"]
    assert not health.processor_failures()


def test_a_program_that_ends_has_sent_its_runs(receiver: Receiver) -> None:
    """Without flush or close, and the run that nobody ended, too."""
    script = """
        import sys, loopotel_prom
        loopotel_prom.configure(listen=None, otlp=sys.argv[1])
        run = loopotel_prom.LoopTracer("code-repair")
        run.emit_iteration(iteration=1, goal_score=0.5)
    """
    finished = run_script(script, receiver.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert sorted(span.name for span in receiver.spans()) == [
        "loop.iteration",
        "loop.run",
    ]


def test_a_silent_collector_does_not_keep_a_program(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK may wait for half an hour here; the program ends all the same."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1800")
    receiver.may_answer.clear()
    script = """
        import sys, loopotel_prom
        loopotel_prom.configure(listen=None, otlp=sys.argv[1])
        with loopotel_prom.LoopTracer("code-repair") as run:
            for number in range(1, 2000):
                run.emit_iteration(iteration=number, goal_score=0.5)
    """
    finished = run_script(script, receiver.endpoint)
    assert finished.returncode == 0
    assert "there was no more time" in finished.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_sends_its_own_runs_only(receiver: Receiver) -> None:
    """The parent's queue stays with the parent, and each run arrives once."""
    script = """
        import os, sys, loopotel_prom
        handle = loopotel_prom.configure(listen=None, otlp=sys.argv[1])
        with loopotel_prom.LoopTracer("parent-loop"):
            pass
        child = os.fork()
        if not child:
            with loopotel_prom.LoopTracer("child-loop"):
                pass
            os._exit(0 if handle.flush(30) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert handle.flush(30)
    """
    finished = run_script(script, receiver.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    names = [values(span.attributes)["loop.name"] for span in receiver.spans()]
    assert sorted(names) == ["child-loop", "parent-loop"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_multiprocessing_sends_at_its_end(receiver: Receiver) -> None:
    """Although such a child runs nothing of what was registered for the end."""
    script = """
        import multiprocessing, sys, loopotel_prom
        def work():
            with loopotel_prom.LoopTracer("child-loop"):
                pass
        loopotel_prom.configure(listen=None, otlp=sys.argv[1])
        child = multiprocessing.get_context("fork").Process(target=work)
        child.start()
        child.join()
    """
    finished = run_script(script, receiver.endpoint)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert len(receiver.spans()) == 1


@pytest.mark.parametrize("how", ("argument", "variable", "OpenTelemetry's own"))
def test_each_way_to_say_where_works(
    receiver: Receiver, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base address is completed; True leaves it to the OTEL_* variables."""
    base = receiver.endpoint.removesuffix("/v1/traces")
    options: dict[str, Any] = {}
    if how == "argument":
        options["otlp"] = base
    elif how == "variable":
        monkeypatch.setenv("LOOPOTEL_OTLP", receiver.endpoint)
    else:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", base)
        monkeypatch.setenv("LOOPOTEL_OTLP", "yes")
    with loopotel_prom.configure(
        listen=None, registry=CollectorRegistry(), **options
    ) as handle:
        a_run()
        assert handle.flush(30)
    assert len(receiver.spans()) == 5


@pytest.mark.parametrize("bad", ("collector:4318", "", "ftp://x/v1", 4318, "http://"))
def test_a_bad_address_is_a_config_error(bad: Any) -> None:
    """At once, and with an example of a good one."""
    with pytest.raises(ConfigError, match=r"otlp must be a URL such as http://.*4318"):
        loopotel_prom.configure(listen=None, otlp=bad, registry=CollectorRegistry())


def test_a_missing_extra_is_named() -> None:
    """Configuring says what to install."""
    script = """
        import json, sys
        sys.modules["opentelemetry"] = None
        import loopotel_prom
        from loopotel_prom.errors import MissingExtraError
        try:
            loopotel_prom.configure(listen=None, otlp=True)
        except MissingExtraError as error:
            print(json.dumps([error.extra, str(error)]))
    """
    extra, message = json.loads(run_script(script).stdout)
    assert extra == "otlp"
    assert message.startswith("OpenTelemetry is not installed; install loopotel-prom")
