"""The door to reads and writes, and what is passed on; with several nodes, see stories/."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.buckets.properties import Properties
from dyno.placement.hashing import slot_partition
from dyno.wire.messages import (
    ALL,
    STATUS_OK,
    Delete,
    Done,
    Found,
    Get,
    Listed,
    ListKeys,
    Put,
    Read,
    Store,
    Stored,
)
from tests.protocol.coordinator_harness import At, a_delete, a_get, a_listing, a_put, listed, not_owned

# ── deadlines ──


def test_nothing_is_due_when_nothing_is_under_way() -> None:
    at = At()
    assert at.coordinator.deadline() is None
    at.coordinator.tick(100.0, at.out)


def test_a_request_that_was_passed_on_is_given_up_after_the_other_nodes_own_time() -> None:
    at = At(names="abcde", get_timeout_s=2.0, put_timeout_s=3.0)
    at.ask(a_get(key=not_owned(at)))
    assert at.coordinator.deadline() == 5.0
    at.tick(5.0)
    assert at.failure().message.endswith("did not answer in time")
    assert at.coordinator.deadline() is None


# ── the ring ──


REQUESTS: list[Callable[[], Get | Put | Delete]] = [a_get, a_put, a_delete]


@pytest.mark.parametrize("a_request", REQUESTS)
def test_before_there_is_a_ring_nobody_is_served(a_request: Callable[[], Get | Put | Delete]) -> None:
    at = At()
    at.planner.ring = None
    at.ask(a_request())
    assert at.failure().message == "a has not joined a cluster yet"


def test_a_node_that_owns_nothing_here_refuses_what_was_passed_on_to_it() -> None:
    at = At(names="abcde")
    at.ask(a_get(key=not_owned(at), forwarded=True))
    assert at.failure().code == "ring"


# ── whom to ask first ──


def test_a_request_for_others_goes_to_one_that_is_alive() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owners = at.ring.plan("bucket", key).owners
    at.members.dead = [owners[0]]
    at.members.suspects = [owners[1]]
    at.ask(a_get(key=key))
    assert [name for name, _ in at.sent(Get)] == [owners[2]]


def test_a_request_for_others_is_not_begun_when_too_few_of_them_live() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    at.members.dead = list(at.ring.plan("bucket", key).owners[:2])
    at.ask(a_get(key=key))
    assert at.failure().message.startswith("2 owners of the key are needed, 1 of 3 are alive; dead: ")
    assert at.out.sends == []


# ── bounds ──


def test_one_that_stops_begins_nothing_and_finishes_what_is_under_way() -> None:
    at = At()
    at.ask(a_put(1))
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    at.coordinator.stop()
    for request in (a_get(2), a_put(3), a_delete(4)):
        at.ask(request)
        assert at.failure().code == "ring"
        assert not at.out.sends
    assert at.coordinator.busy
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)
    assert not at.coordinator.busy


# ── listings ──


def test_a_listing_of_a_partition_of_others_is_passed_on() -> None:
    at = At(names="abcdef")
    partition = slot_partition(at.ring.plan("bucket", not_owned(at)).slot)
    at.ask(a_listing(partition=partition))
    ((node, passed),) = at.sent(ListKeys)
    assert passed == a_listing(id=1, partition=partition, forwarded=True)
    at.hear(node, Listed(1, b"", b""))
    assert listed(at) == []
    at.ask(a_listing(partition=partition, forwarded=True))
    assert at.failure().code == "ring"


# ── buckets with properties of their own ──


def test_a_bucket_that_is_being_created_is_served_to_nobody() -> None:
    at = At()
    at.serving["bucket"] = None
    for request in (a_get(), a_put(), a_delete()):
        at.ask(request)
        failure = at.failure()
        assert (failure.code, failure.indeterminate) == ("ring", False)
        assert failure.message == "bucket 'bucket' is being created by b; try again in a moment"
    at.ask(a_get()._replace(bucket="other"))
    assert len(at.sent(Read)) == 1


def test_the_quorums_of_a_bucket_are_those_of_calls_that_name_none() -> None:
    at = At(names="abcde")
    at.serving["bucket"] = Properties(5, 1, ALL, 0)
    at.ask(a_get())
    assert isinstance(at.answers()[0], Found)
    at.ask(a_get(r=2))
    assert len(at.sent(Read)) == 1
    at.ask(a_put())
    at.commit()
    stores = at.sent(Store)
    for name, store in stores[:-1]:
        assert isinstance(store, Store)
        at.hear(name, Stored(store.id, STATUS_OK))
    assert at.answers() == []
    name, store = stores[-1]
    assert isinstance(store, Store)
    at.hear(name, Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert len(done.answered.split(",")) == 5
    at.ask(a_delete())  # reads one, itself
    assert len(at.sent(Store)) == 4


def test_counts_go_up_to_the_n_of_the_bucket() -> None:
    at = At(names="abcde", copies=5)
    at.ask(a_get(r=5))
    assert len(at.sent(Read)) == 4
    at.ask(a_get(r=6))
    assert at.failure().message == "r=6 is more than the bucket's n=5"
    at.ask(a_get(r=4)._replace(bucket="other"))
    assert at.failure().message == "r=4 is more than the bucket's n=3"
