"""Disks that are full or break, nodes that are killed and come back with what they had committed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import StorageFailed
from dyno.protocol.identity import remembered
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, Done, Found
from tests.protocol.stories.cluster_harness import User, failed, on_disk, values

Simulate = Callable[..., Simulation]
KEY = b"key"


def test_a_node_that_restarts_has_what_it_had(simulate: Simulate) -> None:
    sim = simulate(1)
    token = User(sim, "n1").put(KEY, b"value")
    sim.kill("n1")
    sim.restart("n1")
    user = User(sim, "n1")
    assert values(user.get(KEY)) == [b"value"]
    user.put(KEY, b"next", token)
    assert values(user.get(KEY)) == [b"next"]


def test_a_clean_stop_finishes_what_is_on_its_way_to_the_disk(simulate: Simulate) -> None:
    sim = simulate(1)
    user = User(sim, "n1")
    user.link.send(user.put_request(KEY, b"value"))
    sim.run_for(0.0012)
    sim.stop("n1")
    assert sim.machines["n1"].ended == "stopped"
    sim.restart("n1")
    assert values(User(sim, "n1").get(KEY)) == [b"value"]


def test_a_start_never_mints_the_dots_of_an_earlier_one(simulate: Simulate) -> None:
    sim = simulate(3)
    dots = []
    for start in range(3):
        user = User(sim, "n1")
        for number in range(3):
            user.put(KEY, b"%d %d" % (start, number))
        dots = [sibling.dot for sibling in user.get(KEY, r=ALL).siblings]
        assert len(dots) == 3 * (start + 1)
        sim.kill("n1")
        sim.restart("n1")
        assert sim.run_until(sim.agreed, limit_s=60)
    assert len(set(dots)) == 9
    assert len({dot.actor for dot in dots}) == 3


def test_a_coordinator_that_died_before_its_own_commit_mints_nothing_twice(simulate: Simulate) -> None:
    """kv679: the others have the write, the minter has forgotten it, and mints again."""
    sim = simulate(3)
    sim.machines["n1"].commit_s = (0.5, 0.5)
    user = User(sim, "n1")
    user.put(KEY, b"forgotten by n1")  # n2 and n3 made the quorum
    sim.kill("n1", commits=False)
    assert not on_disk(sim, KEY)["n1"]
    sim.restart("n1")
    assert sim.run_until(sim.agreed, limit_s=60)
    user = User(sim, "n1")
    user.put(KEY, b"next", w=1)
    assert values(user.get(KEY, r=ALL)) == [b"forgotten by n1", b"next"]


@pytest.mark.parametrize("seed", range(5))
def test_everything_acknowledged_is_there_after_all_nodes_were_killed_at_once(
    simulate: Simulate, seed: int
) -> None:
    sim = simulate(3, seed=seed)
    clients = [sim.client("n1", "n2", "n3") for _ in range(3)]
    pending = {}
    for number in range(100):
        key = f"key {number}"
        pending[key] = clients[number % 3].begin_put("bucket", key, number)
        sim.run_for(0.0005)
    for name in sim.machines:
        sim.kill(name)
    acknowledged = {key: one for key, one in pending.items() if one.done and one.error is None}
    assert 20 < len(acknowledged) < 100
    for name in sim.machines:
        sim.restart(name)
    assert sim.run_until(sim.agreed, limit_s=60)
    client = sim.client("n1", "n2", "n3")
    for number in range(100):
        record = client.get("bucket", f"key {number}")
        assert record.siblings == [number] or f"key {number}" not in acknowledged


# ── a disk that is full ──


def test_a_full_disk_fails_exactly_the_writes_that_waited_for_it(simulate: Simulate) -> None:
    sim = simulate(1)
    engine = sim.machines["n1"].engine
    sim.machines["n1"].commit_s = (0.01, 0.01)
    user, reader = User(sim, "n1"), User(sim, "n1")
    before = user.put(KEY, b"before")
    engine.full = True
    user.link.send(user.put_request(KEY, b"lost 1", before), user.put_request(b"other", b"lost 2"))
    sim.run_for(0.005)
    user.link.send(user.put_request(KEY, b"lost 3"))  # in the batch behind
    assert values(reader.get(KEY)) == [b"before"]  # it met the writes, and was told what is on the disk
    sim.run_for(0.1)
    answers = [failed(answer) for answer in user.link.heard[-3:]]
    assert [answer.code for answer in answers] == ["storage"] * 3
    assert not any(answer.indeterminate for answer in answers)
    assert values(user.get(KEY)) == [b"before"]
    assert values(user.get(b"other")) == []
    engine.full = False
    assert failed(user.ask_put(KEY, b"too soon", before)).code == "storage"  # the disk rests for a second
    sim.run_for(1)
    user.put(KEY, b"after", before)
    assert values(user.get(KEY)) == [b"after"]


def test_nothing_minted_for_a_failed_commit_is_minted_again(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(exchange_interval_s=86_400.0))
    user = User(sim, "n1")
    user.put(KEY, b"one", w=ALL)
    sim.machines["n1"].engine.full = True
    user.put(KEY, b"two")  # n2 and n3 have it; n1 does not, and does not remember its dot
    sim.machines["n1"].engine.full = False
    sim.run_for(1.1)
    assert values(Record.unpack(on_disk(sim, KEY)["n1"])) == [b"one"]
    user.put(KEY, b"three", w=1)
    found = User(sim, "n2").get(KEY, r=ALL)
    assert values(found) == [b"one", b"three", b"two"]
    starts = {sibling.dot.actor[:8] for sibling in found.siblings}
    assert len(starts) == 2


def test_a_node_with_a_full_disk_hands_its_writes_to_the_other_owners(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.machines["n1"].engine.full = True
    user = User(sim, "n1")
    token = b""
    for number in range(100):
        token = user.put(KEY, b"%d" % number, token)
        sim.run_for(0.05)
    record = User(sim, "n2").get(KEY)
    assert values(record) == [b"99"]
    # One actor for every attempt to write, about one a second, and not for every write.
    assert len(record.pack()) < 500
    assert sim.story(5000).count("handing the write") == 0


def test_a_full_replica_is_one_disk_less(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.machines["n2"].engine.full = True
    user = User(sim, "n1")
    done = user.ask_put(KEY, b"value")
    assert isinstance(done, Done)
    assert sorted(done.answered.split(",")) == ["n1", "n3"]
    answer = failed(user.ask_put(KEY, b"value", w=3))
    assert (answer.code, answer.indeterminate) == ("quorum", True)


def test_full_disks_serve_reads_and_recover_by_themselves(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.put("bucket", "key", 1, w=3)
    for machine in sim.machines.values():
        machine.engine.full = True
    with pytest.raises(StorageFailed, match="disk"):
        client.put("bucket", "key", 2, w=1)
    assert client.get("bucket", "key", r=3).value == 1
    for machine in sim.machines.values():
        machine.engine.full = False
    sim.run_for(1)
    context = client.get("bucket", "key").context
    client.put("bucket", "key", 3, context=context)
    assert client.get("bucket", "key").value == 3


def test_a_conditional_write_that_met_one_that_never_got_to_the_disk_is_told_so(simulate: Simulate) -> None:
    sim = simulate(1)
    sim.machines["n1"].commit_s = (0.01, 0.01)
    user = User(sim, "n1")
    sim.machines["n1"].engine.full = True
    user.link.send(
        user.put_request(KEY, b"one", b"", conditional=True),
        user.put_request(KEY, b"two", b"", conditional=True),
    )
    sim.run_for(0.1)
    assert [failed(answer).code for answer in user.link.heard[-2:]] == ["storage", "storage"]


def test_a_replica_read_that_met_a_write_that_failed_is_told_what_is_on_the_disk(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"before", w=ALL)
    sim.machines["n2"].commit_s = (0.02, 0.02)
    sim.machines["n2"].engine.full = True
    user.link.send(user.put_request(KEY, b"lost on n2"))
    sim.run_for(0.01)
    sim.kill("n3")
    found = user.ask_get(KEY, r=2)
    assert isinstance(found, Found)
    assert sorted(found.answered.split(",")) == ["n1", "n2"]


def test_a_full_disk_is_not_asked_all_the_time(simulate: Simulate) -> None:
    """A member that comes or goes is a fact to be kept; where it cannot be, it is tried once a second."""
    sim = simulate(3)
    sim.machines["n1"].engine.full = True
    before = sim.events
    sim.kill("n3")
    sim.restart("n3")  # a new start is a new fact
    sim.run_for(10)
    story = sim.story(sim.events - before)
    assert 1 <= story.count("a commit failed") <= 12
    machine = sim.machines["n1"]
    machine.engine.full = False
    sim.run_for(2)
    kept = remembered(machine.engine.get_meta, members_max=10).members
    assert sim.machines["n3"].node.membership.me.start in [member.start for member in kept]


# ── a disk that breaks ──


def test_a_broken_disk_stops_the_node_and_the_others_go_on(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.put("bucket", "key", 1, w=3)
    sim.machines["n1"].engine.failing = True
    context = client.get("bucket", "key").context
    client.put("bucket", "key", 2, context=context)
    sim.run_for(1)
    assert not sim.machines["n1"].running
    assert "the disk failed, and this node stops" in str(sim.machines["n1"].ended)
    assert client.get("bucket", "key").value == 2
