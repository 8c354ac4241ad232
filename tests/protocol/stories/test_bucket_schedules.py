"""Random users and mishaps while buckets are created: no two nodes ever disagree about what a bucket is.

Users create a few buckets with properties of all kinds, and write and read in them, through whatever node
their session picks, while nodes join, die, come back (one with an empty disk, perhaps), links drop, cables
are cut and disks are full or slow. At every moment all created entries of one name are alike, in memory and
on disk, and all records of one bucket lie under one n. In the end all nodes know the same buckets: what was
said to be created is, what was said not to be is not, and every acknowledged write is found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from dyno.buckets.table import Entry, unpack
from dyno.errors import DynoError, InvalidRequest
from dyno.placement.hashing import bucket_id, slot_bucket, slot_copies
from dyno.protocol.bucket_register import BUCKETS
from dyno.simulator.client import Client, Pending
from dyno.simulator.simulation import JOIN_LIMIT_S, Simulation
from dyno.storage.engine import KEY_END
from dyno.storage.memory import MemoryEngine

Simulate = Callable[..., Simulation]

_NAMES = tuple(f"bucket {number}" for number in range(8))
_STEPS = 80  # of a user, about
_NODES_MAX = 5
_MISHAPS = ["join", "join", "kill", "kill", *["restart"] * 4, "wipe", "drop", "cut", "heal", "heal", "disk"]
_KINDS: list[dict[str, Any]] = [{"n": 5}, {"n": 1}, {"n": 5, "r": 1}, {"n": 2, "w": "all"}, {}, {"r": "all"}]


@dataclass
class History:
    """created: properties by name. may_be: names of which nobody knows. written: (bucket, key) → value."""

    created: dict[str, dict[str, Any]] = field(default_factory=dict)
    may_be: list[str] = field(default_factory=list)
    written: dict[tuple[str, str], int] = field(default_factory=dict)
    refused: int = 0


class User:
    """One call after the other."""

    def __init__(self, client: Client, history: History, random: Random, *, number: int) -> None:
        self._client = client
        self._history = history
        self._random = random
        self._value = number * 1000
        self._steps = 0
        self._pending: Pending | None = None
        self._ended: Callable[[Pending], None] = self._read

    def step(self) -> None:
        if not self.rest():
            return
        # One after another the buckets are contended for; data comes later, when nobody joins any more.
        progress = self._steps / _STEPS * len(_NAMES)
        self._steps = min(self._steps + 1, _STEPS)
        self._bucket = _NAMES[min(int(progress + self._random.random()), len(_NAMES) - 1)]
        kind = self._random.choices(["create", "put", "get"], [8, 2 * (progress > 3), 1])[0]
        if kind == "create":
            self._ended = self._created
            self._pending = self._client.begin_create_bucket(self._bucket, **self._random.choice(_KINDS))
        elif kind == "put":
            self._value += 1
            self._ended = self._wrote
            key, w = f"key {self._value}", self._random.choice([None, 1])
            self._pending = self._client.begin_put(self._bucket, key, self._value, w=w)
        else:
            self._ended = self._read
            self._pending = self._client.begin_get(self._bucket, f"key {self._value}")

    def rest(self) -> bool:
        """Take in what has ended; False while a call is under way."""
        if self._pending is not None:
            if not self._pending.done:
                return False
            self._ended(self._pending)
            self._pending = None
        return True

    def _created(self, pending: Pending) -> None:
        error = pending.error
        if error is None:
            properties = pending.result()
            assert self._history.created.setdefault(self._bucket, properties) == properties
            return
        assert isinstance(error, DynoError)
        self._history.refused += isinstance(error, InvalidRequest)
        if getattr(error, "indeterminate", False):
            self._history.may_be.append(self._bucket)

    def _wrote(self, pending: Pending) -> None:
        assert not isinstance(pending.error, InvalidRequest)
        if pending.error is None:
            self._history.written[self._bucket, f"key {self._value}"] = self._value

    def _read(self, pending: Pending) -> None:
        assert pending.error is None or not isinstance(pending.error, InvalidRequest)


class World:
    def __init__(self, sim: Simulation, random: Random) -> None:
        self.sim = sim
        self._random = random
        self._known: dict[str, Entry] = {}

    def run(self, seconds: float) -> None:
        end = self.sim.now + seconds
        while self.sim.now < end:
            self.sim.run_for(min(0.004, end - self.sim.now))
            self.check()

    def check(self) -> None:
        for name, machine in self.sim.machines.items():
            entries = unpack(machine.engine.get_meta(BUCKETS) or b"")
            if machine.running and not machine.node._replica.facts_wait:
                entries += machine.node._buckets.table.created()
            for entry in entries:
                if entry.is_created:
                    known = self._known.setdefault(entry.name, entry)
                    assert entry == known, f"{name} holds {entry}, others {known}"

    def check_records(self) -> None:
        """All records of a bucket lie under one n, on all disks: that of the created bucket, if it is."""
        for name in _NAMES:
            copies = {}
            for machine in self.sim.machines.values():
                for slot, _ in machine.engine.scan(b"\0", KEY_END, limit=1_000_000)[0]:
                    if slot_bucket(slot) == bucket_id(name):
                        copies[slot_copies(slot)] = True
            known = self._known.get(name)
            assert list(copies) in ([], [3 if known is None else known.properties.n])

    def mishap(self) -> None:
        sim, random = self.sim, self._random
        name = random.choice(list(sim.machines))
        other = random.choice(list(sim.machines))
        machine = sim.machines[name]
        match random.choice(_MISHAPS):
            case "join" if len(sim.machines) < _NODES_MAX:
                sim.add_node(f"n{len(sim.machines) + 1}", join=["n1"], wait=False)
            case "kill" if machine.running:
                sim.kill(name)
            case "restart" if not machine.running:
                sim.restart(name)
            case "wipe" if not machine.running and name != "n1" and machine.engine.empty():
                machine.engine = MemoryEngine()
                self._known.clear()  # what nobody else knew is gone
                sim.restart(name)
            case "drop" if other != name:
                sim.drop_links(name, other)
            case "cut" if other != name:
                sim.cut(name, other)
            case "heal":
                sim.heal_all()
            case "disk" if machine.engine.full:
                machine.engine.full = False
            case "disk":
                machine.engine.full = random.random() < 0.3
                machine.commit_s = random.choice([(0.0005, 0.004), (0.01, 0.1)])

    def mend(self) -> None:
        """Everything works again; who was refused for data stays away."""
        sim = self.sim
        sim.heal_all()
        for _ in range(3):
            for name, machine in list(sim.machines.items()):
                machine.engine.full = False
                machine.commit_s = (0.0005, 0.004)
                if not machine.running and "data" not in (machine.ended or ""):
                    sim.restart(name)
            self.run(3.0)
        assert sim.run_until(sim.agreed, limit_s=JOIN_LIMIT_S)
        self.run(3.0)


@pytest.mark.parametrize("seed", range(16))
def test_whatever_happens_all_agree_what_a_bucket_is(simulate: Simulate, seed: int) -> None:
    random = Random(seed)
    latency_s = random.choice([(0.0001, 0.001), (0.001, 0.02)])
    sim = simulate(random.choice([1, 2, 3, 3]), seed=seed, latency_s=latency_s)
    world, history = World(sim, random), History()
    names = list(sim.machines)
    users = [User(sim.client(*names, timeout=3), history, random, number=number) for number in (1, 2, 3)]
    for _ in range(60):
        for _ in range(random.randrange(1, 8)):
            world.run(random.expovariate(1 / 0.02))
            for user in users:
                user.step()
        if random.random() < 0.6:
            world.mishap()
    world.mend()
    assert all(user.rest() for user in users)
    lost = [name for name, machine in sim.machines.items() if not machine.running]
    settled = _settle(sim, lost)
    world.check()
    world.check_records()
    tables = [machine.node._buckets.table for machine in sim.machines.values() if machine.running]
    assert all(table.pack() == tables[0].pack() for table in tables)
    if not lost:
        _check_history(sim, history, settled)


def _settle(sim: Simulation, lost: list[str]) -> list[str]:
    """What a coordinator that lost its disk left undecided is settled by creating it again."""
    if lost:
        return []
    client = sim.client(*sim.machines)
    settled = []
    for machine in sim.machines.values():
        for entry in machine.node._buckets.table.reserved():
            assert machine.node._buckets._register.is_abandoned(entry)
            client.create_bucket(entry.name, n=entry.properties.n)
            settled.append(entry.name)
    return settled


def _check_history(sim: Simulation, history: History, settled: list[str]) -> None:
    client = sim.client(*sim.machines)
    buckets = client.buckets()
    for name in buckets:
        assert name in history.created or name in history.may_be or name in settled
    for name, properties in history.created.items():
        assert buckets[name] == properties
    for (bucket, key), value in history.written.items():
        assert client.get(bucket, key, r="all").siblings == [value]
