"""The client while nodes die, stop and are started again, with real processes under the load of 32 tasks.

Every task has a key of its own and knows what it may hold: what was acknowledged last, or a later write whose
fate is unknown. It reads, writes and updates in turn. What is expected of every call: no wrong answer, an end
in time, and no error that a retry within the timeout could have avoided.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import dyno

pytestmark = pytest.mark.cluster

TASKS = 32
WITHIN_S = 60.0
SLACK_S = 2.0  # two cores, shared by all of this
BETWEEN_CALLS_S = 0.02  # so that the processes that start have some of the two cores


class Writer:
    """One task's key. excused: whether an error of a write may be; errors of reads never may."""

    def __init__(self, client: dyno.Client, number: int, excused: Callable[[dyno.DynoError], bool]) -> None:
        self.calls = 0
        self.over = False
        self._bucket = client.bucket("load")
        self._key = f"key {number}"
        self._number = number
        self._excused = excused
        self._count = 0
        self._acknowledged = 0
        self._doubtful: set[int] = set()
        self._context = b""
        self._read: list[int] = []  # what the context covers

    async def run(self, timeout: float) -> None:
        while not self.over:
            for call in (self.get, self.put, self.get, self.update):
                began = trio.current_time()
                await call()
                assert trio.current_time() - began < timeout + SLACK_S
                self.calls += 1
                await trio.sleep(BETWEEN_CALLS_S)

    async def get(self) -> None:
        record = await self._bucket.get(self._key)
        self._judge(record.siblings)
        self._context = record.context

    async def put(self) -> None:
        count = self._next()
        try:
            stored = await self._bucket.put(self._key, [self._number, count], context=self._context)
        except dyno.DynoError as error:
            self._failed(error, count)
        else:
            self._done(count, stored.context)

    async def update(self) -> None:
        count, called = self._next(), []

        def change(siblings: list[Any]) -> list[int]:
            self._judge(siblings)
            called.append(True)
            return [self._number, count]

        try:
            record = await self._bucket.update(self._key, change)
        except dyno.DynoError as error:
            assert called, "its read never fails"
            self._failed(error, count)
        else:
            self._done(count, record.context)

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _judge(self, siblings: list[Any]) -> None:
        """What was acknowledged is there, or something later has taken its place; and nothing else is."""
        counts = [count for number, count in siblings if number == self._number]
        assert len(counts) == len(siblings), (self._number, siblings)
        assert set(counts) <= {self._acknowledged, *self._doubtful}, (counts, self._acknowledged)
        assert self._acknowledged == 0 or max(counts, default=0) >= self._acknowledged, (counts, self)
        self._read = counts

    def _done(self, count: int, context: bytes) -> None:
        self._acknowledged, self._context = count, context
        self._doubtful.difference_update(self._read)
        self._read = [count]

    def _failed(self, error: dyno.DynoError, count: int) -> None:
        assert self._excused(error), repr(error)
        self._doubtful.add(count)


class Load:
    """All writers."""

    def __init__(self, client: dyno.Client, excused: Callable[[dyno.DynoError], bool]) -> None:
        self.client = client
        self.writers = [Writer(client, number, excused) for number in range(TASKS)]

    async def goes_on(self, calls: int) -> None:
        """Until everybody has made so many calls more."""
        wanted = [writer.calls + calls for writer in self.writers]
        with trio.fail_after(WITHIN_S):
            while any(writer.calls < want for writer, want in zip(self.writers, wanted, strict=True)):
                await trio.sleep(BETWEEN_CALLS_S)

    async def check(self) -> None:
        for writer in self.writers:
            await writer.get()


@asynccontextmanager
async def load_on(
    cluster: Any, *, timeout: float, excused: Callable[[dyno.DynoError], bool]
) -> AsyncIterator[Load]:
    async with dyno.connect(*cluster.addresses, timeout=timeout) as client:
        load = Load(client, excused)
        async with trio.open_nursery() as nursery:
            for writer in load.writers:
                nursery.start_soon(writer.run, timeout)
            await load.goes_on(4)
            yield load
            for writer in load.writers:
                writer.over = True
        await load.check()


@pytest.fixture
def continued(three: Any) -> Iterator[Any]:
    """The three, none of which is left stopped."""
    try:
        yield three
    finally:
        for node in three.nodes:
            node.signal(signal.SIGCONT)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_nodes_end(three: Any, how: str) -> None:
    ended = three.nodes[1]

    def excused(error: dyno.DynoError) -> bool:
        """The link with the write on it broke."""
        return isinstance(error, dyno.QuorumNotMet) and error.indeterminate and ended.address in str(error)

    async with load_on(three, timeout=5, excused=excused) as load:
        await trio.to_thread.run_sync(getattr(ended, how))
        await load.goes_on(20)
        await trio.to_thread.run_sync(ended.start)
        await load.goes_on(20)


async def test_a_stopped_node_that_goes_on_later(continued: Any) -> None:
    stopped = continued.nodes[1]

    def excused(error: dyno.DynoError) -> bool:
        """The node was silent, or given up for it."""
        may_be = isinstance(error, dyno.QuorumNotMet | dyno.RequestTimeout) and error.indeterminate
        return may_be and stopped.address in str(error)

    async with load_on(continued, timeout=3, excused=excused) as load:
        stopped.signal(signal.SIGSTOP)
        await load.goes_on(20)
        stopped.signal(signal.SIGCONT)
        await load.goes_on(20)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_of_the_whole_cluster(three: Any, how: str) -> None:
    def excused(error: dyno.DynoError) -> bool:
        """It was sent, and what became of it nobody can tell."""
        return isinstance(error, dyno.QuorumNotMet) and error.indeterminate

    async with load_on(three, timeout=30, excused=excused) as load:
        for node in three.nodes:
            await trio.to_thread.run_sync(getattr(node, how))
        await trio.to_thread.run_sync(three.start)
        await load.goes_on(8)
