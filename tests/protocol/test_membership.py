"""The whole machine: single verbs first, then clusters of it in a world with faults."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dyno.config import Config
from dyno.protocol.identity import LOST_ALL, remembered
from dyno.protocol.membership import Membership
from dyno.protocol.outbox import Outbox
from dyno.wire.doubts import Doubt, pack_doubts
from dyno.wire.members import (
    ALIVE,
    DEAD,
    JOINING,
    LEFT,
    NORMAL,
    SUSPECT,
    Member,
    pack_member,
    pack_members,
    unpack_members,
)
from dyno.wire.messages import (
    Ack,
    Admit,
    AskJoin,
    Assent,
    Doubts,
    Gossip,
    Introduce,
    Nack,
    Ping,
    PingRequest,
    PushPull,
    Reject,
)
from tests.protocol.membership_harness import CLUSTER, QUICK, Disk, Process, World, a_member, agree

N1, N2 = a_member("n1"), a_member("n2")


class Alone:
    """One machine, n1, and nothing around it."""

    def __init__(
        self,
        *known: Member,
        cluster: bytes = b"",
        seeds: tuple[str, ...] = (),
        me: Member = N1._replace(stamp=0),  # noqa: B008
        careful: bool = True,
    ) -> None:
        self.machine = Membership(
            me=me,
            cluster=cluster,
            partitions=64,
            known=known,
            seeds=seeds,
            config=Config(),
            random=Random(1),
            holds_data=lambda: False,
            careful=careful,
        )
        self.started = Outbox()
        self.machine.start(0.0, self.started)

    def got(self, message: object, *, source: str = "n2:7100", now: float = 0.1) -> Outbox:
        out = Outbox()
        if source == "n2:7100/link":
            assert isinstance(message, Ack)
            self.machine.answer("n2:7100", message, now, out)
        elif source == "link":
            assert isinstance(message, AskJoin | Admit | PushPull | Ping)
            self.machine.receive(4, message, now, out)
        elif isinstance(message, Ping | Ack | PingRequest | Gossip | Nack | Doubts):
            self.machine.receive_datagram(source, message, now, out)
        else:
            assert isinstance(message, Introduce | Assent | Reject | PushPull)
            self.machine.answer(source, message, now, out)
        return out

    def link_up(self, address: str = "n2:7100") -> Outbox:
        out = Outbox()
        self.machine.link_up(address, 0.1, out)
        return out

    def tick(self, now: float) -> Outbox:
        out = Outbox()
        self.machine.tick(now, out)
        return out


def member_of_two() -> Alone:
    """n1, back in its cluster with n2."""
    return Alone(a_member("n1", stamp=3), N2, cluster=CLUSTER)


def test_the_version_grows_with_every_change_of_a_record_and_that_of_the_ring_with_its_own() -> None:
    alone = member_of_two()
    machine = alone.machine
    before, ring = machine.version, machine.ring_version
    alone.got(PushPull(pack_members([N2]), False), now=0.1)
    assert (machine.version, machine.ring_version) == (before, ring), "nothing new"
    alone.got(PushPull(pack_members([N2._replace(liveness=SUSPECT)]), False), now=0.1)
    suspected = machine.version
    assert suspected > before
    assert machine.ring_version == ring, "whoever lives, the ring is the same"
    alone.got(PushPull(pack_members([N2._replace(liveness=SUSPECT), a_member("n3")]), False), now=0.1)
    assert machine.version > suspected
    assert machine.ring_version > ring


# ── three ways to begin ──


def test_a_node_without_seeds_and_memory_founds_a_cluster():
    alone = Alone()
    machine = alone.machine
    assert machine.joined
    assert len(machine.cluster) == 16
    assert machine.partitions == 64
    assert machine.me == a_member("n1", stamp=1)
    assert machine.ring_members() == [machine.me]
    assert alone.started.meta["cluster"] == machine.cluster
    assert alone.started.connect == []
    assert machine.is_live("n1")
    assert machine.is_alive("n1")
    assert not machine.letting_in


def test_a_node_that_remembers_its_seat_returns_to_it_under_a_higher_stamp():
    kept = a_member("n1", stamp=3, seat=b"as it was born..", zone="z", weight=2.0, address="old:1")
    me = N1._replace(stamp=2, start=b"newstart", zone="other")
    alone = Alone(kept, a_member("n2", liveness=DEAD), cluster=CLUSTER, me=me)
    machine = alone.machine
    assert machine.joined
    assert machine.me == kept._replace(stamp=4, start=b"newstart", address="n1:7100")
    assert [member.name for member in machine.ring_members()] == ["n1", "n2"]
    assert alone.started.connect == ["n2:7100"]
    assert alone.started.meta["stamp"] == (4).to_bytes(8, "big")
    assert machine.is_alive("n2")  # until probing says otherwise
    assert not machine.is_alive("n3")


def test_a_node_with_seeds_and_no_memory_never_founds():
    alone = Alone(seeds=("n2:7100", "n1:7100"))
    assert not alone.machine.joined
    assert alone.machine.cluster == b""
    assert alone.started.connect == ["n2:7100"]
    assert alone.machine.seeds == ["n2:7100", "n1:7100"]
    assert isinstance(alone.link_up().sends[0][1], AskJoin)


def test_a_node_that_has_but_its_own_address_to_join_by_stops():
    alone = Alone(seeds=("n1:7100",))
    assert alone.started.stop == "n1 has no other address to join a cluster by"
    assert alone.machine.deadline() is None


def test_a_half_finished_join_goes_on_by_the_members_it_remembers():
    alone = Alone(a_member("n1", state=JOINING), N2, cluster=CLUSTER)
    assert not alone.machine.joined
    assert alone.started.connect == ["n2:7100"]
    assert isinstance(alone.link_up().sends[0][1], AskJoin)


def test_a_wiped_directory_does_not_take_its_old_seat_for_its_own():
    old = a_member("n1", directory=b"the one before..")
    assert not Alone(old, N2, cluster=CLUSTER, seeds=("n2:7100",)).machine.joined


def test_a_seed_that_has_served_is_forgotten():
    alone = Alone(a_member("n1", stamp=3), N2, cluster=CLUSTER, seeds=("seed:1",))
    assert alone.started.connect == ["n2:7100", "seed:1"]
    out = alone.link_up("seed:1")
    assert [address for address, _ in out.durable_sends] == ["seed:1"]
    assert out.disconnect == []
    out = alone.got(PushPull(pack_members([N2]), False), source="seed:1")
    assert out.disconnect == ["seed:1"]
    assert alone.machine.seeds == []


def seed_refused(machine: Membership) -> Outbox:
    out = Outbox()
    machine.seed_refused("seed:1", "it belongs elsewhere", 1.0, out)
    return out


def test_a_seed_of_another_cluster_is_the_end_of_a_node_that_no_member_has_met_yet():
    for known, cluster in (((a_member("n1", stamp=3), N2), CLUSTER), ((), b"")):
        alone = Alone(*known, cluster=cluster, seeds=("seed:1",))
        assert seed_refused(alone.machine).stop == "cannot join at seed:1: it belongs elsewhere"
        out = seed_refused(alone.machine)
        assert (out.stop, out.events) == (None, [])


def test_a_node_that_serves_does_not_end_because_a_seeds_address_changed_hands():
    alone = Alone(a_member("n1", stamp=3), N2, cluster=CLUSTER, seeds=("seed:1",))
    alone.got(Ping(1, "n1", N1.start, "n2", b""))
    out = seed_refused(alone.machine)
    assert out.stop is None
    assert out.events == [("warning", "cannot join at seed:1: it belongs elsewhere")]
    assert out.disconnect == ["seed:1"]
    assert alone.machine.seeds == []


# ── datagrams ──


def test_a_ping_is_answered_by_whom_it_names_only():
    alone = member_of_two()
    me = alone.machine.me
    for start in (b"", me.start):
        out = alone.got(Ping(7, "n1", start, "n2", b""), source="h:9")
        assert out.datagrams == [("h:9", Ack(7, "n1", me.start, b""))]
    assert alone.got(Ping(7, "n1", b"another.", "n2", b"")).datagrams == []
    assert alone.got(Ping(7, "n9", b"", "n2", b"")).datagrams == []


def test_being_pinged_by_its_start_introduces_a_node():
    alone = member_of_two()
    assert alone.link_up().sends == []
    alone.got(Ping(7, "n1", alone.machine.me.start, "n2", b""))
    assert len(alone.link_up().sends) == 1


def test_a_ping_for_somebody_else_is_passed_on():
    out = member_of_two().got(PingRequest(7, "n3", N2.start, "n3:7100", "n2", b""))
    assert out.datagrams[0][0] == "n3:7100"


def test_a_node_that_has_no_cluster_yet_hears_no_datagrams():
    alone = Alone(seeds=("n2:7100",))
    assert alone.got(Ping(7, "n1", b"", "n2", b"")).datagrams == []


def test_gossip_is_taken_in_and_malformed_gossip_is_not():
    alone = member_of_two()
    alone.got(Gossip("n2", pack_members([a_member("n3")])))
    assert alone.machine.table.seated("n3") == a_member("n3")
    out = alone.got(Gossip("n2", b"junk"))
    assert out.events[0][0] == "warning"


def test_doubts_are_taken_in_with_the_gossip_beside_them():
    alone = member_of_two()
    doubt = Doubt("n2", N2.start, 0, "n2")
    alone.got(Doubts("n2", pack_doubts([doubt]), pack_members([a_member("n3")])))
    assert alone.machine.table.seated("n2") == a_member("n2", liveness=SUSPECT)
    assert alone.machine.table.seated("n3") == a_member("n3")


def test_the_ack_to_a_ping_that_tells_of_a_suspicion_refutes_it():
    alone = member_of_two()
    me = alone.machine.me
    out = alone.got(Ping(7, "n1", me.start, "n2", pack_members([me._replace(liveness=SUSPECT)])))
    refuted = me._replace(incarnation=1)
    assert out.datagrams == [("n2:7100", Ack(7, "n1", me.start, pack_members([refuted])))]


def test_a_ping_over_a_link_is_answered_there():
    alone = member_of_two()
    me = alone.machine.me
    ping = Ping(7, "n1", me.start, "n2", pack_members([a_member("n3")]))
    out = alone.got(ping, source="link")
    assert alone.machine.table.seated("n3") == a_member("n3")
    assert out.replies == [(4, Ack(7, "n1", me.start, pack_members([a_member("n3")])))]
    assert alone.got(ping._replace(target_start=b"another."), source="link").replies == []


def probed(alone: Alone) -> tuple[float, Ping]:
    """n2 was pinged, and did not answer until others would be asked."""
    first = alone.machine.deadline()
    assert first is not None
    [(_, ping)] = alone.tick(first).datagrams
    assert isinstance(ping, Ping)
    late = alone.tick(first + 0.5)
    assert late.sends == [("n2:7100", ping)]
    return first, ping


def test_whoever_answers_over_its_link_lives_though_no_datagram_comes_through():
    alone = member_of_two()
    first, ping = probed(alone)
    ack = Ack(ping.seq, "n2", N2.start, pack_members([a_member("n3")]))
    alone.got(ack, source="n2:7100/link", now=first + 0.6)
    assert alone.machine.table.seated("n3") is not None
    alone.tick(first + 1.0)
    assert alone.machine.is_alive("n2")


def test_whoever_answers_by_no_way_is_suspected():
    alone = member_of_two()
    first, ping = probed(alone)
    alone.got(Nack(ping.seq, "n9"), now=first + 0.9)
    alone.tick(first + 1.0)
    assert not alone.machine.is_alive("n2")
    assert alone.machine.is_live("n2")


# ── tables ──


def test_tables_are_exchanged_when_a_link_comes_up():
    alone = member_of_two()
    [(address, message)] = alone.link_up().durable_sends
    assert address == "n2:7100"
    assert message == PushPull(pack_members([alone.machine.me, N2]), True)
    assert alone.link_up("unknown:1").durable_sends == []


def test_whoever_wants_our_table_gets_it():
    alone = member_of_two()
    theirs = pack_members([N2, a_member("n3")])
    assert alone.got(PushPull(theirs, False), source="link").durable_replies == []
    [(link, message)] = alone.got(PushPull(theirs, True), source="link").durable_replies
    assert link == 4
    assert message == PushPull(pack_members([alone.machine.me, N2, a_member("n3")]), False)


def test_a_malformed_table_is_answered_with_an_event_in_the_log():
    out = member_of_two().got(PushPull(b"junk", False))
    assert out.events[0][0] == "warning"


def test_a_node_that_knows_no_cluster_learns_nothing_from_tables():
    alone = Alone(seeds=("n2:7100",))
    alone.got(PushPull(pack_members([N2]), True), source="link")
    alone.got(PushPull(pack_members([N2]), False))
    assert len(alone.machine.table) == 0


def test_tables_are_exchanged_from_time_to_time():
    alone = member_of_two()
    alone.link_up()
    exchanges = 0
    while (now := alone.machine.deadline()) is not None and now < 61.0:
        if now > 31.0:
            alone.machine.link_down("n2:7100", now, Outbox())
        out = alone.tick(now)
        exchanges += sum(isinstance(m, PushPull) and m.answer for _, m in out.durable_sends)
    assert exchanges == 1


def test_answers_to_a_join_that_is_over_mean_nothing():
    alone = member_of_two()
    assert alone.got(Reject(1, "name", "late")).stop is None


# ── time ──


def test_a_process_that_slept_suspects_nobody_for_it():
    alone = member_of_two()
    now = alone.machine.deadline()
    assert now is not None
    alone.tick(now)
    alone.tick(now + 60.0)
    assert alone.machine.is_alive("n2")


def test_without_that_care_a_process_that_slept_suspects_whom_it_pinged_last():
    alone = Alone(a_member("n1", stamp=3), N2, cluster=CLUSTER, careful=False)
    now = alone.machine.deadline()
    assert now is not None
    alone.tick(now)
    alone.tick(now + 60.0)
    assert not alone.machine.is_alive("n2")


def test_the_recently_dead_are_gossiped_with_too_and_others_that_died_are_not():
    dead = a_member("n2", liveness=DEAD)
    alone = member_of_two()
    alone.got(Gossip("n2", pack_members([dead])), now=0.1)
    assert alone.machine.deadline() == 0.1
    assert alone.tick(0.1).datagrams == [("n2:7100", Gossip("n1", pack_members([dead])))]
    before = alone.machine.deadline()
    assert before is not None
    for _ in range(200):
        now = alone.machine.deadline()
        assert now is not None
        alone.tick(now)
    assert now > 31.0
    alone.got(Gossip("n2", pack_members([a_member("n3", liveness=DEAD)])), now=now)
    told = [address for _ in range(9) for address, _ in alone.tick(alone.machine.deadline() or 0.0).datagrams]
    assert set(told) == {"n3:7100"}


def test_news_that_nobody_is_left_to_hear_keeps_nobody_awake():
    founder = Alone()
    founder.got(PushPull(pack_members([a_member("n2", liveness=DEAD)]), False), source="link")
    for _ in range(100):
        founder.tick(founder.machine.deadline() or 0.0)
    now = founder.machine.deadline()
    assert now is not None
    moved = a_member("n2", liveness=DEAD, incarnation=1)
    founder.got(PushPull(pack_members([moved]), False), source="link", now=now)
    founder.tick(now)
    deadline = founder.machine.deadline()
    assert deadline is not None
    assert deadline > now


def test_large_tables_are_exchanged_more_rarely():
    for count, interval_s in ((32, 30.0), (33, 60.0), (128, 90.0), (2000, 210.0)):
        others = [a_member(f"n{i}") for i in range(2, count + 1)]
        alone = Alone(a_member("n1", stamp=3), *others, cluster=CLUSTER)
        alone.link_up()
        times = []
        while len(times) < 3:
            now = alone.machine.deadline()
            assert now is not None
            out = alone.tick(now)
            if any(isinstance(message, PushPull) for _, message in (*out.sends, *out.durable_sends)):
                times.append(now)
        assert times[2] - times[1] == pytest.approx(interval_s, abs=0.01)


# ── ending ──


def test_a_node_that_has_ended_does_nothing_more():
    alone = member_of_two()
    alone.link_up()
    out = Outbox()
    alone.machine.leave_quietly(0.2, out)
    [(_, message)] = out.sends
    assert isinstance(message, PushPull)
    assert unpack_members(message.members, members_max=9)[0].liveness == DEAD
    alone.machine.leave_quietly(0.3, out)
    assert len(out.sends) == 1
    assert alone.machine.deadline() is None
    for silent in (
        alone.link_up(),
        alone.tick(9.0),
        alone.got(AskJoin(1, pack_member(a_member("n3", state=JOINING))), source="link"),
        alone.got(PushPull(b"", True)),
        alone.got(Ping(7, "n1", b"", "n2", b"")),
    ):
        assert (silent.sends, silent.replies, silent.datagrams, silent.events) == ([], [], [], [])


def test_a_superseded_node_answers_nobody():
    alone = member_of_two()
    alone.got(Ping(7, "n1", alone.machine.me.start, "n2", b""))
    later = a_member("n1", stamp=9, start=9)
    out = alone.got(PushPull(pack_members([N2, later]), True), source="link")
    assert out.stop is not None
    assert (out.replies, out.durable_replies) == ([], [])


# ── clusters ──


def joined(*processes: Process) -> bool:
    return all(process.joined for process in processes) and agree(list(processes))


def test_a_founder_and_two_joiners_make_a_cluster():
    world = World()
    a, b, c = world.cluster(3)
    assert a.ring() == b.ring() == c.ring() == ["n1", "n2", "n3"]
    assert len({p.membership.cluster for p in (a, b, c)}) == 1
    assert len({p.membership.fingerprint for p in (a, b, c)}) == 1
    assert a.membership.ring_version == 3
    assert not any(p.admitting for p in (a, b, c))


def test_joining_goes_through_any_member_and_waits_for_one():
    world = World(1)
    a = world.start(world.disk("n1"))
    c = world.start(world.disk("n3"), "h:7103")  # its seed is not there yet
    world.run(1.0)
    assert not c.joined
    b = world.start(world.disk("n2"), a.address)
    world.until(lambda: joined(a, b, c))


def test_seeds_that_wait_for_each_other_wait_and_found_nothing():
    world = World(2)
    b, c = world.start(world.disk("n2"), "h:7102"), world.start(world.disk("n3"), "h:7101")
    world.run(5.0)
    assert b.running
    assert c.running
    assert b.membership.cluster == c.membership.cluster == b""


@pytest.mark.parametrize("seed", range(5))
def test_many_that_join_at_once_through_different_members_all_get_in(seed):
    world = World(seed, loss=0.1)
    a, b, c = world.cluster(3)
    late = [world.start(world.disk(f"n{i}"), (a, b, c)[i % 3].address) for i in range(4, 9)]
    world.until(lambda: joined(a, b, c, *late))
    assert len(a.ring()) == 8


def test_twenty_nodes_find_each_other():
    world = World(3)
    processes = world.cluster(20)
    assert len({p.membership.fingerprint for p in processes}) == 1
    world.run(2.0)
    assert all(process.sees(f"n{i}").liveness == ALIVE for process in processes for i in range(1, 21))


def test_a_cluster_that_holds_data_takes_nobody_in_and_takes_data_again():
    world = World(4)
    a, b, c = world.cluster(3)
    assert c.put()
    d = world.start(world.disk("n4"), a.address)
    world.until(lambda: not d.running)
    assert d.stopped_because is not None
    assert "the cluster holds data" in d.stopped_because
    world.run(0.1)
    assert all(process.put() for process in (a, b, c))
    assert a.ring() == ["n1", "n2", "n3"]


def test_a_refused_joiner_is_forgotten_by_members_that_only_others_tell():
    world = World(5)
    a, b, c = world.cluster(3)
    c.put()
    c.kill()
    d = world.start(world.disk("n4"), a.address)
    world.until(lambda: a.admitting and b.admitting)
    assert not a.put()
    world.run(0.01)
    b.kill()
    b = world.start(b.disk)
    assert b.admitting  # it assented, and remembers it
    assert b.membership.joining() == ["n4"]
    c = world.start(c.disk)
    world.until(lambda: not d.running)
    world.until(lambda: not (a.admitting or b.admitting or c.admitting))


def test_what_a_joiner_that_died_was_granted_is_given_back_by_whoever_holds_data():
    world = World(6)
    a, b, c = world.cluster(3)
    c.put()
    c.kill()
    d = world.start(world.disk("n4"), a.address)
    world.until(lambda: a.admitting and b.admitting)
    d.kill()
    c = world.start(c.disk)
    world.until(lambda: not (a.admitting or b.admitting))


def test_a_joiner_that_died_half_way_comes_back_and_gets_in():
    world = World(7)
    a, b = world.cluster(2)
    b.kill()
    c = world.start(world.disk("n3"), a.address)
    world.until(lambda: a.admitting)
    c.kill()
    b = world.start(b.disk)
    world.run(1.0)
    assert a.admitting
    c = world.start(c.disk)  # without seeds: it knows whom it asked
    world.until(lambda: joined(a, b, c))


def test_a_joiner_waits_for_the_dead_and_says_so():
    world = World(8)
    a, b, c = world.cluster(3)
    b.kill()
    d = world.start(world.disk("n4"), a.address)
    world.run(5.0)
    assert not d.joined
    assert any(event.startswith("waiting for the assent of n2") for event in d.events)
    b = world.start(b.disk)
    world.until(lambda: joined(a, b, c, d))


def test_a_joiner_that_is_told_to_end_leaves_no_trace():
    world = World(9)
    a, b = world.cluster(2)
    b.kill()
    c = world.start(world.disk("n3"), a.address)
    world.until(lambda: a.admitting)
    c.quit()
    assert a.put()
    assert a.ring() == ["n1", "n2"]


# ── names ──


def test_a_name_that_a_live_process_has_is_refused():
    world = World(10)
    a, b, c = world.cluster(3)
    thief = world.start(world.disk("n2"), c.address)
    world.until(lambda: not thief.running)
    assert thief.stopped_because is not None
    assert f"the name n2 is taken by a live process at {b.address}" in thief.stopped_because
    world.run(1.0)
    assert joined(a, b, c)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_of_two_that_race_for_one_name_through_different_members_exactly_one_gets_it(seed, loss):
    world = World(seed, loss=loss)
    a, b, c = world.cluster(3)
    racers = [world.start(world.disk("n4"), a.address), world.start(world.disk("n4"), b.address)]
    world.until(lambda: sum(racer.running for racer in racers) == 1 and any(r.joined for r in racers))
    world.until(lambda: joined(a, b, c, *(racer for racer in racers if racer.running)))
    assert a.ring() == ["n1", "n2", "n3", "n4"]


def test_a_wiped_node_inherits_its_seat_in_an_empty_cluster():
    world = World(11)
    a, b, c = world.cluster(3)
    seat, fingerprint = b.membership.me.seat, a.membership.fingerprint
    b.kill()
    b = world.start(world.disk("n2"), a.address, address=b.address)
    world.until(lambda: joined(a, b, c))
    assert b.membership.me.seat == seat
    assert a.membership.fingerprint == fingerprint
    assert a.sees("n2").directory == b.disk.directory


def test_a_wiped_node_takes_over_its_seat_in_a_cluster_with_data_which_goes_on_meanwhile():
    world = World(12)
    a, b, c = world.cluster(3)
    a.put()
    seat, fingerprint = b.membership.me.seat, a.membership.fingerprint
    b.kill()
    world.until(lambda: dead_everywhere("n2", [a, c]))
    wiped = world.start(world.disk("n2"), c.address)
    while not joined(a, wiped, c):
        assert a.put()
        assert not c.admitting
        world.run(0.001)
    assert wiped.membership.inherited
    assert wiped.membership.me.seat == seat
    assert {p.membership.fingerprint for p in (a, wiped, c)} == {fingerprint}
    assert wiped.disk.meta["recovering"] == LOST_ALL


def test_a_founder_that_lost_its_disk_takes_over_its_seat_through_others():
    world = World(30)
    a, b, c = world.cluster(3)
    b.put()
    a.kill()
    a = world.start(world.disk("n1"), b.address, c.address, address=a.address)
    world.until(lambda: joined(a, b, c))
    assert a.membership.inherited


def test_a_node_that_takes_over_its_seat_waits_for_no_dead_member_but_for_every_other():
    world = World(31)
    a, b, c, d = world.cluster(4)
    a.put()
    c.kill()
    d.kill()
    world.until(lambda: dead_everywhere("n3", [a, b]) and dead_everywhere("n4", [a, b]))
    wiped = world.start(world.disk("n4"), a.address)
    world.until(lambda: wiped.joined)
    wiped.kill()
    b.frozen = True
    wiped = world.start(world.disk("n4"), a.address)
    world.run(0.5)
    assert not wiped.joined
    b.frozen = False
    c = world.start(c.disk)
    world.until(lambda: joined(a, b, c, wiped))


def test_a_node_that_died_half_way_when_it_took_over_its_seat_comes_again():
    world = World(32)
    a, b, c = world.cluster(3)
    a.put()
    b.kill()
    c.frozen = True
    wiped = world.start(world.disk("n2"), a.address)
    world.until(lambda: a.sees("n2").directory == wiped.disk.directory)
    wiped.kill()
    assert a.put()
    c.frozen = False
    wiped = world.start(wiped.disk)  # without seeds: it knows whom it asked
    world.until(lambda: joined(a, wiped, c))
    assert wiped.membership.inherited


def test_a_new_directory_with_another_zone_or_weight_is_refused_with_both_named():
    world = World(33)
    a, b, _ = world.cluster(3)
    a.put()
    b.kill()
    wiped = world.start(world.disk("n2"), a.address, zone="elsewhere")
    world.until(lambda: not wiped.running)
    assert wiped.stopped_because == (
        "n2 cannot join: the cluster holds data, so n2 keeps its place in it, with zone '' and weight 1.0, "
        "not zone 'elsewhere' and weight 1.0: start it with those it had"
    )
    assert not a.admitting


def test_a_live_node_keeps_its_name_from_a_new_directory_in_a_cluster_with_data():
    world = World(34)
    a, b, c = world.cluster(3)
    a.put()
    thief = world.start(world.disk("n2"), c.address)
    world.until(lambda: not thief.running)
    assert "the name n2 is taken by a live process" in str(thief.stopped_because)
    world.run(1.0)
    assert joined(a, b, c)


@pytest.mark.parametrize("seed", range(10))
def test_of_two_new_directories_that_race_for_a_seat_exactly_one_gets_it(seed):
    world = World(seed, loss=0.2)
    a, b, c = world.cluster(3)
    a.put()
    b.kill()
    racers = [world.start(world.disk("n2"), peer.address) for peer in (a, c)]
    world.until(lambda: sum(racer.running for racer in racers) == 1 and any(r.joined for r in racers))
    world.until(lambda: joined(a, c, *(racer for racer in racers if racer.running)))
    assert a.ring() == ["n1", "n2", "n3"]


def test_a_directory_that_was_replaced_and_comes_back_knows_that_it_may_lack_something():
    world = World(35)
    a, b, c = world.cluster(3)
    a.put()
    old = b.disk
    b.kill()
    wiped = world.start(world.disk("n2"), a.address)
    world.until(lambda: joined(a, wiped, c))
    wiped.kill()
    back = world.start(old)
    assert not back.membership.replaced
    world.until(lambda: joined(a, back, c))
    assert back.membership.replaced
    back.run(lambda out: back.membership.renew_directory(b"a new directory.", world.now, out))
    world.until(lambda: joined(a, back, c))
    assert not back.membership.replaced
    assert a.sees("n2").directory == b"a new directory."
    assert back.membership.me == a.sees("n2")


def test_a_restored_copy_of_an_old_directory_is_let_in_again():
    world = World(13)
    a, b, c = world.cluster(3)
    old = Disk("n2", b.disk.directory, b.disk.seat, dict(b.disk.meta))
    for _ in range(3):
        b.kill()
        b = world.start(b.disk)
        world.until(lambda b=b: joined(a, b, c))
    b.kill()
    restored = world.start(old)
    world.until(lambda: joined(a, restored, c))
    assert restored.membership.me.stamp > b.membership.me.stamp


def test_of_two_processes_on_copies_of_one_directory_exactly_one_survives():
    world = World(14)
    a, b, c = world.cluster(3)
    copy = world.start(Disk("n2", b.disk.directory, b.disk.seat, dict(b.disk.meta)))
    world.until(lambda: not (b.running and copy.running))
    survivor = b if b.running else copy
    gone = copy if b.running else b
    world.until(lambda: joined(a, survivor, c))
    assert gone.stopped_because is not None
    assert gone.stopped_because.endswith("took the name n2")


# ── failures ──


def dead_everywhere(name: str, processes: list[Process]) -> bool:
    return all(process.sees(name).liveness == DEAD for process in processes)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_a_killed_process_is_dead_everywhere_within_a_round_and_the_suspicion_time(count):
    world = World(15)
    *rest, victim = world.cluster(count)
    victim.kill()
    took = world.until(lambda: dead_everywhere(victim.name, rest))
    config = world.config
    rounds_s = (count + 1) * config.probe_interval_s
    suspicion_s = config.suspicion_mult * 1.1 * config.probe_interval_s
    assert took < rounds_s + suspicion_s + 1.0
    assert victim.name in rest[0].ring()
    assert not rest[0].membership.is_live(victim.name)


def test_a_process_that_ends_cleanly_is_dead_at_once():
    world = World(16)
    a, b, c = world.cluster(3)
    c.quit()
    assert dead_everywhere("n3", [a, b])
    world.run(3.0)
    assert "n3 is suspect" not in a.events


def test_a_restart_at_a_new_address_is_met_again_at_once():
    world = World(17)
    a, b, c = world.cluster(3)
    c.kill()
    c = world.start(c.disk)
    assert world.until(lambda: joined(a, b, c)) < 0.1
    assert a.sees("n3").address == c.address
    assert list(a.wanted) == [b.address, c.address]


def test_a_whole_cluster_restarts_elsewhere_and_finds_itself_by_a_seed():
    world = World(18)
    processes = world.cluster(3)
    for process in processes:
        process.kill()
    a = world.start(processes[0].disk)
    assert a.joined  # serves at once, with the ring it remembers
    b, c = (world.start(process.disk, a.address) for process in processes[1:])
    world.until(lambda: joined(a, b, c))


def test_two_halves_that_hold_each_other_dead_meet_again():
    world = World(19)
    processes = world.cluster(6)
    left, right = processes[:3], processes[3:]
    world.partition(left, right)
    world.until(lambda: all(dead_everywhere(p.name, right) for p in left))
    world.until(lambda: all(dead_everywhere(p.name, left) for p in right))
    assert all(len(process.ring()) == 6 for process in processes)
    world.heal()
    took = world.until(
        lambda: (
            agree(processes) and all(p.sees(q.name).liveness == ALIVE for p in processes for q in processes)
        )
    )
    assert took < 2.0


def test_a_node_that_others_cannot_reach_by_one_path_is_reached_by_others():
    world = World(20)
    a, b, _ = world.cluster(3)
    world.partition([a], [b])
    world.run(5.0)
    assert b.membership.is_live("n1")
    assert a.membership.is_live("n2")
    assert "n2 is dead" not in a.events


def test_a_false_suspicion_is_refuted():
    world = World(21)
    a, b, c = world.cluster(3)
    suspect = b.membership.me._replace(liveness=SUSPECT)
    gossip = Gossip("n3", pack_members([suspect]))
    a.run(lambda out: a.membership.receive_datagram(c.address, gossip, world.now, out))
    assert a.sees("n2").liveness == SUSPECT
    world.until(lambda: agree([a, b, c]) and a.sees("n2").liveness == ALIVE, within=1.0)
    assert a.sees("n2").incarnation == suspect.incarnation + 1


def test_a_false_death_is_refuted():
    world = World(22)
    a, b, c = world.cluster(3)
    gossip = Gossip("n3", pack_members([b.membership.me._replace(liveness=DEAD)]))
    a.run(lambda out: a.membership.receive_datagram(c.address, gossip, world.now, out))
    assert not a.membership.is_live("n2")
    world.until(lambda: agree([a, b, c]) and a.membership.is_live("n2"), within=0.1)


def test_a_process_that_is_stopped_for_a_while_comes_back_and_accuses_nobody():
    world = World(23)
    a, b, c = world.cluster(3)
    b.frozen = True
    world.until(lambda: dead_everywhere("n2", [a, c]))
    heard = len(b.events)
    b.frozen = False
    world.until(lambda: agree([a, b, c]) and a.sees("n2").liveness == ALIVE, within=2.0)
    assert not [event for event in b.events[heard:] if event.endswith(("is suspect", "is dead"))]


def test_with_a_third_of_the_packets_lost_nobody_stays_dead():
    world = World(24, loss=0.3)
    processes = world.cluster(8)
    world.run(20.0)
    world.loss = 0.0
    world.until(
        lambda: (
            agree(processes) and all(p.sees(q.name).liveness == ALIVE for p in processes for q in processes)
        )
    )
    assert all(process.joined for process in processes)


def test_probing_costs_about_two_messages_per_member_and_interval():
    world = World(25)
    processes = world.cluster(10)
    world.run(2.0)
    before = sum(process.datagrams for process in processes)
    world.run(10.0)
    per_interval = (
        (sum(p.datagrams for p in processes) - before) / 10 / (10.0 / world.config.probe_interval_s)
    )
    assert 1.9 < per_interval < 2.1


def test_the_same_seed_gives_the_same_history():
    def history() -> list[object]:
        world = World(26, loss=0.2)
        processes = world.cluster(5)
        processes[2].kill()
        world.run(5.0)
        return [(p.events, p.datagrams, p.membership.table.members()) for p in processes]

    assert history() == history()


# ── slow machines ──


def accused(processes: list[Process]) -> list[str]:
    return [event for p in processes for event in p.events if event.endswith(("is suspect", "is dead"))]


@pytest.mark.parametrize("seed", range(4))
def test_members_that_stop_and_go_again_and_again_bury_nobody(seed):
    """Neither among themselves nor of the others, however short they run in between."""
    world = World(seed)
    processes = world.cluster(8)
    slow = processes[:3]
    for _ in range(8):
        for process in slow:
            process.frozen = True
        world.run(3.0)
        for process in slow:
            process.frozen = False
        world.run(0.06)
    wrong = {f"n{i} is {fate}" for i in range(4, 9) for fate in ("suspect", "dead")}
    assert not wrong & set(accused(processes))


def test_a_member_that_hears_nobody_for_a_while_buries_nobody():
    """Its packets, and those to it, are lost; before it went deaf it may have suspected somebody rightly."""
    world = World(1)
    processes = world.cluster(6)
    deaf, *others = processes
    world.partition([deaf], others)
    config = world.config
    assert not any(process.membership.deaf for process in processes)
    world.run(config.suspicion_mult * config.suspicion_max_mult * config.probe_interval_s)
    assert [process for process in processes if process.membership.deaf] == [deaf]
    assert not [event for event in deaf.events if event.endswith("is dead")]
    world.heal()
    world.until(lambda: all(p.sees(q.name).liveness == ALIVE for p in processes for q in processes))
    assert not [event for event in deaf.events if event.endswith("is dead")]
    assert not deaf.membership.deaf


def test_whoever_stays_cut_off_finds_out_in_the_end():
    world = World(1)
    processes = world.cluster(6)
    deaf, *others = processes
    world.partition([deaf], others)
    config = world.config
    most_s = config.suspicion_mult * config.suspicion_max_mult * config.probe_interval_s
    took = world.until(lambda: all(deaf.sees(p.name).liveness == DEAD for p in others))
    rounds_s = 6 * config.probe_interval_s * config.self_distrust_max
    assert took < 2 * most_s + rounds_s


def test_the_more_members_agree_the_sooner_a_suspect_is_dead():
    def took_s(count: int) -> float:
        world = World(5)
        *rest, victim = world.cluster(count)
        victim.kill()
        world.until(lambda: rest[0].sees(victim.name).liveness == SUSPECT)
        return world.until(lambda: rest[0].sees(victim.name).liveness == DEAD)

    least_s = QUICK.suspicion_mult * QUICK.probe_interval_s
    assert least_s - 0.1 < took_s(3) < least_s + 0.1  # nobody else can agree
    assert least_s - 0.1 < took_s(7) < 1.5 * least_s


# ── any schedule ──


def sits(process: Process) -> bool:
    """Whether its disk knows of a seat."""
    own = remembered(process.disk.meta.get, members_max=99).own(process.name)
    return own is not None and own.state == NORMAL


class Chaos:
    """Up to five nodes that come, go, move, freeze and are cut off; n1 keeps its address."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.world = World(seed, loss=self.random.choice([0.0, 0.1, 0.3]))
        self.nodes = {"n1": self.world.start(self.world.disk("n1"))}
        self.home = self.nodes["n1"].address
        self.seats = {"n1": self.nodes["n1"].membership.me.seat}

    def live(self) -> list[Process]:
        return [process for process in self.nodes.values() if process.running]

    def others(self, node: Process) -> list[Process]:
        return [other for other in self.nodes.values() if other is not node]

    def act(self, deed: str) -> None:
        node = self.nodes[self.random.choice(list(self.nodes))]
        if deed == "join" and len(self.nodes) < 5:
            name = f"n{len(self.nodes) + 1}"
            self.nodes[name] = self.world.start(self.world.disk(name), node.address, self.home)
        elif deed == "kill" and node.running:
            node.kill()
        elif deed == "quit" and node.running:
            node.quit()
        elif deed == "restart" and not node.running:
            self.restart(node, node.disk)
        elif deed == "wipe" and not node.running and any(map(sits, self.others(node))):
            self.restart(node, self.world.disk(node.name))
        elif deed == "cut":
            some = [process for process in self.live() if self.random.random() < 0.5]
            self.world.partition(some, [process for process in self.live() if process not in some])
        elif deed == "heal":
            self.world.heal()
        elif deed == "put" and node.running:
            node.put()
        elif deed == "freeze":
            node.frozen = True
            self.world.at(self.world.now + self.random.random() * 3, lambda: setattr(node, "frozen", False))
        self.run(self.random.choice([0.001, 0.003, 0.01, 0.05, 0.3, 1.0, 3.0]))

    def restart(self, node: Process, disk: Disk) -> None:
        seeds, address = (self.home,), None
        if node.name == "n1":
            seeds = tuple(other.address for other in self.others(node) if sits(other))
            address = self.home
        self.nodes[node.name] = self.world.start(disk, *seeds, address=address)

    def run(self, seconds: float) -> None:
        """In small steps, so that nobody takes a seat unseen. Seats that are new are taken while nobody holds
        data."""
        end = self.world.now + seconds
        while self.world.now < end:
            self.world.run(min(0.005, end - self.world.now))
            for node in self.live():
                seat = node.membership.me.seat
                if node.joined and self.seats.get(node.name) != seat:
                    holders = [p.name for p in self.nodes.values() if p.disk.data]
                    assert not holders or holders == [node.name], f"{node.name} came in late"
                    assert node.name not in self.seats, f"{node.name} has another seat than before"
                    self.seats[node.name] = seat

    def end(self) -> None:
        """Everything works again, and whoever is down for no good reason is started."""
        self.world.heal()
        self.world.loss = 0.0
        for node in self.nodes.values():
            node.frozen = False
        for _ in range(3):
            self.run(3.0)
            for node in list(self.nodes.values()):
                if node.running and not node.joined and node.name == "n1":
                    node.kill()  # wiped, and told of addresses where nobody lives any more
                if not node.running and "holds data" not in (node.stopped_because or ""):
                    self.restart(node, node.disk)
        self.run(4.0)


deeds = st.sampled_from(
    ["join", "join", "kill", "quit", "restart", "wipe", "cut", "heal", "put", "freeze", "wait"]
)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 1 << 16), st.lists(deeds, min_size=5, max_size=25))
@example(6, ["join", "put", "join", "kill", "restart"])
def test_whatever_happens_the_living_end_up_in_agreement(seed, schedule):
    chaos = Chaos(seed)
    for deed in schedule:
        chaos.act(deed)
    chaos.end()
    live = chaos.live()
    assert all(process.joined for process in live)
    assert agree(live)
    assert not any(process.admitting for process in live)
    for process in live:
        for other in live:
            record = process.sees(other.name)
            assert (record.state, record.liveness) == (NORMAL, ALIVE)
        assert all(record.state != LEFT for record in process.membership.table.members())
