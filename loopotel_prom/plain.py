"""
Plain values: whatever a program hands in, made safe to write as JSON.

A loop may attach anything to its trace. What comes out of here is always
JSON: finite, acyclic, bounded in depth, count and length, encodable as UTF-8.
What had to change is recognisable (a marker in angle brackets, an ellipsis)
rather than absent. Nothing here raises.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date
from numbers import Integral, Number
from typing import Any, TypeAlias

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

MAX_TEXT = 65_536
_MAX_DEPTH = 32
_MAX_NODES = 10_000
_MAX_INTEGER = 2**63 - 1
# What stands for the rest of a list or a mapping that was cut.
_CUT = "…"
_REST = ("…", "<cut>")
_SURROGATE = re.compile("[\ud800-\udfff]")


def type_name(kind: type) -> str:
    """Name a class, even one whose metaclass would rather not."""
    try:
        return type.__dict__["__qualname__"].__get__(kind)  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - a stranger's metaclass may raise anything
        return "object"


def text(value: object, *, limit: int = MAX_TEXT) -> str:
    """
    Make a string that UTF-8 can carry, of at most `limit` characters.

    Lone surrogates become U+FFFD; a longer text ends in an ellipsis. An object
    whose ``__str__`` fails is named by its type.
    """
    try:
        if type(value) is not str:
            # A subclass of str may override anything; take the text alone. What
            # __str__ gives may be one, too.
            value = str.__str__(value if isinstance(value, str) else str(value))
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return f"<{type_name(type(value))}>"
    if len(value) > limit:
        value = value[: limit - 1] + "…"
    return value if value.isascii() else _SURROGATE.sub("\ufffd", value)


def number(value: object) -> float | None:
    """Read a finite real number as float; None for bools and all else."""
    try:
        if isinstance(value, bool) or not isinstance(value, Number):
            return None
        result = float(value)  # type: ignore[arg-type]  # a complex raises
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return None
    return result if math.isfinite(result) else None


def count(value: object) -> int | None:
    """Read a whole number from 0 to 2**63 - 1; None for bools and all else."""
    try:
        if isinstance(value, bool):
            return None
        if isinstance(value, Integral):
            result = int(value)
        else:
            real = number(value)
            if real is None or not real.is_integer():
                return None
            result = int(real)
    except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
        return None
    return result if 0 <= result <= _MAX_INTEGER else None


def plain(value: object) -> JSON:
    """
    Copy any value into plain JSON, at most 32 levels and 10,000 nodes of it.

    Sets become lists, keys become text, numbers that JSON cannot carry become
    text, any other object becomes its ``str``.
    """
    return _Copy().of(value, 0)


def plain_mapping(value: object) -> dict[str, Any]:
    """Copy a mapping as `plain` does; anything else becomes its only value."""
    copy = plain(value)
    if isinstance(copy, dict):
        return copy
    return {} if copy is None else {"value": copy}


class _Copy:
    """One copy in progress: counts its nodes."""

    __slots__ = ("_nodes",)

    def __init__(self) -> None:
        self._nodes = 0

    def of(self, value: object, depth: int) -> JSON:
        self._nodes += 1
        try:
            return self._of(value, depth)
        except Exception:  # noqa: BLE001 - a stranger's methods may raise anything
            return f"<{type_name(type(value))}>"

    def _of(self, value: object, depth: int) -> JSON:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return text(value)
        if isinstance(value, Number):
            return _scalar(value)
        if isinstance(value, date):
            return text(value.isoformat())
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._container(value, depth)
        return text(value)

    def _container(self, value: Mapping[Any, Any] | Iterable[Any], depth: int) -> JSON:
        if depth >= _MAX_DEPTH:
            return "<too deep>"
        if isinstance(value, Mapping):
            return {
                text(key, limit=256): self.of(item, depth + 1)
                for key, item in self._within_budget(value.items(), _REST)
            }
        items = self._within_budget(value, _CUT)
        return [self.of(item, depth + 1) for item in items]

    def _within_budget(self, items: Iterable[Any], mark: Any) -> Iterable[Any]:
        """Stop, with a mark, when the copy has had its share, however nested."""
        for item in items:
            if self._nodes >= _MAX_NODES:
                yield mark
                return
            yield item


def _scalar(value: Number) -> JSON:
    if isinstance(value, Integral):
        whole = int(value)
        return whole if -_MAX_INTEGER <= whole <= _MAX_INTEGER else text(whole)
    real = number(value)
    return text(value) if real is None else real
