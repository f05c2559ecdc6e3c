"""The pipeline: every processor gets every span, whatever the others do."""

import logging

from loopotel_prom import pipeline
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import RecordingProcessor


class FailingProcessor:
    """A processor that cannot do anything."""

    def _fail(self, *_args):
        raise RuntimeError("out of order")

    on_start = on_end = flush = close = _fail


def test_a_failing_processor_harms_neither_the_loop_nor_its_siblings(new_run):
    """Those before and after it get every span, and the loop goes on."""
    before, after = RecordingProcessor(), RecordingProcessor()
    sink = Pipeline([before, FailingProcessor(), after])
    with new_run(pipeline=sink) as run:
        run.emit_iteration(iteration=1, goal_score=0.4)
    assert len(before.ended) == len(after.ended) == 2
    assert sink.health.processor_failures() == {"FailingProcessor": 3}


def test_the_first_failure_of_a_processor_is_logged(new_run, caplog):
    """One line with the cause, and no more for those that follow."""
    with (
        caplog.at_level(logging.ERROR),
        new_run(pipeline=Pipeline([FailingProcessor()])),
    ):
        pass
    assert [r.message.split()[0] for r in caplog.records] == ["FailingProcessor"]


def test_flush_and_close_reach_all(recorder):
    """A failing one makes the flush false and does not keep the rest open."""
    sink = Pipeline([FailingProcessor(), recorder])
    assert not sink.flush()
    sink.close()
    assert recorder.closed


def test_the_default_pipeline_is_made_once(monkeypatch):
    """Tracers of an unconfigured process share it."""
    monkeypatch.setattr(pipeline._installation, "default", Pipeline)
    assert pipeline.installed() is pipeline.installed()
