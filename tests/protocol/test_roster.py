"""What follows from news, of others and of oneself."""

from __future__ import annotations

from dyno.config import Config
from dyno.protocol.identity import remembered
from dyno.protocol.outbox import Outbox
from dyno.protocol.roster import Roster
from dyno.wire.doubts import Doubt, pack_doubts, unpack_doubts
from dyno.wire.members import (
    DEAD,
    JOINING,
    LEFT,
    SUSPECT,
    Member,
    pack_member,
    pack_members,
    unpack_members,
)
from dyno.wire.messages import PushPull
from tests.protocol.membership_harness import CLUSTER, a_member, a_roster

ME = a_member("n1")
N2, N3 = a_member("n2"), a_member("n3")


def hear(roster: Roster, *news: Member, now: float = 10.0) -> Outbox:
    out = Outbox()
    for record in news:
        roster.hear(record, now, out)
    roster.settle(out)
    return out


def hear_table(roster: Roster, *news: Member) -> Outbox:
    out = Outbox()
    roster.hear_table(list(news), 10.0, out)
    roster.settle(out)
    return out


def told(message: object) -> list[Member]:
    assert isinstance(message, PushPull)
    return unpack_members(message.members, members_max=9)


# ── news of others ──


def test_a_new_member_is_dialled_remembered_probed_and_gossiped():
    roster, prober = a_roster(ME, N2)
    out = hear(roster, N3)
    assert out.connect == ["n3:7100"]
    kept = remembered(out.meta.get, members_max=9)
    assert (kept.cluster, kept.partitions, kept.stamp) == (CLUSTER, 64, ME.stamp)
    assert kept.members == [ME, N2, N3]
    assert len(roster.gossip) == 1
    prober.start(0.0)
    probed = Outbox()
    prober.tick(1.0, probed)
    assert probed.datagrams[0][0] == "n3:7100"
    assert out.events == []


def test_a_member_that_moved_is_dialled_at_its_new_address():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, a_member("n2", stamp=2, start=2, address="elsewhere:1"))
    assert (out.connect, out.disconnect) == (["elsewhere:1"], ["n2:7100"])


def test_what_is_known_already_has_no_consequences():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, N2)
    assert (out.meta, out.connect, len(roster.gossip)) == ({}, [], 0)


def test_liveness_is_gossiped_and_logged_but_not_written():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, a_member("n2", liveness=SUSPECT), a_member("n2", incarnation=1))
    assert out.meta == {}
    assert out.events == [("warning", "n2 is suspect"), ("warning", "n2 is alive")]
    assert len(roster.gossip) == 1


def test_a_member_that_is_only_heard_of_as_dead_is_reported_once():
    roster, _ = a_roster(ME)
    out = hear(roster, a_member("n2", liveness=DEAD), a_member("n2", liveness=DEAD))
    assert out.events == [("warning", "n2 is dead")]


def test_whoever_answers_no_probe_is_suspected_then_dead():
    roster, _ = a_roster(ME, N2, config=Config(probe_interval_s=1.0, suspicion_mult=4.0))
    out = Outbox()
    roster.suspect(N2, 10.0, out)
    assert roster.table.seated("n2") == a_member("n2", liveness=SUSPECT)
    assert roster.suspicions.deadline() == 14.0
    roster.bury(13.9, out)
    assert roster.table.is_live("n2")
    roster.bury(14.0, out)
    assert not roster.table.is_live("n2")


def a_large_roster(*, careful: bool = True) -> Roster:
    others = [a_member(f"n{i}") for i in range(2, 8)]
    config = Config(suspicion_mult=4.0, suspicion_max_mult=6.0)
    return a_roster(ME, *others, config=config, careful=careful)[0]


def doubt(name: str = "n2", *, by: str, incarnation: int = 0) -> Doubt:
    return Doubt(name, a_member().start, incarnation, by)


def hear_doubts(roster: Roster, *doubts: Doubt, now: float = 10.0) -> Outbox:
    out = Outbox()
    roster.hear_doubts(pack_doubts(doubts), "n9:7100", now, out)
    roster.settle(out)
    return out


def spread(roster: Roster) -> tuple[list[Doubt], list[Member]]:
    """What it gossips, until it has nothing left to tell."""
    doubts, records = roster.gossip.fill_both(members=9)
    while len(roster.gossip):
        roster.gossip.fill_both(members=9)
    return unpack_doubts(doubts), unpack_members(records, members_max=9)


def test_a_doubt_makes_a_suspect_and_is_passed_on_without_the_record():
    roster = a_large_roster()
    out = hear_doubts(roster, doubt(by="n5"))
    assert roster.table.seated("n2") == a_member("n2", liveness=SUSPECT)
    assert roster.suspicions.deadline() == 34.0
    assert out.events == [("warning", "n2 is suspect")]
    assert spread(roster) == ([doubt(by="n5")], [])


def test_what_others_come_to_suspect_by_themselves_shortens_the_time_and_is_passed_on():
    roster = a_large_roster()
    hear_doubts(roster, doubt(by="n5"))
    spread(roster)
    hear_doubts(roster, doubt(by="n5"), now=11.0)
    assert spread(roster) == ([], [])
    roster.suspect(N2, 12.0, Outbox())
    assert spread(roster) == ([doubt(by="n5,n1")], [])
    assert roster.suspicions.deadline() == 10.0 + 24.0 - 20.0 * 0.6309297535714574
    hear_doubts(roster, doubt(by="n6"), now=12.0)
    assert roster.suspicions.deadline() == 14.0
    spread(roster)
    hear_doubts(roster, doubt(by="n7"), now=12.0)
    assert spread(roster) == ([], []), "three are enough"


def test_all_that_are_heard_at_once_leave_time_for_an_answer_to_whoever_is_careful():
    for careful, deadline in ((True, 34.0), (False, 33.0)):
        roster = a_large_roster(careful=careful)
        hear_doubts(roster, doubt(by="n5"), now=11.0)
        hear_doubts(roster, doubt(by="n4,n6"), now=33.0)
        assert roster.suspicions.deadline() == deadline


def test_accusers_that_nobody_knows_count_for_nothing():
    roster = a_large_roster()
    hear_doubts(roster, doubt(by="n5,stranger,another"))
    assert spread(roster) == ([doubt(by="n5")], [])


def test_doubts_about_strangers_the_dead_and_other_incarnations_mean_nothing():
    roster = a_large_roster()
    hear(roster, a_member("n3", liveness=DEAD), a_member("n4", incarnation=2))
    version = roster.table.version
    hear_doubts(
        roster,
        doubt("nobody", by="n5"),
        doubt("n2", by="n5")._replace(start=b"another."),
        doubt("n3", by="n5"),
        doubt("n4", by="n5", incarnation=1),
        doubt("n4", by="n5", incarnation=3),
    )
    assert roster.table.version == version
    assert roster.suspicions.deadline() is None


def test_a_doubt_is_over_once_it_is_refuted_or_the_member_is_dead():
    for news in (a_member("n2", incarnation=1), a_member("n2", liveness=DEAD)):
        roster = a_large_roster()
        hear_doubts(roster, doubt(by="n5"))
        hear(roster, news)
        assert spread(roster) == ([], [news])
        assert roster.suspicions.deadline() is None


def test_a_suspicion_that_is_first_heard_of_with_its_incarnation_is_passed_on_with_it():
    roster = a_large_roster()
    suspect = a_member("n2", liveness=SUSPECT, incarnation=4)
    hear(roster, suspect)
    assert spread(roster) == ([doubt(by="", incarnation=4)], [suspect])
    hear_table(roster, N3, a_member("n3", liveness=SUSPECT))
    assert spread(roster) == ([doubt("n3", by="")], [])


def test_malformed_doubts_are_reported_and_nothing_else():
    roster = a_large_roster()
    out = Outbox()
    roster.hear_doubts(b"junk", "n2:7100", 10.0, out)
    assert "malformed doubts from n2:7100" in out.events[0][1]


def test_it_is_remembered_since_when_the_dead_are_dead():
    roster, _ = a_roster(ME, N2, N3)
    hear(roster, a_member("n2", liveness=DEAD), now=12.0)
    hear(roster, a_member("n3", liveness=DEAD), now=13.0)
    assert roster.died_at == {"n2": 12.0, "n3": 13.0}
    hear(roster, a_member("n2", incarnation=1), now=14.0)
    assert roster.died_at == {"n3": 13.0}


def test_whoever_refutes_lives():
    roster, _ = a_roster(ME, N2)
    roster.suspect(N2, 10.0, Outbox())
    hear(roster, a_member("n2", incarnation=1))
    assert roster.suspicions.deadline() is None
    roster.bury(99.0, Outbox())
    assert roster.table.is_live("n2")


def test_a_probe_of_an_earlier_incarnation_suspects_nobody():
    roster, _ = a_roster(ME, a_member("n2", incarnation=1))
    roster.suspect(N2, 10.0, Outbox())
    roster.suspect(a_member("unknown"), 10.0, Outbox())
    assert roster.suspicions.deadline() is None


def test_a_suspicion_whose_member_has_restarted_meanwhile_buries_nobody():
    roster, _ = a_roster(ME, N2)
    roster.suspect(N2, 10.0, Outbox())
    hear(roster, a_member("n2", stamp=2, start=2))
    roster.bury(99.0, Outbox())
    assert roster.table.is_live("n2")


def test_a_suspect_that_took_a_later_stamp_unheard_is_buried_all_the_same():
    roster, _ = a_roster(ME, a_member("n2", incarnation=5))
    hear(roster, a_member("n2", incarnation=5, liveness=SUSPECT))
    hear(roster, a_member("n2", stamp=2, liveness=SUSPECT), now=11.0)
    roster.bury(99.0, Outbox())
    assert not roster.table.is_live("n2")


def test_however_many_starts_are_said_to_be_suspect_as_many_are_timed_as_the_table_holds():
    roster, _ = a_roster(ME, N2)
    for number in range(2, 50):
        start = number.to_bytes(8, "big")
        hear(roster, a_member("n2", stamp=2 * number, start=start, liveness=SUSPECT))
        hear(
            roster, a_member("n2", stamp=2 * number + 1, start=b"L" + start[1:], state=LEFT, liveness=SUSPECT)
        )
        assert len(roster.suspicions) <= 2
    roster.bury(99.0, Outbox())
    assert len(roster.suspicions) == 0


def test_a_member_thought_dead_that_can_be_reached_is_told_so():
    roster, _ = a_roster(ME, N2)
    dead = a_member("n2", liveness=DEAD)
    out = hear(roster, dead)
    [(address, message)] = out.sends
    assert (address, told(message)) == ("n2:7100", [ME, dead])
    roster.links.went_down("n2:7100")
    assert (
        hear(roster, a_member("n2", incarnation=1), a_member("n2", incarnation=1, liveness=DEAD)).sends == []
    )


def test_whom_another_table_holds_dead_is_but_a_suspect_here():
    roster, _ = a_roster(ME, N2, N3)
    hear_table(roster, N2, a_member("n3", liveness=DEAD))
    assert roster.table.seated("n3") == a_member("n3", liveness=SUSPECT)
    hear_table(roster, N2, a_member("n3", liveness=DEAD))
    assert not roster.table.is_live("n3")


def test_whom_we_know_nothing_better_of_is_dead_and_so_is_who_says_it_of_itself():
    roster, _ = a_roster(ME, N2)
    hear_table(roster, a_member("n2", liveness=DEAD), a_member("n3", liveness=DEAD))
    assert not roster.table.is_live("n2")
    assert not roster.table.is_live("n3")


def test_a_stranger_that_is_said_to_join_is_ignored():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, a_member("n3", state=JOINING))
    assert (roster.table.pending, out.connect, len(roster.gossip)) == (0, [], 0)


def test_a_joiner_is_dialled_and_not_gossiped_until_it_left():
    roster, _ = a_roster(ME, N2)
    out = Outbox()
    roster.hear(a_member("n3", state=JOINING), 10.0, out, admitted=True)
    roster.settle(out)
    assert (out.connect, len(roster.gossip)) == (["n3:7100"], 0)
    out = hear(roster, a_member("n3", state=LEFT, incarnation=1))
    assert (out.disconnect, len(roster.gossip), out.events) == (["n3:7100"], 1, [])


def test_whoever_holds_data_ends_the_joins_that_it_will_never_assent_to():
    roster, _ = a_roster(ME, N2, holds_data=True)
    hear_table(roster, N2, a_member("n3", state=JOINING, incarnation=2))
    assert roster.table.candidate("n3") == a_member("n3", state=LEFT, incarnation=3)
    hear_table(roster, N2, a_member("n3", state=JOINING, incarnation=5))
    assert roster.table.candidate("n3") == a_member("n3", state=LEFT, incarnation=6)
    hear_table(roster, N2, a_member("n2", state=JOINING, stamp=2))  # its directory has a seat
    assert roster.table.candidate("n2") is None


# ── news of oneself ──


def test_a_suspected_node_refutes_by_gossip():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, a_member("n1", liveness=SUSPECT, incarnation=3))
    assert roster.me == roster.table.seated("n1") == a_member("n1", incarnation=4)
    assert len(roster.gossip) == 1
    assert (out.sends, out.events) == ([], [("info", "refuted being suspect")])


def test_a_node_that_hears_a_doubt_about_itself_refutes_and_distrusts_itself_a_little():
    roster = a_large_roster()
    hear_doubts(roster, doubt("n1", by="n5"))
    assert roster.me == roster.table.seated("n1") == a_member("n1", incarnation=1)
    assert spread(roster) == ([], [roster.me])
    assert roster.health.factor == 2
    hear_doubts(roster, doubt("n1", by="n6"))  # of before
    assert roster.health.factor == 2


def test_a_node_thought_dead_refutes_over_its_links():
    roster, _ = a_roster(ME, N2, N3)
    out = hear(roster, a_member("n1", liveness=DEAD))
    refuted = a_member("n1", incarnation=1)
    assert [(address, told(message)) for address, message in out.sends] == [
        ("n2:7100", [refuted]),
        ("n3:7100", [refuted]),
    ]


def test_what_others_know_rightly_or_from_before_is_not_refuted():
    roster, _ = a_roster(a_member("n1", incarnation=2), N2)
    out = hear(roster, a_member("n1", incarnation=2), a_member("n1", incarnation=1, liveness=DEAD))
    out.events += hear(roster, a_member("n1", start=7, stamp=0)).events
    assert roster.me == a_member("n1", incarnation=2)
    assert out.events == []


def test_a_node_that_was_introduced_gives_way_to_a_later_start_of_its_name():
    roster, _ = a_roster(ME, N2)
    out = hear(roster, a_member("n1", start=7, stamp=2, address="thief:1"))
    assert out.stop == "another process, at thief:1, took the name n1"
    assert roster.stopped
    assert hear(roster, a_member("n1", liveness=DEAD)).events == []


def test_a_restored_directory_stamps_itself_above_what_its_peers_remember():
    roster, _ = a_roster(ME, N2)
    roster.introduced = False
    out = hear(roster, a_member("n1", start=7, stamp=5))
    assert out.stop is None
    assert roster.me == a_member("n1", stamp=6)
    assert remembered(out.meta.get, members_max=9).stamp == 6
    [(address, message)] = out.durable_sends
    assert (address, told(message)) == ("n2:7100", [roster.me])
    assert out.sends == []


def test_a_directory_whose_name_another_one_had_since_may_lack_something():
    roster, _ = a_roster(ME, N2)
    roster.introduced = False
    hear(roster, ME._replace(start=b"another.", stamp=5))  # a start of the same directory
    assert not roster.replaced
    hear(roster, ME._replace(start=b"a third.", stamp=9, directory=b"another........."))
    assert roster.replaced
    hear(roster, ME._replace(start=b"another.", stamp=12))
    assert roster.replaced
    assert roster.me.stamp == 13
    joining, _ = a_roster(ME._replace(state=JOINING), N2)
    joining.introduced = False
    hear(joining, ME._replace(start=b"another.", stamp=5, directory=b"another........."))
    assert not joining.replaced  # it will inherit


def test_a_new_id_is_remembered_before_others_hear_of_it():
    roster, _ = a_roster(ME, N2)
    roster.replaced = True
    out = Outbox()
    roster.renew_directory(b"another.........", out)
    assert roster.me == ME._replace(directory=b"another.........", incarnation=1)
    assert not roster.replaced
    assert remembered(out.meta.get, members_max=9).members[0] == roster.me
    assert [(address, told(message)) for address, message in out.durable_sends] == [(N2.address, [roster.me])]
    assert (out.sends, out.datagrams) == ([], [])


def test_hearing_its_own_start_from_a_peer_introduces_a_node():
    roster, _ = a_roster(ME, N2)
    roster.introduced = False
    hear(roster, ME)
    assert roster.introduced


def test_a_seated_node_takes_its_name_back_from_a_joiner_but_not_from_who_left():
    roster, _ = a_roster(ME, N2)
    hear(roster, a_member("n1", start=7, stamp=3, state=LEFT))
    assert roster.me == ME
    hear(roster, a_member("n1", start=7, stamp=3, state=JOINING))
    assert roster.me == a_member("n1", stamp=4)


def test_a_joiner_stamps_itself_above_who_is_seated_and_leaves_rivals_to_the_members():
    me = a_member("n1", state=JOINING)
    roster, _ = a_roster(me, N2)
    hear(roster, a_member("n1", start=7, stamp=3, state=JOINING))
    assert (roster.me, roster.claimed_stamp) == (me, 3)
    out = hear(roster, a_member("n1", start=8, stamp=2))
    assert roster.me == me._replace(stamp=3)
    assert out.durable_sends == []
    assert remembered(out.meta.get, members_max=9).stamp == 3


def test_a_joiner_hears_that_its_join_was_ended():
    roster, _ = a_roster(a_member("n1", state=JOINING), N2)
    hear(roster, a_member("n1", state=LEFT, incarnation=1))
    assert roster.revoked


def test_whoever_gave_up_does_not_care_what_is_said_of_it():
    me = a_member("n1", state=LEFT)
    roster, _ = a_roster(me, N2)
    hear(roster, a_member("n1", liveness=DEAD), a_member("n1", stamp=5, start=7))
    assert roster.me == me


# ── speaking ──


def test_a_node_speaks_of_itself_first_and_packs_a_table_once():
    roster, _ = a_roster(a_member("n9"), N2, N3)
    packed = roster.packed()
    assert unpack_members(packed, members_max=9) == [a_member("n9"), N2, N3]
    assert roster.packed() is packed
    hear(roster, a_member("n2", incarnation=1))
    assert roster.packed() is not packed


def test_a_stamp_is_on_disk_before_anybody_hears_of_it():
    roster, _ = a_roster(ME, N2)
    out = Outbox()
    assert roster.sends(out) is out.sends
    assert roster.replies(out) is out.replies
    assert out.meta == {}
    roster.introduced = False
    assert roster.sends(out) is out.durable_sends
    assert remembered(out.meta.get, members_max=9).stamp == 1
    out = Outbox()
    assert roster.replies(out) is out.durable_replies
    assert remembered(out.meta.get, members_max=9).stamp == 1


def test_whoever_ends_on_purpose_says_so_to_all_it_can_reach():
    roster, _ = a_roster(ME, N2)
    out = Outbox()
    roster.farewell(out)
    [(address, message)] = out.sends
    assert (address, told(message)) == ("n2:7100", [a_member("n1", liveness=DEAD)])


def test_seeds_are_dialled_besides_the_members_but_never_oneself():
    roster, _ = a_roster(ME, N2)
    roster.seeds = ["seed:1", "n2:7100", "n1:7100"]
    assert hear(roster).connect == ["seed:1"]
    roster.seeds = []
    assert hear(roster).disconnect == ["seed:1"]


# ── at the door ──


def test_malformed_records_are_reported_and_nothing_else():
    roster, _ = a_roster(ME, N2)
    endless = a_member("n3", stamp=1 << 62)
    for packed in (b"\xff", pack_members([endless]), pack_members([a_member("n3", incarnation=1 << 62)])):
        out = Outbox()
        assert roster.unpack(packed, "n2:7100", out) is None
        assert "malformed member records from n2:7100" in out.events[0][1]
        assert roster.unpack_joiner(packed, out) is None
        assert "a malformed record wants to join" in out.events[1][1]


def test_proper_records_pass():
    roster, _ = a_roster(ME, N2)
    out = Outbox()
    assert roster.unpack(pack_members([N2, N3]), "n2:7100", out) == [N2, N3]
    assert roster.unpack(b"", "n2:7100", out) == []
    assert out.events == []


def test_only_who_says_so_wants_to_join():
    roster, _ = a_roster(ME, N2)
    out = Outbox()
    joining = a_member("n3", state=JOINING)
    assert roster.unpack_joiner(pack_member(joining), out) == joining
    assert roster.unpack_joiner(pack_member(N3), out) is None
    assert roster.unpack_joiner(pack_member(joining._replace(liveness=SUSPECT)), out) is None
    assert [text for _, text in out.events] == ["n3 wants to join but its record says otherwise"] * 2
