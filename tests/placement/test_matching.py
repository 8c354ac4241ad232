"""Partitions take what they like best within the caps, and never go short."""

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.placement.matching import Matching


def matched(columns, *, caps, need=1, load=None, zones=None, zone_most=None, candidates=None):
    """Each partition's seats, sorted. columns[partition][seat] is the score."""
    if candidates is None:
        candidates = [sorted(range(len(column)), key=column.__getitem__) for column in columns]
    matching = Matching(
        candidates,
        columns,
        caps=caps,
        load=load or [0] * len(caps),
        need=need,
        zones=zones or [0] * len(caps),
        zone_most=zone_most or need,
    )
    return [sorted(taken) for taken in matching.solve()]


def test_with_room_for_all_everybody_gets_the_best():
    assert matched([[1, 2, 3], [3, 1, 2]], caps=[2, 2, 2], need=2) == [[0, 1], [1, 2]]


def test_a_full_seat_keeps_the_lowest_scores():
    assert matched([[5, 90], [3, 90], [4, 90]], caps=[2, 2]) == [[1], [0], [0]]


def test_a_better_offer_displaces_a_worse_one():
    # Partition 0 loses seat 0 to partition 1, and takes seat 1 from partition 2, which is left with seat 2.
    columns = [[5, 6, 90], [1, 90, 91], [90, 7, 8]]
    assert matched(columns, caps=[1, 1, 1]) == [[1], [0], [2]]


def test_what_a_seat_holds_already_counts():
    assert matched([[1, 2], [1, 3]], caps=[5, 5], load=[4, 0]) == [[0], [1]]
    assert matched([[1, 2]], caps=[5, 5], load=[6, 0]) == [[1]]


def test_zones_come_before_scores():
    columns = [[1, 2, 3, 4]]
    assert matched(columns, caps=[1] * 4, need=3, zones=[0, 0, 1, 2], zone_most=1) == [[0, 2, 3]]
    assert matched(columns, caps=[1] * 4, need=3, zones=[0, 0, 0, 1], zone_most=2) == [[0, 1, 3]]


def test_whoever_loses_a_seat_may_take_another_of_its_zone():
    columns = [[1, 3, 9], [2, 4, 9]]
    assert matched(columns, caps=[1, 2, 2], need=2, zones=[0, 0, 1], zone_most=1) == [[0, 2], [1, 2]]


def test_whoever_is_turned_away_by_all_is_placed_by_moving_another():
    # Partition 1 may take seat 0 only, which partition 0 likes better; partition 0 moves on to seat 1.
    columns = [[1, 2], [5, 6]]
    assert matched(columns, caps=[1, 1], candidates=[[0, 1], [0]]) == [[1], [0]]


def test_a_chain_of_moves_may_have_many_links():
    columns = [[1, 2, 90, 91], [90, 1, 2, 91], [90, 91, 1, 2], [5, 90, 91, 92]]
    candidates = [[0, 1], [1, 2], [2, 3], [0]]
    assert matched(columns, caps=[1] * 4, candidates=candidates) == [[1], [2], [3], [0]]


def test_a_chain_moves_nobody_twice():
    # Partition 0 holds both seats that partition 1 could have; it can give up one of them.
    columns = [[1, 2, 3], [5, 6, 90]]
    assert matched(columns, caps=[1, 1, 1], need=2, candidates=[[0, 1, 2], [0, 1]])[0] != [0, 1]


def test_where_no_move_helps_the_cap_gives_way_by_the_least():
    columns = [[1, 9], [2, 9], [3, 9], [4, 9]]
    taken = matched(columns, caps=[1, 2])
    assert sorted(len([t for t in taken if t == [seat]]) for seat in (0, 1)) == [1, 3]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_nobody_ever_goes_short_and_caps_hold_where_they_can(data):
    seats = data.draw(st.integers(1, 6))
    partitions = data.draw(st.integers(1, 25))
    need = data.draw(st.integers(1, seats))
    zones = data.draw(st.lists(st.integers(0, 3), min_size=seats, max_size=seats))
    zone_most = data.draw(st.integers(1, need))
    if sum(min(zones.count(zone), zone_most) for zone in range(4)) < need:
        zone_most = need
    fair = -(-partitions * need // seats)
    slack = data.draw(st.integers(0, 2))
    rng = data.draw(st.randoms(use_true_random=False))
    columns = [[rng.randrange(1000) for _ in range(seats)] for _ in range(partitions)]
    taken = matched(columns, caps=[fair + slack] * seats, need=need, zones=zones, zone_most=zone_most)
    for row in taken:
        assert len(set(row)) == len(row) == need
        assert all(sum(zones[seat] == zone for seat in row) <= zone_most for zone in range(4))
    if zone_most == need:  # any partition may take any seat: room for all is enough
        assert all(sum(seat in row for row in taken) <= fair + slack for seat in range(seats))


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 8), st.integers(1, 30), st.randoms(use_true_random=False))
def test_no_pair_would_both_rather_have_each_other(seats, partitions, rng):
    """The outcome is stable, apart from whom the last moves touched; wide caps make sure there are none."""
    columns = [[rng.random() for _ in range(seats)] for _ in range(partitions)]
    cap = -(-2 * partitions // seats) + 1
    taken = matched(columns, caps=[cap] * seats, need=1)
    held = [[columns[p][s] for p in range(partitions) if taken[p] == [s]] for s in range(seats)]
    for column, (mine,) in zip(columns, taken, strict=True):
        for seat in range(seats):
            if column[seat] < column[mine]:
                assert len(held[seat]) == cap and max(held[seat]) < column[seat]
