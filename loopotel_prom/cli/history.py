"""The options of commands that turn an archive into history, and what they mean."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.cli.places import read_places, reading
from loopotel_prom.cli.terminal import progress
from loopotel_prom.engine import Place
from loopotel_prom.errors import ConfigError
from loopotel_prom.replay import DEFAULT_LABELS, Instant, Timeline
from loopotel_prom.settings import Settings

_MS = 1_000_000
# A bar is worth its place from some seconds of work on, and bytes are what it is asked
# in; a moment leads to a hundred points.
_BYTES_A_MOMENT = 2000
_DEFAULTS = ", ".join(f"{name}={value}" for name, value in DEFAULT_LABELS)

Resolution: TypeAlias = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="Grid of the points; coarser makes fewer."),
]
KeepAlive: TypeAlias = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="How often what stays the same is repeated."),
]
Linger: TypeAlias = Annotated[
    float, typer.Option(metavar="SECONDS", help="How long an ended run keeps its slot.")
]
Idle: TypeAlias = Annotated[
    float,
    typer.Option(metavar="SECONDS", help="How long a loop is shown without a run."),
]
Label: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="Label of every series; repeatable.",
        show_default=_DEFAULTS,
    ),
]
Temp: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Where what does not fit into memory is sorted.",
        show_default="TMPDIR",
    ),
]
MaxConcurrentRuns: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Runs of one loop that are shown apart.")
]
MaxSeries: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Series that the loops have in all.")
]
RunLabels: TypeAlias = Annotated[
    str,
    typer.Option(help="More labels, with commas between: task_id, metadata keys."),
]


def constant_labels(typed: list[str] | None) -> tuple[tuple[str, str], ...]:
    """
    Read the labels of every series: the usual ones, and those that were typed.

    Raises:
        ConfigError: One is no name with a value.
    """
    labels = dict(DEFAULT_LABELS)
    for each in typed or ():
        name, equals, value = each.partition("=")
        if not equals:
            raise ConfigError(f"--label {each!r}: NAME=VALUE is needed")
        labels[name] = value
    return tuple(sorted(labels.items()))


def run_labels_of(typed: str) -> tuple[str, ...]:
    """
    Read names with commas between.

    Raises:
        ConfigError: One is no name of a label, or is taken.
    """
    names = tuple(each.strip() for each in typed.split(",") if each.strip())
    return Settings(run_labels=names).run_labels


@contextmanager
def read_timeline(
    places: list[Place], *, temp: Path | None, refuse: Callable[[BadLine], None]
) -> Iterator[Timeline]:
    """
    Read archives into a timeline, with a bar.

    Raises:
        ConfigError: There is no folder `temp`.
        ArchiveError: Reading failed.
    """
    if temp is not None and not temp.is_dir():
        raise ConfigError(f"--temp {temp}: there is no such folder")
    with Timeline(folder=temp) as timeline:
        with reading("read", places) as advance:
            timeline.read(read_places(*places, advance=advance), refuse)
        yield timeline


@contextmanager
def told(label: str, timeline: Timeline) -> Iterator[Callable[[Instant], Instant]]:
    """Show a bar over a history; yields what is told of each instant, and gives it."""
    begin_ms = (timeline.begin_ns or 0) // _MS
    end_ms = (timeline.end_ns or 0) // _MS
    size = timeline.moments * _BYTES_A_MOMENT
    with progress(label, size, total=end_ms - begin_ms) as show:

        def tell(instant: Instant) -> Instant:
            show(instant.time_ms - begin_ms)
            return instant

        yield tell
