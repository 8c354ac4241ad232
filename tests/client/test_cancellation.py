"""Cancelled anywhere, a call leaves nothing behind and disturbs nobody.

Each scenario runs again and again, cancelled a little later every time, until it is through before that: at
the k-th await of its task, at the k-th time when that task is about to go on, and in the k-th turn of the
loop. Meanwhile other tasks use the same client, and every key's value says which key it belongs to.
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import trio

import dyno
from dyno.wire.messages import AskStatus, Failed, Get

pytestmark = pytest.mark.trio

LIMIT = 200  # awaits, or turns; a scenario takes far fewer
BYSTANDERS = 4


class CancelAt(trio.abc.Instrument):
    """Cancels the task that `watch` is told about. moment: see above. count: which one of them."""

    def __init__(self, moment: str, count: int) -> None:
        self._moment = moment
        self._left = count
        self._task: trio.lowlevel.Task | None = None
        self._scope: trio.CancelScope | None = None

    def watch(self, scope: trio.CancelScope) -> None:
        self._task, self._scope = trio.lowlevel.current_task(), scope
        if self._left == 0:
            scope.cancel()

    def leave(self) -> None:
        self._task = self._scope = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task and self._moment == "await":
            self._count()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        if task is self._task and self._moment == "before it goes on":
            self._count()

    def before_io_wait(self, _timeout: float) -> None:
        if self._task is not None and self._moment == "turn":
            self._count()

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0:
            assert self._scope is not None
            self._scope.cancel()


async def put_new(bucket, **options):
    await bucket.put("victim", "value of victim", **options)


async def update(bucket, **options):
    await bucket.update("victim", lambda siblings: "value of victim", **options)


CALLS = {
    "get": lambda client, **options: check(client.bucket("b"), "victim", **options),
    "put": lambda client, **options: put_new(client.bucket("b"), **options),
    "delete": lambda client, **options: client.bucket("b").delete("victim", **options),
    "update": lambda client, **options: update(client.bucket("b"), **options),
    "status": lambda client, **options: client.status(**options),
    "hints_drained": lambda client, **options: client.hints_drained(**options),
    "explain": lambda client, **options: client.explain("carts", "victim", **options),
}


async def check(bucket, key, **options):
    record = await bucket.get(key, **options)
    assert set(record.siblings) <= {f"value of {key}"}, "somebody else's answer"
    return record


@pytest.fixture
async def nodes(serving):
    """Two nodes of one cluster that have the same records."""
    async with serving("n1") as one, serving("n2") as other:
        one.others, other.others = [other], [one]
        other.records = one.records
        yield one, other


@pytest.fixture
async def seed(nodes):
    async with dyno.connect(nodes[0].address) as client:
        for number in range(BYSTANDERS):
            await client.bucket("b").put(f"key {number}", f"value of key {number}")


def no_trouble(_client, _nodes):
    pass


def late(client, nodes):
    """One node never answers reads, and both are usually quick."""
    for node in nodes[:1]:
        node.answer = lambda request, node=node: None if type(request) is Get else node.answer_truly(request)
    for link in client.runner.session._links._by_address.values():
        link.usual.seconds = 0.01


def overloaded(_client, nodes):
    """One node refuses every other request."""
    node, turn = nodes[0], itertools.count()

    def refuse(request):
        if not hasattr(request, "key") or next(turn) % 2:
            return node.answer_truly(request)
        return Failed(request.id, "overloaded", "too much", 0, "", False, 10, b"")

    node.answer = refuse


def lost(_client, nodes):
    """One node drops its links at the first read."""
    node = nodes[0]

    def drop(request):
        if type(request) is Get:
            node.answer = node.answer_truly
            node.drop_links()
            return None
        return node.answer_truly(request)

    node.answer = drop


def deaf(_client, nodes):
    """Nobody ever answers the one that is cancelled."""

    def answer(node, request):
        if type(request) is AskStatus or getattr(request, "key", b"") == b"victim":
            return None
        return node.answer_truly(request)

    for node in nodes:
        node.answer = partial(answer, node)


def assert_nothing_is_left(client):
    session = client._session
    dispatch = session._dispatch
    assert dispatch.calls == {}
    assert dispatch._waiting == {}
    assert dispatch._saving == {}
    assert not any(dispatch._timers._slots.values())
    assert [
        link.unanswered_bytes for link in session._links._by_address.values() if link.unanswered_bytes
    ] == []
    assert client._runner.out.finished == []


async def settled(client, nodes):
    """Until there is a link to each node, and the table is known."""
    for node in nodes:
        node.answer = node.answer_truly
    with trio.fail_after(5):
        for number in itertools.count():
            if len(client._session._links._by_name) == len(nodes):
                return
            await check(client.bucket("b"), f"key {number % 16}")  # each node is the first to ask for some


@pytest.mark.parametrize("moment", ["await", "before it goes on", "turn"])
@pytest.mark.parametrize("trouble", [no_trouble, late, overloaded, lost, deaf])
@pytest.mark.parametrize("call", CALLS)
async def test_a_call_cancelled_anywhere_leaves_nothing_and_disturbs_nobody(
    nodes, seed, call, trouble, moment
):
    async def victim(client, instrument):
        with trio.CancelScope() as scope:
            instrument.watch(scope)
            try:
                await CALLS[call](client, timeout=0.02 if trouble is deaf else None)
            except dyno.QuorumNotMet as error:
                assert error.indeterminate  # a write whose link was dropped
            except dyno.RequestTimeout:
                assert trouble is deaf
            finally:
                instrument.leave()
        outcomes.append(scope.cancelled_caught)
        under_way = client._session._dispatch.calls.values()
        assert b"victim" not in [getattr(call.request, "key", b"") for call in under_way]

    async def bystander(client, key):
        for _ in range(2):
            record = await check(client.bucket("b"), key)
            assert record.exists

    async with dyno.connect(*(node.address for node in nodes)) as client:
        for count in range(LIMIT):
            await settled(client, nodes)
            trouble(client, nodes)
            outcomes: list[bool] = []
            instrument = CancelAt(moment, count)
            trio.lowlevel.add_instrument(instrument)
            try:
                with trio.fail_after(5):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(bystander, client, "key 0")
                        nursery.start_soon(victim, client, instrument)
                        for number in range(1, BYSTANDERS):
                            nursery.start_soon(bystander, client, f"key {number}")
            finally:
                trio.lowlevel.remove_instrument(instrument)
            assert_nothing_is_left(client)
            await settled(client, nodes)
            await put_new(client.bucket("b"))
            if outcomes == [False]:
                break
        assert 0 < count < LIMIT, "it is through in the end, and not before it was cancelled once"
        assert_nothing_is_left(client)


@pytest.mark.parametrize("moment", ["await", "before it goes on", "turn"])
async def test_opening_cancelled_anywhere_leaves_nothing(nodes, seed, moment):
    for count in range(LIMIT):
        client = dyno.connect(*(node.address for node in nodes))
        instrument = CancelAt(moment, count)
        trio.lowlevel.add_instrument(instrument)
        with trio.CancelScope() as scope:
            instrument.watch(scope)
            try:
                await client.open()
            finally:
                instrument.leave()
                trio.lowlevel.remove_instrument(instrument)
        if not scope.cancelled_caught:
            await check(client.bucket("b"), "key 0")
            await client.aclose()
            break
        if client._runner is not None:
            assert client._runner._done.is_set()
            assert client._runner._links == {}
            assert_nothing_is_left(client)
        with pytest.raises(dyno.InvalidRequest):
            await check(client.bucket("b"), "key 0")
    assert 0 < count < LIMIT


@pytest.mark.parametrize("moment", ["await", "before it goes on", "turn"])
async def test_closing_cancelled_anywhere_closes_all_the_same(nodes, seed, moment):
    async def bystander(client, key):
        with pytest.raises((dyno.InvalidRequest, dyno.ConnectFailed)):
            while True:
                await check(client.bucket("b"), key)
                busy.set()

    for count in range(LIMIT):
        client = await dyno.connect(*(node.address for node in nodes)).open()
        busy = trio.Event()
        instrument = CancelAt(moment, count)
        trio.lowlevel.add_instrument(instrument)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for number in range(BYSTANDERS):
                    nursery.start_soon(bystander, client, f"key {number}")
                await busy.wait()
                with trio.CancelScope() as scope:
                    instrument.watch(scope)
                    try:
                        await client.aclose()
                    finally:
                        instrument.leave()
                        trio.lowlevel.remove_instrument(instrument)
        assert client._runner._done.is_set()
        assert client._runner._links == {}
        assert_nothing_is_left(client)
        if not scope.cancel_called:
            break
    assert 0 < count < LIMIT
