"""get, put, delete and update over the wire, and what callers get back."""

from __future__ import annotations

import signal

import pytest
import trio

import dyno
from dyno.wire import values
from dyno.wire.messages import ALL, DEFAULT, QUORUM, STRICT, Delete, Failed, Get, GetMany, Put

pytestmark = pytest.mark.trio


@pytest.fixture
async def node(serving):
    async with serving() as node:
        yield node


@pytest.fixture
async def client(node):
    async with dyno.connect(node.address, timeout=5) as client:
        yield client


@pytest.fixture
def carts(client):
    return client.bucket("carts")


async def test_what_was_put_is_read_with_its_context(carts, node):
    stored = await carts.put("alice", {"milk": 1})
    record = await carts.get("alice")
    assert isinstance(stored, dyno.PutResult)
    assert isinstance(record, dyno.Record)
    assert record.value == {"milk": 1}
    assert record.context == stored.context != b""
    assert record.replicas == stored.replicas == (("n1",), ())


async def test_a_missing_key_does_not_exist(carts):
    record = await carts.get("nobody")
    assert not record.exists
    assert (record.value, record.siblings, record.context) == (None, [], b"")


async def test_a_str_key_and_its_bytes_are_one_key(carts):
    await carts.put("ü", 1)
    assert (await carts.get("ü".encode())).value == 1


async def test_blind_writes_make_siblings_and_a_context_replaces_what_was_read(carts):
    await carts.put("alice", "left")
    await carts.put("alice", "right")
    record = await carts.get("alice")
    with pytest.raises(dyno.ConflictError) as caught:
        _ = record.value
    assert caught.value.siblings == ["left", "right"]
    stored = await carts.put("alice", "both", context=caught.value.context)
    assert (await carts.get("alice")).siblings == ["both"]
    await carts.put("alice", "next", context=stored.context)
    assert (await carts.get("alice")).value == "next"


async def test_a_delete_returns_what_it_covered(carts):
    stored = await carts.put("alice", 1)
    gone = await carts.delete("alice")
    assert gone.context == stored.context
    record = await carts.get("alice")
    assert not record.exists
    assert record.context == stored.context, "and so a next put can follow it"


async def test_a_delete_with_the_context_of_a_missing_key_leaves_what_came_since(carts):
    missing = await carts.get("alice")
    await carts.put("alice", 1)
    gone = await carts.delete("alice", context=missing.context)
    assert gone.context == b""
    assert (await carts.get("alice")).value == 1


async def test_a_delete_reads_by_the_quorum_of_its_handle(client, node):
    carts = client.bucket("carts", r=1, w="all")
    stored = await carts.put("alice", 1)
    gone = await carts.delete("alice", w=1, timeout=2)
    assert gone.context == stored.context
    (get,) = node.requests(Get)
    assert (get.r, get.budget_ms) == (1, 2000)
    assert not (await carts.get("alice")).exists
    (delete,) = node.requests(Delete)
    assert (delete.context, delete.r, delete.w) == (stored.context, 1, 1)
    assert (await carts.delete("nobody")).context == b""


async def test_a_conditional_put_meets_what_somebody_else_wrote(carts):
    stored = await carts.put("alice", 1, if_context=b"")
    with pytest.raises(dyno.ConflictError) as caught:
        await carts.put("alice", 2, if_context=b"")
    assert caught.value.siblings == [1]
    assert caught.value.context == stored.context
    await carts.put("alice", 2, if_context=caught.value.context)
    assert (await carts.get("alice")).value == 2


async def test_call_options_come_before_those_of_the_handle(client, node):
    carts = client.bucket("carts", r="all", w=2, pr=1, pw="quorum")
    assert carts.name == "carts"
    assert repr(carts) == "<dyno.Bucket 'carts'>"
    await carts.get("k")
    await carts.get("k", r=1, pr=0, timeout=2)
    await carts.put("k", 1)
    await carts.put("k", 1, w="one", pw=0, timeout=2)
    await carts.delete("k")
    await carts.delete("k", w=3, pw="all", timeout=2)
    assert [(m.r, m.pr) for m in node.requests(Get)] == [(ALL, 1), (1, 0), (ALL, 1), (ALL, 1)]
    assert [(m.w, m.pw) for m in node.requests(Put)] == [(2, QUORUM), (1, 0)]
    assert [(m.r, m.pr, m.w, m.pw) for m in node.requests(Delete)] == [(ALL, 1, 2, QUORUM), (ALL, 1, 3, ALL)]
    for kind in (Get, Put):
        assert [m.budget_ms for m in node.requests(kind)][:2] == [5000, 2000]
    await client.bucket("carts").get("k")
    assert node.requests(Get)[-1].r == DEFAULT


async def test_calls_and_handles_can_be_strict(client, node):
    carts = client.bucket("carts", sloppy=False)
    await carts.get("k")
    await carts.get("k", sloppy=True)
    await carts.put("k", 1)
    await carts.put("k", 1, sloppy=True)
    await carts.delete("k")
    await carts.update("k", lambda _: 1)
    await carts.put_many({"k": 1})
    await carts.put_many({"k": 1}, sloppy=True)
    await carts.get_many(["k"], sloppy=False)
    # A delete without a context reads first, and so does an update.
    assert [m.pr for m in node.requests(Get)] == [STRICT, DEFAULT, STRICT, STRICT]
    assert [m.pw for m in node.requests(Put)] == [STRICT, DEFAULT, STRICT, STRICT, DEFAULT]
    assert [(m.pr, m.pw) for m in node.requests(Delete)] == [(STRICT, STRICT)]


async def test_a_handle_has_a_timeout_of_its_own(client, node):
    carts = client.bucket("carts", timeout=3, r=1)
    await carts.get("k")
    await carts.get("k", timeout=2)
    await carts.put("k", 1)
    await carts.delete("k", context=(await carts.get("k")).context)
    assert [m.budget_ms for m in node.requests(Get)] == [3000, 2000, 3000]
    assert [m.budget_ms for m in (*node.requests(Put), *node.requests(Delete))] == [3000, 3000]
    await carts.update("k", lambda _: 1)
    await carts.delete("k")
    both = node.requests(Get)[3:] + node.requests(Put)[1:] + node.requests(Delete)[1:]
    assert all(2000 < message.budget_ms <= 3000 for message in both)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda carts: carts.get(""),
        lambda carts: carts.get("k", r=0),
        lambda carts: carts.put("k", object()),
        lambda carts: carts.put("k", 1, context="text"),
        lambda carts: carts.delete("k", w="some"),
        lambda carts: carts.update("k", "no function"),
        lambda carts: carts.get("k", timeout=0),
    ],
)
async def test_what_cannot_be_right_is_refused_before_anything_is_sent(carts, node, misuse):
    with pytest.raises(dyno.InvalidRequest):
        await misuse(carts)
    assert not node.requests(Get) + node.requests(Put) + node.requests(Delete)


async def test_what_can_be_no_bucket_is_refused(client):
    with pytest.raises(dyno.InvalidRequest):
        client.bucket("")
    with pytest.raises(dyno.InvalidRequest, match=r"^w="):
        client.bucket("carts", w=0)
    with pytest.raises(dyno.InvalidRequest, match="timeout"):
        client.bucket("carts", timeout=0)


@pytest.mark.parametrize(
    ("code", "error"),
    [("quorum", dyno.QuorumNotMet), ("storage", dyno.StorageFailed), ("invalid", dyno.InvalidRequest)],
)
async def test_a_refusal_of_the_node_is_raised(carts, node, code, error):
    node.answer = lambda request: Failed(request.id, code, "the disk is full", 2, "n1", False, 0, b"")
    with pytest.raises(error, match="the disk is full"):
        await carts.put("k", 1)


async def test_an_update_changes_what_is_there(carts):
    def add_milk(siblings):
        return {**(siblings[0] if siblings else {}), "milk": 1}

    record = await carts.update("alice", add_milk)
    assert record.value == {"milk": 1}
    await carts.put("alice", {"bread": 1}, context=record.context)
    record = await carts.update("alice", add_milk)
    assert (await carts.get("alice")).value == record.value == {"bread": 1, "milk": 1}


async def test_an_update_reads_again_when_somebody_else_wrote(carts, node):
    seen = []

    def merge(siblings):
        seen.append(siblings)
        if len(seen) == 1:
            node.conflicting("carts", b"alice", values.encode(5))
        return sum(siblings) + 1

    record = await carts.update("alice", merge)
    assert seen == [[], [5]]
    assert record.value == 6


async def test_many_updates_of_one_key_all_count(carts):
    async def add():
        await carts.update("hits", lambda siblings: max(siblings, default=0) + 1)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(add)
    assert (await carts.get("hits")).value == 10


async def test_a_change_that_takes_long_is_interrupted_by_ctrl_c(carts, client):
    def change(_siblings):
        signal.raise_signal(signal.SIGINT)
        return 1

    with pytest.raises(KeyboardInterrupt):
        await carts.update("alice", change)
    assert not (await carts.get("alice")).exists
    assert not client.runner.session._dispatch.calls


async def test_the_exception_of_a_change_passes_through(carts):
    class Mine(Exception):
        pass

    def change(_siblings):
        raise Mine

    with pytest.raises(Mine):
        await carts.update("alice", change)


async def test_a_large_value_travels(carts):
    value = bytes(range(256)) * 4096
    await carts.put("big", value)
    assert (await carts.get("big")).value == value


# ── batches ──


async def test_many_keys_are_written_and_read_at_once(carts, node):
    stored = await carts.put_many({"a": 1, b"b": b"raw", "c": None})
    assert list(stored) == ["a", b"b", "c"]
    assert all(type(result) is dyno.PutResult and result.error is None for result in stored.values())
    records = await carts.get_many(["c", "b", "missing", "a"])
    assert list(records) == ["c", "b", "missing", "a"]
    assert [record.value for record in records.values()] == [None, b"raw", None, 1]
    assert [record.exists for record in records.values()] == [True, True, False, True]
    assert records["a"].context == stored["a"].context
    assert records["a"].replicas == (("n1",), ())
    assert len(node.requests(GetMany)) == 1
    assert node.requests(Get) == []


async def test_contexts_of_many_are_given_by_key(carts):
    records = await carts.put_many({"a": 1, "b": 1})
    contexts = {key: result.context for key, result in records.items() if key == "a"}
    await carts.put_many({"a": 2, "b": 2}, contexts=contexts)
    assert [record.siblings for record in (await carts.get_many(["a", "b"])).values()] == [[2], [1, 2]]


async def test_what_a_node_leaves_out_is_got_alone(carts, node):
    await carts.put_many({"a": 1, "b": 2})
    node.left_out = [b"b"]
    records = await carts.get_many(["a", "b"])
    assert {key: record.value for key, record in records.items()} == {"a": 1, "b": 2}
    assert [get.key for get in node.requests(Get)] == [b"b"]


async def test_more_keys_than_fit_one_question(carts, node):
    values_of = {f"key {number}": number for number in range(700)}
    await carts.put_many(values_of)
    records = await carts.get_many(values_of.keys())
    assert {key: record.value for key, record in records.items()} == values_of
    assert len(node.requests(GetMany)) == 3


async def test_a_batch_has_an_entry_for_every_key_and_its_error_in_it(carts, node):
    def refuse(request):
        if isinstance(request, Put) and request.key == b"b":
            return Failed(request.id, "invalid", "too many siblings", 0, "", False, 0, b"")
        return node.answer_truly(request)

    node.answer = refuse
    results = await carts.put_many({"a": 1, "b": 2})
    assert results["a"].error is None
    assert isinstance(results["b"].error, dyno.InvalidRequest)
    for name in ("context", "replicas"):
        with pytest.raises(dyno.InvalidRequest, match="too many siblings"):
            getattr(results["b"], name)


async def test_an_empty_batch_is_an_empty_dict(carts, node):
    assert await carts.get_many([]) == {}
    assert await carts.put_many({}) == {}
    assert node.requests(GetMany) == node.requests(Put) == []


async def test_of_a_batch_that_cannot_be_right_nothing_is_sent(carts, node):
    with pytest.raises(dyno.InvalidRequest):
        await carts.put_many({"a": 1, "b": object()})
    with pytest.raises(dyno.InvalidRequest):
        await carts.get_many("abc")
    await carts.get("somebody")
    assert node.requests(GetMany) == node.requests(Put) == []


async def test_a_cancelled_batch_disturbs_no_other_call(carts, node):
    node.answer = lambda request: None if isinstance(request, GetMany) else node.answer_truly(request)
    with trio.move_on_after(60) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carts.get_many, ["a", "b"])
            await node.received(GetMany)
            scope.cancel()
    assert scope.cancelled_caught
    await carts.put("a", 1)
    assert (await carts.get("a")).value == 1
    assert not carts._client.runner.session._dispatch.calls


async def test_a_client_that_is_closed_ends_a_batch(node):
    node.answer = lambda request: None if isinstance(request, GetMany) else node.answer_truly(request)
    client = await dyno.connect(node.address).open()
    async with trio.open_nursery() as nursery:

        async def read():
            with pytest.raises(dyno.ConnectFailed, match="closed"):
                await client.bucket("carts").get_many(["a"])

        nursery.start_soon(read)
        await node.received(GetMany)
        await client.aclose()
