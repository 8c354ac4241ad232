"""What one node knows of the ring log, and who may vote."""

from __future__ import annotations

import pytest

from dyno.protocol.outbox import Outbox
from dyno.protocol.ring_register import RING, VOTE
from dyno.ringlog import entry as entries
from dyno.ringlog.vote import Vote
from dyno.wire.flat import ProtocolError
from dyno.wire.members import JOINING
from tests.protocol.ring_register_harness import FIRST_ENTRY, LOW, SECOND, Site
from tests.ringlog.ring_makers import a_row, an_entry, an_id

A = an_id("a")


def test_there_may_be_no_log() -> None:
    register = Site().register
    assert (register.entry, register.known, register.next, register.base) == (None, 0, 1, None)
    assert register.voters() == {}
    assert not register.may_vote()


def test_a_restart_knows_entry_and_vote() -> None:
    vote = Vote(A, 2, LOW)
    register = Site(FIRST_ENTRY, vote=vote).register
    assert (register.entry, register.known, register.next, register.vote) == (FIRST_ENTRY, 1, 2, vote)


def test_another_directory_inherits_no_vote() -> None:
    assert Site(FIRST_ENTRY, vote=Vote(an_id("former"), 2, LOW)).register.vote == Vote(A, 2)


def test_a_vote_about_another_entry_is_damage() -> None:
    with pytest.raises(ProtocolError, match="another entry than 2"):
        Site(FIRST_ENTRY, vote=Vote(A, 3, LOW))


def test_without_a_log_all_who_would_be_in_it_decide_under_whatever_directory() -> None:
    register = Site(meets="").register
    register.origin = FIRST_ENTRY
    assert register.base == FIRST_ENTRY
    assert register.needed(3) == 3
    assert register.is_voter("b", an_id("another"))
    assert not register.is_voter("x", an_id("b"))
    assert register.may_vote()


def test_with_a_log_directories_count() -> None:
    register = Site(FIRST_ENTRY).register
    assert register.needed(3) == 2
    assert register.is_voter("b", an_id("b"))
    assert not register.is_voter("b", an_id("another"))


def test_nobody_votes_before_all_living_voters_have_greeted_it() -> None:
    site = Site(FIRST_ENTRY, meets="")
    register = site.register
    register.met("b", an_id("b"))
    assert not register.may_vote(), "c might know better"
    site.dead.append("c")
    assert register.may_vote()
    site.dead.clear()
    register.met("c", an_id("another"))
    assert register.may_vote()


def test_nor_before_it_makes_a_majority_with_them() -> None:
    site = Site(FIRST_ENTRY, meets="")
    site.dead += ["b", "c"]
    assert not site.register.may_vote()
    site.register.met("b", an_id("another"))
    assert not site.register.may_vote()
    site.register.met("b", an_id("b"))
    assert site.register.may_vote()


def test_who_is_no_voter_has_no_vote() -> None:
    assert not Site(an_entry(a_row("a", JOINING), a_row("b"))).register.may_vote()
    site = Site(FIRST_ENTRY)
    out = Outbox()
    site.register.keep_vote(Vote(A, 2, LOW), out)
    site.register.renewed(an_id("new"), out)
    assert not site.register.may_vote()
    site.keep(out)
    site.commit()
    assert site.vote_on_disk == Vote(an_id("new"), 2)


def test_a_later_entry_ends_the_vote_in_the_same_commit() -> None:
    site = Site(FIRST_ENTRY, vote=Vote(A, 2, LOW))
    out = Outbox()
    site.register.origin = FIRST_ENTRY
    assert site.register.learn(SECOND, entries.pack(SECOND), out)
    assert (site.register.entry, site.register.vote, site.register.origin) == (SECOND, Vote(A, 3), None)
    assert out.meta == {RING: entries.pack(SECOND), VOTE: b""}


def test_earlier_entries_are_no_news() -> None:
    register, out = Site(SECOND).register, Outbox()
    assert not register.learn(FIRST_ENTRY, entries.pack(FIRST_ENTRY), out)
    assert not register.learn(SECOND, entries.pack(SECOND), out)
    assert not out
    twin = SECOND._replace(before=b"")
    assert not register.learn(twin, entries.pack(twin), out)
    assert [level for level, _ in out.events] == ["error"]
    assert register.entry == SECOND
