"""Fair shares follow weights as far as distinct seats and zones let them, and caps follow the shares."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.placement.shares import caps, complete_rounds, fair_shares


def test_equal_seats_share_equally():
    assert fair_shares([1.0] * 4, [0] * 4, 3) == pytest.approx([0.75] * 4)


def test_weights_divide_the_copies():
    assert fair_shares([1.0, 2.0, 3.0], [0, 0, 0], 1) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_no_seat_holds_a_partition_twice_however_heavy():
    assert fair_shares([10.0, 1.0, 1.0, 2.0], [0] * 4, 2) == pytest.approx([1.0, 0.25, 0.25, 0.5])


def test_one_full_seat_can_fill_the_next():
    assert fair_shares([100.0, 10.0, 1.0, 1.0], [0] * 4, 3) == pytest.approx([1.0, 1.0, 0.5, 0.5])


def test_more_copies_than_seats_are_one_each():
    assert fair_shares([1.0, 5.0], [0, 0], 3) == pytest.approx([1.0, 1.0])
    assert fair_shares([1.0, 5.0], [0, 1], 9) == pytest.approx([1.0, 1.0])


def test_three_zones_hold_one_copy_each_however_uneven():
    shares = fair_shares([1.0] * 6, [0, 0, 0, 0, 1, 2], 3)
    assert shares == pytest.approx([0.25] * 4 + [1.0, 1.0])


def test_the_copy_beyond_the_last_round_goes_by_weight():
    """Two zones of 3 and 1 seats, 3 copies: one copy each, and the third can only be in the large one."""
    assert fair_shares([1.0] * 4, [0, 0, 0, 1], 3) == pytest.approx([2 / 3] * 3 + [1.0])
    # Two zones of 3 and 2: 0.6 of the third copies would make them even.
    assert fair_shares([1.0] * 5, [0, 0, 0, 1, 1], 3) == pytest.approx([0.6] * 5)


def test_where_zones_allow_they_do_not_matter():
    assert fair_shares([1.0, 2.0] * 4, [0, 0, 1, 1, 2, 2, 3, 3], 3) == pytest.approx([0.25, 0.5] * 4)


def test_rounds_over_the_zones():
    assert [complete_rounds([2, 2, 2], n) for n in range(8)] == [0, 0, 0, 1, 1, 1, 2, 2]
    assert [complete_rounds([1, 3], n) for n in range(5)] == [0, 0, 1, 2, 3]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_shares_always_add_up_within_their_bounds(data):
    size = data.draw(st.integers(1, 20))
    weights = data.draw(st.lists(st.floats(0.01, 100), min_size=size, max_size=size))
    drawn = data.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    zones = [sorted(set(drawn)).index(zone) for zone in drawn]
    sizes = [zones.count(zone) for zone in range(max(zones) + 1)]
    for n in range(1, 10):
        shares = fair_shares(weights, zones, n)
        assert sum(shares) == pytest.approx(min(n, size))
        assert all(0 <= share <= 1 for share in shares)
        rounds = complete_rounds(sizes, min(n, size))
        for zone, zone_size in enumerate(sizes):
            total = sum(share for share, at in zip(shares, zones, strict=True) if at == zone)
            assert min(zone_size, rounds) - 1e-9 <= total <= min(zone_size, rounds + 1) + 1e-9
        most = caps(shares, n, 256)
        assert all(share * 256 - 1e-5 <= cap <= 256 for share, cap in zip(shares, most, strict=True))


def test_caps_are_five_percent_from_a_hundred_copies_on():
    assert caps([0.3] * 10, 3, 1000) == [315] * 10
    assert caps([0.1] * 30, 3, 1000) == [105] * 30


def test_caps_are_about_six_copies_wide_below_that_and_a_root_for_the_smallest():
    assert caps([0.06] * 50, 3, 1000) == [65] * 50
    assert caps([0.03] * 100, 3, 1000) == [35] * 100
    assert caps([0.01] * 100, 1, 1600) == [20] * 100
    assert caps([0.01] * 100, 1, 400) == [6] * 100


def test_caps_never_pass_the_number_of_partitions_nor_fall_below_one_copy():
    assert caps([1.0, 1.0, 1.0], 3, 64) == [64] * 3
    assert caps([1.0 - 1e-12, 1e-12], 1, 64) == [64, 1]
