"""Partitions of every shape, and cables that are as bad as all that is wrong with them."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from dyno.simulator.cable import Quality
from dyno.simulator.cable_faults import CableFaults
from dyno.simulator.simulation import Simulation

NODES = ["n1", "n2", "n3", "n4", "n5"]
KINDS = ("partition", "oneway", "flapping", "loss", "duplicate", "reorder", "latency", "bandwidth", "reset")


def a_sim(size: int = 5) -> Simulation:
    sim = Simulation(seed=1)
    sim.add_cluster(size)
    sim.client(*list(sim.machines))
    return sim


def is_as_new(sim: Simulation) -> bool:
    machines = sim.network.machines()
    sound = all(sim.network.quality(one, other) == Quality() for one in machines for other in machines)
    return sound and not sim.network.cuts()


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_has_an_end_after_which_all_is_as_before(kind: str) -> None:
    sim = a_sim()
    faults = CableFaults(sim, Random(1))
    for _ in range(30):
        fault = faults.begins[kind]()
        assert fault is not None
        assert faults.whole == (kind not in {"partition", "oneway", "flapping"})
        assert is_as_new(sim) == (kind == "reset")
        sim.run_for(min(fault.seconds, 3.0))
        fault.end()
        assert is_as_new(sim)
        assert faults.whole


def test_all_shapes_of_partitions_come_up_and_clients_are_on_either_side() -> None:
    sim = a_sim()
    faults = CableFaults(sim, Random(1))
    sides: dict[int, int] = {}
    bridges, clients = 0, 0
    for _ in range(100):
        fault = faults.begins["partition"]()
        assert fault is not None
        cuts = sim.network.cuts()
        assert all((target, source) in cuts for source, target in cuts)
        reached = sum((NODES[0], other) not in cuts for other in NODES)
        sides[reached] = sides.get(reached, 0) + 1
        bridges += "bridged by" in fault.what
        clients += ("n1", "client-1") in cuts
        fault.end()
    assert set(sides) == {1, 2, 3, 4, 5}
    assert 5 < bridges < 40
    assert 20 < clients < 80


def test_one_way_faults_cut_one_way() -> None:
    sim = a_sim()
    faults = CableFaults(sim, Random(1))
    told: set[str] = set()
    sizes: set[int] = set()
    for _ in range(60):
        fault = faults.begins["oneway"]()
        assert fault is not None
        cuts = sim.network.cuts()
        assert not any((target, source) in cuts for source, target in cuts)
        sizes.add(len(cuts))
        told.add(fault.what.split()[1])
        fault.end()
    assert sizes == {1, 5}
    assert told == {"is", "does"}


def test_a_flapping_partition_comes_and_goes_until_its_end() -> None:
    sim = a_sim()
    fault = CableFaults(sim, Random(1)).begins["flapping"]()
    assert fault is not None
    seen = []
    for _ in range(100):
        seen.append(bool(sim.network.cuts()))
        sim.run_for(0.2)
    changes = sum(one != other for one, other in pairwise(seen))
    assert 5 < changes < 40
    fault.end()
    for _ in range(50):
        assert not sim.network.cuts()
        sim.run_for(0.1)


def test_a_cable_is_cut_until_the_last_cut_of_it_has_ended() -> None:
    sim = a_sim(2)
    faults = CableFaults(sim, Random(1))
    first, second = faults.begins["partition"](), faults.begins["partition"]()
    assert first is not None
    assert second is not None
    first.end()
    assert ("n1", "n2") in sim.network.cuts()
    second.end()
    assert is_as_new(sim)


def test_a_cable_is_as_bad_as_all_that_is_wrong_with_it() -> None:
    sim = a_sim(2)
    faults = CableFaults(sim, Random(1))
    under_way = [
        faults.begins[kind]() for kind in ("loss", "duplicate", "reorder", "bandwidth") for _ in range(9)
    ]
    quality = sim.network.quality("n1", "n2")
    assert quality.loss
    assert quality.duplicates
    assert quality.strays
    assert quality.bytes_per_s < 1e6
    for fault in under_way:
        assert fault is not None
        fault.end()
    assert is_as_new(sim)


def test_nothing_befalls_the_cables_of_a_node_that_is_alone_in_the_world() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(1)
    faults = CableFaults(sim, Random(1))
    for kind in ("partition", "oneway", "flapping", "reset"):
        for _ in range(10):
            assert faults.begins[kind]() is None
    for _ in range(10):
        assert faults.begins["loss"]() is not None
