"""Listing thousands of keys of real nodes, some of which die, freeze and come back meanwhile."""

from __future__ import annotations

import signal
import sys
from typing import Any

import pytest
import trio

import dyno

pytestmark = pytest.mark.cluster

COUNT = 3000
WRITERS = 50


async def each(keys: list[str], action: Any) -> None:
    """Do something to every key, many at once."""

    async def work(share: list[str]) -> None:
        for key in share:
            await action(key)

    async with trio.open_nursery() as nursery:
        for number in range(WRITERS):
            nursery.start_soon(work, keys[number::WRITERS])


async def listed(bucket: dyno.Bucket) -> list[str | bytes]:
    keys = bucket.keys()
    return [key async for key in keys]


async def test_every_key_is_listed_once_while_nodes_die_and_come_back(three: Any) -> None:
    keys = [f"key {number}" for number in range(COUNT)]
    deleted, kept = keys[::2], keys[1::2]
    async with dyno.connect(*three.addresses, timeout=20) as client:
        bucket = client.bucket("many")
        await each(keys, lambda key: bucket.put(key, 1))
        assert sorted(map(str, await listed(bucket))) == sorted(keys)
        words = [sys.executable, "-m", "dyno", "keys", "many", "--node", three.addresses[1]]
        ended = await trio.run_process(words, capture_stdout=True, capture_stderr=True)
        assert (sorted(ended.stdout.decode().splitlines()), ended.stderr) == (sorted(keys), b"")

        # one is killed in the middle of it
        found = []
        async for key in bucket.keys():
            found.append(key)
            if len(found) == COUNT // 4:
                three.nodes[2].kill()
        assert sorted(map(str, found)) == sorted(keys)

        # which misses what is deleted now
        await each(deleted, bucket.delete)
        assert sorted(map(str, await listed(bucket))) == sorted(kept)
        three.nodes[2].start()

        # another one freezes in the middle of it; the one that missed so much has to answer now
        found = []
        async for key in bucket.keys():
            found.append(key)
            if len(found) == COUNT // 4:
                three.nodes[0].signal(signal.SIGSTOP)
        assert sorted(map(str, found)) == sorted(kept)
        three.nodes[0].signal(signal.SIGCONT)
