"""Every bound: past it a clear answer, and nothing done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import InvalidRequest, Overloaded
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, DEFAULT, STATUS_REFUSED, Done, Get, Put, Read, Store, Stored
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"


def test_the_hundred_and_first_sibling_is_refused_at_every_coordinator(simulate: Simulate) -> None:
    sim = simulate(3)
    users = [User(sim, name) for name in sim.machines]
    for number in range(100):
        users[number % 3].put(KEY, b"%d" % number, w=ALL)
    for user in users:
        answer = failed(user.ask_put(KEY, b"one too many"))
        assert (answer.code, answer.indeterminate) == ("invalid", False)
        assert "the key has 100 siblings" in answer.message
    record = users[0].get(KEY, r=ALL)
    assert len(record.siblings) == 100
    users[0].put(KEY, b"merged", users[0].token(KEY, record.context))
    assert values(users[1].get(KEY, r=ALL)) == [b"merged"]


def test_siblings_past_the_bound_that_come_from_two_sides_are_merged_all_the_same(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n3")
    sim.cut("n1", "n3")
    sim.cut("n2", "n3")
    for number in range(60):
        one.put(KEY, b"one %d" % number, w=1)
        other.put(KEY, b"other %d" % number, w=1)
    sim.heal_all()
    sim.run_for(1)
    assert len(one.get(KEY, r=ALL).siblings) == 120
    assert failed(one.ask_put(KEY, b"more")).code == "invalid"


def test_a_record_over_eight_mebibytes_is_refused(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    value = b"x" * (1 << 20)
    for _ in range(7):
        user.put(KEY, value, w=ALL)
    answer = failed(user.ask_put(KEY, value))
    assert answer.code == "invalid"
    assert answer.message.endswith("over 8388608")
    assert len(user.get(KEY, r=ALL).siblings) == 7


def test_a_value_over_the_bound_is_refused(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(value_bytes_max=1000))
    client = sim.client("n1")
    with pytest.raises(InvalidRequest, match="more than value_bytes_max=1000"):
        client.put("bucket", "key", b"x" * 1100)
    client.put("bucket", "key", b"x" * 900)


def test_what_no_session_would_send_is_refused_by_the_node(simulate: Simulate) -> None:
    sim = simulate(5)
    for name in sim.machines:
        user = User(sim, name)
        assert failed(user.ask(Get(1, "", KEY, DEFAULT, DEFAULT, 5000, False))).code == "invalid"
        assert failed(user.ask(Get(2, "x" * 65, KEY, DEFAULT, DEFAULT, 5000, False))).code == "invalid"
        assert failed(user.ask(Get(3, "bucket", b"", DEFAULT, DEFAULT, 5000, False))).code == "invalid"
        assert (
            failed(user.ask(Get(4, "bucket", b"x" * 1025, DEFAULT, DEFAULT, 5000, False))).code == "invalid"
        )
        short = Put(5, "bucket", KEY, b"v", b"", False, DEFAULT, DEFAULT, b"short", 5000, False)
        assert failed(user.ask(short)).message == "a request id has 16 bytes"
    assert not any(on_disk(sim, KEY).values())


def test_requests_past_the_bound_are_told_when_to_come_again(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(requests_max=10))
    user = User(sim, "n1")
    requests = [user.put_request(b"key %d" % number, b"value") for number in range(15)]
    answers = user.link.ask(*requests, answers=15)
    refused = [failed(answer) for answer in answers if not isinstance(answer, Done)]
    assert len(refused) == 5
    for answer in refused:
        assert (answer.code, answer.retry_after_ms, answer.indeterminate) == ("overloaded", 100, False)
        assert answer.message == "n1: too many requests are under way"
    user.put(KEY, b"value")


def test_reads_that_are_answered_but_wait_for_a_late_copy_do_not_count(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(requests_max=10))
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    sim.set_latency("n1", "n2", (1.0, 1.0))
    for _ in range(40):  # each is answered by n3 in time, and still waits for n2
        assert values(user.get(KEY)) == [b"value"]


def test_reads_that_met_a_write_on_its_way_to_the_disk_do_not_count_once_answered(simulate: Simulate) -> None:
    sim = simulate(1, config=Config(requests_max=10))
    writer, reader = User(sim, "n1"), User(sim, "n1")
    sim.machines["n1"].commit_s = (0.02, 0.02)
    for number in range(30):
        writer.link.send(writer.put_request(KEY, b"%d" % number))
        sim.run_for(0.002)
        assert b"%d" % number in values(reader.get(KEY))


def test_writes_past_what_may_wait_for_the_disk_are_told_when_to_come_again(simulate: Simulate) -> None:
    sim = simulate(1, config=Config(batch_count_max=5))
    user = User(sim, "n1")
    requests = [user.put_request(b"key %d" % number, b"value") for number in range(8)]
    answers = user.link.ask(*requests, answers=8)
    refused = [failed(answer) for answer in answers if not isinstance(answer, Done)]
    assert [answer.code for answer in refused] == ["overloaded"] * 3
    assert refused[0].message == "n1: too many writes wait for the disk"
    user.put(KEY, b"value")


def test_an_overloaded_replica_is_one_disk_less(simulate: Simulate) -> None:
    sim = simulate(0)
    sim.add_node("n1")
    sim.add_node("n2", join=["n1"], config=Config(batch_count_max=1))
    assert sim.run_until(sim.agreed, limit_s=10)
    user = User(sim, "n1")
    sim.machines["n2"].commit_s = (1.0, 1.0)
    requests = [user.put_request(b"key %d" % number, b"value", w=2) for number in range(4)]
    answers = user.link.ask(*requests, answers=4)
    refused = [failed(answer) for answer in answers if not isinstance(answer, Done)]
    assert len(refused) == 3
    assert all(answer.code == "quorum" and answer.indeterminate for answer in refused)


def test_a_session_comes_again_by_itself(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(requests_max=5))
    client = sim.client("n1", "n2", "n3", timeout=30)
    client.get("bucket", "key")
    pending = [client.begin_put("bucket", f"key {number}", number) for number in range(60)]
    while not all(one.done for one in pending):
        sim.run_for(0.1)
    assert all(one.error is None or isinstance(one.error, Overloaded) for one in pending)
    assert sum(one.error is None for one in pending) > 30


def test_bytes_that_are_no_record_are_refused_by_replicas(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    slot, _ = slot_of(sim, KEY)
    ring = sim.machines["n2"].node.membership.fingerprint
    link = sim.stranger("n2")
    assert link.ask(Store(1, ring, slot, KEY, b"nonsense")) == [Stored(1, STATUS_REFUSED)]
    other = Record.unpack(on_disk(sim, KEY)["n2"])
    assert link.ask(Store(2, ring, slot, b"other key", other.pack())) == [Stored(2, STATUS_REFUSED)]


@pytest.mark.parametrize("slot", [b"", b"short", b"x" * 28, b"x" * 600])
def test_a_slot_of_another_length_closes_the_link_and_harms_nobody(simulate: Simulate, slot: bytes) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    ring = sim.machines["n2"].node.membership.fingerprint
    record = on_disk(sim, KEY)["n2"]
    for message in (Read(1, ring, slot), Store(1, ring, slot, KEY, record)):
        link = sim.stranger("n2")
        assert link.ask(message) == []
        assert link.closed == f"not understood: a slot of {len(slot)} bytes"
    assert values(user.get(KEY, r=ALL)) == [b"value"]


@pytest.mark.parametrize("key", [b"", b"x" * 1025])
def test_a_copy_under_an_impossible_key_closes_the_link(simulate: Simulate, key: bytes) -> None:
    sim = simulate(1)
    User(sim, "n1").put(KEY, b"value")
    ring = sim.machines["n1"].node.membership.fingerprint
    link = sim.stranger("n1")
    link.ask(Store(1, ring, b"x" * 27, key, on_disk(sim, KEY)["n1"]))
    assert link.closed == f"not understood: a key of {len(key)} bytes"
