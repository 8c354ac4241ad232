"""A cluster in a box: machines, clients, cables; and the same seed is the same run, always and everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno.errors import DynoError
from dyno.simulator.cable import Quality
from dyno.simulator.client import Client
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


# ── what befalls machines ──


def a_trio(seed: int = 1) -> tuple[Simulation, Client]:
    sim = Simulation(seed)
    sim.add_cluster(3)
    return sim, sim.client("n1", timeout=2)


def test_a_machine_without_power_is_silent_until_it_is_started_again() -> None:
    sim, client = a_trio()
    sim.cut_power("n3")
    machine = sim.machines["n3"]
    assert machine.ended == "killed"
    assert machine.clock.now == 0.0
    sim.run_for(0.01)
    assert sim.machines["n1"].is_linked(machine.address)  # nobody told it
    client.put("bucket", "key", 1)
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=30)
    sim.cut_power("n3")
    sim.run_for(20)
    assert not sim.machines["n1"].is_linked(machine.address)
    sim.cut_power("n3")  # it is off already


def test_a_lying_disk_loses_what_the_power_takes_and_keeps_what_a_kill_leaves() -> None:
    lost = []
    for seed in range(8):
        sim = Simulation(seed)
        (machine,) = sim.add_cluster(1)
        client = sim.client("n1", timeout=2)
        sim.lie_about_commits("n1")
        for number in range(5):
            client.put("bucket", f"key {number}", number)
        sim.kill("n1")
        assert machine.engine.cached >= 5
        sim.restart("n1")
        sim.cut_power("n1")
        sim.restart("n1")
        assert not machine.engine.lies
        lost.append(sum(not client.get("bucket", f"key {number}").exists for number in range(5)))
    assert len(set(lost)) > 2
    assert "that it had said to be durable" in sim.story()


def test_disks_are_full_read_only_slow_and_broken_by_name() -> None:
    sim, client = a_trio()
    for refuse, allow in (
        (sim.fill_disk, sim.free_disk),
        (sim.write_protect, lambda name: sim.write_protect(name, False)),
    ):
        for name in sim.machines:
            refuse(name)
        with pytest.raises(DynoError):
            client.put("bucket", "key", 1, timeout=1)
        assert not client.get("bucket", "key").siblings
        for name in sim.machines:
            allow(name)
        sim.run_for(2)
        client.put("bucket", "other", 1)
    for name in sim.machines:
        sim.slow_disk(name, commit_s=(0.3, 0.3), seconds_per_record=0.1, seconds_per_read=0.05)
    sim.run_for(3)  # what the nodes note of each other's commits is on the disk
    began = sim.now
    client.put("bucket", "slow", 1)
    assert 0.6 <= sim.now - began < 0.7  # two nodes read; record and row of the request are written
    began = sim.now
    client.get("bucket", "slow")
    assert 0.05 <= sim.now - began < 0.3
    sim.run_for(3)
    for name in sim.machines:
        sim.slow_disk(name)
    began = sim.now
    client.put("bucket", "fast", 1)
    assert sim.now - began < 0.05
    sim.break_disk("n3")
    client.begin_put("bucket", "key", 1, w=2)
    sim.run_for(1)
    assert "the disk failed" in str(sim.machines["n3"].ended)
    sim.mend_disk("n3")
    sim.restart("n3")
    sim.run_for(1)
    assert sim.machines["n3"].running


def test_a_node_whose_disk_takes_nothing_from_the_beginning_does_not_start() -> None:
    sim, _ = a_trio()
    machine = sim.machines["n3"]
    sim.kill("n3")
    sim.wipe("n3")
    sim.fill_disk("n3")
    sim.restart("n3")
    assert not machine.running
    assert machine.ended == "it could not start: no room: the disk is full"
    sim.restart("n3")
    sim.free_disk("n3")
    sim.restart("n3")
    assert machine.running
    assert machine.ended is None


def test_rot_befalls_records_of_a_disk() -> None:
    sim, client = a_trio()
    for number in range(20):
        client.put("bucket", f"key {number}", number, w=3)
    rotten = sim.rot_disk("n2", records=3)
    assert sim.machines["n2"].engine.rotten() == rotten
    assert not sim.machines["n1"].engine.rotten()
    assert "the disk rots" in sim.story()
    assert len(rotten) == 3


def test_a_disk_is_wiped_and_its_node_joins_by_the_others() -> None:
    sim, _ = a_trio()
    with pytest.raises(AssertionError, match="n1 runs"):
        sim.wipe("n1")
    sim.kill("n1")
    sim.wipe("n1")
    machine = sim.machines["n1"]
    assert machine.engine.empty()
    assert machine.engine.commit_number == 0
    assert machine.birth.seeds == (address_of("n2"), address_of("n3"))


def test_an_old_copy_of_a_disk_is_put_back() -> None:
    sim, client = a_trio()
    client.put("bucket", "key", 1, w=3)
    copy = sim.copy_disk("n3")
    client.put("bucket", "key", 2, w=3)
    with pytest.raises(AssertionError, match="n3 runs"):
        sim.restore_disk("n3", copy)
    machine = sim.machines["n3"]
    sim.kill("n3")
    newest = machine.engine.commit_number
    sim.restore_disk("n3", copy)
    assert machine.engine.commit_number == copy.commit_number < newest
    machine.engine.write_batch({b"key": b"value"}, {})
    assert copy.get(b"key") is None
    assert f"set back from commit {newest}" in sim.story()


def test_a_name_can_be_claimed_from_another_machine_too() -> None:
    sim, client = a_trio()
    copy = sim.copy_disk("n3")
    twin = sim.add_node("n3", host="twin", join=["n1"], disk=copy, wait=False)
    sim.run_for(5)
    assert (twin.name, twin.birth.name, twin.address) == ("twin", "n3", address_of("twin"))
    assert not twin.ready or not sim.machines["n3"].ready
    with pytest.raises(AssertionError, match="there is a machine twin already"):
        sim.add_node("n4", host="twin")
    sim.scrap("twin")
    assert list(sim.machines) == ["n1", "n2", "n3"]
    client.put("bucket", "key", 1)


def test_clocks_begin_anew_only_where_nothing_runs() -> None:
    sim, _ = a_trio()
    with pytest.raises(AssertionError, match="n1 runs"):
        sim.begin_clock("n1", at=7.0)
    sim.kill("n1")
    sim.begin_clock("n1", at=7.0)
    sim.run_clock("n1", rate=1.01)
    sim.restart("n1")
    sim.run_for(100)
    assert sim.machines["n1"].clock.now == pytest.approx(108.0)
    assert sim.run_until(sim.agreed, limit_s=30)


# ── what befalls cables ──


def test_cables_get_worse_and_are_repaired_by_name() -> None:
    sim, _ = a_trio()
    sim.lose("n1", "n2", 0.3)
    sim.duplicate("n1", "n2", 0.2)
    sim.reorder("n2", "n1", 0.1)
    sim.limit_bandwidth("n1", "n2", 5000.0)
    sim.degrade("n1", "n2", spikes=0.5, spike_s=1.0)
    sim.degrade_all(latency_s=(0.1, 0.2))
    worse = Quality(loss=0.3, duplicates=0.2, strays=0.1, bytes_per_s=5000.0, spikes=0.5, spike_s=1.0)
    assert sim.network.quality("n1", "n2") == sim.network.quality("n2", "n1") == worse
    assert sim.network.quality("n1", "n3").latency_s == (0.1, 0.2)
    sim.run_for(5)
    sim.repair_cables()
    assert sim.network.quality("n1", "n2") == sim.network.quality("n1", "n3") == Quality()
    assert sim.run_until(sim.agreed, limit_s=30)
    assert "n1 → n2                  the cable: loss=0.3" in sim.story(1000)


def test_one_direction_is_healed_by_itself() -> None:
    sim, _ = a_trio()
    sim.cut("n1", "n2")
    sim.heal_one_way("n1", "n2")
    assert sim.network.cuts() == [("n2", "n1")]


def test_connections_stall_for_as_long_as_was_said() -> None:
    sim = Simulation(seed=1, stall_max_s=3.0)
    sim.add_cluster(2)
    client = sim.client("n1", timeout=10)
    client.put("bucket", "key", 1)
    sim.cut(client.machine, "n1")
    pending = client.begin_get("bucket", "key")
    sim.run_for(2.9)
    assert "timed out" not in sim.story()
    sim.run_for(0.2)
    assert "closed: connection timed out" in sim.story()
    sim.heal_all()
    client.wait(pending)


def test_something_is_done_later_and_noted() -> None:
    sim = Simulation(seed=1)
    digest = sim.digest()
    sim.after(2.0, sim.note, "it is time")
    assert sim.random("dice").random() == sim.random("dice").random()
    sim.run_for(1.0)
    assert sim.digest() == digest
    sim.run_for(1.0)
    assert sim.story().splitlines()[1].split() == ["2.000000", "simulation", "it", "is", "time"]
    assert sim.digest() != digest
