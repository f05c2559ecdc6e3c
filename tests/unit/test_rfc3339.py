"""Times as text and back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom.errors import DocumentError
from loopotel_prom.rfc3339 import format_time, parse_time


@given(st.integers(0, 253_402_300_799_999_999_999))
def test_a_time_survives_to_the_microsecond(time_ns):
    """Spelled and read back it is the same microsecond."""
    assert parse_time(format_time(time_ns)) == time_ns // 1000 * 1000


@given(st.integers(0, 253_402_300_799_999_999))
def test_a_time_is_spelled_as_the_standard_library_does(micros):
    """Year to microsecond, zeros included, whatever was spelled before."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    expected = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert format_time(micros * 1000) == expected


@pytest.mark.parametrize(
    ("text", "time_ns"),
    (
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01.000000001Z", 1_000_000_001),
        ("1970-01-01t00:00:00.5z", 500_000_000),
        ("1970-01-01T00:00:00.1234567891Z", 123_456_789),
        ("1970-01-01T00:00:02", 2_000_000_000),
    ),
)
def test_times_are_read_exactly(text, time_ns):
    """Fractions, offsets and lower case are understood, without rounding."""
    assert parse_time(text) == time_ns


@pytest.mark.parametrize(
    "text", ("", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01")
)
def test_what_is_no_time_is_refused(text):
    """The error shows the text."""
    with pytest.raises(DocumentError, match="not an RFC 3339 time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    (
        (-1, "1970-01-01T00:00:00.000000Z"),
        (10**30, "9999-12-31T23:59:59.000000Z"),
    ),
)
def test_a_time_out_of_range_becomes_the_nearest(time_ns, text):
    """A clock gone mad yields a valid document all the same."""
    assert format_time(time_ns) == text
