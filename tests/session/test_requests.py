"""What callers ask for as messages, and what cannot be asked for."""

from __future__ import annotations

import random

import pytest

from dyno.errors import InvalidRequest
from dyno.session.calls import REQUEST_BYTES
from dyno.session.options import BucketOptions
from dyno.session.requests import Requests
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    QUORUM,
    STRICT,
    AskBuckets,
    AskMembers,
    CreateBucket,
    Delete,
    Get,
    ListKeys,
    Put,
)
from dyno.wire.pages import PAGE_KEYS_MAX

NO_QUORUMS = {"r": None, "pr": None}
NO_CONTEXTS = {"context": None, "if_context": None}


@pytest.fixture
def requests() -> Requests:
    return Requests(random=random.Random(1), timeout=5)


def test_a_call_has_the_time_of_its_own_or_of_its_bucket_or_of_the_client(requests):
    carts, slow = BucketOptions("carts"), BucketOptions("slow", timeout=60)
    for bucket, timeout, seconds in ((carts, None, 5), (slow, None, 60), (slow, 0.25, 0.25)):
        call = requests.get(bucket, "k", **NO_QUORUMS, timeout=timeout, now=100.0)
        assert (call.deadline, call.request.budget_ms) == (100 + seconds, seconds * 1000)
    assert requests.opening(100.0).deadline == 105
    assert requests.status(timeout=None, now=100.0).deadline == 105
    assert requests.buckets(timeout=2, now=100.0).deadline == 102


def test_every_call_has_an_id_of_its_own_which_is_its_messages(requests):
    bucket = BucketOptions("carts")
    calls = [
        requests.get(bucket, "k", **NO_QUORUMS, timeout=None, now=0),
        requests.put(bucket, "k", 1, w=None, pw=None, timeout=None, **NO_CONTEXTS, now=0),
        requests.delete(bucket, "k", w=None, pw=None, timeout=None, context=None, now=0),
        requests.list_keys(bucket, 3, b"", r=2, pr=0, timeout=1.0, now=0),
        requests.create_bucket("wide", n=5, r=None, w="all", kind="siblings", timeout=2, now=0),
        requests.buckets(timeout=None, now=0),
        requests.status(timeout=None, now=0),
    ]
    kinds = [Get, Put, Delete, ListKeys, CreateBucket, AskBuckets, AskMembers]
    assert [type(call.request) for call in calls] == kinds
    assert [call.id for call in calls] == [call.request.id for call in calls] == [1, 2, 3, 4, 5, 6, 7]
    assert [call.bucket for call in calls] == [bucket.id] * 4 + [b""] * 3
    assert calls[3].request == ListKeys(4, "carts", 3, b"", PAGE_KEYS_MAX, 2, 0, 1000, False)
    assert calls[4].request == CreateBucket(5, "wide", 5, QUORUM, ALL, 0, 2000)


def test_a_call_weighs_what_it_carries(requests):
    bucket = BucketOptions("carts")
    put = requests.put(
        bucket, "k", b"v" * 1000, w=None, pw=None, timeout=None, context=b"c" * 50, if_context=None, now=0
    )
    assert REQUEST_BYTES + 1050 <= put.weight <= REQUEST_BYTES + 1060
    delete = requests.delete(bucket, "k", w=None, pw=None, timeout=None, context=b"c" * 50, now=0)
    assert delete.weight == REQUEST_BYTES + 50


def test_a_get_asks_with_the_handles_quorums_unless_the_call_has_its_own(world):
    world.bucket.r = 1
    world.get("ü", timeout=0.25)
    world.get(b"\xff", r="all", pr=0)
    (_, first), (_, second) = world.sent(Get)
    assert first == Get(first.id, "carts", "ü".encode(), 1, DEFAULT, 250, False)
    assert second == Get(first.id + 1, "carts", b"\xff", ALL, 0, 5000, False)


def test_a_put_carries_the_encoded_value_and_a_request_id_of_its_own(world):
    world.put("k", {"milk": 1}, context=b"token", w=1, pw="one")
    world.put("k", None, if_context=b"")
    (_, first), (_, second) = world.sent(Put)
    assert (first.context, first.conditional, first.w, first.pw) == (b"token", False, 1, 1)
    assert (second.context, second.conditional, second.w, second.pw) == (b"", True, DEFAULT, DEFAULT)
    assert len(first.request) == len(second.request) == 16
    assert first.request != second.request


def test_a_delete_with_and_without_context(world):
    world.delete("k")
    world.delete("k", context=b"token", w=3, pw=0, timeout=1)
    (_, first), (_, second) = world.sent(Delete)
    assert (first.context, first.w, first.pw, first.budget_ms) == (b"", DEFAULT, DEFAULT, 5000)
    assert (second.context, second.w, second.pw, second.budget_ms) == (b"token", 3, 0, 1000)


def test_without_sloppy_primaries_alone_count_in_all_that_a_call_does(world):
    world.get("k", sloppy=False)
    world.put("k", 1, w=3, sloppy=False)
    world.delete("k", sloppy=False)
    (_, get), (_, put), (_, delete) = world.sent()
    assert (get.r, get.pr) == (DEFAULT, STRICT)
    assert (put.w, put.pw) == (3, STRICT)
    assert (delete.r, delete.pr, delete.w, delete.pw) == (DEFAULT, STRICT, DEFAULT, STRICT)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda world: world.get(""),
        lambda world: world.get(5),
        lambda world: world.get("k", r=0),
        lambda world: world.get("k", pr="some"),
        lambda world: world.get("k", timeout=-1),
        lambda world: world.put("k", object()),
        lambda world: world.put("k", b"x" * (9 << 20)),
        lambda world: world.put("k", 1, w=True),
        lambda world: world.put("k", 1, pw=10),
        lambda world: world.put("k", 1, timeout="soon"),
        lambda world: world.put("k", 1, context="text"),
        lambda world: world.put("k", 1, if_context="text"),
        lambda world: world.put("k", 1, context=b"", if_context=b""),
        lambda world: world.delete("k", w=0),
        lambda world: world.delete("k", pw=-1),
        lambda world: world.delete("k", context=1),
        lambda world: world.delete("x" * 1025),
        lambda world: world.status(timeout=0),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_sent(world, misuse):
    with pytest.raises(InvalidRequest):
        misuse(world)
    assert world.sent() == []
    assert not world.session._dispatch.calls


def test_what_can_be_no_bucket_is_never_sent(world):
    with pytest.raises(InvalidRequest, match="n=10 is not possible"):
        world.create_bucket(n=10)
    with pytest.raises(InvalidRequest, match="a timeout is above 0"):
        world.create_bucket(timeout=0)
    assert world.sent() == []
