"""
The exposition: a snapshot as the text that Prometheus reads.

For the same snapshot a parser gets from it, sample for sample, what it gets from
prometheus_client's own rendering. The two differ in the order of labels and in the
spelling of numbers: 900 and 1e16 here, 900.0 and 1e+16 there.
"""

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from typing import cast

import msgspec

from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.metrics.snapshot import Exemplar, Family, HistogramValue, Snapshot

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format of the exposition.

    Attributes:
        media_type: With `version`, what the format is.
        escaping: How names beyond the classic character set are spelled. All ours
            are within it, so this only tells the reader what it asked for.
    """

    media_type: str
    version: str
    escaping: str | None = None

    @property
    def is_openmetrics(self) -> bool:
        """Whether the text is OpenMetrics, which has exemplars and an end."""
        return self.media_type == "application/openmetrics-text"

    @property
    def content_type(self) -> str:
        """The header to send with a page in this format."""
        start = f"{self.media_type}; version={self.version}; charset=utf-8"
        return start if self.escaping is None else f"{start}; escaping={self.escaping}"


TEXT_0_0_4 = Format("text/plain", "0.0.4")
TEXT_1_0_0 = Format("text/plain", "1.0.0", "underscores")
OPENMETRICS_0_0_1 = Format("application/openmetrics-text", "0.0.1")
OPENMETRICS_1_0_0 = Format("application/openmetrics-text", "1.0.0", "underscores")


def render(snapshot: Snapshot, content_format: Format) -> bytes:
    """Render one snapshot; for one after the other, a `Renderer` is faster."""
    return Renderer().render(snapshot, content_format)


class Renderer:
    """
    Renders snapshot after snapshot, and remembers what does not change.

    That is everything of a series but its value. What a snapshot does not have is
    forgotten when it has been rendered. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._templates: dict[Metric, _Templates] = {}

    @property
    def remembered(self) -> int:
        """How many series are remembered, a histogram's lines as one."""
        return sum(map(len, self._templates.values()))

    def render(self, snapshot: Snapshot, content_format: Format) -> bytes:
        """
        Give the whole page, in UTF-8.

        An exemplar that is not valid is left out.
        """
        openmetrics = content_format.is_openmetrics
        parts: list[str] = []
        with self._lock:
            for family in snapshot:
                parts.append(header(family.metric, openmetrics=openmetrics))
                parts += self._lines(family, openmetrics=openmetrics)
            if len(self._templates) > len(snapshot):
                shown = {family.metric for family in snapshot}
                self._templates = {m: self._templates[m] for m in shown}
        if openmetrics:
            parts.append("# EOF\n")
        # A lone surrogate, which no label should have, costs a character here;
        # an error would cost the scrape.
        return "".join(parts).encode("utf-8", "replace")

    def _lines(self, family: Family, *, openmetrics: bool) -> list[str]:
        metric = family.metric
        templates = self._templates.get(metric)
        if templates is None:
            templates = self._templates[metric] = _Templates(metric)
        if metric.type == "histogram":
            lines = list(_histograms(family, templates, exemplars=openmetrics))
        else:
            exemplars = openmetrics and metric.type == "counter"
            lines = _scalars(family, templates, exemplars=exemplars)
        # All of the family are there now, so more than those are of the past.
        if len(templates) > len(lines):
            self._templates[metric] = templates.only(s.labels for s in family.samples)
        return lines


class _Templates(dict[Labels, str]):
    """
    The unchanging text of each series of one metric, by label values.

    Of a histogram it is a %-template for all its lines, of any other metric what
    comes before the value.
    """

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric
        self._pairs = ",".join(f'{name}="%s"' for name in metric.label_names)
        self._pattern = _pattern(metric)

    def __missing__(self, labels: Labels) -> str:
        pairs = self._pairs % escaped(labels)
        if self._metric.type == "histogram":
            pairs = pairs.replace("%", "%%")
        text = self[labels] = self._pattern.replace(_PAIRS, pairs)
        return text

    def only(self, labels: Iterable[Labels]) -> "_Templates":
        """Give those of these series; a dict from which keys go does not shrink."""
        kept = _Templates(self._metric)
        kept.update((key, self[key]) for key in labels)
        return kept


# Stands for the label pairs in a pattern.
_PAIRS = "\0"


def _pattern(metric: Metric) -> str:
    name, braced = metric.name, f"{{{_PAIRS}}}" if metric.label_names else ""
    if metric.type != "histogram":
        return f"{name}{braced} "
    before = f"{_PAIRS}," if metric.label_names else ""
    lines = [
        f'{name}_bucket{{{before}le="{bound}"}} %s\n' for bound in upper_bounds(metric)
    ]
    return "".join([*lines, f"{name}_count{braced} %s\n{name}_sum{braced} %s\n"])


def upper_bounds(metric: Metric) -> tuple[str, ...]:
    """Spell the bounds of a histogram's buckets as ``le`` has them, +Inf last."""
    return (*(str(float(bound)) for bound in metric.buckets), "+Inf")


def escaped(labels: Labels) -> Labels:
    """Spell label values as they stand between their quotes."""
    # One look at all of them: hardly any has something to escape.
    joined = "".join(labels)
    if '"' not in joined and "\\" not in joined and "\n" not in joined:
        return labels
    return tuple(
        value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        for value in labels
    )


def header(metric: Metric, *, openmetrics: bool) -> str:
    """Give the lines that come before the samples of a family."""
    name, text = metric.name, metric.help.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        name, text = name.removesuffix("_total"), text.replace('"', r"\"")
    return f"# HELP {name} {text}\n# TYPE {name} {metric.type}\n"


def _scalars(family: Family, templates: _Templates, *, exemplars: bool) -> list[str]:
    samples = family.samples
    # The metric's type says so; to ask each value would take a fifth of the time.
    values = numbers(cast("list[float]", [sample.value for sample in samples]))
    heads = map(templates.__getitem__, [sample.labels for sample in samples])
    lines = zip(heads, values, strict=True)
    if not exemplars:
        return [f"{head}{value}\n" for head, value in lines]
    tails = [_exemplar(sample.exemplar) for sample in samples]
    return [
        f"{head}{value}{tail}\n"
        for (head, value), tail in zip(lines, tails, strict=True)
    ]


def _histograms(
    family: Family, templates: _Templates, *, exemplars: bool
) -> Iterator[str]:
    values = cast("list[HistogramValue]", [sample.value for sample in family.samples])
    sums = numbers([value.sum for value in values])
    for sample, value, total in zip(family.samples, values, sums, strict=True):
        counts: Iterable[object] = value.cumulative
        if exemplars and value.exemplars:
            pairs = zip(value.cumulative, value.exemplars, strict=True)
            counts = [f"{count}{_exemplar(exemplar)}" for count, exemplar in pairs]
        yield templates[sample.labels] % (*counts, value.cumulative[-1], total)


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None or not exemplar.is_valid:
        return ""
    trace_id, value, time_seconds = exemplar
    return f' # {{trace_id="{trace_id}"}} {value} {time_seconds}'


# Spells a float in a fifth of the time that str() takes, as exactly.
_encoder = msgspec.json.Encoder(enc_hook=float)


def numbers(values: list[float]) -> list[str]:
    """Spell numbers, be they finite or not."""
    data = _encoder.encode(values).decode()
    if "l" in data or "u" in data:
        # A null, which is what JSON makes of NaN and infinity; or a true or false.
        return [_number(float(value)) for value in values]
    return data[1:-1].split(",") if values else []


def _number(value: float) -> str:
    if isfinite(value):
        return str(value)
    # "nan" and "inf" are what Python says, and not OpenMetrics.
    return "+Inf" if value == inf else "-Inf" if value == -inf else "NaN"
