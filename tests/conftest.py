"""What every test may ask for."""

import signal
from collections.abc import Iterator

import pytest

from loopotel_prom import configuration, pipeline, semconv
from loopotel_prom.archive import processor, spool
from loopotel_prom.pipeline import Pipeline
from loopotel_prom.rfc3339 import parse_time
from loopotel_prom.testing import ManualClock, RecordingProcessor, SequentialIds
from loopotel_prom.tracer import LoopTracer, context


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


@pytest.fixture(scope="session")
def findings():
    """Check a valid document against the semantic conventions."""
    return _findings


def _findings(document: dict) -> list[str]:
    """List what breaks a convention, by span id."""
    spans = document["spans"]
    by_id = {span["span_id"]: span for span in spans}
    found = []
    for number, span in enumerate(spans):
        problems = list(_broken(span, by_id))
        if any(span["span_id"] == other["span_id"] for other in spans[:number]):
            problems.append("an id used twice")
        found += [f"{span['span_id']}: {problem}" for problem in problems]
    return found + list(_wrong_les(spans))


def _broken(span: dict, by_id: dict[str, dict]) -> Iterator[str]:
    name = semconv.SPAN_NAMES[span["kind"]]
    if span["name"] != name:
        yield f"a {span['kind']} is named {name}, not {span['name']}"
    parent = by_id.get(span.get("parent_span_id"))
    if parent is None:
        if span["kind"] != "loop":
            yield "its parent is not in the document"
        return
    start, end = _times(span)
    parent_start, parent_end = _times(parent)
    if not parent_start <= start <= end <= parent_end:
        yield "not within its parent in time"


def _times(span: dict) -> tuple[int, int]:
    start = span["start_time"]
    return parse_time(start), parse_time(span.get("end_time", start))


def _wrong_les(spans: list[dict]) -> Iterator[str]:
    """Compare with the definition, computed naively over all scores so far."""
    so_far: list[float] = []
    for span in spans:
        attributes = span["attributes"]
        if span["kind"] != "iteration" or semconv.LES_CUMULATIVE not in attributes:
            continue
        if semconv.LES_EFFECTIVENESS in attributes:
            so_far.append(attributes[semconv.LES_EFFECTIVENESS])
        expected = sum(so_far) / len(so_far) if so_far else 0.0
        found = attributes[semconv.LES_CUMULATIVE]
        # The effectivenesses were rounded, the mean was not made of rounded ones.
        if abs(found - expected) > 1e-4:
            yield f"{span['span_id']}: cumulative LES is {found:g}, not {expected:g}"


def pytest_configure() -> None:
    """Hear Ctrl-C, as do the programs started here, though a shell's `&` ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_disk_is_slow() -> Iterator[None]:
    """
    Have archives wait for this machine's disk, however slow it is.

    Else, behind a stall, they write in the background what a test looks for at once.
    Slow disks have tests of their own, in processes that this does not reach.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "_SLOW_NS", 10**12)
        patch.setattr(spool, "_PATIENCE_SECONDS", 60.0)
        patch.setattr(processor, "_PATIENCE_SECONDS", 60.0)
        yield


@pytest.fixture(autouse=True)
def _nothing_left_configured() -> Iterator[None]:
    """Take down what a test has configured, and leave the runs it has entered."""
    yield
    context._current.set(None)
    current = configuration._process.current
    if current is not None:
        current.close()
    pipeline.install(None)
