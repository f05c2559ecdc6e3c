"""Text that looks drawn by chance, as keys are, told from words and numbers."""

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

# What 85 of 100 neighbouring letters in words of English and of programs are, and
# 27 of 100 of letters drawn by chance.
_PAIRS: Final = """
    ab ac ad ag ai al am an ap ar as at au ay ba be bi bl bo bu ca ce ch ci ck cl co
    cr ct cu da de di do du ea ec ed ee ef el em en ep er es et ev ex fa fe ff fi fl
    fo fr fu ge gi gr ha he hi ho ia ib ic id ie if ig il im in io ip ir is it iv iz
    ke la ld le li ll lo lt lu ly ma me mi mo mp na nc nd ne nf ng ni nn no ns nt nu
    ob oc od ol om on oo op or os ot ou ov ow pa pe pi pl po pp pr pt qu ra rc rd re
    rg ri rm rn ro rr rs rt ru ry sa sc se sh si so sp ss st su sy ta te th ti tl to
    tr ts tt tu ty ub ue ui ul um un up ur us ut va ve vi
"""
_USUAL = frozenset(_PAIRS.split())
_TOKEN = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_=-]{16,}")
_PART = re.compile(r"[A-Za-z0-9]+")
# Identifiers and times that are no secret. A digest is one only where it is called
# so: a key of 256 bits looks the same.
_PUBLIC = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    r"|\d{8}T\d{6}(?:\d{3,9})?Z?"
    r"|(?:sha-?(?:1|256)[:=-]\s?|\b(?:commit|revision|rev|sha|digest|checksum|blob|tree)"
    r"(?:\s?[:=#]\s?|\s+))(?:[0-9a-f]{64}|[0-9a-f]{40})(?![0-9a-f])",
    re.IGNORECASE,
)
_LEAST_TOGETHER = 16
_LEAST_MIXED = 8
_LEAST_LETTERS = 16
_SHARE_OF_WORDS = 0.55


def random_spans(text: str) -> Iterator[tuple[int, int]]:
    """Find what looks drawn by chance, 16 characters and more of it together."""
    if "-" in text or len(text) >= _LEAST_TOGETHER:
        text = _PUBLIC.sub(lambda found: " " * len(found[0]), text)
    for token in _TOKEN.finditer(text):
        if _is_random(token[0]):
            yield token.span()


def _is_random(token: str) -> bool:
    odd = sum(len(part) for part in _PART.findall(token) if _is_odd(part))
    return odd >= _LEAST_TOGETHER


def _is_odd(part: str) -> bool:
    """Tell a piece without punctuation from a word, a name or a number."""
    least = _LEAST_LETTERS if part.isalpha() else _LEAST_MIXED
    if len(part) < least or part.isdigit():
        return False
    usual = sum(one + two in _USUAL for one, two in pairwise(part.lower()))
    return usual < _SHARE_OF_WORDS * (len(part) - 1)
