"""A member at the door: the name rule and the data rule."""

from __future__ import annotations

import pytest

from dyno.config import Config
from dyno.protocol.admission import CHECKS_MAX, Admission
from dyno.protocol.identity import remembered
from dyno.protocol.outbox import Outbox
from dyno.wire.members import DEAD, JOINING, LEFT, SUSPECT, Member, pack_member, unpack_members
from dyno.wire.messages import Ack, Admit, AskJoin, Assent, Introduce, Ping, PushPull, Reject
from tests.protocol.membership_harness import CLUSTER, a_member, a_roster

ME = a_member("n1")
LINK = 5


def a_joiner(name: str = "n3", *, start: int = 50, **fields: object) -> Member:
    return a_member(name, start=start, state=JOINING, directory=b"new directory...")._replace(**fields)


class Door:
    """The admission of n1, which knows n2 (and more)."""

    def __init__(
        self,
        *others: Member,
        me: Member = ME,
        holds_data: bool = False,
        config: Config = Config(probe_timeout_s=0.4),  # noqa: B008
    ) -> None:
        self.roster, self.prober = a_roster(me, a_member("n2"), *others, holds_data=holds_data, config=config)
        self.admission = Admission(roster=self.roster, prober=self.prober, config=config)
        self.pings: list[tuple[str, Ping]] = []

    def ask(self, newcomer: Member, now: float = 1.0) -> list[object]:
        """The answers to its AskJoin, as far as they come at once."""
        return self._asked(AskJoin(7, pack_member(newcomer._replace(stamp=0))), now)

    def admit(self, newcomer: Member, now: float = 1.0) -> list[object]:
        return self._asked(Admit(8, pack_member(newcomer)), now)

    def ack(self, start: bytes, ping: Ping | None = None) -> list[object]:
        """Somebody answers the last ping."""
        out = Outbox()
        self.admission.acked(Ack((ping or self.pings[-1][1]).seq, "who", start, b""), 1.1, out)
        return self._answers(out)

    def wait(self, now: float) -> list[object]:
        out = Outbox()
        self.admission.tick(now, out)
        return self._answers(out)

    def _asked(self, message: AskJoin | Admit, now: float) -> list[object]:
        out = Outbox()
        self.admission.asked(LINK, message, now, out)
        return self._answers(out)

    def _answers(self, out: Outbox) -> list[object]:
        self.pings += out.datagrams  # type: ignore[arg-type]
        for link, answer in (*out.replies, *out.durable_replies):
            assert link == LINK
            if isinstance(answer, Assent):
                assert (link, answer) in out.durable_replies
                kept = remembered(out.meta.get, members_max=99).members
                assert unpack_members(answer.members, members_max=99) == kept
        return [answer for _, answer in (*out.replies, *out.durable_replies)]


def codes(answers: list[object]) -> list[str]:
    """What was answered, in short: the codes of rejections, the names of other messages."""
    return [a.code if isinstance(a, Reject) else type(a).__name__ for a in answers]


# ── being introduced ──


def test_a_new_name_is_introduced_at_once():
    door = Door()
    [answer] = door.ask(a_joiner())
    assert answer == Introduce(7, CLUSTER, 64, 0, b"", door.roster.packed())
    assert door.roster.table.pending == 0


def test_a_dead_members_name_and_seat_are_inherited():
    old = a_member("n3", stamp=4, liveness=DEAD)
    [answer] = Door(old).ask(a_joiner())
    assert isinstance(answer, Introduce)
    assert (answer.stamp, answer.seat) == (4, old.seat)


def test_the_holder_of_a_name_is_pinged_and_refuses_by_answering():
    door = Door(a_member("n3", liveness=SUSPECT))
    assert door.ask(a_joiner()) == []
    [(address, ping)] = door.pings
    assert (address, ping[1:]) == ("n3:7100", ("n3", b"", "n1", b""))
    [answer] = door.ack(b"whatever")
    text = "the name n3 is taken by a live process at n3:7100; stop that one, or choose another name"
    assert answer == Reject(7, "name", text)
    assert door.ack(b"whatever") == []  # doubled


def test_a_holder_that_answers_nothing_for_a_while_is_gone():
    door = Door(a_member("n3"))
    door.roster.links.went_down("n3:7100")
    door.ask(a_joiner(), now=1.0)
    while (deadline := door.admission.deadline()) is not None and deadline < 1.4:
        assert door.wait(deadline) == []
    assert len(door.pings) == 4
    assert codes(door.wait(1.4)) == ["Introduce"]
    assert door.admission.deadline() is None


def test_the_newcomers_own_answer_from_the_old_address_settles_it():
    door = Door(a_member("n3"))
    newcomer = a_joiner(address="n3:7100")
    door.ask(newcomer)
    assert codes(door.ack(newcomer.start)) == ["Introduce"]


def test_a_silent_holder_with_a_link_up_is_waited_for_until_it_is_known_to_be_dead():
    door = Door(a_member("n3"))
    newcomer = a_joiner(address="elsewhere:1")
    door.ask(newcomer)
    assert codes(door.wait(1.4)) == ["busy"]
    door.ask(newcomer, now=2.0)
    door.roster.hear(a_member("n3", liveness=DEAD), 2.1, Outbox())
    assert codes(door.wait(2.4)) == ["Introduce"]


def test_an_own_name_is_never_given_away():
    door = Door()
    assert codes(door.ask(a_joiner("n1"))) == ["name"]
    assert codes(door.ask(a_joiner("n1", start=1))) == ["busy"]  # a node that was told to join itself


def test_while_a_node_is_joining_others_wait_for_their_introduction():
    joining = Door(me=a_member("n1", state=JOINING))
    assert codes(joining.ask(a_joiner())) == ["busy"]
    assert codes(joining.admit(a_joiner())) == ["Assent"]
    gave_up = Door(me=a_member("n1", state=LEFT))
    assert codes(gave_up.admit(a_joiner())) == ["busy"]
    unknown = Door()
    unknown.roster.active = False
    assert codes(unknown.admit(a_joiner())) == ["busy"]


def test_what_is_no_record_of_a_joiner_gets_no_answer():
    door = Door()
    assert door.ask(a_member("n3")) == []
    out = Outbox()
    door.admission.asked(LINK, Admit(1, b"junk"), 1.0, out)
    assert (out.replies, out.durable_replies) == ([], [])


# ── being admitted ──


def test_an_assent_is_on_disk_and_names_all_others():
    door = Door(a_member("n4", state=JOINING))
    newcomer = a_joiner()
    [answer] = door.admit(newcomer)
    assert isinstance(answer, Assent)
    assert answer.id == 8
    assert unpack_members(answer.members, members_max=9)[0] == ME
    assert a_member("n4", state=JOINING) in unpack_members(answer.members, members_max=9)
    assert door.roster.table.candidate("n3") == newcomer


def test_asking_again_is_answered_again():
    door = Door()
    assert codes(door.admit(a_joiner())) == codes(door.admit(a_joiner())) == ["Assent"]
    door.roster.hear(a_joiner(state=1, incarnation=1), 1.0, Outbox())
    assert codes(door.admit(a_joiner())) == ["Assent"]  # it sits already
    assert door.roster.table.pending == 0


def test_a_node_with_data_takes_in_nobody_new():
    door = Door(holds_data=True)
    [answer] = door.admit(a_joiner())
    assert isinstance(answer, Reject)
    assert answer.code == "data"
    assert "holds data" in answer.text
    assert door.roster.table.pending == 0
    assert codes(door.ask(a_joiner())) == ["data"]


def test_a_directory_that_has_its_seat_may_come_back_to_data():
    old = a_member("n3", liveness=DEAD)
    door = Door(old, holds_data=True)
    assert codes(door.admit(a_joiner(directory=old.directory, stamp=2))) == ["Assent"]


def test_a_new_directory_may_take_over_the_place_of_its_name_in_a_cluster_with_data():
    old = a_member("n3", stamp=4, liveness=DEAD, zone="z", weight=2.0)
    door = Door(old, holds_data=True)
    assert codes(door.ask(a_joiner(zone="z", weight=2.0, seat=b"drawn at random."))) == ["Introduce"]
    assert codes(door.admit(a_joiner(stamp=5, zone="z", weight=2.0))) == ["Assent"]
    assert (door.roster.table.pending, door.roster.table.joining) == (0, 1)


@pytest.mark.parametrize("other", [{"zone": "y"}, {"weight": 1.0}, {"zone": "y", "weight": 1.0}])
def test_a_new_directory_of_another_zone_or_weight_may_not(other):
    old = a_member("n3", stamp=4, liveness=DEAD, zone="z", weight=2.0)
    newcomer = a_joiner(stamp=5, zone="z", weight=2.0)._replace(**other)
    [answer] = Door(old, holds_data=True).ask(newcomer)
    assert isinstance(answer, Reject)
    assert answer.code == "data"
    assert answer.text == (
        f"the cluster holds data, so n3 keeps its place in it, with zone 'z' and weight 2.0, not zone "
        f"{newcomer.zone!r} and weight {newcomer.weight}: start it with those it had"
    )
    assert codes(Door(old, holds_data=True).admit(newcomer)) == ["data"]
    assert codes(Door(old).ask(newcomer)) == ["Introduce"]  # an empty cluster takes in whoever comes


def test_another_seat_than_its_name_has_is_a_change_of_the_ring():
    old = a_member("n3", stamp=4, liveness=DEAD)
    newcomer = a_joiner(stamp=5, seat=b"drawn at random.")
    assert codes(Door(old, holds_data=True).admit(newcomer)) == ["data"]
    door = Door(old)
    assert codes(door.admit(newcomer)) == ["Assent"]
    assert door.roster.table.pending == 1


def test_an_empty_directory_takes_over_a_dead_name():
    door = Door(a_member("n3", liveness=DEAD))
    assert codes(door.admit(a_joiner(stamp=2))) == ["Assent"]
    assert door.roster.table.seated("n3") is not None  # until it sits itself


def test_who_holds_a_name_at_the_time_of_admission_is_pinged_too():
    door = Door(a_member("n3"))
    assert door.admit(a_joiner(stamp=2)) == []
    answers = door.ack(b"whatever")
    assert codes(answers) == ["PushPull", "name"]
    assert isinstance(answers[0], PushPull)
    assert unpack_members(answers[0].members, members_max=9)[2] == a_member("n3")


def test_a_claim_below_a_dead_one_is_shown_what_it_must_rise_above():
    door = Door(a_member("n3", stamp=5, liveness=DEAD))
    assert codes(door.admit(a_joiner(stamp=2))) == ["PushPull", "busy"]
    assert codes(door.admit(a_joiner(stamp=6))) == ["Assent"]


def test_a_joiner_that_died_half_way_is_followed_by_its_next_start_at_once():
    door = Door()
    door.admit(a_joiner())
    assert codes(door.admit(a_joiner(start=51, stamp=2))) == ["Assent"]
    assert door.roster.table.candidate("n3") == a_joiner(start=51, stamp=2)


def test_the_lower_of_two_live_claimants_is_refused_and_the_higher_waits_for_it():
    high = a_joiner(start=51, directory=b"another one.....", address="high:1")
    low = a_joiner(start=50, address="low:1")
    knows_high = Door()
    knows_high.admit(high)
    assert knows_high.admit(low) == []
    assert knows_high.pings[-1][0] == "high:1"
    assert codes(knows_high.ack(high.start)) == ["PushPull", "name"]
    knows_low = Door()
    knows_low.admit(low)
    assert knows_low.admit(high) == []
    assert codes(knows_low.ack(low.start)) == ["busy"]
    knows_low.roster.hear(low._replace(state=LEFT, incarnation=1), 1.0, Outbox())
    assert codes(knows_low.admit(high)) == ["Assent"]
    assert knows_low.ask(low) == []  # a third one, that nobody knows yet, is simply too late
    assert codes(knows_low.ack(high.start)) == ["name"]


def test_whoever_gave_up_is_not_admitted_by_a_late_message():
    door = Door()
    door.roster.hear(a_joiner(state=LEFT, incarnation=1), 1.0, Outbox())
    assert codes(door.admit(a_joiner())) == ["PushPull", "busy"]
    assert door.roster.table.pending == 0


# ── bounds ──


def test_a_full_table_admits_nobody():
    door = Door(config=Config(members_max=2))
    assert codes(door.admit(a_joiner())) == ["busy"]


def test_names_that_are_being_checked_are_bounded():
    door = Door(a_member("n3"))
    for i in range(CHECKS_MAX):
        assert door.ask(a_joiner(start=i + 100)) == []
    assert codes(door.ask(a_joiner())) == ["busy"]
