"""One client, many tasks: coalescing, cancelling, timeouts, broken links."""

from __future__ import annotations

import time

import pytest
import trio

import dyno
from dyno.wire.messages import Get, Put

pytestmark = pytest.mark.trio


@pytest.fixture
async def node(serving):
    async with serving() as node:
        yield node


@pytest.fixture
async def client(node):
    async with dyno.connect(node.address, timeout=5) as client:
        await client.bucket("carts").get("the first call")
        node.seen.clear()
        node.turns.clear()
        yield client


@pytest.fixture
def carts(client):
    return client.bucket("carts")


async def test_calls_of_one_turn_travel_together(carts, node):
    async with trio.open_nursery() as nursery:
        for i in range(50):
            nursery.start_soon(carts.put, f"key {i}", i)
    assert len(node.requests(Put)) == 50
    assert len(node.turns) <= 3, "three writes at most, not fifty"


async def test_every_task_gets_its_own_answer(carts):
    got = {}

    async def work(i):
        await carts.put(f"key {i}", i)
        got[i] = (await carts.get(f"key {i}")).value

    async with trio.open_nursery() as nursery:
        for i in range(100):
            nursery.start_soon(work, i)
    assert got == {i: i for i in range(100)}


async def test_cancelling_a_call_disturbs_no_other(carts, node):
    await carts.put("kept", 7)
    node.answer = lambda _request: None
    results = []

    async def read():
        results.append(await carts.get("kept"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        async with trio.open_nursery() as doomed:
            doomed.start_soon(carts.get, "cancelled")
            await node.received(Get, 2)
            doomed.cancel_scope.cancel()
        assert not results
        (kept,) = [request for request in node.requests(Get) if request.key == b"kept"]
        node.answer = lambda _request: node.answer_truly(kept)
        nursery.start_soon(carts.get, "makes the node answer the one that was kept")
        while not results:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert results[0].value == 7


async def test_a_call_in_a_cancelled_scope_sends_nothing(carts, node):
    with trio.CancelScope() as scope:
        scope.cancel()
        await carts.put("k", 1)
    assert scope.cancelled_caught
    await carts.get("another")
    assert node.requests(Put) == []


async def test_cancelled_calls_leave_nothing_behind(carts, client, node):
    node.answer = lambda _request: None
    async with trio.open_nursery() as nursery:
        for i in range(100):
            nursery.start_soon(carts.put, f"key {i}", i)
        await node.received(Put, 100)
        nursery.cancel_scope.cancel()
    assert not client.runner.session._dispatch.calls
    node.answer = node.answer_truly
    await carts.put("k", 1)


async def test_a_call_ends_at_its_timeout(carts, node):
    node.answer = lambda _request: None
    began = trio.current_time()
    with pytest.raises(dyno.RequestTimeout) as caught:
        await carts.put("k", 1, timeout=0.1)
    assert 0.1 <= trio.current_time() - began < 1
    assert caught.value.indeterminate
    with pytest.raises(dyno.RequestTimeout) as caught:
        await carts.get("k", timeout=0.1)
    assert not caught.value.indeterminate


async def test_a_shorter_timeout_ends_before_a_longer_one(carts, node):
    node.answer = lambda _request: None
    ended = []

    async def read(timeout):
        with pytest.raises(dyno.RequestTimeout):
            await carts.get("k", timeout=timeout)
        ended.append(timeout)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 0.3)
        await node.received(Get)
        nursery.start_soon(read, 0.1)
    assert ended == [0.1, 0.3]


async def test_an_answer_that_came_while_the_loop_was_busy_came_in_time(carts, node):
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: carts.get("k", timeout=0.2))
            await node.received(Get)
            time.sleep(0.3)  # somebody's slow code


async def test_a_broken_link_is_survived_by_reads_and_writes(carts, node):
    outcomes = {}

    async def call(name, use):
        try:
            outcomes[name] = await use
        except dyno.DynoError as error:
            outcomes[name] = error

    node.answer = lambda _request: None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "read", carts.get("k"))
        nursery.start_soon(call, "write", carts.put("k", 1))
        await node.received(Get)
        await node.received(Put)
        node.answer = node.answer_truly
        node.drop_links()
    assert outcomes["read"].error is None
    assert outcomes["write"].replicas.answered
    assert [put.again for put in node.requests(Put)] == [False, True]


async def test_ctrl_c_never_strikes_between_two_lines_of_the_client(carts):
    """Or a call may be left half begun, and the loop that serves all others broken."""
    protected = []

    def keys():
        protected.append(trio.lowlevel.currently_ki_protected())
        yield "k"

    await carts.get_many(keys())
    assert protected == [True]
