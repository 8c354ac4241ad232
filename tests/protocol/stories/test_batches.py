"""get_many and put_many on a whole cluster: what one question cannot tell is read as any get reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dyno.config import Config
from dyno.errors import QuorumNotMet
from dyno.simulator.client import Client
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import GetMany, ReadMany
from dyno.wire.rows import pack_row
from tests.protocol.stories.cluster_harness import User, on_disk, slot_of

Simulate = Callable[..., Simulation]
KEYS = [f"key {number}" for number in range(40)]


def filled(sim: Simulation) -> Client:
    """A client, linked and with the members known, that wrote every key everywhere."""
    client = sim.client(*sim.machines)
    results = client.put_many("bucket", {key: key.upper() for key in KEYS}, w="all")
    assert list(results) == KEYS
    assert all(result.error is None for result in results.values())
    return client


def values_of(records: dict[Any, Any]) -> dict[Any, Any]:
    return {key: sorted(record.siblings) for key, record in records.items()}


UPPER = {key: [key.upper()] for key in KEYS}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_what_many_wrote_many_read(simulate: Simulate, size: int) -> None:
    sim = simulate(size)
    client = filled(sim)
    records = client.get_many("bucket", [*KEYS, "missing"])
    assert values_of(records) == {**UPPER, "missing": []}
    for key in KEYS:
        _, owners = slot_of(sim, key.encode())
        answered = records[key].replicas.answered
        assert len(answered) == min(2, (size // 2) + 1)
        assert set(answered) <= set(owners)


def test_copies_that_differ_are_merged_and_those_that_were_behind_brought_up_to_date(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    client = filled(sim)
    sim.cut("n1", "n3")
    sim.cut("n2", "n3")
    User(sim, "n1").put(b"key 1", b"\x03", w=1)
    User(sim, "n3").put(b"key 1", b"\x05", w=1)
    User(sim, "n1").put(b"key 2", b"\x03", w=1)
    for other in ("n1", "n2"):
        sim.drop_links(other, "n3")
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert len(set(on_disk(sim, b"key 1").values())) == 2
    records = client.get_many("bucket", KEYS, r="all")
    assert sorted(map(repr, records["key 1"].siblings)) == sorted(["'KEY 1'", "3", "5"])
    assert sorted(map(repr, records["key 2"].siblings)) == sorted(["'KEY 2'", "3"])
    rest = [key for key in KEYS if key not in ("key 1", "key 2")]
    assert values_of({key: records[key] for key in rest}) == {key: UPPER[key] for key in rest}
    sim.run_for(0.5)
    for key in (b"key 1", b"key 2"):
        assert len(set(on_disk(sim, key).values())) == 1


@pytest.mark.parametrize("damaged", ["n1", "n2", "n3"])
def test_a_corrupt_copy_takes_no_other_key_along(simulate: Simulate, damaged: str) -> None:
    sim = simulate(3)
    client = filled(sim)
    slot, _ = slot_of(sim, b"key 1")
    sim.machines[damaged].engine.corrupt(slot)
    records = client.get_many("bucket", KEYS)
    assert values_of(records) == UPPER
    assert damaged not in records["key 1"].replicas.answered


def test_a_dead_owner_is_done_without(simulate: Simulate) -> None:
    sim = simulate(5)
    client = filled(sim)
    sim.kill("n2")
    assert values_of(client.get_many("bucket", KEYS)) == UPPER, "nobody knows yet"
    sim.run_for(30)
    records = client.get_many("bucket", KEYS)
    assert values_of(records) == UPPER
    assert all("n2" not in record.replicas.answered for record in records.values())


def test_with_two_owners_dead_their_keys_fail_and_the_others_are_there_where_only_owners_count(
    simulate: Simulate,
) -> None:
    sim = simulate(5)
    client = filled(sim)
    sim.kill("n2")
    sim.kill("n3")
    sim.run_for(30)
    records = client.get_many("bucket", KEYS, timeout=3, sloppy=False)
    results = client.put_many("bucket", dict.fromkeys(KEYS, 1), timeout=3, sloppy=False)
    short = 0
    for key in KEYS:
        _, owners = slot_of(sim, key.encode())
        if {"n2", "n3"} <= set(owners):
            short += 1
            assert isinstance(records[key].error, QuorumNotMet)
            assert isinstance(results[key].error, QuorumNotMet)
            assert not results[key].error.indeterminate
        else:
            assert records[key].siblings == [key.upper()]
            assert results[key].error is None
    assert 0 < short < len(KEYS)


def test_with_two_owners_dead_others_stand_in_for_them(simulate: Simulate) -> None:
    sim = simulate(5)
    client = filled(sim)
    sim.kill("n2")
    sim.kill("n3")
    sim.run_for(30)
    results = client.put_many("bucket", dict.fromkeys(KEYS, 1), timeout=3)
    assert [key for key in KEYS if results[key].error] == []
    records = client.get_many("bucket", KEYS, timeout=3)
    assert [key for key in KEYS if 1 not in records[key].siblings] == []
    assert any(results[key].replicas.fallbacks for key in KEYS)


def test_a_late_owner_is_done_without(simulate: Simulate) -> None:
    sim = simulate(3)
    client = filled(sim)
    for other in ("n1", "n2"):
        sim.set_latency(other, "n3", (1.0, 1.0))
    client.get_many("bucket", KEYS)
    began = sim.now
    assert values_of(client.get_many("bucket", KEYS)) == UPPER
    assert sim.now - began < 1.0


def test_where_all_nodes_are_far_away_nothing_is_read_twice(simulate: Simulate) -> None:
    sim = simulate(3)
    client = filled(sim)
    for one, other in (("n1", "n2"), ("n1", "n3"), ("n2", "n3")):
        sim.set_latency(one, other, (0.04, 0.04))
    for _ in range(10):
        client.get_many("bucket", KEYS)
    before, began = sim.events, sim.now
    for _ in range(10):
        assert values_of(client.get_many("bucket", KEYS)) == UPPER
    assert sim.now - began < 10 * 0.1
    assert sim.events - before < 10 * len(KEYS)


def test_keys_that_are_just_being_written_are_read_once_they_are_on_the_disk(simulate: Simulate) -> None:
    sim = simulate(3)
    client = filled(sim)
    for machine in sim.machines.values():
        machine.commit_s = (0.03, 0.03)
    contexts = {key: record.context for key, record in client.get_many("bucket", KEYS).items()}
    writing = client.begin_put_many("bucket", dict.fromkeys(KEYS, "new"), contexts=contexts)
    sim.run_for(0.005)
    reading = client.begin_get_many("bucket", KEYS)
    client.wait(writing, reading)
    for key, record in reading.result().items():
        assert record.error is None
        assert record.siblings in (["new"], [key.upper()])
    assert values_of(client.get_many("bucket", KEYS)) == {key: ["new"] for key in KEYS}


def test_more_keys_than_a_node_takes_at_once_are_read_in_the_end(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(requests_max=10))
    client = sim.client("n1", "n2", "n3", timeout=30)
    for key in KEYS:
        client.put("bucket", key, key.upper())
    assert values_of(client.get_many("bucket", KEYS)) == UPPER


def test_values_larger_than_one_answer_are_read_in_several(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1", timeout=30)
    big = {f"big {number}": bytes([number]) * 400_000 for number in range(8)}
    client.put_many("bucket", big, w="all")
    assert {key: record.value for key, record in client.get_many("bucket", [*big]).items()} == big


def test_strangers_who_ask_for_nonsense_lose_their_link_and_nobody_else_is_disturbed(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    client = filled(sim)
    ring = sim.machines["n2"].node.membership.fingerprint
    for nonsense in (
        GetMany(1, "bucket", b"", 2, 0, 5000),
        GetMany(1, "bucket", b"\x81\x80", 2, 0, 5000),
        GetMany(1, "bucket", pack_row([b"key", None]), 2, 0, 5000),
        GetMany(1, "bucket", pack_row([b"key"] * 257), 2, 0, 5000),
        ReadMany(1, ring, b""),
        ReadMany(1, ring, b"x" * 28),
        ReadMany(1, ring, b"x" * 27 * 4097),
    ):
        link = sim.stranger("n2")
        assert link.ask(nonsense) == []
        assert link.closed.startswith("not understood")
    assert values_of(client.get_many("bucket", KEYS)) == UPPER
