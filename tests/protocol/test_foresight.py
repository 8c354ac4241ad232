"""Which records a request will read, told before it is handled."""

from __future__ import annotations

import pytest

from dyno.buckets.table import Entry
from dyno.wire.messages import (
    DEFAULT,
    AskMembers,
    Compare,
    CompareLeaves,
    Fetch,
    ListKeys,
    Read,
    ReadMany,
    Scan,
    Store,
)
from dyno.wire.rows import pack_row
from dyno.wire.trees import Node, pack_node
from tests.protocol.node_harness import KEY, WIDE, Driven, a_get, a_get_many, a_listing, a_put, create


def test_the_slot_that_a_request_will_read_is_known_beforehand() -> None:
    driven = Driven()
    read_by, ring = driven.node.slots_read_by, driven.node.membership.fingerprint
    (slot,) = read_by(a_get())
    assert read_by(a_put()) == [slot]
    assert read_by(Read(1, 7, slot)) == (slot,)
    assert read_by(Store(1, 7, slot, KEY, b"")) == (slot,)
    assert read_by(Read(1, 7, b"no slot")) == ()
    assert read_by(a_get()._replace(key=b"")) == []  # no request that will be done
    assert read_by(AskMembers(1)) == ()
    assert read_by(ReadMany(1, ring, slot + slot)) == [slot, slot]
    assert read_by(ReadMany(1, ring + 1, slot)) == ()
    with pytest.raises(ValueError, match="slots of 0 bytes"):
        read_by(ReadMany(1, ring, b""))
    (other,) = read_by(a_get()._replace(key=b"other"))
    assert read_by(a_get_many(KEY, b"other")) == [slot, other]
    assert read_by(a_get_many(KEY, b"")) == []
    with pytest.raises(ValueError, match="nulls"):
        read_by(a_get_many(KEY)._replace(keys=pack_row([None])))
    driven.learn("n2", "n3", "n4", "n5")
    keys = [b"key %d" % number for number in range(50)]
    owned = [bool(read_by(a_get()._replace(key=key))) for key in keys]
    assert len(read_by(a_get_many(*keys))) == sum(owned)
    assert any(owned)
    assert not all(owned)


def test_the_span_that_a_listing_will_read_is_known_beforehand() -> None:
    driven = Driven()
    (slot,) = driven.node.slots_read_by(a_get())
    listing = a_listing(partition=slot[0] << 8 | slot[1])
    (span,) = driven.node.spans_read_by(listing)
    assert span.start <= slot < span.end
    assert span.limit == 9
    assert driven.node.spans_read_by(Scan(1, 7, slot[:11], b"", 9)) == (span,)
    (further,) = driven.node.spans_read_by(Scan(1, 7, slot[:11], slot[11:], 9))
    assert slot < further.start < further.end == span.end
    assert driven.node.slots_read_by(listing) == ()
    assert driven.node.spans_read_by(a_get()) == ()
    for nonsense in (
        a_listing(partition=16),
        a_listing(limit=0),
        Scan(1, 7, slot, b"", 9),
        Scan(1, 7, slot[:11], b"x", 9),
        Scan(1, 7, slot[:11], b"", 0),
    ):
        assert driven.node.spans_read_by(nonsense) == ()
    driven.learn("n2", "n3", "n4", "n5")
    owned = [driven.node.spans_read_by(a_listing(partition=number)) != () for number in range(16)]
    assert any(owned)
    assert not all(owned)


def test_what_an_exchange_will_read_is_known_beforehand() -> None:
    driven = Driven()
    (slot,) = driven.node.slots_read_by(a_get())
    assert driven.node.slots_read_by(Fetch(1, 7, slot * 2)) == [slot, slot]
    partition = slot[0] << 8 | slot[1]
    (span,) = driven.node.spans_read_by(Compare(1, 7, partition, 3, b"", b"", b""))
    assert span.start <= slot < span.end
    (span,) = driven.node.spans_read_by(Compare(1, 7, partition, 3, slot, slot, b""))
    assert slot < span.start <= span.end
    node = Node(slot[:3], 2, 3)
    leaves = CompareLeaves(1, 7, pack_row([pack_node(node), b""]))
    assert driven.node.spans_read_by(leaves) == [node]
    with pytest.raises(ValueError, match="a leaf"):
        driven.node.spans_read_by(CompareLeaves(1, 7, pack_row([pack_node(node)])))
    with pytest.raises(ValueError, match="slots of"):
        driven.node.slots_read_by(Fetch(1, 7, b"short"))
    with pytest.raises(ValueError, match="a stretch"):
        driven.node.spans_read_by(Compare(1, 7, partition, 3, b"short", b"", b""))


def test_nothing_is_read_for_a_bucket_that_is_served_to_nobody() -> None:
    driven = Driven()
    driven.node._buckets.table.put(Entry("closed", WIDE.properties, b"p" * 16, b"d" * 16))
    for request in (a_get(), a_put(), a_get_many(KEY)):
        assert len(driven.node.slots_read_by(request)) == 1
        assert driven.node.slots_read_by(request._replace(bucket="closed")) == []  # type: ignore[arg-type]


def test_nothing_is_read_for_clients_before_there_is_a_ring() -> None:
    driven = Driven("n9:1")
    assert not driven.node.joined
    for request in (a_get(), a_put(), a_get_many(KEY)):
        assert driven.node.slots_read_by(request) == []
    assert driven.node.spans_read_by(a_listing()) == ()


def test_the_page_of_a_bucket_of_its_own_n_is_known_beforehand() -> None:
    driven = Driven()
    driven.ask(create())
    listing = ListKeys(1, "wide", 0, b"", 10, DEFAULT, DEFAULT, 5000, False)
    (span,) = driven.node.spans_read_by(listing)
    assert (span,) != driven.node.spans_read_by(listing._replace(bucket="other"))
    driven.node._buckets.table.put(Entry("closed", WIDE.properties, b"p" * 16, b"d" * 16))
    assert driven.node.spans_read_by(listing._replace(bucket="closed")) == ()
