"""The client as one machine: calls, their answers, closing."""

from __future__ import annotations

import random

import pytest

from dyno.causality import token
from dyno.errors import ConnectFailed, InvalidRequest, Overloaded, QuorumNotMet, RequestTimeout
from dyno.session.batch import GetBatch
from dyno.session.calls import Call
from dyno.session.pages import Page
from dyno.session.session import CALLS_MAX, Session
from dyno.session.upkeep import REFRESH_S
from dyno.wire.codec import ProtocolError
from dyno.wire.explanations import Explanation, pack_explanation
from dyno.wire.messages import (
    ALL,
    QUORUM,
    AskBuckets,
    AskMembers,
    AskStatus,
    Buckets,
    CreateBucket,
    Done,
    Explain,
    Explained,
    Found,
    FoundMany,
    Get,
    GetMany,
    Listed,
    ListKeys,
    Refuse,
)
from dyno.wire.pages import PAGE_KEYS_MAX, pack_keys
from dyno.wire.rows import pack_row

# ── making one ──


@pytest.mark.parametrize("seeds", [(), ("nonsense",), ("host:0",), ("host:70000",), (7101,), ("::1:7101",)])
def test_what_can_be_no_address_is_refused(seeds):
    with pytest.raises(InvalidRequest):
        Session(seeds, random=random.Random(1))


def test_the_timeout_is_checked():
    with pytest.raises(InvalidRequest, match="timeout"):
        Session(["h:1"], random=random.Random(1), timeout=0)


# ── calls ──


def test_a_delete_with_the_context_of_a_missing_key_deletes_nothing(world):
    call = world.delete("k", context=b"")
    assert world.finished() == [call]
    assert call.result.context == b""
    assert call.result.replicas == ((), ())
    assert world.sent() == []


def test_a_get_ends_with_a_record(world):
    call = world.get("alice")
    ((address, _),) = world.sent(Get)
    world.hear(address, world.found(call, "left", "right", answered="n1,n4", fallbacks="n4"))
    assert world.finished() == [call]
    record = call.result
    assert record.siblings == ["left", "right"]
    assert record.replicas == (("n1", "n4"), ("n4",))
    token.decode(record.context, cluster=world.CLUSTER, bucket="carts", key=b"alice")


@pytest.mark.parametrize("kind", ["put", "delete"])
def test_a_write_ends_with_a_put_result(world, kind):
    call = getattr(world, kind)("alice")
    ((address, _),) = world.sent()
    world.hear(address, world.done(call))
    assert world.finished() == [call]
    assert call.result.replicas == (("n1", "n2"), ("n2",))
    token.decode(call.result.context, cluster=world.CLUSTER, bucket="carts", key=b"alice")


def test_an_answer_of_the_wrong_kind_or_to_nobody_means_nothing(world):
    get, put = world.get(), world.put()
    (where_get, _), (where_put, _) = world.sent()
    world.hear(where_get, world.done(get))
    world.hear(where_put, world.found(put))
    world.hear(where_put, Done(12345, b"", "", ""))
    opening = world.open()
    world.hear(where_put, Found(opening.id, b"", "", ""))
    assert not world.finished()


def test_a_message_that_is_no_answer_is_a_breach_of_protocol(world):
    with pytest.raises(ProtocolError, match="a Refuse is no answer"):
        world.hear("n1:7101", Refuse("overloaded", "too late for that"))


def test_status_is_asked_elsewhere_when_a_link_breaks_or_a_node_refuses(world):
    call = world.status()
    ((address, _),) = world.sent()
    world.down(address)
    ((other, again),) = [(a, m) for a, m in world.sent(AskStatus) if m.id == call.id]
    world.hear(other, world.failed(again, "overloaded"))
    world.advance(0.1)
    assert [m.id for _, m in world.sent(AskStatus)] == [call.id]


def test_what_nodes_hold_of_a_key_is_asked_of_any(world):
    call = world.session.explain("carts", "alice", timeout=2, now=world.now, out=world.out)
    ((address, message),) = world.sent()
    assert message == Explain(call.id, "carts", b"alice", 2000, False)
    told = Explained(call.id, pack_explanation(Explanation(7, 3, ("n1",), (), ())))
    world.hear(address, told._replace(id=call.id + 1))  # to nobody
    world.hear(address, told)
    assert world.finished() == [call]
    assert (call.result["key"], call.result["partition"]) == ("alice", 7)


def test_a_key_is_explained_elsewhere_when_a_node_cannot(world):
    call = world.session.explain("carts", "alice", now=world.now, out=world.out)
    ((address, _),) = world.sent()
    world.down(address)
    ((other, again),) = world.sent(Explain)
    world.hear(other, world.failed(again, "ring"))
    world.advance(1.0)
    assert [message.id for _, message in world.sent(Explain)] == [call.id]
    with pytest.raises(InvalidRequest):
        world.session.explain("", "alice", now=world.now, out=world.out)
    with pytest.raises(InvalidRequest):
        world.session.explain("carts", b"", now=world.now, out=world.out)


def test_a_call_can_be_delayed(world):
    call = world.get(timeout=1, delay=0.3)
    assert world.sent() == []
    world.advance(0.29)
    assert world.sent(Get) == []
    world.advance(0.02)
    ((_, message),) = world.sent(Get)
    assert message.id == call.id
    assert message.budget_ms <= 700


def test_calls_under_way_are_bounded(world):
    for _ in range(CALLS_MAX):
        world.get()
    with pytest.raises(Overloaded) as caught:
        world.get()
    assert caught.value.retry_after > 0


def test_the_same_seed_and_events_give_the_same_messages(a_world):
    traces = []
    for _ in range(2):
        world = a_world().settle()
        for i in range(20):
            world.put(f"key {i}")
        world.down("n2:7101")
        world.advance(3)
        traces.append(world.out.sends)
    assert traces[0] == traces[1]


# ── links ──


def test_a_node_that_refuses_us_is_left(a_world):
    world = a_world(["n1:7101"])
    assert world.session.hello().role == "client"
    world.open()
    world.session.refused("n1:7101", Refuse("protocol", "too old"), world.now, world.out)
    assert world.dropped() == ["n1:7101"]
    assert "too old" in world.session._links.why()


def test_a_silent_link_that_speaks_again_is_given_what_waits(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    world.session._links.get("n1:7101").fall_silent(world.now)
    call = world.get()
    assert world.sent() == []
    world.hear("n1:7101", Found(9999, b"", "", ""))
    ((_, get),) = world.sent(Get)
    assert get.id == call.id
    world.down("n1:7101")
    world.hear("n1:7101", world.found(call))
    assert world.finished() == [], "a link that is down says nothing"


def test_a_refusal_counts_only_from_a_node_that_has_the_request(world):
    call = world.get()
    ((address, _),) = world.sent()
    (other, *_) = [f"n{number}:7101" for number in (1, 2, 3) if f"n{number}:7101" != address]
    world.hear(other, world.failed(call, "invalid"))
    assert world.finished() == []
    world.hear(address, world.failed(call, "ring"))
    assert len(world.sent(AskMembers)) == 1, "what it knows of the ring is old"
    assert world.finished() == []


def test_a_call_after_a_while_looks_at_the_members(world):
    world.now += REFRESH_S
    world.get()
    assert len(world.sent(AskMembers)) == 1
    assert world.session.partitions == 64


# ── many keys ──


def ask_many(world) -> tuple[str, GetMany, GetBatch]:
    batch = GetBatch(world.session, world.bucket, ["a", "b"], now=world.now)
    batch.go_on(world.now, world.out)
    ((address, request),) = world.sent(GetMany)
    return address, request, batch


def test_an_answer_about_many_keys_ends_the_call_that_asked_for_them(world):
    address, request, batch = ask_many(world)
    get = world.get()
    answer = FoundMany(request.id, pack_row([b"", b""]), "n1,n2", b"\0\0")
    world.hear(address, answer._replace(id=get.id))  # no answer to this
    world.hear(address, answer._replace(id=9999))  # to nobody
    assert world.finished() == []
    world.hear(address, answer)
    assert world.finished() == [batch]


@pytest.mark.parametrize(("records", "which"), [([b""], b"\0\0"), ([b"", b""], b"\0"), ([b"", b""], b"\0\1")])
def test_an_answer_for_other_keys_is_a_breach_of_protocol(world, records, which):
    address, request, _ = ask_many(world)
    with pytest.raises(ProtocolError, match="other keys"):
        world.hear(address, FoundMany(request.id, pack_row(records), "n1", which))


def test_a_cancelled_batch_leaves_nothing_behind(world):
    _, _, batch = ask_many(world)
    world.cancel(batch)
    assert world.session._dispatch.calls == {}


def test_a_part_that_never_began_says_whether_anybody_was_there(world):
    call = world.get()
    error = world.session.never_began(call, "its turn did not come")
    assert isinstance(error, RequestTimeout)
    assert not error.indeterminate
    for number in (1, 2, 3):
        world.down(f"n{number}:7101")
    assert isinstance(world.session.never_began(call, "its turn did not come"), ConnectFailed)


def test_the_members_are_awaited_only_by_what_could_be_begun(a_world, monkeypatch):
    world = a_world()
    world.open()
    world.up("n1:7101")
    call = Call(world.session.requests.next_id(), None, bucket=b"", deadline=world.now + 1, weight=0)
    monkeypatch.setattr("dyno.session.session.CALLS_MAX", 0)
    assert not world.session.await_members(call)
    monkeypatch.undo()
    assert world.session.await_members(call)
    world.session.close(world.now, world.out)
    assert not world.session.await_members(call)


# ── closing ──


def test_nothing_can_be_begun_in_a_client_that_is_closed(world):
    world.session.close(world.now, world.out)
    with pytest.raises(ConnectFailed, match="the client was closed"):
        world.get()
    assert world.sent() == []


def test_closing_ends_every_call_and_says_which_writes_may_have_been_done(a_world):
    world = a_world(["n1:7101"]).settle("n1")
    get, put = world.get(), world.put()
    world.put("big", b"x" * (8 << 20))
    world.put("big", b"x" * (8 << 20))
    waiting = world.put()
    cause = RuntimeError("broken")
    world.session.close(world.now, world.out, reason="the client broke", cause=cause)
    assert len(world.finished()) == 5
    assert isinstance(get.error, ConnectFailed)
    assert isinstance(put.error, QuorumNotMet)
    assert put.error.indeterminate
    assert isinstance(waiting.error, ConnectFailed), "it was never sent"
    assert get.error.__cause__ is cause


# ── pages of keys ──


def a_page(world, partition: int = 3):
    call = world.session.list_keys(
        world.bucket, partition, b"", r=2, pr=0, timeout=5.0, now=world.now, out=world.out
    )
    ((address, request),) = world.sent(ListKeys)
    assert request.id == call.id
    return address, request, call


def test_a_page_of_keys_ends_with_its_answer(world):
    address, request, call = a_page(world)
    assert request == ListKeys(call.id, "carts", 3, b"", PAGE_KEYS_MAX, 2, 0, 5000, False)
    world.hear(address, Found(call.id, b"", "n1", ""))  # no answer to this
    assert world.finished() == []
    world.hear(address, Listed(call.id, pack_keys([b"alice"]), b"c" * 16))
    assert world.finished() == [call]
    assert call.result == Page(["alice"], b"c" * 16)
    world.hear(address, Listed(call.id, pack_keys([b"alice"]), b"c" * 16))
    assert world.finished() == []


def test_a_page_of_keys_is_no_answer_to_a_get(world):
    call = world.get()
    ((address, _),) = world.sent(Get)
    world.hear(address, Listed(call.id, b"", b""))
    assert world.finished() == []


def test_a_page_that_no_node_gives_closes_its_link(world):
    address, _, call = a_page(world)
    with pytest.raises(ProtocolError):
        world.hear(address, Listed(call.id, b"nonsense", b""))
    world.down(address, "not understood")
    ((other, again),) = world.sent(ListKeys)
    assert other != address
    assert again.id == call.id


def test_a_page_that_is_asked_again_carries_the_time_that_is_left(world):
    address, _, _ = a_page(world)
    world.advance(0.25)
    world.down(address)
    ((_, again),) = world.sent(ListKeys)
    assert again.budget_ms == 4750


# ── buckets ──


def test_a_bucket_is_created(world):
    call = world.create_bucket(n=5, w="all", timeout=2)
    ((address, message),) = world.sent()
    assert message == CreateBucket(message.id, "wide", 5, QUORUM, ALL, 0, 2000)
    world.hear(address, world.found(call))  # no answer to this
    world.hear(address, world.created(message))
    assert world.finished() == [call]
    assert call.result == {"n": 5, "r": "quorum", "w": "all", "kind": "siblings"}


def test_buckets_are_listed(world):
    call = world.session.buckets(now=world.now, out=world.out)
    ((address, message),) = world.sent()
    assert message == AskBuckets(message.id)
    world.hear(address, Buckets(message.id + 100, b""))  # to nobody
    world.hear(address, Buckets(message.id, b""))
    assert world.finished() == [call]
    assert call.result == {}


def test_a_list_that_makes_no_sense_is_a_breach_of_protocol(world):
    world.session.buckets(now=world.now, out=world.out)
    ((address, message),) = world.sent()
    with pytest.raises(ProtocolError):
        world.hear(address, Buckets(message.id, b"nonsense"))
