"""Reaping: what is dead goes everywhere, when nothing can need it any more, and nothing comes back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.rows import ASIDE, DEAD, HINTS, rows_of
from dyno.simulator.simulation import Simulation
from dyno.storage.cell import pack_cell
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import ALL
from tests.protocol.stories.cluster_harness import User, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"
AFTER_S = 4.0
SOON = Config(reap_after_s=AFTER_S, hedge_after_s=1.0)


def is_gone(sim: Simulation, key: bytes = KEY) -> bool:
    return not any(on_disk(sim, key).values())


def place(sim: Simulation, key: bytes = KEY) -> tuple[bytes, tuple[str, ...]]:
    """Slot and owners of a key, the leader of its reaping first."""
    slot, owners = slot_of(sim, key)
    ring = sim.machines[owners[0]].node._planner.ring
    assert ring is not None
    return slot, ring.owners(slot)


def rows_kept(sim: Simulation) -> int:
    """Of ages of dead entries, on all nodes; attended time is one, too."""
    return sum(len(m.engine.scan(*rows_of(DEAD), limit=1000)[0]) for m in sim.machines.values())


def generations(sim: Simulation, key: bytes = KEY) -> list[int]:
    slot, owners = place(sim, key)
    return [sim.machines[name].node.generations.of(slot) for name in owners]


def deleted(sim: Simulation, node: str = "n1") -> bytes:
    """A key that was written and deleted everywhere; gives the context."""
    user = User(sim, node)
    token = user.put(KEY, b"value", w=ALL)
    user.delete(KEY, token, w=ALL)
    return token


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_tombstone_is_reaped_by_all_owners(simulate: Simulate, size: int) -> None:
    sim = simulate(size, config=SOON)
    deleted(sim)
    sim.run_for(AFTER_S * 0.9)
    assert all(on_disk(sim, KEY)[name] for name in place(sim)[1]), "not before its time"
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S)
    sim.run_for(AFTER_S)
    assert generations(sim) == [1] * min(3, size)
    assert User(sim, "n1").get(KEY, r=ALL) == Record.EMPTY
    assert rows_kept(sim) == size, "nothing but attended time"


def test_an_owner_that_is_away_holds_it_up_and_nothing_comes_back(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    user = User(sim, "n1")
    token = user.put(KEY, b"value", w=ALL)
    sim.isolate("n3")
    user.delete(KEY, token, w=2)
    sim.run_for(AFTER_S * 4)
    assert all(on_disk(sim, KEY).values()), "whoever has the value still may come back with it"
    leader = place(sim)[1][0]
    if leader != "n3":
        assert sim.machines[leader].node.reaping.held_up == "n3 is away"
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert User(sim, "n3").get(KEY, r=ALL).siblings == ()
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 5)
    assert User(sim, "n3").get(KEY, r=ALL) == Record.EMPTY


def test_without_the_tombstone_the_value_would_come_back(simulate: Simulate) -> None:
    """What the test above tests: the same, with the tombstones taken away too early."""
    sim = simulate(3, config=SOON)
    user = User(sim, "n1")
    token = user.put(KEY, b"value", w=ALL)
    sim.isolate("n3")
    user.delete(KEY, token, w=2)
    sim.run_for(5)
    for name in ("n1", "n2"):
        sim.drop_links(name, "n3")
        reap_too_early(sim, name)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert values(User(sim, "n3").get(KEY, r=ALL)) == [b"value"]


def reap_too_early(sim: Simulation, name: str) -> None:
    """Take the record away, and every hint, as if nobody could need them."""
    slot, _ = place(sim)
    engine = sim.machines[name].engine
    hints = [key for key, _ in engine.scan(*rows_of(HINTS), limit=100)[0]]
    engine.write_batch(dict.fromkeys([slot, *hints]), {})


@pytest.mark.parametrize("early", [False, True])
def test_a_value_that_a_fallback_kept_does_not_outlive_its_tombstone(simulate: Simulate, early: bool) -> None:
    """An owner is away when the key is written, the fallback that keeps its hint when it is deleted. early:
    nobody waits for the fallback, and the value is back: so the test could fail."""
    sim = simulate(5, config=SOON)
    _, owners = place(sim)
    user = User(sim, owners[0])
    sim.kill(owners[2])
    sim.run_for(10)
    token = user.put(KEY, b"value", w=3)
    (fallback,) = [
        name for name, m in sim.machines.items() if m.running and m.engine.scan(*rows_of(HINTS), limit=1)[0]
    ]
    sim.isolate(fallback)
    sim.restart(owners[2])
    sim.run_for(5)
    user.delete(KEY, token, w=3)
    sim.run_for(AFTER_S * 5)
    assert all(on_disk(sim, KEY)[name] for name in owners)
    assert sim.machines[owners[0]].node.reaping.held_up == f"{fallback} is away"
    if early:
        for name in owners:
            reap_too_early(sim, name)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    assert values(user.get(KEY, r=ALL)) == ([b"value"] if early else [])
    if not early:
        assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 4)
        sim.run_for(AFTER_S * 2)
        assert user.get(KEY, r=ALL) == Record.EMPTY
        assert not any(m.engine.scan(*rows_of(HINTS), limit=1)[0] for m in sim.machines.values())


def test_a_hint_anywhere_holds_it_up(simulate: Simulate) -> None:
    sim = simulate(5, config=SOON)
    deleted(sim)
    slot, owners = place(sim)
    fallback = next(name for name in sim.machines if name not in owners)
    hint = HINTS + owners[2].encode() + b"\0" + slot
    engine = sim.machines[fallback].engine
    engine.write_batch({hint: pack_cell(KEY, b"", Record.EMPTY.pack())}, {})
    sim.run_for(AFTER_S * 3)
    assert all(on_disk(sim, KEY)[name] for name in owners)
    leader = sim.machines[owners[0]].node
    assert leader.reaping.held_up == f"{fallback}: it keeps hints there"
    engine.write_batch({hint: None}, {})
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S)


def test_dead_entries_go_while_the_key_is_being_written(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    longest = 0
    for number in range(1000):
        name = f"n{number % 3 + 1}"
        sim.kill(name)
        sim.restart(name)
        assert sim.run_until(sim.agreed, limit_s=60)
        user = User(sim, name)
        read = user.token(KEY, user.get(KEY).context)
        user.put(KEY, b"value %d" % number, read)
        sim.run_for(AFTER_S / 8)
        records = [Record.unpack(packed) for packed in on_disk(sim, KEY).values()]
        longest = max(longest, *(len(record.context.actors()) for record in records))
        assert len(records[0].siblings) == 1
    assert longest < 25, "each start adds an actor, and those of long ago go"
    sim.run_for(AFTER_S * 2)
    assert {len(Record.unpack(packed).context.actors()) for packed in on_disk(sim, KEY).values()} == {1}


def test_an_owner_that_misses_a_reaping_brings_the_entries_back_until_the_next(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    deleted(sim)
    slot, owners = place(sim)
    leader = sim.machines[owners[0]].node
    assert sim.run_until(lambda: leader.generations.of(slot) == 1, limit_s=AFTER_S * 2)
    sim.kill(owners[2])  # before the word to drop has arrived
    sim.run_for(1)
    assert [bool(on_disk(sim, KEY)[name]) for name in owners] == [False, False, True]
    sim.restart(owners[2])
    assert sim.run_until(sim.agreed, limit_s=60)
    assert User(sim, owners[0]).get(KEY, r=ALL).siblings == ()
    sim.run_for(0.1)
    assert all(on_disk(sim, KEY)[name] for name in owners), "read repair took them for news"
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)


def test_a_leader_that_dies_in_a_round_leaves_it_to_the_next(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    deleted(sim)
    slot, owners = place(sim)
    promised = [sim.machines[name].node.generations for name in owners[1:]]
    assert sim.run_until(lambda: all(each.stamp(slot) == 1 for each in promised), limit_s=AFTER_S * 2)
    sim.kill(owners[0])
    sim.run_for(AFTER_S)
    assert all(on_disk(sim, KEY)[name] for name in owners)
    sim.restart(owners[0])
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    assert generations(sim) == [2, 2, 2], "the number of a round that failed is not used again"


def test_a_client_with_an_old_context_writes_what_it_means(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    token = deleted(sim)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 2)
    user = User(sim, "n1")
    user.put(KEY, b"new", token, w=ALL)
    assert values(user.get(KEY, r=ALL)) == [b"new"]
    sim.run_for(AFTER_S * 2)
    assert len(user.get(KEY, r=ALL).context.actors()) == 1, "what it had read is dead once more"


def test_a_minter_goes_on_safely_after_its_count_was_reaped(simulate: Simulate) -> None:
    """The start id is the same, the note is gone with the record: another epoch."""
    sim = simulate(3, config=SOON)
    deleted(sim)
    user = User(sim, "n1")
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 2)
    token = user.put(KEY, b"one", w=ALL)
    user.put(KEY, b"two", token, w=ALL)
    (sibling,) = user.get(KEY, r=ALL).siblings
    assert (sibling.value, sibling.dot.counter, sibling.dot.actor[8:]) == (b"two", 2, (1).to_bytes(8, "big"))


def test_ages_survive_restarts_and_downtime_is_no_age(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    deleted(sim)
    sim.run_for(AFTER_S * 0.8)
    for name in sim.machines:
        sim.kill(name)
    sim.run_for(AFTER_S * 10)
    for name in sim.machines:
        sim.restart(name)
    assert sim.run_until(sim.agreed, limit_s=60)
    assert all(on_disk(sim, KEY).values())
    sim.run_for(AFTER_S * 0.1)
    assert all(on_disk(sim, KEY).values())
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S)


# ── an old copy of a disk ──


def disk_of(sim: Simulation, name: str) -> MemoryEngine:
    return sim.machines[name].engine.copy()


def put_back(sim: Simulation, name: str, disk: MemoryEngine) -> None:
    """The node is started on an old copy of its disk."""
    sim.kill(name)
    sim.machines[name].engine = disk
    sim.restart(name)
    assert sim.run_until(sim.agreed, limit_s=60)


def aside(sim: Simulation, name: str) -> int:
    return sum(
        len(key) > len(ASIDE) + 3 for key, _ in sim.machines[name].engine.scan(*rows_of(ASIDE), limit=99)[0]
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("place_of_it", [0, 1, 2])
def test_an_old_copy_from_before_a_reaping_does_not_bring_the_value_back(
    simulate: Simulate, place_of_it: int, seed: int
) -> None:
    sim = simulate(3, seed=seed, config=SOON)
    user = User(sim, "n1")
    token = user.put(KEY, b"value", w=ALL)
    name = place(sim)[1][place_of_it]
    old = disk_of(sim, name)
    user.delete(KEY, token, w=ALL)
    user.put(b"other", b"there since", w=ALL)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    sim.run_for(2)
    put_back(sim, name, old)
    for reader in sim.machines:
        assert User(sim, reader).get(KEY, r=2).siblings == ()
    assert sim.run_until(lambda: aside(sim, name) == 1, limit_s=30)
    sim.run_for(AFTER_S * 4)
    for reader in sim.machines:
        assert User(sim, reader).get(KEY, r=ALL).siblings == ()
        assert values(User(sim, reader).get(b"other", r=ALL)) == [b"there since"]
    assert aside(sim, name) == 1, "it is kept for people to look at"
    assert sim.machines[name].node.quarantine.count == 1


def test_an_old_copy_from_after_the_last_reaping_has_nothing_aside(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    deleted(sim)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    user = User(sim, "n1")
    sim.run_for(2)
    user.put(KEY, b"value", w=ALL)
    old = disk_of(sim, "n2")
    user.put(b"other", b"value", w=ALL)
    sim.run_for(2)
    put_back(sim, "n2", old)
    assert sim.run_until(lambda: not sim.machines["n2"].node._replica.closed, limit_s=30)
    assert on_disk(sim, KEY)["n2"]
    assert aside(sim, "n2") == 0


def test_without_a_quarantine_an_old_copy_would_bring_the_value_back(simulate: Simulate) -> None:
    sim = simulate(3, config=SOON)
    user = User(sim, "n1")
    token = user.put(KEY, b"value", w=ALL)
    old = disk_of(sim, "n2")
    user.delete(KEY, token, w=ALL)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    sim.run_for(2)
    sim.kill("n2")
    sim.machines["n2"].engine = old
    sim.restart("n2").node._lineage.on_old_copy = lambda now, out: None
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(AFTER_S * 4)
    assert values(user.get(KEY, r=ALL)) == [b"value"]


@pytest.mark.parametrize("loss", ["wipe", "old copy", "none"])
@pytest.mark.parametrize("restarts", [False, True])
def test_what_a_fallback_keeps_after_it_lost_its_numbers_is_taken(
    simulate: Simulate, loss: str, restarts: bool
) -> None:
    """It takes a write while it is alone, in a part of the keys that was reaped before."""
    sim = simulate(5, config=SOON)
    _, owners = place(sim)
    fallback = next(name for name in sim.machines if name not in owners)
    old = sim.copy_disk(fallback)
    deleted(sim, owners[0])
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    sim.run_for(2)
    sim.kill(fallback)
    if loss == "wipe":
        sim.wipe(fallback)
    elif loss == "old copy":
        sim.restore_disk(fallback, old)
    node = sim.restart(fallback).node
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sim.run_until(lambda: not node.recovering, limit_s=60)
    assert bool(node.membership.me.directory == old.get_meta("directory")) is (loss == "none")
    sim.isolate(fallback)
    assert sim.run_until(lambda: not any(map(node.membership.is_alive, owners)), limit_s=60)
    sim.run_for(20)  # no link to them is left
    User(sim, fallback).put(KEY, b"stood in for", w=1)
    sim.run_for(30)  # links break, and take along what they held
    if restarts:
        sim.kill(fallback)
        sim.restart(fallback)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(5)
    assert values(User(sim, owners[0]).get(KEY, r=ALL)) == [b"stood in for"]
    assert aside(sim, fallback) == 0
    assert not sim.machines[fallback].node.hints.held()


def test_an_owner_that_lost_its_numbers_takes_no_hint_from_before(simulate: Simulate) -> None:
    """The owner is wiped and complete again; then a fallback is set back to when it kept the hint."""
    sim = simulate(5, config=SOON)
    _, owners = place(sim)
    user = User(sim, owners[0])
    sim.kill(owners[2])
    sim.run_for(10)
    token = user.put(KEY, b"value", w=3)
    (fallback,) = [
        name for name, m in sim.machines.items() if m.running and m.engine.scan(*rows_of(HINTS), limit=1)[0]
    ]
    old = sim.copy_disk(fallback)
    sim.restart(owners[2])
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    user.delete(KEY, token, w=ALL)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 4)
    sim.run_for(2)
    sim.kill(owners[2])
    sim.wipe(owners[2])
    wiped = sim.restart(owners[2]).node
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sim.run_until(lambda: not wiped.recovering, limit_s=60)
    assert generations(sim) == [1, 1, 1]
    put_back(sim, fallback, old)
    sim.run_for(AFTER_S * 3)
    assert user.get(KEY, r=ALL).siblings == ()
    assert aside(sim, fallback) == 1


def test_what_is_known_elsewhere_leaves_the_quarantine(simulate: Simulate) -> None:
    """Two keys of one partition: of one the tombstone is reaped, the other is still there."""
    sim = simulate(3, config=SOON, partitions=1)
    user = User(sim, "n1")
    token = user.put(KEY, b"value", w=ALL)
    user.put(b"kept", b"value", w=ALL)
    old = disk_of(sim, "n2")
    user.delete(KEY, token, w=ALL)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    sim.run_for(2)
    put_back(sim, "n2", old)
    assert sim.run_until(lambda: aside(sim, "n2") == 2, limit_s=30)
    assert sim.run_until(lambda: aside(sim, "n2") == 1, limit_s=60)
    assert values(user.get(b"kept", r=ALL)) == [b"value"]
    assert user.get(KEY, r=ALL).siblings == ()
    assert on_disk(sim, b"kept")["n2"]


@pytest.mark.parametrize("restarts", [False, True])
def test_what_a_wiped_fallback_keeps_is_not_taken_for_older_than_a_reaping(
    simulate: Simulate, restarts: bool
) -> None:
    """It agreed to the round, and forgot that; the others tell it, and it remembers that in turn."""
    sim = simulate(4, config=SOON)
    deleted(sim)
    assert sim.run_until(lambda: is_gone(sim), limit_s=AFTER_S * 3)
    (away,) = [name for name in sim.machines if name not in place(sim)[1]]
    sim.kill(away)
    sim.wipe(away)
    sim.restart(away)
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    user = User(sim, away)
    sim.isolate(away)
    sim.heal(away, user.link.machine)
    if restarts:
        sim.kill(away)
        sim.restart(away)
        user = User(sim, away)
    sim.run_for(20)  # until it suspects all others
    user.put(KEY, b"kept", w=1)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sim.run_until(lambda: all(on_disk(sim, KEY)[name] for name in place(sim)[1]), limit_s=20)
    assert values(User(sim, "n1").get(KEY, r=ALL)) == [b"kept"]
    assert aside(sim, away) == 0
