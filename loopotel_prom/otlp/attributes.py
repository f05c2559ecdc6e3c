"""Attributes as OpenTelemetry allows them: text, numbers, truths, lists of one kind."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from loopotel_prom.plain import plain, text

Attribute: TypeAlias = "str | bool | int | float | Sequence[str | bool | int | float]"

_INT64 = range(-(2**63), 2**63)
_SCALARS = frozenset((str, bool, int, float))
_METADATA = "loop.metadata."
# A page of a trace's viewer; what is longer is to be looked up in the archive.
_MOST_KEYS = 64
_MOST_CHARACTERS = 4096


def attributes_of(values: Mapping[Any, Any]) -> dict[str, Attribute]:
    """Make attributes of JSON; OpenTelemetry knows no empty key and no null."""
    return {
        text(key): _attribute(value)
        for key, value in values.items()
        if value is not None and key != ""
    }


def metadata_attributes(metadata: Mapping[Any, Any]) -> dict[str, Attribute]:
    """Give as much of a document's metadata as a span should carry."""
    found: dict[str, Attribute] = {}
    for key, value in metadata.items():
        if len(found) == _MOST_KEYS:
            break
        if value is not None:
            found[_METADATA + text(key, limit=256)] = _shortened(value)
    return found


def _shortened(value: Any) -> Attribute:
    attribute = _attribute(value)
    if isinstance(attribute, tuple):
        short = _json(value)
        # A list that is as long as a text may be stays a list.
        return text(short, limit=_MOST_CHARACTERS) if _is_long(short) else attribute
    if isinstance(attribute, str) and _is_long(attribute):
        return text(attribute, limit=_MOST_CHARACTERS)
    return attribute


def _is_long(spelled: str) -> bool:
    return len(spelled) > _MOST_CHARACTERS


def _attribute(value: Any) -> Attribute:
    """Keep what OpenTelemetry allows; anything else becomes compact JSON text."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        return value
    if isinstance(value, list | tuple) and _is_homogeneous(value):
        return tuple(text(v) if isinstance(v, str) else v for v in value)
    return _json(value)


def _json(value: Any) -> str:
    copy = plain(value)
    return copy if isinstance(copy, str) else msgspec.json.encode(copy).decode()


def _is_homogeneous(values: Sequence[Any]) -> bool:
    kinds = {type(value) for value in values}
    if not kinds <= _SCALARS or len(kinds) > 1:
        return False
    return int not in kinds or all(value in _INT64 for value in values)
