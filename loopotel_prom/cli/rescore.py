"""The command `loopotel-prom rescore`."""

import json
import math
from typing import Annotated, Any

import typer

from loopotel_prom.archive import layout, remote
from loopotel_prom.archive.lines import BadLine
from loopotel_prom.cli.columns import Column, render
from loopotel_prom.cli.engine import (
    EngineKind,
    Jobs,
    Kind,
    Scheduler,
    ShardBytes,
    engine_of,
)
from loopotel_prom.cli.output import output, output_folder
from loopotel_prom.cli.places import Places, places_of, reading
from loopotel_prom.cli.rejects import Rejects, RejectsFile, Strict
from loopotel_prom.cli.terminal import echo_safe
from loopotel_prom.cli.wording import NONE, score
from loopotel_prom.engine import Place, place_of, run
from loopotel_prom.errors import ArchiveError, ConfigError
from loopotel_prom.rescore import Comparison, RescoreJob, Sums, Targets

_COLUMNS = (
    Column("loop", widest=40),
    *(Column(title, right=True) for title in ("target", "runs")),
    *(Column(title, right=True) for title in ("LES before", "after")),
    *(Column(title, right=True) for title in ("reached before", "after")),
)


def rescore(
    paths: Places = None,
    *,
    goal_target: Annotated[
        float | None,
        typer.Option(help="Goal target of all loops that --loop does not name."),
    ] = None,
    loop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=TARGET", help="Goal target of one loop; repeatable."
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(
            "--output",
            metavar="DIR|URL",
            help="Folder of the new archive; made if absent.",
        ),
    ],
    rejects: RejectsFile = None,
    strict: Strict = False,
    jobs: Jobs = None,
    engine: EngineKind = Kind.PROCESS,
    scheduler: Scheduler = None,
    shard_bytes: ShardBytes = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the comparison as one JSON object.")
    ] = False,
) -> None:
    """
    Score runs anew, as if their loops had had another goal target.

    Writes a new archive and leaves the old one as it is. Tells, by loop, the mean
    final LES and the share of runs that reach the target, before and after.
    """
    job = RescoreJob(_targets(goal_target, loop or []))
    places = places_of(paths)
    comparison = Comparison()
    _refuse_archive(place_of(target))
    with (
        output_folder(target, sources=places, mode=0o700) as folder,
        output(f"{folder}/{layout.SEALED}", sources=places) as archive,
        Rejects.opened(rejects, target=None, sources=places) as refused,
        engine_of(engine, jobs, scheduler, shard_bytes) as opened,
        reading("rescore", places) as advance,
    ):
        for done in run(job, *places, engine=opened, advance=advance):
            if isinstance(done, BadLine):
                refused.add(done)
                continue
            archive.writelines(done.value.pieces())
            archive.write(b"\n")
            comparison.add(done.value)
    _tell(comparison, refused.count, as_json=as_json)
    refused.end(strict=strict)


def _targets(goal_target: float | None, typed: list[str]) -> Targets:
    """
    Read the targets.

    Raises:
        ConfigError: There is none, or one is no number.
    """
    by_loop = {}
    for one in typed:
        name, equals, value = one.rpartition("=")
        if not (name and equals):
            raise ConfigError(f"--loop {one}: NAME=TARGET is needed")
        by_loop[name] = _target(f"--loop {one}", value)
    if goal_target is None and not by_loop:
        raise ConfigError("say which target: --goal-target 0.9, or --loop NAME=0.9")
    if goal_target is not None:
        goal_target = _target("--goal-target", goal_target)
    return Targets(goal_target=goal_target, by_loop=by_loop)


def _target(option: str, value: float | str) -> float:
    try:
        target = float(value)
    except ValueError:
        target = math.nan
    if not 0 < target < math.inf:
        raise ConfigError(f"{option}: a target is a number above 0, got {value}")
    return target


def _refuse_archive(place: Place) -> None:
    """
    Let a place pass that has no archive yet.

    Raises:
        ConfigError: It has one.
    """
    if isinstance(place, str):
        has_one = _has_archive_at(place)
    else:
        names = (layout.SEALED, layout.JOURNAL)
        has_one = any((place / name).exists() for name in names)
        has_one = has_one or bool(layout.rotated_files(place))
    if has_one:
        raise ConfigError(f"--output {place}: there is an archive already")


def _has_archive_at(url: str) -> bool:
    try:
        return bool(remote.list_folder(url))
    except ArchiveError:
        # Nothing is there; what cannot be reached is told when it is written.
        return False


def _tell(comparison: Comparison, rejected: int, *, as_json: bool) -> None:
    loops = sorted(comparison.loops.items())
    if as_json:
        told = [_object(name, sums) for name, sums in loops]
        typer.echo(json.dumps({"loops": told, "rejected": rejected}))
        return
    for line in render(_COLUMNS, (_row(name, sums) for name, sums in loops)):
        echo_safe(line)
    if rejected:
        echo_safe(f"{rejected} rejected", err=True)


def _row(name: str, sums: Sums) -> tuple[str, ...]:
    return (
        name,
        score(sums.goal_target),
        str(sums.runs),
        score(sums.les_before),
        score(sums.les_after),
        _share(sums.share_before),
        _share(sums.share_after),
    )


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def _object(name: str, sums: Sums) -> dict[str, Any]:
    return {
        "loop_name": name,
        "goal_target": sums.goal_target,
        "runs": sums.runs,
        "les_final_mean": {"before": sums.les_before, "after": sums.les_after},
        "reached": {"before": sums.reached_before, "after": sums.reached_after},
        "reached_share": {"before": sums.share_before, "after": sums.share_after},
    }
