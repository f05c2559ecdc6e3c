"""
Settings of a process, from arguments and from ``LOOPOTEL_…`` variables.

An argument wins over its variable, a variable over the default.
"""

import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Final, TypeVar

from msgspec import Struct

from loopotel_prom.errors import ConfigError
from loopotel_prom.pipeline import Parent

T = TypeVar("T")

# More than anyone can watch; each takes nine series.
_MOST_RUNS = 1000

DEFAULT_LISTEN = "127.0.0.1:10110"

_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")
# Compiled when needed: most processes have no parent.
_PARENT = (
    r"(ltf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"(?:/([0-9a-f]{16}))?"
)
_TRACEPARENT = (
    r"[0-9a-f]{2}-([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})"
    r"-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)


class Unset(Enum):
    """The one value that says an argument was not given."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Settings(Struct, frozen=True, kw_only=True):
    """What a process sets up; checked when made."""

    listen: str | None = DEFAULT_LISTEN
    archive: str | None = None
    # As many as one glance at a dashboard can tell apart.
    max_concurrent_runs: int = 16
    # Long enough for a Prometheus that scrapes every minute to see the end.
    linger_seconds: float = 300.0

    def __post_init__(self) -> None:
        _check(
            "max_concurrent_runs",
            self.max_concurrent_runs,
            type(self.max_concurrent_runs) is int
            and 0 <= self.max_concurrent_runs <= _MOST_RUNS,
            f"a whole number from 0 to {_MOST_RUNS}",
        )
        _check(
            "linger_seconds",
            self.linger_seconds,
            type(self.linger_seconds) in (int, float) and self.linger_seconds >= 0,
            "seconds from 0 up",
        )
        _check("listen", self.listen, _is_text(self.listen), "HOST:PORT or None")
        _check("archive", self.archive, _is_text(self.archive), "a folder or None")


def _check(name: str, value: object, good: bool, wanted: str) -> None:  # noqa: FBT001 - the verdict
    if not good:
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


def _is_text(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, str) and bool(value) and value.isprintable()


def read_settings(
    environment: Mapping[str, str],
    *,
    listen: str | Unset | None = UNSET,
    archive: "str | os.PathLike[str] | Unset | None" = UNSET,
    max_concurrent_runs: int | Unset = UNSET,
    linger_seconds: float | Unset = UNSET,
) -> Settings:
    """
    Put arguments and variables together.

    Raises:
        ConfigError: A value cannot work; the message names the argument or the
            variable.
    """
    default = Settings()

    def pick(name: str, given: T | Unset, read: Callable[[str], T], otherwise: T) -> T:
        if not isinstance(given, Unset):
            return given
        variable = f"LOOPOTEL_{name.upper()}"
        raw = environment.get(variable)
        if raw is None:
            return otherwise
        try:
            return read(raw)
        except ValueError as error:
            raise ConfigError(f"{variable}: {raw!r} is no {read.__name__}") from error

    if isinstance(archive, os.PathLike):
        archive = os.fspath(archive)
    return Settings(
        listen=pick("listen", listen, _text_or_none, default.listen),
        archive=_absolute(pick("archive", archive, _text_or_none, default.archive)),
        max_concurrent_runs=pick(
            "max_concurrent_runs", max_concurrent_runs, int, default.max_concurrent_runs
        ),
        linger_seconds=pick(
            "linger_seconds", linger_seconds, float, default.linger_seconds
        ),
    )


def _absolute(folder: T) -> T | str:
    """Fix a folder where it is: a program may change its own later."""
    if not isinstance(folder, str) or not folder:
        return folder
    return os.path.abspath(folder)  # noqa: PTH100 - pathlib is a fifth of the import


def is_disabled(environment: Mapping[str, str]) -> bool:
    """
    Tell whether ``LOOPOTEL_DISABLED`` turns everything off.

    Raises:
        ConfigError: It is neither a yes nor a no.
    """
    raw = environment.get("LOOPOTEL_DISABLED", "").strip().lower()
    if raw in _YES or raw in _NO:
        return raw in _YES
    raise ConfigError(f"LOOPOTEL_DISABLED: {raw!r} is neither 1 nor 0")


def parent_of(environment: Mapping[str, str]) -> Parent | None:
    """
    Give the run of another process that this one's runs are children of.

    ``LOOPOTEL_PARENT`` wins over W3C's ``TRACEPARENT``; one that cannot be read
    counts as absent, for a stranger may have set it.
    """
    own, foreign = environment.get("LOOPOTEL_PARENT"), environment.get("TRACEPARENT")
    if own is not None and (match := re.fullmatch(_PARENT, own)):
        return Parent(match[1], match[2])
    if foreign is not None and (match := re.fullmatch(_TRACEPARENT, foreign)):
        *digits, span_id = match.groups()
        return Parent("ltf-" + "-".join(digits), span_id)
    return None


def _text_or_none(raw: str) -> str | None:
    return None if raw.strip().lower() in ("", "none") else raw
