"""A cluster in a box: machines, clients, cables; and the same seed is the same run, always and everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno.simulator.simulation import Simulation, address_of
from dyno.wire.messages import AskMembers, Hello, Members

HASH_SEEDS = ("0", "1", "4242")

BUSY_DAY = """
from dyno.simulator.simulation import Simulation

sim = Simulation(seed=7)
sim.add_cluster(3)
clients = [sim.client("n1", "n2", "n3") for _ in range(2)]
pending = []
for number in range(40):
    client = clients[number % 2]
    pending.append(client.begin_put("bucket", f"key {number % 5}", {"a": number, "b": [number]}))
    pending.append(client.begin_get("bucket", f"key {number % 3}"))
    sim.run_for(0.002)
    if number == 10:
        sim.cut("n1", "n2")
    if number == 20:
        sim.kill("n3")
    if number == 25:
        sim.restart("n3")
    if number == 30:
        sim.heal_all()
sim.run_for(20.0)
assert all(one.done for one in pending)
print(sim.digest(), sim.events)
"""


def a_busy_day() -> str:
    """What it prints, in this process."""
    printed: list[str] = []
    exec(BUSY_DAY, {"print": lambda *parts: printed.append(" ".join(map(str, parts)))})
    return printed[0]


def test_the_same_seed_is_the_same_run_under_any_hash_seed_and_again_in_one_process() -> None:
    here = a_busy_day()
    assert a_busy_day() == here
    root = Path(__file__).parents[2]
    for hash_seed in HASH_SEEDS:
        there = subprocess.run(
            [sys.executable, "-c", BUSY_DAY],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == here


def test_another_seed_is_another_run() -> None:
    digests = []
    for seed in (1, 2):
        sim = Simulation(seed)
        sim.add_cluster(3)
        digests.append(sim.digest())
    assert digests[0] != digests[1]


def test_a_cluster_is_ready_for_data_and_for_users() -> None:
    sim = Simulation(seed=1)
    machines = sim.add_cluster(5, zone="z")
    assert [machine.name for machine in machines] == ["n1", "n2", "n3", "n4", "n5"]
    assert sim.agreed()
    assert sim.now < 1.0
    client = sim.client("n1")
    client.put("carts", "alice", {"milk": 1})
    assert client.get("carts", "alice").value == {"milk": 1}
    status = client.status()
    assert [member["zone"] for member in status["members"]] == ["z"] * 5


def test_nodes_join_by_the_names_of_machines() -> None:
    sim = Simulation(seed=1)
    sim.add_node("first")
    second = sim.add_node("second", join=["first"], weight=2.0)
    assert second.ready
    assert not second.is_linked(address_of("nobody"))
    third = sim.add_node("third", join=["second"], wait=False)
    assert not third.ready
    assert sim.run_until(sim.agreed, limit_s=10)
    assert third.is_linked(address_of("first"))


def test_a_node_is_stopped_killed_and_started_again() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    sim.client("n1").put("bucket", "key", 1)
    sim.stop("n1")
    assert (machine.running, machine.ready, machine.ended) == (False, False, "stopped")
    assert not machine.is_linked(machine.address)
    sim.restart("n1")
    assert (machine.running, machine.ended, machine.starts) == (True, None, 2)
    sim.kill("n1")
    assert machine.ended == "killed"
    with pytest.raises(AssertionError, match="n2 did not join"):
        sim.add_node("n2", join=["n1"])
    sim.restart("n1")
    assert sim.client("n1").get("bucket", "key").value == 1
    with pytest.raises(AssertionError, match="runs already"):
        sim.restart("n1")


def test_cables_are_cut_and_healed_by_name() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(3)
    client = sim.client("n1", timeout=2)
    client.put("bucket", "key", 1)
    sim.cut("n1", "n2")
    sim.cut("n1", "n3")
    pending = client.begin_put("bucket", "key", 2, w=3)
    sim.run_for(1)
    assert not pending.done
    sim.heal("n1", "n2")
    sim.heal("n1", "n3")
    client.wait(pending)
    sim.isolate("n1")
    pending = client.begin_put("bucket", "key", 3, w=3)
    sim.run_for(1)
    assert not pending.done
    sim.heal_all()
    client.wait(pending)
    sim.cut_one_way("n2", "n1")
    sim.drop_links("n1", "n2")
    assert not sim.agreed()
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=30)


def test_latencies_are_set_by_pair() -> None:
    sim = Simulation(seed=1, latency_s=(0.001, 0.001))
    sim.add_cluster(1)
    client = sim.client("n1")
    client.get("bucket", "key")
    began = sim.now
    client.get("bucket", "key")
    assert sim.now - began == pytest.approx(0.002)
    sim.set_latency(client.machine, "n1", (0.1, 0.1))
    began = sim.now
    client.get("bucket", "key")
    assert sim.now - began == pytest.approx(0.2)


def test_a_failing_test_can_tell_its_story() -> None:
    sim = Simulation(seed=3)
    sim.add_cluster(2)
    client = sim.client("n1")
    client.put("bucket", "key", 1)
    story = sim.story(100)
    assert story.startswith("seed 3, ")
    for part in (
        "n1 → n2",
        "client-1 → n",
        "put bucket/key 1: <PutResult",
        "info: founded cluster",
        "Store(id=",
    ):
        assert part in story
    assert len(sim.story(5).splitlines()) == 6
    assert sim.events > 20


def test_a_stranger_says_what_it_is_told_to() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(1)
    stranger = sim.stranger("n1")
    assert isinstance(stranger.heard[0], Hello)
    (members,) = stranger.ask(AskMembers(5))
    assert isinstance(members, Members)
    assert stranger.ask(Hello(1, 1, "client", b"", 0, "", b"", b"", ""), limit_s=1) == []
    assert stranger.closed == "not understood: a Hello is no request"
    mute = sim.stranger("n1", hello=None)
    mute.close()  # before there is a link
    mute.send(AskMembers(1))
    sim.run_for(1)
    assert mute.closed == "the first message was no hello"
    polite = sim.stranger("n1")
    polite.close()
    sim.run_for(1)
    sim.kill("n1")
    unheard = sim.stranger("n1")
    assert unheard.closed == "connection refused"
    assert unheard.ask(AskMembers(1), limit_s=1) == []


def test_a_stranger_of_another_cluster_is_refused() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(1)
    foreign = Hello(1, 1, "client", b"another cluster.", 0, "", b"", b"", "")
    stranger = sim.stranger("n1", foreign)
    sim.run_for(1)
    assert stranger.heard[0][0] == "cluster"
    assert stranger.closed == "refused"
