"""Nodes that join while others read and write, and nodes whose rings differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.context import Context
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, DEFAULT, Done, Found, Get
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"
READ = Context({b"an actor of old ": 1}, {})


def test_a_joining_node_holds_data_up_and_then_lets_it_through(simulate: Simulate) -> None:
    sim = simulate(2)
    user = User(sim, "n1")
    for name in ("n1", "n2"):
        sim.machines[name].commit_s = (0.02, 0.02)  # an assent is given once it is on the disk
    sim.add_node("n3", join=["n1"], wait=False)
    members = [sim.machines[name].node.membership for name in ("n1", "n2")]
    assert sim.run_until(lambda: all(member.admitting for member in members), limit_s=10)
    sim.cut_one_way("n2", "n3")  # n3 does not hear that everybody has assented
    for answer in (user.ask_put(KEY, b"value"), user.ask_delete(KEY, user.token(KEY, READ))):
        assert failed(answer).code == "ring"
        assert failed(answer).message == "writes wait until n3 has joined the cluster"
    assert values(user.get(KEY)) == []  # reading harms nobody
    client = sim.client("n1", "n2", timeout=30)
    pending = client.begin_put("bucket", "key", "value")
    sim.run_for(0.5)
    assert not pending.done
    sim.heal_all()
    client.wait(pending)
    assert sim.machines["n3"].ready
    assert client.get("bucket", "key", r=3).value == "value"
    assert slot_of(sim, KEY)[1] == ["n1", "n2", "n3"]


def test_a_write_on_its_way_when_a_member_assents_to_a_joiner_is_held_up_and_completed(
    simulate: Simulate,
) -> None:
    """n1 has begun a write, so it holds data and refuses the joiner; n2 has assented and takes no copy, until
    it hears that nothing comes of the join."""
    sim = simulate(2)
    user = User(sim, "n1")
    sim.cut("n1", "n3")
    machine = sim.add_node("n3", join=["n2"], wait=False)
    assert sim.run_until(lambda: sim.machines["n2"].node.membership.admitting, limit_s=10)
    assert not sim.machines["n1"].node.membership.admitting
    user.link.send(user.put_request(KEY, b"value", w=2))
    sim.run_for(0.05)
    assert len(user.link.heard) == 1
    sim.heal_all()
    assert sim.run_until(lambda: len(user.link.heard) == 2, limit_s=5)
    assert isinstance(user.link.heard[1], Done)
    assert sim.run_until(lambda: not machine.running, limit_s=30)
    assert "data" in str(machine.ended)
    assert values(user.get(KEY, r=ALL)) == [b"value"]


def test_a_cluster_with_data_refuses_a_new_node_and_goes_on(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.put("bucket", "key", 1)
    machine = sim.add_node("n4", join=["n1"], wait=False)
    assert sim.run_until(lambda: not machine.running, limit_s=30)
    assert "the cluster holds data" in str(machine.ended)
    client.put("bucket", "key", 2, context=client.get("bucket", "key").context)
    assert client.get("bucket", "key").value == 2
    assert slot_of(sim, KEY)[1] == ["n1", "n2", "n3"]


def test_a_node_that_has_not_joined_yet_serves_nobody(simulate: Simulate) -> None:
    sim = simulate(0)
    sim.add_node("n1", wait=False)
    sim.add_node("n2", join=["n9"], wait=False)  # nobody is there
    link = sim.stranger("n2")
    sim.run_for(0.1)
    assert link.closed == "refused"
    assert link.heard[0].text == "n2 has not joined a cluster yet"  # type: ignore[union-attr]


def test_a_read_across_a_change_of_the_ring_is_planned_again(simulate: Simulate) -> None:
    sim = simulate(2)
    user = User(sim, "n1")
    client = sim.client("n1")
    client.get("bucket", "key")
    sim.cut("n1", "n2")
    sim.drop_links("n1", "n2")
    user.link.send(Get(100, "bucket", KEY, 2, DEFAULT, 5000, False))
    pending = client.begin_get("bucket", "key", r=2)
    sim.run_for(0.1)
    machine = sim.add_node("n3", join=["n1"], wait=False)
    assert sim.run_until(lambda: machine.ready, limit_s=10)
    assert sim.run_until(lambda: len(user.link.heard) == 2, limit_s=1)
    answer = failed(user.link.heard[1])
    assert (answer.code, answer.message) == ("ring", "the ring changed during the read")
    assert len(client.wait(pending)[0].replicas.answered) == 2


def test_a_replica_that_is_behind_learns_the_ring_and_is_asked_again(simulate: Simulate) -> None:
    """n2 assented to n3 and has not heard yet that it sits: its ring is of two, everybody else's of three."""
    sim = simulate(2)
    machine = sim.add_node("n3", join=["n1"], wait=False)
    assert sim.run_until(lambda: sim.machines["n2"].node.membership.admitting, limit_s=10)
    assert sim.run_until(lambda: machine.ready or sim.now > 20, limit_s=10)
    sim.cut("n3", "n2")
    user = User(sim, "n1")
    for number in range(3):
        user.ask_put(b"key %d" % number, b"value", w=3)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert isinstance(user.ask_put(KEY, b"value", w=3), Done)
    assert isinstance(user.ask_get(KEY, r=3), Found)
    assert all(on_disk(sim, KEY).values())


@pytest.mark.parametrize("seed", range(5))
def test_five_nodes_that_start_at_once_become_one_cluster(simulate: Simulate, seed: int) -> None:
    sim = simulate(0, seed=seed)
    sim.add_node("n1", wait=False)
    for number in range(2, 6):
        sim.add_node(f"n{number}", join=["n1"], wait=False)
    assert sim.run_until(sim.agreed, limit_s=60)
    client = sim.client("n3")
    client.put("bucket", "key", 1, w=3)
    assert client.get("bucket", "key", r=3).value == 1
