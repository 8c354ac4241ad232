"""Data is taken away from so many machines, and from no other before everything is whole again."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from dyno.protocol.rows import HINTS, is_row
from dyno.simulator.damage_faults import DamageFaults
from dyno.simulator.fault import Fault
from dyno.simulator.machine import Machine
from dyno.simulator.machine_faults import MachineFaults
from dyno.simulator.simulation import Simulation

KINDS = ("corrupt", "wipe", "old-copy", "lying-disk", "twin")
COMING_BACK = ("corrupt", "old-copy", "lying-disk", "twin")  # by themselves, whatever the cluster does


class Repaired:
    """A node as it would tell of its repair, around the real one."""

    def __init__(self, node: Any, since: dict[str, float], recovering: dict[str, bool], host: str) -> None:
        self._node = node
        self.compared_since = since.get(host, -math.inf)
        self.recovering = recovering.get(host, False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


class World:
    """since: true times, by machine, that nodes tell on their own clocks; recovering: likewise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, holders_max: int = 1) -> None:
        self.sim = sim = Simulation(seed=1)
        sim.add_cluster(5)
        self.client = sim.client(*sim.machines)
        for number in range(20):
            self.client.put("bucket", f"key {number}", number)
        self.since: dict[str, float] = {}
        self.recovering: dict[str, bool] = {}
        self.calm = True
        self.machines = MachineFaults(sim, Random(1))
        self.faults = DamageFaults(
            sim, Random(1), machines=self.machines, calm=lambda: self.calm, holders_max=holders_max
        )
        real = Machine.node.fget
        assert real is not None

        def node(machine: Machine) -> Any:
            clock = machine.clock
            shown = {name: clock.now - (sim.now - at) * clock.rate for name, at in self.since.items()}
            return Repaired(real(machine), shown, self.recovering, machine.name)

        monkeypatch.setattr(Machine, "node", property(node))

    def begin(self, kind: str) -> Fault | None:
        return self.faults.begins[kind]()

    def damage(self, kind: str) -> str:
        """Begin and end a fault; the machine that it befell."""
        before = set(self.faults.damaged)
        fault = self.begin(kind)
        assert fault is not None
        self.sim.run_for(fault.seconds)
        fault.end()
        (name,) = set(self.faults.damaged) - before
        return name

    def compare_all(self) -> None:
        """All nodes have compared everything with each other, from now on."""
        self.sim.run_for(10)
        for name in self.sim.machines:
            self.since[name] = self.sim.now
        self.sim.run_for(1)

    def heal_rot(self) -> None:
        for machine in self.sim.machines.values():
            for key in machine.engine.rotten():
                machine.engine.write_batch({key: None}, {})


@pytest.mark.parametrize("kind", COMING_BACK)
def test_what_befell_one_machine_befalls_no_other_before_all_is_repaired(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    name = world.damage(kind)
    assert world.sim.machines[name].running
    for other in ("corrupt", "corrupt", "corrupt"):  # the same machine may be befallen again
        fault = world.begin(other)
        assert fault is not None
        fault.end()
    assert world.faults.damaged == [name]
    world.compare_all()
    assert not all(map(is_row, world.sim.rot_disk(name, records=10)))  # the dice choose among rows as well
    assert world.faults.damaged == [name]  # for it has an unreadable record
    world.heal_rot()
    assert world.faults.damaged == []
    names = set()
    for _ in range(30):
        names.add(world.damage("corrupt"))
        world.heal_rot()
        world.compare_all()
    assert len(names) > 3


def test_a_machine_is_damaged_until_it_has_recovered_and_everybody_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    name = world.damage("lying-disk")
    world.recovering[name] = True
    world.compare_all()
    assert world.faults.damaged == [name]
    world.recovering[name] = False
    others = [other for other in world.sim.machines if other != name]
    world.since[others[0]] = -math.inf
    assert world.faults.damaged == [name]
    world.since[others[0]] = world.sim.now - 10.9  # a clock may have changed its rate since
    assert world.faults.damaged == [name]
    world.since[others[0]] = world.sim.now - 1.0
    world.sim.kill(others[1])
    assert world.faults.damaged == [name]
    world.sim.restart(others[1])
    assert world.faults.damaged == []


def test_times_are_told_on_the_nodes_own_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    for number, machine in enumerate(world.sim.machines):
        world.sim.kill(machine)
        world.sim.begin_clock(machine, at=1000.0 * number)
        world.sim.run_clock(machine, rate=0.99 + 0.005 * number)
        world.sim.restart(machine)
    world.sim.run_for(10)
    name = world.damage("lying-disk")
    assert world.faults.damaged == [name]
    world.compare_all()
    assert world.faults.damaged == []


@pytest.mark.parametrize("kind", COMING_BACK)
def test_several_machines_may_be_damaged_where_that_was_allowed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch, holders_max=2)
    names = {world.damage("corrupt"), world.damage("corrupt")}
    assert len(names) == 2
    for _ in range(5):
        fault = world.begin(kind)
        assert fault is not None
        world.sim.run_for(fault.seconds)
        fault.end()
        assert set(world.faults.damaged) == names


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_damaged_where_others_could_not_tell_what_was_lost(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(monkeypatch)
    world.calm = False
    assert world.begin(kind) is None
    world.calm = True
    fault = world.machines.begins["pause"]()
    assert fault is not None
    assert world.begin(kind) is None
    fault.end()
    assert world.begin(kind) is not None


def test_a_machine_that_was_wiped_counts_as_damaged_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    fault = world.begin("wipe")
    assert fault is not None
    name = fault.what.split()[0]
    assert not world.sim.machines[name].running
    assert world.sim.machines[name].engine.empty()
    world.compare_all()
    assert world.faults.damaged == [name]
    assert world.begin("corrupt") is None


def test_none_at_all_may_be_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, holders_max=0)
    assert world.begin("wipe") is None


def test_a_row_beside_the_records_that_rots_has_no_copy_that_would_heal_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    name = world.damage("lying-disk")
    engine = world.sim.machines[name].engine
    engine.write_batch({HINTS + b"row": b"value"}, {})
    engine.corrupt(HINTS + b"row")
    world.compare_all()
    assert world.faults.damaged == []


def test_an_old_copy_is_older_than_what_it_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    fault = world.begin("old-copy")
    assert fault is not None
    assert fault.seconds >= 3.0
    name = fault.what.split()[0]
    fault.end()  # nothing was committed meanwhile
    assert world.sim.machines[name].starts == 1
    world.compare_all()
    fault = world.begin("old-copy")
    assert fault is not None
    name = fault.what.split()[0]
    engine = world.sim.machines[name].engine
    for number in range(20):
        world.client.put("bucket", f"key {number}", 7, w=3)
    newest = engine.commit_number
    fault.end()
    assert world.sim.machines[name].starts == 2
    assert f"set back from commit {newest}" in world.sim.story()


@pytest.mark.parametrize("kind", ["old-copy", "lying-disk", "twin"])
def test_who_comes_back_with_less_meets_those_who_know_better(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    world = World(monkeypatch)
    fault = world.begin(kind)
    assert fault is not None
    world.sim.run_for(fault.seconds)
    world.client.put("bucket", "key", "since then")
    world.calm = False  # a cable is cut meanwhile
    starts = {name: machine.starts for name, machine in world.sim.machines.items()}
    fault.end()
    world.sim.run_for(5.0)
    assert {name: machine.starts for name, machine in world.sim.machines.items()} == starts
    assert len(world.machines.untroubled()) < len(world.sim.machines)
    world.calm = True
    world.sim.run_for(1.0)
    assert {name: world.sim.machines[name].starts for name in world.machines.untroubled()} != starts
    assert len(world.machines.untroubled()) == len(world.sim.machines) == 5


def test_a_name_is_claimed_while_its_node_lives_and_while_it_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch)
    ran = set()
    for number in range(1, 7):
        fault = world.begin("twin")
        assert fault is not None
        (twin,) = world.faults.twins
        assert twin.endswith(f"-twin-{number}")
        name = twin.split("-")[0]
        ran.add(world.sim.machines[name].running)
        world.sim.run_for(fault.seconds)
        fault.end()
        assert not world.faults.twins
        assert list(world.sim.machines) == ["n1", "n2", "n3", "n4", "n5"]
        world.sim.run_for(10)
        assert world.sim.machines[name].running
    assert ran == {True, False}


def test_no_other_fault_befalls_a_twin_for_it_may_be_gone_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    fault = world.begin("twin")
    assert fault is not None
    (twin,) = world.faults.twins
    machines = world.machines
    assert world.sim.machines[twin].running
    assert twin not in machines.untroubled()
    assert machines.begins["outage"]() is None
    befallen = [one for _ in range(5) if (one := machines.begins["disk-readonly"]()) is not None]
    assert befallen
    fault.end()
    for one in befallen:
        one.end()


def test_the_only_machine_is_not_damaged_for_nobody_could_make_up_for_it() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(1)
    machines = MachineFaults(sim, Random(1))
    faults = DamageFaults(sim, Random(1), machines=machines, calm=lambda: True, holders_max=1)
    assert [faults.begins[kind]() for kind in KINDS] == [None] * len(KINDS)
