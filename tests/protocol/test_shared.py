"""Sums over all that two nodes share."""

from __future__ import annotations

from dyno.config import Config
from dyno.merkle.places import ELEMENT_MASK
from tests.protocol.exchange_harness import NAMES, Owner, Owners


def test_the_root_is_the_sum_of_all_trees_that_are_shared() -> None:
    owner = Owner("n1", config=Config(), names=("n1", "n2", "n3", "n4", "n5"), partitions=64)
    shared, trees = owner.exchange.shared, owner.replica.trees
    for number in range(100):
        owner.write(b"key %d" % number)
        if number % 30 == 0:
            owner.commit()
            shared.root("n2")
    owner.commit()
    for name in ("n2", "n3"):
        heads = [head for head in trees.by_head if name in shared.others(head)]
        assert 0 < len(heads) < len(trees.by_head), "some are owned by others, or by nobody here"
        assert shared.root(name) == sum(trees.by_head[head].total for head in heads) & ELEMENT_MASK
        assert shared.count(name) == sum(trees.by_head[head].count for head in heads)
        assert sum(shared.groups(name)) & ELEMENT_MASK == shared.root(name)
    before = shared.root("n2")
    shared.replan()
    assert shared.root("n2") == before


def test_a_tree_that_is_gone_is_in_no_sum() -> None:
    owner = Owner("n1", config=Config(), names=NAMES)
    slot = owner.write(b"key")
    owner.commit()
    assert owner.exchange.shared.root("n2")
    del owner.replica.trees.by_head[slot[:3]]
    owner.replica.trees.touched[slot[:3]] = None
    assert owner.exchange.shared.root("n2") == 0


def test_the_groups_are_about_as_many_as_what_is_in_each() -> None:
    for partitions, groups in ((1, 1), (2, 2), (8, 4), (1024, 32)):
        shared = Owner("n1", config=Config(), names=NAMES, partitions=partitions).exchange.shared
        assert shared.group_count == groups
        assert [shared.group_of(p.to_bytes(2, "big") + b"\3") for p in (0, partitions - 1)] == [0, groups - 1]
        assert shared.totals("n2", dict.fromkeys(range(groups))) == {}


def test_what_nobody_owns_is_shared_with_nobody() -> None:
    shared = Owners("n1", "n2").n1.exchange.shared
    assert shared.others(b"\0\0\3") == ("n2",)
    assert shared.others(b"\xff\0\3") == ()
