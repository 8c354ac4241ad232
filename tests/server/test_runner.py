"""The loop of a node, on disks that are slow or broken."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio

from dyno.errors import StorageFailed
from dyno.placement.hashing import SLOT_BYTES
from dyno.storage.engine import StorageBroken
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import (
    DEFAULT,
    Done,
    Failed,
    Found,
    FoundMany,
    Get,
    GetMany,
    Listed,
    ListKeys,
    Message,
    Put,
    Read,
    ReadMany,
    Scan,
    Store,
)
from dyno.wire.pages import pack_keys
from dyno.wire.rows import pack_row

A_GET = Get(1, "bucket", b"key", DEFAULT, DEFAULT, 5000, False)
A_LISTING = ListKeys(3, "bucket", 0, b"", 9, DEFAULT, DEFAULT, 5000, False)
PARTITIONS = 64
A_PUT = Put(2, "bucket", b"key", b"\x01", b"", False, DEFAULT, DEFAULT, b"r" * 16, 5000, False)


class Disk(MemoryEngine):
    """Whose reads can take a while, or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds_per_read = 0.0
        self.broken = False

    def get(self, key: bytes) -> bytes | None:
        if self.broken:
            raise StorageBroken("input/output error")
        time.sleep(self.seconds_per_read)
        return super().get(key)


async def ask(peer: Any, *requests: Message) -> Message:
    await peer.send(*requests)
    return await peer.hear()


async def made_cold(disk: Disk, peer: Any) -> None:
    disk.seconds_per_read = 0.005
    for _ in range(10):
        assert isinstance(await ask(peer, A_GET), Found)


async def test_a_cold_disk_answers_as_a_warm_one_does(running: Any, peer_of: Any) -> None:
    disk = Disk()
    async with running(disk) as (_, address):
        peer = await peer_of(address)
        await made_cold(disk, peer)
        assert isinstance(await ask(peer, A_PUT), Done)
        found = await ask(peer, A_GET)
        assert isinstance(found, Found)
        assert found.record
        pages = [await ask(peer, A_LISTING._replace(partition=number)) for number in range(PARTITIONS)]
        assert [page.keys for page in pages if isinstance(page, Listed) and page.keys] == [
            pack_keys([b"key"])
        ]
        keys = pack_row([b"missing", b"key", b"key"])
        many = await ask(peer, GetMany(3, "bucket", keys, DEFAULT, DEFAULT, 5000))
        assert isinstance(many, FoundMany)
        assert many.records == pack_row([b"", found.record, found.record])


@pytest.mark.parametrize(
    "nonsense",
    [
        Read(1, 1, b""),
        Read(1, 1, b"s" * 600),
        Store(1, 1, b"", b"key", b""),
        Store(1, 1, b"s" * 600, b"key", b""),
        Store(1, 1, b"s" * SLOT_BYTES, b"", b""),
        Store(1, 1, b"s" * SLOT_BYTES, b"k" * 1025, b""),
        Scan(1, 1, b"p", b"", 1),
        Scan(1, 1, b"p" * 11, b"", 0),
        ReadMany(1, 1, b""),
        ReadMany(1, 1, b"s" * (SLOT_BYTES + 1)),
        ReadMany(1, 1, b"s" * SLOT_BYTES * 4097),
        GetMany(1, "bucket", b"", DEFAULT, DEFAULT, 5000),
        GetMany(1, "bucket", pack_row([None]), DEFAULT, DEFAULT, 5000),
    ],
    ids=lambda nonsense: repr(nonsense)[:60],
)
async def test_nonsense_while_the_disk_is_cold_closes_its_link_alone(
    running: Any, peer_of: Any, nonsense: Message
) -> None:
    disk = Disk()
    async with running(disk) as (_, address):
        peer, other = await peer_of(address), await peer_of(address)
        await made_cold(disk, other)
        with pytest.raises(EOFError):
            await ask(peer, nonsense)
        assert isinstance(await ask(other, A_GET), Found)


async def test_a_disk_that_cannot_be_read_ends_the_node_in_plain_words(running: Any, peer_of: Any) -> None:
    disk = Disk()
    with pytest.raises(ExceptionGroup) as caught:
        async with running(disk) as (_, address):
            peer = await peer_of(address)
            disk.broken = True
            await peer.send(A_GET)
            await trio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, StorageFailed)
    assert "input/output error" in str(error)


async def test_a_commit_that_fails_with_room_left_ends_the_node_without_a_word(
    running: Any, peer_of: Any
) -> None:
    """It may be on the disk all the same: nobody may be told that it was not done."""
    disk = Disk()
    with pytest.raises(ExceptionGroup) as caught:
        async with running(disk) as (_, address):
            peer = await peer_of(address)
            disk.failing = True
            await peer.send(A_PUT)
            await trio.sleep_forever()
    (error,) = caught.value.exceptions
    assert isinstance(error, StorageFailed)
    assert "the commit failed" in str(error)
    with pytest.raises((EOFError, trio.BrokenResourceError)):
        await peer.hear()


async def test_a_full_disk_refuses_writes_serves_reads_and_recovers(running: Any, peer_of: Any) -> None:
    disk = Disk()
    async with running(disk) as (_, address):
        peer = await peer_of(address)
        disk.full = True
        for _ in range(3):
            failed = await ask(peer, A_PUT)
            assert isinstance(failed, Failed)
            assert failed.code == "storage"
        found = await ask(peer, A_GET)
        assert isinstance(found, Found)
        assert not found.record
        disk.full = False
        with trio.fail_after(5):
            while not isinstance(await ask(peer, A_PUT), Done):
                pass
