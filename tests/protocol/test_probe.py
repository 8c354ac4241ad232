"""Probing: one ping after the other, others asked when it stays unanswered, and pinging for others."""

from __future__ import annotations

from random import Random

import pytest

from dyno.config import Config
from dyno.protocol.gossip import GossipQueue
from dyno.protocol.local_health import LocalHealth
from dyno.protocol.member_table import MemberTable
from dyno.protocol.outbox import Outbox
from dyno.protocol.probe import RELAYS_MAX, Prober
from dyno.wire.members import DEAD, SUSPECT, Member, pack_members, unpack_members
from dyno.wire.messages import Ack, Nack, Ping, PingRequest
from tests.protocol.membership_harness import a_member

CONFIG = Config(probe_interval_s=1.0, probe_timeout_s=0.4, indirect_probes=2)
ME = a_member("n1")


class Bench:
    """A prober of n1 that knows some others."""

    def __init__(self, *others: Member, seed: int = 1, nacks: bool = True, buddy: bool = True) -> None:
        self.table = MemberTable(members_max=100)
        for member in (ME, *others):
            self.table.merge(member)
        self.gossip = GossipQueue(retransmit_mult=4)
        self.health = LocalHealth(factor_max=8)
        self.now = 0.0
        self.linked: list[tuple[str, object]] = []  # what the last tick sent over links
        self.prober = Prober(
            me="n1",
            table=self.table,
            gossip=self.gossip,
            health=self.health,
            config=CONFIG,
            random=Random(seed),
            nacks=nacks,
            buddy=buddy,
        )

    def start(self) -> Bench:
        self.prober.start(0.0)
        return self

    def due(self) -> tuple[float, Member | None, list[tuple[str, object]]]:
        """Tick when it asks for it: when that was, whom to suspect, what is sent."""
        out = Outbox()
        now = self.prober.deadline()
        assert now is not None
        self.now = now
        suspect = self.prober.tick(now, out)
        self.linked = list(out.sends)
        return now, suspect, list(out.datagrams)

    def ping(self) -> Ping:
        """The next ping."""
        while True:
            for _, message in self.due()[2]:
                if isinstance(message, Ping):
                    return message

    def ack(self, ping: Ping, start: bytes) -> list[tuple[str, object]]:
        out = Outbox()
        self.prober.acked(Ack(ping.seq, ping.target, start, b""), self.now, out)
        return list(out.datagrams)

    def fail(self, *, nacks: int = 0) -> Member | None:
        """A whole probe that nobody answers but so many who send nacks; gives whom to suspect."""
        ping = self.ping()
        _, _, asked = self.due()
        for address, _ in asked[:nacks]:
            self.prober.nacked(Nack(ping.seq, address.removesuffix(":7100")))
        return self.due()[1]


def a_bench(*others: Member, seed: int = 1, nacks: bool = True, buddy: bool = True) -> Bench:
    return Bench(*others, seed=seed, nacks=nacks, buddy=buddy).start()


# ── probing ──


def test_nothing_is_probed_before_the_start():
    prober = Bench().prober
    assert prober.deadline() is None
    assert prober.tick(5.0, Outbox()) is None


def test_a_lonely_node_has_nobody_to_probe():
    bench = a_bench()
    first, suspect, sent = bench.due()
    assert 0.0 <= first <= CONFIG.probe_interval_s
    assert (suspect, sent) == (None, [])
    assert bench.due()[0] == first + 1.0


def test_a_ping_names_the_process_that_it_is_for():
    bench = a_bench(a_member("n2"))
    _, _, [(address, ping)] = bench.due()
    assert address == "n2:7100"
    assert isinstance(ping, Ping)
    assert ping[1:] == ("n2", a_member().start, "n1", b"")


def test_who_answers_is_not_suspected_and_nobody_else_is_asked():
    bench = a_bench(a_member("n2"), a_member("n3"))
    for _ in range(5):
        now, suspect, [(_, ping)] = bench.due()
        assert suspect is None
        bench.ack(ping, a_member().start)
        assert bench.prober.deadline() == now + 1.0


def test_every_round_probes_everybody_once():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 8)))
    rounds = []
    for _ in range(3):
        pings = []
        for _ in range(6):
            ping = bench.ping()
            bench.ack(ping, a_member().start)
            pings.append(ping.target)
        rounds.append(pings)
    assert all(sorted(pings) == [f"n{i}" for i in range(2, 8)] for pings in rounds)
    assert rounds[0] != rounds[1]


def test_when_an_ack_is_late_some_others_are_asked_to_ping():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 7)), a_member("n9", liveness=DEAD))
    began, _, [(_, ping)] = bench.due()
    now, suspect, sent = bench.due()
    assert now == began + CONFIG.probe_timeout_s
    assert suspect is None
    assert len(sent) == CONFIG.indirect_probes
    for address, request in sent:
        assert isinstance(request, PingRequest)
        assert request[:5] == (ping.seq, ping.target, ping.target_start, f"{ping.target}:7100", "n1")
        assert address not in ("n9:7100", f"{ping.target}:7100")


def test_whom_nobody_can_reach_is_suspected_at_the_end_of_the_interval():
    bench = a_bench(a_member("n2"))
    began, _, _ = bench.due()
    assert bench.due()[1:] == (None, [])
    now, suspect, [(_, ping)] = bench.due()
    assert (now, suspect) == (began + 1.0, a_member("n2"))
    assert ping.target == "n2"  # and goes on being probed


def test_an_ack_that_others_relayed_counts():
    bench = a_bench(a_member("n2"), a_member("n3"))
    ping = bench.ping()
    bench.due()
    bench.ack(ping, a_member().start)
    assert bench.due()[1] is None


def test_acks_of_another_start_or_another_probe_prove_nothing():
    bench = a_bench(a_member("n2"))
    ping = bench.ping()
    bench.ack(ping, b"another.")
    bench.ack(ping._replace(seq=ping.seq - 1), a_member().start)
    bench.due()
    assert bench.due()[1] == a_member("n2")


def test_suspects_are_probed_and_the_dead_are_not():
    bench = a_bench(a_member("n2", liveness=SUSPECT), a_member("n3", liveness=DEAD))
    assert [bench.ping().target for _ in range(3)] == ["n2"] * 3


def test_who_dies_in_the_middle_of_a_round_is_left_out():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 6)))
    first = bench.ping().target
    for name in [f"n{i}" for i in range(2, 6) if f"n{i}" != first]:
        bench.table.merge(a_member(name, liveness=DEAD))
    assert bench.ping().target == first


def test_a_new_member_is_probed_within_the_present_round():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 8)))
    bench.ping()
    bench.table.merge(a_member("new"))
    bench.prober.joins_round("new")
    bench.prober.joins_round("new")
    assert [bench.ping().target for _ in range(6)].count("new") == 1


def test_what_this_process_missed_while_it_slept_is_waited_for_again():
    bench = a_bench(a_member("n2"), a_member("n3"))
    ping = bench.ping()
    bench.prober.postpone(60.0)
    assert bench.prober.tick(60.0, Outbox()) is None
    assert bench.prober.deadline() == bench.now + 60.0 + CONFIG.probe_timeout_s
    bench.due()
    bench.prober.postpone(60.0)
    assert bench.prober.deadline() == pytest.approx(bench.now + 60.0 + 0.6)
    bench.ack(ping, a_member().start)
    bench.prober.postpone(60.0)
    assert bench.due()[0] > 180.0


def test_news_rides_on_pings():
    bench = a_bench(a_member("n2"), a_member("n3"))
    bench.gossip.add(a_member("n3", incarnation=4))
    assert unpack_members(bench.ping().gossip, members_max=9) == [a_member("n3", incarnation=4)]
    _, _, sent = bench.due()
    assert all(message.gossip for _, message in sent)


# ── the link to a member, and the member itself ──


def test_when_an_ack_is_late_the_member_is_pinged_over_the_link_to_it_as_well():
    bench = a_bench(a_member("n2"), a_member("n3"))
    ping = bench.ping()
    assert bench.linked == []
    bench.due()
    assert bench.linked == [(f"{ping.target}:7100", ping)]
    bench.ack(ping, a_member().start)
    assert bench.due()[1] is None


def test_a_suspect_hears_of_it_with_the_ping_before_all_other_news():
    suspect = a_member("n2", liveness=SUSPECT)
    bench = a_bench(suspect, a_member("n3"))
    for number in range(30):
        bench.gossip.add(a_member(f"m{number}"))
    pings = {ping.target: ping for ping in (bench.ping(), bench.ping())}
    assert unpack_members(pings["n2"].gossip, members_max=99)[0] == suspect
    assert suspect not in unpack_members(pings["n3"].gossip, members_max=99)
    [(_, passed_on)] = relayed(bench, REQUEST._replace(target="n2"))
    assert unpack_members(passed_on.gossip, members_max=99)[0] == suspect


def test_who_became_suspect_since_the_ping_hears_so_over_the_link():
    bench = a_bench(a_member("n2"))
    bench.ping()
    bench.table.merge(a_member("n2", liveness=SUSPECT))
    bench.due()
    [(_, ping)] = bench.linked
    assert isinstance(ping, Ping)
    assert ping.gossip == pack_members([a_member("n2", liveness=SUSPECT)])


def test_without_a_buddy_a_suspect_hears_only_what_others_hear():
    bench = a_bench(a_member("n2", liveness=SUSPECT), buddy=False)
    assert bench.ping().gossip == b""


# ── the health of this node ──


def test_whose_probes_are_answered_trusts_itself_again():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 6)))
    bench.health.change(3)
    for factor in (4, 3, 2, 1, 1):
        assert bench.health.factor == factor
        bench.ack(bench.ping(), a_member().start)


def test_each_member_that_sends_neither_ack_nor_nack_is_a_reason_to_distrust_oneself():
    for nacks, factor in ((0, 3), (1, 2), (2, 1)):
        bench = a_bench(*(a_member(f"n{i}") for i in range(2, 6)))
        assert bench.fail(nacks=nacks) is not None
        assert bench.health.factor == factor


def test_where_nobody_can_be_asked_a_failed_probe_is_a_reason_by_itself():
    bench = a_bench(a_member("n2"))
    bench.fail()
    assert bench.health.factor == 2
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 6)), nacks=False)
    bench.fail()
    assert bench.health.factor == 2


def test_whoever_distrusts_itself_waits_longer_but_not_after_an_ack():
    bench = a_bench(a_member("n2"), a_member("n3"))
    bench.health.change(1)
    began, _, [(_, ping)] = bench.due()
    assert bench.due()[0] == began + 2 * CONFIG.probe_timeout_s
    now, suspect, _ = bench.due()
    assert (now, suspect) == (began + 2.0, a_member(ping.target))
    bench = a_bench(a_member("n2"), a_member("n3"))
    bench.health.change(7)
    began, _, [(_, ping)] = bench.due()
    bench.ack(ping, a_member().start)
    assert bench.prober.deadline() == began + 1.0


def test_an_ack_that_came_after_its_interval_leads_to_the_next_probe_at_once():
    bench = a_bench(a_member("n2"), a_member("n3"))
    bench.health.change(7)
    began, _, [(_, ping)] = bench.due()
    bench.now = began + 3.0
    bench.ack(ping, a_member().start)
    assert bench.prober.deadline() == began + 3.0


def test_nacks_of_strangers_or_for_another_probe_mean_nothing():
    bench = a_bench(*(a_member(f"n{i}") for i in range(2, 6)))
    bench.prober.nacked(Nack(1, "n2"))
    ping = bench.ping()
    bench.due()
    for nack in (Nack(ping.seq - 1, "n2"), Nack(ping.seq, "nobody"), Nack(ping.seq, ping.target)):
        bench.prober.nacked(nack)
    bench.due()
    assert bench.health.factor == 3


# ── for others ──

REQUEST = PingRequest(77, "n3", a_member().start, "n3:7100", "n2", b"")


def relayed(bench: Bench, request: PingRequest, now: float = 0.0) -> list[tuple[str, Ping]]:
    out = Outbox()
    bench.prober.relay("n2:7100", request, now, out)
    return out.datagrams


def test_a_ping_for_somebody_else_carries_a_number_of_our_own_and_its_ack_his():
    bench = a_bench(a_member("n2"), a_member("n3"))
    [(address, ping)] = relayed(bench, REQUEST)
    assert address == "n3:7100"
    assert ping[1:] == ("n3", a_member().start, "n1", b"")
    assert ping.seq != REQUEST.seq
    assert bench.ack(ping, a_member().start) == [("n2:7100", Ack(77, "n3", a_member().start, b""))]
    assert bench.ack(ping, a_member().start) == []  # doubled


def test_an_ack_of_another_start_is_not_relayed():
    bench = a_bench(a_member("n2"), a_member("n3"))
    [(_, ping)] = relayed(bench, REQUEST)
    assert bench.ack(ping, b"another.") == []


def test_nothing_improper_is_sent_for_others():
    bench = a_bench(a_member("n2"))
    assert relayed(bench, REQUEST._replace(address="nowhere")) == []
    assert relayed(bench, REQUEST._replace(target="x" * 1000)) == []
    assert relayed(bench, REQUEST._replace(target_start=b"")) == []


def test_pings_for_others_are_bounded_and_forgotten_after_an_interval():
    bench = a_bench(a_member("n2"))
    [(_, first)] = relayed(bench, REQUEST)
    for _ in range(RELAYS_MAX - 1):
        assert relayed(bench, REQUEST, now=0.5)
    assert relayed(bench, REQUEST, now=0.9) == []
    assert len(relayed(bench, REQUEST, now=1.0)) == 1
    assert bench.ack(first, a_member().start) == []


def test_who_asked_is_told_once_that_no_ack_came_yet_and_gets_a_later_one_still():
    bench = Bench(a_member("n2"), a_member("n3"), a_member("n4"))
    [(_, first)] = relayed(bench, REQUEST, now=1.0)
    [(_, answered)] = relayed(bench, REQUEST._replace(seq=78), now=1.0)
    relayed(bench, REQUEST._replace(seq=79), now=1.1)
    bench.ack(answered, a_member().start)
    assert bench.due() == (1.0 + 0.8 * CONFIG.probe_timeout_s, None, [("n2:7100", Nack(77, "n1"))])
    assert bench.due()[2] == [("n2:7100", Nack(79, "n1"))]
    assert bench.prober.deadline() is None
    assert bench.ack(first, a_member().start) == [("n2:7100", Ack(77, "n3", a_member().start, b""))]


def test_nacks_are_due_besides_our_own_probes():
    bench = a_bench(a_member("n2"), a_member("n3"))
    bench.ping()
    relayed(bench, REQUEST, now=bench.now)
    assert bench.due()[2] == [("n2:7100", Nack(77, "n1"))]
    relayed(bench, REQUEST, now=bench.now)
    assert bench.prober.deadline() == bench.now + 0.08  # before 0.32 s others are asked


def test_where_nobody_expects_nacks_none_are_sent():
    bench = Bench(a_member("n2"), a_member("n3"), nacks=False)
    relayed(bench, REQUEST)
    assert bench.prober.deadline() is None
