"""A running node whose disk does a thousand operations a second, and is asked for thousands at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import trio

from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import DEFAULT, Done, Failed, Found, Get, Message, Put

A_GET = Get(1, "bucket", b"key", DEFAULT, DEFAULT, 60_000, False)


class Disk(MemoryEngine):
    """Each record of a commit, and each read, takes its time, in which others may run."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds_per_record = 0.0
        self.seconds_per_read = 0.0

    def get(self, key: bytes) -> bytes | None:
        if self.seconds_per_read:
            time.sleep(self.seconds_per_read)
        return super().get(key)

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        time.sleep(self.seconds_per_record * len(writes))
        return super().write_batch(writes, meta)


def puts(first: int, count: int) -> list[Put]:
    return [
        Put(number, "bucket", b"%d" % number, b"v", b"", False, DEFAULT, DEFAULT, b"r" * 16, 60_000, False)
        for number in range(first, first + count)
    ]


async def answers(peer: Any, *requests: Message) -> list[Message]:
    """One for each, in the order in which they came."""
    heard: list[Message] = []

    async def listen() -> None:
        while len(heard) < len(requests):
            heard.append(await peer.hear())

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await peer.send(*requests)
    return heard


def refused(heard: list[Message]) -> list[int]:
    """The places of the refusals among all answers."""
    places = [place for place, answer in enumerate(heard) if isinstance(answer, Failed)]
    assert all(heard[place].code == "overloaded" for place in places)  # type: ignore[union-attr]
    return places


async def test_writes_that_would_wait_too_long_are_refused_before_the_others_are_done(
    running: Any, peer_of: Any
) -> None:
    disk = Disk()
    async with running(disk) as (_, address):
        peer = await peer_of(address)
        disk.seconds_per_record = 0.001
        assert len(refused(await answers(peer, *puts(0, 200)))) == 0
        for first in (1000, 10_000):
            heard = await answers(peer, *puts(first, 5000))
            places = refused(heard)
            assert 2000 < len(places) < 5000
            assert not isinstance(heard[-1], Failed)
            assert places[len(places) // 2] < 4000
        disk.seconds_per_record = 0.0
        assert isinstance((await answers(peer, *puts(20_000, 1)))[0], Done)


async def test_reads_that_would_wait_too_long_are_refused_and_others_are_served_meanwhile(
    running: Any, peer_of: Any
) -> None:
    disk = Disk()
    async with running(disk) as (_, address):
        peer, other = await peer_of(address), await peer_of(address)
        disk.seconds_per_read = 0.002
        for _ in range(10):
            await answers(peer, *[A_GET] * 10)  # and now it is known to be cold
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.members)
            heard = await answers(peer, *[A_GET] * 3000)
        assert 1000 < len(refused(heard)) < 3000
        disk.seconds_per_read = 0.0
        assert isinstance((await answers(peer, A_GET))[0], Found)
