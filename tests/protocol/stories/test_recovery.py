"""Nodes that lost much, or missed it, and get it by themselves: nobody reads here, nobody asks for a repair.

Every story ends when all owners hold the same bytes, within a stated time and for a stated price: what is
moved follows what differs, however much there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from dyno.config import Config
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.exchange_run import size_of
from dyno.protocol.outbox import Outbox
from dyno.protocol.ring import Ring
from dyno.protocol.rows import ASIDE, rows_of
from dyno.simulator import checkers
from dyno.simulator.machine import Machine
from dyno.simulator.scenario import Scenario
from dyno.simulator.simulation import Simulation
from dyno.storage.cell import record_of
from dyno.wire.messages import (
    AskBranches,
    Branches,
    Compare,
    Compared,
    CompareLeaves,
    CompareRoots,
    Fetch,
    Fetched,
    Get,
    LeavesCompared,
    Read,
    RootsCompared,
    Store,
)
from dyno.wire.rows import unpack_row
from tests.protocol.stories.cluster_harness import slot_of
from tests.protocol.tree_check import records_of, wrong_trees

Simulate = Callable[..., Simulation]

KEYS = [f"key {number}" for number in range(600)]
VALUE = "v" * 200
WITHOUT_HINTS = Config(hints_bytes_max=1, put_timeout_s=0.5)  # what was missed comes by exchanges alone
SEARCHING = (CompareRoots, RootsCompared, AskBranches, Branches, CompareLeaves, LeavesCompared)
LISTING = (Compare, Compared)
DIFFERENCE_BYTES_MAX = 1024  # of searching, for each record that differs
PAIR_BYTES_MAX = 400  # of a comparison that finds nothing


class Bill:
    """What nodes say to each other from now on. searching, searching_bytes: messages that find out what
    differs. records: that were moved. reads: questions on behalf of readers."""

    def __init__(self, sim: Simulation) -> None:
        self.searching = self.searching_bytes = self.listing = self.records = self.reads = 0
        self.roots = 0
        sim.trace.listeners.append(self._hear)

    def _hear(self, now: float, source: str, target: str, what: Any) -> None:
        if isinstance(what, SEARCHING + LISTING + (Fetch,)):
            self.searching += 1
            self.searching_bytes += size_of(what)
            self.listing += isinstance(what, LISTING)
            self.roots += isinstance(what, CompareRoots)
        elif isinstance(what, Fetched):
            self.records += sum(bool(item) for item in unpack_row(what.entries, items_max=1 << 16)[1::2])
        elif isinstance(what, Store):
            self.records += 1
        elif isinstance(what, Get | Read):
            self.reads += 1

    def follows(self, differences: int, *, times: float) -> None:
        """Each difference was moved so many times at most, and found for what a difference may cost."""
        assert self.reads == 0
        assert 0 < self.records <= times * differences
        most = DIFFERENCE_BYTES_MAX * differences + PAIR_BYTES_MAX * self.roots
        assert self.searching_bytes <= most


def write(
    sim: Simulation, keys: Sequence[str], value: str = VALUE, *, w: int | str = "all", **options: Any
) -> None:
    client = sim.client(*(name for name, machine in sim.machines.items() if machine.running), timeout=20.0)
    client.wait(*(client.begin_put("bucket", key, f"{value} {key}", w=w, **options) for key in keys))


def delete(sim: Simulation, keys: Sequence[str]) -> None:
    """As somebody does who has read them."""
    client = sim.client(*running(sim), timeout=20.0)
    reads = client.wait(*(client.begin_get("bucket", key, r=2) for key in keys))
    begun = [
        client.begin_delete("bucket", key, context=read.context, w=2)
        for key, read in zip(keys, reads, strict=True)
    ]
    client.wait(*begun)


def running(sim: Simulation) -> list[str]:
    return [name for name, machine in sim.machines.items() if machine.running]


def disks(sim: Simulation) -> dict[str, dict[bytes, bytes]]:
    """The packed records of every machine by slot, b"" for a corrupt one."""
    return {
        name: {slot: record_of(cell) if cell is not None else b"" for slot, cell in records_of(machine)}
        for name, machine in sim.machines.items()
    }


def differing(sim: Simulation) -> list[bytes]:
    """Slots that are not the same on all of their owners' disks, or corrupt on any."""
    held = disks(sim)
    ring = ring_of(sim)
    slots = dict.fromkeys(slot for records in held.values() for slot in records)
    return [
        slot
        for slot in slots
        if len({held[name].get(slot) or name.encode() for name in ring.owners(slot)}) > 1
    ]


def ring_of(sim: Simulation) -> Ring:
    ring = next(machine for machine in sim.machines.values() if machine.running).node._planner.ring
    assert ring is not None
    return ring


def within(sim: Simulation, seconds: float, condition: Callable[[], bool]) -> bool:
    """Looked at a hundred times, for disks are looked through."""
    for _ in range(100):
        if condition():
            return True
        sim.run_for(seconds / 100)
    return condition()


def equal(sim: Simulation) -> bool:
    return not differing(sim) and not any(machine.node.recovering for machine in sim.machines.values())


def is_whole(sim: Simulation) -> None:
    """And all trees say what the disks have."""
    sim.run_for(2.0)
    for machine in sim.machines.values():
        assert wrong_trees(machine) == []


def slots_on(machine: Machine) -> list[bytes]:
    return [slot for slot, _ in records_of(machine)]


def lose_disk(sim: Simulation, name: str) -> Machine:
    sim.kill(name)
    sim.wipe(name)
    return sim.restart(name)


# ── a wiped node ──


@pytest.mark.parametrize("size", [3, 5])
def test_a_wiped_node_holds_everything_again_and_nobody_reads(simulate: Simulate, size: int) -> None:
    sim = simulate(size)
    write(sim, KEYS)
    had = disks(sim)["n2"]
    bill = Bill(sim)
    lose_disk(sim, "n2")
    assert within(sim, 20.0, lambda: equal(sim))
    assert disks(sim)["n2"] == had
    bill.follows(len(had), times=1.1)
    is_whole(sim)


def test_while_it_comes_back_others_write_and_nothing_is_missed(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(exchange_rate_bytes_max=20_000))
    write(sim, KEYS)
    lose_disk(sim, "n2")
    assert sim.run_until(lambda: len(slots_on(sim.machines["n2"])) > 100, limit_s=60)
    assert sim.machines["n2"].node.recovering
    write(sim, KEYS[::3], "changed", w=2)
    write(sim, [f"new {number}" for number in range(50)], w=2)
    assert within(sim, 60.0, lambda: equal(sim))
    assert len(slots_on(sim.machines["n2"])) == len(KEYS) + 50
    is_whole(sim)


# ── those who die meanwhile ──


@pytest.mark.parametrize("dying", ["n2", "n1", "n3"])
def test_whoever_dies_in_the_middle_nothing_begins_from_nothing(simulate: Simulate, dying: str) -> None:
    """The node that recovers (n2), or one of those from which it does. What it has is not moved again."""
    sim = simulate(3, config=Config(exchange_rate_bytes_max=20_000))
    write(sim, KEYS)
    lose_disk(sim, "n2")
    bill = Bill(sim)
    assert sim.run_until(lambda: len(slots_on(sim.machines["n2"])) > len(KEYS) / 2, limit_s=60)
    sim.kill(dying)
    sim.run_for(5.0)
    assert any(machine.node.recovering for machine in sim.machines.values())
    sim.restart(dying)
    assert within(sim, 60.0, lambda: equal(sim))
    bill.follows(len(KEYS), times=1.3)
    is_whole(sim)


def test_a_source_that_never_comes_back_is_not_needed_for_the_data(simulate: Simulate) -> None:
    """Whole it is called only once it was compared with all others."""
    sim = simulate(3, config=Config(exchange_rate_bytes_max=20_000))
    write(sim, KEYS)
    had = disks(sim)["n2"]
    lose_disk(sim, "n2")
    assert sim.run_until(lambda: len(slots_on(sim.machines["n2"])) > len(KEYS) / 2, limit_s=60)
    sim.kill("n1")
    assert within(sim, 60.0, lambda: disks(sim)["n2"] == had)
    assert sim.machines["n2"].node.recovering
    sim.restart("n1")
    assert within(sim, 20.0, lambda: equal(sim))


# ── a disk that rots ──


@pytest.mark.parametrize("restarted", [False, True])
def test_rot_and_records_that_are_gone_are_found_and_healed(simulate: Simulate, restarted: bool) -> None:
    """A checksum tells of the one, a tree of the other. Found by reading all of the disk, in `scrub_s` or
    after a start."""
    sim = simulate(3, config=Config(scrub_s=60.0))
    write(sim, KEYS)
    sim.run_for(2.0)
    machine = sim.machines["n2"]
    had = disks(sim)["n2"]
    if restarted:
        sim.kill("n2")
    slots = slots_on(machine)
    rotten, gone = slots[::10], slots[1::15]
    for slot in rotten:
        machine.engine.corrupt(slot)
    machine.engine.write_batch(dict.fromkeys(gone), {})
    assert len(differing(sim)) == len(rotten) + len(gone) == 100
    bill = Bill(sim)
    if restarted:
        sim.restart("n2")
    assert within(sim, 20.0 if restarted else 140.0, lambda: equal(sim))
    assert disks(sim)["n2"] == had
    assert machine.engine.rotten() == []
    told = sim.story(1_000_000).count("the disk holds something else than was written")
    assert (told > 0) is not restarted, "what was counted after the start is right from then on"
    bill.follows(len(rotten) + len(gone), times=3.0)  # a corrupt one is healed with two copies
    is_whole(sim)


# ── a node that missed much ──


@pytest.mark.parametrize("missed", [1, 10, 100])
def test_what_was_missed_is_paid_for_and_not_what_there_is(simulate: Simulate, missed: int) -> None:
    sim = simulate(3, config=WITHOUT_HINTS)
    write(sim, KEYS)
    miss(sim, KEYS[:missed])
    bill = Bill(sim)
    sim.restart("n3")
    assert within(sim, 15.0, lambda: equal(sim))
    sim.run_for(3.0)
    bill.follows(missed, times=2.0)
    assert bill.listing == 0
    is_whole(sim)


def miss(sim: Simulation, keys: Sequence[str]) -> None:
    """n3 is dead while they are written, and nobody keeps hints for it."""
    sim.kill("n3")
    write(sim, keys, "changed", w=2)
    sim.run_for(2.0)
    assert len(differing(sim)) == len(keys)


def test_with_equal_copies_a_comparison_is_one_question(simulate: Simulate) -> None:
    sim = simulate(3)
    write(sim, KEYS)
    sim.run_for(5.0)
    bill = Bill(sim)
    sim.run_for(60.0)
    assert bill.records == bill.listing == 0
    assert bill.searching == pytest.approx(2 * bill.roots, abs=2)
    assert bill.searching_bytes <= PAIR_BYTES_MAX * bill.roots
    assert 100 <= bill.roots <= 200, "once a second for each node, or a little more"


DAYS = 86_400.0
AWAY_DAYS = 2
SLOWLY = Config(  # so that days do not take minutes to simulate
    probe_interval_s=60.0,
    gossip_interval_s=60.0,
    gossip_to_dead_s=120.0,
    push_pull_interval_s=600.0,
    exchange_interval_s=60.0,
    reap_after_s=DAYS / 4,
    hints_bytes_max=1,
)


def days_go_by(sim: Simulation, keys: Sequence[str], *, days: int = AWAY_DAYS) -> dict[str, str]:
    """A third of the keys is written anew, a third deleted, day by day. What each of them is in the end."""
    left = {key: f"{VALUE} {key}" for key in keys}
    share = len(keys) // 3 // days
    for day in range(days):
        changed = keys[day * share : (day + 1) * share]
        gone = keys[len(keys) // 2 + day * share : len(keys) // 2 + (day + 1) * share]
        overwrite(sim, changed, f"day {day}")
        left.update({key: f"day {day} {key}" for key in changed})
        delete(sim, gone)
        for key in gone:
            del left[key]
        sim.run_for(DAYS)
    return left


def overwrite(sim: Simulation, keys: Sequence[str], value: str) -> None:
    client = sim.client(*running(sim), timeout=20.0)
    reads = client.wait(*(client.begin_get("bucket", key, r=2) for key in keys))
    begun = [
        client.begin_put("bucket", key, f"{value} {key}", w=2, context=read.context)
        for key, read in zip(keys, reads, strict=True)
    ]
    client.wait(*begun)


def shown(sim: Simulation, keys: Sequence[str], name: str) -> dict[str, str]:
    """What a user of one node finds, from all owners; a key with siblings is shown as what it is."""
    client = sim.client(name, timeout=20.0)
    records = client.wait(*(client.begin_get("bucket", key, r="all") for key in keys))
    found = {key: record.siblings for key, record in zip(keys, records, strict=True) if record.siblings}
    return {key: siblings[0] if len(siblings) == 1 else siblings for key, siblings in found.items()}


def test_a_node_that_is_back_after_days_brings_nothing_back_and_lacks_nothing(simulate: Simulate) -> None:
    """What was deleted is not reaped before it is back; then it is."""
    keys = KEYS[:120]
    sim = simulate(3, config=SLOWLY)
    write(sim, keys)
    sim.kill("n3")
    left = days_go_by(sim, keys)
    bill = Bill(sim)
    sim.restart("n3")
    assert within(sim, 300.0, lambda: equal(sim))
    bill.follows(len(keys) * 2 // 3, times=4.0)  # both others may ask at once, for what n3 has and it gets
    assert shown(sim, keys, "n3") == left
    assert within(sim, DAYS, lambda: len(records(sim)) == len(left)), "what is dead was reaped"
    assert shown(sim, keys, "n3") == left
    assert equal(sim)


def records(sim: Simulation) -> list[bytes]:
    """Slots that are on any disk."""
    return [*dict.fromkeys(slot for held in disks(sim).values() for slot in held)]


def test_an_old_disk_that_is_put_back_after_days_of_reaping_is_set_aside(simulate: Simulate) -> None:
    """Its node was there all the time, so what was deleted is reaped; the old disk knows nothing of that."""
    keys = KEYS[:120]
    sim = simulate(3, config=SLOWLY)
    write(sim, keys)
    sim.run_for(10.0)
    old = sim.copy_disk("n3")
    left = days_go_by(sim, keys)
    assert within(sim, DAYS, lambda: len(records(sim)) == len(left)), "what is dead was reaped"
    sim.kill("n3")
    sim.restore_disk("n3", old)
    sim.restart("n3")
    assert within(sim, 300.0, lambda: equal(sim))
    assert len(records(sim)) == len(left)
    assert shown(sim, keys, "n3") == left
    sim.run_for(DAYS / 2)
    aside = slots_aside(sim.machines["n3"])
    slots = {key: slot_of(sim, key.encode())[0] for key in keys}
    assert aside.issuperset(slots[key] for key in keys if key not in left)
    assert aside.isdisjoint(slots[key] for key, value in left.items() if value.startswith(VALUE))
    assert shown(sim, keys, "n1") == left


def slots_aside(machine: Machine) -> set[bytes]:
    rows, _ = machine.engine.scan(*rows_of(ASIDE), limit=10_000)
    return {key[len(ASIDE) :][:SLOT_BYTES] for key, _ in rows}


# ── half of the cluster at once ──


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("nodes", [4, 6])
def test_half_of_the_cluster_is_killed_at_once_and_comes_back_under_load(nodes: int, seed: int) -> None:
    scenario = Scenario(seed, nodes=nodes)
    sim = scenario.sim
    scenario.load(5.0)
    half = sim.random("half").sample(list(sim.machines), nodes // 2)
    for name in half:
        sim.kill(name)
    scenario.load(5.0)
    for name in half:
        sim.restart(name)
    scenario.load(5.0)
    assert within(sim, 30.0, lambda: equal(sim))
    ending = scenario.settle()
    assert checkers.check(scenario.history, ending) == []
    is_whole(sim)


# ── different rings ──


def test_who_believes_another_ring_is_told_nothing_and_moves_nothing(simulate: Simulate) -> None:
    """n3 takes n2 for three times as heavy, so that it places much otherwise. Exchanges are refused, now and
    then; once it believes what the others do, all that it missed comes at once."""
    sim = simulate(5, config=WITHOUT_HINTS)
    write(sim, KEYS)
    miss(sim, keys_of(sim, "n3")[:50])
    machine = sim.restart("n3")
    planner, membership = machine.node._planner, machine.node.membership
    assert sim.run_until(lambda: planner.ring is not None, limit_s=10.0)
    right = planner.ring
    assert right is not None
    wrong = Ring(
        [m._replace(weight=3.0) if m.name == "n2" else m for m in membership.ring_members()],
        cluster=membership.cluster,
        partitions=membership.partitions,
        fingerprint=membership.fingerprint ^ 1,
    )
    assert any(wrong.owners(slot) != right.owners(slot) for slot in records(sim))
    believe(sim, machine, wrong)
    before, bill = disks(sim), Bill(sim)
    sim.run_for(30.0)
    assert disks(sim) == before
    assert bill.records == 0
    assert bill.searching < 1000, "who is refused waits a moment"
    assert machine.node.compared_since == -math.inf
    believe(sim, machine, right)
    assert within(sim, 15.0, lambda: equal(sim))
    is_whole(sim)


def keys_of(sim: Simulation, name: str) -> list[str]:
    return [key for key in KEYS if name in slot_of(sim, key.encode())[1]]


def believe(sim: Simulation, machine: Machine, ring: Ring) -> None:
    """As the node does itself when it hears of another ring."""
    node, out = machine.node, Outbox()
    node._planner.ring = ring
    node._recovery.replan()
    for part in node._background:
        part.replan(machine.clock.now, out)
