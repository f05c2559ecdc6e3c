"""`configure`: the wiring of a process, and its endpoint."""

import gzip
import logging
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

import loopotel_prom
from loopotel_prom import LoopTracer, ltf
from loopotel_prom.archive.lines import zstd
from loopotel_prom.errors import ConfigError, DeliveryError


@pytest.fixture
def registry() -> CollectorRegistry:
    """Give a registry of the test's own."""
    return CollectorRegistry()


def _get(url: str, **headers: str) -> tuple[int, str]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - our own
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def _one_run() -> LoopTracer:
    with LoopTracer("code-repair", goal_target=0.8) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=7)
    return run


def test_a_configured_process_is_scraped_and_archived(registry, tmp_path):
    """The run is on the page and its document in the archive."""
    handle = loopotel_prom.configure(
        listen="127.0.0.1:0", archive=tmp_path, registry=registry
    )
    run = _one_run()
    _, page = _get(f"{handle.url}/metrics")
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert families["loop_tokens"].samples[0].value == 7
    line = (tmp_path / "traces.jsonl").read_bytes()
    assert ltf.decode(line)["trace_id"] == run.trace_id


def test_configuring_again_with_the_same_changes_nothing(registry):
    """A module that configures on import may be imported twice."""
    options = {"listen": "127.0.0.1:0", "registry": registry}
    assert loopotel_prom.configure(**options) is loopotel_prom.configure(**options)


def test_configuring_otherwise_keeps_the_counters(registry, tmp_path):
    """A counter does not go back while the process lives."""
    loopotel_prom.configure(listen=None, registry=registry)
    _one_run()
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _one_run()
    assert (
        'loop_tokens_total{loop_name="code-repair",env_id=""} 14'
        in _get(f"{handle.url}/metrics")[1].splitlines()
    )
    assert (
        registry.get_sample_value(
            "loop_tokens_total", {"loop_name": "code-repair", "env_id": ""}
        )
        == 14
    )


def test_a_closed_endpoint_refuses(registry):
    """Its port is free again, and closing twice is harmless."""
    with loopotel_prom.configure(listen="127.0.0.1:0", registry=registry) as handle:
        pass
    handle.close()
    with pytest.raises(urllib.error.URLError):
        _get(f"{handle.url}/metrics")


@pytest.mark.parametrize(
    ("path", "status"),
    (
        ("/", 200),
        ("/-/healthy", 200),
        ("/-/ready", 200),
        ("/metrics/x", 404),
        ("/x", 404),
    ),
)
def test_only_known_paths_answer(registry, path, status):
    """Health and the landing page are there, nothing else."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    assert _get(f"{handle.url}{path}")[0] == status


def test_openmetrics_is_given_to_who_asks(registry):
    """The page ends as that format does."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _, page = _get(f"{handle.url}/metrics", Accept="application/openmetrics-text")
    assert page.endswith("# EOF\n")


class Failing:
    """A collector that cannot do anything."""

    def describe(self):
        return []

    def collect(self):
        raise RuntimeError("out of order")


def test_a_failing_collector_costs_only_its_own_families(registry, caplog):
    """The page has ours and the other's, and the failure is counted."""
    registry.register(Failing())
    Gauge("another", "Of somebody else.", registry=registry).set(7)
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    with caplog.at_level(logging.CRITICAL, logger="loopotel_prom"):
        _get(f"{handle.url}/metrics")
        status, page = _get(f"{handle.url}/metrics")
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert status == 200
    assert families["another"].samples[0].value == 7
    (failure,) = families["loopotel_processor_failures"].samples
    assert failure.labels == {"processor": "Failing"}


@pytest.mark.parametrize("accept", ("text/plain", "application/openmetrics-text"))
def test_the_page_is_ours_and_theirs_in_one(registry, accept):
    """In either format it parses whole."""
    Gauge("another", "Of somebody else.", registry=registry)
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _one_run()
    _, page = _get(f"{handle.url}/metrics", Accept=accept)
    parse = text_string_to_metric_families
    if accept != "text/plain":
        parse = openmetrics_families
    names = {family.name for family in parse(page)}
    assert {"another", "loop_tokens", "loopotel_build_info"} <= names


def test_a_page_tells_of_the_one_before(registry):
    """How long it took, and how large it was."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _, first = _get(f"{handle.url}/metrics")
    _, second = _get(f"{handle.url}/metrics")
    families = {f.name: f for f in text_string_to_metric_families(second)}
    (size,) = families["loopotel_scrape_size_bytes"].samples
    assert size.value == len(first.encode())
    assert families["loopotel_scrape_duration_seconds"].samples[0].value > 0


def test_a_scrape_can_ask_for_some_names(registry):
    """Ours and theirs alike."""
    Gauge("another", "Of somebody else.", registry=registry)
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _one_run()
    wanted = "name[]=another&name[]=loop_iterations_total"
    _, page = _get(f"{handle.url}/metrics?{wanted}")
    assert {f.name for f in text_string_to_metric_families(page)} == {
        "another",
        "loop_iterations",
    }


@pytest.mark.parametrize(
    ("accepted", "coding", "unpack"),
    (
        ("gzip", "gzip", gzip.decompress),
        ("zstd, gzip;q=0.5", "zstd", zstd.decompress),
        ("gzip;q=0", None, bytes),
    ),
)
def test_the_page_is_packed_as_the_client_likes(registry, accepted, coding, unpack):
    """By its weights."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    headers = {"Accept-Encoding": accepted}
    request = urllib.request.Request(f"{handle.url}/metrics", headers=headers)  # noqa: S310 - our own
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own
        assert answer.headers["Content-Encoding"] == coding
        assert b"loopotel_build_info" in unpack(answer.read())


def test_concurrent_scrapers_share_a_page_that_is_not_older_than_they(registry):
    """Twenty scrapers, and each sees the iteration that came before it asked."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    seen = []

    def scrape() -> None:
        for _ in range(20):
            with lock:
                run.emit_iteration(iteration=1, goal_score=0.4)
                count[0] += 1
                known = count[0]
            page = _get(f"{handle.url}/metrics?name[]=loop_iterations_total")[1]
            (family,) = text_string_to_metric_families(page)
            seen.append(family.samples[0].value >= known)

    lock, count = threading.Lock(), [0]
    with LoopTracer("code-repair") as run:
        threads = [threading.Thread(target=scrape) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 400
    assert all(seen)


def test_the_page_can_be_written_to_a_file(registry, tmp_path):
    """Whole, readable for the node_exporter, and leaving nothing else behind."""
    handle = loopotel_prom.configure(listen=None, registry=registry)
    _one_run()
    path = tmp_path / "loops.prom"
    handle.write_textfile(path)
    families = {f.name for f in text_string_to_metric_families(path.read_text())}
    assert "loop_tokens" in families
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told(registry, tmp_path):
    """The error names it."""
    handle = loopotel_prom.configure(listen=None, registry=registry)
    with pytest.raises(DeliveryError, match=r"cannot write .*absent"):
        handle.write_textfile(tmp_path / "absent" / "loops.prom")


def test_a_gateway_that_is_not_there_is_told(registry):
    """The error names it."""
    handle = loopotel_prom.configure(listen=None, registry=registry)
    with pytest.raises(DeliveryError, match=r"cannot push to 127\.0\.0\.1:1"):
        handle.push("127.0.0.1:1", job="loops", timeout_seconds=1)


def test_labels_cannot_change_while_the_process_lives(registry):
    """The metrics that are registered have theirs."""
    loopotel_prom.configure(listen=None, registry=registry)
    with pytest.raises(ConfigError, match="run_labels cannot change"):
        loopotel_prom.configure(listen=None, registry=registry, run_labels=["task_id"])


def test_drain_waits_for_a_scrape_that_begins_later(registry):
    """Without one, it says so when the time is up."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    _get(f"{handle.url}/metrics")
    assert not handle.drain(0.05)


def test_a_taken_port_is_refused(registry):
    """The error names the address and a way out."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(
            ConfigError, match=f"cannot listen on {address}: .*0 for any"
        ):
            loopotel_prom.configure(listen=address, registry=registry)


@pytest.mark.parametrize(
    "values",
    (
        *({"max_concurrent_runs": bad} for bad in (-1, "a", None, 1.5, 10**9)),
        *({"linger_seconds": bad} for bad in (float("nan"), "x", None, -1)),
        *({"archive": bad} for bad in (5, b"x", "a\0b", "")),
        *({"listen": bad} for bad in (5, "", [""], [None], {"a\0b"})),
        *({"telemetry_path": bad} for bad in (5, "", "/a b", "/runs/x", "/{a}")),
        *({"max_requests": bad} for bad in (-1, 1.5, "x", None)),
        *({"web_config": bad} for bad in (5, "")),
        {"web_allow_unauthenticated": 1},
        {"registry": object()},
    ),
)
def test_a_limit_that_cannot_work_is_refused(registry, values):
    """The error names it."""
    with pytest.raises(ConfigError, match=next(iter(values))):
        loopotel_prom.configure(**{"listen": None, "registry": registry} | values)


def test_an_archive_that_cannot_be_is_refused_at_once(registry, tmp_path):
    """Not when the first run ends."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose a folder that can be written to"):
        loopotel_prom.configure(listen=None, archive=tmp_path / "file")


def test_a_configuration_that_fails_leaves_the_one_before(registry, tmp_path):
    """Its endpoint answers and its archive is written."""
    handle = loopotel_prom.configure(
        listen="127.0.0.1:0", archive=tmp_path, registry=registry
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError):
            loopotel_prom.configure(listen=address, registry=registry)
    _one_run()
    assert _get(f"{handle.url}/metrics")[0] == 200
    assert (tmp_path / "traces.jsonl").exists()


def test_an_endpoint_that_stays_the_same_stays_open(registry, tmp_path):
    """Only what changes is set up anew."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    handle = loopotel_prom.configure(listen=listen, registry=registry)
    other = loopotel_prom.configure(listen=listen, registry=registry, archive=tmp_path)
    assert other.url == handle.url
    assert _get(f"{other.url}/metrics")[0] == 200


def test_a_run_under_way_stays_with_what_it_started_with(registry, tmp_path):
    """None of its iterations is lost when the process is configured anew."""
    loopotel_prom.configure(listen=None, registry=registry, archive=tmp_path / "a")
    with LoopTracer("code-repair") as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        loopotel_prom.configure(listen=None, registry=registry, archive=tmp_path / "b")
        run.emit_iteration(iteration=2, goal_score=0.4)
    line = (tmp_path / "a" / "traces.jsonl").read_bytes()
    assert ltf.decode(line) == run.build_trace()
    assert not (tmp_path / "b" / "traces.jsonl").exists()


def test_concurrent_configuring_and_looping_does_not_deadlock(tmp_path):
    """A first loop may make the default while another thread configures."""
    code = """
import threading, loopotel_prom
def configure():
    for _ in range(200):
        loopotel_prom.configure(listen=None).close()
def loop():
    for _ in range(200):
        with loopotel_prom.LoopTracer("code-repair") as run:
            run.emit_iteration(iteration=1, goal_score=0.4)
threads = [threading.Thread(target=work) for work in (configure, configure, loop, loop)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)


def test_a_clash_of_names_in_the_registry_is_told(registry):
    """Configuring says what to do; an unconfigured loop goes on."""
    Gauge("loop_goal_score", "mine", registry=registry)
    with pytest.raises(ConfigError, match="give configure a registry of its own"):
        loopotel_prom.configure(listen=None, registry=registry)


@pytest.mark.parametrize(
    "request_line",
    (
        b"GET http://[::1/metrics HTTP/1.1\r\n\r\n",
        (
            b"GET /metrics HTTP/1.1\r\n"
            b"Accept: application/openmetrics-text; version=a\r\n\r\n"
        ),
        b"HEAD /metrics HTTP/1.1\r\n\r\n",
    ),
)
def test_an_odd_request_gets_an_answer(registry, request_line):
    """And nothing is written to the program's standard error."""
    handle = loopotel_prom.configure(listen="127.0.0.1:0", registry=registry)
    host, port = handle.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as client:
        client.sendall(request_line)
        assert client.recv(100).startswith(b"HTTP/1.1 ")


def test_an_unconfigured_process_mirrors_into_the_default_registry(tmp_path):
    """A program that already serves /metrics needs nothing else."""
    code = (
        "import loopotel_prom, prometheus_client\n"
        "with loopotel_prom.LoopTracer('code-repair') as run:\n"
        "    run.emit_iteration(iteration=1, goal_score=0.4)\n"
        "print(prometheus_client.generate_latest().decode())"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert 'loop_iterations_total{env_id="",loop_name="code-repair"} 1.0' in run.stdout
    assert list(tmp_path.iterdir()) == []
