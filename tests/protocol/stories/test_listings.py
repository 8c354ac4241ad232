"""Listing a bucket's keys, whatever the replicas have missed, lost or damaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest

from dyno.config import Config
from dyno.errors import DynoError, QuorumNotMet, RequestTimeout
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, DEFAULT, Failed, Listed, ListKeys, Message
from dyno.wire.pages import unpack_keys
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of

Simulate = Callable[..., Simulation]
SEEDS = range(12)
# So that who missed something has missed it for good.
NO_HINTS = Config(hints_bytes_max=1, exchange_interval_s=86_400.0)


def page(user: User, partition: int, after: bytes = b"", *, r: int = DEFAULT, limit: int = 256) -> Message:
    number = user._next_id()
    return user.ask(ListKeys(number, user.bucket, partition, after, limit, r, DEFAULT, 5000, False))


def walk(user: User, *, partitions: int = 64, r: int = DEFAULT, limit: int = 256) -> list[bytes]:
    """All keys, each page asked of one certain node."""
    found = []
    for partition in range(partitions):
        after = b""
        while True:
            answer = page(user, partition, after, r=r, limit=limit)
            assert isinstance(answer, Listed), answer
            found += unpack_keys(answer.keys)
            after = answer.cursor
            if not after:
                break
    return found


def apart(sim: Simulation, node: str, what: Callable[[], Any]) -> None:
    """Something that a node misses for good, and all links whole again."""
    others = [name for name in sim.machines if name != node]
    for other in others:
        sim.cut(node, other)
    what()
    for other in others:
        sim.drop_links(node, other)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)


def fill(sim: Simulation, count: int, *, node: str = "n1", bucket: str = "bucket") -> list[str]:
    client = sim.client(node)
    keys = [f"key {number}" for number in range(count)]
    client.wait(*[client.begin_put(bucket, key, key) for key in keys])
    return keys


# ── what a user sees ──


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_every_key_of_the_bucket_is_listed_once(simulate: Simulate, size: int) -> None:
    sim = simulate(size)
    keys = fill(sim, 300)
    fill(sim, 20, bucket="other")
    client = sim.client("n1")
    assert client.keys("empty") == []
    found = client.keys("bucket")
    assert sorted(map(str, found)) == sorted(keys)
    assert len(client.keys("other")) == 20


def test_keys_are_text_where_they_are_utf_8_and_bytes_where_not(simulate: Simulate) -> None:
    client = simulate(3).client("n1")
    for key in ("ü", b"\xff\x00", b"plain", "two\nlines"):
        client.put("bucket", key, 1)
    assert set(client.keys("bucket")) == {"ü", b"\xff\x00", "plain", "two\nlines"}


def test_deleted_keys_do_not_show_and_siblings_show_as_one_key(simulate: Simulate) -> None:
    client = simulate(3).client("n1")
    for key in ("kept", "deleted", "again"):
        client.put("bucket", key, 1)
    client.put("bucket", "kept", 2)
    client.delete("bucket", "deleted")
    client.delete("bucket", "again")
    client.put("bucket", "again", 3)
    assert sorted(map(str, client.keys("bucket"))) == ["again", "kept"]


def test_a_large_partition_is_walked_by_its_cursors(simulate: Simulate) -> None:
    sim = simulate(3, partitions=1)
    keys = sorted(key.encode() for key in fill(sim, 700))
    user = User(sim, "n1")
    assert sorted(walk(user, partitions=1)) == keys
    assert sorted(walk(user, partitions=1, limit=64)) == keys
    answer = page(user, 0, limit=10**6)
    assert isinstance(answer, Listed)
    assert len(unpack_keys(answer.keys)) == 256
    assert sorted(map(str, sim.client("n2").keys("bucket"))) == [key.decode() for key in keys]


def test_what_was_acknowledged_before_shows_and_what_nobody_was_told_of_need_not(simulate: Simulate) -> None:
    sim = simulate(3)
    for machine in sim.machines.values():
        machine.commit_s = (0.1, 0.1)
    sim.machines["n3"].commit_s = (0.5, 0.5)
    client = sim.client("n1")
    for number in range(5):
        client.put("bucket", f"key {number}", 1)
        assert len(client.keys("bucket")) == number + 1
    for number in range(5):
        client.delete("bucket", f"key {number}")
        assert len(client.keys("bucket")) == 4 - number


# ── replicas that have drifted apart ──


@pytest.mark.parametrize("coordinator", ["n1", "n2", "n3"])
def test_keys_that_a_replica_has_missed_show_and_it_is_repaired(simulate: Simulate, coordinator: str) -> None:
    sim = simulate(3, config=NO_HINTS)
    both = fill(sim, 20)
    client = sim.client("n1")
    apart(sim, "n3", lambda: client.put("bucket", "missed", 1))
    assert on_disk(sim, b"missed")["n3"] == b""
    user = User(sim, coordinator)
    assert sorted(walk(user)) == sorted([*(key.encode() for key in both), b"missed"])
    assert walk(user, r=ALL)
    sim.run_for(0.5)
    assert len(set(on_disk(sim, b"missed").values())) == 1


@pytest.mark.parametrize("coordinator", ["n1", "n2", "n3"])
def test_keys_whose_delete_a_replica_has_missed_never_show(simulate: Simulate, coordinator: str) -> None:
    sim = simulate(3, config=NO_HINTS)
    fill(sim, 20)
    client = sim.client("n1")
    apart(sim, "n3", lambda: [client.delete("bucket", f"key {number}") for number in range(20)])
    user = User(sim, coordinator)
    for r in (DEFAULT, ALL):
        assert walk(user, r=r) == []
    assert len(walk(User(sim, "n3"), r=1)) in (0, 20)


def test_two_deletes_that_did_not_know_of_each_other_leave_nothing(simulate: Simulate) -> None:
    """Each replica has a value that the other one has deleted: both are alive, and together they are not."""
    sim = simulate(2, config=NO_HINTS)
    one, other = User(sim, "n1"), User(sim, "n2")
    first, second = one.put(b"key", b"one", w=ALL), other.put(b"key", b"other", w=ALL)
    sim.cut("n1", "n2")
    one.link.send(one.delete_request(b"key", first, w=1))
    other.link.send(other.delete_request(b"key", second, w=1))
    sim.run_for(0.1)
    sim.drop_links("n1", "n2")
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    records = on_disk(sim, b"key")
    assert records["n1"] != records["n2"]
    assert walk(one, r=1) == walk(other, r=1) == [b"key"]
    assert walk(one) == walk(other) == []


class Fates:
    """What is certain of each key, as its writers know it."""

    def __init__(self) -> None:
        self.live: dict[bytes, bool | None] = {}  # None: nobody can tell
        self._ghosts: set[bytes] = set()  # a put of these may be on some disk, unread by anybody

    def put(self, client: Any, key: bytes, value: float) -> None:
        try:
            client.put("bucket", key, value)
            self.live[key] = True
        except DynoError as error:
            if getattr(error, "indeterminate", False):
                self._ghosts.add(key)
                self.live[key] = self.live.get(key) or None

    def delete(self, client: Any, key: bytes) -> None:
        try:
            client.delete("bucket", key)
            self.live[key] = None if key in self._ghosts else False
        except DynoError as error:
            if getattr(error, "indeterminate", False) and self.live.get(key):
                self.live[key] = None


@pytest.mark.parametrize("seed", SEEDS)
def test_a_listing_shows_what_was_written_and_never_what_was_deleted(simulate: Simulate, seed: int) -> None:
    """Writes and deletes, each round missed by another node; then every node lists, and reads every key."""
    random = Random(seed)
    sim = simulate(random.choice([3, 3, 4, 5]), seed=seed)
    names, fates = list(sim.machines), Fates()
    keys = [b"key %d" % number for number in range(12)]

    def write(client: Any) -> None:
        for _ in range(8):
            if random.random() < 0.5:
                fates.put(client, random.choice(keys), random.random())
            else:
                fates.delete(client, random.choice(keys))

    for _ in range(6):
        lonely = random.choice(names)
        client = sim.client(*[name for name in names if name != lonely], timeout=20)
        apart(sim, lonely, partial(write, client))
        client.close()
    certain = [key for key, live in fates.live.items() if live is not None]
    assert certain
    for name in names:
        listed = walk(User(sim, name))
        assert len(listed) == len(set(listed))
        assert all((key in listed) is fates.live[key] for key in certain)
    agreed = walk(User(sim, names[0]), r=ALL)
    for name in names:
        user = User(sim, name)
        assert sorted(walk(user)) == sorted(agreed)
        assert sorted(agreed) == [key for key in sorted(keys) if user.get(key).siblings]


# ── nodes that are down, late or cut off ──


def test_one_node_down_is_not_missed(simulate: Simulate) -> None:
    sim = simulate(3)
    keys = fill(sim, 50)
    sim.kill("n2")
    client = sim.client("n1", "n3")
    assert sorted(map(str, client.keys("bucket"))) == sorted(keys)
    with pytest.raises((QuorumNotMet, RequestTimeout)) as caught:
        client.keys("bucket", r="all", timeout=3)
    assert caught.value.needed == 3
    sim.restart("n2")
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sorted(map(str, client.keys("bucket", r="all"))) == sorted(keys)


def test_two_nodes_down_leave_what_one_replica_has(simulate: Simulate) -> None:
    sim = simulate(3)
    keys = fill(sim, 20)
    sim.run_for(1)
    sim.kill("n2")
    sim.kill("n3")
    client = sim.client("n1")
    assert sorted(map(str, client.keys("bucket", r=1))) == sorted(keys)
    with pytest.raises((QuorumNotMet, RequestTimeout)):
        client.keys("bucket", timeout=3)


@pytest.mark.parametrize("after_s", [0.001, 0.004, 0.008, 0.012])
def test_a_node_that_dies_during_a_listing_is_overtaken(simulate: Simulate, after_s: float) -> None:
    sim = simulate(5)
    keys = fill(sim, 200)
    client = sim.client("n1", "n2", "n3")
    client.keys("bucket")
    sim._kernel.after(after_s, sim.kill, "n2")
    assert sorted(map(str, client.keys("bucket"))) == sorted(keys)
    assert not sim.machines["n2"].running


def test_a_late_replica_is_overtaken(simulate: Simulate) -> None:
    sim = simulate(3)
    keys = fill(sim, 20)
    sim.set_latency("n1", "n2", (1.0, 1.0))
    user = User(sim, "n1")
    slot, _ = slot_of(sim, keys[0].encode())
    began = sim.now
    answer = page(user, slot[0] << 8 | slot[1])
    assert isinstance(answer, Listed)
    assert keys[0].encode() in unpack_keys(answer.keys)
    assert sim.now - began < 0.2
    sim.run_for(3)  # the late page comes, and means nothing


def test_a_node_that_is_cut_off_fails_in_time_and_lists_again_when_it_is_back(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(get_timeout_s=1.0))
    keys = fill(sim, 20)
    user = User(sim, "n1")
    for other in ("n2", "n3"):
        sim.cut("n1", other)
    began = sim.now
    assert failed(page(user, 0)).code == "quorum"
    assert sim.now - began == pytest.approx(1.0, abs=0.1)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sorted(walk(user)) == sorted(key.encode() for key in keys)


def test_a_node_outside_a_partitions_owners_passes_the_listing_on(simulate: Simulate) -> None:
    sim = simulate(5)
    keys = fill(sim, 100)
    for name in sim.machines:
        assert sorted(walk(User(sim, name))) == sorted(key.encode() for key in keys)


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.05, 0.2, 0.5])
def test_a_listing_while_a_node_joins_is_planned_again(simulate: Simulate, after_s: float) -> None:
    sim = simulate(2)
    client = sim.client("n1", "n2")
    sim.add_node("n3", join=["n1"], wait=False)
    sim.run_for(after_s)
    assert client.keys("bucket") == []
    assert sim.run_until(lambda: sim.machines["n3"].ready and sim.agreed(), limit_s=60)
    client.put("bucket", "key", 1)
    assert client.keys("bucket") == ["key"]


# ── damage ──


@pytest.mark.usefixtures("unhealed")
@pytest.mark.parametrize("damaged", ["n1", "n2", "n3"])
@pytest.mark.parametrize("coordinator", ["n1", "n2"])
def test_a_damaged_copy_is_no_absence(simulate: Simulate, damaged: str, coordinator: str) -> None:
    sim = simulate(3)
    user = User(sim, coordinator)
    user.put(b"key", b"value", w=ALL)
    user.put(b"gone", b"value", w=ALL)
    user.delete(b"gone", user.token(b"gone", user.get(b"gone").context), w=ALL)
    for key in (b"key", b"gone"):
        slot, _ = slot_of(sim, key)
        sim.machines[damaged].engine.corrupt(slot)
    for r in (1, DEFAULT):
        assert walk(user, r=r) == [b"key"]
    partition = slot_of(sim, b"key")[0]
    answer = failed(page(user, partition[0] << 8 | partition[1], r=ALL))
    assert (answer.code, answer.needed) == ("quorum", 3)


def test_a_damaged_copy_that_only_a_third_replica_knows_is_found_there(simulate: Simulate) -> None:
    """n1 has lost the key to damage, n2 has never heard of it: n3 has to be asked."""
    sim = simulate(3)
    client = sim.client("n1", "n3")
    apart(sim, "n2", lambda: client.put("bucket", "key", 1))
    slot, _ = slot_of(sim, b"key")
    sim.machines["n1"].engine.corrupt(slot)
    for name in sim.machines:
        assert walk(User(sim, name)) == [b"key"], name


def test_damage_of_the_only_copy_is_an_error(simulate: Simulate) -> None:
    sim = simulate(1)
    user = User(sim, "n1")
    user.put(b"key", b"value")
    slot, _ = slot_of(sim, b"key")
    sim.machines["n1"].engine.corrupt(slot)
    answer = page(user, slot[0] << 8 | slot[1])
    assert isinstance(answer, Failed)
    assert answer.code == "quorum"
    others = [number for number in range(64) if number != (slot[0] << 8 | slot[1])]
    assert all(isinstance(page(user, number), Listed) for number in others[:5])
