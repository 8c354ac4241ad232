"""Primaries are dead or away: others stand in for them, and hand over what they kept when they are back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random

import pytest

from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.rows import ASIDE, HINTS
from dyno.simulator.client import Pending
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, STRICT, Done, Found
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"


def held(sim: Simulation) -> dict[str, dict[str, int]]:
    """By holder, of those that run and keep anything."""
    running = {name: machine for name, machine in sim.machines.items() if machine.running}
    return {name: machine.node.hints.held() for name, machine in running.items() if machine.node.hints.held()}


def on_disks(sim: Simulation, prefix: bytes = HINTS) -> int:
    """How many rows of a kind are on all disks."""
    return sum(
        len(machine.engine.scan(prefix, prefix + b"\xff", limit=100_000)[0])
        for machine in sim.machines.values()
    )


def drained(sim: Simulation, *, limit_s: float = 60.0) -> bool:
    """Every node is back, and nobody keeps anything for anybody any more."""
    return sim.run_until(lambda: not held(sim) and not on_disks(sim), limit_s=limit_s)


def knows_dead(sim: Simulation, *names: str) -> None:
    for machine in sim.machines.values():
        if machine.running:
            membership = machine.node.membership
            assert sim.run_until(lambda m=membership: not any(map(m.is_live, names)), limit_s=60)  # type: ignore[misc]


def roles(sim: Simulation, key: bytes = KEY) -> tuple[list[str], list[str]]:
    """The primaries and the fallbacks of a key, in order."""
    slot, owners = slot_of(sim, key)
    ring = sim.machines[owners[0]].node._planner.ring
    assert ring is not None
    return list(ring.owners(slot)), list(ring.fallbacks(slot))


# ── one primary is dead ──


def test_what_a_dead_primary_missed_is_handed_over_and_read_from_it_alone(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, second, dead), (fallback, other) = roles(sim)
    sim.kill(dead)
    done = User(sim, first).ask_put(KEY, b"value", w=3)
    assert isinstance(done, Done)
    assert sorted(done.answered.split(",")) == sorted([first, second, fallback])
    assert done.fallbacks == fallback
    assert held(sim) == {fallback: {dead: 1}}
    sim.restart(dead)
    assert drained(sim)
    for name in (first, second, other, fallback):
        sim.cut(dead, name)
    assert values(User(sim, dead).get(KEY, r=1)) == [b"value"]


def test_writes_go_on_before_anybody_knows_that_a_primary_is_dead(simulate: Simulate) -> None:
    """Its machine is gone, so nobody breaks the links to it."""
    sim = simulate(5)
    (first, second, dead), (fallback, _) = roles(sim)
    sim.isolate(dead)
    user = User(sim, first)
    sim.isolate(dead)
    began = sim.now
    done = user.ask_put(KEY, b"value", w=3)
    assert isinstance(done, Done)
    assert done.fallbacks == fallback
    assert sim.config.fallback_after_s <= sim.now - began < 2 * sim.config.fallback_after_s
    assert sorted(done.answered.split(",")) == sorted([first, second, fallback])


def test_a_write_that_was_met_without_a_silent_primary_leaves_a_hint_for_it_all_the_same(
    simulate: Simulate,
) -> None:
    sim = simulate(5)
    (first, _, dead), (fallback, _) = roles(sim)
    user = User(sim, first)
    sim.isolate(dead)
    began = sim.now
    done = user.ask_put(KEY, b"value")
    assert isinstance(done, Done)
    assert sim.now - began < 0.1
    assert sim.run_until(lambda: held(sim) == {fallback: {dead: 1}}, limit_s=sim.config.put_timeout_s)
    sim.heal_all()
    assert drained(sim)
    assert len({on_disk(sim, KEY)[name] for name in roles(sim)[0]}) == 1


def test_a_primary_whose_disk_is_full_gets_its_writes_when_it_has_room_again(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, _, full), (fallback, _) = roles(sim)
    sim.machines[full].engine.full = True
    for number in range(5):
        assert isinstance(User(sim, first).ask_put(KEY, b"value %d" % number, w=3), Done)
    assert held(sim) == {fallback: {full: 1}}
    assert on_disk(sim, KEY)[full] == b""
    sim.run_for(3)
    assert held(sim) == {fallback: {full: 1}}
    sim.machines[full].engine.full = False
    assert drained(sim)
    assert on_disk(sim, KEY)[full] == on_disk(sim, KEY)[first]


def test_the_coordinators_own_disk_may_be_the_one_that_is_full(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, second, third), (fallback, _) = roles(sim)
    user = User(sim, first)
    sim.machines[first].engine.full = True
    done = user.ask_put(KEY, b"value", w=3)
    assert isinstance(done, Done)
    assert done.fallbacks == fallback
    assert sorted(done.answered.split(",")) == sorted([second, third, fallback])
    sim.machines[first].engine.full = False
    assert drained(sim)
    assert on_disk(sim, KEY)[first] == on_disk(sim, KEY)[second] != b""


def test_where_no_fallback_is_left_the_coordinator_keeps_the_hint_and_it_counts_for_nothing(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    sim.kill("n3")
    knows_dead(sim, "n3")
    assert failed(user.ask_put(KEY, b"value", w=3)).message.startswith("3 owners of the key are needed")
    done = user.ask_put(KEY, b"value", w=2)
    assert isinstance(done, Done)
    assert (sorted(done.answered.split(",")), done.fallbacks) == (["n1", "n2"], "")
    sim.run_for(1)
    assert held(sim) == {"n1": {"n3": 1}}
    sim.restart("n3")
    assert drained(sim)
    assert on_disk(sim, KEY)["n3"] == on_disk(sim, KEY)["n1"]


def test_primaries_alone_count_where_a_write_asks_for_them(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, second, dead), _ = roles(sim)
    sim.kill(dead)
    knows_dead(sim, dead)
    user = User(sim, first)
    for w, pw in ((3, STRICT), (3, 3), (1, ALL)):
        answer = failed(user.ask_put(KEY, b"value", w=w, pw=pw))
        assert answer.message == f"3 owners of the key are needed, 2 of 3 are alive; dead: {dead}"
        assert not answer.indeterminate
        assert failed(user.ask_get(KEY, r=w, pr=pw)).message == answer.message
    sim.run_for(4)
    assert not any(on_disk(sim, KEY).values())
    assert not held(sim)
    done = user.ask_put(KEY, b"value", w=3, pw=2)
    assert isinstance(done, Done)
    found = user.ask_get(KEY, r=2, pr=STRICT)
    assert isinstance(found, Found)
    assert sorted(found.answered.split(",")) == sorted([first, second])
    assert found.fallbacks == ""


def test_a_delete_is_kept_and_handed_over_as_a_write_is(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, _, dead), _ = roles(sim)
    user = User(sim, first)
    token = user.put(KEY, b"value", w=ALL)
    sim.kill(dead)
    user.delete(KEY, token, w=3)
    sim.restart(dead)
    assert drained(sim)
    assert values(Record.unpack(on_disk(sim, KEY)[dead])) == []


# ── reads ──


def test_reads_find_at_fallbacks_what_two_dead_primaries_missed(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, *dead), fallbacks = roles(sim)
    for name in dead:
        sim.kill(name)
    user = User(sim, first)
    assert isinstance(user.ask_put(KEY, b"value", w=3), Done)
    for known in (False, True):
        if known:
            knows_dead(sim, *dead)
        found = user.ask_get(KEY, r=3)
        assert isinstance(found, Found)
        assert values(Record.unpack(found.record)) == [b"value"]
        assert sorted(found.answered.split(",")) == sorted([first, *fallbacks])
        assert sorted(found.fallbacks.split(",")) == sorted(fallbacks)


def test_nothing_is_an_answer_of_a_fallback(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, *dead), (fallback, _) = roles(sim)
    user = User(sim, first)
    for name in dead:
        sim.kill(name)
    found = user.ask_get(KEY, r=2)
    assert isinstance(found, Found)
    assert (found.record, found.fallbacks) == (b"", fallback)


def test_silent_primaries_are_read_around_only_after_a_while(simulate: Simulate) -> None:
    """A fallback's "nothing" is not to be preferred to a primary that takes a moment."""
    sim = simulate(5)
    (first, *others), (fallback, _) = roles(sim)
    user = User(sim, first)
    user.put(KEY, b"value", w=ALL)
    for name in others:
        sim.set_latency(first, name, (0.07, 0.07))
    found = user.ask_get(KEY)
    assert isinstance(found, Found)
    assert found.fallbacks == ""
    for name in others:
        sim.isolate(name)
    began = sim.now
    found = user.ask_get(KEY)
    assert isinstance(found, Found)
    assert found.fallbacks == fallback
    assert values(Record.unpack(found.record)) == [b"value"]
    assert sim.config.fallback_after_s <= sim.now - began < 1.0


# ── all primaries are dead ──


def test_with_all_primaries_dead_writes_and_reads_go_on(simulate: Simulate) -> None:
    sim = simulate(5)
    primaries, fallbacks = roles(sim)
    users = [User(sim, name) for name in fallbacks]
    for name in primaries:
        sim.kill(name)
    sim.run_for(0.1)  # their links break
    done = users[0].ask_put(KEY, b"one")
    assert isinstance(done, Done)
    assert sorted(done.answered.split(",")) == sorted(done.fallbacks.split(",")) == sorted(fallbacks)
    sim.run_for(0.5)
    assert sum(sum(kept.values()) for kept in held(sim).values()) == 3
    found = users[1].get(KEY)
    assert values(found) == [b"one"]
    knows_dead(sim, *primaries)
    token = users[1].put(KEY, b"two", users[1].token(KEY, found.context))
    assert values(users[0].get(KEY)) == [b"two"]
    assert failed(users[0].ask_get(KEY, pr=1)).code == "quorum"
    assert failed(users[0].ask_put(KEY, b"three", pw=1)).code == "quorum"
    assert failed(users[0].ask_put(KEY, b"three", w=3)).message.startswith("3 nodes are needed for the key")
    users[0].delete(KEY, token)
    assert values(users[1].get(KEY)) == []
    users[0].put(KEY, b"four", b"")
    for name in primaries:
        sim.restart(name)
    assert drained(sim)
    assert {tuple(values(Record.unpack(on_disk(sim, KEY)[name]))) for name in primaries} == {(b"four",)}


def test_who_is_cut_off_alone_serves_long_before_it_takes_the_others_for_dead(simulate: Simulate) -> None:
    """It takes itself for deaf, and suspects that nobody confirms have long to answer; its users have not."""
    sim = simulate(5)
    primaries, (alone, other) = roles(sim)
    User(sim, other).put(KEY, b"before", w=ALL)
    user = User(sim, alone)
    assert values(user.get(KEY, r=1)) == [b"before"]
    sim.isolate(alone)
    sim.heal(alone, user.link.machine)
    membership = sim.machines[alone].node.membership
    sim.run_for(4)
    began = sim.now
    token = user.put(KEY, b"one", w=1)
    found = user.ask_get(KEY, r=1)
    assert isinstance(found, Found)
    assert (found.fallbacks, values(Record.unpack(found.record))) == (alone, [b"one"])
    user.delete(KEY, token, w=1)
    user.put(KEY, b"two", w=1)
    assert sim.now - began < 4 * 2 * sim.config.fallback_after_s
    assert all(map(membership.is_live, primaries))
    sim.heal_all()
    assert drained(sim)
    merged = (b"before", b"two")
    assert {tuple(values(Record.unpack(on_disk(sim, KEY)[name]))) for name in primaries} == {merged}


def test_two_that_are_cut_off_together_serve_before_they_suspect_anybody(simulate: Simulate) -> None:
    """They hear each other; owners that say nothing are asked in turn, and then nobody."""
    sim = simulate(5)
    primaries, pair = roles(sim)
    users = [User(sim, name) for name in pair]
    for one, other in itertools.product(pair, primaries):
        sim.cut(one, other)
    began = sim.now
    users[0].put(KEY, b"value")
    assert sim.now - began < 5
    assert values(users[1].get(KEY)) == [b"value"]
    for machine in map(sim.machines.__getitem__, pair):
        assert all(map(machine.node.membership.is_live, primaries))
    sim.heal_all()
    assert drained(sim)
    assert {tuple(values(Record.unpack(on_disk(sim, KEY)[name]))) for name in primaries} == {(b"value",)}


def test_suspects_that_live_answer_a_read_themselves(simulate: Simulate) -> None:
    """What this node keeps of the key is nothing, and would be an answer of R=1."""
    sim = simulate(5, seed=2)  # of which all three are suspect before one is taken for dead
    primaries, (alone, _) = roles(sim)
    user = User(sim, alone)
    user.put(KEY, b"value", w=ALL)
    sim.isolate(alone)
    sim.heal(alone, user.link.machine)
    membership = sim.machines[alone].node.membership
    assert sim.run_until(lambda: not any(map(membership.is_alive, primaries)), limit_s=30)
    sim.heal_all()
    found = user.ask_get(KEY, r=1)
    assert isinstance(found, Found)
    assert (found.fallbacks, values(Record.unpack(found.record))) == ("", [b"value"])


def test_deletes_and_a_condition_work_at_a_fallback(simulate: Simulate) -> None:
    sim = simulate(5)
    primaries, (one, other) = roles(sim)
    user = User(sim, one)
    for name in primaries:
        sim.kill(name)
    sim.run_for(0.1)
    token = user.put(KEY, b"value")
    assert failed(user.ask_put(KEY, b"wrong", b"", conditional=True)).code == "conflict"
    user.put(KEY, b"right", user.token(KEY, user.get(KEY).context), conditional=True)
    assert values(user.get(KEY)) == [b"right"]
    assert token
    assert user.delete(KEY) == b""  # without a context it covers nothing
    record = user.get(KEY)
    assert values(record) == [b"right"]
    user.delete(KEY, user.token(KEY, record.context))
    assert values(User(sim, other).get(KEY)) == []


def test_a_user_finds_a_node_that_stands_in(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client(*sim.machines)
    keys = [f"key {number}" for number in range(30)]
    assert all(not result.error for result in client.put_many("bucket", dict.fromkeys(keys, 1)).values())
    for name in ("n1", "n2", "n3"):
        sim.kill(name)
    knows_dead(sim, "n1", "n2", "n3")
    results = client.put_many("bucket", dict.fromkeys(keys, 2), timeout=5)
    assert [key for key in keys if results[key].error] == []
    records = client.get_many("bucket", keys, timeout=5)
    assert [key for key in keys if 2 not in records[key].siblings] == []
    strict = client.put_many("bucket", dict.fromkeys(keys, 3), timeout=2, sloppy=False)
    assert all(
        result.error for key, result in strict.items() if len(set(roles_by(sim, key)) & {"n4", "n5"}) < 2
    )


def roles_by(sim: Simulation, key: str) -> list[str]:
    return slot_of(sim, key.encode())[1]


# ── crashes at the worst places ──


def test_a_holder_that_restarts_in_between_hands_over_what_it_kept(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, _, dead), (fallback, _) = roles(sim)
    sim.kill(dead)
    User(sim, first).put(KEY, b"value", w=3)
    sim.kill(fallback)
    sim.restart(fallback)
    assert sim.run_until(lambda: sim.machines[fallback].ready, limit_s=60)
    assert held(sim) == {fallback: {dead: 1}}
    sim.restart(dead)
    assert drained(sim)
    assert on_disk(sim, KEY)[dead] == on_disk(sim, KEY)[first]


@pytest.mark.parametrize("seed", range(6))
def test_whoever_dies_in_the_middle_of_a_handoff_it_is_finished_later(simulate: Simulate, seed: int) -> None:
    sim = simulate(5, seed, config=Config(handoff_rate_bytes_max=20_000))
    client = sim.client("n1", "n2", "n3", "n4")
    sim.kill("n5")
    knows_dead(sim, "n5")
    keys = [f"key {number}" for number in range(300)]
    results = client.put_many("bucket", dict.fromkeys(keys, "x" * 50), w=2)
    assert not any(result.error for result in results.values())
    kept = sum(count.get("n5", 0) for count in held(sim).values())
    dice = sim._kernel.random("who dies")
    for _ in range(4):
        if not sim.machines["n5"].running:
            sim.restart("n5")
        sim.run_until(lambda most=kept: sum(c.get("n5", 0) for c in held(sim).values()) < most, limit_s=20)  # type: ignore[misc]
        sim.run_for(0.2 * dice.random())
        victim = dice.choice(["n5", "n1", "n2"])
        sim.kill(victim)
        sim.run_for(0.5)
        if victim != "n5":
            sim.restart(victim)
        kept = sum(count.get("n5", 0) for count in held(sim).values())
    if not sim.machines["n5"].running:
        sim.restart("n5")
    assert drained(sim, limit_s=120)
    for key in keys:
        if "n5" in roles_by(sim, key):
            records = on_disk(sim, key.encode())
            assert records["n5"] == records[next(iter(roles_by(sim, key)))] != b""


def test_a_coordinator_that_dies_after_its_answer_leaves_what_it_promised(simulate: Simulate) -> None:
    """W is met by the coordinator and a fallback; then the coordinator is gone."""
    sim = simulate(5)
    (first, *dead), (fallback, other) = roles(sim)
    for name in dead:
        sim.kill(name)
    done = User(sim, first).ask_put(KEY, b"value", w=2)
    assert isinstance(done, Done)
    sim.kill(first)
    for name in dead:
        sim.restart(name)
    assert sim.run_until(
        lambda: any(on_disk(sim, KEY)[name] for name in dead if sim.machines[name].ready), limit_s=60
    )
    assert done.fallbacks in (fallback, other)
    assert values(User(sim, other).get(KEY, r=2)) == [b"value"]


def test_a_wiped_primary_is_given_what_is_kept_for_its_name(simulate: Simulate) -> None:
    sim = simulate(5)
    (first, _, dead), _ = roles(sim)
    sim.kill(dead)
    User(sim, first).put(KEY, b"value", w=3)
    sim.machines[dead].engine.full = False
    sim.restart(dead)
    assert drained(sim)
    assert on_disk(sim, KEY)[dead]


# ── bounds ──


@pytest.mark.parametrize("size", [3, 5])
def test_a_full_budget_never_fails_a_write(simulate: Simulate, size: int) -> None:
    sim = simulate(size, config=Config(hints_bytes_max=2000))
    client = sim.client(*[name for name in sim.machines if name != "n3"])
    sim.kill("n3")
    knows_dead(sim, "n3")
    results = client.put_many("bucket", {f"key {number}": "x" * 100 for number in range(200)}, w=2)
    assert not any(result.error for result in results.values())
    sim.run_for(5)
    counted = sum(count for kept in held(sim).values() for count in kept.values())
    assert counted > 0
    if size == 3:  # none of them counted
        assert all(
            machine.node.hints.bytes_held() <= 2000 for machine in sim.machines.values() if machine.running
        )
    sim.restart("n3")
    assert drained(sim)
    assert on_disks(sim, ASIDE) == 0


def test_one_of_five_dead_ten_thousand_writes_and_its_whole_share_by_handoff_alone(
    simulate: Simulate,
) -> None:
    sim = simulate(5)
    client = sim.client("n1", "n2", "n3", "n4")
    sim.kill("n5")
    for first in range(0, 10_000, 500):
        written = client.put_many(
            "bucket", {f"key {number}": number for number in range(first, first + 500)}, w=2
        )
        assert not any(result.error for result in written.values())
    assert sum(kept["n5"] for kept in held(sim).values()) > 5000
    sim.restart("n5")
    assert drained(sim)
    for name in ("n1", "n2", "n3", "n4"):
        sim.cut("n5", name)
    user = User(sim, "n5")
    share = 0
    for number in range(10_000):
        key = b"key %d" % number
        if sim.machines["n5"].node.slots_read_by(user.put_request(key, b"")):
            share += 1
            if share % 20 == 0:
                assert len(user.get(key, r=1).siblings) == 1
            else:
                assert on_disk(sim, key)["n5"]
    assert 5000 < share < 7000


# ── anything at all ──


class Turmoil:
    """Users who write blindly while nodes die, restart, are cut off and have full disks. A blind write covers
    nothing, so whatever was acknowledged has to be there in the end."""

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.dice: Random = sim._kernel.random("turmoil")
        self.clients = [sim.client(*sim.machines, timeout=3) for _ in range(4)]
        self.under_way: list[tuple[str, int, Pending]] = []
        self.kept: dict[str, set[int]] = {}
        self.value = 0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            if self.dice.random() < 0.25:
                self.mishap()
            for client in self.clients:
                self.value += 1
                key = f"key {self.dice.randrange(12)}"
                options = {"w": self.dice.choice([1, 2, 2, 3])}
                pending = client.begin_put("bucket", key, self.value, **options)
                self.under_way.append((key, self.value, pending))
            self.sim.run_for(self.dice.choice([0.001, 0.01, 0.1, 0.5]))
            self.collect()

    def mishap(self) -> None:
        sim, dice = self.sim, self.dice
        one, other = dice.sample(list(sim.machines), 2)
        running = [name for name, machine in sim.machines.items() if machine.running]
        what = dice.choice(
            ["kill", "kill", "restart", "restart", "cut", "drop", "heal", "full", "room", "die all"]
        )
        if what == "kill" and one in running and len(running) > 2:
            sim.kill(one)
        elif what == "restart" and one not in running:
            sim.restart(one)
        elif what == "cut":
            sim.cut(one, other)
        elif what == "drop":
            sim.drop_links(one, other)
        elif what == "heal":
            sim.heal_all()
        elif what == "full":
            sim.machines[one].engine.full = True
        elif what == "room":
            for machine in sim.machines.values():
                machine.engine.full = False
        elif what == "die all" and dice.random() < 0.3:
            for name in running:
                sim.kill(name)
            for name in sim.machines:
                sim.restart(name)

    def collect(self) -> None:
        rest = []
        for key, value, pending in self.under_way:
            if not pending.done:
                rest.append((key, value, pending))
            elif pending.error is None:
                self.kept.setdefault(key, set()).add(value)
        self.under_way = rest

    def mend(self) -> None:
        sim = self.sim
        sim.heal_all()
        for name, machine in sim.machines.items():
            machine.engine.full = False
            if not machine.running:
                sim.restart(name)
        assert sim.run_until(sim.agreed, limit_s=120)
        sim.run_for(6)
        self.collect()
        assert not self.under_way
        assert drained(sim, limit_s=120), held(sim)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_acknowledged_is_lost_and_no_dot_is_given_twice(simulate: Simulate, seed: int) -> None:
    sim = simulate(5, seed, config=Config(hints_bytes_max=20_000, handoff_rate_bytes_max=100_000))
    turmoil = Turmoil(sim)
    turmoil.run(60)
    turmoil.mend()
    assert sum(map(len, turmoil.kept.values())) > 50
    client = sim.client(*sim.machines)
    for key, acknowledged in turmoil.kept.items():
        there = client.get("bucket", key, r="all").siblings
        assert acknowledged - set(there) == set(), key
    story = sim.story(5000)
    assert "contradict" not in story
    assert "has two different" not in story
    for machine in sim.machines.values():
        copies = machine.node._coordinator.writes.replication
        assert (copies._puts, copies._trailing, copies._trailing_bytes) == ({}, {}, 0)
        assert machine.node._handoff.deadline() == math.inf
