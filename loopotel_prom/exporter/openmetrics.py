"""OpenMetrics files, as `promtool tsdb create-blocks-from openmetrics` reads them."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from loopotel_prom.archive.folders import sync_folder
from loopotel_prom.archive.new_file import new_file
from loopotel_prom.errors import DeliveryError
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
# Made and written at once: text that stays in the processor's cache, in memory that is
# used again, takes a third of the time of what the system has to find new pages for.
_LINES = 400

Labels: TypeAlias = tuple[tuple[str, str], ...]


class _Group:
    """
    A series of a gauge or counter, or all of a histogram; what a file has of them.

    Args:
        series: In the order of their lines.

    Attributes:
        values: Those of all series at a time, one time after the other.
        ends: The end of a line, with its time, for each time.
    """

    __slots__ = ("_heads", "ends", "values")

    def __init__(self, series: tuple[Series, ...]) -> None:
        self._heads = [_head(each) for each in series]
        self.values: list[float] = []
        self.ends: list[str] = []

    def take(self) -> Iterator[str]:
        """Give the lines, once: all buckets of a time together."""
        heads, width = self._heads, len(self._heads)
        step = max(1, _LINES // width)
        for begin in range(0, len(self.ends), step):
            ends = self.ends[begin : begin + step]
            # Line by line head, value and end, but put into their places all at once.
            parts = heads * (3 * len(ends))
            parts[::3] = heads * len(ends)
            parts[1::3] = numbers(self.values[begin * width : (begin + step) * width])
            parts[2::3] = [end for end in ends for _ in heads] if width > 1 else ends
            yield "".join(parts)
        self.values.clear()
        self.ends.clear()


class OpenMetricsFiles:
    """
    Writes a history to files of a folder, each for two hours, or a quiet day.

    What it holds is the file that comes next. A file appears when it is complete; if
    not all of a history can be written, none of its files stays.

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
        # By the object's identity: to hash it would cost more than all else. What has
        # one is kept so that nothing else gets it.
        self._known: dict[int, _Group] = {}
        self._kept: list[Series | tuple[Series, ...]] = []
        self._families: dict[Metric, dict[Labels, _Group]] = {m: {} for m in CATALOGUE}
        # The two hours that the file begins in, and how many have begun there.
        self._begin = 0
        self._part = 0
        self._held = 0
        self._written: list[Path] = []
        self.files = 0
        self.samples = 0
        self.begin_ms: int | None = None
        self.end_ms: int | None = None

    def write(self, instants: Iterable[Instant]) -> None:
        """
        Write a history to its end; stale marks are left out.

        Raises:
            DeliveryError: Writing failed.
        """
        try:
            for instant in instants:
                if self._is_full_for(instant):
                    self._flush()
                self._hold(instant)
            self._flush()
        except BaseException:
            # A part would be taken for all of it, on a disk that may be full.
            for path in self._written:
                path.unlink(missing_ok=True)
            raise

    def _is_full_for(self, instant: Instant) -> bool:
        """Tell whether the instant belongs into the next file."""
        place = instant.time_ms // SLICE_MS
        is_new_day = place // _DAY_SLICES != self._begin // _DAY_SLICES
        return (
            is_new_day
            or (place != self._begin and self._held >= _FEW_SAMPLES)
            or self._held + instant.size > self._most_samples
        )

    def _hold(self, instant: Instant) -> None:
        place = instant.time_ms // SLICE_MS
        if not self._held and place != self._begin:
            self._begin, self._part = place, 0
        held, time_ms = self._held, instant.time_ms
        end = f" {time_ms / 1000:.3f}\n"
        for series, value in instant.scalars:
            if value == value or not is_stale(value):  # noqa: PLR0124 - most are no NaN
                group = self._known.get(id(series)) or self._meet(series, (series,))
                group.values.append(value)
                group.ends.append(end)
                held += 1
        for family, values in instant.histograms:
            if not is_stale(values[0]):
                group = self._known.get(id(family)) or self._meet(family, family)
                group.values += values
                group.ends.append(end)
                held += len(values)
        if held > self._held:
            self._held, self.end_ms = held, time_ms
            self.begin_ms = time_ms if self.begin_ms is None else self.begin_ms

    def _meet(
        self, key: Series | tuple[Series, ...], series: tuple[Series, ...]
    ) -> _Group:
        # The last of a histogram is its sum, whose labels all of them have.
        groups = self._families[_METRICS[series[-1].name]]
        group = groups.setdefault(series[-1].labels, _Group(series))
        self._known[id(key)] = group
        self._kept.append(key)
        return group

    def _flush(self) -> None:
        """Write the file that is held, if there is one."""
        if not self._held:
            return
        self._part += 1
        begin = datetime.fromtimestamp(self._begin * SLICE_MS / 1000, UTC)
        name = f"loops-{begin:%Y%m%dT%H%M%SZ}-{self._part:04}{SUFFIX}"
        path = self._folder / name
        try:
            self._save(path)
        except OSError as error:
            raise DeliveryError(
                f"{path}: {error.strerror or error}; no file of this export is left:"
                " make room or write elsewhere, and do it again"
            ) from error
        self.files += 1
        self.samples += self._held
        self._held = 0

    def _save(self, path: Path) -> None:
        # Another user's promtool may read it.
        with new_file(path, mode=0o666) as file:
            for metric, groups in self._families.items():
                if any(group.ends for group in groups.values()):
                    file.write(header(metric, openmetrics=True).encode())
                for group in groups.values():
                    for text in group.take():
                        file.write(text.encode("utf-8", "replace"))
            file.write(b"# EOF\n")
        self._written.append(path)
        sync_folder(path.parent)


def _head(series: Series) -> str:
    values = escaped(tuple(value for _, value in series.labels))
    names = (name for name, _ in series.labels)
    pairs = ",".join(f'{n}="{v}"' for n, v in zip(names, values, strict=True))
    return f"{series.name}{{{pairs}}} "


# A histogram by its sum.
_METRICS = {f"{m.name}_sum" if m.buckets else m.name: m for m in CATALOGUE}
