"""OpenMetrics files, as `promtool tsdb create-blocks-from openmetrics` reads them."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.metrics.catalogue import CATALOGUE, Metric
from loopotel_prom.metrics.exposition import escaped, header, numbers
from loopotel_prom.replay import Instant, Series, is_stale

SUFFIX = ".om"

# As long as a block: promtool reads all of a file again for each block in it.
SLICE_MS = 2 * 3600 * 1000
_DAY_SLICES = 12
# Fewer are read twelve times in the time that promtool takes to start twice.
_FEW_SAMPLES = 20_000
# Some 70 MB of text, and half of that in memory.
MOST_SAMPLES = 500_000

Labels: TypeAlias = tuple[tuple[str, str], ...]

_PARTS = ("_bucket", "_count", "_sum")


class _Group:
    """The series of one gauge, counter or histogram, and what a file has of them."""

    def __init__(self) -> None:
        self._template = ""
        self._values: list[list[str]] = []

    def add(self, head: str) -> Callable[[str], None]:
        """Add a series; give what takes its values, each with its time."""
        self._template += head.replace("%", "%%") + "%s"
        self._values.append([])
        return self._values[-1].append

    def take(self) -> str:
        """Give the lines, once: all buckets of a time together."""
        # The series of a histogram have been said together, always.
        rows = zip(*self._values, strict=True)
        text = "".join(map(self._template.__mod__, rows))
        for each in self._values:
            each.clear()
        return text

    def __bool__(self) -> bool:
        return any(self._values)


class OpenMetricsFiles:
    """
    Writes a history to files of a folder, each for two hours, or a quiet day.

    What it holds is the file that comes next. A file appears when it is complete.

    Args:
        folder: Where the files go; it is there.
        most_samples: How many samples a file has at most.

    Attributes:
        files: How many have been written.
        samples: How many samples are in them.
        begin_ms: The first instant, Unix milliseconds; None before it.
        end_ms: The latest, likewise.
    """

    def __init__(self, folder: Path, *, most_samples: int = MOST_SAMPLES) -> None:
        self._folder = folder
        self._most_samples = most_samples
        # By the object's identity: to hash it would cost more than all else. The
        # series are kept so that no other gets the identity of one.
        self._known: dict[int, Callable[[str], None]] = {}
        self._kept: list[Series] = []
        self._families: dict[Metric, dict[Labels, _Group]] = {m: {} for m in CATALOGUE}
        # The two hours that the file begins in, and how many have begun there.
        self._begin = 0
        self._part = 0
        self._held = 0
        self.files = 0
        self.samples = 0
        self.begin_ms: int | None = None
        self.end_ms: int | None = None

    def write(self, instants: Iterable[Instant]) -> None:
        """
        Write a history to its end; stale marks are left out.

        Raises:
            OSError: Writing failed. What was complete before is there.
        """
        for instant in instants:
            self._cut(instant)
            self._hold(instant)
        self._flush()

    def _cut(self, instant: Instant) -> None:
        """Write the file that is held, if the instant belongs into the next."""
        place = instant.time_ms // SLICE_MS
        is_new_day = place // _DAY_SLICES != self._begin // _DAY_SLICES
        if (
            is_new_day
            or (place != self._begin and self._held >= _FEW_SAMPLES)
            or self._held + len(instant.points) > self._most_samples
        ):
            self._flush()
        if not self._held and place != self._begin:
            self._begin, self._part = place, 0

    def _hold(self, instant: Instant) -> None:
        known, end = self._known, f" {instant.time_ms / 1000:.3f}\n"
        points = [each for each in instant.points if not is_stale(each[1])]
        if not points:
            return
        texts = numbers([value for _, value in points])
        for (series, _), text in zip(points, texts, strict=True):
            (known.get(id(series)) or self._meet(series))(text + end)
        self._held += len(points)
        self.end_ms = instant.time_ms
        self.begin_ms = self.end_ms if self.begin_ms is None else self.begin_ms

    def _meet(self, series: Series) -> Callable[[str], None]:
        values = escaped(tuple(value for _, value in series.labels))
        names = (name for name, _ in series.labels)
        pairs = ",".join(f'{n}="{v}"' for n, v in zip(names, values, strict=True))
        labels = tuple(pair for pair in series.labels if pair[0] != "le")
        group = self._families[_METRICS[series.name]].setdefault(labels, _Group())
        take = self._known[id(series)] = group.add(f"{series.name}{{{pairs}}} ")
        self._kept.append(series)
        return take

    def _flush(self) -> None:
        """Write the file that is held, if there is one."""
        if not self._held:
            return
        self._part += 1
        begin = datetime.fromtimestamp(self._begin * SLICE_MS / 1000, UTC)
        name = f"loops-{begin:%Y%m%dT%H%M%SZ}-{self._part:04}{SUFFIX}"
        self._save(self._folder / name)
        self.files += 1
        self.samples += self._held
        self._held = 0

    def _save(self, path: Path) -> None:
        unfinished = path.with_name(f".{path.name}.unfinished")
        try:
            with unfinished.open("wb") as file:
                for metric, groups in self._families.items():
                    if any(groups.values()):
                        file.write(header(metric, openmetrics=True).encode())
                    for group in groups.values():
                        file.write(group.take().encode("utf-8", "replace"))
                file.write(b"# EOF\n")
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        sync_folder(path.parent)


def _exposed_names(metric: Metric) -> Iterable[str]:
    if metric.type == "histogram":
        return [f"{metric.name}{part}" for part in _PARTS]
    return [metric.name]


_METRICS = {name: metric for metric in CATALOGUE for name in _exposed_names(metric)}
