"""A Paxos acceptor as a value."""

from __future__ import annotations

import pytest
from cbor2 import dumps

from dyno.ringlog.vote import Vote, ballot_of, is_ballot, pack, round_of, unpack
from dyno.wire.flat import ProtocolError

DIRECTORY = bytes(16)
LOW, HIGH = ballot_of(1, b"b" * 8), ballot_of(2, b"a" * 8)


def cast(vote: Vote | None) -> Vote:
    assert vote is not None
    return vote


def test_a_promise_holds_against_lower_ballots() -> None:
    vote = cast(Vote(DIRECTORY, 2).promise(HIGH))
    assert vote.promise(LOW) is None
    assert vote.accept(LOW, b"low") is None
    assert vote.promise(HIGH) == vote, "messages are doubled"
    assert cast(vote.accept(HIGH, b"high")).value == b"high"


def test_what_was_accepted_is_remembered() -> None:
    vote = cast(Vote(DIRECTORY, 2).accept(LOW, b"low"))
    assert (vote.promised, vote.accepted, vote.value) == (LOW, LOW, b"low")
    later = cast(vote.promise(HIGH))
    assert (later.accepted, later.value) == (LOW, b"low")
    assert cast(later.accept(HIGH, b"high")).accepted == HIGH


def test_one_ballot_has_one_value() -> None:
    vote = cast(Vote(DIRECTORY, 2).accept(LOW, b"value"))
    assert vote.accept(LOW, b"value") == vote
    assert vote.accept(LOW, b"another") is None


def test_a_fence_ends_voting() -> None:
    vote = cast(Vote(DIRECTORY, 2).assent(5))
    assert vote.promise(LOW) is None
    assert vote.accept(LOW, b"") is None
    assert vote.assent(4) is None
    assert vote.assent(5) == vote
    assert cast(vote.assent(6)).fence == 6


def test_ballots() -> None:
    assert round_of(HIGH) == 2
    assert LOW < HIGH
    assert is_ballot(LOW)
    assert not is_ballot(b"")
    assert not is_ballot(LOW[1:])
    assert not is_ballot(ballot_of(0, b"b" * 8))
    assert not is_ballot(b"\xff" * 16)


@pytest.mark.parametrize(
    "vote",
    [Vote(DIRECTORY, 1), Vote(DIRECTORY, 2, LOW), Vote(DIRECTORY, 2, HIGH, LOW, b"value", 1 << 63)],
)
def test_votes_are_kept(vote: Vote) -> None:
    assert unpack(pack(vote)) == vote


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        dumps([1]),
        pack(Vote(b"short", 2)),
        pack(Vote(DIRECTORY, 2, b"x")),
        pack(Vote(DIRECTORY, 2, LOW, HIGH, b"value")),
        dumps([DIRECTORY, 2, LOW, b"", b"", True]),
    ],
)
def test_a_damaged_vote_is_refused(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack(packed)
