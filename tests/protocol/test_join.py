"""A joiner, from its first question to its seat."""

from __future__ import annotations

from random import Random

from dyno.config import Config
from dyno.protocol.identity import LOST_ALL, remembered
from dyno.protocol.join import Joiner, Phase
from dyno.protocol.outbox import Outbox
from dyno.wire.members import DEAD, JOINING, LEFT, NORMAL, Member, pack_members, unpack_member, unpack_members
from dyno.wire.messages import Admit, AskJoin, Assent, Introduce, PushPull, Reject
from tests.protocol.membership_harness import CLUSTER, a_member, a_roster

N1, N2, N4 = a_member("n1"), a_member("n2"), a_member("n4")


class Applicant:
    """n3, that wants to join through n1; it has a link to n1, n2 and n4."""

    def __init__(self, *remembered_members: Member, cluster: bytes = b"") -> None:
        config = Config(join_retry_s=1.0, probe_timeout_s=0.5)
        me = a_member("n3", state=JOINING, stamp=0)
        self.roster, _ = a_roster(me, *remembered_members, config=config)
        self.roster.cluster, self.roster.active, self.roster.introduced = cluster, False, False
        self.roster.seeds = ["n1:7100"]
        self.now = 1.0
        self.joiner = Joiner(roster=self.roster, config=config, random=Random(1), seeds=["n1:7100"])
        self.out = Outbox()
        self.joiner.start(self.now, self.out)
        self.settle()

    def settle(self) -> None:
        """The end of a verb; links that are dialled come up."""
        self.joiner.step(self.now, self.out)
        self.roster.settle(self.out)
        while self.out.connect:
            self.link_up(self.out.connect.pop(0))

    def link_up(self, address: str) -> None:
        self.roster.links.went_up(address)
        self.joiner.link_up(address, self.now, self.out)
        self.settle()

    def link_down(self, address: str) -> None:
        self.roster.links.went_down(address)

    def sent(self) -> list[tuple[str, object]]:
        """What was sent since the last time; what is durable counts as on disk."""
        sent = [*self.out.sends, *self.out.durable_sends]
        self.out.sends, self.out.durable_sends = [], []
        return list(sent)

    def introduce(self, *members: Member, stamp: int = 0, seat: bytes = b"", **fields: object) -> None:
        answer = Introduce(1, CLUSTER, 64, stamp, seat, pack_members(members))._replace(**fields)
        self.joiner.introduced(answer, self.now, self.out)
        self.settle()

    def assent(self, *members: Member, id: int = 2) -> None:
        self.joiner.assented(Assent(id, pack_members(members)), self.now, self.out)
        self.settle()

    def reject(self, code: str, id: int = 2) -> None:
        self.joiner.rejected(Reject(id, code, "because"), self.now, self.out)
        self.settle()

    def next_round(self) -> None:
        deadline = self.joiner.deadline()
        assert deadline is not None
        self.now = deadline
        self.joiner.tick(self.now, self.out)
        self.settle()

    def events(self) -> list[str]:
        return [text for _, text in self.out.events]


def admitting(*others: Member) -> Applicant:
    """n3, introduced by n1 and asking all for their assent."""
    applicant = Applicant()
    applicant.introduce(N1, *others)
    applicant.sent()
    return applicant


# ── asking ──


def test_a_seed_is_asked_as_soon_as_it_can_be_reached_and_again_and_again():
    applicant = Applicant()
    [(address, question)] = applicant.sent()
    assert address == "n1:7100"
    assert isinstance(question, AskJoin)
    assert unpack_member(question.member) == applicant.roster.me
    for _ in range(3):
        before = applicant.now
        applicant.next_round()
        assert 1.5 <= applicant.now - before <= 2.0
        assert applicant.sent() == [(address, question)]
    applicant.joiner.tick(applicant.now, applicant.out)
    assert applicant.sent() == []


def test_a_busy_seed_is_asked_again_and_a_refusal_is_final():
    applicant = Applicant()
    applicant.reject("busy", id=1)
    assert applicant.out.stop is None
    applicant.reject("name", id=9)  # an answer to nothing
    assert applicant.out.stop is None
    applicant.reject("name", id=1)
    assert applicant.out.stop == "n3 cannot join: because"
    assert (applicant.joiner.phase, applicant.joiner.deadline()) == (Phase.STOPPED, None)
    applicant.introduce(N1)
    assert applicant.joiner.phase is Phase.STOPPED


def test_an_introduction_gives_cluster_stamp_and_seat_and_all_are_asked_for_their_assent():
    applicant = Applicant()
    applicant.introduce(N1, N2, stamp=4, seat=b"an old seat.....")
    me = applicant.roster.me
    assert (me.stamp, me.seat, me.state) == (5, b"an old seat.....", JOINING)
    kept = remembered(applicant.out.meta.get, members_max=9)
    assert kept == (CLUSTER, 64, 5, [me, N1, N2])
    admits = [(address, message) for address, message in applicant.sent() if isinstance(message, Admit)]
    assert [address for address, _ in admits] == ["n1:7100", "n2:7100"]
    assert all(unpack_member(admit.member) == me for _, admit in admits)


def test_what_is_no_introduction_is_ignored():
    applicant = Applicant()
    applicant.introduce(N1, members=b"junk")
    applicant.introduce(N1, cluster=b"short")
    applicant.introduce(N1, partitions=0)
    applicant.introduce(N1, stamp=(1 << 64) - 1)  # there is none above it
    applicant.introduce(N1, seat=b"short")
    applicant.introduce(N1, id=99)
    applicant.introduce()
    applicant.introduce(a_member("n1", state=JOINING))
    assert applicant.joiner.phase is Phase.ASKING
    applicant.introduce(N1)
    applicant.introduce(N2, cluster=b"another cluster.")  # a second seed answers, too late
    assert applicant.roster.cluster == CLUSTER


def test_a_directory_that_began_to_join_one_cluster_joins_no_other():
    applicant = Applicant(N1, cluster=b"another cluster.")
    applicant.introduce(N1)
    assert applicant.out.stop is not None
    assert "began to join cluster" in applicant.out.stop


# ── admitting ──


def test_with_everybodys_assent_a_joiner_takes_its_seat():
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    assert applicant.joiner.phase is Phase.ADMITTING
    applicant.assent(N2, N1)
    assert applicant.joiner.phase is Phase.SEATED
    assert applicant.joiner.deadline() is None
    me = applicant.roster.me
    assert (me.state, me.incarnation) == (NORMAL, 1)
    assert remembered(applicant.out.meta.get, members_max=9).members[0] == me
    assert [address for address, _ in applicant.out.durable_sends] == ["n1:7100", "n2:7100"]
    assert all(isinstance(message, PushPull) for _, message in applicant.sent())


def test_whoever_is_named_in_an_assent_is_asked_too():
    applicant = admitting()
    joining = a_member("n4", state=JOINING)
    applicant.assent(N1, joining)
    assert [address for address, _ in applicant.sent()] == ["n4:7100"]
    applicant.assent(joining, N1)
    assert applicant.joiner.phase is Phase.SEATED


def test_the_dead_are_waited_for():
    applicant = admitting(a_member("n2", liveness=DEAD))
    applicant.link_down("n2:7100")
    applicant.assent(N1)
    applicant.next_round()
    assert applicant.sent() == []
    assert "waiting for the assent of n2 (dead)" in applicant.events()
    applicant.next_round()
    assert applicant.events().count("waiting for the assent of n2 (dead)") == 1
    applicant.link_up("n2:7100")
    assert [address for address, _ in applicant.sent()] == ["n2:7100"]


def test_what_is_not_answered_is_asked_again():
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    applicant.next_round()
    [(address, admit)] = applicant.sent()
    assert address == "n2:7100"
    applicant.link_up("n2:7100")
    assert applicant.sent() == [(address, admit)]


def test_those_that_assented_are_asked_again_now_and_then():
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    asked = []
    for _ in range(4):
        applicant.next_round()
        asked += [address for address, _ in applicant.sent()]
    assert "n1:7100" in asked


def test_a_member_that_lost_its_directory_is_asked_again():
    applicant = admitting(N2)
    applicant.assent(N2, N1)
    wiped = a_member("n2", directory=b"a new directory.", stamp=2, start=9, state=JOINING)
    applicant.assent(N1, wiped)
    assert applicant.joiner.phase is Phase.ADMITTING
    assert [address for address, _ in applicant.sent()] == ["n2:7100"]
    applicant.assent(wiped, N1)
    assert applicant.joiner.phase is Phase.SEATED


def test_what_is_no_assent_is_ignored():
    applicant = admitting()
    applicant.assent(N1, id=1)
    applicant.assent()
    applicant.joiner.assented(Assent(2, b"junk"), applicant.now, applicant.out)
    assert applicant.joiner.phase is Phase.ADMITTING


def test_a_claim_below_another_rises_above_it_and_all_are_asked_anew():
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    applicant.roster.hear(a_member("n3", start=99, stamp=6, state=JOINING), applicant.now, applicant.out)
    applicant.settle()
    assert applicant.roster.me.stamp == 1
    applicant.reject("busy")
    assert applicant.roster.me.stamp == 7
    assert sorted(address for address, _ in applicant.sent()) == ["n1:7100", "n2:7100"]
    applicant.assent(N2, N1, id=2)  # to the old claim
    assert applicant.joiner.phase is Phase.ADMITTING
    applicant.reject("busy", id=3)
    assert applicant.roster.me.stamp == 7


# ── withdrawing ──


def test_a_refused_joiner_tells_all_it_asked_before_it_stops():
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    applicant.reject("data")
    assert applicant.joiner.phase is Phase.WITHDRAWING
    assert applicant.out.stop is None
    me = applicant.roster.me
    assert (me.state, me.incarnation) == (LEFT, 1)
    told = applicant.sent()
    assert [address for address, _ in told] == ["n1:7100", "n2:7100"]
    for _, message in told:
        assert isinstance(message, PushPull)
        assert unpack_members(message.members, members_max=9)[0] == me
    joiner = applicant.joiner
    joiner.heard_table("n1:7100", [N1, a_member("n3", state=JOINING)], applicant.out)  # sent before
    joiner.heard_table("n2:7100", [N2, me], applicant.out)
    assert applicant.out.stop is None
    applicant.next_round()
    assert [address for address, _ in applicant.sent()] == ["n1:7100"]
    joiner.heard_table("n1:7100", [N1, me], applicant.out)
    assert applicant.out.stop == "n3 cannot join: because"


def test_a_seed_that_is_of_another_cluster_after_all_ends_the_join_in_order():
    """Else those that assented would wait for this joiner, and take no data, until it starts again."""
    applicant = admitting(N2)
    applicant.assent(N1, N2)
    applicant.joiner.refused("cannot join at seed:1", applicant.now, applicant.out)
    applicant.settle()
    assert applicant.joiner.phase is Phase.WITHDRAWING
    assert [address for address, _ in applicant.sent()] == ["n1:7100", "n2:7100"]
    applicant.joiner.refused("cannot join at seed:2", applicant.now, applicant.out)
    me = applicant.roster.me
    applicant.joiner.heard_table("n1:7100", [N1, me], applicant.out)
    applicant.joiner.heard_table("n2:7100", [N2, me], applicant.out)
    assert applicant.out.stop == "cannot join at seed:1"


def test_a_member_that_comes_back_is_told_at_once_and_one_that_never_does_is_not_waited_for():
    applicant = admitting(N2)
    applicant.link_down("n2:7100")
    applicant.reject("name")
    assert [address for address, _ in applicant.sent()] == ["n1:7100"]
    applicant.link_up("n2:7100")
    assert "n2:7100" in [address for address, _ in applicant.sent()]
    while applicant.out.stop is None:
        applicant.next_round()
    assert applicant.now < 30.0


def test_tables_heard_while_joining_confirm_nothing():
    applicant = admitting()
    applicant.joiner.heard_table("n1:7100", [N1], applicant.out)
    assert applicant.out.stop is None


def test_an_ended_join_is_withdrawn():
    applicant = admitting()
    revoked = applicant.roster.me._replace(state=LEFT, incarnation=1)
    applicant.roster.hear(revoked, applicant.now, applicant.out)
    applicant.settle()
    assert applicant.joiner.phase is Phase.WITHDRAWING
    assert applicant.roster.me.incarnation == 1


def test_a_start_that_is_refused_gives_back_what_an_earlier_one_was_granted():
    applicant = Applicant(N1, N4, cluster=CLUSTER)
    applicant.roster.claimed_stamp = 3
    applicant.sent()
    applicant.reject("data", id=1)
    assert applicant.roster.me[4:7] == (4, 1, LEFT)
    assert applicant.out.stop is None
    assert remembered(applicant.out.meta.get, members_max=9).stamp == 4
    assert [address for address, _ in applicant.sent()] == ["n1:7100", "n4:7100"]


def test_a_joiner_that_is_told_to_end_says_so():
    applicant = admitting()
    applicant.joiner.withdraw_at_once(applicant.out)
    assert applicant.roster.me.state == LEFT
    assert [address for address, _ in applicant.out.sends] == ["n1:7100"]
    asking = Applicant()
    asking.sent()
    asking.joiner.withdraw_at_once(asking.out)
    assert asking.sent() == []


# ── taking over the seat of its name ──


def taking_over(*others: Member, **fields: object) -> Applicant:
    """n3, introduced to a cluster in which its name has a seat already."""
    held = a_member("n3", start=77, stamp=4, directory=b"the one before..", liveness=DEAD)._replace(**fields)
    applicant = Applicant()
    applicant.introduce(N1, held, *others, stamp=4, seat=held.seat)
    applicant.sent()
    return applicant


def test_who_takes_over_a_seat_waits_for_no_dead_member_and_knows_what_it_lacks():
    applicant = taking_over(N2, a_member("n4", liveness=DEAD))
    applicant.assent(N1)
    assert applicant.joiner.phase is Phase.ADMITTING
    applicant.assent(N2)
    assert applicant.joiner.phase is Phase.SEATED
    assert applicant.roster.inherited
    assert applicant.out.meta["recovering"] == LOST_ALL
    assert applicant.roster.me.stamp > 4


def test_in_another_place_than_its_name_had_the_dead_are_waited_for():
    applicant = taking_over(a_member("n4", liveness=DEAD), zone="elsewhere")
    applicant.assent(N1)
    assert applicant.joiner.phase is Phase.ADMITTING
    applicant.assent(N4)
    assert applicant.joiner.phase is Phase.SEATED
    assert applicant.roster.inherited


def test_a_later_record_of_its_seat_counts():
    applicant = taking_over(a_member("n4", liveness=DEAD), zone="elsewhere")
    newer = a_member("n3", start=78, stamp=4, incarnation=3, directory=b"the one before..")
    older = newer._replace(start=b"0" * 8, zone="nowhere", stamp=1)
    applicant.assent(N1, newer, older)
    assert applicant.joiner.phase is Phase.SEATED


def test_whose_name_is_new_inherits_nothing():
    applicant = admitting()
    applicant.assent(N1)
    assert applicant.joiner.phase is Phase.SEATED
    assert not applicant.roster.inherited
    assert "recovering" not in applicant.out.meta
