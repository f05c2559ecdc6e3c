"""Values as the pages spell them: short, exact enough, and in columns alike."""

from datetime import UTC, datetime

from loopotel_prom.web.pages.markup import Content, Html, element

NONE = "–"  # noqa: RUF001 - a dash, as wide as a digit

_LARGE = 1e6
_VAST = 1e15
_THIN = "\u2009"
_MINUS = "\u2212"
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_MIN_COMPACT = 10_000
_MAX_YEAR_SECONDS = 253_402_300_799


def score(value: float | None) -> str:
    """Spell a goal score, a target or an LES: two places."""
    if value is None:
        return NONE
    return _signed(f"{value:.3g}" if abs(value) >= _LARGE else f"{value:.2f}")


def change(value: float | None) -> str:
    """Spell a slope, with its sign."""
    if value is None:
        return NONE
    return _signed(f"{value:+.2g}" if abs(value) >= _LARGE else f"{value:+.3f}")


def whole(value: float | None) -> str:
    """Spell a count, in groups of three."""
    if value is None:
        return NONE
    return (
        f"{value:.3e}" if abs(value) >= _VAST else f"{value:,.0f}".replace(",", _THIN)
    )


def compact(value: float | None) -> str:
    """Spell a large count by its unit; a small one whole."""
    if value is None or abs(value) < _MIN_COMPACT:
        return whole(value)
    if abs(value) >= _VAST:
        return f"{value:.3g}"
    size, unit = next(each for each in _UNITS if abs(value) >= each[0] * 0.99995)
    return f"{value / size:.1f}{_THIN}{unit}"


def tick(value: float | None) -> str:
    """Spell a large count on an axis: round, so without a place of nothing."""
    return compact(value).replace(".0", "")


def money(value: float | None) -> str:
    """Spell US dollars: as many places as matter."""
    if value is None:
        return NONE
    if abs(value) >= _LARGE:
        return f"${compact(value)}"
    return f"${value:.2f}" if value >= 100 else f"${value:.4f}"  # noqa: PLR2004


def duration(seconds: float | None) -> str:
    """Spell a duration by its two largest units."""
    if seconds is None:
        return NONE
    if seconds < 0.9995:  # noqa: PLR2004 - would round to a second
        whole_ms = round(max(seconds, 0.0) * 1000)
        return f"{whole_ms or '<1'}{_THIN}ms"
    if seconds < 59.95:  # noqa: PLR2004 - would round to a minute
        return f"{seconds:.1f}{_THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{whole(days)}{_THIN}d {hours}{_THIN}h"
    if hours:
        return f"{hours}{_THIN}h {minutes}{_THIN}m"
    return f"{minutes}{_THIN}m {rest}{_THIN}s"


def since(time_ns: int | None, now_ns: int) -> str:
    """Spell how long ago something was, coarsely."""
    if time_ns is None:
        return NONE
    seconds = (now_ns - time_ns) / 1e9
    return "now" if seconds < 1 else duration(float(int(seconds))).replace(".0", "")


def moment(time_ns: int | None) -> Content:
    """Spell a time to the second, UTC, readable by machines too."""
    if time_ns is None:
        return NONE
    seconds = time_ns // 10**9
    if not 0 <= seconds <= _MAX_YEAR_SECONDS:
        return str(time_ns)
    at = datetime.fromtimestamp(seconds, UTC)
    words = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return element("time", words, datetime=at.isoformat())


def clock(spelled: str) -> str:
    """Take the time of day from a document's time."""
    return spelled[11:19] or NONE


def name(value: str | None) -> Html:
    """Set a name apart from what is around it, whichever way it is written."""
    return element("bdi", value or NONE)


def short_id(trace_id: str) -> str:
    """Give the part of a trace id that tells runs apart well enough."""
    return trace_id.removeprefix("ltf-")[:8]


def _signed(digits: str) -> str:
    """Use a real minus, and none before a zero."""
    if digits.startswith("-") and not digits.strip("-0."):
        digits = digits[1:]
    return digits.replace("-", _MINUS)
