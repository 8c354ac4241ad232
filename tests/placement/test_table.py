"""The same members make the same table; it is even, spread over zones, and changes little when they do."""

import os
import subprocess
import sys
from hashlib import blake2b
from random import Random
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.config import COPIES_MAX
from dyno.placement.shares import fair_shares
from dyno.placement.table import Seat, build


def membership(size, *, seed=0, zones=1, weights=(1.0,)):
    rng = Random(f"{size} {seed}")
    return [Seat(rng.randbytes(16), f"zone-{i % zones}", rng.choice(weights)) for i in range(size)]


def orders(table):
    return [table.order(partition) for partition in range(table.partitions)]


def loads(table, n):
    return [round(share * table.partitions * min(n, len(table.seats))) for share in table.share(n)]


def fair(table, n):
    names = sorted({seat.zone for seat in table.seats})
    shares = fair_shares(
        [seat.weight for seat in table.seats], [names.index(seat.zone) for seat in table.seats], n
    )
    return [share * table.partitions for share in shares]


# ── one table for the same members ──


def test_the_order_in_which_members_are_given_does_not_matter():
    seats = membership(12, zones=4, weights=(0.5, 1.0, 2.0))
    shuffled = list(seats)
    Random(1).shuffle(shuffled)
    one, other = build(seats, 256), build(shuffled, 256)
    assert one.seats == other.seats == tuple(sorted(seats))
    assert orders(one) == orders(other)


def fingerprint(table):
    return blake2b(repr(orders(table)).encode(), digest_size=8).hexdigest()


def test_tables_are_a_contract_that_no_release_may_change():
    """Nodes and clients of different releases must agree; a new algorithm needs a new protocol version."""
    assert fingerprint(build(membership(3), 1024)) == "be1ebf7659b9dc31"
    assert fingerprint(build(membership(12), 1024)) == "28e87e44c723164b"
    weighted = membership(15, zones=4, weights=(0.5, 1.0, 2.0, 3.7))
    assert fingerprint(build(weighted, 512)) == "7930b91ec3243f27"


SCRIPT = """
from dyno.placement.table import Seat, build
seats = {Seat(bytes([i]) * 16, f"zone-{i % 4}", 1.0 + i % 3) for i in range(14)}
table = build(list(seats), 128)
print([table.order(partition) for partition in range(128)])
"""


def test_another_process_with_another_hash_seed_makes_the_same_table():
    def run(hash_seed):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, check=True
        )

    one, other = run("1"), run("4242")
    assert one.stdout == other.stdout and len(one.stdout) > 1000


def test_a_seed_gives_another_table():
    seats = membership(5)
    assert orders(build(seats, 64, seed=1)) != orders(build(seats, 64))
    assert orders(build(seats, 64, seed=1)) == orders(build(seats, 64, seed=1))


# ── reading a table ──


def test_owners_are_the_head_of_the_order():
    table = build(membership(20), 64)
    for partition in range(64):
        for n in range(1, COPIES_MAX + 1):
            assert table.owners(partition, n) == table.order(partition)[:n]


def test_fewer_seats_than_copies_all_own():
    table = build(membership(2), 64)
    assert {table.owners(partition, 3) for partition in range(64)} == {(0, 1), (1, 0)}
    assert table.share(3) == (0.5, 0.5)


def test_one_seat_owns_everything_and_none_owns_nothing():
    alone = build(membership(1), 64)
    assert set(orders(alone)) == {(0,)} and alone.share(3) == (1.0,)
    empty = build([], 64)
    assert empty.owners(63, 3) == empty.order(0) == empty.share(3) == ()


def test_two_seats_of_one_id_are_our_mistake():
    with pytest.raises(AssertionError, match="one id"):
        build([Seat(bytes(16), "a", 1.0), Seat(bytes(16), "b", 1.0)], 64)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_no_weight_is_our_mistake(weight):
    with pytest.raises(AssertionError, match="positive"):
        build([Seat(bytes(16), "a", weight)], 64)


# ── distinct nodes and zones ──


def assert_distinct(table):
    """Every seat once; and at every length, no zone has two copies more than one that has seats to spare."""
    zones = [seat.zone for seat in table.seats]
    names = sorted(set(zones))
    for order in set(orders(table)):
        assert sorted(order) == list(range(len(zones)))
        counts = dict.fromkeys(names, 0)
        for seat in order[:COPIES_MAX]:
            spare = [counts[name] for name in names if counts[name] < zones.count(name)]
            assert counts[zones[seat]] == min(spare)
            counts[zones[seat]] += 1


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 100),
    st.integers(1, 9),
    st.sampled_from([(1.0,), (0.5, 1.0, 2.0, 8.0)]),
    st.integers(0, 99),
)
def test_seats_are_distinct_and_copies_go_round_the_zones(size, zones, weights, seed):
    partitions = 64 if size > 20 else 256
    assert_distinct(build(membership(size, seed=seed, zones=zones, weights=weights), partitions))


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 6), st.integers(1, 6), st.sampled_from([64, 100, 1024]), st.integers(0, 10**6))
def test_few_seats_and_tight_caps_never_leave_a_partition_short(size, zones, partitions, seed):
    """The known trap: the last partitions find only seats that are full or theirs already."""
    seats = membership(size, seed=seed, zones=zones, weights=(1.0, 1.0, 1.3, 5.0) if seed % 2 else (1.0,))
    assert_distinct(build(seats, partitions))


def test_zones_of_very_different_sizes():
    lonely = Seat(bytes(16), "lonely", 1.0)
    table = build([lonely, *membership(10, zones=2)], 256)
    assert_distinct(table)
    assert loads(table, 3)[0] == 256  # three zones, three copies: the lonely seat holds one of each


def test_weights_that_are_far_apart():
    assert_distinct(build(membership(8, zones=2, weights=(1e-9, 1.0, 1e9)), 64))


# ── even loads ──


@pytest.mark.parametrize(
    ("size", "partitions", "zones", "weights"),
    [
        *((size, 1024, 1, (1.0,)) for size in (2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30)),
        *((size, 1024, 3, (1.0,)) for size in (3, 6, 9, 12, 30)),
        *((size, 1024, 1, (0.5, 1.0, 2.0, 4.0)) for size in (4, 5, 8, 12, 20, 30)),
        *((size, 1024, 4, (0.5, 1.0, 2.0)) for size in (5, 8, 12, 20, 30)),
        (100, 4096, 1, (1.0,)),
        (5, 200, 1, (1.0,)),
        (20, 8192, 5, (1.0,)),
    ],
)
def test_with_a_hundred_copies_each_nobody_holds_more_than_1_05_of_its_share(
    size, partitions, zones, weights
):
    table = build(membership(size, zones=zones, weights=weights), partitions)
    for load, due in zip(loads(table, 3), fair(table, 3), strict=True):
        assert load <= 1.05 * due + 1e-6


@pytest.mark.parametrize(("size", "zones"), [(4, 1), (7, 1), (10, 1), (12, 3), (20, 1), (40, 1), (100, 1)])
def test_no_other_number_of_copies_is_much_less_even(size, zones):
    table = build(membership(size, zones=zones), 1024)
    for n in range(1, COPIES_MAX + 1):
        for load, due in zip(loads(table, n), fair(table, n), strict=True):
            assert load <= max(1.05 * due, due + 7) + 1e-6


@pytest.mark.parametrize(("size", "zones"), [(6, 1), (8, 2), (8, 3), (10, 1), (10, 3), (20, 4)])
def test_mixed_weights_may_pass_the_cap_of_many_copies_by_a_little_only(size, zones):
    """Beyond three copies the earlier owners are settled, and a cap may be out of reach (see the memo)."""
    table = build(membership(size, zones=zones, weights=(0.5, 1.0, 2.0, 4.0)), 1024)
    for n in range(1, COPIES_MAX + 1):
        for load, due in zip(loads(table, n), fair(table, n), strict=True):
            assert load <= (1.05 if n == 3 else 1.2) * due + 1e-6


@pytest.mark.parametrize("partitions", [64, 100])
def test_few_partitions_are_still_shared_out(partitions):
    table = build(membership(100), partitions)
    assert max(loads(table, 3)) <= 3 * partitions * 3 / 100


# ── small changes ──


def moved(before, after, n=3):
    """Copies that must be made to come from one table to the other."""
    count = 0
    for partition in range(before.partitions):
        had = {before.seats[seat].id for seat in before.owners(partition, n)}
        count += sum(after.seats[seat].id not in had for seat in after.owners(partition, n))
    return count


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 31, 50, 75, 98, 100])
def test_one_join_or_leave_moves_little_more_than_it_must(size):
    joins, leaves = [], []
    for trial in range(5 if size <= 20 else 3):
        seats = membership(size, seed=trial)
        larger, smaller = build(seats, 1024), build(seats[1:], 1024)
        position = larger.seats.index(seats[0])
        joins.append(moved(smaller, larger) / fair(larger, 3)[position])
        held = loads(larger, 3)[position]
        leaves.append(moved(larger, smaller) / held if size > 3 else 1.0)
    assert median(joins) <= 1.25
    assert median(leaves) <= 1.25


@pytest.mark.parametrize(
    ("size", "zones", "weights"), [(9, 3, (1.0,)), (12, 3, (1.0,)), (12, 1, (1.0, 2.0, 4.0))]
)
def test_zones_and_weights_keep_moves_small_too(size, zones, weights):
    ratios = []
    for trial in range(7):
        seats = membership(size, seed=trial, zones=zones, weights=weights)
        larger, smaller = build(seats, 1024), build(seats[1:], 1024)
        ratios.append(moved(smaller, larger) / fair(larger, 3)[larger.seats.index(seats[0])])
    assert median(ratios) <= 1.25


def test_a_first_seat_of_another_weight_does_not_reshuffle_the_rest():
    seats = membership(9)
    newcomer = Seat(b"n" * 16, "zone-0", 1.5)
    before, after = build(seats, 1024), build([*seats, newcomer], 1024)
    share = fair(after, 3)[after.seats.index(newcomer)]
    assert moved(before, after) <= 1.25 * share
