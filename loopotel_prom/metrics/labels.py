"""
Label values: cleaned, cut, and limited in number.

Prometheus rejects a whole scrape over one label that is no UTF-8, one longer than
its ``label_value_length_limit``, or one series more than its ``sample_limit``; and a
label with ever new values fills its memory and ours. So each value is cut to what
any sensible limit allows, each label takes so many values, and the page so many
series. What comes after that shares one value, `OVERFLOW`, in the label that has
no more room.
"""

from collections import Counter
from collections.abc import Container, Iterable, Mapping

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
    The label values and series that a page has room for.

    Not thread-safe.

    Args:
        max_series: How many series the loops may have in all.
        max_values: How many values a label may have.

    Attributes:
        series: How many series there are, as far as they were admitted here.
        overflowed: How often a value had no room, by label.
    """

    def __init__(self, *, max_series: int, max_values: int = MAX_VALUES) -> None:
        self.max_series = max_series
        self._max_values = max_values
        self._known: dict[str, set[str]] = {}
        self.series = 0
        self.overflowed: Counter[str] = Counter()

    def known(self) -> dict[str, list[str]]:
        """Give the values admitted, by label."""
        return {label: sorted(values) for label, values in self._known.items()}

    def know(self, known: Mapping[str, Iterable[str]]) -> None:
        """Admit values, whatever the limit."""
        for label, values in known.items():
            self._known.setdefault(label, set()).update(values)

    def admit(self, label: str, value: str | None) -> str:
        """Give the value to show: its own, or `OVERFLOW` beyond the limit."""
        known = self._known.setdefault(label, set())
        clean = label_value(value or "")
        if clean not in known:
            if len(known) >= self._max_values:
                return self.refuse(label)
            known.add(clean)
        return clean

    def admit_child(
        self, label: str, value: str | None, known: Container[str], size: int
    ) -> str:
        """
        Give the value to show for series of a loop's own.

        Args:
            label: The label.
            value: Its value.
            known: The values that the loop shows already.
            size: How many series a new value brings.
        """
        clean = label_value(value or "")
        if clean in known:
            return clean
        clean = self.admit(label, value) if self.has_room(size) else self.refuse(label)
        # The overflow is part of the loop's own size.
        if clean != OVERFLOW and clean not in known:
            self.series += size
        return clean

    def has_room(self, size: int) -> bool:
        """Tell whether the page has room for so many more series."""
        return self.series + size <= self.max_series

    def has_room_for_loop(self, size: int) -> bool:
        """
        Tell whether the page has room for another loop of so many series.

        A quarter is kept for the loops' workers, codes and slots, and the size of
        one for the loop that all further ones overflow into.
        """
        return self.series + 2 * size <= self.max_series * 3 // 4

    def refuse(self, label: str) -> str:
        """Count a value that has no room, and give `OVERFLOW`."""
        self.overflowed[label] += 1
        return OVERFLOW
