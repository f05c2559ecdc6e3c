"""The name of a loop as LoopNet spells it."""

import re

from loopotel_prom import semconv
from loopotel_prom.errors import DocumentError
from loopotel_prom.plain import text

_NO_NAME = re.compile(r"[^a-z0-9]+")


def slug_of(name: str) -> str:
    """
    Spell a name in lower case, digits and single dashes.

    Raises:
        DocumentError: Nothing is left of it.
    """
    slug = _NO_NAME.sub("-", name.lower()).strip("-")
    if not slug:
        raise DocumentError(
            f"its loop_name has no letter a-z: {text(name, limit=64)!r}"
        )
    if len(slug) < semconv.LOOP_NAME_MIN_LENGTH or not slug[0].isalpha():
        slug = f"loop-{slug}"
    return slug[: semconv.LOOP_NAME_MAX_LENGTH].rstrip("-")
