"""Finding secrets in a text, wrapped ones too, and marking their places."""

import re
import unicodedata
from base64 import urlsafe_b64decode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from loopotel_prom.exporter.redaction.chance import random_spans
from loopotel_prom.exporter.redaction.rules import rule_spans
from loopotel_prom.exporter.redaction.vendors import vendor_patterns, vendor_spans

MARK: Final = "[redacted]"
# More than anybody reads; all of it goes.
MAX_CHARACTERS: Final = 65_536

_CACHED_CHARACTERS = 4096
_CACHED_TEXTS = 4096
_DEEPEST = 3
_WRAPPED = re.compile(r"(?<![\w+/])[A-Za-z0-9+/_-]{16,}={0,2}")
_WORD = re.compile(r"\S+")
_READABLE = re.compile(r"[\t\n\r -~]{8,}")
_LETTERS = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-z]")
# Cyrillic and Greek letters that look like Latin ones, which NFKC leaves alone.
_LOOKALIKES = str.maketrans(
    # Small and large Cyrillic, then Greek.
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u04bb\u0501"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406"
    "\u0408\u0405"
    "\u03bf\u03b1\u03bd\u03c1"
    "\u0391\u0392\u0395\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7"
    "\u03a5\u0396",
    "aeopcyxijshdABEKMHOPCTXIJSoavpABEHIKMNOPTXYZ",
)


class Scanner:
    """
    Takes secrets out of texts; the same text always becomes the same.

    Holds nothing but patterns and a cache, bounded, of the short texts met last.

    Raises:
        MissingExtraError: detect-secrets is not installed.
    """

    def __init__(self) -> None:
        self._patterns = vendor_patterns()
        self._cached = lru_cache(_CACHED_TEXTS)(self._clean)

    def clean(self, text: str) -> str:
        """Put a mark in the place of each secret; a text without any is itself."""
        if len(text) > MAX_CHARACTERS:
            return MARK
        if len(text) > _CACHED_CHARACTERS:
            return self._clean(text)
        return self._cached(text)

    def _clean(self, text: str) -> str:
        found = _merged(self._spans(text, 0))
        plainer = _plainer(text)
        if plainer != text and len(_merged(self._spans(plainer, 0))) > len(found):
            # Written so as not to be found: where is not worth knowing.
            return MARK
        parts, at = [], 0
        for begin, end in found:
            parts += [text[at:begin], MARK]
            at = end
        return "".join([*parts, text[at:]]) if parts else text

    def _spans(self, text: str, depth: int) -> Iterator[tuple[int, int]]:
        yield from vendor_spans(text, self._patterns)
        yield from rule_spans(text)
        yield from random_spans(text)
        if depth < _DEEPEST:
            for pattern, unwrap in ((_WORD, unquote), (_WRAPPED, _unwrapped)):
                for found in pattern.finditer(text):
                    inner = unwrap(found[0])
                    if inner != found[0] and any(self._spans(inner, depth + 1)):
                        yield found.span()


def _plainer(text: str) -> str:
    """Undo what hides a text from patterns, but not from readers."""
    if text.isascii():
        return text
    kept = (c for c in text if unicodedata.category(c) != "Cf")
    return _LETTERS.sub(_in_latin, unicodedata.normalize("NFKC", "".join(kept)))


def _in_latin(word: re.Match[str]) -> str:
    # A word of one script is what it says; nobody mixes them but to mislead.
    letters = word[0]
    return letters.translate(_LOOKALIKES) if _LATIN.search(letters) else letters


def _unwrapped(token: str) -> str:
    """Decode base64 of either alphabet, where it is that of a text."""
    usual = token.rstrip("=").translate(str.maketrans("+/", "-_"))
    try:
        text = urlsafe_b64decode(usual + "=" * (-len(usual) % 4)).decode("ascii")
    except ValueError:
        return token
    return text if _READABLE.fullmatch(text) else token


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((begin, end))
    return merged
