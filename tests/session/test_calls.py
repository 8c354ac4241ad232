"""What a call knows of itself."""

from __future__ import annotations

import pytest

from dyno.session.calls import Call
from dyno.session.links import NodeLink
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    QUORUM,
    AskBuckets,
    AskMembers,
    AskStatus,
    CreateBucket,
    Delete,
    Explain,
    Get,
    GetMany,
    ListKeys,
    Put,
)


def a_call(request) -> Call:
    return Call(1, request, bucket=b"", deadline=0.0, weight=0)


@pytest.mark.parametrize(
    ("r", "pr", "needed"),
    [(1, 0, 1), (1, 2, 2), (DEFAULT, DEFAULT, 2), (QUORUM, 0, 2), (ALL, 0, 3), (1, QUORUM, 2), (2, ALL, 3)],
)
def test_needed_is_what_the_quorums_ask_for(r, pr, needed):
    assert a_call(Get(1, "b", b"k", r, pr, 1, False)).needed == needed
    assert a_call(GetMany(1, "b", b"", r, pr, 1)).needed == needed
    assert a_call(Put(1, "b", b"k", b"", b"", False, r, pr, b"", 1, False)).needed == needed
    assert a_call(Delete(1, "b", b"k", b"", 1, 0, r, pr, b"", 1, False)).needed == needed
    assert a_call(ListKeys(1, "b", 0, b"", 1, r, pr, 1, False)).needed == needed
    assert a_call(AskStatus(1)).needed == 1


def test_only_reads_can_be_asked_twice():
    assert a_call(Get(1, "b", b"k", 1, 0, 1, False)).reads
    assert a_call(ListKeys(1, "b", 0, b"", 1, 1, 0, 1, False)).reads
    assert a_call(GetMany(1, "b", b"", 1, 0, 1)).reads
    assert a_call(AskStatus(1)).reads
    assert a_call(AskMembers(1)).reads
    assert a_call(Explain(1, "b", b"k", 5000, False)).reads
    assert not a_call(None).reads
    assert not a_call(Put(1, "b", b"k", b"", b"", False, 1, 0, b"", 1, False)).reads
    assert not a_call(Delete(1, "b", b"k", b"", 1, 0, 1, 0, b"", 1, False)).reads


def test_trouble_is_made_once():
    call = a_call(None)
    call.sent_at = 7.0
    assert call.trouble is None
    assert call.troubled() is call.troubled()
    assert call.troubled().since == 7.0


def test_a_hedged_call_is_on_two_links():
    call = a_call(None)
    one, two, three = (NodeLink(address, listed=True) for address in ("a:1", "b:1", "c:1"))
    call.link, call.sent_at = one, 0.0
    assert [call.is_asked_at(link) for link in (one, two, three)] == [True, False, False]
    call.troubled().also = two
    assert [call.is_asked_at(link) for link in (one, two, three)] == [True, True, False]


def test_a_creation_changes_something_and_may_be_sent_again():
    create = a_call(CreateBucket(1, "b", 3, 1, 1, 0, 1))
    assert (create.reads, create.is_repeatable, create.needed) == (False, True, 1)
    listing = a_call(AskBuckets(1))
    assert (listing.reads, listing.is_repeatable) == (True, False)
    assert not a_call(Put(1, "b", b"k", b"", b"", False, 1, 0, b"", 1, False)).is_repeatable


def test_a_request_is_trimmed_to_the_time_that_is_left():
    get = Call(1, Get(1, "b", b"k", 1, 0, 5000, False), bucket=b"", deadline=105.0, weight=0)
    get.trim(104.75)
    assert get.request == Get(1, "b", b"k", 1, 0, 250, False)
    get.trim(106.0)
    assert get.request.budget_ms == 1
    ask = Call(2, AskStatus(2), bucket=b"", deadline=105.0, weight=0)
    ask.trim(104.0)
    assert ask.request == AskStatus(2)
