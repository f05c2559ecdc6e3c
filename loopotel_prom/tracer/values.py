"""Values as a loop reports them: what may go into a span, and what may not."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from loopotel_prom import semconv
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.plain import count, number, text
from loopotel_prom.span import Outcome

_MAX_ID = 256
_TRACE_ID = re.compile(r"ltf-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Values:
    """
    Checks reported values; those that make no sense are counted and left out.

    Args:
        strict: Raise ValueError instead.
    """

    __slots__ = ("health", "strict")

    def __init__(self, *, strict: bool) -> None:
        self.health = Health()
        self.strict = strict

    def drop(self, field: str, value: object) -> None:
        """
        Leave a value out.

        Raises:
            ValueError: If strict.
        """
        if self.strict:
            raise ValueError(f"{field}: {text(value, limit=80)!r} is not usable")
        self.health.dropped(field, value)

    def amount(self, field: str, value: object) -> float | None:
        """Give a finite number from 0 up; None means that none was given."""
        if type(value) is float and 0.0 <= value < float("inf"):
            return value
        if value is None:
            return None
        result = number(value)
        if result is None or result < 0.0:
            self.drop(field, value)
            return None
        return result

    def count(self, field: str, value: object) -> int | None:
        """Give a whole number from 0 up; None means that none was given."""
        result = count(value)
        if result is None and value is not None:
            self.drop(field, value)
        return result

    def target(self, value: object, default: float) -> float:
        """Give a finite number, of either sign."""
        result = number(value)
        if result is None:
            self.drop("goal_target", value)
            return default
        return result

    def codes(self, field: str, codes: Iterable[str]) -> list[str]:
        """Give the codes as text; a single text is one code."""
        if isinstance(codes, str):
            return [text(codes, limit=_MAX_ID)]
        try:
            return [text(code, limit=_MAX_ID) for code in codes]
        except Exception:  # noqa: BLE001 - a stranger's iterator may raise anything
            self.drop(field, codes)
            return []

    def outcome(self, value: object) -> Outcome:
        """Give one of the outcomes; unknown for anything else."""
        if isinstance(value, str) and value in semconv.OUTCOMES:
            return value  # type: ignore[return-value]  # one of the literals
        self.drop("outcome", value)
        return "unknown"


def identifier(value: object) -> str | None:
    """Make an id that a label and a document can carry; none if it is empty."""
    if type(value) is str and len(value) <= _MAX_ID and value.isascii():
        return value or None
    return None if value is None else text(value, limit=_MAX_ID) or None


def loop_name_of(value: object) -> tuple[str, bool]:
    """
    Give a loop's name, and whether it had to be cut.

    Raises:
        ConfigError: It is no text, or shorter than 3 characters.
    """
    clean = text(value) if isinstance(value, str) else ""
    if len(clean) < semconv.LOOP_NAME_MIN_LENGTH:
        raise ConfigError(
            f"loop_name must be text of 3 to 64 characters, got"
            f" {text(value, limit=80)!r}; name the loop after what it does,"
            " such as 'code-repair'"
        )
    limit = semconv.LOOP_NAME_MAX_LENGTH
    return clean[:limit], len(clean) > limit


def goal_target_of(value: object) -> float:
    """
    Give a run's goal target.

    Raises:
        ConfigError: It is no finite number.
    """
    target = number(value)
    if target is None:
        raise ConfigError(
            f"goal_target must be a finite number, got {text(value, limit=80)!r}"
        )
    return target


def trace_id_of(value: object) -> str:
    """
    Give a run's trace id.

    Raises:
        ConfigError: It is not spelled as LTF has it.
    """
    if not isinstance(value, str) or _TRACE_ID.fullmatch(value) is None:
        raise ConfigError(
            "trace_id must be 'ltf-' and a lower-case UUID, got"
            f" {text(value, limit=80)!r}; leave it out for a new one"
        )
    return value


def unix_ns_of(moment: object) -> int:
    """
    Give a moment as Unix nanoseconds; one without a zone is local time.

    Raises:
        ConfigError: It is no datetime.
    """
    if not isinstance(moment, datetime):
        raise ConfigError(
            f"started_at must be a datetime, got {text(moment, limit=80)!r}"
        )
    since = moment.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


def moment_of(time_ns: int) -> datetime:
    """Give Unix nanoseconds as a UTC datetime, to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
