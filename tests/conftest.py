"""What every test may ask for."""

from collections.abc import Iterator

import pytest

from loopotel_prom import configuration, pipeline
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.testing import ManualClock, RecordingProcessor, SequentialIds
from loopotel_prom.tracer import LoopTracer


@pytest.fixture
def recorder() -> RecordingProcessor:
    """Keep the spans of the test's tracers."""
    return RecordingProcessor()


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that moves only when told to."""
    return ManualClock()


@pytest.fixture
def new_run(recorder: RecordingProcessor, clock: ManualClock):
    """Make tracers that record into `recorder` and read `clock`."""
    ids = SequentialIds()

    def make(loop_name: str = "code-repair", **options) -> LoopTracer:
        options.setdefault("pipeline", Pipeline([recorder]))
        return LoopTracer(loop_name, clock=clock, ids=ids, **options)

    return make


@pytest.fixture(autouse=True)
def _nothing_left_configured() -> Iterator[None]:
    """Take down what a test has configured for the process."""
    yield
    current = configuration._process.current
    if current is not None:
        current.close()
    pipeline.install(None)
