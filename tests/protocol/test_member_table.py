"""The member table: whatever order news arrives in, everybody ends with the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.protocol.member_table import MemberTable
from dyno.wire.members import ALIVE, DEAD, JOINING, LEAVING, LEFT, NORMAL, SUSPECT, Member
from tests.protocol.membership_harness import a_member


def a_table(*records: Member, members_max: int = 100) -> MemberTable:
    table = MemberTable(members_max=members_max)
    for record in records:
        table.merge(record, admitted=True)
    return table


# ── records of one name ──


def test_a_later_start_replaces_an_earlier_one():
    table = a_table(a_member(start=9, incarnation=7))
    assert table.merge(a_member(start=1, stamp=2))
    assert table.seated("n2") == a_member(start=1, stamp=2)
    assert not table.merge(a_member(start=9, incarnation=8))


def test_suspicion_beats_life_and_a_higher_incarnation_beats_both():
    table = a_table(a_member())
    assert table.merge(a_member(liveness=SUSPECT))
    assert not table.merge(a_member(liveness=ALIVE))
    assert table.merge(a_member(liveness=DEAD))
    assert not table.is_live("n2")
    assert table.merge(a_member(incarnation=1))
    assert table.is_live("n2")


def test_hearing_the_same_again_changes_nothing():
    table = a_table(a_member())
    version = table.version
    assert not table.merge(a_member())
    assert table.version == version


# ── joining ──


def test_a_stranger_is_no_candidate_before_it_asked_this_very_node():
    joining = a_member(state=JOINING)
    table = a_table()
    assert not table.merge(joining)
    assert table.pending == 0
    assert table.merge(joining, admitted=True)
    assert (table.pending, table.holder("n2"), table.ring()) == (1, joining, [])


def test_others_may_tell_more_of_an_admitted_start_but_not_of_another():
    table = a_table(a_member(state=JOINING, start=1))
    assert table.merge(a_member(state=JOINING, start=1, liveness=SUSPECT))
    assert not table.merge(a_member(state=JOINING, start=2))


def test_a_joiner_that_takes_its_seat_is_pending_no_more():
    table = a_table(a_member(state=JOINING))
    assert table.merge(a_member(incarnation=1))
    assert table.pending == 0
    assert table.candidate("n2") is None
    assert not table.merge(a_member(state=JOINING), admitted=True)  # told late
    assert len(table) == 1


def test_who_takes_over_a_seat_is_joining_and_changes_nothing_of_the_ring():
    seated = a_member(start=1)
    joining = a_member(state=JOINING, start=2, stamp=2, directory=b"another".ljust(16))
    table = a_table(seated, joining)
    assert table.takes_over(joining)
    assert (table.joining, table.pending) == (1, 0)
    fingerprint, version = table.fingerprint(), table.ring_version
    assert table.merge(joining._replace(state=NORMAL, incarnation=1))
    assert (table.joining, table.fingerprint()) == (0, fingerprint)
    assert table.ring_version > version  # its directory is another one
    for other in ({"zone": "z"}, {"weight": 2.0}, {"seat": b"another seat...."}):
        assert not table.takes_over(joining._replace(**other))
        assert a_table(seated, joining._replace(**other)).pending == 1
    assert not a_table().takes_over(joining)


def test_a_join_that_came_to_nothing_takes_nobodys_seat():
    seated = a_member(start=1)
    joining = a_member(state=JOINING, start=2, stamp=2, directory=b"another".ljust(16))
    table = a_table(seated, joining)
    assert (table.holder("n2"), table.seated("n2")) == (joining, seated)
    assert table.merge(joining._replace(state=LEFT, incarnation=1))
    assert (table.pending, table.holder("n2"), table.ring()) == (0, seated, [seated])
    assert not table.merge(joining, admitted=True)  # told late


def test_whoever_left_is_remembered_though_nobody_sees_it():
    left = a_member(state=LEFT, stamp=4)
    table = a_table(a_member("n1"))
    assert table.merge(left)
    assert table.members() == [a_member("n1")]
    assert list(table.records()) == [a_member("n1"), left]
    assert table.holder("n2") is None
    assert table.highest_stamp("n2") == 4


def test_members_are_shown_by_name_with_who_would_replace_them():
    joining = a_member("n1", state=JOINING, stamp=2)
    table = a_table(a_member("n2"), a_member("n1"), joining)
    assert table.members() == [joining, a_member("n1"), a_member("n2")]
    assert table.current() == [a_member("n2"), joining]
    assert table.current() is table.current()


def test_a_start_is_found_in_either_slot():
    table = a_table(a_member(start=1), a_member(state=JOINING, start=2, stamp=2))
    assert table.find("n2", (1).to_bytes(8, "big")) == a_member(start=1)
    assert table.find("n2", (2).to_bytes(8, "big")) is not None
    assert table.find("n2", (3).to_bytes(8, "big")) is None
    assert table.find("n3", (3).to_bytes(8, "big")) is None
    assert table.highest_stamp("n3") == 0


def test_the_table_holds_no_more_names_than_it_may():
    table = a_table(a_member("n1"), a_member("n2", state=JOINING), members_max=2)
    assert not table.merge(a_member("n3"))
    assert not table.merge(a_member("n3", state=LEFT))
    assert table.merge(a_member("n2", incarnation=1))  # known already


# ── the ring ──


def test_the_ring_is_everybody_seated_dead_ones_too_by_seat():
    low, high = a_member("n1", seat=b"1" * 16), a_member("n2", seat=b"0" * 16, liveness=DEAD)
    leaving = a_member("n3", state=LEAVING, seat=b"2" * 16)
    table = a_table(low, high, leaving, a_member("n4", state=JOINING))
    assert table.ring() == [high, low, leaving]
    assert table.ring() is table.ring()


def test_the_ring_changes_with_places_and_never_with_liveness():
    table = a_table(a_member())
    version, facts, fingerprint = table.ring_version, table.facts_version, table.fingerprint()
    table.merge(a_member(liveness=DEAD))
    table.merge(a_member(incarnation=1))
    assert (table.ring_version, table.facts_version) == (version, facts)
    table.merge(a_member(stamp=2))
    assert (table.ring_version, table.facts_version) == (version, facts + 1)
    table.merge(a_member(stamp=3, address="elsewhere:1"))
    assert table.ring_version == version + 1
    assert table.fingerprint() == fingerprint
    table.merge(a_member("n3"))
    assert table.ring_version == version + 2
    assert table.fingerprint() != fingerprint


def test_equal_placements_have_equal_fingerprints_and_different_ones_do_not():
    members = [a_member("n1"), a_member("n2", zone="z")]
    fingerprint = a_table(*members).fingerprint()
    assert 0 <= fingerprint < 1 << 63
    assert a_table(*reversed(members), a_member("n3", state=JOINING)).fingerprint() == fingerprint
    assert (
        a_table(members[0]._replace(start=bytes(8), address="x:1"), members[1]).fingerprint() == fingerprint
    )
    for change in ({"seat": bytes(16)}, {"zone": "zz"}, {"weight": 2.0}, {"name": "n0"}):
        assert a_table(members[0]._replace(**change), members[1]).fingerprint() != fingerprint


# ── the lattice ──

records = st.builds(
    a_member,
    st.sampled_from(["n1", "n2"]),
    start=st.integers(0, 2),
    stamp=st.integers(0, 2),
    incarnation=st.integers(0, 2),
    state=st.sampled_from([JOINING, NORMAL, LEAVING, LEFT]),
    liveness=st.sampled_from([ALIVE, SUSPECT, DEAD]),
    address=st.sampled_from(["a:1", "b:1"]),
)


def contents(table: MemberTable) -> tuple[list[Member], list[Member], int, int]:
    return sorted(table.records()), table.ring(), table.pending, table.fingerprint()


@settings(deadline=None, max_examples=300)
@given(st.lists(records, max_size=12), st.randoms(use_true_random=False), st.data())
def test_records_merge_to_the_same_table_in_any_order_and_number(news, random, data):
    table = a_table(*news)
    again = news + data.draw(st.lists(st.sampled_from(news), max_size=5)) if news else []
    random.shuffle(again)
    assert contents(a_table(*again)) == contents(table)
    pending = [record for record in table.members() if record.state == JOINING]
    assert table.joining == len(pending)
    assert table.pending == sum(not table.takes_over(record) for record in pending)
    assert len(table) == len({record.name for record in table.members()})


@settings(deadline=None, max_examples=100)
@given(st.lists(records, max_size=8), st.lists(records, max_size=8))
def test_two_tables_that_tell_each_other_everything_are_equal(mine, yours):
    one, other = a_table(*mine), a_table(*yours)
    told = list(one.records())
    for record in list(other.records()):
        one.merge(record, admitted=True)
    for record in told:
        other.merge(record, admitted=True)
    assert contents(one) == contents(other) == contents(a_table(*mine, *yours))
