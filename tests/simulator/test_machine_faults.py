"""Processes, power, disks and clocks."""

from __future__ import annotations

from random import Random

import pytest

from dyno.simulator.machine_faults import MachineFaults
from dyno.simulator.process import COMMIT_S
from dyno.simulator.simulation import Simulation

DOWN = ("crash", "power", "stop", "disk-broken")
TROUBLE = (*DOWN, "pause", "disk-full", "disk-readonly", "disk-slow")


def a_sim(size: int = 5) -> Simulation:
    sim = Simulation(seed=1)
    sim.add_cluster(size)
    client = sim.client(*list(sim.machines))
    for number in range(10):
        client.begin_put("bucket", f"key {number}", number)
    sim.run_for(1)
    return sim


@pytest.mark.parametrize("kind", TROUBLE)
def test_every_fault_has_an_end_after_which_all_is_as_before(kind: str) -> None:
    sim = a_sim()
    client = sim.client(*list(sim.machines))
    faults = MachineFaults(sim, Random(1))
    for number in range(8):
        fault = faults.begins[kind]()
        assert fault is not None
        assert len(faults.untroubled()) == 4
        pending = [client.begin_put("bucket", f"key {key}", number) for key in range(10)]
        sim.run_for(fault.seconds + 0.1)
        fault.end()
        assert not faults.down
        assert faults.untroubled() == list(sim.machines)
        for machine in sim.machines.values():
            engine = machine.engine
            assert not (engine.full or engine.read_only or engine.failing or machine.paused)
            assert (machine.commit_s, machine.seconds_per_record, machine.seconds_per_read) == (
                COMMIT_S,
                0,
                0,
            )
        sim.run_for(10)
        assert all(one.done for one in pending)
        assert sim.agreed()
    starts = sum(machine.starts for machine in sim.machines.values())
    assert starts == (5 + 8 if kind in DOWN else 5)


@pytest.mark.parametrize("kind", [kind for kind in TROUBLE if kind != "disk-slow"])
def test_only_a_minority_is_in_trouble(kind: str) -> None:
    sim = a_sim()
    faults = MachineFaults(sim, Random(1))
    assert [faults.begins[kind]() is not None for _ in range(3)] == [True, True, False]
    assert not faults.may_trouble
    assert faults.begins["outage"]() is None


def test_a_process_dies_after_some_effects_or_at_once() -> None:
    sim = a_sim()
    faults = MachineFaults(sim, Random(1))
    told = set()
    for _ in range(40):
        fault = faults.begins["crash"]()
        assert fault is not None
        told.add(fault.what.split(" after ")[1])
        fault.end()  # also where it did not come to so many effects
        assert faults.untroubled() == list(sim.machines)
    assert {"0 more effects", "12 more effects"} < told


def test_a_clock_begins_anywhere_after_a_power_cut() -> None:
    sim = a_sim()
    faults = MachineFaults(sim, Random(1))
    for _ in range(5):
        fault = faults.begins["power"]()
        assert fault is not None
        fault.end()
    clocks = [machine.clock.now for machine in sim.machines.values()]
    assert max(clocks) > 100_000.0
    assert len(set(clocks)) > 2


def test_all_nodes_are_killed_at_once_and_come_back_soon() -> None:
    sim = a_sim()
    faults = MachineFaults(sim, Random(1))
    fault = faults.begins["outage"]()
    assert fault is not None
    assert fault.seconds <= 4.0
    sim.run_for(fault.seconds)
    fault.end()
    assert all(machine.running and machine.starts == 2 for machine in sim.machines.values())
    assert sim.run_until(sim.agreed, limit_s=30)


def test_clocks_run_at_rates_of_their_own_from_then_on() -> None:
    sim = a_sim()
    faults = MachineFaults(sim, Random(1))
    for _ in range(20):
        fault = faults.begins["clock"]()
        assert fault is not None
        fault.end()
    rates = [machine.clock.rate for machine in sim.machines.values()]
    assert len(set(rates)) == 5
    assert all(0.99 <= rate <= 1.01 for rate in rates)


def test_a_machine_whose_process_ended_by_itself_is_not_troubled() -> None:
    sim = a_sim(1)
    faults = MachineFaults(sim, Random(1))
    sim.kill("n1")
    assert faults.victim() is None
    for kind in TROUBLE:
        assert faults.begins[kind]() is None
