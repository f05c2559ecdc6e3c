"""The metrics: state of loops and runs, and what a scrape sees of it."""

import threading

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.catalogue import CATALOGUE
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.pipeline import Pipeline


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
