"""Points in time: Unix nanoseconds to RFC 3339 text and back."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from loopotel_prom.errors import DocumentError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SECONDS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_SECOND_NS = 1_000_000_000
_END_NS = (_MAX_SECONDS + 1) * _SECOND_NS
# Tables, at half the cost of formatting a number.
_PAIRS = tuple(f"{number:02d}" for number in range(60))
_TRIPLES = tuple(f"{number:03d}" for number in range(1000))
_PATTERN = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt ](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})?"
)


def format_time(time_ns: int) -> str:
    """
    Spell Unix nanoseconds as UTC text with microseconds: ``…T12:00:00.000001Z``.

    Microseconds are what every reader of the format can take; the rest is cut
    off, so that order and containment of times are kept. Times before 1970 or
    beyond the year 9999 become the nearest that can be spelled.
    """
    if not 0 <= time_ns < _END_NS:
        time_ns = 0 if time_ns < 0 else _MAX_SECONDS * _SECOND_NS
    micros = time_ns % _SECOND_NS // 1000
    second = _second(time_ns // _SECOND_NS)
    return f"{second}.{_TRIPLES[micros // 1000]}{_TRIPLES[micros % 1000]}Z"


# The spans of a run are close together: its seconds, and its hours, come again.
@lru_cache(maxsize=256)
def _second(seconds: int) -> str:
    hours, seconds = divmod(seconds, 3600)
    return f"{_hour(hours)}:{_PAIRS[seconds // 60]}:{_PAIRS[seconds % 60]}"


@lru_cache(maxsize=16)
def _hour(hours: int) -> str:
    return f"{_EPOCH + timedelta(hours=hours):%Y-%m-%dT%H}"


def parse_time(text: str) -> int:
    """
    Read RFC 3339 text as Unix nanoseconds, exactly, to nine places.

    Text without an offset counts as UTC.

    Raises:
        DocumentError: The text is no such time.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise DocumentError(f"{text[:64]!r} is not an RFC 3339 time")
    day, clock, fraction, offset = match.groups()
    try:
        seconds = _seconds_until(day, clock, (offset or "Z").upper())
    except ValueError as error:
        raise DocumentError(f"{text[:64]!r} is not an RFC 3339 time") from error
    return seconds * _SECOND_NS + int((fraction or "0")[:9].ljust(9, "0"))


@lru_cache(maxsize=256)
def _seconds_until(day: str, clock: str, offset: str) -> int:
    since = datetime.fromisoformat(f"{day}T{clock}{offset}") - _EPOCH
    return since.days * 86_400 + since.seconds
