"""One run, found by its id or the beginning of it: sealed, or still open."""

from pathlib import Path

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.open_runs import OpenRun, read_open_runs
from loopotel_prom.archive.reader import full_prefix, is_full, matches
from loopotel_prom.errors import ArchiveError, ConfigError

_TOLD = 5


def resolve(folder: Path, typed: str) -> str:
    """
    Give the trace id that begins as was typed.

    Raises:
        ConfigError: It is the beginning of no id, or of the ids of several runs.
        ArchiveError: No run's id begins so, or the archive cannot be read.
    """
    prefix = full_prefix(typed)
    if is_full(prefix):
        return prefix
    found = {run.trace_id: None for run in open_runs(folder, prefix)}
    for entry in matches(folder, trace_id=prefix):
        found[entry.trace_id] = None
        if len(found) > _TOLD:
            break
    if not found:
        raise not_found(folder, prefix)
    if len(found) > 1:
        some = ", ".join([*found][:_TOLD])
        more = ", and more" if len(found) > _TOLD else ""
        raise ConfigError(
            f"several runs begin with {prefix!r}: {some}{more}; give more of the id"
        )
    return next(iter(found))


def open_runs(folder: Path, prefix: str) -> list[OpenRun]:
    """
    Find the runs in journals whose id begins so; damage is passed over.

    Raises:
        ArchiveError: The archive cannot be read.
    """
    runs = read_open_runs(folder, prefix=prefix)
    return [run for run in runs if not isinstance(run, BadLine)]


def not_found(folder: Path, trace_id: str) -> ArchiveError:
    """Make the error that says that there is no such run."""
    return ArchiveError(
        f"it holds no run {trace_id}",
        path=str(folder),
        hint=f"list them: loopotel-prom archive ls {folder}",
    )
