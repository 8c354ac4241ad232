"""The doors that lead to buckets, on one node."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.buckets.table import Entry, pack, unpack
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
    ASSENTED,
    BUSY,
    QUORUM,
    REFUSED,
    AskBuckets,
    AskFate,
    Assent,
    Buckets,
    CreateBucket,
    Propose,
    Proposed,
    Reject,
    SwapBuckets,
    Withdrawn,
)
from tests.protocol.bucket_harness import LINK, RING, WIDE, Driven, P, Q, directory_of, reserved

CREATED = Entry("wide", WIDE)
CREATE = CreateBucket(1, "wide", 5, QUORUM, QUORUM, 0, 5000)


def ask(at: Driven, message: Any) -> list[Any]:
    at.keeper.request(LINK, message, at.now, at.out)
    return at.said()


def answer(at: Driven, name: str | None, message: Any) -> None:
    at.keeper.answer(name, message, at.now, at.out)


def all_assent(at: Driven) -> None:
    for name, message in at.sent():
        answer(at, name, Proposed(message.id, ASSENTED, ""))


def propose(entry: Entry, *, firm: bool = True) -> Propose:
    return Propose(4, RING, pack([entry]), firm)


def test_a_bucket_is_created_between_three_nodes() -> None:
    at = Driven()
    assert ask(at, CREATE) == []
    assert at.keeper.busy
    all_assent(at)
    all_assent(at)
    at.commit()
    assert [type(message) for _, message in at.sent()] == [SwapBuckets] * 2
    answer(at, None, SwapBuckets(pack([CREATED]), False))  # who is that?
    for name in "bc":
        answer(at, name, SwapBuckets(pack([CREATED]), False))
    assert at.said() == [Buckets(1, pack([CREATED]))]
    assert ask(at, AskBuckets(2)) == [Buckets(2, pack([CREATED]))]


def test_only_what_is_created_is_listed() -> None:
    at = Driven()
    for entry in (Entry("b", WIDE), Entry("a", WIDE), reserved("c")):
        at.keeper.table.put(entry)
    (listed,) = ask(at, AskBuckets(7))
    assert [entry.name for entry in unpack(listed.buckets)] == ["a", "b"]


def test_an_assent_leaves_once_its_reservation_is_on_the_disk() -> None:
    at = Driven()
    assert ask(at, propose(reserved(), firm=False)) == [Proposed(4, ASSENTED, "")]
    assert ask(at, propose(reserved())) == []
    at.commit()
    assert at.said() == [Proposed(4, ASSENTED, "")]
    assert at.keeper.table.entries == {"wide": reserved()}
    assert at.keeper.why_not("wide") == "bucket 'wide' is being created by b; try again in a moment"


def test_who_proposes_what_is_created_is_shown_that_first() -> None:
    at = Driven()
    at.keeper.table.put(CREATED)
    shown, verdict = ask(at, propose(reserved()))
    assert shown == SwapBuckets(pack([CREATED]), False)
    assert verdict.verdict == BUSY


def test_a_bucket_of_a_kind_that_is_not_known_here_is_refused() -> None:
    at = Driven()
    later = reserved()._replace(properties=WIDE._replace(kind=9))
    (refusal,) = ask(at, propose(later))
    assert refusal.verdict == REFUSED
    assert refusal.text.startswith("a cannot have such a bucket: ")


@pytest.mark.parametrize(
    "bucket",
    [
        b"",
        pack([CREATED]),
        pack([Entry("wide", WIDE, doubtful=True)]),
        pack([reserved()._replace(doubtful=True)]),
        pack([reserved("one"), reserved("two")]),
    ],
)
def test_a_proposal_of_nothing_is_a_breach_of_protocol(bucket: bytes) -> None:
    at = Driven()
    with pytest.raises(ProtocolError, match="a proposal that proposes nothing"):
        ask(at, Propose(4, RING, bucket, True))


def test_a_coordinator_withdraws_on_the_same_link_or_as_an_answer() -> None:
    at = Driven()
    for tell in (lambda message: ask(at, message), lambda message: answer(at, "b", message)):
        ask(at, propose(reserved()))
        tell(Withdrawn("wide", Q))
        assert len(at.keeper.table) == 1
        tell(Withdrawn("wide", P))
        assert len(at.keeper.table) == 0


def test_nobody_else_withdraws_what_this_node_proposed() -> None:
    at = Driven()
    ask(at, CREATE)
    all_assent(at)
    (entry,) = at.keeper.table.entries.values()
    ask(at, Withdrawn("wide", entry.proposal))
    answer(at, "b", Withdrawn("wide", entry.proposal))
    assert at.keeper.table.entries == {"wide": entry}


# ── what became of it ──


def test_only_its_coordinator_says_that_a_proposal_came_to_nothing() -> None:
    at = Driven()
    assert ask(at, AskFate("wide", P, directory_of("b"))) == []
    assert ask(at, AskFate("wide", P, directory_of("a"))) == [Withdrawn("wide", P)]


def test_while_it_may_be_decided_nothing_is_said() -> None:
    at = Driven()
    ask(at, CREATE)
    all_assent(at)
    (entry,) = at.keeper.table.entries.values()
    question = AskFate("wide", entry.proposal, directory_of("a"))
    assert ask(at, question) == []
    assert ask(at, question._replace(proposal=P)) == [Withdrawn("wide", P)]
    all_assent(at)
    assert ask(at, question) == []  # decided, and not on the disk
    at.commit()
    assert at.said() == [SwapBuckets(pack([CREATED]), False)]


def test_anybody_says_that_a_bucket_is_created() -> None:
    at = Driven()
    at.keeper.table.put(CREATED)
    assert ask(at, AskFate("wide", P, directory_of("b"))) == [SwapBuckets(pack([CREATED]), False)]


def test_who_was_left_in_doubt_asks_from_its_start_on() -> None:
    at = Driven()
    ask(at, propose(reserved()))
    at.commit()
    again = Driven(engine=at.engine)
    assert again.keeper.deadline() is None
    again.keeper.start(1.0)
    assert again.keeper.deadline() == 2.0
    again.keeper.tick(2.0, again.out)
    question = AskFate("wide", P, directory_of("b"))
    assert again.sent() == [("b", question), ("c", question)]


# ── tables ──


def test_tables_are_swapped() -> None:
    at = Driven()
    other = Entry("other", WIDE)
    at.keeper.table.put(CREATED)
    assert ask(at, SwapBuckets(pack([CREATED]), True)) == [SwapBuckets(pack([CREATED]), False)]
    assert ask(at, SwapBuckets(pack([other]), False)) == []
    assert [entry.name for entry in at.keeper.table.created()] == ["other", "wide"]


def test_a_creation_ends_when_another_table_has_the_bucket() -> None:
    at = Driven()
    ask(at, CREATE)
    ask(at, SwapBuckets(pack([CREATED, reserved("x")]), False))
    at.commit()
    assert at.said() == [Buckets(1, pack([CREATED]))]
    assert not at.keeper.busy


def test_a_member_that_can_be_asked_is_shown_the_table_if_there_is_one() -> None:
    at = Driven()
    at.keeper.link_up("b", at.out)
    at.keeper.exchange("b", at.out)
    assert at.sent() == []
    at.keeper.table.put(reserved())
    at.keeper.link_up("b", at.out)
    shown = ("b", SwapBuckets(pack([reserved()]), True))
    assert at.sent() == [shown, ("b", AskFate("wide", P, directory_of("b")))]
    at.keeper.exchange("b", at.out)
    assert at.sent() == [shown]


def test_a_member_that_was_away_is_asked_when_it_is_back() -> None:
    at = Driven()
    at.peers.down("b")
    ask(at, CREATE)
    assert [name for name, _ in at.sent()] == ["c"]
    at.peers.up("b", "b")
    at.keeper.link_up("b", at.out)
    assert [(name, type(message)) for name, message in at.sent()] == [("b", Propose)]


def test_nobody_is_given_an_assent_before_the_table() -> None:
    at = Driven()
    assent, reject = Assent(1, b""), Reject(2, "busy", "")
    at.out.durable_replies += [(1, reject), (2, assent)]
    at.keeper.accompany(at.out)
    assert at.out.durable_replies == [(1, reject), (2, assent)]  # there is nothing to tell
    at.keeper.table.put(reserved())
    at.keeper.accompany(at.out)
    shown = SwapBuckets(pack([reserved()]), False)
    assert at.out.durable_replies == [(1, reject), (2, shown), (2, assent)]


# ── time and end ──


def test_the_earliest_deadline_counts() -> None:
    at = Driven(put_timeout_s=3.0)
    ask(at, CREATE)
    assert at.keeper.deadline() == 3.0
    ask(at, propose(reserved("other")))
    assert at.keeper.deadline() == 1.0
    at.keeper.tick(1.0, at.out)
    at.keeper.tick(2.5, at.out)
    assert at.keeper.deadline() == 3.0
    at.keeper.tick(3.0, at.out)
    assert at.said()[0].code == "quorum"


def test_a_node_that_stops_begins_nothing_and_ends_what_it_began() -> None:
    at = Driven()
    ask(at, CREATE)
    at.keeper.stop()
    assert at.keeper.busy
    assert ask(at, CREATE._replace(id=2, bucket="other"))[0].message == "a is stopping"
