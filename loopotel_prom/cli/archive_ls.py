"""The command `loopotel-prom archive ls`."""

import json
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.open_runs import OpenRun, read_open_runs
from loopotel_prom.archive.reader import Entry
from loopotel_prom.cli import wording
from loopotel_prom.cli.archive_source import (
    DEFAULT_ARCHIVE,
    Archive,
    Damage,
    digest,
    entries,
)
from loopotel_prom.cli.columns import Column, render
from loopotel_prom.cli.terminal import echo_safe, is_terminal
from loopotel_prom.engine import Place, place_of
from loopotel_prom.errors import ConfigError
from loopotel_prom.rfc3339 import format_time
from loopotel_prom.runs.digest import Digest, digest_of_open, time_of

_WIDEST = 28
_COMMON = (
    Column("id"),
    Column("loop", widest=_WIDEST),
    Column("env", widest=_WIDEST),
    Column("task", widest=_WIDEST),
    Column("started"),
    Column("took", right=True),
    Column("iter", right=True),
    Column("score", right=True),
    Column("LES", right=True),
    Column("tokens", right=True),
    Column("cost $", right=True),
)
_ENDED = Column("outcome", widest=2 * _WIDEST, style=wording.coloured)
_STATE = (Column("seen"), Column("state", style=wording.coloured))


def ls(
    archive: Archive = DEFAULT_ARCHIVE,
    *,
    loop: Annotated[
        str | None, typer.Option(help="Only runs of the loop of this name.")
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(help="Only this outcome: success, failure, partial or unknown."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only runs that started then or later: a time, or 2h, 7d."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only runs that started before that.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Only the newest so many.")
    ] = None,
    is_open: Annotated[
        bool,
        typer.Option(
            "--open", help="Runs that are not sealed yet: under way, or abandoned."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a run.")
    ] = False,
) -> None:
    """
    List the runs of an archive, the newest last.

    In the order in which they ended. Damage is told on standard error and ends
    nothing; then the exit code is 1.
    """
    wanted = _Wanted(
        loop,
        outcome,
        None if since is None else wording.parse_moment(since),
        None if until is None else wording.parse_moment(until),
    )
    bad = Damage()
    place = place_of(archive)
    if is_open:
        if isinstance(place, str):
            raise ConfigError(f"{place}: --open reads journals, which are in folders")
        _list_open(place, wanted, limit, bad, as_json=as_json)
    else:
        found = (
            _newest(place, wanted, limit, bad) if limit else _all(place, wanted, bad)
        )
        _print(found, as_json=as_json)
    bad.end(place)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The filters."""

    loop: str | None
    outcome: str | None
    since_ns: int | None
    until_ns: int | None

    def takes(self, loop: str | None, outcome: str, started_ns: int | None) -> bool:
        if self.loop is not None and loop != self.loop:
            return False
        if self.outcome is not None and outcome != self.outcome:
            return False
        if self.since_ns is None and self.until_ns is None:
            return True
        if started_ns is None:
            return False
        after = self.since_ns is None or started_ns >= self.since_ns
        return after and (self.until_ns is None or started_ns < self.until_ns)

    def takes_entry(self, entry: Entry) -> bool:
        head = entry.head
        started_ns = None
        if self.since_ns is not None or self.until_ns is not None:
            started_ns = time_of(head.started_at)
        return self.takes(head.loop_name, head.outcome or "unknown", started_ns)


def _all(place: Place, wanted: _Wanted, bad: Damage) -> Iterator[Digest]:
    for entry in entries(place, bad, bar=not is_terminal(sys.stdout)):
        found = digest(entry, bad) if wanted.takes_entry(entry) else None
        if found is not None:
            yield found


def _newest(place: Place, wanted: _Wanted, limit: int, bad: Damage) -> Iterable[Digest]:
    """Read the newest file first, and no more files than are needed."""
    newest: deque[Digest] = deque()
    here: deque[Digest] = deque(maxlen=limit)
    file = None
    for entry in entries(place, bad, bar=True, newest_first=True):
        if entry.line.file != file:
            _put_before(newest, here, limit)
            if len(newest) >= limit:
                break
            file = entry.line.file
        found = digest(entry, bad) if wanted.takes_entry(entry) else None
        if found is not None:
            here.append(found)
    _put_before(newest, here, limit)
    return newest


def _put_before(newest: deque[Digest], here: deque[Digest], limit: int) -> None:
    while here and len(newest) < limit:
        newest.appendleft(here.pop())
    here.clear()


def _list_open(
    folder: Path, wanted: _Wanted, limit: int | None, bad: Damage, *, as_json: bool
) -> None:
    runs: list[tuple[Digest, OpenRun]] = []
    for item in read_open_runs(folder):
        if isinstance(item, BadLine):
            bad.tell(item)
            continue
        found = digest_of_open(item)
        if wanted.takes(found.loop_name, found.outcome, found.started_ns):
            runs.append((found, item))
    runs.sort(key=lambda pair: pair[0].started_ns or 0)
    runs = runs[-limit:] if limit else runs
    if as_json:
        for found, run in runs:
            _print_json(found, state=wording.state(run))
        return
    now = time.time_ns()
    rows = ([*_cells(found), *_latest(run, now)] for found, run in runs)
    for line in render((*_COMMON, *_STATE), rows):
        echo_safe(line)


def _latest(run: OpenRun, now_ns: int) -> tuple[str, str]:
    ago = wording.duration(max(now_ns - run.latest_ns, 0) / 1e9)
    return f"{ago} ago", wording.state(run)


def _print(found: Iterable[Digest], *, as_json: bool) -> None:
    if as_json:
        for one in found:
            _print_json(one)
        return
    rows = ([*_cells(one), wording.ended(one.outcome, one.reason)] for one in found)
    for line in render((*_COMMON, _ENDED), rows):
        echo_safe(line)


def _cells(found: Digest) -> list[str]:
    return [
        wording.short_id(found.trace_id),
        found.loop_name or wording.NONE,
        found.env_id or wording.NONE,
        found.task_id or wording.NONE,
        wording.moment(found.started_ns),
        wording.duration(found.duration_seconds),
        wording.whole(found.iterations),
        f"{wording.score(found.goal_score)}/{wording.score(found.goal_target)}",
        wording.score(found.les),
        wording.whole(found.tokens),
        wording.money(found.cost_usd),
    ]


def _print_json(found: Digest, **more: Any) -> None:
    values = msgspec.structs.asdict(found)
    for name in ("started", "ended"):
        time_ns = values.pop(f"{name}_ns")
        values[f"{name}_at"] = None if time_ns is None else format_time(time_ns)
    values["duration_seconds"] = found.duration_seconds
    # ASCII, so that no text in it can break the terminal or pipe.
    typer.echo(json.dumps(values | more))
