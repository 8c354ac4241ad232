"""The client as one machine: opening, links, members, calls, time."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from dyno.causality import token
from dyno.errors import ConnectFailed, InvalidRequest, Overloaded, QuorumNotMet
from dyno.session.dispatch import PATIENCE_S
from dyno.session.links import DIAL_TIMEOUT_S, SILENT_MAX_S
from dyno.session.pages import Page
from dyno.session.session import CALLS_MAX, IN_USE_S, OPEN_GRACE_S, Session
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    QUORUM,
    AskBuckets,
    AskMembers,
    Buckets,
    CreateBucket,
    Delete,
    Done,
    Found,
    Get,
    Hello,
    Listed,
    ListKeys,
    Put,
    Refuse,
)
from dyno.wire.pages import PAGE_KEYS_MAX, pack_keys

# ── making one ──


@pytest.mark.parametrize("seeds", [(), ("nonsense",), ("host:0",), ("host:70000",), (7101,), ("::1:7101",)])
def test_what_can_be_no_address_is_refused(seeds):
    with pytest.raises(InvalidRequest):
        Session(seeds, random=random.Random(1))


def test_the_timeout_is_checked():
    with pytest.raises(InvalidRequest, match="timeout"):
        Session(["h:1"], random=random.Random(1), timeout=0)


# ── opening ──


def test_opening_dials_all_listed_nodes_and_ends_with_the_first_that_answers(a_world):
    world = a_world()
    opening = world.open()
    assert sorted(world.dialled()) == ["n1:7101", "n2:7101", "n3:7101"]
    world.down("n1:7101")
    assert not world.finished()
    world.up("n3:7101")
    assert world.finished() == [opening]
    assert opening.error is None


def test_opening_fails_soon_when_every_listed_node_refuses(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    opening = world.open()
    began, rounds = world.now, 0
    while not opening.error:
        for address in world.dialled():
            rounds += 1
            world.down(address)
        world.advance(0.05)
    assert world.finished() == [opening]
    assert isinstance(opening.error, ConnectFailed)
    assert "n1:7101: Connection refused" in str(opening.error)
    assert "n2:7101: Connection refused" in str(opening.error)
    assert world.now - began == pytest.approx(OPEN_GRACE_S, abs=0.1)
    assert rounds > 4, "it was tried several times"


def test_a_node_that_is_just_starting_is_found(a_world):
    world = a_world(["n1:7101"])
    opening = world.open()
    world.down(*world.dialled())
    world.advance(0.8)
    assert world.dialled() == ["n1:7101"]
    world.up("n1:7101")
    assert world.finished() == [opening]
    assert opening.error is None


def test_opening_waits_for_a_node_that_neither_answers_nor_refuses(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    opening = world.open()
    world.down("n1:7101")
    world.advance(OPEN_GRACE_S + 0.5)
    assert not world.finished()
    world.advance(DIAL_TIMEOUT_S)
    assert "n2:7101" in world.dropped()
    assert isinstance(opening.error, ConnectFailed)
    assert "n2:7101: no answer within 2 s" in str(opening.error)


def test_opening_has_no_more_time_than_the_timeout(a_world):
    world = a_world(["n1:7101"], timeout=0.5)
    opening = world.open()
    world.advance(0.6)
    assert world.finished() == [opening]
    assert isinstance(opening.error, ConnectFailed)
    world.up("n1:7101")
    assert not world.finished()
    world.advance(5)


def test_a_cancelled_opening_is_forgotten(a_world, never):
    world = a_world(["n1:7101"])
    world.cancel(world.open())
    world.advance(20)
    assert not world.finished()
    assert world.session.deadline() == never


# ── handshake ──


def test_a_client_says_what_it_is_and_the_cluster_once_it_knows_it(a_world):
    world = a_world()
    hello = world.session.hello()
    assert (hello.role, hello.cluster, hello.name) == ("client", b"", "")
    world.open()
    world.up("n1:7101")
    assert world.session.hello().cluster == world.CLUSTER


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"protocol_low": 2, "protocol_high": 3}, "talks protocol versions 2 to 3, this client 1 to 1"),
        ({"protocol_low": 0, "protocol_high": 0}, "talks protocol versions 0 to 0, this client 1 to 1"),
        ({"role": "client"}, "is not a dyno node"),
        ({"name": ""}, "is not a dyno node"),
        ({"cluster": b""}, "has not joined a cluster yet"),
        ({"cluster": b"short"}, "has not joined a cluster yet"),
    ],
)
def test_a_node_that_cannot_serve_us_is_left_with_a_reason(a_world, changed, reason):
    world = a_world(["n1:7101"])
    opening = world.open()
    hello = Hello(1, 1, "peer", world.CLUSTER, 64, "n1", b"", b"", "")._replace(**changed)
    world.session.link_up("n1:7101", hello, world.now, world.out)
    assert world.dropped() == ["n1:7101"]
    world.advance(1.1)
    assert f"n1:7101: {reason}" in str(opening.error)


def test_a_node_of_another_cluster_is_never_used(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    world.open()
    world.up("n1:7101")
    world.up("n2:7101", cluster=b"another cluster!")
    assert world.dropped() == ["n2:7101"]
    assert "belongs to cluster" in world.session._links.why()


def test_a_refusal_is_kept_as_the_reason(a_world):
    world = a_world(["n1:7101"])
    opening = world.open()
    world.session.refused("n1:7101", Refuse("overloaded", "n1 has 1000 clients"), world.now, world.out)
    assert world.dropped() == ["n1:7101"]
    world.advance(1.1)
    assert "n1 has 1000 clients" in str(opening.error)


def test_events_of_links_that_nobody_wanted_mean_nothing(world):
    world.up("stranger:1")
    world.up("n1:7101")
    world.down("stranger:1")
    world.hear("stranger:1", world.members("n9"))
    world.down("n1:7101")
    world.down("n1:7101")
    world.hear("n1:7101", world.members("n9"))
    assert [member.name for member in world.session._routing.members] == ["n1", "n2", "n3"]


# ── members ──


def test_the_members_are_asked_once_when_links_come_up(a_world):
    world = a_world()
    world.open()
    world.up("n1:7101")
    world.up("n2:7101")
    assert world.sent() == [("n1:7101", AskMembers(0))]
    world.hear("n1:7101", world.members("n1", "n2", "n3"))
    world.up("n3:7101")
    assert world.sent() == [], "they are known, and fresh"


def test_the_members_are_asked_every_two_seconds_while_in_use_of_one_after_another(world):
    asked = []
    for _ in range(80):
        world.advance(0.1)
        call = world.get()
        for address, message in world.sent():
            if isinstance(message, AskMembers):
                asked.append(address)
                world.hear(address, world.members("n1", "n2", "n3"))
            else:
                world.hear(address, world.found(call))
    assert len(asked) == 3
    assert all(one != next_ for one, next_ in pairwise(asked))


def test_a_client_that_nobody_uses_falls_quiet(world, never):
    world.get()
    for _ in range(200):
        world.advance(0.1)
        for address, message in world.sent():
            if isinstance(message, AskMembers):
                world.hear(address, world.members("n1", "n2", "n3"))
    assert world.session.deadline() == never
    world.advance(1000)
    assert world.sent() == []
    world.get()
    assert [type(message) for _, message in world.sent()] == [AskMembers, Get], "it looks again when used"


def test_a_link_that_breaks_makes_it_look_at_once(world):
    world.down("n1:7101")
    ((address, message),) = world.sent()
    assert address != "n1:7101"
    assert isinstance(message, AskMembers)


def test_another_node_is_asked_when_one_says_nothing(world):
    world.advance(2.0)
    world.get()
    ((first, _),) = world.sent(AskMembers)
    world.advance(PATIENCE_S + 0.01)
    assert any(address != first for address, _ in world.sent(AskMembers))
    assert world.session._links.get(first).silent_at is not None


def test_a_node_that_answers_calls_but_not_this_is_not_silent(world):
    world.advance(2.0)
    world.get()
    ((first, _),) = world.sent(AskMembers)
    world.advance(PATIENCE_S * 0.9)
    world.hear(first, Found(9999, b"", "", ""))
    world.advance(PATIENCE_S * 0.2)
    assert world.session._links.get(first).silent_at is None


@pytest.mark.parametrize("told", ["nonsense", "another cluster"])
def test_members_that_make_no_sense_close_the_link(world, told):
    members = world.members("n1")
    wrong = members._replace(members=b"\xff") if told == "nonsense" else members._replace(cluster=b"x" * 16)
    world.hear("n1:7101", wrong)
    assert world.dropped() == ["n1:7101"]
    assert not world.session._links.get("n1:7101").ready


def test_the_cluster_is_found_again_through_members_when_all_listed_nodes_are_gone(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1", "n2", "n3"))
    world.down("n1:7101")
    call = world.get()
    assert sorted(world.dialled()) == ["n2:7101", "n3:7101"]
    world.up("n3:7101")
    ((address, message),) = world.sent(Get)
    assert (address, message.id) == ("n3:7101", call.id)


# ── links over time ──


def test_a_client_in_use_reconnects_by_itself_and_an_idle_one_does_not(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1"))
    world.cancel(world.get())
    world.down("n1:7101")
    world.advance(1)
    assert world.dialled() == ["n1:7101"]
    world.down("n1:7101")
    world.advance(IN_USE_S)
    world.dialled()
    world.down("n1:7101")
    world.advance(100)
    assert world.dialled() == []
    world.get()
    assert world.dialled() == ["n1:7101"]


def test_a_link_that_stays_silent_is_dropped_and_its_writes_may_have_been_done(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1"))
    call = world.put(timeout=60)
    world.sent()
    world.advance(1.0 + SILENT_MAX_S + 0.1)
    assert world.dropped() == ["n1:7101"]
    assert isinstance(call.error, QuorumNotMet)
    assert call.error.indeterminate
    assert "silent for 5 s" in str(call.error)


def test_a_dial_that_takes_too_long_is_dropped_and_tried_again(a_world):
    world = a_world(["n1:7101"])
    world.get(timeout=30)
    assert world.dialled() == ["n1:7101"]
    world.advance(DIAL_TIMEOUT_S + 0.2)
    assert world.dropped() == ["n1:7101"]
    assert world.dialled() == ["n1:7101"]


# ── calls ──


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


def test_a_delete_with_the_context_of_a_missing_key_deletes_nothing(world):
    call = world.delete("k", context=b"")
    assert world.finished() == [call]
    assert call.result.context == b""
    assert call.result.replicas == ((), ())
    assert world.sent() == []


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


def test_status_is_the_cluster_as_a_node_sees_it_now(world):
    call = world.status()
    ((address, message),) = world.sent()
    world.hear(address, world.members("n1", "n2", id=message.id, ring=2))
    assert world.finished() == [call]
    assert [member["name"] for member in call.result["members"]] == ["n1", "n2"]
    assert call.result["cluster"] == world.CLUSTER.hex()


def test_status_is_asked_elsewhere_when_a_link_breaks_or_a_node_refuses(world):
    call = world.status()
    ((address, _),) = world.sent()
    world.down(address)
    ((other, again),) = [(a, m) for a, m in world.sent(AskMembers) if m.id == call.id]
    world.hear(other, world.failed(again, "overloaded"))
    world.advance(0.1)
    assert [m.id for _, m in world.sent(AskMembers) if m.id] == [call.id]


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


# ── closing ──


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


def test_what_can_be_no_bucket_is_never_sent(world):
    with pytest.raises(InvalidRequest, match="n=10 is not possible"):
        world.create_bucket(n=10)
    with pytest.raises(InvalidRequest, match="a timeout is above 0"):
        world.create_bucket(timeout=0)
    assert world.sent() == []


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
