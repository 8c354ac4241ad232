"""Links that drop, stall and come back between any two steps, and nodes that pass requests on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.errors import QuorumNotMet
from dyno.protocol.outbox import Outbox
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    STATUS_RING,
    STRICT,
    Delete,
    Done,
    Found,
    Get,
    Put,
    Read,
    ReadAnswer,
    Store,
    Stored,
)
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"


def an_outsider(sim: Simulation, key: bytes = KEY) -> str:
    """A node that does not own the key."""
    owners = slot_of(sim, key)[1]
    return next(name for name in sim.machines if name not in owners)


# ── requests that another node has to do ──


def test_a_node_that_does_not_own_the_key_passes_every_request_on(simulate: Simulate) -> None:
    sim = simulate(5)
    user = User(sim, an_outsider(sim))
    token = user.put(KEY, b"one")
    token = user.put(KEY, b"two", token, conditional=True)
    assert failed(user.ask_put(KEY, b"three", b"", conditional=True)).code == "conflict"
    assert values(user.get(KEY)) == [b"two"]
    found = user.ask_get(KEY, r=ALL)
    assert isinstance(found, Found)
    assert sorted(found.answered.split(",")) == slot_of(sim, KEY)[1]
    user.delete(KEY, token)
    assert values(user.get(KEY)) == []
    assert not on_disk(sim, KEY)[user.node]


def test_any_node_answers_for_any_key(simulate: Simulate) -> None:
    sim = simulate(7)
    users = [User(sim, name) for name in sim.machines]
    for number in range(70):
        users[number % 7].put(b"key %d" % number, b"value")
    for number in range(70):
        assert values(users[(number * 3) % 7].get(b"key %d" % number, r=2)) == [b"value"]


def test_a_request_that_was_passed_on_is_never_passed_on_again(simulate: Simulate) -> None:
    sim = simulate(5)
    user = User(sim, an_outsider(sim))
    answer = failed(user.ask(Get(1, "bucket", KEY, DEFAULT, DEFAULT, 5000, True)))
    assert answer.code == "ring"
    assert answer.message == f"{user.node} does not own the key; the nodes disagree about the ring"


def test_a_read_whose_owner_falls_away_is_passed_to_the_next(simulate: Simulate) -> None:
    sim = simulate(5)
    outsider = an_outsider(sim)
    user = User(sim, outsider)
    user.put(KEY, b"value", w=ALL)
    owners = slot_of(sim, KEY)[1]
    for owner in owners:
        sim.set_latency(outsider, owner, (0.05, 0.05))
    user.link.send(Get(100, "bucket", KEY, DEFAULT, STRICT, 5000, False))
    sim.run_for(0.01)
    for owner in owners[:2]:
        sim.kill(owner)
    assert sim.run_until(lambda: bool(user.link.heard[-1].id == 100), limit_s=5)  # type: ignore[union-attr]
    # Two of three copies are gone, so it cannot be met; but somebody alive said so.
    assert failed(user.link.heard[-1]).code == "quorum"
    user.link.send(Get(101, "bucket", KEY, 1, DEFAULT, 5000, False))
    assert sim.run_until(lambda: bool(user.link.heard[-1].id == 101), limit_s=5)  # type: ignore[union-attr]
    assert isinstance(user.link.heard[-1], Found)


def test_a_write_that_was_passed_on_and_lost_is_not_done_twice(simulate: Simulate) -> None:
    sim = simulate(5)
    outsider = an_outsider(sim)
    user = User(sim, outsider)
    owners = slot_of(sim, KEY)[1]
    for owner in owners:
        sim.set_latency(outsider, owner, (0.05, 0.05))
    user.link.send(user.put_request(KEY, b"value"))
    sim.run_for(0.08)  # it is done, and the answer is on its way
    assert sum(map(bool, on_disk(sim, KEY).values())) == 3
    for owner in owners:
        sim.drop_links(outsider, owner)
    sim.run_for(0.1)
    answer = failed(user.link.heard[-1])
    assert (answer.code, answer.indeterminate, answer.needed) == ("quorum", True, 2)
    assert sim.run_until(sim.agreed, limit_s=5)
    assert values(user.get(KEY)) == [b"value"]


def test_an_outsider_without_a_link_to_any_owner_says_that_nothing_was_done(simulate: Simulate) -> None:
    sim = simulate(5)
    outsider = an_outsider(sim)
    user = User(sim, outsider)
    for owner in slot_of(sim, KEY)[1]:
        sim.cut(outsider, owner)
        sim.drop_links(outsider, owner)
    answer = failed(user.ask_put(KEY, b"value", pw=1))
    assert answer.message == "no owner of the key can be reached"
    assert not answer.indeterminate
    sim.run_for(1)
    assert not any(on_disk(sim, KEY).values())


# ── links that drop during a write or a read ──


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.012, 0.025, 0.035])
def test_a_write_whose_links_drop_at_any_moment_is_completed_by_sending_it_again(
    simulate: Simulate, after_s: float
) -> None:
    """A Store takes 10 ms, the commit 10 ms, the answer 10 ms: the links drop before, between and after."""
    sim = simulate(3)
    user = User(sim, "n1")
    for other in ("n2", "n3"):
        sim.machines[other].commit_s = (0.01, 0.01)
        sim.set_latency("n1", other, (0.01, 0.01))
    user.link.send(user.put_request(KEY, b"value", w=3))
    sim.run_for(0.002 + after_s)
    sim.drop_links("n1", "n2")
    sim.drop_links("n1", "n3")
    assert sim.run_until(lambda: isinstance(user.link.heard[-1], Done), limit_s=2)
    assert sorted(user.link.heard[-1].answered.split(",")) == ["n1", "n2", "n3"]  # type: ignore[union-attr]
    assert len(set(on_disk(sim, KEY).values())) == 1
    assert values(user.get(KEY, r=ALL)) == [b"value"]


@pytest.mark.parametrize("after_s", [0.0, 0.005, 0.015])
def test_a_read_whose_links_drop_at_any_moment_is_answered_all_the_same(
    simulate: Simulate, after_s: float
) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    for other in ("n2", "n3"):
        sim.set_latency("n1", other, (0.01, 0.01))
    user.link.send(Get(100, "bucket", KEY, ALL, DEFAULT, 5000, False))
    sim.run_for(0.002 + after_s)
    sim.drop_links("n1", "n2")
    sim.drop_links("n1", "n3")
    assert sim.run_until(lambda: isinstance(user.link.heard[-1], Found), limit_s=2)
    assert user.link.heard[-1].record == on_disk(sim, KEY)["n1"]  # type: ignore[union-attr]


def test_links_that_drop_again_and_again_delay_writes_and_lose_none(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    for number in range(30):
        user.link.send(user.put_request(b"key %d" % number, b"value", w=2))
        sim.run_for(0.001)
        sim.drop_links("n1", "n2" if number % 2 else "n3")
    assert sim.run_until(lambda: len(user.link.heard) == 31, limit_s=10)
    assert all(isinstance(answer, Done) for answer in user.link.heard[1:])
    for number in range(30):
        assert sum(map(bool, on_disk(sim, b"key %d" % number).values())) >= 2


def test_a_stored_that_comes_after_the_time_is_over_means_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    sim.isolate("n3")
    assert failed(user.ask_put(KEY, b"value", w=3)).indeterminate
    sim.heal_all()  # what stalled gets through, and is answered
    sim.run_for(0.5)
    assert on_disk(sim, KEY)["n3"]
    assert len(user.link.heard) == 2
    assert values(user.get(KEY, r=ALL)) == [b"value"]


def test_a_write_to_a_client_that_is_gone_is_done_all_the_same(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.link.send(user.put_request(KEY, b"value"))
    sim.run_for(0.0012)
    user.link.close()
    sim.run_for(1)
    assert values(User(sim, "n2").get(KEY)) == [b"value"]


def test_a_session_goes_on_when_its_node_dies(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.put("bucket", "key", 1)
    for name in ("n1", "n2", "n3"):
        sim.kill(name)
        context = client.get("bucket", "key").context
        client.put("bucket", "key", name, context=context)
        assert client.get("bucket", "key").value == name
        sim.restart(name)
        assert sim.run_until(sim.agreed, limit_s=60)


def test_a_session_that_loses_the_link_with_a_write_on_it_says_that_it_may_exist(simulate: Simulate) -> None:
    sim = simulate(1)
    client = sim.client("n1")
    client.get("bucket", "key")
    pending = client.begin_put("bucket", "key", 1)
    sim.run_for(0.0012)
    sim.kill("n1")
    with pytest.raises(QuorumNotMet) as missed:
        client.wait(pending)
    assert missed.value.indeterminate


# ── what belongs to nothing ──


def test_answers_to_requests_that_nobody_made_mean_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    machine = sim.machines["n1"]
    address = sim.machines["n2"].address
    out = Outbox()
    for answer in (
        ReadAnswer(999, 0, b"nonsense"),
        Stored(999, 0),
        Found(999, b"", "", ""),
        Done(999, b"", "", ""),
        failed(User(sim, "n1").ask_put(KEY, b"", w=9))._replace(id=999),
    ):
        machine.node.answer(address, answer, sim.now, out)
        machine.node.answer("nobody:1", answer, sim.now, out)
    assert not out
    assert values(user.get(KEY)) == [b"value"]


def test_replica_requests_under_a_ring_that_nobody_has_are_refused_and_nothing_is_stored(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    slot, _ = slot_of(sim, KEY)
    link = sim.stranger("n2")
    before = on_disk(sim, KEY)
    assert link.ask(Read(1, 12345, slot)) == [ReadAnswer(1, STATUS_RING, b"")]
    assert link.ask(Store(2, 12345, slot, KEY, before["n1"])) == [Stored(2, STATUS_RING)]
    assert link.ask(Store(0, 12345, slot, KEY, before["n1"]), limit_s=1) == []
    assert on_disk(sim, KEY) == before


def test_a_request_whose_caller_has_given_up_is_dropped_unstarted(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    requests = (
        Get(100, "bucket", KEY, DEFAULT, DEFAULT, 0, False),
        Put(101, "bucket", KEY, b"v", b"", False, DEFAULT, DEFAULT, b"r" * 16, 0, False),
        Delete(102, "bucket", KEY, b"", DEFAULT, DEFAULT, DEFAULT, DEFAULT, b"r" * 16, 0, False),
    )
    assert user.link.ask(*requests, limit_s=10) == []
    assert not any(on_disk(sim, KEY).values())
