"""The door to reads and writes, and what is passed on; with several nodes, see stories/."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from dyno.buckets.properties import Properties
from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.record import Record, is_live
from dyno.placement.hashing import bucket_id, slot_partition
from dyno.protocol.outbox import Outbox
from dyno.protocol.rows import HINTS
from dyno.wire.messages import (
    ALL,
    STATUS_OK,
    STRICT,
    Delete,
    Done,
    Found,
    Get,
    Listed,
    ListKeys,
    Put,
    Read,
    ReadAnswer,
    Recall,
    Recalled,
    Scan,
    ScanAnswer,
    Store,
    Stored,
    StoreHint,
)
from tests.protocol.coordinator_harness import (
    KEY,
    At,
    a_context,
    a_delete,
    a_get,
    a_listing,
    a_put,
    listed,
    not_owned,
    owned,
)

# ── deadlines ──


def test_nothing_is_due_when_nothing_is_under_way() -> None:
    at = At()
    assert at.coordinator.deadline() == math.inf
    at.coordinator.tick(100.0, at.out)


def test_a_request_that_was_passed_on_is_given_up_after_the_other_nodes_own_time() -> None:
    """Where the owners alone can say, as with PR."""
    at = At(names="abcde", get_timeout_s=2.0, put_timeout_s=3.0)
    at.ask(a_get(key=not_owned(at))._replace(pr=1))
    at.tick(4.9)
    assert at.answers() == []
    assert at.coordinator.deadline() == 5.0
    at.tick(5.0)
    assert at.failure().message.endswith("did not answer in time")
    assert at.coordinator.deadline() == math.inf


# ── those under way ──


def test_a_request_whose_caller_has_given_up_already_is_not_begun() -> None:
    at = At()
    for request in (a_get()._replace(budget_ms=0), a_put(budget_ms=0), a_delete()._replace(budget_ms=0)):
        at.ask(request)
    assert not at.out
    assert not at.coordinator.busy
    assert at.replica.take_batch() is None


def test_as_many_requests_are_under_way_as_may_whatever_they_are() -> None:
    at = At(names="abcde", requests_max=3)
    at.ask(a_get(1, owned(at)))
    at.ask(a_put(2, key=owned(at)))
    at.ask(a_get(3, not_owned(at)))
    assert at.coordinator.under_way == 3
    ((node, _),) = at.sent(Get)
    for request in (a_get(4, owned(at)), a_put(5, key=owned(at)), a_get(6, not_owned(at))):
        at.ask(request)
        failure = at.failure()
        assert (failure.id, failure.code, failure.retry_after_ms) == (request.id, "overloaded", 100)
        assert failure.message == "a: too many requests are under way"
    assert at.out.sends == []
    at.hear(node, Found(1, b"", node, ""))
    assert at.answers() == [Found(3, b"", node, "")]
    at.ask(a_put(7, key=owned(at)))
    assert at.answers() == []
    assert at.coordinator.under_way == 3


def test_a_read_that_was_passed_on_goes_to_another_owner_when_its_link_breaks() -> None:
    at = At(names="abcde")
    at.ask(a_get(9, not_owned(at)))
    ((first, passed),) = at.sent(Get)
    at.cut(first)
    ((second, again),) = at.sent(Get)
    assert first != second
    assert passed == again == a_get(1, not_owned(at), forwarded=True)
    at.hear(first, Found(1, b"", first, ""))  # its link was broken; who knows what this is
    assert at.answers() == []
    at.hear(second, Found(1, b"record", second, ""))
    assert at.answers() == [Found(9, b"record", second, "")]
    assert not at.coordinator.busy
    at.hear(second, Found(1, b"record", second, ""))
    at.cut(second)
    assert not at.out


def test_a_write_that_was_passed_on_goes_to_the_next_owner_when_its_link_breaks() -> None:
    at = At(names="abcde")
    at.ask(a_put(9, key=not_owned(at)))
    for again in (False, True, True):
        ((first, put),) = at.sent(Put)
        assert isinstance(put, Put)
        assert put.again is again
        at.cut(first)
    failure = at.failure()
    assert (failure.id, failure.code, failure.indeterminate) == (9, "quorum", True)
    assert at.out.sends == []
    assert not at.coordinator.busy
    assert at.coordinator.deadline() == math.inf


def test_a_write_that_was_passed_on_and_is_not_answered_goes_to_one_owner_after_the_other() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    at.ask(a_put(9, key=not_owned(at)))
    at.ask(a_get(10, key=not_owned(at)))
    ((first, _),) = at.sent(Put)
    at.tick(0.9)
    assert at.sent(Put) == []
    at.tick(1.1)
    ((second, put),) = at.sent(Put)
    assert isinstance(put, Put)
    assert put.again
    at.hear(first, Done(put.id, b"", first, ""))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.id == 9
    at.tick(4.0)
    assert at.sent(Put) == []
    assert second != first


def test_a_request_for_others_of_whom_nobody_can_be_reached_is_over_at_once() -> None:
    at = At(names="abcde")
    for name in "bcde":
        at.cut(name)
    at.ask(a_put(9, key=not_owned(at), pw=1))
    failure = at.failure()
    assert (failure.message, failure.indeterminate) == ("no owner of the key can be reached", False)
    assert not at.coordinator.busy


def test_reads_and_writes_go_to_a_node_whose_link_is_back() -> None:
    at = At()
    at.ask(a_get(1, r=ALL))
    at.ask(a_put(2, w=ALL))
    ((_, read), *_) = at.out.sends
    assert isinstance(read, Read)
    at.out.sends.clear()
    at.cut("b")
    assert at.out.sends == []
    at.link("b")
    assert [(name, type(message)) for name, message in at.out.sends] == [("b", Read), ("b", Store)]
    for name in "bc":
        at.hear(name, ReadAnswer(read.id, STATUS_OK, b""))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert found.answered == "a,b,c"


def test_time_is_told_to_whatever_is_under_way() -> None:
    at = At(names="abcde", hedge_after_s=1.0, get_timeout_s=2.0, put_timeout_s=3.0)
    at.ask(a_get(1, owned(at)))
    at.ask(a_put(2, key=owned(at)))
    at.ask(a_get(3, not_owned(at))._replace(pr=1))
    for now, id in ((2.0, 1), (3.0, 2), (5.0, 3)):
        at.coordinator.tick(now - 0.001, at.out)
        assert at.answers() == []
        assert at.coordinator.busy
        at.coordinator.tick(now, at.out)
        assert at.failure().id == id
    assert not at.coordinator.busy
    assert at.coordinator.deadline() == math.inf


def test_a_peer_that_left_the_ring_owes_no_answers_to_writes_any_more() -> None:
    at = At()
    for number in range(65):
        at.ask(a_put(number, key=b"key %d" % number))
    at.now = 1.6
    at.ask(a_put(65))
    assert at.failure().code == "overloaded"
    at.turn("ab")
    at.turn("abc")
    at.ask(a_put(66))
    assert at.answers() == []


# ── where this node cannot write ──


def test_a_write_of_a_damaged_record_goes_to_another_owner() -> None:
    at = At()
    at.ask(a_put(1))
    at.commit()
    requests = (a_put(2), a_delete(3, a_context(at)))
    at.engine.corrupt(at.ring.plan("bucket", KEY).slot)
    for request in requests:
        at.out = Outbox()
        at.ask(request)
        ((node, passed),) = at.sent(type(request))
        assert passed == request._replace(id=passed.id, forwarded=True)  # type: ignore[union-attr]
        ((level, text),) = at.out.events
        assert (level, text.endswith("; handing the write to another owner")) == ("error", True)
        at.hear(node, Done(passed.id, b"context", f"{node},c", ""))  # type: ignore[union-attr]
        assert at.answers() == [Done(request.id, b"context", f"{node},c", "")]
    at.out = Outbox()
    at.ask(a_put(4, forwarded=True))  # whoever passed it on was the other owner
    failure = at.failure()
    assert (failure.code, failure.message[:3], failure.indeterminate) == ("storage", "a: ", False)
    assert at.out.sends == []


def test_a_write_goes_past_a_disk_that_rests_without_a_word_in_the_log() -> None:
    at = At()
    at.ask(a_put(1))
    at.commit_fails()
    at.out = Outbox()
    at.ask(a_put(2))
    assert len(at.sent(Put)) == 1
    assert at.out.events == []


def test_a_write_that_the_only_owner_cannot_take_fails() -> None:
    at = At(names="a")
    at.ask(a_put(1))
    at.commit_fails()
    at.answers()
    at.ask(a_put(2))
    failure = at.failure()
    assert (failure.code, failure.message) == ("storage", "a: the disk refused the last writes")
    assert not at.coordinator.busy


def test_a_write_for_which_there_is_no_room_is_refused_and_not_handed_on() -> None:
    at = At(batch_count_max=1)
    at.ask(a_put(1))
    at.sent(Store)
    at.ask(a_put(2, key=owned(at)))
    failure = at.failure()
    assert (failure.code, failure.retry_after_ms, failure.indeterminate) == ("overloaded", 100, False)
    assert failure.message == "a: too many writes wait for the disk"
    assert at.out.sends == []


def test_a_request_that_can_never_be_done_is_invalid() -> None:
    at = At()
    for request in (a_get(key=b""), a_put(key=b""), a_listing(partition=16)):
        at.ask(request)
        assert at.failure().code == "invalid"
    assert not at.coordinator.busy


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
    at.ask(a_get(key=key)._replace(pr=STRICT))
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


def test_reads_under_a_ring_or_bucket_of_before_are_planned_again_and_writes_go_on() -> None:
    at = At()
    at.ask(a_get(1))
    at.ask(a_put(2))
    at.turn("abcd")
    assert at.failure().id == 1
    at.ask(a_get(3, r=ALL))
    at.coordinator.replan_bucket(bucket_id("other"), at.out)
    assert at.answers() == []
    at.coordinator.replan_bucket(bucket_id("bucket"), at.out)
    assert at.failure().id == 3
    assert at.coordinator.under_way == 1


# ── listings ──


def test_a_listing_of_a_partition_of_its_own_is_begun_here() -> None:
    at = At()
    at.ask(a_listing())
    ((node, scan),) = at.sent(Scan)
    assert isinstance(scan, Scan)
    at.hear(node, ScanAnswer(scan.id, STATUS_OK, b"", b""))
    assert listed(at) == []


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
    context = token.encode(Context.unpack(done.context), cluster=b"c" * 16, bucket="bucket", key=KEY)
    at.ask(a_delete(context=context))
    assert len(at.sent(Store)) == 4


def test_counts_go_up_to_the_n_of_the_bucket() -> None:
    at = At(names="abcde", copies=5)
    at.ask(a_get(r=5))
    assert len(at.sent(Read)) == 4
    at.ask(a_get(r=6))
    assert at.failure().message == "r=6 is more than the bucket's n=5"
    at.ask(a_get(r=4)._replace(bucket="other"))
    assert at.failure().message == "r=4 is more than the bucket's n=3"


# ── standing in ──


def test_where_no_owner_can_be_reached_this_node_stands_in_for_them() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owners = at.ring.plan("bucket", key).owners
    for name in owners:
        at.cut(name)
    at.ask(a_put(1, key=key))
    ((fallback, hint),) = at.sent(StoreHint)
    assert isinstance(hint, StoreHint)
    assert fallback not in owners
    at.commit()
    assert at.answers() == []
    at.hear(fallback, Stored(hint.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert sorted(done.answered.split(",")) == sorted(done.fallbacks.split(",")) == sorted(["a", fallback])
    at.ask(a_get(2, key=key, r=1))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert (found.record, found.answered, found.fallbacks) == (hint.record, "a", "a")


def test_a_deletion_is_stood_in_for_as_well() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    for name in at.ring.plan("bucket", key).owners:
        at.cut(name)
    at.ask(a_put(1, key=key, w=1))
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    context = token.encode(Context.unpack(done.context), cluster=b"c" * 16, bucket="bucket", key=key)
    at.ask(a_delete(2, context)._replace(key=key, w=1))
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.fallbacks == "a"
    at.ask(a_get(3, key=key, r=1))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert not is_live(found.record)


def test_the_dead_are_not_handed_requests_though_their_links_stand() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    at.members.dead = list(at.ring.plan("bucket", key).owners)
    at.ask(a_get(1, key=key, r=1))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert found.fallbacks == "a"


def test_a_write_that_no_owner_answers_is_done_here_as_one_that_may_have_been_done() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    key = not_owned(at)
    owners = at.ring.plan("bucket", key).owners
    at.ask(a_put(9, key=key, w=1))
    at.tick(2.9)
    assert sorted(name for name, _ in at.sent(Put)) == sorted(owners)
    at.tick(3.1)
    assert sorted(name for name, _ in at.sent(Recall)) == sorted(owners)
    at.tick(4.5)
    assert sorted(name for name, _ in at.sent(Store)) == sorted(owners)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert (done.id, done.fallbacks) == (9, "a")
    at.hear(owners[0], Done(1, b"", owners[0], ""))  # late
    assert at.answers() == []


def test_what_fails_here_at_last_an_owner_may_have_done() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    key = not_owned(at)
    at.ask(a_put(9, key=key))
    at.members.admitting = True
    at.tick(3.0)
    failure = at.failure()
    assert (failure.id, failure.code, failure.indeterminate) == (9, "ring", True)


def test_what_nobody_could_do_is_invalid_at_last() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    at.ask(a_put(9, key=not_owned(at), context=b"of another cluster"))
    at.tick(3.0)
    failure = at.failure()
    assert (failure.id, failure.code, failure.indeterminate) == (9, "invalid", False)


def test_a_read_that_no_owner_answers_is_answered_here() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    key = not_owned(at)
    at.ask(a_get(9, key, r=1))
    at.tick(2.9)
    assert at.answers() == []
    assert sorted(name for name, _ in at.sent(Get)) == sorted(at.ring.plan("bucket", key).owners)
    at.tick(3.0)
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert (found.id, found.record, found.fallbacks) == (9, b"", "a")


def test_what_nobody_waits_for_any_more_is_not_done_here() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    at.ask(a_put(9, key=not_owned(at), w=1, budget_ms=3000))
    at.tick(2.9)
    at.out.sends.clear()
    at.tick(20.0)
    failure = at.failure()
    assert (failure.code, failure.indeterminate) == ("quorum", True)
    assert failure.message.endswith("did not answer in time")
    assert not at.out
    assert not at.coordinator.busy


def test_what_must_be_done_by_owners_waits_for_them_alone() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    at.ask(a_put(9, key=not_owned(at), pw=1))
    at.tick(4.9)
    assert at.answers() == []
    assert at.sent(Store) == []


def test_a_node_that_hears_nobody_waits_for_nobody() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    at.members.deaf = True
    at.ask(a_put(1, key=key, w=1))
    assert len(at.sent(Store)) == 3
    at.tick(at.config.fallback_after_s)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.fallbacks == "a"


def suspected(at: At, key: bytes) -> tuple[str, ...]:
    """The owners of a key, all of which are suspect."""
    owners = at.ring.plan("bucket", key).owners
    at.members.suspects = list(owners)
    return owners


def test_a_write_for_suspects_goes_to_them_all_beside_the_hints_that_are_kept_for_them() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owners = suspected(at, key)
    at.ask(a_put(1, key=key, w=1))
    assert sorted(name for name, _ in at.sent(Store)) == sorted(owners)
    assert at.answers() == []
    at.tick(at.config.fallback_after_s)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert (done.answered, done.fallbacks) == ("a", "a")


def test_suspects_that_live_are_what_a_write_counts() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owners = suspected(at, key)
    at.ask(a_put(1, key=key))
    for name, store in at.sent(Store)[:2]:
        at.hear(name, Stored(store.id, STATUS_OK))  # type: ignore[union-attr]
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.fallbacks == ""
    assert set(done.answered.split(",")) < set(owners)


def test_a_read_for_suspects_is_passed_on_and_their_answer_counts() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    suspected(at, key)
    at.ask(a_get(9, key=key, r=1))
    ((first, passed),) = at.sent(Get)
    assert isinstance(passed, Get)
    at.hear(first, Found(passed.id, b"record", first, ""))
    assert at.answers() == [Found(9, b"record", first, "")]
    at.tick(10.0)
    assert not at.out
    assert at.coordinator.deadline() == math.inf


def test_a_read_for_suspects_that_stay_silent_is_answered_here() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    suspected(at, key)
    at.ask(a_get(9, key=key, r=1))
    ((first, passed),) = at.sent(Get)
    assert isinstance(passed, Get)
    at.tick(at.config.fallback_after_s - 0.01)
    assert at.answers() == []
    at.tick(at.config.fallback_after_s)
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert (found.id, found.answered, found.fallbacks) == (9, "a", "a")
    at.hear(first, Found(passed.id, b"record", first, ""))
    assert at.answers() == []
    assert not at.coordinator.busy


def test_a_read_for_suspects_is_not_answered_here_under_another_ring() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    suspected(at, key)
    at.ask(a_get(9, key=key, r=1))
    at.turn("abcdef")
    at.tick(at.config.fallback_after_s)
    assert at.failure().code == "ring"


def test_a_condition_is_for_the_owners_to_judge_though_they_are_suspect() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    suspected(at, key)
    at.ask(a_put(1, key=key, w=1, conditional=True))
    ((first, put),) = at.sent(Put)
    assert isinstance(put, Put)
    assert at.sent(Store) == []
    at.hear(first, Done(put.id, b"", first, ""))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.answered == first


def test_a_condition_is_judged_here_when_suspects_stay_silent() -> None:
    at = At(names="abcde", put_timeout_s=3.0)
    key = not_owned(at)
    suspected(at, key)
    at.ask(a_put(1, key=key, w=1, conditional=True))
    at.tick(at.config.fallback_after_s)
    recalls = at.sent(Recall)
    assert len(recalls) == 4  # any other node may have stood in
    for name, recall in recalls:
        at.hear(name, Recalled(recall.id, STATUS_OK, b"", 0, b""))  # type: ignore[union-attr]
    at.tick(1.5)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert done.fallbacks == "a"


def test_a_listing_is_of_owners_alone() -> None:
    at = At(names="abcde")
    partition = slot_partition(at.ring.plan("bucket", not_owned(at)).slot)
    at.members.dead = list(at.ring.plan_listing("bucket", partition).owners)
    at.ask(a_listing(partition=partition))
    assert at.failure().message.startswith("2 owners of the key are needed, 0 of 3 are alive")


def test_a_node_that_stands_in_and_cannot_write_says_why() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    plan = at.ring.plan("bucket", key)
    for name in plan.owners:
        at.cut(name)
    at.hints.keep(plan.owners[0], plan.slot, key, Record.EMPTY.pack(), generation=0, needed=True)
    at.commit()
    at.engine.corrupt(HINTS + plan.owners[0].encode() + b"\0" + plan.slot)
    at.ask(a_put(1, key=key))
    failure = at.failure()
    assert failure.code == "storage"
    assert failure.message.startswith("a: ")
