"""Buckets of their own properties, with real processes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import dyno

pytestmark = pytest.mark.cluster

THIN = {"n": 2, "r": 1, "w": "all", "kind": "siblings"}


async def read_when_linked(bucket: dyno.Bucket) -> Any:
    """A node that owns no copy passes the read on, which it can as soon as it has links to those that do."""
    with trio.fail_after(20):
        while True:
            try:
                return (await bucket.get("key", r="all")).value
            except dyno.QuorumNotMet:
                await trio.sleep(0.05)


async def test_a_created_bucket_outlives_kill_9_of_all(three: Any) -> None:
    async with dyno.connect(*three.addresses, timeout=20) as client:
        assert await client.create_bucket("thin", n=2, r=1, w="all") == THIN
        stored = await client.bucket("thin").put("key", 1)
        assert len(stored.replicas.answered) == 2
    three.kill()
    for node in three.nodes:
        node.launch()
    for node in three.nodes:
        node.wait_ready()
    for address in three.addresses:
        async with dyno.connect(address, timeout=20) as client:
            assert await client.buckets() == {"thin": THIN}
            assert await read_when_linked(client.bucket("thin")) == 1
            with pytest.raises(dyno.InvalidRequest, match="'thin' was created with n=2"):
                await client.create_bucket("thin", n=3)


async def test_creating_while_others_write_and_while_a_member_is_away(three: Any) -> None:
    async with dyno.connect(*three.addresses, timeout=20) as client:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(client.bucket("plain").put, f"key{number}", number)
                nursery.start_soon(client.bucket(f"bucket{number}").put, "key", number)
            for _ in range(3):
                nursery.start_soon(client.create_bucket, "thin")
        with pytest.raises(dyno.InvalidRequest, match="'plain' holds data"):
            await client.create_bucket("plain", n=2)
        three.nodes[2].kill()
        with pytest.raises(dyno.QuorumNotMet) as caught:
            await client.create_bucket("late", n=2)
        assert not caught.value.indeterminate
        for number in range(20):
            assert (await client.bucket("plain").get(f"key{number}")).value == number
        three.nodes[2].start()
        assert (await client.create_bucket("late", n=2))["n"] == 2
        assert list(await client.buckets()) == ["late", "thin"]
