"""Settings from arguments and variables."""

import os

import pytest
from prometheus_client import CollectorRegistry

import loopotel_prom
from loopotel_prom import LoopTracer, pipeline
from loopotel_prom.errors import ConfigError
from loopotel_prom.pipeline import Parent, Pipeline
from loopotel_prom.settings import Settings, is_disabled, parent_of, read_settings
from loopotel_prom.testing import RecordingProcessor

TRACE = "ltf-01234567-89ab-4cde-8f01-23456789abcd"
TRACEPARENT = "00-0123456789ab4cde8f0123456789abcd-0123456789abcdef-01"


def test_without_anything_the_defaults_hold():
    """No argument and no variable give the documented defaults."""
    assert read_settings({}) == Settings()
    assert Settings().listen == ("127.0.0.1:10110",)


def test_each_setting_has_a_variable():
    """Its name is that of the argument, in capitals."""
    environment = {
        "LOOPOTEL_LISTEN": "127.0.0.1:1, unix:/run/x.sock",
        "LOOPOTEL_WEB_CONFIG": "web.yml",
        "LOOPOTEL_WEB_ALLOW_UNAUTHENTICATED": "1",
        "LOOPOTEL_TELEMETRY_PATH": "/m",
        "LOOPOTEL_MAX_REQUESTS": "3",
        "LOOPOTEL_ARCHIVE": "traces",
        "LOOPOTEL_MAX_CONCURRENT_RUNS": "4",
        "LOOPOTEL_LINGER_SECONDS": "1.5",
        "LOOPOTEL_MAX_SERIES": "9",
        "LOOPOTEL_RUN_LABELS": "task_id, team",
        "LOOPOTEL_RUN_INFO": "yes",
    }
    assert read_settings(environment) == Settings(
        listen=("127.0.0.1:1", "unix:/run/x.sock"),
        web_config=os.path.abspath("web.yml"),  # noqa: PTH100 - as it is spelled
        web_allow_unauthenticated=True,
        telemetry_path="/m",
        max_requests=3,
        archive=os.path.abspath("traces"),  # noqa: PTH100 - as it is spelled
        max_concurrent_runs=4,
        linger_seconds=1.5,
        max_series=9,
        run_labels=("task_id", "team"),
        run_info=True,
    )


@pytest.mark.parametrize("nothing", ("", "none", "None", " "))
def test_a_variable_can_say_none(nothing):
    """Then there is no endpoint."""
    assert read_settings({"LOOPOTEL_LISTEN": nothing}).listen == ()


def test_an_argument_wins_over_its_variable(tmp_path):
    """A given None too, and a path may be an object."""
    environment = {"LOOPOTEL_LISTEN": "127.0.0.1:1", "LOOPOTEL_ARCHIVE": "other"}
    settings = read_settings(environment, listen=None, archive=tmp_path)
    assert (settings.listen, settings.archive) == ((), str(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    (
        ("LOOPOTEL_MAX_CONCURRENT_RUNS", "many", "'many' is no int"),
        ("LOOPOTEL_LINGER_SECONDS", "x", "'x' is no float"),
        ("LOOPOTEL_RUN_LABELS", "task id", "run_labels must be names"),
        ("LOOPOTEL_RUN_LABELS", "slot", "run_labels must be names"),
        ("LOOPOTEL_RUN_INFO", "maybe", "'maybe' is neither 1 nor 0"),
        ("LOOPOTEL_TELEMETRY_PATH", "metrics", "telemetry_path must be a path"),
        ("LOOPOTEL_TELEMETRY_PATH", "/-/healthy", "telemetry_path must be a path"),
        ("LOOPOTEL_MAX_REQUESTS", "-1", "max_requests must be a whole number"),
        ("LOOPOTEL_LINGER_SECONDS", "nan", "linger_seconds must be seconds from 0 up"),
    ),
)
def test_a_variable_that_cannot_work_is_named(variable, value, message):
    """The error says which one, and what it holds."""
    with pytest.raises(ConfigError, match=message):
        read_settings({variable: value})


@pytest.mark.parametrize(
    ("value", "disabled"),
    (
        ("1", True),
        ("true", True),
        ("YES", True),
        ("0", False),
        ("", False),
        ("off", False),
    ),
)
def test_disabled_is_a_yes_or_a_no(value, disabled):
    """In the usual spellings."""
    assert is_disabled({"LOOPOTEL_DISABLED": value}) is disabled


def test_a_disabled_that_is_neither_is_refused():
    """A typing error does not pass for a no."""
    with pytest.raises(ConfigError, match="'maybe' is neither 1 nor 0"):
        is_disabled({"LOOPOTEL_DISABLED": "maybe"})


@pytest.mark.parametrize(
    ("environment", "parent"),
    (
        ({}, None),
        ({"LOOPOTEL_PARENT": TRACE}, Parent(TRACE)),
        ({"LOOPOTEL_PARENT": f"{TRACE}/{'a' * 16}"}, Parent(TRACE, "a" * 16)),
        ({"TRACEPARENT": TRACEPARENT}, Parent(TRACE, "0123456789abcdef")),
        ({"LOOPOTEL_PARENT": TRACE, "TRACEPARENT": TRACEPARENT}, Parent(TRACE)),
        ({"LOOPOTEL_PARENT": "garbage", "TRACEPARENT": "00-xyz"}, None),
    ),
)
def test_the_parent_is_read_from_the_environment(environment, parent):
    """Ours wins over W3C's, and what cannot be read counts as absent."""
    assert parent_of(environment) == parent


def test_runs_of_a_child_process_name_their_parent(monkeypatch):
    """Whether the process is configured or not."""
    monkeypatch.setenv("LOOPOTEL_PARENT", TRACE)
    with loopotel_prom.configure(listen=None, registry=CollectorRegistry()):
        with LoopTracer("code-repair") as run:
            pass
        assert run.build_trace()["metadata"] == {"parent": {"trace_id": TRACE}}
    with LoopTracer("code-repair") as run:
        pass
    assert run.build_trace()["metadata"]["parent"]["trace_id"] == TRACE


@pytest.mark.parametrize("configured", (True, False))
def test_a_disabled_process_does_nothing(monkeypatch, configured, tmp_path):
    """No endpoint, no archive, and every tracer falls silent."""
    monkeypatch.setenv("LOOPOTEL_DISABLED", "1")
    if configured:
        handle = loopotel_prom.configure(listen="127.0.0.1:0", archive=tmp_path / "t")
        assert (handle.url, handle.archive) == (None, None)
    with LoopTracer("code-repair") as run:
        assert not run.enabled
        assert loopotel_prom.current_tracer() is None
        run.emit_iteration(iteration=1, goal_score=0.4)
        with run.iteration() as step:
            step.goal_score(0.5)
    assert len(run.build_trace()["spans"]) == 1
    assert not (tmp_path / "t").exists()


def test_a_default_that_cannot_be_made_breaks_no_loop(monkeypatch, caplog):
    """Spans go nowhere but into the document, and the log says why."""
    monkeypatch.setenv("LOOPOTEL_DISABLED", "maybe")
    with LoopTracer("code-repair") as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    assert len(run.build_trace()["spans"]) == 2
    assert "default pipeline failed" in caplog.text


def test_nested_runs_name_the_run_around_them():
    """By its trace and by the iteration under way."""
    recorder = RecordingProcessor()
    pipeline.install(Pipeline([recorder]))
    inner = LoopTracer("inner-loop")
    with LoopTracer("outer-loop") as outer, outer.iteration(), inner:
        pass
    (iteration,) = recorder.ended[1:2]
    assert inner.build_trace()["metadata"]["parent"] == {
        "trace_id": outer.trace_id,
        "span_id": iteration.span_id,
    }
    assert "parent" not in outer.build_trace()["metadata"]


def test_an_own_parent_in_the_metadata_wins():
    """The loop knows better."""
    with LoopTracer("outer-loop", pipeline=Pipeline()):
        inner = LoopTracer("inner-loop", metadata={"parent": 1}, pipeline=Pipeline())
        with inner:
            pass
    assert inner.build_trace()["metadata"] == {"parent": 1}
