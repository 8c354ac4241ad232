from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.workload.histogram import RELATIVE_ERROR, Histogram

LONGEST_NS = (1 << 40) - 1


def recorded(*durations: int) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    return histogram


def test_an_empty_one_has_no_answer() -> None:
    assert (Histogram().percentile_ns(50), Histogram().mean_ns(), Histogram().count) == (None, None, 0)


def test_the_stated_error_is_below_half_a_percent() -> None:
    assert RELATIVE_ERROR < 0.004


@given(st.integers(0, LONGEST_NS))
def test_one_duration_is_found_within_the_error(duration: int) -> None:
    histogram = recorded(duration)
    for percent in (0.0, 50.0, 100.0):
        assert histogram.percentile_ns(percent) == pytest.approx(duration, rel=RELATIVE_ERROR, abs=0)
    assert histogram.mean_ns() == duration


@pytest.mark.parametrize("power", range(1, 40))
def test_the_edges_of_the_steps_are_within_it(power: int) -> None:
    for duration in (2**power - 1, 2**power, 2**power + 1):
        assert recorded(duration).percentile_ns(50) == pytest.approx(duration, rel=RELATIVE_ERROR, abs=0)


@given(
    st.lists(st.integers(0, 10**10), min_size=1, max_size=200), st.sampled_from([0, 1, 50, 95, 99, 99.9, 100])
)
def test_percentiles_are_those_of_the_sorted_durations(durations: list[int], percent: float) -> None:
    place = max(1, ceil(percent * len(durations) / 100))
    expected = sorted(durations)[min(place, len(durations)) - 1]
    histogram = recorded(*durations)
    assert histogram.percentile_ns(percent) == pytest.approx(expected, rel=RELATIVE_ERROR, abs=0)
    assert histogram.count == len(durations)
    assert histogram.mean_ns() == pytest.approx(sum(durations) / len(durations))


def test_what_takes_longer_than_it_can_tell_counts_as_the_longest() -> None:
    histogram = recorded(1, 10**15)
    assert histogram.percentile_ns(100) == pytest.approx(LONGEST_NS, rel=RELATIVE_ERROR)
    assert histogram.mean_ns() == (10**15 + 1) / 2


def test_small_durations_are_exact() -> None:
    for duration in range(256):
        assert recorded(duration).percentile_ns(50) == duration
