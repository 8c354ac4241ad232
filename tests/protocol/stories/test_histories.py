"""Random users, random mishaps: no acknowledged write is ever lost.

Users read, write blindly, write and delete what they have read, through whatever node their session picks,
while at most one node at a time is down, links drop, cables are cut and a disk is full. Every value is
unique, and with every write goes down what its author had read. In the end each acknowledged value is there,
or somebody who had read it overwrote or deleted it; and nothing is there of which it was said that it was
not done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import NamedTuple

import pytest

from dyno.errors import DynoError
from dyno.simulator.client import Client, Pending
from dyno.simulator.simulation import Simulation
from tests.protocol.stories.cluster_harness import on_disk

Simulate = Callable[..., Simulation]

_KEYS = 5
_USERS = 5


class Seen(NamedTuple):
    """What a user knows of a key: a context, and the values that it covers as far as the user read them."""

    context: bytes
    values: tuple[int, ...]


class Written(NamedTuple):
    """value: 0 for a delete. read: what its author had read."""

    key: str
    value: int
    read: tuple[int, ...]


@dataclass
class History:
    """done: writes and deletes that were, or may have been, carried out. acknowledged: values."""

    done: list[Written] = field(default_factory=list)
    acknowledged: dict[int, str] = field(default_factory=dict)
    failed: int = 0

    def check(self, key: str, found: list[int]) -> None:
        """found: all values that are there in the end."""
        here = [written for written in self.done if written.key == key]
        for value in found:
            assert found.count(value) == 1
            assert any(value == written.value for written in here), f"{value} was said not to be done"
        for value, its_key in self.acknowledged.items():
            if its_key == key and value not in found:
                assert any(value in written.read for written in here), f"{value} of {key} was lost"


class User:
    """One call after the other."""

    def __init__(self, client: Client, history: History, random: Random, *, first_value: int) -> None:
        self._client = client
        self._history = history
        self._random = random
        self._value = first_value
        self._seen: dict[str, Seen] = {}
        self._pending: Pending | None = None
        self._ended: Callable[[Pending], None] = self._got

    def step(self) -> None:
        """Take in what has ended, and begin the next; nothing while a call is under way."""
        if self.rest():
            self._begin()

    def rest(self) -> bool:
        """Take in what has ended; False while a call is under way."""
        if self._pending is not None:
            if not self._pending.done:
                return False
            self._ended(self._pending)
            self._pending = None
        return True

    def _begin(self) -> None:
        self._key = f"key {self._random.randrange(_KEYS)}"
        seen = self._seen.get(self._key)
        kind = self._random.choices(["get", "put", "if", "blind", "delete"], [5, 5, 2, 1, 1])[0]
        if kind == "get" or (seen is None and kind != "blind"):
            self._ended = self._got
            self._pending = self._client.begin_get("bucket", self._key)
        elif kind == "delete" and seen is not None and seen.context:
            self._writing = Written(self._key, 0, seen.values)
            self._ended = self._wrote
            self._pending = self._client.begin_delete("bucket", self._key, context=seen.context)
        else:
            self._value += 1
            known = seen if seen is not None and kind != "blind" else Seen(b"", ())
            option = "if_context" if kind == "if" else "context"
            self._writing = Written(self._key, self._value, known.values)
            self._ended = self._wrote
            self._pending = self._client.begin_put(
                "bucket", self._key, self._value, **{option: known.context}
            )

    def _got(self, pending: Pending) -> None:
        if pending.error is None:
            record = pending.result()
            self._seen[self._key] = Seen(record.context, tuple(record.siblings))
        else:
            self._history.failed += 1

    def _wrote(self, pending: Pending) -> None:
        error = pending.error
        assert error is None or isinstance(error, DynoError)
        if error is None or getattr(error, "indeterminate", False):
            self._history.done.append(self._writing)
        if error is not None:
            self._history.failed += 1
            self._seen.pop(self._key, None)
        elif self._writing.value:
            key, value, read = self._writing
            self._history.acknowledged[value] = key
            self._seen[key] = Seen(pending.result().context, (*read, value))


class Mishaps:
    """One thing at a time goes wrong, and is put right before the next."""

    def __init__(self, sim: Simulation, random: Random) -> None:
        self._sim = sim
        self._random = random
        self._mend: Callable[[], object] = _nothing

    def next(self) -> None:
        self.end()
        sim, names = self._sim, list(self._sim.machines)
        one, other = self._random.sample(names, 2)
        machine = sim.machines[one]
        match self._random.choice(["kill", "kill", "stop", "drop", "cut", "isolate", "full", "slow"]):
            case "kill":
                sim.kill(one)
            case "stop":
                machine.stop()
                self._mend = partial(
                    sim.run_until, lambda: not machine.running, limit_s=60
                )  # it drains first
            case "drop":
                sim.drop_links(one, other)
            case "cut":
                sim.cut(one, other)
            case "isolate":
                sim.isolate(one)
            case "full":
                machine.engine.full = True
            case "slow":
                machine.commit_s = (0.1, 0.3)

    def end(self) -> None:
        sim = self._sim
        sim.heal_all()
        self._mend()
        self._mend = _nothing
        for name, machine in sim.machines.items():
            machine.engine.full = False
            machine.commit_s = (0.0005, 0.004)
            if not machine.running:
                sim.restart(name)


def _nothing() -> None:
    """Nothing is to be put right."""


@pytest.mark.parametrize("seed", range(12))
def test_no_acknowledged_write_is_lost(simulate: Simulate, seed: int) -> None:
    random = Random(seed)
    sim = simulate(random.choice([1, 2, 3, 3, 5]) if seed else 3, seed=seed)
    history = History()
    names = list(sim.machines)
    users = [
        User(sim.client(*names, timeout=3), history, random, first_value=1_000_000 * number)
        for number in range(1, _USERS + 1)
    ]
    mishaps = Mishaps(sim, random)
    for _ in range(12):
        if len(names) > 1:
            mishaps.next()
        for _ in range(random.randrange(20, 200)):
            sim.run_for(random.expovariate(1 / 0.01))
            for user in users:
                user.step()
    mishaps.end()
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(15)
    assert all(user.rest() for user in users)
    client = sim.client(*names)
    for number in range(_KEYS):
        key = f"key {number}"
        history.check(key, list(client.get("bucket", key, r="all").siblings))
        sim.run_for(1)
        owned = [record for record in on_disk(sim, key.encode()).values() if record]
        assert len(set(owned)) <= 1, "a read of all copies leaves them equal"
    assert len(history.acknowledged) > 50 or len(names) == 2  # where both have to be up
