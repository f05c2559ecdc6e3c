"""Points in time: Unix nanoseconds to RFC 3339 text and back."""

import re
from datetime import UTC, datetime, timedelta

from loopotel_prom.errors import DocumentError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_SECONDS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
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
    seconds, fraction = divmod(time_ns, 1_000_000_000)
    if not 0 <= seconds <= _MAX_SECONDS:
        seconds, fraction = (0, 0) if seconds < 0 else (_MAX_SECONDS, 0)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{fraction // 1000:06d}Z"


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
        moment = datetime.fromisoformat(f"{day}T{clock}{(offset or 'Z').upper()}")
    except ValueError as error:
        raise DocumentError(f"{text[:64]!r} is not an RFC 3339 time") from error
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return seconds * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))
