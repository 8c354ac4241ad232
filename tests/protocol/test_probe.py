"""Probing: one ping after the other, others asked when it stays unanswered, and pinging for others."""

from __future__ import annotations

from random import Random

from dyno.config import Config
from dyno.protocol.gossip import GossipQueue
from dyno.protocol.member_table import MemberTable
from dyno.protocol.outbox import Outbox
from dyno.protocol.probe import RELAYS_MAX, Prober
from dyno.wire.members import DEAD, SUSPECT, Member, unpack_members
from dyno.wire.messages import Ack, Ping, PingRequest
from tests.protocol.membership_harness import a_member

CONFIG = Config(probe_interval_s=1.0, probe_timeout_s=0.4, indirect_probes=2)
ME = a_member("n1")


class Bench:
    """A prober of n1 that knows some others."""

    def __init__(self, *others: Member, seed: int = 1) -> None:
        self.table = MemberTable(members_max=100)
        for member in (ME, *others):
            self.table.merge(member)
        self.gossip = GossipQueue(retransmit_mult=4)
        self.prober = Prober(
            me="n1", table=self.table, gossip=self.gossip, config=CONFIG, random=Random(seed)
        )
        self.prober.start(0.0)

    def due(self) -> tuple[float, Member | None, list[tuple[str, object]]]:
        """Tick when it asks for it: when that was, whom to suspect, what is sent."""
        out = Outbox()
        now = self.prober.deadline()
        assert now is not None
        suspect = self.prober.tick(now, out)
        return now, suspect, list(out.datagrams)

    def ping(self) -> Ping:
        """The next ping."""
        while True:
            for _, message in self.due()[2]:
                if isinstance(message, Ping):
                    return message

    def ack(self, ping: Ping, start: bytes) -> list[tuple[str, object]]:
        out = Outbox()
        self.prober.acked(Ack(ping.seq, ping.target, start, b""), out)
        return list(out.datagrams)


# ── probing ──


def test_nothing_is_probed_before_the_start():
    prober = Prober(
        me="n1",
        table=MemberTable(members_max=1),
        gossip=GossipQueue(retransmit_mult=4),
        config=CONFIG,
        random=Random(1),
    )
    assert prober.deadline() is None
    assert prober.tick(5.0, Outbox()) is None


def test_a_lonely_node_has_nobody_to_probe():
    bench = Bench()
    first, suspect, sent = bench.due()
    assert 0.0 <= first <= CONFIG.probe_interval_s
    assert (suspect, sent) == (None, [])
    assert bench.due()[0] == first + 1.0


def test_a_ping_names_the_process_that_it_is_for():
    bench = Bench(a_member("n2"))
    _, _, [(address, ping)] = bench.due()
    assert address == "n2:7100"
    assert isinstance(ping, Ping)
    assert ping[1:] == ("n2", a_member().start, "n1", b"")


def test_who_answers_is_not_suspected_and_nobody_else_is_asked():
    bench = Bench(a_member("n2"), a_member("n3"))
    for _ in range(5):
        now, suspect, [(_, ping)] = bench.due()
        assert suspect is None
        bench.ack(ping, a_member().start)
        assert bench.prober.deadline() == now + 1.0


def test_every_round_probes_everybody_once():
    bench = Bench(*(a_member(f"n{i}") for i in range(2, 8)))
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
    bench = Bench(*(a_member(f"n{i}") for i in range(2, 7)), a_member("n9", liveness=DEAD))
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
    bench = Bench(a_member("n2"))
    began, _, _ = bench.due()
    assert bench.due()[1:] == (None, [])
    now, suspect, [(_, ping)] = bench.due()
    assert (now, suspect) == (began + 1.0, a_member("n2"))
    assert ping.target == "n2"  # and goes on being probed


def test_an_ack_that_others_relayed_counts():
    bench = Bench(a_member("n2"), a_member("n3"))
    ping = bench.ping()
    bench.due()
    bench.ack(ping, a_member().start)
    assert bench.due()[1] is None


def test_acks_of_another_start_or_another_probe_prove_nothing():
    bench = Bench(a_member("n2"))
    ping = bench.ping()
    bench.ack(ping, b"another.")
    bench.ack(ping._replace(seq=ping.seq - 1), a_member().start)
    bench.due()
    assert bench.due()[1] == a_member("n2")


def test_suspects_are_probed_and_the_dead_are_not():
    bench = Bench(a_member("n2", liveness=SUSPECT), a_member("n3", liveness=DEAD))
    assert [bench.ping().target for _ in range(3)] == ["n2"] * 3


def test_who_dies_in_the_middle_of_a_round_is_left_out():
    bench = Bench(*(a_member(f"n{i}") for i in range(2, 6)))
    first = bench.ping().target
    for name in [f"n{i}" for i in range(2, 6) if f"n{i}" != first]:
        bench.table.merge(a_member(name, liveness=DEAD))
    assert bench.ping().target == first


def test_a_new_member_is_probed_within_the_present_round():
    bench = Bench(*(a_member(f"n{i}") for i in range(2, 8)))
    bench.ping()
    bench.table.merge(a_member("new"))
    bench.prober.joins_round("new")
    bench.prober.joins_round("new")
    assert [bench.ping().target for _ in range(6)].count("new") == 1


def test_a_probe_during_which_this_process_slept_suspects_nobody():
    bench = Bench(a_member("n2"))
    bench.ping()
    bench.prober.drop()
    assert bench.prober.tick(60.0, Outbox()) is None


def test_news_rides_on_pings():
    bench = Bench(a_member("n2"), a_member("n3"))
    bench.gossip.add(a_member("n3", incarnation=4))
    assert unpack_members(bench.ping().gossip, members_max=9) == [a_member("n3", incarnation=4)]
    _, _, sent = bench.due()
    assert all(message.gossip for _, message in sent)


# ── for others ──

REQUEST = PingRequest(77, "n3", a_member().start, "n3:7100", "n2", b"")


def relayed(bench: Bench, request: PingRequest, now: float = 0.0) -> list[tuple[str, Ping]]:
    out = Outbox()
    bench.prober.relay("n2:7100", request, now, out)
    return out.datagrams


def test_a_ping_for_somebody_else_carries_a_number_of_our_own_and_its_ack_his():
    bench = Bench(a_member("n2"), a_member("n3"))
    [(address, ping)] = relayed(bench, REQUEST)
    assert address == "n3:7100"
    assert ping[1:] == ("n3", a_member().start, "n1", b"")
    assert ping.seq != REQUEST.seq
    assert bench.ack(ping, a_member().start) == [("n2:7100", Ack(77, "n3", a_member().start, b""))]
    assert bench.ack(ping, a_member().start) == []  # doubled


def test_an_ack_of_another_start_is_not_relayed():
    bench = Bench(a_member("n2"), a_member("n3"))
    [(_, ping)] = relayed(bench, REQUEST)
    assert bench.ack(ping, b"another.") == []


def test_nothing_improper_is_sent_for_others():
    bench = Bench(a_member("n2"))
    assert relayed(bench, REQUEST._replace(address="nowhere")) == []
    assert relayed(bench, REQUEST._replace(target="x" * 1000)) == []
    assert relayed(bench, REQUEST._replace(target_start=b"")) == []


def test_pings_for_others_are_bounded_and_forgotten_after_an_interval():
    bench = Bench(a_member("n2"))
    [(_, first)] = relayed(bench, REQUEST)
    for _ in range(RELAYS_MAX - 1):
        assert relayed(bench, REQUEST, now=0.5)
    assert relayed(bench, REQUEST, now=0.9) == []
    assert len(relayed(bench, REQUEST, now=1.0)) == 1
    assert bench.ack(first, a_member().start) == []
