"""What a call knows of itself."""

from __future__ import annotations

import pytest

from dyno.session.calls import RETRY_MAX_S, Call
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


PUT = Put(1, "b", b"k", b"", b"", False, 1, 0, b"", 1, False)
DELETE = Delete(1, "b", b"k", b"", 1, 0, 1, 0, b"", 1, False)
CREATE = CreateBucket(1, "b", 3, 1, 1, 0, 1)


@pytest.mark.parametrize(
    ("request_", "reads", "writes", "creates"),
    [
        (CREATE, False, False, True),
        (AskBuckets(1), True, False, False),
        (PUT, False, True, False),
        (DELETE, False, True, False),
    ],
)
def test_calls_read_write_or_create(request_, reads, writes, creates):
    call = a_call(request_)
    assert (call.reads, call.writes, call.creates) == (reads, writes, creates)


def test_a_put_in_doubt_says_so_and_is_repeatable_for_a_while():
    call = a_call(PUT)
    call.deadline, call.sent_at = 200.0, 100.0
    assert call.repeatable_until == 200.0
    assert call.doubt() is call.trouble
    call.sent_at = 110.0
    call.doubt()
    assert call.request == PUT._replace(again=True)
    assert call.trouble.doubted_since == 100.0
    assert call.repeatable_until == 100.0 + RETRY_MAX_S
    call.deadline = 105.0
    assert call.repeatable_until == 105.0


@pytest.mark.parametrize("request_", [DELETE, CREATE])
def test_other_writes_in_doubt_are_the_same_when_they_are_sent_again(request_):
    call = a_call(request_)
    call.deadline, call.sent_at = 200.0, 100.0
    assert call.doubt().doubted_since == 100.0
    assert call.request == request_
    assert call.repeatable_until == (200.0 if request_ is CREATE else 130.0)


def test_a_read_is_never_in_doubt():
    call = a_call(AskBuckets(1))
    call.deadline, call.sent_at = 200.0, 100.0
    assert call.doubt().doubted_since is None
    assert call.repeatable_until == 200.0


def test_a_request_is_trimmed_to_the_time_that_is_left():
    get = Call(1, Get(1, "b", b"k", 1, 0, 5000, False), bucket=b"", deadline=105.0, weight=0)
    get.trim(104.75)
    assert get.request == Get(1, "b", b"k", 1, 0, 250, False)
    get.trim(106.0)
    assert get.request.budget_ms == 1
    ask = Call(2, AskStatus(2), bucket=b"", deadline=105.0, weight=0)
    ask.trim(104.0)
    assert ask.request == AskStatus(2)
