"""The demo's real process, a real Prometheus, and the archive, end to end."""

import json
import signal
from collections import defaultdict

from loopotel_prom import ltf, semconv
from loopotel_prom.validate import validate_trace


def _documents(folder):
    lines = (folder / "traces.jsonl").read_bytes().splitlines()
    return [ltf.decode(line) for line in lines]


def _final(document):
    """Give the final goal score and LES of a document."""
    last = document["spans"][-1]["attributes"]
    return last[semconv.GOAL_SCORE], last[semconv.LES_CUMULATIVE]


def _identity(document):
    return document["loop_name"], document["env_id"]


def _by_loop(series):
    """Sum a query's values by identity."""
    values = defaultdict(float)
    for each in series:
        labels = each["metric"]
        values[labels["loop_name"], labels["env_id"]] += each["value"]
    return dict(values)


def test_prometheus_reads_what_the_archive_holds(command, prometheus, tmp_path):
    """Final scores, LES, token and iteration totals agree, loop by loop."""
    archive = tmp_path / "traces"
    demo = command(
        *("demo", "--episodes", "30", "--listen", "127.0.0.1:0"),
        *("--archive", str(archive), "--think", "0.3", "--drain", "60", "--json"),
    )
    begin = json.loads(demo.wait_for_line(r'^\{"event": "begin".*').group())
    target = begin["url"].removeprefix("http://").removesuffix("/metrics")
    server = prometheus([target])
    server.wait_for('up{job="loopotel"} == 1')
    # The demo waits at its end until it has been scraped once more.
    assert demo.wait(timeout=120) == 0
    documents = _documents(archive)
    assert len(documents) == 30
    assert [validate_trace(document) for document in documents] == [(True, [])] * 30

    tokens, iterations = defaultdict(float), defaultdict(float)
    last = {}
    for document in sorted(documents, key=lambda document: document["ended_at"]):
        identity = _identity(document)
        tokens[identity] += document["spans"][0]["attributes"][semconv.TOKENS_TOTAL]
        iterations[identity] += len(document["spans"]) - 1
        last[identity] = _final(document)

    def read(metric):
        return _by_loop(server.query(f"last_over_time({metric}[1h])"))

    assert read("loop_tokens_total") == dict(tokens)
    assert read("loop_iterations_total") == dict(iterations)
    assert read("loop_last_run_goal_score") == {k: v[0] for k, v in last.items()}
    assert read("loop_last_run_les") == {k: v[1] for k, v in last.items()}
    assert set(read("loop_runs_active").values()) == {0}


def test_a_run_is_seen_while_it_is_under_way(command, prometheus, tmp_path):
    """Slots of active runs are in Prometheus, and SIGTERM ends the demo well."""
    demo = command(
        *("demo", "--listen", "127.0.0.1:0", "--archive", str(tmp_path / "traces")),
        *("--think", "2", "--json"),
    )
    begin = json.loads(demo.wait_for_line(r'^\{"event": "begin".*').group())
    target = begin["url"].removeprefix("http://").removesuffix("/metrics")
    server = prometheus([target])
    server.wait_for("sum(loop_runs_active) >= 2")
    (score, *_) = server.wait_for("max(loop_goal_score)")
    assert 0 < score["value"] <= 1
    server.wait_for("loop_les_cumulative and on (loop_name, slot) loop_goal_target")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.wait() == 0
    summary = json.loads(demo.wait_for_line(r'^\{"event": "summary".*').group())
    assert summary["runs"] == len(_documents(tmp_path / "traces"))


def test_the_demo_sums_up(command, tmp_path):
    """People get a line an episode and a table; the documents are valid."""
    demo = command(
        *("demo", "--episodes", "9", "--listen", "127.0.0.1:0", "--think", "0")
    )
    assert demo.wait() == 0
    out = demo.output()
    assert "9 runs in" in out
    assert "documents in traces/traces.jsonl" in out
    check = command("validate", "traces/traces.jsonl")
    assert check.wait() == 0
    assert check.output().count("VALID:") == 9


def test_a_taken_port_is_one_clear_line(command, tmp_path):
    """The exit code is that of bad usage, and nothing is a traceback."""
    first = command("demo", "--listen", "127.0.0.1:0", "--json", "--think", "5")
    begin = json.loads(first.wait_for_line(r'^\{"event": "begin".*').group())
    address = begin["url"].removeprefix("http://").removesuffix("/metrics")
    second = command("demo", "--listen", address, "--episodes", "1")
    assert second.wait() == 2
    assert second.output().count("\n") == 1
    assert f"cannot listen on {address}" in second.output()
