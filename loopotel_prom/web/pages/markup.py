"""HTML that is escaped by construction: text becomes markup in one place only."""

import re
from html import escape
from typing import TypeAlias

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_VOID = frozenset({"br", "circle", "line", "link", "meta", "path", "polygon"})


class Html(str):
    """Markup; any other text is escaped wherever it is put."""

    __slots__ = ()


Content: TypeAlias = "str | Html | None"

NOTHING = Html("")


def safe(content: Content) -> str:
    """Escape text; leave markup as it is."""
    if content is None:
        return ""
    return content if isinstance(content, Html) else _escaped(str(content))


def _escaped(text: str) -> str:
    # HTML has no way to spell a control character.
    return escape(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def join(*contents: Content, between: str = "") -> Html:
    """Put contents one after another."""
    return Html(between.join([safe(each) for each in contents]))


def element(name: str, /, *contents: Content, **attributes: str | float | None) -> Html:
    """
    Make an element.

    Args:
        name: Its tag.
        contents: What is in it.
        attributes: Its attributes; ``class_`` is `class`, an underscore within a
            name a dash. One that is None is left out, an empty one has no value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            spelled = key.rstrip("_").replace("_", "-")
            text = _escaped(str(value))
            parts.append(f'{spelled}="{text}"' if text else spelled)
    opening = " ".join(parts)
    if name in _VOID:
        # Within SVG it has to be closed, and in HTML it may be.
        return Html(f"<{opening}/>")
    inner = "".join([safe(each) for each in contents])
    return Html(f"<{opening}>{inner}</{name}>")
