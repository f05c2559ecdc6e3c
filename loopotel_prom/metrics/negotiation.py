"""
Negotiation: which format and which compression a client would rather have.

Pure. A header that makes no sense is nobody's error: what cannot be read of it is
skipped, and with nothing left there is always an answer that everyone understands.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from loopotel_prom.metrics.exposition import (
    OPENMETRICS_0_0_1,
    OPENMETRICS_1_0_0,
    TEXT_0_0_4,
    TEXT_1_0_0,
    Format,
)

IDENTITY = "identity"

_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")

# No version asks for whatever we take for the usual one. Nor do wildcards: what
# reads everything may be a browser.
_FORMATS = {
    ("application/openmetrics-text", "1.0.0"): OPENMETRICS_1_0_0,
    ("application/openmetrics-text", "0.0.1"): OPENMETRICS_0_0_1,
    ("application/openmetrics-text", ""): OPENMETRICS_1_0_0,
    ("text/plain", "1.0.0"): TEXT_1_0_0,
    ("text/plain", "0.0.4"): TEXT_0_0_4,
    ("text/plain", ""): TEXT_0_0_4,
    ("text/*", ""): TEXT_0_0_4,
    ("*/*", ""): TEXT_0_0_4,
}

# RFC 9110, 12.5.3: no coding "is acceptable by default", a coding is if listed.
# Weights have three places, so these are below all that are listed. An unlisted
# coding is still better than none at all where that is refused.
_IDENTITY_UNLISTED = 0.0002
_CODING_UNLISTED = 0.0001


class _Item(NamedTuple):
    """One element of a header's list."""

    name: str
    parameters: dict[str, str]
    weight: float


def negotiate(accept_header: str | None) -> Format:
    """
    Choose the format by the weights of an ``Accept`` header.

    Of equal weights the first counts, a wildcard after all others. Without one that
    we have, or without a header, it is text 0.0.4.
    """
    best, best_rank = TEXT_0_0_4, (0.0, False)
    for item in _items(accept_header):
        found = _FORMATS.get((item.name, item.parameters.get("version", "")))
        rank = (item.weight, "*" not in item.name)
        if found is not None and item.weight > 0 and rank > best_rank:
            best, best_rank = _with_escaping(found, item), rank
    return best


def names_a_format(accept_header: str | None) -> bool:
    """Tell whether a client asks for metrics, not just for whatever there is."""
    media_types = {media_type for media_type, _ in _FORMATS if "*" not in media_type}
    return any(item.name in media_types for item in _items(accept_header))


def _with_escaping(found: Format, item: _Item) -> Format:
    asked = item.parameters.get("escaping")
    if found.escaping is None or asked not in _ESCAPINGS:
        return found
    return replace(found, escaping=asked)


def choose_encoding(
    accept_encoding_header: str | None, available: Sequence[str] = ("gzip", "zstd")
) -> str:
    """
    Choose the content coding by the weights of an ``Accept-Encoding`` header.

    Of equal weights the first of `available` counts, and `IDENTITY` last; so it does
    where the header is missing, and where it refuses everything.
    """
    asked = {item.name: item.weight for item in _items(accept_encoding_header)}

    def weight(coding: str) -> float:
        unlisted = _IDENTITY_UNLISTED if coding == IDENTITY else _CODING_UNLISTED
        return asked.get(coding, asked.get("*", unlisted))

    best = max((*available, IDENTITY), key=weight)
    return best if weight(best) > 0 else IDENTITY


def _items(header: str | None) -> Iterator[_Item]:
    """Read the elements of a header, but for those whose weight is no number."""
    for element in (header or "").split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        parameters = dict(map(_parameter, rest))
        weight = _weight(parameters.get("q", "1"))
        if name and weight is not None:
            yield _Item(name.lower(), parameters, weight)


def _parameter(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key.strip().lower(), value.strip().strip('"')


def _weight(text: str) -> float | None:
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if 0 <= weight <= 1 else None
