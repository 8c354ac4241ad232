"""Every node is stopped and started in turn under load, as for an upgrade: no operation of a client fails."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

import pytest
import trio

import dyno

if TYPE_CHECKING:
    from tests.cluster.conftest import NodeProcess, Processes

pytestmark = pytest.mark.cluster

USERS = 6
KEYS = 40  # of each user
STEADY = 200  # operations of each user between two stops


class User:
    """Writes, reads and deletes, one operation after the other, as fast as they are answered, and knows
    what has to be there. Nobody else touches its keys, so what it reads strictly is what it wrote last."""

    def __init__(self, number: int, client: dyno.Client, *, sloppy: bool) -> None:
        self._bucket = client.bucket("plain")
        self._keys = [f"user{number}-{key}" for key in range(KEYS)]
        self._sloppy = sloppy
        self._steps = 0
        self.kept: dict[str, int | None] = dict.fromkeys(self._keys)
        self.at = self._keys[0]  # the key of the present operation
        self.done: collections.Counter[str] = collections.Counter()

    async def run(self) -> None:
        while True:
            await self._step()

    async def _step(self) -> None:
        self._steps += 1
        step = self._steps
        key = self.at = self._keys[step % KEYS]
        match step // KEYS % 4:
            case 0:
                context = (await self._bucket.get(key, sloppy=self._sloppy)).context
                await self._bucket.put(key, step, context=context, sloppy=self._sloppy)
                self.kept[key] = step
                self.done["put"] += 1
            case 1:
                record = await self._bucket.get(key, sloppy=False)
                assert record.siblings == ([] if self.kept[key] is None else [self.kept[key]])
                self.done["get"] += 1
            case 2:
                found = await self._bucket.get_many(self._keys, sloppy=self._sloppy)
                assert [record.error for record in found.values()] == [None] * KEYS
                self.done["get_many"] += 1
            case _:
                if step % 2:
                    await self._bucket.delete(key, sloppy=self._sloppy)
                    self.kept[key] = None
                    self.done["delete"] += 1


async def all_see_all(nodes: list[NodeProcess]) -> None:
    with trio.fail_after(60):
        for node in nodes:
            alive = 0
            while alive < len(nodes):
                async with dyno.connect(node.address, timeout=10) as client:
                    members = (await client.status())["members"]
                alive = sum(member["liveness"] == "alive" for member in members)
                await trio.sleep(0.05)


async def steadily(users: list[User]) -> None:
    """All of them get so much further."""
    before = [user.done.total() for user in users]
    with trio.fail_after(60):
        while any(user.done.total() < was + STEADY for user, was in zip(users, before, strict=True)):
            await trio.sleep(0.05)


@pytest.mark.parametrize("sloppy", [True, False], ids=["sloppy", "strict"])
async def test_nothing_fails_while_all_nodes_are_restarted_in_turn(three: Processes, sloppy: bool) -> None:
    await all_see_all(three.nodes)
    async with dyno.connect(*three.addresses) as client:
        users = [User(number, client, sloppy=sloppy) for number in range(USERS)]
        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(user.run)
            for node in three.nodes:
                await steadily(users)
                assert await trio.to_thread.run_sync(node.stop) == 0
                await steadily(users)  # with one away
                await trio.to_thread.run_sync(node.start)
                await all_see_all(three.nodes)
            await steadily(users)
            nursery.cancel_scope.cancel()
    async with dyno.connect(three.addresses[0]) as client:
        bucket = client.bucket("plain")
        for user in users:
            found = await bucket.get_many(user.kept, sloppy=False)
            del found[user.at]  # interrupted, and done or not
            for key, record in found.items():
                assert record.siblings == ([] if user.kept[key] is None else [user.kept[key]])
    assert all(node.stop() == 0 for node in three.nodes)
