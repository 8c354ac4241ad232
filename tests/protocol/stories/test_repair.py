"""Replicas that were behind, or are damaged, and what reads and writes make of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.causality.record import Record
from dyno.config import Config
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, Found
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"
# So that who missed something has missed it for good.
NO_HINTS = Config(hints_bytes_max=1, exchange_interval_s=86_400.0)


def behind(sim: Simulation, node: str) -> None:
    """One write that a node has missed for good, and all links whole again."""
    others = [name for name in sim.machines if name != node]
    for other in others:
        sim.cut(node, other)
    User(sim, others[0]).put(KEY, b"missed")
    for other in others:
        sim.drop_links(node, other)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    assert on_disk(sim, KEY)[node] == b""


def test_a_read_that_meets_a_replica_that_was_behind_brings_it_up_to_date(simulate: Simulate) -> None:
    sim = simulate(3, config=NO_HINTS)
    behind(sim, "n3")
    assert values(User(sim, "n1").get(KEY, r=ALL)) == [b"missed"]
    sim.run_for(0.1)
    records = on_disk(sim, KEY)
    assert records["n3"] == records["n1"] != b""


def test_a_coordinator_that_was_behind_answers_what_the_others_know_and_repairs_itself(
    simulate: Simulate,
) -> None:
    sim = simulate(3, config=NO_HINTS)
    behind(sim, "n3")
    assert values(User(sim, "n3").get(KEY)) == [b"missed"]
    sim.run_for(0.1)
    assert len(set(on_disk(sim, KEY).values())) == 1


def test_a_replica_whose_answer_comes_after_the_verdict_is_repaired_too(simulate: Simulate) -> None:
    sim = simulate(3, config=NO_HINTS)
    behind(sim, "n3")
    user = User(sim, "n1")
    sim.set_latency("n1", "n2", (0.1, 0.1))
    sim.set_latency("n1", "n3", (0.2, 0.2))
    began = sim.now
    assert values(user.get(KEY)) == [b"missed"]
    assert sim.now - began < 0.3  # n3, asked for being n2's hedge or first, has not answered yet
    sim.run_for(1)
    assert len(set(on_disk(sim, KEY).values())) == 1


def test_a_read_of_a_key_that_is_just_being_written_waits_for_the_disk(simulate: Simulate) -> None:
    sim = simulate(1)
    sim.machines["n1"].commit_s = (0.03, 0.03)
    writer, reader = User(sim, "n1"), User(sim, "n1")
    writer.link.send(writer.put_request(KEY, b"value"))
    sim.run_for(0.01)
    assert not on_disk(sim, KEY)["n1"]
    assert values(reader.get(KEY)) == [b"value"]
    assert on_disk(sim, KEY)["n1"]


# ── damage ──


def corrupt(sim: Simulation, node: str) -> None:
    slot, _ = slot_of(sim, KEY)
    sim.machines[node].engine.corrupt(slot)


@pytest.mark.usefixtures("unhealed")
@pytest.mark.parametrize("damaged", ["n1", "n2", "n3"])
def test_a_corrupt_copy_is_no_answer_and_the_other_two_are_enough(simulate: Simulate, damaged: str) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"value", w=ALL)
    corrupt(sim, damaged)
    for r in (1, 2):
        found = user.ask_get(KEY, r=r)
        assert isinstance(found, Found)
        assert values(Record.unpack(found.record)) == [b"value"]
        assert damaged not in found.answered.split(",")
    answer = failed(user.ask_get(KEY, r=3))
    assert (answer.code, answer.needed) == ("quorum", 3)
    assert damaged not in answer.nodes.split(",")


@pytest.mark.usefixtures("unhealed")
@pytest.mark.parametrize("damaged", ["n2", "n3"])
def test_a_write_goes_on_beside_a_corrupt_copy(simulate: Simulate, damaged: str) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    token = user.put(KEY, b"one", w=ALL)
    corrupt(sim, damaged)
    user.put(KEY, b"two", token)
    assert values(user.get(KEY)) == [b"two"]
    answer = failed(user.ask_put(KEY, b"three", w=3))
    assert (answer.code, answer.indeterminate) == ("quorum", True)
    assert damaged in answer.message
    assert damaged not in answer.nodes.split(",")


@pytest.mark.usefixtures("unhealed")
def test_a_write_at_the_node_with_the_corrupt_copy_is_handed_to_another_owner(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    token = user.put(KEY, b"one", w=ALL)
    corrupt(sim, "n1")
    user.put(KEY, b"two", token)
    assert values(User(sim, "n2").get(KEY)) == [b"two"]
    token = user.put(KEY, b"three", user.token(KEY, User(sim, "n2").get(KEY).context), conditional=True)
    assert values(User(sim, "n3").get(KEY)) == [b"three"]
    user.delete(KEY, token)
    assert values(User(sim, "n3").get(KEY)) == []


def test_a_corrupt_copy_that_is_the_only_one_is_an_error_and_never_an_absence(simulate: Simulate) -> None:
    sim = simulate(1)
    user = User(sim, "n1")
    token = user.put(KEY, b"value")
    corrupt(sim, "n1")
    assert failed(user.ask_get(KEY)).code == "quorum"
    assert failed(user.ask_put(KEY, b"value")).code == "storage"
    assert failed(user.ask_delete(KEY, token)).code == "storage"
