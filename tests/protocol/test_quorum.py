"""How many answers are enough, and whether they have come."""

from __future__ import annotations

import pytest

from dyno.errors import InvalidRequest
from dyno.protocol.quorum import Tally, Verdict, count
from dyno.wire.messages import ALL, DEFAULT, QUORUM


def resolved(quorum: int, *, owners: int = 3, default: int = QUORUM, least: int = 1) -> int:
    return count(quorum, what="r", copies=3, owners=owners, default=default, least=least)


@pytest.mark.parametrize(("owners", "majority"), [(1, 1), (2, 2), (3, 2), (5, 3)])
def test_the_words_count_the_owners_that_are_there(owners: int, majority: int) -> None:
    assert resolved(QUORUM, owners=owners) == majority
    assert resolved(ALL, owners=owners) == owners


def test_default_is_whatever_the_bucket_says() -> None:
    assert resolved(DEFAULT) == 2
    assert resolved(DEFAULT, default=ALL) == 3
    assert resolved(DEFAULT, default=0, least=0) == 0


def test_a_count_is_itself_even_where_the_cluster_is_too_small_for_it() -> None:
    assert [resolved(quorum, owners=2) for quorum in (1, 2, 3)] == [1, 2, 3]


def test_counts_that_no_cluster_could_meet_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="r=4 is more than the bucket's n=3"):
        resolved(4)
    with pytest.raises(InvalidRequest, match="r=70000 is more"):
        resolved(70000)
    with pytest.raises(InvalidRequest, match="r=0 is less than 1"):
        resolved(0)
    assert resolved(0, least=0) == 0


def test_a_quorum_is_met_by_distinct_nodes() -> None:
    tally = Tally(needed=2, candidates=3)
    assert tally.verdict is Verdict.PENDING
    tally.did("a")
    tally.did("a")
    assert tally.verdict is Verdict.PENDING
    tally.did("b")
    assert tally.verdict is Verdict.MET
    assert tally.yes == ["a", "b"]


def test_a_quorum_is_lost_once_too_few_nodes_are_left() -> None:
    tally = Tally(needed=2, candidates=3)
    tally.cannot("a")
    tally.cannot("a")
    assert tally.verdict is Verdict.PENDING
    tally.cannot("b")
    assert tally.verdict is Verdict.LOST


def test_a_node_that_did_it_cannot_take_that_back() -> None:
    tally = Tally(needed=1, candidates=1)
    tally.did("a")
    tally.cannot("a")
    assert tally.verdict is Verdict.MET
    assert tally.no == []


def test_a_node_that_refused_may_do_it_later() -> None:
    tally = Tally(needed=2, candidates=2)
    tally.cannot("a")
    assert tally.verdict is Verdict.LOST
    tally.did("a")
    assert tally.verdict is Verdict.PENDING
    assert tally.no == []


def test_more_answers_than_there_are_nodes_are_lost_at_once() -> None:
    assert Tally(needed=3, candidates=2).verdict is Verdict.LOST


def test_those_who_stand_in_count_but_not_among_the_primaries() -> None:
    tally = Tally(needed=2, candidates=3, primaries=1)
    tally.stood_in("x")
    tally.stood_in("y")
    tally.stood_in("y")
    assert tally.verdict is Verdict.PENDING
    tally.did("a")
    assert tally.verdict is Verdict.MET
    assert (tally.who, tally.yes, tally.stand_ins) == (["a", "x", "y"], ["a"], ["x", "y"])


def test_primaries_that_cannot_be_had_are_lost_however_many_stand_in() -> None:
    tally = Tally(needed=2, candidates=3, primaries=2)
    tally.may_stand_in = 5
    tally.cannot("a")
    assert tally.verdict is Verdict.PENDING
    tally.cannot("b")
    assert tally.verdict is Verdict.LOST


def test_what_primaries_cannot_is_lost_when_nobody_more_may_stand_in() -> None:
    tally = Tally(needed=2, candidates=2)
    tally.may_stand_in = 1
    tally.cannot("a")
    assert tally.verdict is Verdict.PENDING
    tally.may_stand_in = 0
    assert tally.verdict is Verdict.LOST
    tally.stood_in("x")
    assert tally.verdict is Verdict.PENDING
