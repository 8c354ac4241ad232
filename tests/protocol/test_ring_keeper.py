"""Every cluster has a ring log, which says who belongs to it and which buckets there are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.buckets.properties import KINDS, Properties
from dyno.protocol import handshake
from dyno.protocol.handshake import Self
from dyno.protocol.membership import Membership
from dyno.protocol.node import Node
from dyno.protocol.outbox import Outbox
from dyno.ringlog import entry as entries
from dyno.ringlog.changes import Create
from dyno.ringlog.entry import Entry
from dyno.simulator.simulation import Simulation
from dyno.wire.members import NORMAL
from dyno.wire.messages import Hello, RingEntry

Simulate = Callable[..., Simulation]


@pytest.fixture
def simulate() -> Simulate:
    def make(size: int = 0) -> Simulation:
        sim = Simulation(1)
        if size:
            sim.add_cluster(size)
        return sim

    return make


def log_of(sim: Simulation) -> Entry | None:
    """The last entry, where all nodes that run know the same."""
    logs = {machine.node.ring_log.entry for machine in sim.machines.values() if machine.running}
    return logs.pop() if len(logs) == 1 else None


def is_written(sim: Simulation, *buckets: str) -> bool:
    """Whether the log names all nodes, as they are, and these buckets."""
    entry = log_of(sim)
    if entry is None:
        return False
    rows = {row.name: row.directory for row in entry.rows if row.state == NORMAL}
    nodes = {name: machine.node.membership.me.directory for name, machine in sim.machines.items()}
    return rows == nodes and [name for name, _ in entry.buckets] == list(buckets)


def written(sim: Simulation, *buckets: str) -> Entry:
    assert sim.run_until(lambda: is_written(sim, *buckets), limit_s=60), log_of(sim)
    entry = log_of(sim)
    assert entry is not None
    return entry


def test_a_cluster_finds_its_log_by_itself_and_all_of_its_restarts_know_it(simulate: Simulate) -> None:
    sim = simulate(3)
    entry = written(sim)
    assert entry.number == 1
    sim.run_for(1)  # until it is on all disks
    for name in sim.machines:
        sim.kill(name)
    for name in sim.machines:
        sim.restart(name)
    assert all(machine.node.ring_log.entry == entry for machine in sim.machines.values())


def test_a_founder_has_a_log_alone_and_who_comes_is_written_into_it(simulate: Simulate) -> None:
    sim = simulate(1)
    assert [row.name for row in written(sim).rows] == ["n1"]
    sim.add_node("n2", join=["n1"])
    sim.add_node("n3", join=["n2"])
    entry = written(sim)
    assert entry.number > 1
    assert [(row.name, row.seat) for row in entry.rows] == [
        (name, machine.node.membership.me.seat) for name, machine in sim.machines.items()
    ]


def test_a_bucket_is_written_by_a_majority_though_who_should_have_wished_it_died(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim = simulate(3)
    written(sim)
    first = sim.machines["n1"].node.ring_log
    monkeypatch.setattr(first, "wish", lambda *changes, **how: None)  # it dies before it comes to that
    sim.client("n3").create_bucket("wide", n=2)
    sim.kill("n1")
    sim.kill("n2")
    sim.restart("n2")  # it votes again once it is sure that n1 cannot tell it anything
    assert sim.run_until(lambda: dict((log_of(sim) or Entry(0, b"", False, ())).buckets) != {}, limit_s=60)
    sim.restart("n1")
    ((name, properties),) = written(sim, "wide").buckets
    assert (name, properties.n) == ("wide", 2)


def test_whoever_lost_its_disk_gets_its_vote_again(simulate: Simulate) -> None:
    sim = simulate(3)
    before = written(sim)
    sim.kill("n3")
    sim.wipe("n3")
    sim.restart("n3")
    entry = written(sim)
    assert entry.number > before.number
    assert entry.row("n3") != before.row("n3")
    assert entry.voters()["n3"] == sim.machines["n3"].node.membership.me.directory


def test_an_old_copy_of_a_disk_is_written_under_its_new_id(simulate: Simulate) -> None:
    sim = simulate(3)
    before = written(sim)
    sim.kill("n3")
    old = sim.copy_disk("n3")
    sim.restart("n3")
    sim.client("n3").put("bucket", "key", "later")
    sim.run_for(5)
    sim.kill("n3")
    sim.restore_disk("n3", old)
    sim.restart("n3")
    assert sim.run_until(lambda: log_of(sim) not in (None, before), limit_s=30)
    assert written(sim).voters()["n3"] != before.voters()["n3"]


def test_nobody_talks_of_it_to_a_node_that_does_not_know_of_it(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node of the version before closes a link at a message that it does not know."""
    hello_of = handshake.hello_of

    def as_before(me: Self, *, seen: int = 0) -> Hello:
        hello = hello_of(me, seen=seen)
        return hello._replace(capabilities="") if me.name == "n3" else hello

    link_up = Node.link_up

    def heard_as_before(self: Node, address: str, hello: Hello, now: float, out: Outbox) -> None:
        link_up(self, address, hello._replace(capabilities="") if self.name == "n3" else hello, now, out)

    monkeypatch.setattr(handshake, "hello_of", as_before)
    monkeypatch.setattr(Node, "link_up", heard_as_before)
    sim = simulate()
    heard: list[str] = []
    sim.trace.listeners.append(
        lambda now, source, target, what: heard.append(type(what).__name__) if target == "n3" else None
    )
    sim.add_cluster(3)
    sim.client("n1").put("bucket", "key", 1)
    sim.run_for(60)
    assert [machine.node.ring_log.number for machine in sim.machines.values()] == [0, 0, 0]
    assert "Store" in heard
    assert [name for name in heard if "Ring" in name] == []
    monkeypatch.undo()  # it is upgraded
    sim.stop("n3")
    sim.restart("n3")
    assert written(sim).number == 1


def test_what_cannot_be_written_is_said(simulate: Simulate) -> None:
    sim = simulate(3)
    written(sim)
    told: list[str] = []
    sim.trace.listeners.append(lambda now, source, target, what: told.append(str(what)))
    node = sim.machines["n2"].node
    node.ring_log.wish(
        Create("wide", Properties(n=1, r=1, w=1, kind=KINDS["siblings"])),
        then=lambda outcome, now, out: None,
        now=sim.now,
        out=sim.machines["n2"]._process._out,
    )
    assert sim.run_until(lambda: node.ring_log.number == 2, limit_s=30)
    sim.client("n1").create_bucket("wide", n=3)
    assert sim.run_until(
        lambda: any("not in the ring's log: bucket 'wide'" in text for text in told), limit_s=30
    )


def test_a_look_that_is_due_is_over_while_somebody_is_let_in(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its time would stay in the past, and the node would find no rest."""
    sim = simulate(3)
    written(sim)
    keeper = sim.machines["n2"].node._ring_keeper
    monkeypatch.setattr(Membership, "letting_in", property(lambda self: True))
    keeper._look_at = sim.now
    keeper.tick(sim.now, Outbox())
    assert keeper.deadline() > sim.now


def test_entries_of_another_cluster_are_none(simulate: Simulate) -> None:
    """A machine that is wiped and joins another cluster is still dialled by the one that it lived in."""
    sim, other = simulate(2), Simulation(2)
    other.add_cluster(2)
    entry = written(sim)
    theirs = written(other)._replace(number=entry.number + 7)
    told = RingEntry(entries.pack(theirs))
    node = sim.machines["n2"].node
    node.receive(1, told, sim.now, Outbox())
    assert node.ring_log.entry == entry
    newcomer = simulate()
    fresh = newcomer.add_node("n2", join=["n1"], wait=False).node  # which has no cluster yet
    fresh.receive(1, told, newcomer.now, Outbox())
    assert fresh.ring_log.number == 0


def test_nobody_votes_for_an_entry_of_another_cluster(simulate: Simulate) -> None:
    sim = simulate(2)
    entry = written(sim)
    follower = entry._replace(
        number=entry.number + 1, before=entries.digest(entries.pack(entry)), cluster=b"another cluster."
    )
    votes = sim.machines["n2"].node.ring_log._votes
    assert votes.understands(entries.pack(follower._replace(cluster=entry.cluster)), Outbox())
    assert not votes.understands(entries.pack(follower), Outbox())


def test_while_a_member_is_away_nobody_writes_promises_for_a_first_entry(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.stop("n3")
    assert log_of(sim) is None
    before = {name: sim.machines[name].engine.commit_number for name in ("n1", "n2")}
    sim.run_for(60)
    after = {name: sim.machines[name].engine.commit_number for name in ("n1", "n2")}
    assert all(after[name] - before[name] < 10 for name in before)  # what the membership has to remember
    sim.restart("n3")
    assert written(sim).number == 1
