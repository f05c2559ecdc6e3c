"""Anything made plain JSON."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom.plain import MAX_TEXT, count, number, plain, plain_mapping, text


class Hostile:
    """An object none of whose methods can be relied on."""

    def __str__(self):
        raise RuntimeError

    __repr__ = __iter__ = __len__ = __float__ = __int__ = __str__


class HostileMapping(dict):
    """A mapping that fails when it is read."""

    def items(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "expected"),
    (
        (True, True),
        (2**70, str(2**70)),
        pytest.param(10**5000, "<int>", id="5001 digits"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (Decimal("0.5"), 0.5),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        ({1: (2, {3})}, {"1": [2, [3]]}),
        ("a\ud800b", "a\ufffdb"),
        pytest.param(Hostile(), "<Hostile>", id="object"),
        pytest.param(HostileMapping(a=1), "<HostileMapping>", id="mapping"),
        (b"bytes", "b'bytes'"),
    ),
)
def test_a_value_becomes_plain(value, expected):
    """What JSON cannot carry becomes something that says what it was."""
    assert plain(value) == expected


def test_a_cycle_ends_in_a_marker():
    """A list that holds itself does not recurse for ever."""
    cycle: list = []
    cycle.append(cycle)
    assert "<too deep>" in json.dumps(plain(cycle))


def test_size_is_bounded():
    """A million keys and fifty million characters come out capped."""
    many = plain({"a": list(range(1_000_000)), "b": 1})
    assert len(many["a"]) <= 10_000
    # What was cut is told.
    assert (many["a"][-1], many["…"]) == ("…", "<cut>")
    long = text("x" * 50_000_000)
    assert len(long) == MAX_TEXT
    assert long.endswith("…")


@pytest.mark.parametrize(
    "value",
    (True, "1", None, float("nan"), float("inf"), Hostile(), 1j, Decimal("NaN")),
)
def test_what_is_no_number_gives_none(value):
    """Bools and text are no numbers, nor is what is not finite."""
    assert number(value) is None


@pytest.mark.parametrize("value", (True, -1, 0.5, 2**63, "1", None, float("nan")))
def test_what_is_no_count_gives_none(value):
    """A count is whole, from 0 up, and fits 63 bits."""
    assert count(value) is None


def test_a_mapping_stays_one():
    """Anything that is no mapping becomes the only value of one."""
    assert plain_mapping({"a": 1}) == {"a": 1}
    assert plain_mapping([1]) == {"value": [1]}
    assert plain_mapping(None) == {}


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_the_result_is_always_json(value):
    """Strict JSON can be written of it, as UTF-8."""
    json.dumps(plain(value), allow_nan=False, ensure_ascii=False).encode()
