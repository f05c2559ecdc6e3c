"""
Messages of remote write 1.0: instants as one protobuf `WriteRequest`.

By hand, as it is two dozen lines: the four messages are in `specs/remote-write.md`.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import cache

from loopotel_prom.metrics.catalogue import Metric
from loopotel_prom.replay.points import Instant, Series

_TYPES = {"counter": 1, "gauge": 2, "histogram": 3}
_SEVEN_BITS = 0x7F
_INT64 = 2**64 - 1


def encode_metadata(metrics: Iterable[Metric]) -> bytes:
    """Spell type and help of metrics, to be put into a request."""
    return b"".join(
        _field(
            3,
            b"\x08"
            + _varint(_TYPES[metric.type])
            + _text(2, metric.name)
            + _text(4, metric.help),
        )
        for metric in metrics
    )


class Encoder:
    """
    Spells requests; what a series is called is spelled once.

    A series that comes as the same object each time is found the fastest.
    """

    def __init__(self) -> None:
        self._spelled: dict[Series, bytes] = {}

    @property
    def series(self) -> int:
        """How many different series there were in all requests."""
        return len(self._spelled)

    def encode(self, instants: Sequence[Instant]) -> bytes:
        """
        Spell a `WriteRequest`: each series once, its samples in order of time.

        Args:
            instants: In order of time.
        """
        samples_of: dict[Series, list[bytes]] = {}
        # By id, as to hash a series takes longer than all the rest; `instants` keeps
        # each alive, so no id comes twice. Equal ones find each other all the same.
        add_to: dict[int, Callable[[bytes], None]] = {}
        for instant in instants:
            after = b"\x10" + _varint(instant.time_ms & _INT64)
            before = b"\x12" + _varint(9 + len(after)) + b"\x09"
            pack = _packer(len(after))
            for series, value in instant.points:
                add = add_to.get(id(series))
                if add is None:
                    add = samples_of.setdefault(series, []).append
                    add_to[id(series)] = add
                add(pack(before, value, after))
        return b"".join(
            _field(1, self._labels(series) + b"".join(samples))
            for series, samples in samples_of.items()
        )

    def _labels(self, series: Series) -> bytes:
        spelled = self._spelled.get(series)
        if spelled is None:
            labels = (("__name__", series.name), *series.labels)
            # An empty value means that there is no such label, and is no valid one.
            spelled = b"".join(
                _field(1, _text(1, name) + _text(2, value))
                for name, value in sorted(labels)
                if value
            )
            self._spelled[series] = spelled
        return spelled


@cache
def _packer(bytes_after: int) -> Callable[[bytes, float, bytes], bytes]:
    return struct.Struct(f"<3sd{bytes_after}s").pack


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, body: bytes) -> bytes:
    """Spell a field of bytes; its number is below 16."""
    return bytes((number << 3 | 2,)) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    spelled = bytearray()
    while value > _SEVEN_BITS:
        spelled.append(value & _SEVEN_BITS | 0x80)
        value >>= 7
    spelled.append(value)
    return bytes(spelled)
