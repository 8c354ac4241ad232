"""Buckets that are created while nodes die, links break, disks fill up and others write or join."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dyno.buckets.table import Entry, unpack
from dyno.errors import ConnectFailed, InvalidRequest, QuorumNotMet, RequestTimeout
from dyno.placement.hashing import slot_copies
from dyno.protocol.bucket_register import BUCKETS
from dyno.simulator.simulation import Simulation
from dyno.storage.engine import KEY_END
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import DEFAULT, Done, Get
from tests.protocol.stories.cluster_harness import User, failed

Simulate = Callable[..., Simulation]
KEY = b"key"
WIDE = {"n": 5, "r": "quorum", "w": "quorum", "kind": "siblings"}


def entries(sim: Simulation, node: str) -> dict[str, Entry]:
    """What a node knows of buckets."""
    return dict(sim.machines[node].node._buckets.table.entries)


def on_disk(sim: Simulation, node: str) -> dict[str, Entry]:
    """What a restart would know."""
    kept = unpack(sim.machines[node].engine.get_meta(BUCKETS) or b"")
    return {entry.name: entry for entry in kept}


def copies(sim: Simulation, node: str) -> list[int]:
    """The n of every record on a node's disk."""
    return [slot_copies(slot) for slot, _ in sim.machines[node].engine.scan(b"\0", KEY_END, limit=1000)[0]]


def all_copies(sim: Simulation) -> list[int]:
    return sorted(n for name in sim.machines for n in copies(sim, name))


def reserved_everywhere(sim: Simulation, *nodes: str) -> bool:
    return all(on_disk(sim, node).get("wide", Entry("", (), b"")).proposal for node in nodes)  # type: ignore[arg-type]


# ── what a created bucket is ──


def test_a_bucket_of_five_copies_has_them_on_five_nodes(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client("n1", "n2")
    assert client.create_bucket("wide", n=5) == WIDE
    assert client.buckets() == {"wide": WIDE}
    assert len(client.put("wide", "key", 1, w=5).replicas.answered) == 5
    assert len(client.get("wide", "key").replicas.answered) == 3
    client.put("bucket", "key", 1, w=3)
    assert all_copies(sim) == [3, 3, 3, 5, 5, 5, 5, 5]


def test_in_a_smaller_cluster_n_is_the_number_of_members(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n2")
    client.create_bucket("wide", n=5, w="all")
    assert len(client.put("wide", "key", 1).replicas.answered) == 3
    assert client.get("wide", "key", r="all").value == 1
    with pytest.raises(QuorumNotMet, match="4 owners of the key are needed, 3 of 3 are alive") as caught:
        client.put("wide", "key", 2, w=4)
    assert not caught.value.indeterminate
    with pytest.raises(InvalidRequest, match="r=6 is more than the bucket's n=5"):
        client.get("wide", "key", r=6)


def test_calls_use_the_quorums_of_the_bucket_unless_they_say_otherwise(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client("n1")
    client.create_bucket("wide", n=5, r=1, w="all")
    assert len(client.put("wide", "key", 1).replicas.answered) == 5
    assert len(client.get("wide", "key").replicas.answered) == 1
    assert len(client.get("wide", "key", r=4).replicas.answered) == 4
    sim.kill("n5")
    client.put("wide", "key", 2, w=3)
    with pytest.raises((QuorumNotMet, RequestTimeout)):
        client.put("wide", "key", 3)
    client.delete("wide", "key", w=2)


def test_a_bucket_of_one_copy_has_one_owner(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.create_bucket("thin", n=1)
    for number in range(9):
        client.put("thin", f"key {number}", number)
        assert client.get("thin", f"key {number}").value == number
    assert all_copies(sim) == [1] * 9


def test_created_again_it_must_be_the_same(simulate: Simulate) -> None:
    sim = simulate(3)
    client, other = sim.client("n1"), sim.client("n3")
    client.create_bucket("wide", n=5)
    assert other.create_bucket("wide", n=5) == WIDE
    for properties in ({"n": 4}, {"n": 5, "r": 2}, {"n": 5, "w": "all"}, {}):
        with pytest.raises(InvalidRequest, match="'wide' was created with n=5, r=quorum, w=quorum"):
            other.create_bucket("wide", **properties)
    assert other.buckets() == {"wide": WIDE}


def test_a_cluster_that_restarts_knows_its_buckets(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.create_bucket("wide", n=5)
    client.put("wide", "key", 1, w="all")
    for name in sim.machines:
        sim.kill(name)
    for name in sim.machines:
        sim.restart(name)
    assert sim.run_until(sim.agreed, limit_s=60)
    client = sim.client("n2")
    assert client.buckets() == {"wide": WIDE}
    assert client.get("wide", "key", r="all").value == 1


def test_batches_and_listings_know_the_n_of_the_bucket(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client("n1")
    client.create_bucket("wide", n=5, r="all", w="all")
    client.create_bucket("thin", n=1)
    values = {f"key {number}": number for number in range(30)}
    for bucket in ("wide", "thin", "plain"):
        client.put_many(bucket, values)
        records = client.get_many(bucket, list(values))
        assert {key: record.value for key, record in records.items()} == values
        assert sorted(client.keys(bucket)) == sorted(values)
    assert all(len(one.replicas.answered) == 5 for one in client.get_many("wide", list(values)).values())
    assert all_copies(sim).count(1) == 30
    assert all_copies(sim).count(5) == 150


def test_batches_and_listings_wait_until_a_bucket_is_created(simulate: Simulate) -> None:
    sim = simulate(3)
    client, other = sim.client("n1", timeout=10), sim.client("n2", timeout=10)
    other.keys("wide")
    client.begin_create_bucket("wide", n=2)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2", "n3"), limit_s=1)
    records = other.get_many("wide", ["a", "b"])
    assert not any(record.exists for record in records.values())
    assert sim.run_until(lambda: entries(sim, "n2")["wide"].is_created, limit_s=5)
    client.begin_create_bucket("more", n=2)
    assert sim.run_until(lambda: "more" in on_disk(sim, "n2"), limit_s=1)
    assert other.keys("more") == []


# ── data ──


def test_a_bucket_that_holds_data_keeps_the_defaults(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client("n1", "n2", "n3", "n4", "n5")
    client.put("bucket", "key", 1, w="all")
    for name in sim.machines:  # whether this one has a copy or not
        asked = sim.client(name)
        for properties in ({"n": 5}, {"r": 1}):
            with pytest.raises(InvalidRequest, match="'bucket' holds data, so it keeps the defaults"):
                asked.create_bucket("bucket", **properties)
    assert client.get("bucket", "key", r="all").value == 1
    assert client.buckets() == {}
    assert client.create_bucket("bucket") == {**WIDE, "n": 3}
    assert client.create_bucket("wide", n=5) == WIDE  # others are looked for, and not found
    assert all(not entries(sim, name)["wide"].proposal for name in sim.machines)


def test_a_failed_creation_of_a_bucket_with_data_holds_nobody_up(simulate: Simulate) -> None:
    """Those who have no copy of the bucket are not even asked to reserve it."""
    sim = simulate(5)
    client = sim.client("n1", "n2", "n3", "n4", "n5")
    client.put("bucket", "key", 1, w="all")
    without = next(name for name in sim.machines if not copies(sim, name))
    pending = sim.client(without).begin_create_bucket("bucket", n=5)
    while not pending.done:
        sim.run_for(0.0001)
        assert all(not entries(sim, name) for name in sim.machines)
    assert isinstance(pending.error, InvalidRequest)


@pytest.mark.parametrize("delay_s", [number * 0.0003 for number in range(26)])
def test_a_first_write_and_a_creation_at_once_leave_records_of_one_n(
    simulate: Simulate, delay_s: float
) -> None:
    sim = simulate(3)
    writer, creator = sim.client("n2", timeout=20), sim.client("n1", timeout=20)
    sim.run_for(0.1)
    creating = creator.begin_create_bucket("wide", n=2)
    sim.run_for(delay_s)
    writing = writer.begin_put("wide", "key", 1)
    writer.wait(writing)
    sim.run_until(lambda: creating.done, limit_s=30)
    found = {n for name in sim.machines for n in copies(sim, name)}
    if creating.error is None:
        assert found == {2}
    else:
        assert isinstance(creating.error, InvalidRequest)
        assert found == {3}
    assert sim.client("n3").get("wide", "key", r="all").value == 1


def test_a_read_under_way_is_planned_again_once_its_bucket_is_reserved(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1", "wide")
    client = sim.client("n2")
    sim.cut("n1", "n2")
    sim.cut("n1", "n3")
    user.link.send(Get(100, "wide", KEY, 2, DEFAULT, 5000, False))
    sim.run_for(0.01)
    pending = client.begin_create_bucket("wide", n=2)
    sim.run_for(0.01)
    sim.heal_all()
    client.wait(pending)
    assert sim.run_until(lambda: bool(user.link.heard[1:]), limit_s=5)
    answer = user.link.heard[1]
    assert not isinstance(answer, Done)
    assert getattr(answer, "code", "ring") == "ring"


# ── who cannot be reached ──


def test_creating_needs_every_member(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2")
    sim.kill("n3")
    sim.run_for(20)
    with pytest.raises(QuorumNotMet, match="creating a bucket needs every member; dead: n3") as caught:
        client.create_bucket("wide", n=5)
    assert (caught.value.needed, caught.value.indeterminate) == (3, False)
    client.put("wide", "key", 1)  # it is nobody's but the default one
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    assert client.buckets() == {}
    assert client.create_bucket("other", n=5) == WIDE


def test_a_member_that_falls_silent_is_waited_for_and_then_the_name_is_free_again(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.machines["n3"].commit_s = (0.1, 0.1)
    client = sim.client("n1", timeout=4)
    pending = client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2"), limit_s=1)
    sim.isolate("n3")
    writer = sim.client("n2", timeout=10)
    writing = writer.begin_put("wide", "key", 1)
    sim.run_for(1)
    assert not writing.done
    sim.run_until(lambda: pending.done, limit_s=10)
    assert isinstance(pending.error, QuorumNotMet)
    assert "no answer from n3" in str(pending.error) or "out of reach: n3" in str(pending.error)
    assert not pending.error.indeterminate
    writer.wait(writing)
    sim.heal_all()
    sim.run_for(10)
    assert all(not entries(sim, name) for name in sim.machines)
    assert writer.get("wide", "key", r="all").value == 1


def test_an_answer_that_is_lost_with_its_link_is_asked_for_again(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    pending = client.begin_create_bucket("wide", n=5)
    for _ in range(8):
        sim.run_for(0.001)
        sim.drop_links("n1", "n2")
        sim.drop_links("n1", "n3")
    client.wait(pending)
    sim.run_for(3)
    assert all(entries(sim, name)["wide"].is_created for name in sim.machines)


def test_a_member_whose_disk_is_full_cannot_agree(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.machines["n3"].engine.full = True
    client = sim.client("n1", timeout=4)
    with pytest.raises(QuorumNotMet, match="no answer from n3 in time") as caught:
        client.create_bucket("wide", n=5)
    assert not caught.value.indeterminate
    sim.machines["n3"].engine.full = False
    sim.run_for(3)
    assert all(not entries(sim, name) for name in sim.machines)
    assert client.create_bucket("wide", n=5) == WIDE


def test_a_coordinator_whose_disk_is_full_decides_nothing(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.machines["n1"].engine.full = True
    client = sim.client("n1", timeout=6)
    with pytest.raises(QuorumNotMet, match=r"'wide' is being created; no word yet from n2, n3") as caught:
        client.create_bucket("wide", n=5)
    assert caught.value.indeterminate
    assert entries(sim, "n2")["wide"].proposal
    assert not on_disk(sim, "n1")
    sim.machines["n1"].engine.full = False
    sim.run_for(5)
    assert all(on_disk(sim, name)["wide"].is_created for name in sim.machines)


# ── coordinators that die ──


def test_what_a_coordinator_that_died_had_not_decided_is_withdrawn_when_it_is_back(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2", "n3"), limit_s=1)
    client.close()  # it would ask again
    sim.kill("n1", commits=False)
    sim.run_for(3)
    answer = failed(User(sim, "n2", "wide").ask_put(KEY, b"value"))
    assert (answer.code, answer.message) == (
        "ring",
        "bucket 'wide' is being created by n1; try again in a moment",
    )
    assert failed(User(sim, "n3", "wide").ask_get(KEY)).code == "ring"
    User(sim, "n3").put(KEY, b"value")  # other buckets are not concerned
    sim.restart("n1")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    assert all(not entries(sim, name) for name in sim.machines)
    User(sim, "n2", "wide").put(KEY, b"value")


def test_what_a_coordinator_that_died_had_decided_stands(simulate: Simulate) -> None:
    """It died before it could tell anybody."""
    sim = simulate(3)
    client = sim.client("n1")
    client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: bool(entries(sim, "n2") and entries(sim, "n3")), limit_s=1)
    sim.cut_one_way("n1", "n2")
    sim.cut_one_way("n1", "n3")
    assert sim.run_until(
        lambda: on_disk(sim, "n1").get("wide") == entries(sim, "n1")["wide"].created(), limit_s=1
    )
    client.close()
    for name in ("n2", "n3"):
        sim.drop_links("n1", name)  # with what was held up on its way
    sim.kill("n1")
    sim.heal_all()
    assert not entries(sim, "n2")["wide"].is_created
    sim.run_for(5)
    assert not entries(sim, "n2")["wide"].is_created
    sim.restart("n1")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    assert all(on_disk(sim, name)["wide"].is_created for name in sim.machines)
    assert sim.client("n3").buckets() == {"wide": WIDE}


def test_whoever_knows_that_a_bucket_is_created_tells_those_in_doubt(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2", "n3"), limit_s=1)
    sim.cut("n1", "n3")
    assert sim.run_until(lambda: entries(sim, "n2")["wide"].is_created, limit_s=5)
    sim.kill("n1")
    sim.run_for(2)
    assert on_disk(sim, "n3")["wide"].is_created


@pytest.mark.parametrize("commits", [False, True])
def test_wherever_a_coordinator_dies_all_agree_once_it_is_back(simulate: Simulate, commits: bool) -> None:
    for number in range(36):
        sim = simulate(3)
        client = sim.client("n1", timeout=20)
        sim.run_for(0.1)
        pending = client.begin_create_bucket("wide", n=5)
        sim.run_for(number * 0.0005)
        sim.kill("n1", commits=commits)
        sim.run_for(0.5)
        sim.restart("n1")
        assert sim.run_until(sim.agreed, limit_s=60)
        sim.run_until(lambda p=pending: p.done, limit_s=30)
        sim.run_for(2)
        known = [on_disk(sim, name) for name in sim.machines]
        assert known[0] == known[1] == known[2]
        assert known[0]["wide"].is_created  # for the client asks again
        assert pending.error is None
        sim.client("n2").put("wide", "key", 1, w="all")


@pytest.mark.parametrize("victim", ["n2", "n3"])
def test_wherever_a_member_dies_all_agree_once_it_is_back(simulate: Simulate, victim: str) -> None:
    ends = []
    for number in range(30):
        sim = simulate(3)
        client = sim.client("n1", timeout=10)
        sim.run_for(0.1)
        pending = client.begin_create_bucket("wide", n=5)
        sim.run_for(number * 0.0005)
        sim.kill(victim)
        sim.run_until(lambda p=pending: p.done, limit_s=30)
        ends.append(pending.error is None)
        sim.restart(victim)
        assert sim.run_until(sim.agreed, limit_s=60)
        sim.run_for(2)
        known = [on_disk(sim, name) for name in sim.machines]
        assert known[0] == known[1] == known[2]
        assert pending.error is None or isinstance(pending.error, QuorumNotMet)
        assert bool(known[0]) == (pending.error is None)
    assert True in ends
    assert False in ends


def test_a_creation_whose_coordinator_lost_its_disk_is_settled_by_creating_anew(simulate: Simulate) -> None:
    """Nobody can say whether it had been decided, so the name stays closed until all agree to something."""
    sim = simulate(3)
    client = sim.client("n2")
    sim.client("n2").create_bucket("other", n=2)
    creator = sim.client("n3")
    creator.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n1", "n2"), limit_s=1)
    creator.close()
    sim.kill("n3", commits=False)
    sim.machines["n3"].engine = MemoryEngine()
    sim.run_for(15)
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(3)
    for name in sim.machines:  # the newcomer knows of it, too
        answer = failed(User(sim, name, "wide").ask_put(KEY, b"value"))
        assert answer.code == "ring"
        assert answer.message == (
            "the creation of bucket 'wide' was broken off; create it again to settle it"
        )
    sim.machines["n1"].engine.full = True
    with pytest.raises(QuorumNotMet):
        client.create_bucket("wide", n=4)
    sim.machines["n1"].engine.full = False
    sim.run_for(3)
    assert failed(User(sim, "n2", "wide").ask_put(KEY, b"value")).code == "ring"  # as doubtful as before
    assert entries(sim, "n2")["wide"].doubtful
    client.create_bucket("wide", n=2)
    assert {name: one["n"] for name, one in client.buckets().items()} == {"other": 2, "wide": 2}
    client.put("wide", "key", 1, w="all")


def test_creating_anew_with_the_defaults_does_not_open_a_name_in_doubt(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n2")
    creator = sim.client("n3")
    creator.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n1", "n2"), limit_s=1)
    creator.close()
    sim.kill("n3", commits=False)
    sim.machines["n3"].engine = MemoryEngine()
    sim.run_for(15)
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(3)
    sim.machines["n1"].engine.full = True
    with pytest.raises(QuorumNotMet):
        client.create_bucket("wide")
    sim.machines["n1"].engine.full = False
    sim.run_for(3)
    assert failed(User(sim, "n2", "wide").ask_put(KEY, b"value")).code == "ring"
    assert client.create_bucket("wide")["n"] == 3
    client.put("wide", "key", 1, w="all")


def test_a_creation_with_the_defaults_never_holds_data_up(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    client.put("wide", "old", 1)
    client.begin_create_bucket("wide")
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2", "n3"), limit_s=1)
    sim.kill("n1", commits=False)
    sim.run_for(0.1)
    User(sim, "n2", "wide").put(KEY, b"value")


# ── several at once ──


@pytest.mark.parametrize("seed", range(10))
def test_creators_of_the_same_all_succeed(simulate: Simulate, seed: int) -> None:
    sim = simulate(3, seed=seed)
    clients = [sim.client(name, timeout=10) for name in sim.machines]
    sim.run_for(0.1)
    pending = [client.begin_create_bucket("wide", n=5) for client in clients]
    assert clients[0].wait(*pending) == [WIDE] * 3


@pytest.mark.parametrize("seed", range(10))
def test_of_creators_of_different_buckets_of_one_name_one_wins(simulate: Simulate, seed: int) -> None:
    sim = simulate(3, seed=seed)
    clients = [sim.client(name, timeout=10) for name in sim.machines]
    sim.run_for(0.1)
    pending = [client.begin_create_bucket("wide", n=number + 4) for number, client in enumerate(clients)]
    assert sim.run_until(lambda: all(one.done for one in pending), limit_s=20)
    winners = [number for number, one in enumerate(pending) if one.error is None]
    assert len(winners) == 1
    assert all(one.error is None or isinstance(one.error, InvalidRequest) for one in pending)
    sim.run_for(1)
    assert {entries(sim, name)["wide"].properties.n for name in sim.machines} == {winners[0] + 4}


def test_many_buckets_at_once_are_all_created(simulate: Simulate) -> None:
    sim = simulate(3)
    clients = [sim.client(name, timeout=10) for name in sim.machines]
    pending = [
        clients[number % 3].begin_create_bucket(f"bucket {number:02}", n=1 + number % 9)
        for number in range(60)
    ]
    clients[0].wait(*pending)
    listed = clients[1].buckets()
    assert list(listed) == [f"bucket {number:02}" for number in range(60)]
    assert [one["n"] for one in listed.values()] == [1 + number % 9 for number in range(60)]


def test_there_are_at_most_buckets_max(simulate: Simulate) -> None:
    from dyno.config import Config

    sim = simulate(2, config=Config(buckets_max=2))
    client = sim.client("n1")
    client.create_bucket("one", n=1)
    client.create_bucket("two", n=1)
    with pytest.raises(InvalidRequest, match="n1 has as many buckets as buckets_max=2 allows"):
        client.create_bucket("three", n=1)
    client.create_bucket("two", n=1)


# ── joining ──


def test_a_node_that_joins_knows_every_bucket_before_it_has_a_seat(simulate: Simulate) -> None:
    sim = simulate(2)
    sim.client("n1").create_bucket("wide", n=5)
    machine = sim.add_node("n3", join=["n2"], wait=False)
    assert sim.run_until(lambda: machine.node.joined, limit_s=10)
    sim.cut("n3", "n1")
    sim.cut("n3", "n2")  # it hears nothing more
    assert entries(sim, "n3")["wide"].is_created
    assert sim.run_until(lambda: machine.ready, limit_s=10)
    assert on_disk(sim, "n3")["wide"].is_created
    sim.client("n3").put("wide", "key", 1, w=1)
    assert copies(sim, "n3") == [5]
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(1)
    assert sim.client("n1").get("wide", "key", r=3).value == 1


def test_a_node_that_joins_in_the_middle_of_a_creation_takes_no_data_of_it(simulate: Simulate) -> None:
    sim = simulate(2)
    client = sim.client("n1")
    client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2"), limit_s=1)
    client.close()
    sim.kill("n1", commits=False)
    machine = sim.add_node("n3", join=["n2"], wait=False)
    sim.run_for(2)
    assert not machine.node.joined  # n1 has to assent as well
    sim.restart("n1")
    sim.machines["n1"].commit_s = (0.01, 0.01)
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(2)
    assert all(not entries(sim, name) for name in sim.machines)
    sim.client("n3").create_bucket("wide", n=4)
    assert all(entries(sim, name)["wide"].properties.n == 4 for name in sim.machines)


def test_creating_waits_for_who_is_joining(simulate: Simulate) -> None:
    sim = simulate(2)
    for name in ("n1", "n2"):
        sim.machines[name].commit_s = (0.02, 0.02)
    machine = sim.add_node("n3", join=["n1"], wait=False)
    assert sim.run_until(lambda: sim.machines["n1"].node.membership.admitting, limit_s=10)
    client = sim.client("n1", timeout=10)
    assert client.create_bucket("wide", n=5) == WIDE
    assert machine.ready
    assert entries(sim, "n3")["wide"].is_created


@pytest.mark.parametrize("delay_s", [number * 0.002 for number in range(25)])
def test_joining_and_creating_at_once_come_one_after_the_other(simulate: Simulate, delay_s: float) -> None:
    sim = simulate(2)
    client = sim.client("n2", timeout=20)
    sim.run_for(0.1)
    machine = sim.add_node("n3", join=["n1"], wait=False)
    sim.run_for(delay_s)
    client.create_bucket("wide", n=5)
    assert sim.run_until(lambda: machine.ready, limit_s=20)
    assert sim.run_until(sim.agreed, limit_s=20)
    assert all(entries(sim, name)["wide"].is_created for name in sim.machines)


# ── clients ──


def test_a_creation_whose_link_is_lost_is_sent_again_and_ends_well(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", timeout=10)
    pending = client.begin_create_bucket("wide", n=5)
    sim.run_for(0.002)
    sim.drop_links("client-1", "n1")
    assert client.wait(pending) == [WIDE]


def test_what_became_of_a_creation_whose_node_is_gone_for_good_is_indeterminate(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", timeout=3)
    pending = client.begin_create_bucket("wide", n=5)
    assert sim.run_until(lambda: reserved_everywhere(sim, "n2", "n3"), limit_s=1)
    sim.kill("n1")
    sim.run_for(5)
    assert isinstance(pending.error, QuorumNotMet | RequestTimeout)
    assert not isinstance(pending.error, ConnectFailed)
    assert pending.error.indeterminate


def test_what_can_be_no_bucket_is_refused_before_anything_is_sent(simulate: Simulate) -> None:
    sim = simulate(1)
    client = sim.client("n1")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"n": 0}, "n=0 is not possible"),
        ({"n": 10}, "n=10 is not possible"),
        ({"n": 2, "r": 3}, "r=3 is more than the bucket's n=2"),
        ({"kind": "lww"}, "there is no bucket kind 'lww'"),
    ]
    for properties, said in wrong:
        with pytest.raises(InvalidRequest, match=said):
            client.create_bucket("wide", **properties)
