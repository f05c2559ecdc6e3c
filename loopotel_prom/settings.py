"""
Settings of a process, from arguments and from ``LOOPOTEL_…`` variables.

An argument wins over its variable, a variable over the default.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final, TypeVar

from msgspec import Struct

from loopotel_prom.errors import ConfigError
from loopotel_prom.pipeline import Parent

T = TypeVar("T")

# More than anyone can watch; each takes nine series.
_MOST_RUNS = 1000

DEFAULT_LISTEN = "127.0.0.1:10110"

# Ours on some metric, Prometheus' own, or of the format.
_TAKEN_LABELS = frozenset(
    (
        *("loop_name", "env_id", "slot", "trace_id", "outcome", "reason", "code"),
        *("worker_id", "evaluator_id", "job", "instance", "le", "quantile"),
    )
)
# Where the endpoint has something else.
_OWN_PATHS = ("/-/", "/runbooks/", "/runs/", "/traces/")
_DURABILITIES = ("none", "process", "run", "power")
_YES = ("1", "true", "yes", "on")
_NO = ("", "0", "false", "no", "off")
# Compiled when needed: most processes have no parent.
_PARENT = (
    r"(ltf-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})"
    r"(?:/([0-9a-f]{16}))?"
)
# Version ff and ids of zeros are invalid; version 00 has nothing after the flags.
_TRACEPARENT = (
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})"
    r"([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})"
    r"-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)


class Unset(Enum):
    """The one value that says an argument was not given."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Settings(Struct, frozen=True, kw_only=True):
    """What a process sets up; checked when made."""

    # None at all for no endpoint.
    listen: tuple[str, ...] = (DEFAULT_LISTEN,)
    web_config: str | None = None
    web_allow_unauthenticated: bool = False
    telemetry_path: str = "/metrics"
    # As other exporters have it.
    max_requests: int = 40
    archive: str | None = None
    # What a program can die of without notice; a loss of power takes a second's.
    durability: str = "process"
    # True for what OpenTelemetry's own environment says.
    otlp: str | bool | None = None
    # As many as one glance at a dashboard can tell apart.
    max_concurrent_runs: int = 16
    # Long enough for a Prometheus that scrapes every minute to see the end.
    linger_seconds: float = 300.0
    # Below the sample limit of 5,000 that many a Prometheus sets.
    max_series: int = 4500
    run_labels: tuple[str, ...] = ()
    run_info: bool = False

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
        _check(
            "max_series",
            self.max_series,
            type(self.max_series) is int and self.max_series > 0,
            "a whole number above 0",
        )
        _check(
            "run_labels",
            self.run_labels,
            isinstance(self.run_labels, tuple) and all(map(_is_label, self.run_labels)),
            "names of labels, such as task_id, that no metric has already",
        )
        _check("run_info", self.run_info, type(self.run_info) is bool, "true or false")
        _check(
            "listen",
            self.listen,
            isinstance(self.listen, tuple)
            and all(text is not None and _is_text(text) for text in self.listen),
            "HOST:PORT, several of them, or None",
        )
        _check("web_config", self.web_config, _is_text(self.web_config), "a file")
        _check(
            "web_allow_unauthenticated",
            self.web_allow_unauthenticated,
            type(self.web_allow_unauthenticated) is bool,
            "true or false",
        )
        _check(
            "telemetry_path",
            self.telemetry_path,
            _is_path(self.telemetry_path),
            "a path such as /metrics, not one of the endpoint's own",
        )
        _check(
            "max_requests",
            self.max_requests,
            type(self.max_requests) is int and self.max_requests >= 0,
            "a whole number from 0 up",
        )
        _check(
            "durability",
            self.durability,
            self.durability in _DURABILITIES,
            f"one of {', '.join(_DURABILITIES)}",
        )
        _check(
            "otlp",
            self.otlp,
            self.otlp is None or type(self.otlp) is bool or _is_endpoint(self.otlp),
            "a URL such as http://127.0.0.1:4318/v1/traces, True or None",
        )
        _check(
            "archive",
            self.archive,
            _is_text(self.archive),
            "None, or a folder without line ends or control characters in its name",
        )


def _check(name: str, value: object, good: bool, wanted: str) -> None:  # noqa: FBT001 - the verdict
    if not good:
        raise ConfigError(f"{name} must be {wanted}, got {value!r}")


def _is_label(name: object) -> bool:
    return (
        isinstance(name, str)
        and name.isidentifier()
        and name.isascii()
        and not name.startswith("__")
        and name not in _TAKEN_LABELS
    )


def _is_text(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, str) and bool(value) and value.isprintable()


def _is_endpoint(value: object) -> bool:
    from loopotel_prom.otlp.endpoint import (  # noqa: PLC0415 - imported when needed
        is_endpoint,
    )

    return is_endpoint(value)


def _is_path(value: object) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"/[\w./~-]*", value, re.ASCII) is not None
        and not value.startswith(_OWN_PATHS)
    )


def read_settings(
    environment: Mapping[str, str],
    *,
    listen: str | Iterable[str] | Unset | None = UNSET,
    web_config: "str | os.PathLike[str] | Unset | None" = UNSET,
    web_allow_unauthenticated: bool | Unset = UNSET,
    telemetry_path: str | Unset = UNSET,
    max_requests: int | Unset = UNSET,
    archive: "str | os.PathLike[str] | Unset | None" = UNSET,
    durability: str | Unset = UNSET,
    otlp: str | bool | Unset | None = UNSET,
    max_concurrent_runs: int | Unset = UNSET,
    linger_seconds: float | Unset = UNSET,
    max_series: int | Unset = UNSET,
    run_labels: Iterable[str] | Unset = UNSET,
    run_info: bool | Unset = UNSET,
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
        except ConfigError:
            raise
        except ValueError as error:
            raise ConfigError(f"{variable}: {raw!r} is no {read.__name__}") from error

    if isinstance(run_labels, str):
        run_labels = (run_labels,)
    elif isinstance(run_labels, Iterable):
        run_labels = tuple(run_labels)
    if isinstance(archive, os.PathLike):
        archive = os.fspath(archive)
    if isinstance(web_config, os.PathLike):
        web_config = os.fspath(web_config)
    return Settings(
        listen=pick("listen", _addresses(listen), _listed, default.listen),
        web_config=_absolute(
            pick("web_config", web_config, _text_or_none, default.web_config)
        ),
        web_allow_unauthenticated=pick(
            "web_allow_unauthenticated",
            web_allow_unauthenticated,
            _yes_or_no,
            default.web_allow_unauthenticated,
        ),
        telemetry_path=pick(
            "telemetry_path", telemetry_path, str, default.telemetry_path
        ),
        max_requests=pick("max_requests", max_requests, int, default.max_requests),
        archive=_absolute(pick("archive", archive, _text_or_none, default.archive)),
        durability=pick("durability", durability, str, default.durability),
        otlp=_completed(pick("otlp", otlp, _url_or_yes, default.otlp)),
        max_concurrent_runs=pick(
            "max_concurrent_runs", max_concurrent_runs, int, default.max_concurrent_runs
        ),
        linger_seconds=pick(
            "linger_seconds", linger_seconds, float, default.linger_seconds
        ),
        max_series=pick("max_series", max_series, int, default.max_series),
        run_labels=pick("run_labels", run_labels, _names, default.run_labels),
        run_info=pick("run_info", run_info, _yes_or_no, default.run_info),
    )


def _addresses(listen: str | Iterable[str] | Unset | None) -> tuple[str, ...] | Unset:
    if isinstance(listen, Unset):
        return listen
    if listen is None:
        return ()
    if isinstance(listen, str) or not isinstance(listen, Iterable):
        # What is neither is refused with the other settings.
        return (listen,)
    return tuple(listen)


def _listed(raw: str) -> tuple[str, ...]:
    return () if _text_or_none(raw) is None else _names(raw)


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
    try:
        return _yes_or_no(environment.get("LOOPOTEL_DISABLED", ""))
    except ConfigError as error:
        raise ConfigError(f"LOOPOTEL_DISABLED: {error}") from error


def _yes_or_no(raw: str) -> bool:
    word = raw.strip().lower()
    if word in _YES or word in _NO:
        return word in _YES
    raise ConfigError(f"{word!r} is neither 1 nor 0")


def _url_or_yes(raw: str) -> str | bool | None:
    if _text_or_none(raw) is None:
        return None
    word = raw.strip().lower()
    return word in _YES if word in _YES or word in _NO else raw.strip()


def _completed(endpoint: T) -> T | str:
    if not isinstance(endpoint, str):
        return endpoint
    from loopotel_prom.otlp.endpoint import (  # noqa: PLC0415 - imported when needed
        full_endpoint,
    )

    return full_endpoint(endpoint)


def _names(raw: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in raw.split(",") if name.strip())


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
