"""A session on virtual time."""

from __future__ import annotations

import pytest

from dyno.errors import ConflictError, ConnectFailed, InvalidRequest, QuorumNotMet, RequestTimeout
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import Failed, Hello, Refuse, Stored
from tests.simulator.fake_node import FakeNode


def a_cluster(size: int = 3, seed: int = 1) -> Simulation:
    sim = Simulation(seed)
    sim.add_cluster(size)
    return sim


def test_calls_return_what_users_get() -> None:
    client = a_cluster().client("n1")
    stored = client.put("carts", "alice", {"milk": 1})
    record = client.get("carts", b"alice")
    assert (record.value, record.context) == ({"milk": 1}, stored.context)
    record = client.update("carts", "alice", lambda siblings: {**siblings[0], "eggs": 6})
    assert record.value == {"milk": 1, "eggs": 6}
    client.delete("carts", "alice", context=record.context)
    assert not client.get("carts", "alice").exists
    results = client.put_many("carts", {"bob": 1, "carol": 2})
    records = client.get_many("carts", ["carol", "bob"])
    assert [(key, record.value) for key, record in records.items()] == [("carol", 2), ("bob", 1)]
    assert records["bob"].context == results["bob"].context
    assert client.status()["partitions"] == 64
    client.put("carts", "bob", 1)
    assert sorted(client.keys("carts", r="all")) == ["bob", "carol"]


def test_calls_raise_what_users_get() -> None:
    client = a_cluster().client("n1")
    with pytest.raises(InvalidRequest):
        client.get("carts", "")
    with pytest.raises(InvalidRequest):
        client.put("carts", "alice", object())
    with pytest.raises(InvalidRequest):
        client.keys("carts", r=4)
    with pytest.raises(InvalidRequest):
        client.get_many("carts", ["alice", ""])
    client.put("carts", "alice", 1)
    with pytest.raises(ConflictError):
        client.put("carts", "alice", 2, if_context=b"")


def test_many_calls_are_under_way_at_once() -> None:
    sim = a_cluster()
    client = sim.client("n1")
    client.get("bucket", "key")
    began = sim.now
    pending = [client.begin_put("bucket", f"key {number}", number) for number in range(100)]
    assert not any(one.done for one in pending)
    with pytest.raises(AssertionError, match="put bucket/key 7 7 has not ended"):
        pending[7].result()
    results = client.wait(*pending)
    assert len(results) == 100
    assert sim.now - began < 0.02
    assert all(one.error is None and began == one.began < one.ended <= sim.now for one in pending)


def test_waiting_for_several_raises_the_first_error_among_them() -> None:
    client = a_cluster(2).client("n1")
    good, bad = client.begin_get("bucket", "key"), client.begin_get("bucket", "key", r=3)
    with pytest.raises(QuorumNotMet):
        client.wait(good, bad)
    assert good.error is None
    assert isinstance(bad.error, QuorumNotMet)


def test_an_update_that_fails_raises_and_its_function_may_too() -> None:
    sim = a_cluster(1)
    client = sim.client("n1")

    def refuse(siblings: list[int]) -> int:
        raise KeyError("no")

    with pytest.raises(KeyError):
        client.update("bucket", "key", refuse)
    sim.kill("n1")
    with pytest.raises(ConnectFailed):
        client.update("bucket", "key", lambda siblings: 1, timeout=3)


def test_an_update_meets_another_writer_and_tries_again() -> None:
    sim = a_cluster(1)
    one, other = sim.client("n1"), sim.client("n1")
    pending = [
        client.begin_update("bucket", "count", lambda siblings: (siblings or [0])[0] + 1)
        for client in (one, other) * 5
    ]
    one.wait(*pending)
    assert one.get("bucket", "count").value == 10


def test_a_client_without_any_node_gives_up_in_time() -> None:
    sim = a_cluster(1)
    sim.kill("n1")
    client = sim.client("n1", timeout=2)
    with pytest.raises(ConnectFailed):
        client.get("bucket", "key")
    assert sim.now == pytest.approx(2, abs=0.2)
    sim.restart("n1")
    assert client.get("bucket", "key").siblings == []


def test_a_client_that_is_cut_off_gives_up_in_time_and_goes_on_later() -> None:
    sim = a_cluster(1)
    client = sim.client("n1", timeout=2)
    sim.cut("n1", client.machine)
    with pytest.raises((ConnectFailed, RequestTimeout)):
        client.get("bucket", "key")
    sim.run_for(10)
    sim.heal_all()
    sim.run_for(5)
    assert client.get("bucket", "key").siblings == []


def test_a_client_that_closes_ends_its_calls_and_its_links() -> None:
    sim = a_cluster(1)
    client = sim.client("n1")
    client.put("bucket", "key", 1)
    pending = client.begin_get("bucket", "key")
    client.close()
    assert isinstance(pending.error, ConnectFailed)
    events = sim.events
    sim.run_for(0.5)
    assert "closed: the client let go" in sim.story(sim.events - events)


def test_a_dial_that_is_given_up_before_it_is_through_leaves_no_link() -> None:
    sim = a_cluster(1)
    client = sim.client("n1")
    client.close()
    sim.run_for(5)
    assert "closed: given up" in sim.story(50)


def test_a_node_that_refuses_is_not_asked() -> None:
    sim = Simulation(seed=1)
    fake = FakeNode(sim, "fake", Refuse("joining", "not yet"))
    client = sim.client("fake", timeout=2)
    with pytest.raises(ConnectFailed, match="not yet"):
        client.get("bucket", "key")
    assert fake.greeted > 1


def test_a_node_that_does_not_say_hello_first_is_hung_up_on() -> None:
    sim = Simulation(seed=1)
    FakeNode(sim, "fake", Stored(1, 0))
    client = sim.client("fake", timeout=2)
    with pytest.raises(ConnectFailed, match="the first message was no hello"):
        client.get("bucket", "key")


def test_what_is_no_answer_ends_the_link() -> None:
    sim = Simulation(seed=1)
    hello = Hello(1, 1, "peer", b"c" * 16, 16, "fake", b"d" * 16, b"s" * 8, "")
    fake = FakeNode(sim, "fake", hello, Failed(7, "quorum", "late", 0, "", False, 0, b""))
    client = sim.client("fake", timeout=2)
    pending = client.begin_get("bucket", "key")
    sim.run_for(0.1)
    assert not fake.closed
    fake.send(Stored(1, 0))
    with pytest.raises((ConnectFailed, RequestTimeout)):
        client.wait(pending)
    assert fake.closed[0] == "not understood: a Stored is no answer"
