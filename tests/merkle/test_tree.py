"""Sums over the records of one (partition, n)."""

from __future__ import annotations

import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.merkle.places import ELEMENT_MASK, PLACE_BITS
from dyno.merkle.tree import CROWDED, DEPTH_MAX, SUM_BYTES, Counting, Tree

RECORDS = st.lists(
    st.tuples(st.integers(0, (1 << PLACE_BITS) - 1), st.integers(0, ELEMENT_MASK)), max_size=60
)


def counted(records: list[tuple[int, int]]) -> Tree:
    counting = Counting()
    for place, element in records:
        counting.add(place, element, 1)
    return counting.tree()


def added(records: list[tuple[int, int]], depth: int) -> Tree:
    tree = Tree(depth)
    for place, element in records:
        tree.add(place, element, 1)
    return tree


@given(RECORDS, st.randoms(use_true_random=False))
def test_the_order_in_which_records_came_does_not_matter(
    records: list[tuple[int, int]], random: Random
) -> None:
    one = counted(records)
    random.shuffle(records)
    other = added(records, one.depth)
    assert (one.total, one.count) == (other.total, other.count)
    assert one.sums(0, 0, below=one.depth) == other.sums(0, 0, below=one.depth)


@given(RECORDS, st.integers(0, 8), st.integers(0, 8))
def test_trees_of_different_depths_agree_at_the_shallower_one(
    records: list[tuple[int, int]], one: int, other: int
) -> None:
    below = min(one, other)
    assert added(records, one).sums(0, 0, below=below) == added(records, other).sums(0, 0, below=below)


@given(RECORDS)
def test_an_upper_sum_is_that_of_what_hangs_under_it(records: list[tuple[int, int]]) -> None:
    tree = added(records, 6)
    for number, upper in enumerate(tree.sums(0, 0, below=2)):
        assert upper == sum(tree.sums(2, number, below=6)) % (1 << 64)
    assert tree.sums(0, 0, below=0) == [tree.total % (1 << 64)]


@given(
    RECORDS, st.integers(0, (1 << PLACE_BITS) - 1), st.integers(0, ELEMENT_MASK), st.integers(0, ELEMENT_MASK)
)
def test_what_was_replaced_or_removed_leaves_nothing(
    records: list[tuple[int, int]], place: int, first: int, second: int
) -> None:
    tree, without = added(records, 4), added(records, 4)
    tree.add(place, first, 1)
    tree.add(place, second - first, 0)
    tree.add(place, -second, -1)
    assert (tree.total, tree.count) == (without.total, without.count)
    assert tree.sums(0, 0, below=4) == without.sums(0, 0, below=4)


@pytest.mark.parametrize("count", [0, 1, CROWDED, CROWDED + 1, 1000, 20_000])
def test_a_tree_is_as_deep_as_its_records_are_many(count: int) -> None:
    random = Random(count)
    tree = counted([(random.getrandbits(32), random.getrandbits(128)) for _ in range(count)])
    assert not tree.crowded
    assert tree.depth == 0 or count / (1 << tree.depth) > CROWDED / 4
    assert tree.size <= SUM_BYTES + 4 * count


def test_it_says_when_it_should_be_deeper() -> None:
    tree = added([(0, 1)] * CROWDED, 0)
    assert not tree.crowded
    tree.add(0, 1, 1)
    assert tree.crowded
    deepest = Tree(DEPTH_MAX)
    deepest.count = 1 << 40
    assert not deepest.crowded


def test_no_object_is_kept_for_a_record() -> None:
    random = Random(1)
    counting = Counting()
    for _ in range(10_000):
        counting.add(random.getrandbits(32), random.getrandbits(128), 1)
    tree = counting.tree()
    assert sys.getsizeof(tree._leaves) < 5 * 10_000
    assert sys.getsizeof(counting._places) + sys.getsizeof(counting._sums) < 15 * 10_000
