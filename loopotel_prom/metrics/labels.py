"""
Label values: cleaned, cut, and limited in number.

Prometheus rejects a whole scrape over one label that is no UTF-8, or longer than
its ``label_value_length_limit``; and a label with ever new values fills its memory
and ours. So each value is cut to what any sensible limit allows, and each label
takes so many values and no more. What comes after that shares one.
"""

from collections import Counter

from loopotel_prom.plain import text

OVERFLOW = "__overflow__"

# Counted as Prometheus counts its limit, in bytes.
MAX_BYTES = 128
MAX_VALUES = 100
_ELLIPSIS = "…"


def label_value(value: object) -> str:
    """Make UTF-8 text of at most `MAX_BYTES` bytes; a longer one is cut."""
    clean = text(value, limit=MAX_BYTES + 1)
    data = clean.encode()
    if len(data) <= MAX_BYTES:
        return clean
    room = MAX_BYTES - len(_ELLIPSIS.encode())
    return data[:room].decode("utf-8", "ignore") + _ELLIPSIS


class LabelValues:
    """
    The values that each label has taken.

    Not thread-safe.

    Attributes:
        overflowed: How often a value was refused, by label.
    """

    def __init__(self, limit: int = MAX_VALUES) -> None:
        self._limit = limit
        self._known: dict[str, dict[str, str]] = {}
        self.overflowed: Counter[str] = Counter()

    def admit(self, label: str, value: str | None) -> str:
        """Give the value to show: its own, or `OVERFLOW` beyond the limit."""
        known = self._known.setdefault(label, {})
        shown = known.get(value or "")
        if shown is not None:
            return shown
        clean = label_value(value or "")
        if clean not in known:
            if len(known) >= self._limit:
                self.overflowed[label] += 1
                return OVERFLOW
            known[clean] = clean
        return clean

    def refuse(self, label: str) -> str:
        """Count a value that had to go for another reason, and give `OVERFLOW`."""
        self.overflowed[label] += 1
        return OVERFLOW
