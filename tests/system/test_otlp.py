"""OTLP against receivers that others have made, and a backend that shows traces."""

import asyncio
import os
import shutil
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from oteltap import OtelTapHttpProtobufReceiver, OtelTapHttpProtobufReceiverSettings
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import LoopTracer, ltf
from loopotel_prom.exporter.jsonl import JsonlExporter
from loopotel_prom.rfc3339 import parse_time
from tests.system.conftest import Child

_SECONDS = 120
_PHOENIX = shutil.which("phoenix")


class Tap:
    """
    OtelTap's receiver, its event loop in a thread.

    Attributes:
        endpoint: Where to send.
        spans: What has arrived, in order.
    """

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}/v1/traces"
        self.spans: list[Span] = []
        self._port = port
        self._has_started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._has_started.wait(_SECONDS), "OtelTap does not start"

    def wait_for(self, count: int) -> list[Span]:
        """Wait until so many spans have arrived; give all."""
        deadline = time.monotonic() + _SECONDS
        while len(self.spans) < count and time.monotonic() < deadline:
            time.sleep(0.05)
        return list(self.spans)

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        settings = OtelTapHttpProtobufReceiverSettings(http_port=self._port)
        async with OtelTapHttpProtobufReceiver(settings) as receiver:
            reading = asyncio.create_task(self._read(receiver.stream_traces()))
            self._has_started.set()
            await self._end.wait()
            reading.cancel()

    async def _read(self, spans: AsyncIterator[Span]) -> None:
        async for span in spans:
            self.spans.append(span)


@pytest.fixture
def tap(free_port: Callable[[], int]) -> Iterator[Tap]:
    """Run OtelTap's receiver."""
    tap = Tap(free_port())
    yield tap
    tap.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the OTEL_* settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def a_run() -> ltf.Document:
    """Report three iterations, each with a worker and an evaluator."""
    with LoopTracer("code-repair", env_id="prod/agent", goal_target=0.8) as run:
        for number in range(3):
            with run.iteration() as step:
                with step.worker("implementer", role="coder") as worker:
                    worker.add_tokens(input=900, output=210)
                with step.evaluator("rubric", type="llm_rubric") as judge:
                    judge.score(0.7 + number / 10)
                step.goal_score(0.7 + number / 10)
                step.failure("fail.oscillation")
        run.finish(outcome="success", termination_reason="goal_met")
    return run.build_trace()


def told(document: ltf.Document) -> list[dict[str, Any]]:
    """Spell the spans of a document by what both sides have."""
    return sorted(
        (
            {
                "span_id": piece["span_id"],
                "parent": piece["parent_span_id"] or "",
                "name": piece["name"],
                "start": parse_time(piece["start_time"]),
                "end": parse_time(piece["end_time"]),
                "events": [
                    (event["name"], parse_time(event["timestamp"]))
                    for event in piece["events"]
                ],
            }
            for piece in document["spans"]
        ),
        key=lambda piece: piece["span_id"],
    )


def read(spans: list[Span]) -> list[dict[str, Any]]:
    """Spell what arrived likewise."""
    return sorted(
        (
            {
                "span_id": span.span_id.hex(),
                "parent": span.parent_span_id.hex(),
                "name": span.name,
                "start": span.start_time_unix_nano,
                "end": span.end_time_unix_nano,
                "events": [
                    (event.name, event.time_unix_nano)
                    for event in span.events
                    if not event.name.startswith("gen_ai.")
                ],
            }
            for span in spans
        ),
        key=lambda piece: piece["span_id"],
    )


def digits(document: ltf.Document) -> str:
    """Give the trace id as OpenTelemetry spells it."""
    return str(document["trace_id"]).removeprefix("ltf-").replace("-", "")


def test_a_live_trace_is_read_back_from_a_receiver(tap: Tap) -> None:
    """Ids, times, tree and events of the document, and how it ended."""
    with loopotel_prom.configure(
        listen=None, otlp=tap.endpoint, registry=CollectorRegistry()
    ):
        document = a_run()
    spans = tap.wait_for(10)
    assert {span.trace_id.hex() for span in spans} == {digits(document)}
    assert read(spans) == told(document)
    (root,) = (span for span in spans if span.name == "loop.run")
    assert root.status.code == Status.STATUS_CODE_OK


def test_an_archived_trace_is_read_back_from_a_receiver(
    tap: Tap, command: Callable[..., Child], tmp_path: Path
) -> None:
    """The same, by the command."""
    document = a_run()
    JsonlExporter(tmp_path / "traces.jsonl").export(document)
    child = command("export", "otlp", "traces.jsonl", "--endpoint", tap.endpoint)
    assert child.wait(_SECONDS) == 0, child.tail()
    assert read(tap.wait_for(10)) == told(document)


def test_many_spans_arrive_all(
    tap: Tap, command: Callable[..., Child], tmp_path: Path
) -> None:
    """A hundred thousand in many runs, each once."""
    archive = tmp_path / "traces"
    with loopotel_prom.configure(
        listen=None, archive=archive, registry=CollectorRegistry(), durability="none"
    ):
        for _ in range(1000):
            with LoopTracer("code-repair") as run:
                for number in range(1, 100):
                    run.emit_iteration(iteration=number, goal_score=0.5)
    child = command("export", "otlp", "--endpoint", tap.endpoint, "--json")
    assert child.wait(2 * _SECONDS) == 0, child.tail()
    assert '"spans_sent": 100000, "spans_lost": 0' in child.output()
    assert len({span.span_id for span in tap.wait_for(100_000)}) == 100_000


@contextmanager
def phoenix(folder: Path, port: int, grpc_port: int) -> Iterator[str]:
    """Run Phoenix, which keeps its files in a folder; give its base address."""
    with ExitStack() as stack:
        child = Child(
            [str(_PHOENIX), "serve"],
            folder=folder / "phoenix",
            cwd=folder,
            env={
                **os.environ,
                "PHOENIX_WORKING_DIR": str(folder),
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(grpc_port),
                "PHOENIX_TELEMETRY_ENABLED": "false",
            },
        )
        stack.callback(child.close)
        deadline = time.monotonic() + _SECONDS
        while not _listens(port):
            assert time.monotonic() < deadline, child.tail()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def shown(base: str, count: int) -> list[dict[str, Any]]:
    """Wait until Phoenix shows so many spans; give all."""
    url, deadline = f"{base}/v1/projects/default/spans", time.monotonic() + _SECONDS
    while True:
        answer = requests.get(url, params={"limit": "100"}, timeout=30)
        spans: list[dict[str, Any]] = answer.json()["data"] if answer.ok else []
        if len(spans) >= count or time.monotonic() > deadline:
            return spans
        time.sleep(0.2)


@pytest.mark.skipif(
    _PHOENIX is None and "LOOPOTEL_SLOW" not in os.environ,
    reason="slow lane: no `phoenix` on PATH; pip install arize-phoenix (600 MB)",
)
def test_a_trace_backend_shows_the_run(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    """Phoenix has the tree, the times, the events and the tokens of the document."""
    assert _PHOENIX is not None, "LOOPOTEL_SLOW is set, and `phoenix` is not on PATH"
    with (
        phoenix(tmp_path, free_port(), free_port()) as base,
        loopotel_prom.configure(
            listen=None, otlp=base, registry=CollectorRegistry()
        ) as handle,
    ):
        document = a_run()
        assert handle.flush(30)
        spans = shown(base, 10)
    assert {span["context"]["trace_id"] for span in spans} == {digits(document)}
    assert sorted(map(_as_told, spans), key=lambda piece: piece["span_id"]) == told(
        document
    )
    by_name = {span["name"]: span["attributes"] for span in spans}
    assert by_name["loop.run"]["gen_ai.operation.name"] == "invoke_workflow"
    # Its own name for what it understood of gen_ai.usage.
    assert by_name["loop.worker"]["llm.token_count.total"] == 1110


def _as_told(span: dict[str, Any]) -> dict[str, Any]:
    return {
        "span_id": span["context"]["span_id"],
        "parent": span["parent_id"] or "",
        "name": span["name"],
        "start": parse_time(span["start_time"]),
        "end": parse_time(span["end_time"]),
        "events": [
            (event["name"], parse_time(event["timestamp"]))
            for event in span["events"]
            if not event["name"].startswith("gen_ai.")
        ],
    }
