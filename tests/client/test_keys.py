"""Iterating over all keys of a bucket, to its end or not."""

from __future__ import annotations

import gc
from contextlib import aclosing

import pytest
import trio

import dyno
from dyno.session.listing import AHEAD_MAX
from dyno.wire.messages import ALL, Failed, Listed, ListKeys
from dyno.wire.pages import pack_keys

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


@pytest.fixture
async def filled(carts):
    """The keys of a bucket that has several pages of them in its partitions."""
    keys = [f"key {number}" for number in range(60)]
    for key in keys:
        await carts.put(key, 1)
    return sorted(keys)


async def everything(keys):
    return [key async for key in keys]


def under_way(client) -> int:
    return len(client.runner.session._dispatch.calls)


async def test_every_key_comes_once(carts, filled):
    found = await everything(carts.keys())
    assert sorted(found) == filled
    assert await everything(carts.keys()) == found


async def test_keys_are_str_where_they_are_utf_8_and_else_bytes(carts):
    for key in ("ü", b"\xff", b"plain"):
        await carts.put(key, 1)
    await carts.put("deleted", 1)
    await carts.delete("deleted")
    assert set(await everything(carts.keys())) == {"ü", b"\xff", "plain"}


async def test_an_empty_bucket_has_none(client):
    assert await everything(client.bucket("empty").keys()) == []
    assert under_way(client) == 0


async def test_options_travel_and_are_checked_at_once(client, node, filled):
    keys = client.bucket("carts", r=1).keys(r="all", pr=2, timeout=3)
    assert len(await everything(keys)) == len(filled)
    request = node.requests(ListKeys)[0]
    assert (request.r, request.pr, request.budget_ms) == (ALL, 2, 3000)
    with pytest.raises(dyno.InvalidRequest, match="r=0"):
        client.bucket("carts").keys(r=0)
    with pytest.raises(dyno.InvalidRequest, match="timeout"):
        client.bucket("carts").keys(timeout=-1)


async def test_a_client_that_is_not_open_has_no_keys(node):
    client = dyno.connect(node.address)
    with pytest.raises(dyno.InvalidRequest, match="not open"):
        client.bucket("carts").keys()


async def test_pages_come_whole_and_mix_with_single_keys(carts, filled):
    keys = carts.keys()
    found = [await anext(keys)]
    while page := await keys.next_page():
        assert len(page) <= 2
        found += page
    assert sorted(found) == filled
    assert await keys.next_page() == []
    with pytest.raises(StopAsyncIteration):
        await anext(keys)


async def test_an_iteration_that_is_left_early_leaves_nothing(client, carts, filled):
    """And nobody warns of it, closed or not."""
    async for _ in carts.keys():
        break
    gc.collect()
    async with aclosing(carts.keys()) as keys:
        async for _ in keys:
            break
    with trio.fail_after(5):
        while under_way(client):
            await trio.lowlevel.checkpoint()
    assert (await carts.get("key 1")).value == 1


async def test_closing_lets_go_of_what_is_under_way(client, carts, node):
    node.answer = lambda request: None if isinstance(request, ListKeys) else node.answer_truly(request)
    keys = carts.keys()
    with trio.move_on_after(0.01):
        await anext(keys)
    assert 0 < under_way(client) < AHEAD_MAX  # but what was waited for
    await keys.aclose()
    assert under_way(client) == 0
    assert await keys.next_page() == []
    await keys.aclose()
    await client.aclose()
    await keys.aclose()


async def test_a_step_that_is_cancelled_before_its_page_is_taken_loses_no_key(carts, filled):
    """At the checkpoint of a page that is here already, or while it is still awaited."""
    keys = carts.keys()
    found = []
    cancelled = 0
    while len(found) < len(filled):
        with trio.CancelScope() as scope:
            scope.cancel()
            found += await keys.next_page()
        cancelled += scope.cancelled_caught
        found += await keys.next_page()
    assert cancelled > 10
    assert sorted(found) == filled
    assert await keys.next_page() == []


async def test_a_step_that_is_cancelled_while_no_answer_comes_is_asked_again(client, carts, node, filled):
    silent = True
    node.answer = lambda request: None if silent else node.answer_truly(request)
    keys = carts.keys(timeout=0.5)
    before = len(node.seen)
    with trio.move_on_after(0.02) as scope:
        await keys.next_page()
    assert scope.cancelled_caught
    assert len(node.seen) > before
    assert under_way(client) == AHEAD_MAX - 1
    silent = False
    assert sorted(await everything(keys)) == filled


async def test_other_calls_go_on_when_one_step_is_cancelled(carts, node, nursery, filled):
    node.answer = lambda request: None if isinstance(request, ListKeys) else node.answer_truly(request)
    with trio.move_on_after(0.01):
        await anext(carts.keys())
    assert (await carts.get("key 1")).value == 1


async def test_an_error_is_raised_and_the_iteration_may_go_on(carts, node, filled):
    def fail(request):
        if isinstance(request, ListKeys) and request.partition == 9:
            return Failed(request.id, "storage", "the disk is ill", 0, "", False, 0, b"")
        return node.answer_truly(request)

    keys = carts.keys()
    node.answer = fail
    found = []
    with pytest.raises(dyno.StorageFailed, match="ill"):
        while True:
            found.append(await anext(keys))
    node.answer = node.answer_truly
    found += await everything(keys)
    assert sorted(found) == filled


async def test_a_page_that_takes_too_long_is_an_error(carts, node):
    node.answer = lambda request: None if isinstance(request, ListKeys) else node.answer_truly(request)
    with pytest.raises(dyno.RequestTimeout):
        await anext(carts.keys(timeout=0.02))


async def test_a_link_that_breaks_is_no_matter(carts, node, filled):
    keys = carts.keys()
    found = [await anext(keys)]
    node.drop_links()
    found += await everything(keys)
    assert sorted(found) == filled


async def test_a_client_that_is_closed_ends_the_iteration_with_an_error(client, carts, filled):
    keys = carts.keys()
    await keys.next_page()
    await client.aclose()
    with pytest.raises(dyno.InvalidRequest, match="closed"):
        await keys.next_page()


async def test_a_waiting_iteration_fails_when_the_client_is_closed(client, carts, node, nursery):
    node.answer = lambda request: None if isinstance(request, ListKeys) else node.answer_truly(request)
    errors = []

    async def iterate():
        with pytest.raises(dyno.ConnectFailed) as caught:
            await anext(carts.keys())
        errors.append(caught.value)

    nursery.start_soon(iterate)
    await node.received(ListKeys, AHEAD_MAX)
    await client.aclose()
    with trio.fail_after(5):
        while not errors:
            await trio.lowlevel.checkpoint()


async def test_one_task_takes_keys_at_a_time(carts, node, nursery):
    node.answer = lambda request: None if isinstance(request, ListKeys) else node.answer_truly(request)
    keys = carts.keys()

    async def wait(keys):
        await anext(keys)

    with trio.CancelScope() as scope:
        nursery.start_soon(wait, keys)
        await node.received(ListKeys, AHEAD_MAX)
        with pytest.raises(dyno.InvalidRequest, match="another task"):
            await keys.next_page()
        nursery.cancel_scope.cancel()
    assert not scope.cancelled_caught


async def test_a_slow_consumer_holds_the_nodes_up_and_not_the_keys(client, carts, node, filled):
    """However long it takes over one key, no more than AHEAD_MAX pages were asked for beyond those taken."""
    keys = carts.keys()
    taken = 0
    while page := await keys.next_page():
        taken += 1
        await carts.get("key 1")  # everything that was asked for before has been answered
        assert under_way(client) == 0
        listed = node.requests(ListKeys)
        empty = sum(1 for request in listed if not _has_keys(node, request))
        assert len(listed) - empty <= taken + AHEAD_MAX
        assert len(page) <= 2


def _has_keys(node, request) -> bool:
    answer = node.answer_truly(request)
    assert isinstance(answer, Listed)
    return answer.keys != pack_keys([])


async def test_pages_that_are_here_already_let_other_tasks_run(client, carts, nursery, filled):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    nursery.start_soon(count)
    keys = carts.keys()
    await keys.next_page()
    gained = 0
    for _ in range(10):
        while under_way(client):
            await trio.lowlevel.checkpoint()
        before = turns
        assert await keys.next_page()
        gained += turns - before
    assert gained  # about one a page: who goes first in a turn is up to Trio
    nursery.cancel_scope.cancel()


async def test_a_task_that_waits_for_keys_hears_that_another_one_closed_them(client, node):
    node.answer = lambda request: None if type(request) is ListKeys else node.answer_truly(request)
    keys = client.bucket("carts").keys()
    found = []

    async def take():
        found.extend(await everything(keys))

    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await node.received(ListKeys)
            await keys.aclose()
    assert found == []
    assert under_way(client) == 0
