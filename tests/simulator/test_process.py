"""A node's process on virtual time, and the links that it dials."""

from __future__ import annotations

import pytest

from dyno.config import Config
from dyno.placement.hashing import PREFIX_BYTES, SLOT_BYTES
from dyno.protocol.overload import ALWAYS_READS
from dyno.simulator.simulation import Simulation, address_of
from dyno.wire.messages import (
    DEFAULT,
    STATUS_OK,
    STATUS_OVERLOADED,
    AskMembers,
    Done,
    Failed,
    FoundMany,
    Get,
    GetMany,
    Hello,
    Listed,
    ListKeys,
    Ping,
    Put,
    ReadMany,
    ReadManyAnswer,
    Refuse,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)
from dyno.wire.rows import pack_row
from tests.simulator.fake_node import FakeNode


def hello_of(name: str, cluster: bytes = b"") -> Hello:
    return Hello(1, 1, "peer", cluster, 64 if cluster else 0, name, name.encode() * 8, b"s" * 8, "")


def test_an_address_that_does_not_answer_is_dialled_again_after_growing_pauses() -> None:
    sim = Simulation(seed=1, config=Config(reconnect_min_s=0.1, reconnect_max_s=1.0))
    sim.add_node("n1", wait=False)
    machine = sim.add_node("n2", join=["n9"], wait=False)
    sim.run_for(5)
    assert not machine.ready  # nobody has that address: each dial takes its five seconds
    sim.add_node("n9", wait=False)
    assert sim.run_until(lambda: machine.ready, limit_s=20)


def test_a_refused_dial_is_tried_again_soon_and_then_less_often() -> None:
    sim = Simulation(seed=1, config=Config(reconnect_min_s=0.1, reconnect_max_s=1.0))
    fake = FakeNode(sim, "fake", Refuse("joining", "not yet"))
    sim.add_node("n1", join=["fake"], wait=False)
    sim.run_for(10)
    assert 8 <= fake.greeted <= 25
    assert set(fake.closed) == {"refused"}


def test_a_peer_that_does_not_say_hello_first_is_hung_up_on() -> None:
    sim = Simulation(seed=1)
    fake = FakeNode(sim, "fake", Stored(1, 0))
    sim.add_node("n1", join=["fake"], wait=False)
    sim.run_for(1)
    assert fake.closed
    assert fake.greeted > 1


def test_a_peer_that_says_nothing_is_given_up_after_a_while() -> None:
    sim = Simulation(seed=1, config=Config(handshake_timeout_s=1.0))
    fake = FakeNode(sim, "fake")
    sim.add_node("n1", join=["fake"], wait=False)
    sim.run_for(0.9)
    assert not fake.closed
    sim.run_for(1)
    assert fake.closed == ["no hello in time"]


def test_a_dial_that_is_through_too_late_is_let_go() -> None:
    sim = Simulation(seed=1, config=Config(handshake_timeout_s=1.0))
    fake = FakeNode(sim, "fake", hello_of("fake"))
    sim.set_latency("n1", "fake", (0.6, 0.6))
    sim.add_node("n1", join=["fake"], wait=False)
    sim.run_for(3)
    assert "given up" in fake.closed


def test_what_comes_along_with_a_peers_hello_is_an_answer_like_others() -> None:
    sim = Simulation(seed=1)
    fake = FakeNode(sim, "fake", hello_of("fake"), Stored(1, 0))
    sim.add_node("n1", join=["fake"], wait=False)
    sim.run_for(0.5)
    assert not fake.closed
    fake.send(AskMembers(1))
    sim.run_for(0.5)
    assert fake.closed == ["not understood: a AskMembers is no answer"]


def test_an_address_that_is_the_nodes_own_is_let_go() -> None:
    sim = Simulation(seed=1)
    sim.add_node("n1")
    alias = "alias:7100"
    sim._network._machine_at[alias] = "n1"  # another name for the same machine
    machine = sim.add_node("n2", join=["n1"])
    machine.kill()
    sim.machines["n2"].birth = machine.birth._replace(seeds=(alias,))
    sim._network._machine_at[alias] = "n2"
    sim.restart("n2")
    sim.run_for(1)
    assert "closed: not wanted any more" in sim.story(200)
    assert sim.agreed()


def test_a_node_of_another_cluster_that_is_named_as_a_seed_ends_the_process() -> None:
    sim = Simulation(seed=1)
    sim.add_node("n1")
    machine = sim.add_node("other", wait=False)
    sim.kill("other")
    sim.machines["other"].birth = machine.birth._replace(seeds=(address_of("n1"),))
    sim.restart("other")
    sim.run_for(1)
    assert not machine.running
    assert f"cannot join at {address_of('n1')}" in str(machine.ended)


def test_links_break_with_the_process_and_come_back_with_the_next() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(3)
    sim.kill("n3")
    assert not sim.machines["n3"].is_linked(address_of("n1"))
    sim.run_for(0.01)
    assert not sim.machines["n1"].is_linked(address_of("n3"))
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=30)


def test_a_link_that_was_accepted_but_not_greeted_ends_with_the_process() -> None:
    sim = Simulation(seed=1)
    sim.add_node("n1")
    mute = sim.stranger("n1", hello=None)
    sim.run_for(1)
    sim.kill("n1")
    sim.run_for(1)
    assert mute.closed == "the process ended"


@pytest.mark.parametrize("commits", [True, False])
def test_a_commit_under_way_at_the_end_is_on_the_disk_or_it_is_not(commits: bool) -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    client = sim.client("n1", timeout=1)
    client.get("bucket", "key")
    machine.commit_s = (0.1, 0.1)
    pending = client.begin_put("bucket", "key", 1)
    sim.run_for(0.05)
    sim.kill("n1", commits=commits)
    sim.run_for(2)
    assert pending.error is not None
    assert machine.engine.empty() != commits


def test_the_dice_decide_about_a_commit_under_way() -> None:
    outcomes = []
    for seed in range(12):
        sim = Simulation(seed)
        (machine,) = sim.add_cluster(1)
        client = sim.client("n1", timeout=1)
        client.get("bucket", "key")
        machine.commit_s = (0.1, 0.1)
        client.begin_put("bucket", "key", 1)
        sim.run_for(0.05)
        sim.kill("n1")
        outcomes.append(machine.engine.empty())
    assert {True, False} == set(outcomes)


def test_a_full_disk_fails_a_commit_and_a_broken_one_ends_the_process() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.engine.full = True
    client = sim.client("n1", timeout=1)
    client.begin_put("bucket", "key", 1)
    sim.run_for(2)
    assert machine.running
    assert "a commit failed: no room" in sim.story()
    machine.engine.failing = True
    client.begin_put("bucket", "key", 1)
    sim.run_for(1)
    assert not machine.running
    assert "the disk failed, and this node stops" in str(machine.ended)


def test_datagrams_of_another_cluster_are_not_for_the_node() -> None:
    sim = Simulation(seed=1)
    sim.add_node("n1")
    sim.add_node("other")
    me = sim.machines["n1"].node.membership.me

    ping = Ping(1, "n1", me.start, "other", b"")
    before = sim.events
    sim._network.send_datagram("other", address_of("n1"), b"another cluster.", ping)
    sim.run_for(0.1)
    assert "Ack" not in sim.story(sim.events - before)
    sim._network.send_datagram("other", address_of("n1"), sim.machines["n1"].node.membership.cluster, ping)
    sim.run_for(0.1)
    assert "Ack" in sim.story(sim.events - before)


def test_what_a_node_sends_to_a_link_that_is_gone_is_dropped() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.commit_s = (0.1, 0.1)
    client = sim.client("n1", timeout=1)
    client.get("bucket", "key")
    client.begin_put("bucket", "key", 1)
    sim.run_for(0.05)
    sim.drop_links("n1", client.machine)
    sim.run_for(1)
    assert not machine.engine.empty()


# ── a disk that reads slowly ──

A_GET = Get(1, "bucket", b"key", DEFAULT, DEFAULT, 5000, False)


def test_requests_stand_in_line_before_a_disk_that_reads_slowly() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_read = 0.01
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    stranger.send(AskMembers(7), *[A_GET._replace(id=number) for number in range(1, 6)])
    sim.run_for(0.035)
    assert [message.id for message in stranger.heard[1:]] == [7, 1, 2, 3]  # type: ignore[union-attr]
    assert machine.node.read_line.waiting == 2
    sim.run_for(0.02)
    assert len(stranger.heard) == 7


def test_who_would_wait_too_long_is_told_so_and_who_has_given_up_is_not_served() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_read = 0.02
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    impatient = [A_GET._replace(id=number, budget_ms=90) for number in range(1, 11)]
    stranger.send(*impatient, *[A_GET._replace(id=number) for number in range(11, 21)])
    sim.run_for(0.002)
    refused = stranger.heard[1:]
    assert [message.id for message in refused] == [17, 18, 19, 20]  # type: ignore[union-attr]
    assert all(isinstance(message, Failed) and message.code == "overloaded" for message in refused)
    sim.run_for(1)
    served = [message.id for message in stranger.heard[5:]]  # type: ignore[union-attr]
    assert served == [1, 2, 3, 4, 11, 12, 13, 14, 15, 16]


def test_a_request_waits_until_all_its_records_are_read() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_read = 0.01
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    keys = pack_row([b"%d" % number for number in range(8)])
    stranger.send(GetMany(1, "bucket", keys, DEFAULT, DEFAULT, 5000))
    stranger.send(ListKeys(2, "bucket", 0, b"", 100, DEFAULT, DEFAULT, 5000, False))
    sim.run_for(0.078)
    assert len(stranger.heard) == 1
    sim.run_for(0.008)
    assert [type(message) for message in stranger.heard[1:]] == [FoundMany]
    sim.run_for(0.01)
    assert [type(message) for message in stranger.heard[2:]] == [Listed]


def test_what_must_not_join_the_line_is_refused_whatever_it_reads() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_read = 0.1
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    (slot,) = machine.node.slots_read_by(A_GET)
    ring = machine.node.membership.fingerprint
    reads = [
        ReadMany(1, ring, slot * ALWAYS_READS),
        ReadMany(2, ring, slot * 2),
        Scan(3, ring, slot[:PREFIX_BYTES], b"", 100),
        GetMany(4, "bucket", pack_row([b"one", b"two"]), DEFAULT, DEFAULT, 5000),
        ListKeys(5, "bucket", 0, b"", 100, DEFAULT, DEFAULT, 5000, False),
    ]
    stranger.send(*reads)
    sim.run_for(0.002)
    assert stranger.heard[1:3] == [
        ReadManyAnswer(2, STATUS_OVERLOADED, b""),
        ScanAnswer(3, STATUS_OVERLOADED, b"", b""),
    ]
    assert [(answer.id, answer.code) for answer in stranger.heard[3:]] == [  # type: ignore[union-attr]
        (4, "overloaded"),
        (5, "overloaded"),
    ]
    sim.run_for(2)
    (answer,) = stranger.heard[5:]
    assert isinstance(answer, ReadManyAnswer)
    assert (answer.id, answer.status) == (1, STATUS_OK)


def test_a_process_that_ended_reads_no_more_and_nonsense_in_line_closes_its_link() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_read = 0.01
    stranger, gone = sim.stranger("n1"), sim.stranger("n1")
    sim.run_for(0.1)
    nonsense = Store(1, 1, b"s" * SLOT_BYTES, b"", b"")
    gone.send(nonsense)
    sim.run_for(0.002)
    gone.close()
    sim.run_for(0.02)
    stranger.send(nonsense)
    sim.run_for(0.02)
    assert stranger.closed == "not understood: a key of 0 bytes"
    other = sim.stranger("n1")
    sim.run_for(0.1)
    other.send(A_GET)
    sim.run_for(0.002)
    sim.kill("n1")
    sim.run_for(0.1)
    assert len(other.heard) == 1


def test_a_commit_takes_longer_for_more_records() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.seconds_per_record = 0.01
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    puts = [
        Put(n, "b", b"%d" % n, b"v", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False) for n in range(20)
    ]
    stranger.send(*puts)
    sim.run_for(0.19)
    assert len(stranger.heard) == 1
    sim.run_for(0.02)
    assert len(stranger.heard) == 21


# ── killed in the middle of a turn ──

A_PUT = Put(1, "bucket", b"key", b"v", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)


def test_a_process_is_killed_between_any_two_effects_of_a_turn() -> None:
    answered = []
    for effects in range(1, 7):
        sim = Simulation(seed=1)
        sim.add_cluster(1)
        stranger = sim.stranger("n1")
        sim.run_for(0.1)
        stranger.send(*[AskMembers(number) for number in range(1, 6)])
        sim.kill("n1", after_effects=effects)
        assert sim.machines["n1"].running
        sim.run_for(0.002)
        answered.append(len(stranger.heard) - 1)
        assert sim.machines["n1"].running == (effects > 5)
    assert answered == [1, 2, 3, 4, 5, 5]


@pytest.mark.parametrize("commits", [True, False])
def test_a_batch_that_the_disk_gets_is_an_effect(commits: bool) -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    sim.kill("n1", commits=commits, after_effects=1)
    stranger.send(A_PUT)
    sim.run_for(1)
    assert machine.ended == "killed"
    assert len(stranger.heard) == 1
    assert machine.engine.empty() != commits


def test_what_was_not_sent_before_the_kill_is_sent_to_nobody() -> None:
    """Whatever the effect: links to dial and to give up, messages, datagrams."""
    ended = []
    for effects in range(1, 40, 3):
        sim = Simulation(seed=1)
        sim.add_cluster(3)
        client = sim.client("n1", timeout=1)
        sim.kill("n3")
        sim.restart("n3")
        sim.kill("n3", after_effects=effects)
        sim.run_until(lambda sim=sim: not sim.machines["n3"].running, limit_s=20)  # type: ignore[misc]
        ended.append(sim.now)
        events = sim.events
        assert not sim.machines["n3"].node.busy
        sim.run_for(3)
        arrived = [line for line in sim.story(sim.events - events).splitlines() if "  n3 → " in line]
        assert all(float(line.split()[0]) <= ended[-1] + 0.001 or "closed:" in line for line in arrived)
        client.put("bucket", "key", effects)
    assert ended == sorted(ended)
    assert len(set(ended)) > 5


def test_a_process_that_has_ended_is_not_killed_again() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    client = sim.client("n1", timeout=1)
    client.get("bucket", "key")
    machine.commit_s = (0.1, 0.1)
    client.begin_put("bucket", "key", 1)
    sim.run_for(0.05)
    sim.kill("n1", commits=False)
    sim.kill("n1", commits=True)
    assert machine.engine.empty()


# ── paused ──


def test_a_paused_process_handles_nothing_until_it_goes_on() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    sim.pause("n1")
    sim.pause("n1")
    assert machine.paused
    stranger.send(AskMembers(7))
    late = sim.stranger("n1")
    sim.run_for(30)
    assert len(stranger.heard) == 1
    assert not late.heard
    sim.resume("n1")
    sim.resume("n1")
    assert not machine.paused
    sim.run_for(0.01)
    assert [message.id for message in stranger.heard[1:]] == [7]  # type: ignore[union-attr]
    assert isinstance(late.heard[0], Hello)


def test_a_disk_finishes_what_it_was_given_while_the_process_is_paused() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.commit_s = (0.1, 0.1)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    stranger.send(A_PUT)
    sim.run_for(0.05)
    sim.pause("n1")
    sim.run_for(10)
    assert len(stranger.heard) == 1
    sim.resume("n1")
    sim.run_for(0.01)
    assert len(stranger.heard) == 2
    assert not machine.engine.empty()


def test_a_pause_is_noticed_by_others_and_what_was_due_meanwhile_is_done_late() -> None:
    sim = Simulation(seed=1)
    machines = sim.add_cluster(3)
    sim.pause("n3")
    others = [machine.node.membership for machine in machines[:2]]
    assert sim.run_until(
        lambda: not any(one.table.is_live("n3") for one in others),
        limit_s=60,
    )
    sim.run_for(20)
    wakes = sim.events
    sim.resume("n3")
    assert sim.run_until(
        lambda: all(one.table.is_live("n3") for one in others),
        limit_s=30,
    )
    assert sim.events > wakes
    assert sim.run_until(sim.agreed, limit_s=30)


def test_a_paused_process_is_killed_for_good_and_stopped_when_it_goes_on() -> None:
    sim = Simulation(seed=1)
    machine, other = sim.add_cluster(2)
    stranger = sim.stranger("n1")
    sim.pause("n1")
    sim.pause("n2")
    other.stop()
    late = sim.stranger("n1")
    sim.run_for(1)
    assert other.running
    sim.kill("n1")
    assert (machine.ended, machine.paused) == ("killed", False)
    sim.resume("n1")
    sim.pause("n1")
    assert not machine.paused
    sim.run_for(1)
    assert stranger.closed is not None
    assert late.closed == "connection reset"
    sim.resume("n2")
    sim.run_for(1)
    assert other.ended == "stopped"


def test_what_ends_a_process_as_it_goes_on_ends_its_timers_too() -> None:
    sim = Simulation(seed=1)
    (machine,) = sim.add_cluster(1)
    machine.commit_s = (0.1, 0.1)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    stranger.send(A_PUT)
    sim.run_for(0.05)
    sim.pause("n1")
    stranger.send(AskMembers(7))
    sim.kill("n1", after_effects=1, commits=False)
    sim.run_for(5)
    sim.resume("n1")
    assert machine.ended == "killed"
    assert machine.engine.empty()


# ── clocks ──


@pytest.mark.parametrize(("rate", "at"), [(1.0, 0.0), (0.99, 1e6), (1.01, 12345.678)])
def test_a_node_lives_by_its_machines_clock(rate: float, at: float) -> None:
    sim = Simulation(seed=1, config=Config(get_timeout_s=2.0))
    (machine,) = sim.add_cluster(1)
    sim.kill("n1")
    sim.begin_clock("n1", at=at)
    sim.run_clock("n1", rate=rate)
    sim.restart("n1")
    client = sim.client("n1")
    client.put("bucket", "key", 1)
    began = sim.now
    sim.run_until(lambda: machine.clock.now >= at + 5.0, limit_s=10)
    sim.machines["n1"].engine.full = True
    for _ in range(20):
        assert client.get("bucket", "key").value == 1
    assert sim.now > began


def test_timers_ring_by_the_nodes_clock() -> None:
    """A get that cannot be answered waits for the hedge, and then for the node's two seconds."""
    took = []
    for rate in (0.99, 1.0, 1.01):
        sim = Simulation(seed=1, latency_s=(0.0, 0.0))
        sim.add_cluster(2)
        for name in ("n1", "n2"):
            sim.run_clock(name, rate=rate)
        stranger = sim.stranger("n1")
        sim.run_for(0.1)
        sim.pause("n2")
        stranger.send(A_GET._replace(r=2))
        began = sim.now
        sim.run_until(lambda stranger=stranger: len(stranger.heard) > 1, limit_s=10)  # type: ignore[misc]
        took.append(sim.now - began)
    assert took == pytest.approx([2.05 / 0.99, 2.05, 2.05 / 1.01], abs=1e-5)


def test_a_clock_that_slows_down_makes_timers_ring_later() -> None:
    sim = Simulation(seed=1, latency_s=(0.0, 0.0))
    sim.add_cluster(2)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    sim.pause("n2")
    stranger.send(A_GET._replace(r=2))
    began = sim.now
    sim.run_for(1.0)
    sim.run_clock("n1", rate=0.99)
    sim.run_until(lambda: len(stranger.heard) > 1, limit_s=10)
    assert sim.now - began == pytest.approx(1.0 + 1.05 / 0.99, abs=1e-5)


def test_a_process_that_stops_first_answers_what_is_under_way() -> None:
    sim = Simulation(seed=1)
    machine, other = sim.add_cluster(2)
    stranger = sim.stranger("n1")
    sim.run_for(0.1)
    other.commit_s = (1.0, 1.0)
    stranger.send(A_PUT._replace(w=2))
    sim.run_for(0.05)
    machine.stop()
    sim.run_for(0.9)
    assert machine.running
    assert len(stranger.heard) == 1
    sim.run_for(0.2)
    assert machine.ended == "stopped"
    assert isinstance(stranger.heard[1], Done)
