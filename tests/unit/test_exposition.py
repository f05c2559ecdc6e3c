"""The exposition: what it means, what it remembers, and who gets which format."""

import math
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import (
    generate_latest as generate_openmetrics,
)
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from loopotel_prom.metrics.catalogue import GOAL_SCORE, IDENTITY_LABELS, Metric
from loopotel_prom.metrics.collector import LoopCollector
from loopotel_prom.metrics.exposition import (
    OPENMETRICS_0_0_1,
    OPENMETRICS_1_0_0,
    TEXT_0_0_4,
    TEXT_1_0_0,
    Renderer,
    render,
)
from loopotel_prom.metrics.negotiation import choose_encoding, negotiate
from loopotel_prom.metrics.snapshot import Exemplar, Family, HistogramValue, Sample


def metric(name: str, kind: str, text: str, **changes) -> Metric:
    """Make a metric of no catalogue."""
    blank = {"labels": (), "identity": IDENTITY_LABELS, "buckets": ()}
    fields = blank | {"name": name, "type": kind, "help": text} | changes
    return replace(GOAL_SCORE, **fields)


GAUGE = metric("loop_goal_score", "gauge", "Goal score, 0 to 1.", labels=("slot",))
COUNTER = metric("loop_tokens_total", "counter", 'Tokens; "used".')
HISTOGRAM = metric(
    "loop_seconds", "histogram", "How\\long.", identity=(), buckets=(0.5, 2)
)
EXEMPLAR = Exemplar("4bf92f35", 1.5, 1700000000.25)


def gauges(*slots: int) -> tuple[Family, ...]:
    """Make a snapshot of one gauge with these slots."""
    samples = (Sample(("repair", "prod", str(slot)), slot / 8) for slot in slots)
    return (Family(GAUGE, tuple(samples)),)


# What it means: the same as prometheus_client's own.

# NUL-free and without lone surrogates, which no label has; and often what escapes.
_texts = st.text(
    st.one_of(
        st.sampled_from('\\"\n{},=# %s\r'),
        st.characters(exclude_categories=("Cs",), exclude_characters="\0"),
    ),
    max_size=8,
)
_odd = st.sampled_from((0.0, -0.0, 1e300, 5e-324, 1e16, 123456789.0, 0.1, 2**53))
_infinite = st.sampled_from((math.inf, -math.inf, math.nan))
_exact = st.integers(-(2**53), 2**53)
_gauge_values = st.one_of(_odd, _infinite, _exact, st.floats())
_counts = st.integers(0, 2**53)
# A counter is neither negative nor NaN, and a parser says so.
_counter_values = st.one_of(
    _counts, st.floats(min_value=0.0, allow_nan=False), st.just(math.inf)
)
_exemplars = st.builds(
    Exemplar,
    # Some of them too long, empty, or with a value or a time that are none.
    st.one_of(st.text("0123456789abcdef", max_size=32), _texts, st.just("f" * 121)),
    st.one_of(st.floats(), _exact),
    st.one_of(st.floats(1e9, 2e9), st.floats()),
)
_maybe_exemplars = st.none() | _exemplars


@st.composite
def _histogram_values(draw, buckets: int) -> HistogramValue:
    counts = sorted(draw(st.lists(_counts, min_size=buckets + 1, max_size=buckets + 1)))
    exemplars = draw(
        st.just(()) | st.tuples(*[_maybe_exemplars] * (buckets + 1)).map(tuple)
    )
    return HistogramValue(tuple(counts), draw(_counter_values), exemplars)


@st.composite
def _metrics(draw, number: int) -> Metric:
    kind = draw(st.sampled_from(("gauge", "counter", "histogram")))
    bounds = st.lists(st.floats(0.001, 1e9), min_size=1, max_size=3, unique=True)
    return metric(
        f"loop_{number}" + "_total" * (kind == "counter"),
        kind,
        # A parser skips a help text that is blank or has space around it.
        draw(st.text('\\"\né', max_size=3).map("h{}h".format)),
        labels=draw(st.sampled_from(((), ("slot",), ("b", "a")))),
        identity=draw(st.sampled_from(((), IDENTITY_LABELS))),
        buckets=tuple(sorted(draw(bounds))) if kind == "histogram" else (),
    )


@st.composite
def _families(draw, number: int) -> Family:
    made = draw(_metrics(number))
    labels = st.tuples(*[_texts] * len(made.label_names))
    values = {
        "gauge": st.builds(Sample, labels, _gauge_values, _maybe_exemplars),
        "counter": st.builds(Sample, labels, _counter_values, _maybe_exemplars),
        "histogram": st.builds(
            Sample, labels, _histogram_values(len(made.buckets)), st.none()
        ),
    }[made.type]
    samples = draw(st.lists(values, max_size=3, unique_by=lambda s: s.labels))
    return Family(made, tuple(samples))


_snapshots = st.integers(0, 2).flatmap(
    lambda families: st.tuples(*map(_families, range(families)))
)

# One for all examples: what it remembers must never show.
_renderer = Renderer()


def _meaning(families) -> list:
    """Give all that a parser gets, comparable: a NaN equals a NaN."""
    return [
        (
            family.name,
            family.type,
            family.documentation,
            [
                (s.name, s.labels, repr(float(s.value)), _exemplar_meaning(s.exemplar))
                for s in family.samples
            ],
        )
        for family in families
    ]


def _exemplar_meaning(exemplar) -> tuple | None:
    if exemplar is None:
        return None
    return exemplar.labels, float(exemplar.value), float(exemplar.timestamp)


@settings(max_examples=5000, deadline=None, suppress_health_check=list(HealthCheck))
@given(snapshot=_snapshots)
@example(snapshot=())
@example(snapshot=(Family(GAUGE, ()), Family(COUNTER, ()), Family(HISTOGRAM, ())))
def test_a_page_means_what_prometheus_client_would_say(snapshot):
    """In text and in OpenMetrics a parser gets the same from ours as from theirs."""
    collector = LoopCollector(lambda: snapshot)
    ours = _renderer.render(snapshot, TEXT_0_0_4).decode()
    theirs = generate_latest(collector).decode()
    assert _meaning(parse_text(ours)) == _meaning(parse_text(theirs))
    ours = _renderer.render(snapshot, OPENMETRICS_1_0_0).decode()
    theirs = generate_openmetrics(collector).decode()
    assert _meaning(parse_openmetrics(ours)) == _meaning(parse_openmetrics(theirs))
    assert _renderer.remembered <= sum(len(family.samples) for family in snapshot)


# The page itself.

STATE = (
    *gauges(0, 1),
    Family(COUNTER, (Sample(('a "b"\\c\n', "é"), 900, EXEMPLAR),)),
    Family(
        HISTOGRAM,
        (Sample((), HistogramValue((1, 1, 2), 3.25, (EXEMPLAR, None, EXEMPLAR))),),
    ),
)

TEXT_PAGE = r"""# HELP loop_goal_score Goal score, 0 to 1.
# TYPE loop_goal_score gauge
loop_goal_score{loop_name="repair",env_id="prod",slot="0"} 0.0
loop_goal_score{loop_name="repair",env_id="prod",slot="1"} 0.125
# HELP loop_tokens_total Tokens; "used".
# TYPE loop_tokens_total counter
loop_tokens_total{loop_name="a \"b\"\\c\n",env_id="é"} 900
# HELP loop_seconds How\\long.
# TYPE loop_seconds histogram
loop_seconds_bucket{le="0.5"} 1
loop_seconds_bucket{le="2.0"} 1
loop_seconds_bucket{le="+Inf"} 2
loop_seconds_count 2
loop_seconds_sum 3.25
"""

OPENMETRICS_PAGE = r"""# HELP loop_goal_score Goal score, 0 to 1.
# TYPE loop_goal_score gauge
loop_goal_score{loop_name="repair",env_id="prod",slot="0"} 0.0
loop_goal_score{loop_name="repair",env_id="prod",slot="1"} 0.125
# HELP loop_tokens Tokens; \"used\".
# TYPE loop_tokens counter
loop_tokens_total{loop_name="a \"b\"\\c\n",env_id="é"} 900 # {trace_id="4bf92f35"} 1.5 1700000000.25
# HELP loop_seconds How\\long.
# TYPE loop_seconds histogram
loop_seconds_bucket{le="0.5"} 1 # {trace_id="4bf92f35"} 1.5 1700000000.25
loop_seconds_bucket{le="2.0"} 1
loop_seconds_bucket{le="+Inf"} 2 # {trace_id="4bf92f35"} 1.5 1700000000.25
loop_seconds_count 2
loop_seconds_sum 3.25
# EOF
"""  # noqa: E501 - lines of the format


@pytest.mark.parametrize(
    ("content_format", "page"),
    (
        (TEXT_0_0_4, TEXT_PAGE),
        (TEXT_1_0_0, TEXT_PAGE),
        (OPENMETRICS_0_0_1, OPENMETRICS_PAGE),
        (OPENMETRICS_1_0_0, OPENMETRICS_PAGE),
    ),
)
def test_a_small_page_looks_like_this(content_format, page):
    """Each format, to the letter."""
    assert render(STATE, content_format).decode() == page


@pytest.mark.parametrize(
    "bad",
    (
        EXEMPLAR._replace(trace_id="f" * 121),
        EXEMPLAR._replace(trace_id=""),
        EXEMPLAR._replace(trace_id='"'),
        EXEMPLAR._replace(trace_id="\ud800"),
        EXEMPLAR._replace(value=math.nan),
        EXEMPLAR._replace(time_seconds=math.inf),
        EXEMPLAR._replace(time_seconds=0.0),
    ),
)
def test_a_bad_exemplar_costs_no_sample(bad):
    """The sample stands without it, here and in a prometheus_client registry."""
    snapshot = (
        Family(COUNTER, (Sample(("repair", "prod"), 7, bad),)),
        Family(HISTOGRAM, (Sample((), HistogramValue((0, 0, 1), 9, (bad,) * 3)),)),
    )
    theirs = generate_openmetrics(LoopCollector(lambda: snapshot)).decode()
    for page in (render(snapshot, OPENMETRICS_1_0_0).decode(), theirs):
        samples = [s for f in parse_openmetrics(page) for s in f.samples]
        assert [float(sample.value) for sample in samples] == [7, 0, 0, 1, 1, 9]
        assert not any(sample.exemplar for sample in samples)


def test_the_longest_exemplar_is_shown():
    """Of 128 characters, the name of the label included."""
    longest = EXEMPLAR._replace(trace_id="f" * 120)
    snapshot = (Family(COUNTER, (Sample(("repair", "prod"), 7, longest),)),)
    assert b"f" * 120 in render(snapshot, OPENMETRICS_1_0_0)


def test_a_number_of_another_kind_is_spelled_as_a_number():
    """A bool is one, and so is a float of numpy's."""

    class Float64(float):
        def __repr__(self) -> str:
            return f"np.float64({float(self)})"

    for value, text in ((True, b" 1.0\n"), (Float64(0.5), b" 0.5\n")):
        snapshot = (Family(COUNTER, (Sample(("repair", "prod"), value),)),)
        assert render(snapshot, TEXT_0_0_4).endswith(text)


def test_a_lone_surrogate_costs_a_character():
    """The page is UTF-8 all the same."""
    snapshot = (Family(COUNTER, (Sample(("a\ud800b", "prod"), 7),)),)
    assert b'loop_name="a?b"' in render(snapshot, TEXT_0_0_4)


def test_a_sample_with_too_few_labels_is_an_error():
    """It is our own mistake, and not to be exposed as another series."""
    with pytest.raises(TypeError, match="not enough arguments"):
        render((Family(COUNTER, (Sample(("repair",), 7),)),), TEXT_0_0_4)


# What is remembered.


def test_a_series_that_went_is_forgotten():
    """However many come and go, only those of the latest page are remembered."""
    renderer = Renderer()
    for first in range(0, 5000, 50):
        renderer.render(gauges(*range(first, first + 100)), TEXT_0_0_4)
        assert renderer.remembered == 100
    renderer.render((), TEXT_0_0_4)
    assert renderer.remembered == 0


def test_a_metric_that_went_is_forgotten():
    """With all its series, while others stay."""
    renderer = Renderer()
    renderer.render(STATE, TEXT_0_0_4)
    assert renderer.remembered == 4
    renderer.render(STATE[:1], TEXT_0_0_4)
    assert renderer.remembered == 2


def test_metrics_of_one_name_are_not_mixed_up():
    """A change of the labels, as configuration may bring, shows at once."""
    renderer = Renderer()
    renderer.render(gauges(0), TEXT_0_0_4)
    other = (Family(replace(GAUGE, labels=("team",)), gauges(0)[0].samples),)
    assert renderer.render(other, TEXT_0_0_4) == render(other, TEXT_0_0_4)


def test_values_change_and_formats_take_turns():
    """What is remembered of one page never shows in the next."""
    renderer = Renderer()
    for number in range(3):
        samples = (Sample(("repair", "prod"), number, EXEMPLAR),)
        for content_format in (OPENMETRICS_1_0_0, TEXT_0_0_4):
            page = renderer.render((Family(COUNTER, samples),), content_format)
            assert page == render((Family(COUNTER, samples),), content_format)


def test_concurrent_scrapes_of_different_states_do_not_mix():
    """Each thread gets the page of its own snapshot."""
    renderer = Renderer()
    wrong = []

    def scrape(first: int) -> None:
        snapshot = gauges(*range(first, first + 50))
        expected = render(snapshot, TEXT_0_0_4)
        pages = (renderer.render(snapshot, TEXT_0_0_4) for _ in range(200))
        wrong.extend(page for page in pages if page != expected)

    threads = [threading.Thread(target=scrape, args=(n * 25,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert renderer.remembered == 50


# Who gets which format.

TEXT = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8; escaping="
OPEN_0 = "application/openmetrics-text; version=0.0.1; charset=utf-8"
OPEN_1 = "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping="
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,"
    "application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"
    "encoding=delimited;q=0.6," + PROMETHEUS_3
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    (
        (PROMETHEUS_2, OPEN_1 + "underscores"),
        (PROMETHEUS_3, OPEN_1 + "allow-utf-8"),
        (PROTOBUF_FIRST, OPEN_1 + "allow-utf-8"),
        (BROWSER, TEXT),
        ("*/*", TEXT),
        ("text/*", TEXT),
        ("text/plain", TEXT),
        ("text/plain;version=0.0.4;escaping=allow-utf-8", TEXT),
        ("text/plain;version=1.0.0", TEXT_1 + "underscores"),
        ("text/plain; version=1.0.0; escaping=values", TEXT_1 + "values"),
        ("application/openmetrics-text", OPEN_1 + "underscores"),
        ("application/openmetrics-text;version=0.0.1;escaping=dots", OPEN_0),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPEN_1 + "underscores"),
        ("application/openmetrics-text;version=1.0.0;escaping=dots", OPEN_1 + "dots"),
        (
            "application/openmetrics-text;version=1.0.0;escaping=x",
            OPEN_1 + "underscores",
        ),
        # Of equal weight: the first, and a wildcard last.
        ("text/plain;version=0.0.4,application/openmetrics-text", TEXT),
        ("*/*,application/openmetrics-text", OPEN_1 + "underscores"),
        # A weight counts for more than the order, and 0 means never.
        ("application/openmetrics-text;q=0.2,text/plain;q=0.3", TEXT),
        ("application/openmetrics-text;q=0,*/*;q=0.1", TEXT),
        (
            "text/plain;version=0.0.4;q=0.1,text/plain;version=1.0.0",
            TEXT_1 + "underscores",
        ),
        # Versions that are not there, and headers that make no sense.
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("text/plain;version=9", TEXT),
        ("application/openmetrics-text;q=nan", TEXT),
        ("application/openmetrics-text;q=2", TEXT),
        ("application/openmetrics-text;q=", TEXT),
        (",;=;,q=,;;", TEXT),
        ("", TEXT),
        (None, TEXT),
    ),
)
def test_the_format_is_what_the_client_would_rather_have(accept, content_type):
    """The content type to answer with, for headers seen and unseen."""
    assert negotiate(accept).content_type == content_type


@pytest.mark.parametrize(
    ("accept_encoding", "encoding"),
    (
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("zstd;q=1.0, gzip;q=0.8", "zstd"),
        ("gzip;q=0.5", "gzip"),
        ("gzip;q=0.001", "gzip"),
        ("br", "identity"),
        ("identity", "identity"),
        ("identity, gzip;q=0.5", "identity"),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("gzip;q=0", "identity"),
        ("*", "gzip"),
        ("gzip;q=0, *", "zstd"),
        ("gzip;q=0.3, *;q=0.2", "gzip"),
        ("*;q=0, zstd", "zstd"),
        ("identity;q=0, br", "gzip"),
        ("identity;q=0", "gzip"),
        ("identity;q=0, gzip;q=0", "zstd"),
        ("*;q=0", "identity"),
        ("gzip;q=x", "identity"),
        ("gzip;q=-1", "identity"),
        (";;,=,", "identity"),
        ("", "identity"),
        (None, "identity"),
    ),
)
def test_the_coding_is_what_the_client_would_rather_have(accept_encoding, encoding):
    """By weight, then by our order; plain where all is refused."""
    assert choose_encoding(accept_encoding) == encoding


def test_a_coding_we_lack_is_not_chosen():
    """Only what the caller can do counts."""
    assert choose_encoding("zstd, gzip;q=0.1", ("gzip",)) == "gzip"
    assert choose_encoding("zstd", ()) == "identity"


@given(st.text() | st.text(',;=q/* .0123456789"ain', max_size=40))
def test_no_header_is_an_error(header):
    """Whatever it says, there is an answer."""
    assert negotiate(header).content_type
    assert choose_encoding(header) in {"gzip", "zstd", "identity"}
