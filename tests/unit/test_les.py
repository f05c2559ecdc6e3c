"""LES: effectiveness and its mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopotel_prom.les import RunningLes, cumulative_les, effectiveness


@pytest.mark.parametrize(
    ("score", "target", "expected"),
    (
        (0.4, 0.8, 0.5),
        (0.8, 0.8, 1.0),
        (0.9, 0.8, 1.0),
        (-1.0, 0.8, 0.0),
        (0.5, 0.0, 0.0),
        (0.5, -1.0, 0.0),
        (math.nan, 0.8, 0.0),
    ),
)
def test_effectiveness_is_score_over_target_within_bounds(score, target, expected):
    """It is a ratio, clamped, and 0 where there is no target."""
    assert effectiveness(score, target) == expected


def test_cumulative_les_of_nothing_is_zero():
    """No scores give 0."""
    assert cumulative_les([]) == 0.0


def test_cumulative_les_is_the_mean_rounded_to_four_places():
    """One third and one give two thirds, to four places."""
    assert cumulative_les([0.1, 0.3], 0.3) == 0.6667


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_running_mean_equals_the_exact_mean(values):
    """The mean kept along the way is the mean of all values."""
    mean = RunningLes()
    for value in values:
        mean.add(value, 1.0)
    assert mean.value == pytest.approx(math.fsum(values) / len(values), abs=1e-15)


def test_running_mean_of_a_million_values_loses_nothing():
    """A compensated sum does not drift."""
    mean = RunningLes()
    for _ in range(1_000_000):
        mean.add(0.1, 1.0)
    assert mean.value == 0.1
