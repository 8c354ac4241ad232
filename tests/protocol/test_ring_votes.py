"""A voter of the ring log: what it answers, and that its disk has it by then."""

from __future__ import annotations

import pytest
from cbor2 import dumps

from dyno.protocol.outbox import Outbox
from dyno.protocol.ring_votes import RingVotes
from dyno.ringlog import entry as entries
from dyno.ringlog.numbers import forced_after
from dyno.ringlog.vote import Vote, ballot_of
from dyno.wire.flat import ProtocolError
from dyno.wire.members import JOINING
from dyno.wire.messages import (
    RingAccept,
    RingAccepted,
    RingEntry,
    RingFence,
    RingFenced,
    RingKnown,
    RingOutvoted,
    RingPrepare,
    RingPromised,
)
from tests.protocol.ring_register_harness import FIRST_ENTRY, HIGH, LOW, SECOND, Site, the_next
from tests.ringlog.ring_makers import a_row, an_entry, an_id

A = an_id("a")
VALUE = entries.pack(SECOND)
FORCED = forced_after(1, fence=0, tag=5)
LINK = 7


class Voter(Site):
    def ask(self, message: RingPrepare | RingAccept | RingFence) -> Outbox:
        out = Outbox()
        votes = RingVotes(self.register)
        match message:
            case RingPrepare():
                votes.prepare(LINK, message, out)
            case RingAccept():
                votes.accept(LINK, message, out)
            case RingFence():
                votes.fence(LINK, message, out)
        return out


def test_a_promise_is_on_the_disk_before_it_is_given() -> None:
    voter = Voter(FIRST_ENTRY)
    assert voter.ask(RingPrepare(2, LOW)).replies == []
    assert voter.vote_on_disk is None
    assert voter.commit().replies == [(LINK, RingPromised(2, LOW, A, b"", b""))]
    assert voter.vote_on_disk == Vote(A, 2, LOW)


def test_an_acceptance_is_on_the_disk_before_it_is_said() -> None:
    voter = Voter(FIRST_ENTRY)
    assert voter.ask(RingAccept(2, LOW, VALUE)).replies == []
    assert voter.commit().replies == [(LINK, RingAccepted(2, LOW, A))]
    assert voter.vote_on_disk == Vote(A, 2, LOW, LOW, VALUE)
    voter.ask(RingPrepare(2, HIGH))
    assert voter.commit().replies == [(LINK, RingPromised(2, HIGH, A, LOW, VALUE))]


def test_a_disk_that_refuses_makes_the_answer_late_and_not_wrong() -> None:
    voter = Voter(FIRST_ENTRY)
    voter.ask(RingPrepare(2, LOW))
    voter.commits.take_batch()
    failed = Outbox()
    voter.commits._failed(0.0, failed)
    assert failed.replies == []
    voter.commits.tick(10.0)
    assert voter.commit().replies == [(LINK, RingPromised(2, LOW, A, b"", b""))]
    assert voter.vote_on_disk == Vote(A, 2, LOW)


def test_others_are_told_of_the_commit_with_a_vote() -> None:
    voter = Voter(FIRST_ENTRY)
    voter.ask(RingPrepare(2, LOW))
    batch = voter.commits.take_batch()
    assert batch is not None
    assert batch.own


def test_low_ballots_are_outvoted() -> None:
    voter = Voter(FIRST_ENTRY)
    voter.ask(RingPrepare(2, HIGH))
    answer = (LINK, RingOutvoted(2, LOW, HIGH, 0))
    assert voter.ask(RingPrepare(2, LOW)).replies == [answer]
    assert voter.ask(RingAccept(2, LOW, VALUE)).replies == [answer]


def test_doubled_questions_are_answered_twice() -> None:
    voter = Voter(FIRST_ENTRY)
    for _ in range(2):
        voter.ask(RingAccept(2, LOW, VALUE))
    assert voter.commit().replies == [(LINK, RingAccepted(2, LOW, A))] * 2


def test_who_asks_about_what_is_decided_gets_the_last_entry() -> None:
    out = Voter(SECOND).ask(RingPrepare(2, LOW))
    assert out.replies == [(LINK, RingEntry(VALUE))]


def test_who_knows_less_says_so() -> None:
    assert Voter(FIRST_ENTRY).ask(RingPrepare(3, LOW)).replies == [(LINK, RingKnown(1))]
    assert Voter().ask(RingPrepare(2, LOW)).replies == [(LINK, RingKnown(0))]


@pytest.mark.parametrize(
    "voter",
    [
        Voter(),
        Voter(FIRST_ENTRY, meets=""),
        Voter(an_entry(a_row("a", JOINING), a_row("b"))),
    ],
    ids=["no log", "just started", "joining"],
)
def test_who_has_no_vote_says_nothing(voter: Voter) -> None:
    for message in (RingPrepare(voter.register.next, LOW), RingAccept(voter.register.next, LOW, VALUE)):
        out = voter.ask(message)
        assert out.replies == out.durable_replies == []


@pytest.mark.parametrize(
    ("value", "level"),
    [
        (b"", "warning"),
        (dumps([2, 1, b"", False, b"", 1]), "warning"),
        (entries.pack(the_next(SECOND, "a", "b")), "error"),
        (entries.pack(SECOND._replace(before=b"")), "error"),
        (entries.pack(SECOND._replace(forced=True)), "error"),
    ],
    ids=["nothing", "a later format", "another number", "another predecessor", "forced"],
)
def test_what_cannot_follow_is_not_accepted(value: bytes, level: str) -> None:
    voter = Voter(FIRST_ENTRY)
    out = voter.ask(RingAccept(2, LOW, value))
    assert [said for said, _ in out.events] == [level]
    assert out.replies == []
    assert voter.register.vote == Vote(A, 2)


def test_a_first_entry_without_this_node_is_not_accepted() -> None:
    voter = Voter()
    voter.register.origin = FIRST_ENTRY
    voter.ask(RingAccept(1, LOW, entries.pack(an_entry(a_row("b"), a_row("c")))))
    assert voter.register.vote == Vote(A, 1)
    voter.ask(RingAccept(1, LOW, entries.pack(FIRST_ENTRY)))
    assert voter.register.vote.accepted == LOW


@pytest.mark.parametrize("ballot", [b"", bytes(16), b"\xff" * 16, LOW[1:], ballot_of(1 << 62, bytes(8))])
def test_nonsense_is_refused(ballot: bytes) -> None:
    with pytest.raises(ProtocolError):
        Voter(FIRST_ENTRY).ask(RingPrepare(2, ballot))
    with pytest.raises(ProtocolError):
        Voter(FIRST_ENTRY).ask(RingAccept(2, ballot, VALUE))


# ── fences ──


def test_whoever_assents_to_force_votes_no_more() -> None:
    voter = Voter(FIRST_ENTRY)
    voter.ask(RingAccept(2, LOW, VALUE))
    out = voter.ask(RingFence(1, FORCED))
    assert [level for level, _ in out.events] == ["warning"]
    assert voter.commit().replies[1:] == [(LINK, RingFenced(1, FORCED, A, LOW, VALUE))]
    assert voter.vote_on_disk == Vote(A, 2, LOW, LOW, VALUE, FORCED)
    assert voter.ask(RingPrepare(2, HIGH)).replies == [(LINK, RingOutvoted(2, HIGH, LOW, FORCED))]
    assert voter.ask(RingFence(1, FORCED)).events == [], "said once"


def test_one_just_started_assents_for_there_is_no_majority_to_meet() -> None:
    voter = Voter(FIRST_ENTRY, meets="")
    voter.ask(RingFence(1, FORCED))
    assert voter.commit().replies == [(LINK, RingFenced(1, FORCED, A, b"", b""))]


def test_the_highest_force_has_the_assent() -> None:
    voter = Voter(FIRST_ENTRY)
    higher = forced_after(1, fence=FORCED, tag=0)
    voter.ask(RingFence(1, higher))
    answer = RingOutvoted(1, FORCED.to_bytes(8, "big"), b"", higher)
    assert voter.ask(RingFence(1, FORCED)).replies == [(LINK, answer)]


def test_force_after_another_entry() -> None:
    assert Voter(SECOND).ask(RingFence(1, FORCED)).replies == [(LINK, RingEntry(VALUE))]
    later = forced_after(2, fence=0, tag=0)
    assert Voter(FIRST_ENTRY).ask(RingFence(2, later)).replies == [(LINK, RingKnown(1))]
    stranger = Voter(an_entry(a_row("a", JOINING), a_row("b")))
    assert stranger.ask(RingFence(1, FORCED)).durable_replies == []
    with pytest.raises(ProtocolError):
        Voter(FIRST_ENTRY).ask(RingFence(1, 2))
