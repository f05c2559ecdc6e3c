"""Values as a loop reports them: what may go into a span, and what may not."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice

from loopotel_prom import semconv
from loopotel_prom.errors import ConfigError
from loopotel_prom.health import Health
from loopotel_prom.plain import count, number, text, type_name
from loopotel_prom.span import Outcome

__all__ = [
    "MAX_COST_USD",
    "MAX_LATENCY_MS",
    "Values",
    "goal_target_of",
    "identifier",
    "loop_name_of",
    "moment_of",
    "trace_id_of",
    "truth",
    "type_name",
    "unix_ns_of",
]

# Ten years: beyond it, times before 1970 would come of it.
MAX_LATENCY_MS = 3.2e11
# More than there is: sums of it stay finite.
MAX_COST_USD = 1e12
# More codes, or interventions, than anyone has in one iteration.
MAX_CODES = 100
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

    def few(self, field: str, value: object) -> int:
        """Give a whole number from 0 to a hundred."""
        number_of = self.count(field, value) or 0
        if number_of > MAX_CODES:
            self.drop(field, value)
        return min(number_of, MAX_CODES)

    def cost(self, value: object) -> float | None:
        """Give US dollars, from 0 to more than there are."""
        result = self.amount("cost_usd", value)
        if result is not None and result >= MAX_COST_USD:
            self.drop("cost_usd", value)
            return None
        return result

    def latency(self, value: object) -> float | None:
        """Give milliseconds, from 0 to ten years."""
        result = self.amount("latency_ms", value)
        if result is not None and result >= MAX_LATENCY_MS:
            self.drop("latency_ms", value)
            return None
        return result

    def target(self, value: object, default: float) -> float:
        """Give a finite number, of either sign."""
        result = number(value)
        if result is None:
            self.drop("goal_target", value)
            return default
        return result

    def codes(self, field: str, codes: Iterable[str]) -> list[str]:
        """Give the first hundred codes as text; a single text is one code."""
        try:
            if isinstance(codes, str):
                return [text(codes, limit=_MAX_ID)]
            found = [text(code, limit=_MAX_ID) for code in islice(codes, MAX_CODES + 1)]
            if len(found) > MAX_CODES:
                self.drop(field, codes)
            return found[:MAX_CODES]
        except Exception:  # noqa: BLE001 - a stranger's iterator may raise anything
            self.drop(field, codes)
            return []

    def outcome(self, value: object) -> Outcome:
        """Give one of the outcomes; unknown for anything else."""
        # By its text: a stranger's __eq__ may raise anything.
        known = text(value, limit=16)
        if known in semconv.OUTCOMES:
            return known  # type: ignore[return-value]  # one of the literals
        self.drop("outcome", value)
        return "unknown"


def truth(value: object) -> bool:
    """Tell whether a value counts as true; one that cannot tell does."""
    try:
        return bool(value)
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return True


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
    clean = text(value) if issubclass(type(value), str) else ""
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
    if type(value) is not str or _TRACE_ID.fullmatch(value) is None:
        raise ConfigError(
            "trace_id must be 'ltf-' and a lower-case UUID, got"
            f" {text(value, limit=80)!r}; leave it out for a new one"
        )
    return value


def unix_ns_of(moment: object) -> int:
    """
    Give a moment as Unix nanoseconds; one without a zone is local time.

    Raises:
        ConfigError: It is no datetime, or none that UTC has.
    """
    if not issubclass(type(moment), datetime):
        raise ConfigError(
            f"started_at must be a datetime, got {text(moment, limit=80)!r}"
        )
    try:
        since = moment.astimezone(UTC) - _EPOCH  # type: ignore[attr-defined]  # it is one
        return (int(since.days) * 86_400 + int(since.seconds)) * 10**9 + int(
            since.microseconds
        ) * 1000
    except Exception as error:  # a stranger's time zone may raise anything
        raise ConfigError(
            f"started_at {text(moment, limit=80)!r} is no time that UTC has"
        ) from error


def moment_of(time_ns: int) -> datetime:
    """Give Unix nanoseconds as a UTC datetime, to the microsecond."""
    return _EPOCH + timedelta(microseconds=time_ns // 1000)
