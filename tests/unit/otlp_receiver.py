"""An OTLP/HTTP receiver that remembers, and what tests of OTLP share with it."""

import gzip
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Receiver(ThreadingHTTPServer):
    """An OTLP/HTTP receiver that remembers, answers `status`, and may wait."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        # Answered before that, one a request.
        self.statuses: list[int] = []
        self.requests: list[ExportTraceServiceRequest] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    @property
    def endpoint(self) -> str:
        """Tell where to send."""
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def spans(self) -> list[Span]:
        """List what arrived, in order."""
        return [
            span
            for request in list(self.requests)
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def span(self, name: str) -> Span:
        """Find the one span of this name."""
        (found,) = (span for span in self.spans() if span.name == name)
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.server.may_answer.wait(60)
        answer = ExportTraceServiceResponse().SerializeToString()
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if statuses else self.server.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Keep the test's output for failures."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port."""
    server = Receiver()
    # The default poll would hold each shutdown up for half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def refusing() -> Iterator[str]:
    """Hold a port that refuses connections; give its endpoint."""
    # Bound and never listening: nobody else gets the port, nobody answers.
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/v1/traces"


def values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Read protobuf attributes back as plain values."""

    def value_of(item: KeyValue) -> Any:
        kind = item.value.WhichOneof("value")
        value = getattr(item.value, kind)
        if kind != "array_value":
            return value
        return [getattr(v, v.WhichOneof("value")) for v in value.values]

    return {item.key: value_of(item) for item in attributes}


def run_script(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python source in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
