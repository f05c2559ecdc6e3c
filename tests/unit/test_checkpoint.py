"""The checkpoint of the metrics: what was counted is there again."""

import random

import msgspec
import pytest

from loopotel_prom import LoopTracer
from loopotel_prom.errors import DocumentError
from loopotel_prom.health import Health
from loopotel_prom.metrics import MetricsProcessor
from loopotel_prom.metrics.checkpoint import SavedMetrics
from loopotel_prom.metrics.snapshot import HistogramValue
from loopotel_prom.pipeline import Pipeline


def _processor(**options) -> MetricsProcessor:
    return MetricsProcessor(health=Health(), **options)


def _again(processor: MetricsProcessor, **options) -> MetricsProcessor:
    """Save, write, read and load."""
    data = msgspec.json.encode(processor.save())
    other = _processor(run_labels=processor.run_labels, **options)
    other.load(msgspec.json.decode(data, type=SavedMetrics))
    return other


def _values(processor: MetricsProcessor) -> dict:
    """Give every series of the loops, its exemplar left out."""
    return {
        (family.metric.name, sample.labels): sample.value._replace(exemplars=())
        if isinstance(sample.value, HistogramValue)
        else sample.value
        for family in processor.look()[0]
        if not family.metric.name.startswith("loopotel_scrape")
        for sample in family.samples
    }


def _without_slots(values: dict) -> dict:
    return {
        (name, labels): value
        for (name, labels), value in values.items()
        if len(labels) < 3 or not labels[2].isdigit()
    }


def _rest(processor: MetricsProcessor) -> None:
    """Have the runs that ended leave their slots."""
    for _ in range(2):
        processor.seen(float("inf"))


def _busy(processor: MetricsProcessor, seed: int = 7) -> list[LoopTracer]:
    """Run some loops; give those under way."""
    dice = random.Random(seed)
    sink = Pipeline([processor])
    under_way = []
    for number in range(12):
        run = LoopTracer(
            f"loop-{number % 3}",
            env_id="test",
            task_id=f"task-{number}",
            goal_target=0.8,
            pipeline=sink,
        )
        for _ in range(dice.randrange(1, 9)):
            with run.iteration() as step:
                with step.worker(f"worker-{dice.randrange(3)}") as worker:
                    worker.add_tokens(input=dice.randrange(99), output=3)
                    worker.add_cost(usd=dice.random())
                with step.evaluator("rubric") as judge:
                    judge.score(dice.random())
                step.goal_score(dice.random())
                if dice.random() < 0.3:
                    step.failure("fail.oscillation")
                if dice.random() < 0.1:
                    step.human_intervention()
        if number % 4 == 3:
            under_way.append(run)
        else:
            run.finish(outcome="success", termination_reason="goal_met")
    return under_way


def test_what_is_loaded_shows_what_was_saved():
    """Every counter, histogram and gauge, but for the slots of runs that ended."""
    processor = _processor()
    _kept = _busy(processor)
    _rest(processor)
    before, after = _values(processor), _values(_again(processor))
    assert _without_slots(before) == _without_slots(after)
    # The runs under way are there, each in some slot.
    shown = [before[key] for key in before.keys() - _without_slots(before).keys()]
    again = [after[key] for key in after.keys() - _without_slots(after).keys()]
    assert sorted(shown) == sorted(again)
    assert len(shown) > 9


def test_a_run_goes_on_where_it_was_saved():
    """Regressions, gains and what its workers told are as without a break."""
    whole, first = _processor(), _processor()
    for processor in (whole, first):
        _kept = _busy(processor)
    spans: list = []

    class Tape:
        def on_start(self, span):
            spans.append(("on_start", span))

        def on_end(self, span):
            spans.append(("on_end", span))

    with LoopTracer("taped", pipeline=Pipeline([Tape()])) as run:
        for score in (0.5, 0.4, 0.7, None, 0.2):
            with run.iteration() as step:
                with step.worker("implementer"):
                    pass
                if score is not None:
                    step.goal_score(score)
    for cut in range(len(spans)):
        whole, first = _processor(), _processor()
        for number, (method, span) in enumerate(spans):
            if number == cut:
                first = _again(first)
            getattr(whole, method)(span)
            getattr(first, method)(span)
        assert _values(first) == _values(whole)


def test_limits_hold_after_loading():
    """What was admitted has its place; what comes after has none."""
    processor = _processor(max_series=2000)
    _kept = _busy(processor)
    _rest(processor)
    series = processor._values.series
    again = _again(processor, max_series=2000)
    assert again._values.series == series
    assert again._values.known() == processor._values.known()
    for number in range(50):
        LoopTracer(f"more-{number}", pipeline=Pipeline([again])).finish()
    assert again.save().overflowed["loop_name"] > 40


def test_infinite_sums_stay_so():
    """JSON has no word for them."""
    processor = _processor()
    LoopTracer("code-repair", pipeline=Pipeline([processor])).finish()
    (state,) = processor._loops.values()
    state.cost_usd = float("inf")
    (loop,) = processor.save().loops
    assert loop.counters["cost_usd"] is None
    key = ("loop_cost_usd_total", ("code-repair", ""))
    assert _values(_again(processor))[key] == float("inf")


@pytest.mark.parametrize("change", ("labels", "buckets"))
def test_what_does_not_fit_is_refused(change):
    """It says why, and nothing has changed."""
    processor = _processor()
    _kept = _busy(processor)
    saved = processor.save()
    other = _processor(run_labels=("task_id",) if change == "labels" else ())
    if change == "buckets":
        saved.buckets["loop_run_iterations"] = (1.0,)
    with pytest.raises(DocumentError, match=change):
        other.load(saved)
    assert not other.save().loops


def test_a_saved_run_has_no_text_of_the_user():
    """Attributes and events may be large, and are not shown."""
    processor = _processor()
    run = LoopTracer("code-repair", pipeline=Pipeline([processor]))
    with run.iteration() as step:
        step.set_attribute("prompt", "secret")
    assert b"secret" not in msgspec.json.encode(processor.save())
    run.finish()
