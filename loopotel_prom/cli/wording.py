"""Values in the words of the commands: times, numbers, ids, outcomes."""

import re
import time
from datetime import UTC, datetime

import typer

from loopotel_prom.archive.lines import BadLine
from loopotel_prom.archive.open_runs import OpenRun
from loopotel_prom.cli.terminal import styled
from loopotel_prom.rfc3339 import format_time

NONE = "-"

_SHORT_DIGITS = 8
_LARGE = 1e9
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"([0-9]{1,9}) *([smhdw])")
_COLOURS = {
    "success": "green",
    "failure": "red",
    "partial": "yellow",
    "open": "cyan",
    "under way": "cyan",
    "abandoned": "red",
}


def short_id(trace_id: str) -> str:
    """Give the part of a trace id that tells runs apart well enough."""
    return trace_id.removeprefix("ltf-")[:_SHORT_DIGITS]


def moment(time_ns: int | None) -> str:
    """Spell Unix nanoseconds to the second, UTC."""
    if time_ns is None:
        return NONE
    return format_time(time_ns)[:19].replace("T", " ") + "Z"


def duration(seconds: float | None) -> str:
    """Spell a duration by its two largest units."""
    if seconds is None:
        return NONE
    if seconds >= _LARGE:
        return f"{seconds:.4g} s"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:  # noqa: PLR2004 - a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"


def score(value: float | None) -> str:
    """Spell a goal score, a target or an LES."""
    if value is None:
        return NONE
    return f"{value:.4g}" if abs(value) >= _LARGE else f"{value:.2f}"


def whole(value: int | None) -> str:
    """Spell a count."""
    return NONE if value is None else str(value)


def money(value: float | None) -> str:
    """Spell a cost in US dollars."""
    if value is None:
        return NONE
    return f"{value:.4g}" if abs(value) >= _LARGE else f"{value:.4f}"


def ended(outcome: str, reason: str) -> str:
    """Say how a run ended, and why."""
    return f"{outcome} ({reason})" if reason else outcome


def state(run: OpenRun) -> str:
    """Say how it stands with a run that is not sealed."""
    if run.has_ended:
        return "ended, being sealed" if run.is_live else "ended, to be recovered"
    return "under way" if run.is_live else "abandoned, to be recovered"


def coloured(text: str, outcome: str) -> str:
    """Give text the colour of the outcome that it begins with."""
    for name, colour in _COLOURS.items():
        if outcome.startswith(name):
            return styled(text, fg=colour)
    return text


def damage(line: BadLine) -> str:
    """Say where damage is, and what."""
    if not line.number:
        return f"{line.file}: {line.fault}"
    return f"{line.file}: line {line.number} (byte {line.offset}): {line.fault}"


def parse_moment(typed: str) -> int:
    """
    Read a point in time as Unix nanoseconds: RFC 3339, a date, or `2h` for ago.

    Raises:
        typer.BadParameter: It is none.
    """
    ago = _AGO.fullmatch(typed.strip())
    if ago is not None:
        return time.time_ns() - int(ago[1]) * _UNITS[ago[2]] * 10**9
    try:
        at = datetime.fromisoformat(typed.strip())
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return round(at.timestamp() * 1e9)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            "a time like 2026-03-02, 2026-03-02T09:00:00Z, 90m, 2h or 7d is needed"
        ) from error
