"""The patterns of keys that services issue, as detect-secrets keeps them."""

import re
from collections.abc import Iterator

from loopotel_prom.errors import MissingExtraError

# Some of the patterns look at a line again from each of its characters.
_WINDOW_CHARACTERS = 2048
_OVERLAP_CHARACTERS = 512
# Ours are more exact or faster, each for its reason told in the specification.
_OURS = frozenset(("JwtTokenDetector", "NpmDetector", "PrivateKeyDetector"))


def vendor_patterns() -> list[re.Pattern[str]]:
    """
    Give all its patterns, of the version that is installed, in a stable order.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        # An optional extra, and a quarter of a second to import.
        from detect_secrets.core.plugins.util import (  # noqa: PLC0415
            get_mapping_from_secret_type_to_class,
        )
        from detect_secrets.plugins.base import RegexBasedDetector  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "the scanner of secrets (detect-secrets)", extra="redact"
        ) from error
    detectors = get_mapping_from_secret_type_to_class()
    return [
        pattern
        for _, detector in sorted(detectors.items())
        if issubclass(detector, RegexBasedDetector) and detector.__name__ not in _OURS
        for pattern in detector().denylist
    ]


def vendor_spans(
    text: str, patterns: list[re.Pattern[str]]
) -> Iterator[tuple[int, int]]:
    """Find all that a pattern matches; the whole of it, as some groups are parts."""
    step = _WINDOW_CHARACTERS - _OVERLAP_CHARACTERS
    begin = 0
    while begin == 0 or begin + _OVERLAP_CHARACTERS < len(text):
        piece = text[begin : begin + _WINDOW_CHARACTERS]
        for pattern in patterns:
            for found in pattern.finditer(piece):
                yield begin + found.start(), begin + found.end()
        begin += step
