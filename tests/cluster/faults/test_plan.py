"""What goes wrong is drawn from the seed alone, and leaves something to see."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from tests.cluster.faults import plan
from tests.cluster.faults.plan import (
    DESTROY_AGAIN_S,
    DESTRUCTIVE,
    DOWN_MAX,
    KINDS,
    OF_A_NODE,
    Fault,
    cables,
    draw,
)


def drawn(seed: int, *, nodes: int = 5, seconds: float = 600.0) -> list[Fault]:
    return draw(Random(seed), nodes=nodes, seconds=seconds, kinds=KINDS)


def test_the_seed_decides():
    assert drawn(1) == drawn(1) != drawn(2)


def test_every_kind_comes():
    assert set(plan.counted(drawn(1, seconds=1800.0))) == set(KINDS)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("nodes", [2, 3, 5, 9])
def test_there_is_something_left_to_see(seed, nodes):
    faults = drawn(seed, nodes=nodes)
    assert faults == sorted(faults)
    for number, fault in enumerate(faults):
        assert 0 < fault.at < fault.until <= 600.0
        assert all(0 <= node <= nodes for node in fault.nodes)
        still = [one for one in faults[:number] if one.until > fault.at]
        down = [node for one in (*still, fault) if one.kind in OF_A_NODE for node in one.nodes]
        if fault.kind in OF_A_NODE:
            assert len(down) == len(set(down)) <= max(min(DOWN_MAX, nodes - 1), nodes // 2)
            assert 0 not in down
        for one in still:
            assert set(cables(one, nodes)).isdisjoint(cables(fault, nodes))


@pytest.mark.parametrize("seed", range(20))
def test_a_second_disk_is_destroyed_only_when_others_have_made_up_for_the_first(seed):
    destroyed = [fault for fault in drawn(seed, seconds=1800.0) if fault.kind in DESTRUCTIVE]
    assert destroyed
    for before, after in pairwise(destroyed):
        assert after.at >= before.until + DESTROY_AGAIN_S


def test_half_of_all_nodes_are_down_at_once():
    for nodes in (2, 3, 4, 9):
        halves = [fault for fault in drawn(1, nodes=nodes, seconds=1800.0) if fault.kind == plan.HALF]
        assert halves
        assert {len(fault.nodes) for fault in halves} == {nodes // 2}


def test_no_kinds_are_no_faults():
    assert draw(Random(1), nodes=5, seconds=100.0, kinds=()) == []


def test_cables():
    assert cables(Fault(0, 1, plan.ISOLATE, (2,)), 3) == [(0, 2), (1, 2), (2, 3)]
    assert cables(Fault(0, 1, plan.ONE_WAY, (3, 0)), 3) == [(0, 3)]
    assert cables(Fault(0, 1, plan.KILL, (3,)), 3) == []
