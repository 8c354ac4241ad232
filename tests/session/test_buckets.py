"""Creating and listing buckets, as requests and as plain values."""

from __future__ import annotations

import pytest

from dyno.buckets.properties import DEFAULTS
from dyno.buckets.table import Entry, pack
from dyno.errors import InvalidRequest
from dyno.session.buckets import answered, creation
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import ALL, QUORUM, AskBuckets, Buckets, CreateBucket

NOTHING = {"n": None, "r": None, "w": None, "kind": "siblings"}
WIDE = DEFAULTS._replace(n=5)


def create(name="wide", **properties):
    return creation(7, name, **{**NOTHING, **properties}, budget_ms=500)


def test_what_is_not_given_has_the_default():
    assert create() == CreateBucket(7, "wide", 3, QUORUM, QUORUM, 0, 500)
    assert create(n=5, r="one", w="all") == CreateBucket(7, "wide", 5, 1, ALL, 0, 500)
    assert create(n=5, r=5, w="quorum") == CreateBucket(7, "wide", 5, 5, QUORUM, 0, 500)


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"name": ""}, "a bucket's name has 1 to 64 bytes"),
        ({"name": b"wide"}, "a bucket's name is a str"),
        ({"n": 0}, "n=0 is not possible"),
        ({"n": 10}, "n=10 is not possible"),
        ({"n": "5"}, "n='5' is no number of copies"),
        ({"n": True}, "n=True is no number of copies"),
        ({"n": 2, "r": 3}, "r=3 is more than the bucket's n=2"),
        ({"w": 4}, "w=4 is more than the bucket's n=3"),
        ({"r": 0}, "r=0 is not possible"),
        ({"w": "most"}, "w='most' is not a quorum"),
        ({"kind": "lww"}, "there is no bucket kind 'lww'; known: siblings"),
    ],
)
def test_what_can_be_no_bucket_is_refused(properties, said):
    with pytest.raises(InvalidRequest, match=said):
        create(**properties)


def test_a_creation_is_answered_with_what_the_bucket_is():
    told = Buckets(7, pack([Entry("wide", WIDE)]))
    assert answered(create(), told) == {"n": 5, "r": "quorum", "w": "quorum", "kind": "siblings"}
    with pytest.raises(ProtocolError, match="names another bucket"):
        answered(create("other"), told)


def test_buckets_are_listed_by_name():
    told = Buckets(7, pack([Entry("wide", WIDE), Entry("also", DEFAULTS)]))
    listed = answered(AskBuckets(7), told)
    assert list(listed) == ["also", "wide"]
    assert listed["wide"]["n"] == 5
    assert answered(AskBuckets(7), Buckets(7, b"")) == {}
