"""A proposer of the ring log: which value, which ballots, and what those hear who wished."""

from __future__ import annotations

from random import Random

from dyno.buckets.properties import DEFAULTS
from dyno.protocol.outbox import Outbox
from dyno.protocol.ring_proposals import (
    BALLOT_S,
    FINISH_S,
    PAUSE_MAX_S,
    WISHES_MAX,
    Force,
    Outcome,
    RingProposals,
)
from dyno.ringlog import entry as entries
from dyno.ringlog.changes import Create, follow
from dyno.ringlog.entry import Entry
from dyno.ringlog.numbers import epoch, forced_after
from dyno.ringlog.vote import Vote, ballot_of, round_of
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

VALUE = entries.pack(SECOND)
B, C = an_id("b"), an_id("c")


class Proposer(Site):
    """Node a; what it sends is in `sent` until looked at."""

    def __init__(self, entry: Entry | None = FIRST_ENTRY, *, vote: Vote | None = None) -> None:
        super().__init__(entry, vote=vote)
        self.now = 0.0
        self.out = Outbox()
        self.outcomes: list[Outcome] = []
        self.proposals = RingProposals(self.register, random=Random(1), learn=self._learn)

    def _learn(self, entry: Entry, packed: bytes, now: float, out: Outbox) -> None:
        self.register.learn(entry, packed, out)
        self.proposals.learned(now, out)

    def wish(self, bucket: str, *, deadline: float | None = None) -> None:
        self.proposals.wish(
            (Create(bucket, DEFAULTS),), deadline=deadline, then=self.then, now=self.now, out=self.out
        )

    def then(self, outcome: Outcome, now: float, out: Outbox) -> None:
        self.outcomes.append(outcome)

    def force(self, *lost: bytes, deadline: float | None = None) -> None:
        self.proposals.force(Force(lost, deadline, self.then), self.now, self.out)

    def sent(self) -> list[tuple[str, object]]:
        sends = [(address[0], message) for address, message in self.out.sends]
        self.out.sends.clear()
        return sends

    def asked(self) -> RingPrepare | RingAccept | RingFence:
        """What both others were asked."""
        (one, question), (other, same) = self.sent()
        assert (one, other, same) == ("b", "c", question)
        assert isinstance(question, RingPrepare | RingAccept | RingFence)
        return question

    def prepare(self) -> bytes:
        """A ballot has begun; this node's own promise is on its disk."""
        question = self.asked()
        assert isinstance(question, RingPrepare)
        self.out.sends += self.commit(self.now).sends
        return question.ballot

    def promised(self, name: str, ballot: bytes, accepted: bytes = b"", value: bytes = b"") -> None:
        message = RingPromised(self.register.next, ballot, an_id(name), accepted, value)
        self.proposals.promised(name, message, self.now, self.out)

    def accepted(self, name: str, ballot: bytes) -> None:
        message = RingAccepted(self.register.next, ballot, an_id(name))
        self.proposals.accepted(name, message, self.now, self.out)

    def tick(self, now: float) -> None:
        self.now = now
        self.proposals.tick(now, self.out)


def accepting() -> tuple[Proposer, bytes]:
    """A wish has been put to the vote as the second entry."""
    proposer = Proposer()
    proposer.wish("x", deadline=60.0)
    ballot = proposer.prepare()
    proposer.promised("b", ballot)
    question = proposer.asked()
    assert isinstance(question, RingAccept)
    assert dict(entries.unpack(question.value).buckets) == {"x": DEFAULTS}
    return proposer, ballot


# ── ballots ──


def test_a_wish_is_decided_in_two_rounds() -> None:
    proposer, ballot = accepting()
    proposer.accepted("b", ballot)
    assert proposer.outcomes == [], "its own vote is not on its disk"
    proposer.out.sends += proposer.commit().sends
    # the waiter of that commit ran with an outbox of its own
    assert proposer.outcomes == [Outcome(2)]


def test_all_are_told_what_was_decided() -> None:
    proposer, ballot = accepting()
    proposer.commit()
    proposer.accepted("b", ballot)
    told = proposer.sent()
    assert [(name, type(message)) for name, message in told] == [("b", RingEntry), ("c", RingEntry)]


def test_answers_that_count_for_nothing() -> None:
    proposer = Proposer()
    proposer.wish("x")
    proposer.promised("b", ballot_of(1, b"a start."))
    proposer.out.sends.clear()
    proposer = Proposer()
    proposer.wish("x")
    question = proposer.asked()
    assert isinstance(question, RingPrepare)
    ballot = question.ballot
    proposer.promised("b", HIGH)
    proposer.promised("d", ballot)  # no voter
    proposer.proposals.promised("c", RingPromised(2, ballot, B, b"", b""), 0.0, proposer.out)
    proposer.proposals.promised("b", RingPromised(3, ballot, B, b"", b""), 0.0, proposer.out)
    proposer.accepted("b", ballot)
    for _ in range(2):
        proposer.promised("b", ballot)
    assert proposer.sent() == [], "b alone is no majority, however often"
    proposer.promised("c", ballot)
    assert isinstance(proposer.asked(), RingAccept)


def test_what_was_accepted_under_the_highest_ballot_goes_on() -> None:
    proposer = Proposer()
    proposer.wish("x")
    ballot = proposer.prepare()
    other = entries.pack(the_next(FIRST_ENTRY, "a", "b", "c"))
    proposer.register.vote = Vote(an_id("a"), 2)
    proposer.proposals._ballot.best = (LOW, other)  # type: ignore[union-attr]
    proposer.promised("b", ballot, HIGH, VALUE)
    question = proposer.asked()
    assert isinstance(question, RingAccept)
    assert question.value == VALUE
    proposer.accepted("b", ballot)
    proposer.accepted("c", ballot)
    assert proposer.outcomes == []
    assert proposer.proposals.deadline() == proposer.now
    proposer.sent()
    proposer.tick(proposer.now)
    assert isinstance(proposer.sent()[0][1], RingPrepare), "the wish goes on with the third entry"


def test_a_value_that_cannot_be_read_stops_the_ballot() -> None:
    for value in (b"nonsense", entries.pack(the_next(SECOND, "a", "b"))):
        proposer = Proposer()
        proposer.wish("x")
        ballot = proposer.prepare()
        proposer.promised("b", ballot, LOW, value)
        assert [level for level, _ in proposer.out.events] == ["warning"]
        assert proposer.sent() == []
        assert proposer.proposals.deadline() is not None


def test_its_own_vote_counts_when_its_disk_has_it() -> None:
    proposer = Proposer()
    proposer.wish("x")
    ballot = proposer.asked()
    assert isinstance(ballot, RingPrepare)
    proposer.promised("b", ballot.ballot)
    assert proposer.sent() == []
    proposer.commits.take_batch()
    proposer.commits._failed(0.0, proposer.out)
    assert proposer.sent() == []
    proposer.commits.tick(10.0)
    proposer.out.sends += proposer.commit().sends
    assert proposer.sent() == [], "nobody waits for it any more"
    proposer.promised("c", ballot.ballot)
    assert isinstance(proposer.asked(), RingAccept), "but others do it, too"


def test_a_ballot_without_answers_is_followed_by_a_higher_one() -> None:
    proposer = Proposer()
    proposer.wish("x")
    first = proposer.prepare()
    assert proposer.proposals.deadline() == BALLOT_S
    proposer.tick(BALLOT_S)
    at = proposer.proposals.deadline()
    assert at is not None
    assert at > BALLOT_S
    proposer.wish("y")
    assert proposer.sent() == [], "it comes along with the next ballot"
    proposer.tick(at)
    assert proposer.prepare() > first


def test_pauses_grow_to_a_bound() -> None:
    proposer = Proposer()
    proposer.wish("x")
    pauses = []
    for _ in range(40):
        at = proposer.proposals.deadline()
        assert at is not None
        pauses.append(at - proposer.now)
        proposer.tick(at)
    assert max(pauses[:4]) < max(pauses) <= PAUSE_MAX_S


def test_a_ballot_that_is_outvoted_goes_above() -> None:
    proposer = Proposer()
    proposer.wish("x")
    ballot = proposer.prepare()
    high = ballot_of(40, b"another.")
    for name in ("b", "d", "b"):
        proposer.proposals.outvoted(name, RingOutvoted(2, ballot, high, 0), 0.0, proposer.out)
    assert proposer.proposals.deadline() == BALLOT_S, "a and c may do"
    proposer.proposals.outvoted("c", RingOutvoted(2, LOW, high, 0), 0.0, proposer.out)
    proposer.proposals.outvoted("c", RingOutvoted(2, ballot, b"", 0), 0.0, proposer.out)
    at = proposer.proposals.deadline()
    assert at is not None
    assert at < BALLOT_S
    proposer.tick(at)
    assert round_of(proposer.prepare()) == 41


def test_who_lacks_the_last_entry_gets_it_and_is_asked_again_once() -> None:
    proposer = Proposer()
    proposer.wish("x")
    question = proposer.asked()
    entry = RingEntry(entries.pack(FIRST_ENTRY))
    proposer.proposals.behind("b", RingKnown(0), proposer.out)
    assert proposer.sent() == [("b", entry), ("b", question)]
    proposer.proposals.behind("b", RingKnown(0), proposer.out)
    proposer.proposals.behind("d", RingKnown(0), proposer.out)
    assert proposer.sent() == [("b", entry), ("d", entry)]
    proposer.proposals.behind("b", RingKnown(1), proposer.out)
    assert proposer.sent() == []


def test_who_can_be_asked_again_is_asked_again() -> None:
    proposer = Proposer()
    proposer.proposals.link_up("b", proposer.out)
    assert proposer.sent() == []
    proposer.wish("x")
    question = proposer.asked()
    assert isinstance(question, RingPrepare)
    for name in "bd":
        proposer.proposals.link_up(name, proposer.out)
    assert proposer.sent() == [("b", question)]


# ── what others left ──


def test_what_another_began_is_finished_after_a_while() -> None:
    proposer = Proposer(vote=Vote(an_id("a"), 2, LOW, LOW, VALUE))
    proposer.proposals.watch(0.0)
    at = proposer.proposals.deadline()
    assert at is not None
    assert FINISH_S <= at <= 2 * FINISH_S
    proposer.proposals.watch(1.0)
    assert proposer.proposals.deadline() == at
    proposer.tick(at)
    ballot = proposer.prepare()
    assert round_of(ballot) == round_of(LOW) + 1
    proposer.promised("b", ballot)
    question = proposer.asked()
    assert isinstance(question, RingAccept)
    assert question.value == VALUE


def test_with_nothing_to_decide_no_ballot_begins() -> None:
    proposer = Proposer()
    proposer.proposals.watch(0.0)
    proposer.tick(10.0)
    assert proposer.sent() == []
    assert proposer.proposals.deadline() is None


def test_a_ballot_whose_wish_was_given_up_ends_without_a_value() -> None:
    proposer = Proposer()
    proposer.wish("x", deadline=0.5)
    ballot = proposer.prepare()
    proposer.tick(0.5)
    assert proposer.outcomes[0].is_open is False
    proposer.promised("b", ballot)
    assert proposer.sent() == []
    assert proposer.proposals.deadline() is None
    proposer.wish("y", deadline=0.9)
    ballot = proposer.prepare()
    proposer.tick(0.9)
    proposer.register.vote = Vote(an_id("a"), 2, HIGH, HIGH, VALUE)
    proposer.promised("b", ballot)
    assert proposer.proposals.deadline() is not None, "somebody else is about to decide something"


# ── those who wished ──


def test_what_was_put_to_the_vote_may_come_about_later() -> None:
    proposer, _ = accepting()
    proposer.tick(60.0)
    (outcome,) = proposer.outcomes
    assert (outcome.number, outcome.is_open) == (0, True)


def test_what_was_outvoted_by_another_entry_is_not_open_any_more() -> None:
    proposer, _ = accepting()
    proposer._learn(SECOND, VALUE, 0.0, proposer.out)
    proposer.tick(60.0)
    (outcome,) = proposer.outcomes
    assert (outcome.number, outcome.is_open) == (0, False)


def test_an_entry_of_others_may_fulfil_a_wish() -> None:
    proposer = Proposer()
    proposer.wish("x")
    entry = follow(FIRST_ENTRY, [(Create("x", DEFAULTS),)])
    assert entry is not None
    proposer._learn(entry, entries.pack(entry), 0.0, proposer.out)
    assert proposer.outcomes == [Outcome(2)]
    proposer.wish("x")
    assert proposer.outcomes == [Outcome(2), Outcome(2)]


def test_wishes_are_bounded() -> None:
    proposer = Proposer()
    for number in range(WISHES_MAX):
        proposer.wish(f"b{number}")
    assert proposer.outcomes == []
    proposer.wish("one more")
    assert proposer.outcomes == [Outcome(0, "a: too many ring changes wait already")]


def test_a_wish_waits_until_there_is_a_log() -> None:
    proposer = Proposer(None)
    proposer.wish("x")
    assert proposer.sent() == []
    assert proposer.outcomes == []
    proposer.register.origin = FIRST_ENTRY
    proposer.proposals.watch(0.0)
    proposer.tick(10.0)
    ballot = proposer.prepare()
    for name in "bc":
        proposer.promised(name, ballot)
    question = proposer.asked()
    assert isinstance(question, RingAccept)
    assert question.value == entries.pack(FIRST_ENTRY)
    proposer.commit()
    for name in "bc":
        proposer.accepted(name, ballot)
    assert proposer.register.entry == FIRST_ENTRY


def test_a_wish_that_comes_to_nothing_leaves_the_first_entry_to_be_decided() -> None:
    proposer = Proposer(None)
    proposer.register.origin = FIRST_ENTRY
    proposer.proposals.watch(0.0)
    proposer.tick(10.0)
    ballot = proposer.prepare()
    for name in "bc":
        proposer.promised(name, ballot, LOW, entries.pack(an_entry(a_row("a"), a_row("b"))))
    ((name, question),) = proposer.sent()
    assert (name, type(question)) == ("b", RingAccept), "the voters of that value are asked"


# ── force ──


def forcing() -> tuple[Proposer, int]:
    """c is lost, of a and b."""
    proposer = Proposer(an_entry(a_row("a"), a_row("b"), a_row("c"), a_row("d")))
    proposer.force(C, an_id("d"), deadline=60.0)
    ((name, question),) = proposer.sent()
    assert isinstance(question, RingFence)
    assert (name, question.number, epoch(question.forced)) == ("b", 1, 1)
    return proposer, question.forced


def test_force_needs_all_who_are_left() -> None:
    proposer, forced = forcing()
    fenced = RingFenced(1, forced, B, b"", b"")
    proposer.proposals.fenced("b", fenced._replace(forced=forced + 1), 0.0, proposer.out)
    proposer.proposals.fenced("c", fenced._replace(directory=C), 0.0, proposer.out)
    proposer.proposals.fenced("b", fenced, 0.0, proposer.out)
    assert proposer.register.known == 1
    proposer.commit()
    assert proposer.register.known == forced
    assert proposer.outcomes == [Outcome(forced)]


def test_force_is_tried_again_under_the_same_number() -> None:
    proposer, forced = forcing()
    proposer.tick(BALLOT_S)
    at = proposer.proposals.deadline()
    assert at is not None
    proposer.tick(at)
    assert proposer.sent() == [("b", RingFence(1, forced))]


def test_force_goes_above_another_force() -> None:
    proposer, forced = forcing()
    other = forced_after(1, fence=forced, tag=0)
    no = RingOutvoted(1, forced.to_bytes(8, "big"), b"", other)
    proposer.proposals.outvoted("b", no, 0.0, proposer.out)
    at = proposer.proposals.deadline()
    assert at is not None
    proposer.tick(at)
    ((_, question),) = proposer.sent()
    assert isinstance(question, RingFence)
    assert epoch(question.forced) == epoch(other) + 1


def test_force_has_an_end() -> None:
    proposer, forced = forcing()
    no = RingOutvoted(1, forced.to_bytes(8, "big"), b"", (1 << 64) - 1)
    proposer.proposals.outvoted("b", no, 0.0, proposer.out)
    at = proposer.proposals.deadline()
    assert at is not None
    proposer.tick(at)
    assert proposer.outcomes == [Outcome(0, "the ring was forced too often")]


def test_force_ends_where_its_own_node_assented_to_another() -> None:
    proposer, forced = forcing()
    proposer.commit()
    proposer.register.vote = proposer.register.vote._replace(fence=forced + 1)
    proposer.proposals.fenced("b", RingFenced(1, forced, B, b"", b""), 0.0, proposer.out)
    assert proposer.register.known == 1
    assert proposer.proposals.deadline() is not None


def test_a_node_wishes_on_after_its_force_was_given_up() -> None:
    proposer, _ = forcing()
    proposer.tick(BALLOT_S)
    proposer.tick(60.0)
    proposer.sent()
    proposer.wish("x")
    assert any(isinstance(message, RingPrepare) for _, message in proposer.sent())


def test_force_takes_nothing_along_that_cannot_follow() -> None:
    for value in (entries.pack(the_next(FIRST_ENTRY, "b")), entries.pack(the_next(SECOND, "a"))):
        proposer, forced = forcing()
        proposer.commit()
        proposer.proposals.fenced("b", RingFenced(1, forced, B, LOW, value), 0.0, proposer.out)
        assert [level for level, _ in proposer.out.events] == ["warning"]
        assert proposer.register.known == 1


def test_force_against_strangers() -> None:
    proposer = Proposer(None)
    proposer.register.origin = FIRST_ENTRY
    proposer.force(an_id("x"))
    assert proposer.outcomes == [Outcome(0, "none of those who are to be put out is a member")]


def test_wishes_go_on_when_force_is_given_up() -> None:
    proposer, _ = forcing()
    proposer.wish("x")
    proposer.tick(60.0)
    assert proposer.outcomes == [Outcome(0, "not all of a, b assented in time", True)]
    assert any(isinstance(message, RingPrepare) for _, message in proposer.sent())
