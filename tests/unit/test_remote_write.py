"""Remote write: what a receiver reads, and what becomes of its answers."""

import email.utils
import json
import math
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from loopotel_prom.errors import (
    ArchiveError,
    ConfigError,
    DeliveryError,
    MissingExtraError,
)
from loopotel_prom.exporter.remote_write import (
    Address,
    Answer,
    Credentials,
    Encoder,
    HttpReceiver,
    PositionFile,
    Sender,
    Transferred,
    basic,
    bearer,
    beginning,
    encode_metadata,
    transfer,
)
from loopotel_prom.exporter.remote_write.batch import Batch, batches
from loopotel_prom.metrics.catalogue import CATALOGUE
from loopotel_prom.replay.points import STALE, Instant, Series

NOON_MS = 1_767_268_800_000
A = Series("a_total", (("loop_name", "code-repair"),))
B = Series("b", ())
URL = "http://127.0.0.1:9/api/v1/write"
OK = Answer(204)
BEHIND = Answer(400, "out of order sample")
TAKEN = Answer(400, "duplicate sample for timestamp")


def at(second: float, *points: tuple[Series, float]) -> Instant:
    """Build an instant some seconds after noon; of one point unless told."""
    return Instant(NOON_MS + int(second * 1000), list(points or ((A, second),)))


def moved(
    history: list[Instant], receiver: "Scripted", file: PositionFile, **options: Any
) -> Transferred:
    """Transfer a history; give what was taken."""
    done = Transferred()
    transfer(history, receiver.sender(), file, done, **options)
    return done


def a_batch(*instants: Instant) -> Batch:
    """Build the batch of some instants."""
    return Batch(list(instants), sum(len(one.points) for one in instants))


# What is written, read by protobuf's own runtime.


@pytest.fixture(scope="module")
def write_request() -> Any:
    """Make the message class of remote write 1.0, by its published numbers."""
    descriptor_pb2, descriptor_pool, message_factory = (
        pytest.importorskip(
            f"google.protobuf.{name}", reason="needs a protobuf runtime"
        )
        for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
    )
    types = {"double": 1, "int64": 3, "string": 9, "enum": 14, "message": 11}
    messages = {
        "Label": [("name", 1, "string", ""), ("value", 2, "string", "")],
        "Sample": [("value", 1, "double", ""), ("timestamp", 2, "int64", "")],
        "TimeSeries": [
            ("labels", 1, "message", "Label"),
            ("samples", 2, "message", "Sample"),
        ],
        "MetricMetadata": [
            ("type", 1, "enum", "MetricType"),
            ("metric_family_name", 2, "string", ""),
            ("help", 4, "string", ""),
            ("unit", 5, "string", ""),
        ],
        "WriteRequest": [
            ("timeseries", 1, "message", "TimeSeries"),
            ("metadata", 3, "message", "MetricMetadata"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(
        name="remote.proto", package="prometheus", syntax="proto3"
    )
    enum = file.enum_type.add(name="MetricType")
    for number, name in enumerate(("UNKNOWN", "COUNTER", "GAUGE", "HISTOGRAM")):
        enum.value.add(name=name, number=number)
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, type_name, other in fields:
            message.field.add(
                name=field,
                number=number,
                type=types[type_name],
                type_name=f".prometheus.{other}" if other else None,
                label=3 if type_name == "message" else 1,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("prometheus.WriteRequest")
    return message_factory.GetMessageClass(descriptor)


def test_a_request_has_the_bytes_that_protobuf_gives_it(write_request):
    """Labels by name, each series once, its samples in the order of time."""
    found = Encoder().encode([at(0, (A, 1.5), (B, -2)), at(0.25, (A, 1e300))])
    expected = write_request()
    one = expected.timeseries.add()
    one.labels.add(name="__name__", value="a_total")
    one.labels.add(name="loop_name", value="code-repair")
    one.samples.add(value=1.5, timestamp=NOON_MS)
    one.samples.add(value=1e300, timestamp=NOON_MS + 250)
    other = expected.timeseries.add()
    other.labels.add(name="__name__", value="b")
    other.samples.add(value=-2, timestamp=NOON_MS)
    # Protobuf leaves a zero out; nothing here is zero.
    assert found == expected.SerializeToString(deterministic=True)


@pytest.mark.parametrize("time_ms", (0, 1, 127, 128, 2**41, 2**63 - 1, -1, -(2**63)))
def test_any_time_is_read_back(write_request, time_ms):
    """A time before 1970, too, and the ends of what 64 bits can say."""
    message = write_request.FromString(Encoder().encode([Instant(time_ms, [(A, 1)])]))
    assert message.timeseries[0].samples[0].timestamp == time_ms


@pytest.mark.parametrize("value", (0.0, -0.0, 0.1 + 0.2, 5e-324, math.inf, -math.inf))
def test_any_value_is_read_back(write_request, value):
    """To the last bit, the sign of zero included."""
    message = write_request.FromString(Encoder().encode([at(0, (A, value))]))
    found = message.timeseries[0].samples[0].value
    assert struct.pack("<d", found) == struct.pack("<d", value)


def test_the_end_of_a_series_keeps_its_bits():
    """The stale marker is one NaN of many; another would be a value."""
    found = Encoder().encode([at(0, (A, STALE))])
    assert bytes.fromhex("0200000000 00f07f".replace(" ", "")) in found


def test_labels_are_sorted_and_have_values(write_request):
    """A capital stands before the underscore of the name; an empty one is left out."""
    series = Series("a", (("Zone", "ü"), ("env_id", ""), ("loop_name", "x" * 200)))
    message = write_request.FromString(Encoder().encode([at(0, (series, 1))]))
    labels = [(one.name, one.value) for one in message.timeseries[0].labels]
    assert labels == [("Zone", "ü"), ("__name__", "a"), ("loop_name", "x" * 200)]


def test_metadata_says_type_and_help(write_request):
    """Of each metric of the catalogue."""
    message = write_request.FromString(encode_metadata(CATALOGUE))
    types = {"counter": 1, "gauge": 2, "histogram": 3}
    assert [
        (one.type, one.metric_family_name, one.help) for one in message.metadata
    ] == [(types[one.type], one.name, one.help) for one in CATALOGUE]


# Batches.


def test_a_batch_ends_where_an_instant_ends():
    """As many whole instants as there is room for."""
    history = [at(second, (A, 1), (B, 1)) for second in range(5)]
    found = [batch.instants for batch in batches(history, samples=5)]
    assert found == [history[:2], history[2:4], history[4:]]


def test_a_larger_instant_is_a_batch_of_its_own():
    """It cannot be cut, as its end is no time."""
    history = [at(0), at(1, *[(A, 1)] * 9), at(2)]
    assert [batch.samples for batch in batches(history, samples=5)] == [1, 9, 1]


def test_an_instant_without_points_is_left_out():
    """There is nothing to send of it."""
    assert list(batches([Instant(NOON_MS, [])], samples=5)) == []


def test_the_first_batch_is_cut_where_it_was_cut_before():
    """Whatever its size is now; those after it are as large as ever."""
    history = [at(second) for second in range(9)]
    found = batches(history, samples=2, cut_ms=NOON_MS + 4500)
    assert [batch.samples for batch in found] == [5, 2, 2]


def test_a_cut_before_the_history_cuts_nothing():
    """What was under way then is not in this history."""
    found = batches([at(0), at(1), at(2)], samples=2, cut_ms=NOON_MS - 1)
    assert [batch.samples for batch in found] == [2, 1]


# Answers, from a receiver that says what it is told to.


class Scripted:
    """
    A receiver that gives answers in order, the last one for ever; takes no time.

    Attributes:
        messages: What it was sent.
        waits: Seconds that were slept between.
    """

    name = "scripted"

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.messages: list[bytes] = []
        self.waits: list[float] = []

    def post(self, message: bytes) -> Answer:
        self.messages.append(message)
        return self._answers[min(len(self.messages), len(self._answers)) - 1]

    def sender(self, **options: Any) -> Sender:
        """Make a sender to it, whose clock is what was slept."""
        options.setdefault("patience_seconds", 600)
        return Sender(
            self,
            Encoder(),
            clock=lambda: sum(self.waits),
            sleep=self.waits.append,
            chance=lambda: 1.0,
            **options,
        )


@pytest.mark.parametrize(
    "answer",
    (Answer(429), Answer(500), Answer(503, "overloaded"), Answer(None, "no answer")),
)
def test_what_may_change_is_asked_again(answer):
    """The same bytes, after a wait that doubles."""
    receiver = Scripted(answer, answer, answer, OK)
    receiver.sender().send(a_batch(at(0)))
    assert receiver.waits == [0.5, 1, 2]
    assert len(set(receiver.messages)) == 1


def test_a_wait_has_an_upper_bound_and_chance_in_it():
    """Half of it is by chance, so that many senders do not come together."""
    receiver = Scripted(*[Answer(503)] * 12, OK)
    sender = receiver.sender()
    sender._chance = lambda: 0.0
    sender.send(a_batch(at(0)))
    assert receiver.waits[:2] == [0.25, 0.5]
    assert receiver.waits[-1] == 15


def test_a_receiver_may_ask_for_a_longer_wait():
    """`Retry-After` counts where it is longer than our own."""
    receiver = Scripted(Answer(429, retry_after_seconds=7), OK)
    receiver.sender().send(a_batch(at(0)))
    assert receiver.waits == [7]


def test_patience_has_an_end():
    """The last wait is cut short, one more attempt is made, and then it is told."""
    receiver = Scripted(Answer(503, "overloaded", retry_after_seconds=1e9))
    with pytest.raises(
        DeliveryError, match=r"^scripted: 503 overloaded, at 2 attempts; start the com"
    ):
        receiver.sender(patience_seconds=60).send(a_batch(at(0)))
    assert receiver.waits == [60]


@pytest.mark.parametrize("seconds", (math.nan, math.inf, -1.0))
def test_patience_is_a_time(seconds):
    """What is none is an error, before anything is sent."""
    with pytest.raises(
        ConfigError, match=f"^--patience {seconds}: a number, 0 or more"
    ):
        Scripted(OK).sender(patience_seconds=seconds)


def test_who_waits_is_told_why():
    """Once a request, when it is more than a hiccup."""
    lines: list[str] = []
    receiver = Scripted(*[Answer(None, "no connection")] * 5, OK)
    receiver.sender(tell=lines.append).send(a_batch(at(0)))
    assert lines == ["scripted: no connection; trying again for 600 s"]


@pytest.mark.parametrize(
    ("answer", "said"),
    (
        (BEHIND, "; it has newer samples: give it storage.tsdb.out_of_order_time_w"),
        (Answer(400, "out of bounds"), "reaches back to 2026-01-01 12:00:00Z, or take"),
        (Answer(500, "too old sample"), "; it has newer samples"),
        (Answer(302, "go to http://x/"), "; give that URL, if you trust it"),
        (Answer(401, "who?"), "; name credentials by --basic-auth-file"),
        (Answer(404, "page not found"), "give the whole address, such as http"),
        (Answer(422, "label"), "; see what the receiver's log says"),
        (Answer(None, "TLS failed: x", is_final=True), "certificates by --ca-file"),
    ),
)
def test_a_refusal_ends_at_once_and_says_what_helps(answer, said):
    """What the receiver said is in it, and which samples it was about."""
    receiver = Scripted(answer)
    with pytest.raises(DeliveryError) as raised:
        receiver.sender().send(a_batch(at(0), at(9)))
    assert said in str(raised.value)
    about = ", of samples from 2026-01-01 12:00:00Z to 2026-01-01 12:00:09Z; "
    assert str(raised.value).startswith(
        f"scripted: {answer.status or ''} {answer.text}{about}".replace("  ", " ")
    )
    assert not receiver.waits


def test_a_request_whose_answer_was_lost_is_found_to_be_there():
    """The receiver refuses what it has; the last instant it takes for the same."""
    lost = Answer(None, "the connection broke")
    receiver = Scripted(lost, BEHIND, BEHIND, OK)
    sender = receiver.sender()
    sender.send(a_batch(at(0), at(1)))
    assert sender.repeated == 1
    assert receiver.messages[2:] == [
        Encoder().encode([at(0)]),
        Encoder().encode([at(1)]),
    ]


def test_a_part_that_is_not_there_is_sent():
    """Of a receiver that took half of it."""
    receiver = Scripted(Answer(503), BEHIND, BEHIND, BEHIND, OK, OK)
    sender = receiver.sender()
    sender.send(a_batch(at(0), at(1), at(2), at(3)))
    assert (sender.repeated, sender.in_doubt) == (2, False)


def test_the_end_of_a_request_in_doubt_may_have_another_value():
    """It is there; of an archive that grew since, it is told otherwise."""
    sender = Scripted(BEHIND, BEHIND, TAKEN).sender()
    sender.send(a_batch(at(0), at(1)), in_doubt=True)
    assert sender.repeated == 2


def test_a_request_in_doubt_that_never_was_taken_is_refused():
    """Something newer than its end is not from us."""
    sender = Scripted(BEHIND).sender()
    with pytest.raises(DeliveryError, match="it has newer samples"):
        sender.send(a_batch(at(0), at(1)), in_doubt=True)


def test_a_throttled_request_is_not_in_doubt():
    """Who has too much to do has not looked at it."""
    receiver = Scripted(Answer(429), BEHIND)
    with pytest.raises(DeliveryError):
        receiver.sender().send(a_batch(at(0), at(1)))
    assert len(receiver.messages) == 2


# Positions.


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., PositionFile]:
    """Open the position file of one history and receiver."""

    def make(
        url: str = URL, archive: str = "/traces", **options: object
    ) -> PositionFile:
        return PositionFile(
            tmp_path / "position.json", beginning(url, [archive], options)
        )

    return make


def test_what_is_acknowledged_is_not_sent_again(place):
    """The next transfer sends what is later, be the history longer by then."""
    history = [at(second) for second in range(6)]
    with place() as file:
        assert moved(history[:4], Scripted(OK), file).instants == 4
    receiver = Scripted(OK)
    with place() as file:
        done = moved(history, receiver, file)
    assert receiver.messages == [Encoder().encode(history[4:])]
    assert (done.first_ms, done.end_ms) == (history[4].time_ms, history[5].time_ms)


def test_metadata_goes_with_the_first_request(place):
    """And with no other."""
    receiver = Scripted(OK)
    with place() as file:
        history = [at(0), at(1)]
        moved(history, receiver, file, batch_samples=1, metadata=b"\x1a\0")
    assert [message[-2:] == b"\x1a\0" for message in receiver.messages] == [True, False]


def test_a_failed_transfer_keeps_what_was_acknowledged(place):
    """What was refused is not in doubt: none of it was taken."""
    with place() as file:
        with pytest.raises(DeliveryError):
            moved([at(0), at(1)], Scripted(OK, BEHIND), file, batch_samples=1)
        assert (file.position.time_ms, file.position.sending_ms) == (NOON_MS, None)


def test_an_unanswered_request_stays_in_doubt(place):
    """The next transfer sends it again, as it was cut, and takes no for a yes."""
    history = [at(second) for second in range(6)]
    gone = Scripted(OK, Answer(None, "gone"))
    with place() as file, pytest.raises(DeliveryError):
        moved(history, gone, file, batch_samples=2)
    receiver = Scripted(BEHIND, BEHIND, OK)
    with place() as file:
        assert file.position.sending_ms == history[3].time_ms
        sender = receiver.sender()
        transfer(history, sender, file, Transferred(), batch_samples=9)
        assert file.position.sending_ms is None
    assert receiver.messages[0] == Encoder().encode(history[2:4])
    assert receiver.messages[-1] == Encoder().encode(history[4:])
    assert sender.repeated == 1


def test_a_shorter_history_leaves_the_rest_in_doubt(place):
    """What may be there beyond its end still may be."""
    history = [at(second) for second in range(4)]
    with place() as file, pytest.raises(DeliveryError):
        moved(history, Scripted(Answer(None, "gone")), file)
    with place() as file:
        moved(history[:2], Scripted(OK), file)
        position = file.position
    assert position.time_ms == history[1].time_ms
    assert position.sending_ms == history[3].time_ms


def test_a_position_is_private_and_has_no_secret(place, tmp_path):
    """A query may be one; of it there is a digest only."""
    with place(url=URL + "?token=geheim") as file:
        moved([at(0)], Scripted(OK), file)
    path = tmp_path / "position.json"
    written = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert "geheim" not in path.read_text()
    assert (written["url"], written["archive"]) == (URL, ["/traces"])


@pytest.mark.parametrize(
    ("change", "said"),
    (
        ({"url": "http://other/write"}, f"it is of {URL}; give the same again"),
        ({"archive": "/other"}, "it is of /traces; give the same again"),
        ({"url": f"{URL}?x"}, "other headers or options were given; give"),
        ({"label": ["a=b"]}, "other headers or options were given; give"),
    ),
)
def test_a_position_of_something_else_is_an_error(place, change, said):
    """It says what differs, and touches nothing."""
    with place() as file:
        moved([at(0)], Scripted(OK), file)
    with pytest.raises(ConfigError, match=r"^position .*position\.json: ") as raised:
        place(**change)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    (
        (b"", "it is no position"),
        (b"\xff", "it is no position"),
        (b'{"version": 2, "url": "", "archive": [], "fingerprint": ""}', "version 2"),
    ),
)
def test_a_file_that_is_no_position_is_an_error(place, tmp_path, content, said):
    """It is left as it is."""
    (tmp_path / "position.json").write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        place()
    assert (tmp_path / "position.json").read_bytes() == content


def test_nothing_is_sent_without_a_position(place, tmp_path):
    """Where it cannot be written, nobody could tell later what is there."""
    (tmp_path / ".position.json.unfinished").mkdir()
    receiver = Scripted(OK)
    with place() as file, pytest.raises(ArchiveError, match="cannot be written: Is a"):
        moved([at(0)], receiver, file)
    assert not receiver.messages


def test_one_transfer_at_a_time_has_a_position(place):
    """A second one would send the same beside it."""
    with place(), pytest.raises(ConfigError, match="another export uses it"):
        place()
    place().__exit__(None, None, None)


# A receiver behind HTTP.


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's `script` says: status, headers, body; or a name."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server: Any = self.server
        server.requests.append((dict(self.headers), body))
        action = server.script.pop(0) if server.script else (204, {}, b"")
        if action == "drop":
            self.close_connection = True
        elif action == "hang":
            server.over.wait(30)
        else:
            status, headers, answer = action
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def do_GET(self) -> None:
        pytest.fail("nobody was to follow there")

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Does not mind who goes before the end."""

    def handle_error(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Any]:
    """Serve on loopback; `script` takes answers, `requests` has what came."""
    server: Any = Server(("127.0.0.1", 0), Handler)
    server.script, server.requests, server.over = [], [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/api/v1/write"
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}
    )
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def cramjam() -> Any:
    """Give the library of snappy."""
    return pytest.importorskip("cramjam", reason="needs the remote-write extra")


@pytest.fixture
def http(server, cramjam, monkeypatch) -> Iterator[Callable[..., HttpReceiver]]:
    """Make receivers of that server, or of another URL."""
    monkeypatch.setenv("NO_PROXY", "*")
    made = []

    def make(**options: Any) -> HttpReceiver:
        made.append(HttpReceiver(Address(**{"url": server.url, **options})))
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


def test_a_request_says_what_the_protocol_wants(http, server, cramjam):
    """Its headers, and snappy's block format around the message."""
    assert http(headers={"X-Scope-OrgID": "team"}).post(b"message").status == 204
    [(headers, body)] = server.requests
    assert bytes(cramjam.snappy.decompress_raw(body)) == b"message"
    assert headers["Content-Encoding"] == "snappy"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["X-Prometheus-Remote-Write-Version"] == "0.1.0"
    assert headers["User-Agent"].startswith("loopotel-prom/")
    assert headers["X-Scope-OrgID"] == "team"
    assert "Authorization" not in headers


def test_an_answer_is_its_first_line(http, server):
    """Short, whatever a receiver has to say."""
    server.script = [(400, {}, b"out of bounds\n" + b"x" * 10**6)]
    assert http().post(b"") == Answer(400, "out of bounds")


@pytest.mark.parametrize(
    ("value", "seconds"),
    (
        ("7", 7),
        ("9" * 400, math.inf),
        ("soon", 0),
        ("-1", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("Thu, 01 Jan 0001 00:00:00 +2359", 0),
        ("Thu, 01 Jan 99999 00:00:00 GMT", 0),
    ),
)
def test_a_receiver_says_when_to_come_again(http, server, value, seconds):
    """In seconds; what is none counts for nothing."""
    server.script = [(429, {"Retry-After": value}, b"")]
    assert http().post(b"").retry_after_seconds == seconds


def test_a_receiver_says_at_what_time_to_come_again(http, server):
    """As a date of HTTP."""
    date = email.utils.formatdate(time.time() + 3600, usegmt=True)
    server.script = [(503, {"Retry-After": date}, b"")]
    assert 3500 < http().post(b"").retry_after_seconds <= 3600


def test_a_redirect_is_not_followed(http, server):
    """The credentials would go along, to anywhere."""
    server.script = [(307, {"Location": "/elsewhere"}, b"")]
    assert http(credentials=Credentials("Bearer x")).post(b"") == Answer(
        307, "go to /elsewhere"
    )
    assert len(server.requests) == 1


def test_no_answer_in_time_is_no_answer(http, server):
    """It is given up after the timeout."""
    server.script = ["hang"]
    assert http(timeout_seconds=0.2).post(b"") == Answer(None, "no answer in time")


def test_a_dropped_connection_is_no_answer(http, server):
    """The next request finds a new connection."""
    server.script = ["drop"]
    receiver = http()
    assert receiver.post(b"").status is None
    assert receiver.post(b"").status == 204


def test_a_closed_port_is_no_answer(http):
    """In words that say so."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        answer = http(url=url).post(b"")
    assert answer == Answer(None, "no connection: Connection refused")


def test_what_does_not_speak_tls_is_final(http, server):
    """Asking again would not teach it."""
    answer = http(url=server.url.replace("http:", "https:")).post(b"")
    assert answer.is_final
    assert answer.text.startswith("TLS failed: ")


@pytest.fixture
def ca_file(server, tmp_path) -> Path:
    """Have the server speak TLS; give the certificates to trust."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.url = server.url.replace("http:", "https:")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def test_a_receiver_may_have_an_authority_of_its_own(http, ca_file):
    """Which is named, and trusted for it alone."""
    assert http(ca_file=ca_file).post(b"").status == 204


def test_an_unknown_authority_is_final(http, ca_file):
    """It says so, and nothing is sent there."""
    answer = http().post(b"")
    assert answer.is_final
    assert "certificate verify failed" in answer.text


def test_tls_that_is_cut_off_is_no_answer(http, server):
    """As by a server that stops; the next request may find it well."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def cut_off() -> None:
            listening.accept()[0].close()

        thread = threading.Thread(target=cut_off)
        thread.start()
        answer = http(url=f"https://127.0.0.1:{listening.getsockname()[1]}/").post(b"")
        thread.join()
    assert (answer.status, answer.is_final) == (None, False)


def test_a_file_without_certificates_is_final(http, ca_file):
    """Nobody is trusted for it."""
    ca_file.write_text("no certificate\n")
    assert http(ca_file=ca_file).post(b"").is_final


@pytest.mark.parametrize(
    ("read", "content", "header"),
    (
        (bearer, "geheim\n", "Bearer geheim"),
        (basic, "loops:ge:heim\n", "Basic bG9vcHM6Z2U6aGVpbQ=="),
    ),
)
def test_credentials_come_from_a_file(http, server, tmp_path, read, content, header):
    """And win over what `~/.netrc` says."""
    (tmp_path / "secret").write_text(content)
    http(credentials=read(tmp_path / "secret")).post(b"")
    assert server.requests[0][0]["Authorization"] == header


def test_nobody_elses_credentials_are_sent(http, server, tmp_path, monkeypatch):
    """Not those that `~/.netrc` has for the host."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    http().post(b"")
    assert "Authorization" not in server.requests[0][0]


@pytest.mark.parametrize("content", (None, b"", b"two\nlines", b"\xff", b"no-colon"))
def test_a_file_without_credentials_is_an_error(tmp_path, content):
    """It names the file, and says nothing of what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"secret: .*; write USER:PASSWORD") as raised:
        basic(path)
    assert "lines" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    (
        ({"url": "127.0.0.1:9090"}, "it is no http or https URL; give the whole"),
        ({"url": "ftp://x/"}, "it is no http or https URL"),
        ({"url": "http://[::1/"}, "it is no http or https URL"),
        ({"url": "http://x:99999/"}, "it is no http or https URL"),
        ({"url": "http://a..b/"}, "it is no http or https URL"),
        ({"url": "http://ex ample/"}, "it is no http or https URL"),
        ({"url": "u:geheim@x/"}, "it has credentials in it"),
        ({"url": "http://u:geheim@x/"}, "it has credentials in it"),
        ({"headers": {"Authorization": "geheim"}}, "others could read it"),
        ({"headers": {"X-Api-Key": "geheim"}}, "others could read it"),
        ({"headers": {"Content-Type": "x"}}, "remote write says what it is"),
        ({"headers": {"a b": "x"}}, "no header of HTTP"),
        ({"headers": {"a": "x\r\nb: y"}}, "no header of HTTP"),
        ({"ca_file": Path("/nowhere")}, "there is no such file"),
        ({"timeout_seconds": math.nan}, "from 0.001 to 3600 seconds are possible"),
    ),
)
def test_an_address_that_cannot_work_is_an_error(options, said):
    """Before anything is sent, without a secret in it."""
    with pytest.raises(ConfigError) as raised:
        Address(**{"url": URL, **options})
    assert said in str(raised.value)
    assert "geheim" not in str(raised.value)


def test_without_snappy_it_says_what_to_install(monkeypatch):
    """The extra that brings it."""
    monkeypatch.setitem(sys.modules, "cramjam", None)
    with pytest.raises(
        MissingExtraError, match=r"install loopotel-prom\[remote-write\]"
    ):
        HttpReceiver(Address(url=URL))


def test_a_history_gets_through_what_goes_wrong(http, server, cramjam, place):
    """Overload, throttling, a broken connection, silence: all of it arrives, once."""
    server.script = [
        (204, {}, b""),
        (503, {}, b""),
        (429, {"Retry-After": "0"}, b""),
        "drop",
        "hang",
        (204, {}, b""),
    ]
    sender = Sender(
        http(timeout_seconds=0.2),
        Encoder(),
        patience_seconds=60,
        sleep=lambda _seconds: None,
    )
    history = [at(0), at(1), at(2)]
    with place() as file:
        transfer(history, sender, file, done := Transferred(), batch_samples=1)
    bodies = [bytes(cramjam.snappy.decompress_raw(body)) for _, body in server.requests]
    first, second, third = (Encoder().encode([one]) for one in history)
    assert bodies == [first, *[second] * 5, third]
    assert (done.samples, sender.requests, sender.retries) == (3, 3, 4)


# The command, as its users run it.


@pytest.fixture
def export(cramjam, tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a folder of its own; it must never traceback."""

    def run(*args: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "loopotel_prom.cli",
                "export",
                "remote-write",
                *args,
            ],
            cwd=tmp_path,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def archive(tmp_path) -> Path:
    """Make an archive of one run and a bad line."""
    document = Path(__file__).parents[2] / "specs/examples/full.good.json"
    line = json.dumps(json.loads(document.read_bytes()))
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces/traces.jsonl").write_text(f"{line}\n{{bad\n")
    return tmp_path / "traces"


def test_an_archive_is_sent_by_the_command(archive, export, server, tmp_path):
    """What is no run is told; nothing is sent a second time."""
    done = export("--url", server.url, "--header", "X-Scope-OrgID: team")
    assert done.returncode == 0, done.stderr
    assert "rejected: " in done.stderr
    assert done.stdout.startswith("1 runs, 1 rejected; ")
    [(headers, _)] = server.requests
    assert headers["X-Scope-OrgID"] == "team"
    again = export("--url", server.url, "--header", "X-Scope-OrgID: team", "--json")
    told = json.loads(again.stdout)
    written = json.loads((tmp_path / "loopotel-remote-write.json").read_text())
    assert (told["samples"], told["behind_ms"]) == (0, written["time_ms"])
    assert len(server.requests) == 1


def test_a_command_that_was_refused_ends_in_one_line(archive, export, server):
    """What it could send is counted all the same."""
    server.script = [(422, {}, b"no\x1b[31m\n")]
    done = export("--url", server.url, "--json", "--rejects", "rejects.jsonl")
    assert done.returncode == 1
    assert json.loads(done.stdout)["samples"] == 0
    [line] = done.stderr.splitlines()
    assert line.startswith(f"loopotel-prom: {server.url}: 422 no\\x1b[31m, of samples")


@pytest.mark.parametrize(
    ("args", "said"),
    (
        (("--url", "x"), "it is no http or https URL"),
        (("--url", URL, "--header", "x"), "give 'NAME: VALUE'"),
        (("--url", URL, "--timeout", "inf"), "--timeout inf"),
        (("--url", URL, "--position", "none/p"), "none/p: No such file or directory"),
        (("--url", URL, "--position", "traces"), "traces: Is a directory"),
        (("--url", URL, "--position", "."), "position .: Is a directory"),
        (("--url", URL, "--basic-auth-file", "none"), "none: No such file or direct"),
        (
            ("--url", URL, "--basic-auth-file", "a", "--bearer-token-file", "b"),
            "give one of them",
        ),
    ),
)
def test_bad_usage_ends_in_one_line(archive, export, args, said):
    """Exit code 2, before anything is read or sent."""
    done = export(*args)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert said in line
