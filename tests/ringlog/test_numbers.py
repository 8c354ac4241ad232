"""Numbers of ring entries: one order over all of them, whatever was forced."""

from __future__ import annotations

import pytest

from dyno.ringlog.numbers import FIRST, NONE, TAG_BITS, after, epoch, forced_after, index, shown

HIGHEST_TAG = (1 << TAG_BITS) - 1


def test_numbers_count() -> None:
    assert after(NONE) == FIRST
    assert (after(7), epoch(7), index(7)) == (8, 0, 7)


def test_a_forced_number_is_above_all_that_others_may_decide() -> None:
    forced = forced_after(7, fence=0, tag=0)
    assert (epoch(forced), index(forced)) == (1, 8)
    assert forced > 7 + 10**9
    assert after(forced) == forced + 1
    assert epoch(forced_after(forced, fence=0, tag=0)) == 2


def test_a_forced_number_is_above_every_fence() -> None:
    fence = forced_after(7, fence=0, tag=HIGHEST_TAG)
    again = forced_after(7, fence=fence, tag=0)
    assert again > fence
    assert index(again) == 8


def test_the_tag_decides_between_two_halves() -> None:
    one, other = (forced_after(7, fence=0, tag=tag) for tag in (1, 2))
    assert one < after(one) < other < 1 << 64


def test_people_read_numbers() -> None:
    assert shown(17) == "17"
    assert shown(forced_after(16, fence=0, tag=0x3FA2)) == "17 (forced 1, tag 3fa2)"


def test_the_last_number_of_all() -> None:
    with pytest.raises(OverflowError):
        after((1 << 32) - 1)
    last = (1 << 64) - (1 << 36)
    with pytest.raises(OverflowError):
        forced_after(last, fence=0, tag=0)
