"""The metrics: state of loops and runs, and what a scrape sees of it."""

import threading
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_page
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.catalogue import CATALOGUE
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import RecordingProcessor


class Metrics:
    """A processor in a registry of its own, with a clock to turn."""

    def __init__(self, **options):
        self.now = 0.0
        self.health = Health()
        self.processor = MetricsProcessor(
            health=self.health, monotonic=lambda: self.now, **options
        )
        self.pipeline = Pipeline([self.processor], health=self.health)
        self.registry = CollectorRegistry()
        self.registry.register(LoopCollector(self.processor.snapshot))

    def scrape(self) -> dict[tuple[str, ...], float]:
        """Scrape once; samples by name and label values, identity left out."""
        page = generate_latest(self.registry).decode()
        return {
            (sample.name, *_distinct(sample.labels)): sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }


def _distinct(labels: dict[str, str]) -> list[str]:
    return [v for k, v in sorted(labels.items()) if k not in ("loop_name", "env_id")]


@pytest.fixture
def metrics() -> Metrics:
    """Give metrics with the usual limits."""
    return Metrics()


def test_an_iteration_shows_at_once(metrics, new_run):
    """Score, target, LES, tokens and cost of a run under way are on the page."""
    with new_run(pipeline=metrics.pipeline, goal_target=0.8) as run:
        run.emit_iteration(
            iteration=1, goal_score=0.4, tokens_delta=900, cost_usd=0.25, latency_ms=300
        )
        page = metrics.scrape()
    assert page["loop_goal_score", "0"] == 0.4
    assert page["loop_goal_target", "0"] == 0.8
    assert (
        page["loop_les_cumulative", "0"] == page["loop_les_effectiveness", "0"] == 0.5
    )
    assert page["loop_run_tokens", "0"] == page["loop_tokens_total",] == 900
    assert page["loop_run_cost_usd", "0"] == page["loop_cost_usd_total",] == 0.25
    assert page["loop_iteration", "0"] == page["loop_iterations_total",] == 1
    assert page["loop_runs_active",] == page["loop_runs_started_total",] == 1
    assert page["loop_iteration_duration_seconds_bucket", "0.5"] == 1
    assert page["loop_iteration_duration_seconds_bucket", "0.25"] == 0


def test_a_finished_run_moves_on_to_the_last_run(metrics, new_run):
    """Its outcome is counted and its final values stay."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.81234)
        run.finish(outcome="success")
    page = metrics.scrape()
    assert page["loop_runs_finished_total", "success"] == 1
    assert page["loop_runs_finished_total", "failure"] == 0
    assert page["loop_runs_active",] == 0
    assert page["loop_last_run_goal_score",] == 0.8123
    assert page["loop_last_run_les",] == 1.0


def test_what_is_unknown_has_no_series(metrics, new_run):
    """Before the first iteration there is no score, and no cost until told."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=float("nan"))
        page = metrics.scrape()
    assert not {("loop_goal_score", "0"), ("loop_run_cost_usd", "0")} & page.keys()
    assert page["loop_iteration", "0"] == 1


def test_concurrent_runs_of_a_loop_have_slots_of_their_own(metrics, new_run):
    """Each shows its own values, and a loop of another name starts at 0."""
    runs = [new_run(pipeline=metrics.pipeline) for _ in range(3)]
    for number, run in enumerate(runs):
        run.emit_iteration(iteration=1, goal_score=number / 10)
    other = new_run("other-loop", pipeline=metrics.pipeline)
    other.emit_iteration(iteration=1, goal_score=0.9)
    page = metrics.scrape()
    assert [page["loop_goal_score", str(slot)] for slot in (1, 2)] == [0.1, 0.2]


def test_an_ended_run_is_shown_for_two_scrapes(metrics, new_run):
    """Then its series go away, and the slot is free again."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    shown = [("loop_goal_score", "0") in metrics.scrape() for _ in range(3)]
    assert shown == [True, True, False]


def test_an_ended_run_lingers_no_longer_than_allowed(new_run):
    """After the time it is shown once more, then no more."""
    metrics = Metrics(linger_seconds=10)
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    metrics.now = 11.0
    shown = [("loop_goal_score", "0") in metrics.scrape() for _ in range(2)]
    assert shown == [True, False]


def test_a_resting_slot_is_not_given_to_another_run(metrics, new_run):
    """A new run takes the next one meanwhile."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.6)
        page = metrics.scrape()
    assert (page["loop_goal_score", "0"], page["loop_goal_score", "1"]) == (0.4, 0.6)


def test_a_quiet_run_is_never_expired(metrics, new_run):
    """However long it says nothing, it is shown."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        metrics.now = 1e9
        for _ in range(5):
            page = metrics.scrape()
    assert ("loop_goal_score", "0") in page


def test_a_run_beyond_the_slots_counts_everywhere_else(new_run):
    """It is active and its tokens count; only the slot series lack it."""
    metrics = Metrics(max_concurrent_runs=1)
    runs = [new_run(pipeline=metrics.pipeline) for _ in range(2)]
    for run in runs:
        run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=5)
    page = metrics.scrape()
    assert page["loop_tokens_total",] == 10
    assert page["loop_runs_active",] == 2
    assert page["loopotel_unslotted_runs_total",] == 1
    assert ("loop_goal_score", "1") not in page


def test_losses_of_the_pipeline_are_on_the_page(metrics, new_run):
    """A value left out is counted by its field."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4, cost_usd=-1)
    assert metrics.scrape()["loopotel_dropped_values_total", "cost_usd"] == 1


def test_a_slow_processor_is_counted(metrics, new_run):
    """The loop was kept waiting, and its operator can see it."""

    class Slow(RecordingProcessor):
        def on_end(self, span):
            time.sleep(0.011)

    sink = Pipeline([Slow(), metrics.processor], health=metrics.health)
    with new_run(pipeline=sink) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    assert metrics.scrape()["loopotel_slow_emits_total",] == 2


def test_describing_the_metrics_is_no_scrape(metrics, new_run):
    """Registering elsewhere does not use up an ended run's last scrapes."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    for _ in range(3):
        CollectorRegistry().register(LoopCollector(metrics.processor.snapshot))
    assert ("loop_goal_score", "0") in metrics.scrape()


def test_names_follow_the_conventions():
    """A known prefix, base units, and _total on counters alone."""
    for metric in CATALOGUE:
        assert metric.name.startswith(("loop_", "loopotel_"))
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert bool(metric.buckets) == (metric.type == "histogram")
        assert metric.help.endswith(".")
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)


def test_a_concurrent_scrape_never_sees_half_an_iteration(metrics, new_run):
    """Tokens, iterations and histogram count always agree."""
    stop = threading.Event()
    pages = []

    def scrape() -> None:
        while not stop.is_set():
            pages.append(metrics.scrape())

    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.5, tokens_delta=1, latency_ms=1)
        thread = threading.Thread(target=scrape)
        thread.start()
        for number in range(2, 20_000):
            run.emit_iteration(
                iteration=number, goal_score=0.5, tokens_delta=1, latency_ms=1
            )
        stop.set()
        thread.join()
    for page in pages:
        iterations = page["loop_iterations_total",]
        assert page["loop_tokens_total",] == page["loop_iteration", "0"] == iterations
        assert page["loop_iteration_duration_seconds_count",] == iterations


# The rest of the catalogue.


def test_workers_and_evaluators_are_counted_and_measured(metrics, new_run, clock):
    """By name: those with spans of their own, and those only named."""
    with new_run(pipeline=metrics.pipeline) as run:
        with run.iteration() as step:
            for _ in range(2):
                with step.worker("w") as worker:
                    clock.advance(seconds=0.2)
                    worker.add_tokens(input=30, output=7)
            with step.evaluator("e") as judge:
                judge.score(0.66)
        run.emit_iteration(iteration=2, goal_score=0.5, worker_id="w", evaluator_id="e")
    page = metrics.scrape()
    assert page["loop_worker_calls_total", "w"] == 3
    assert page["loop_evaluator_calls_total", "e"] == 2
    assert page["loop_worker_duration_seconds_count", "w"] == 2
    assert page["loop_worker_duration_seconds_bucket", "0.25", "w"] == 2
    assert page["loop_evaluator_score_sum", "e"] == pytest.approx(1.16)
    assert page["loop_input_tokens_total",] == 60
    assert page["loop_output_tokens_total",] == 14


def test_rises_and_falls_of_the_score_are_counted(metrics, new_run):
    """A fall is a regression; rises add up to the gain."""
    with new_run(pipeline=metrics.pipeline) as run:
        for number, score in enumerate([0.25, 0.75, 0.5, None, 1.0], start=1):
            run.emit_iteration(iteration=number, goal_score=score)
    page = metrics.scrape()
    assert page["loop_regressions_total",] == 1
    assert page["loop_goal_score_gain_total",] == 1.0


def test_what_goes_wrong_is_counted_by_its_code(metrics, new_run):
    """A safety violation counts as a failure too."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(
            iteration=1,
            goal_score=0.4,
            failure_codes=["fail.oscillation"] * 2,
            safety_violations=["fail.safety_bypass"],
            human_interventions=3,
        )
    page = metrics.scrape()
    assert page["loop_failures_total", "fail.oscillation"] == 2
    assert page["loop_failures_total", "fail.safety_bypass"] == 1
    assert page["loop_safety_violations_total",] == 1
    assert page["loop_human_interventions_total",] == 3


@pytest.mark.parametrize(
    ("words", "reason"),
    (
        ("goal_met", "goal_met"),
        ("quality_threshold (0.97 >= 0.8)", "goal_met"),
        ("max_iterations (6)", "max_iterations"),
        ("human_rejected", "human_stop"),
        ("Timed out after 3 s", "timeout"),
        ("abandoned", "other"),
        ("", "other"),
    ),
)
def test_a_run_ends_for_one_of_a_few_reasons(metrics, new_run, words, reason):
    """Whatever words it uses; all of them are there from the start."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.finish(outcome="failure", termination_reason=words)
    page = metrics.scrape()
    assert page["loop_run_terminations_total", reason] == 1
    assert len([k for k in page if k[0] == "loop_run_terminations_total"]) == 11
    assert page["loop_runs_failed_total",] == 1


def test_finished_runs_are_in_the_histograms(metrics, new_run, clock):
    """Duration, iterations, final score and LES."""
    with new_run(pipeline=metrics.pipeline, goal_target=0.8) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        run.emit_iteration(iteration=2, goal_score=0.8)
        clock.advance(seconds=10)
    page = metrics.scrape()
    assert page["loop_run_duration_seconds_sum",] == 10
    assert page["loop_run_iterations_bucket", "2.0"] == 1
    assert page["loop_run_final_goal_score_bucket", "0.8"] == 1
    assert page["loop_run_final_les_sum",] == 0.75


def test_active_runs_are_summed_up_without_a_last_writer(metrics, new_run):
    """Mean, least and greatest over those under way, not over those that rest."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.0)
    runs = [new_run(pipeline=metrics.pipeline) for _ in range(2)]
    for run, score in zip(runs, (0.25, 0.75), strict=True):
        run.emit_iteration(iteration=1, goal_score=score)
    page = metrics.scrape()
    assert page["loop_goal_score_mean",] == 0.5
    assert (page["loop_goal_score_min",], page["loop_goal_score_max",]) == (0.25, 0.75)


def test_a_live_run_takes_the_slot_of_one_that_rests(new_run):
    """Where no slot is free: what is under way is what one looks at."""
    metrics = Metrics(max_concurrent_runs=1)
    with new_run(pipeline=metrics.pipeline) as over:
        over.emit_iteration(iteration=1, goal_score=0.25)
    live = new_run(pipeline=metrics.pipeline)
    live.emit_iteration(iteration=1, goal_score=0.75)
    assert metrics.scrape()["loop_goal_score", "0"] == 0.75


def test_a_run_without_a_slot_gets_the_next_that_is_free(new_run):
    """It is shown as soon as another ends."""
    metrics = Metrics(max_concurrent_runs=1)
    first, second = (new_run(pipeline=metrics.pipeline) for _ in range(2))
    for run, score in ((first, 0.25), (second, 0.75)):
        run.emit_iteration(iteration=1, goal_score=score)
    first.finish()
    assert metrics.scrape()["loop_goal_score", "0"] == 0.75


def test_a_trace_id_used_twice_leaves_no_run_behind(metrics, new_run):
    """The first can no longer be told apart, and is over."""
    trace_id = "ltf-00000000-0000-4000-8000-0000000000ff"
    runs = [new_run(pipeline=metrics.pipeline, trace_id=trace_id) for _ in range(2)]
    for run in runs:
        run.emit_iteration(iteration=1, goal_score=0.4)
    for run in runs:
        run.finish()
    assert metrics.scrape()["loop_runs_active",] == 0


# What is off by default.


def test_runs_can_be_told_apart_by_labels_of_ones_own(new_run):
    """By the task, and by keys of the metadata."""
    metrics = Metrics(run_labels=("task_id", "team"))
    for task in ("a", "b"):
        options = {"task_id": task, "metadata": {"team": 7}}
        with new_run(pipeline=metrics.pipeline, **options) as run:
            run.emit_iteration(iteration=1, goal_score=0.4, tokens_delta=5)
    page = metrics.scrape()
    assert (
        page["loop_tokens_total", "a", "7"] == page["loop_tokens_total", "b", "7"] == 5
    )


def test_an_own_label_overflows_before_the_loop_does(new_run):
    """The hundred and first task shows the overflow, under its own loop."""
    metrics = Metrics(run_labels=("task_id",), max_series=1_000_000)
    for number in range(150):
        with new_run(pipeline=metrics.pipeline, task_id=f"t{number}"):
            pass
    page = metrics.scrape()
    assert page["loop_runs_started_total", "__overflow__"] == 50
    assert metrics.registry.get_sample_value(
        "loop_runs_started_total",
        {"loop_name": "code-repair", "env_id": "", "task_id": "__overflow__"},
    )


def test_the_traces_of_active_runs_are_shown_when_asked_for(new_run):
    """By slot, to be joined with what stands there."""
    metrics = Metrics(run_info=True)
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
        assert metrics.scrape()["loop_run_info", "0", run.trace_id] == 1


# Exemplars.


def _exemplars(metrics: Metrics) -> dict[str, tuple[str, float]]:
    page = openmetrics_page(metrics.registry).decode()
    return {
        sample.name: (sample.exemplar.labels["trace_id"], sample.exemplar.value)
        for family in openmetrics_families(page)
        for sample in family.samples
        if sample.exemplar is not None
    }


def test_the_worst_iteration_since_the_last_scrape_names_its_trace(metrics, new_run):
    """The slowest, the one with most tokens, the dearest; each scrape starts anew."""
    slow, dear = (new_run(pipeline=metrics.pipeline) for _ in range(2))
    slow.emit_iteration(iteration=1, goal_score=0.4, latency_ms=9000, tokens_delta=1)
    dear.emit_iteration(
        iteration=1, goal_score=0.4, latency_ms=10, tokens_delta=500, cost_usd=2
    )
    found = _exemplars(metrics)
    assert found["loop_iteration_duration_seconds_bucket"] == (slow.trace_id, 9.0)
    assert found["loop_tokens_total"] == (dear.trace_id, 500)
    assert found["loop_cost_usd_total"] == (dear.trace_id, 2)
    slow.emit_iteration(iteration=2, goal_score=0.4, tokens_delta=3)
    assert _exemplars(metrics)["loop_tokens_total"] == (slow.trace_id, 3)


def test_a_finished_run_names_its_trace_in_each_of_its_histograms(metrics, new_run):
    """Duration, iterations, final score and LES."""
    with new_run(pipeline=metrics.pipeline) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    found = _exemplars(metrics)
    for name in ("duration_seconds", "iterations", "final_goal_score", "final_les"):
        assert found[f"loop_run_{name}_bucket"][0] == run.trace_id


# Bounds.


def test_new_names_without_end_stay_within_bounds(metrics, new_run):
    """Loops, environments, workers and codes; totals are right all the same."""
    for number in range(3000):
        with new_run(
            f"loop-{number}", env_id=f"env-{number % 500}", pipeline=metrics.pipeline
        ) as run:
            run.emit_iteration(
                iteration=1,
                goal_score=0.4,
                tokens_delta=1,
                worker_id=f"w{number}",
                failure_codes=[f"fail.{number}"],
            )
    page = generate_latest(metrics.registry).decode()
    families = {f.name: f for f in text_string_to_metric_families(page)}
    samples = [s for f in families.values() for s in f.samples]
    assert len([s for s in samples if s.name.startswith("loop_")]) <= 4500
    assert len(samples) < 5000
    assert sum(s.value for s in families["loop_tokens"].samples) == 3000
    assert sum(s.value for s in families["loop_worker_calls"].samples) == 3000
    overflows = families["loopotel_label_overflows"].samples
    assert {s.labels["label"] for s in overflows} >= {"loop_name", "worker_id", "code"}


def test_crowded_loops_stay_within_bounds(metrics, new_run):
    """Sixty loops with live runs, workers, evaluators and codes of their own."""
    runs = []
    for number in range(60):
        with new_run(f"crowd-{number}", pipeline=metrics.pipeline) as run:
            run.emit_iteration(iteration=1, goal_score=0.5, cost_usd=0.1)
            run.finish(outcome="success")
        runs += [
            new_run(f"crowd-{number}", pipeline=metrics.pipeline) for _ in range(3)
        ]
    for run in runs:
        name = run.loop_name
        run.emit_iteration(
            iteration=1,
            goal_score=0.5,
            cost_usd=0.1,
            worker_id=f"{name}-worker",
            evaluator_id=f"{name}-evaluator",
            failure_codes=[f"fail.{name}"],
        )
    page = generate_latest(metrics.registry).decode()
    samples = [s for f in text_string_to_metric_families(page) for s in f.samples]
    assert len([s for s in samples if s.name.startswith("loop_")]) <= 4500
    assert "crowd-0-worker" in page


@pytest.mark.parametrize("name", ("é" * 300, "😀" * 64, 'a\nb\\c"d', "x" * 65))
def test_a_label_is_short_and_clean(metrics, new_run, name):
    """No value is longer than any sensible limit of Prometheus, in bytes."""
    with new_run(f"abc{name}", env_id=name, pipeline=metrics.pipeline):
        pass
    page = generate_latest(metrics.registry).decode()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            assert all(len(v.encode()) <= 128 for v in sample.labels.values())
