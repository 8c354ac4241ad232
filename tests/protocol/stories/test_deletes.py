"""Deletes: they cover what was read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.record import Record
from dyno.errors import QuorumNotMet
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, Found
from tests.protocol.stories.cluster_harness import User, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_delete_with_the_context_of_the_read_leaves_nothing(simulate: Simulate, size: int) -> None:
    client = simulate(size).client("n1")
    client.put("bucket", "key", "value")
    record = client.get("bucket", "key")
    deleted = client.delete("bucket", "key", context=record.context)
    assert deleted.context == record.context
    after = client.get("bucket", "key")
    assert (after.exists, after.siblings, after.context) == (False, [], record.context)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_delete_without_context_deletes_what_it_reads(simulate: Simulate, size: int) -> None:
    client = simulate(size).client("n1")
    client.put("bucket", "key", "one")
    client.put("bucket", "key", "other")
    before = client.get("bucket", "key")
    deleted = client.delete("bucket", "key")
    assert deleted.context == before.context
    assert not client.get("bucket", "key").exists


def test_deleting_what_is_missing_succeeds_and_writes_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    deleted = client.delete("bucket", "key")
    assert deleted.context == b""
    assert len(deleted.replicas.answered) >= 2
    sim.run_for(1)
    assert not any(on_disk(sim, KEY).values())


def test_deleting_what_is_deleted_succeeds(simulate: Simulate) -> None:
    client = simulate(3).client("n1")
    client.put("bucket", "key", "value")
    first = client.delete("bucket", "key")
    assert client.delete("bucket", "key").context == first.context


def test_a_delete_beside_a_write_that_it_has_not_read_keeps_the_write(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    read = one.put(KEY, b"read", w=ALL)
    other.put(KEY, b"unread", w=ALL)
    one.delete(KEY, read)
    assert values(one.get(KEY, r=ALL)) == [b"unread"]


def test_a_delete_that_reads_while_another_coordinator_takes_a_write_keeps_the_write(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    client, other = sim.client("n1"), User(sim, "n2")
    client.put("bucket", "key", "before", w="all")
    for node in sim.machines:
        sim.set_latency(client.machine, node, (0.02, 0.02))
    deleting = client.begin_delete("bucket", "key")
    sim.run_for(0.05)  # what is to be deleted has been read by now
    assert not deleting.done
    other.put(KEY, b"beside", w=ALL)
    client.wait(deleting)
    assert values(other.get(KEY, r=ALL)) == [b"beside"]


def test_a_delete_reaches_a_replica_that_never_had_the_value(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    sim.cut("n1", "n3")
    token = user.put(KEY, b"value")
    sim.drop_links("n1", "n3")
    user.delete(KEY, token, w=2)
    sim.heal("n1", "n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    assert user.get(KEY, r=ALL).siblings == ()
    sim.run_for(0.1)
    # A tombstone is a record: the replica has it now, and an old value that comes late finds it there.
    assert len(set(on_disk(sim, KEY).values())) == 1


def test_a_tombstone_beats_the_value_that_it_covers_on_a_replica_that_was_behind(simulate: Simulate) -> None:
    sim = simulate(3)
    user, behind = User(sim, "n1"), User(sim, "n3")
    token = user.put(KEY, b"value", w=ALL)
    sim.isolate("n3")
    user.delete(KEY, token)
    sim.heal_all()
    sim.run_for(0.1)
    assert behind.get(KEY, r=ALL).siblings == ()


def test_a_delete_that_too_few_can_read_writes_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.put("bucket", "key", "value", w="all")
    sim.kill("n2")
    sim.kill("n3")
    with pytest.raises(QuorumNotMet, match="answered the read") as raised:
        client.delete("bucket", "key", w=1)
    assert not raised.value.indeterminate
    assert client.get("bucket", "key", r=1).value == "value"


def test_a_delete_whose_coordinator_cannot_read_its_own_copy_goes_to_another_owner(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.put("bucket", "key", "value", w="all")
    slot, _ = slot_of(sim, KEY)
    sim.machines["n1"].engine.corrupt(slot)
    client.delete("bucket", "key")
    found = User(sim, "n2").ask_get(KEY)
    assert isinstance(found, Found)
    assert Record.unpack(found.record).siblings == ()
    assert found.answered == "n2,n3"


def test_the_word_of_a_user_who_has_read_nothing_deletes_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    assert user.delete(KEY) == b""
    assert values(user.get(KEY, r=ALL)) == [b"value"]
