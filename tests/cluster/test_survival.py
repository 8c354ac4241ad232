"""What the store promises, with real processes: kill -9 loses nothing that was acknowledged, siblings are
kept apart, and a cluster goes on while one of three is away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

import dyno

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.cluster


async def liveness_when(client: dyno.Client, name: str, wanted: str, within_s: float = 20) -> None:
    with trio.fail_after(within_s):
        while True:
            members = (await client.status())["members"]
            if {member["name"]: member["liveness"] for member in members}[name] == wanted:
                return
            await trio.sleep(0.1)


async def test_one_of_three_is_killed_and_comes_back(three: Any) -> None:
    async with dyno.connect(*three.addresses) as client:
        bucket = client.bucket("b")
        for number in range(50):
            await bucket.put(f"before{number}", number, w=3)
        three.nodes[2].kill()
        for number in range(50):
            await bucket.put(f"during{number}", number)
            assert (await bucket.get(f"before{number}")).value == number
            assert (await bucket.get(f"during{number}")).value == number
        await liveness_when(client, "n3", "dead")
        three.nodes[2].start()
        await liveness_when(client, "n3", "alive")
    async with dyno.connect(three.nodes[2].address) as client:
        for number in range(50):
            assert (await client.bucket("b").get(f"before{number}", r=3)).value == number
            assert (await client.bucket("b").get(f"during{number}", r=3)).value == number


async def test_kill_9_of_all_under_load_loses_no_acknowledged_write(three: Any) -> None:
    acknowledged: dict[str, int] = {}
    contexts: dict[str, bytes] = {}
    enough = trio.Event()

    async def writer(client: dyno.Client, number: int) -> None:
        bucket = client.bucket("load")
        key = f"key{number}"
        for value in range(1_000_000):
            try:
                stored = await bucket.put(key, value, context=contexts.get(key))
            except dyno.DynoError:
                return  # the cluster is gone
            acknowledged[key], contexts[key] = value, stored.context
            if sum(acknowledged.values()) > 2000:
                enough.set()

    async with dyno.connect(*three.addresses, timeout=2) as client, trio.open_nursery() as nursery:
        for number in range(32):
            nursery.start_soon(writer, client, number)
        with trio.fail_after(60):
            await enough.wait()
        three.kill()
    assert len(acknowledged) == 32

    three.start()
    async with dyno.connect(*three.addresses, timeout=10) as client:
        bucket = client.bucket("load")
        for key, value in acknowledged.items():
            # The last acknowledged value, or the one whose answer never arrived: it had read this one.
            (found,) = (await bucket.get(key)).siblings
            assert found in (value, value + 1)


async def test_two_blind_writes_leave_two_siblings_that_their_context_resolves(three: Any) -> None:
    async with dyno.connect(three.addresses[0]) as one, dyno.connect(three.addresses[1]) as other:
        await one.bucket("b").put("k", "mine")
        await other.bucket("b").put("k", "yours")
        record = await one.bucket("b").get("k")
        assert sorted(record.siblings) == ["mine", "yours"]
        with pytest.raises(dyno.ConflictError) as caught:
            _ = record.value
        assert sorted(caught.value.siblings) == ["mine", "yours"]
        await one.bucket("b").put("k", "ours", context=record.context)
        assert (await other.bucket("b").get("k", r=3)).value == "ours"


async def test_a_hundred_rounds_of_two_writers_leave_two_siblings(three: Any) -> None:
    """Riak's sibling explosion: each passes the context of its own last put, and never reads."""
    async with dyno.connect(three.addresses[0]) as one, dyno.connect(three.addresses[2]) as other:
        buckets = [one.bucket("b"), other.bucket("b")]
        contexts = [b"", b""]
        for number in range(100):
            for side in (0, 1):
                stored = await buckets[side].put("k", f"{side}:{number}", context=contexts[side])
                contexts[side] = stored.context
        assert sorted((await one.bucket("b").get("k", r=3)).siblings) == ["0:99", "1:99"]


async def test_the_causality_vectors(three: Any) -> None:
    """SCENARIOS 3 to 7, where the coordinator is whichever primary the client reached."""
    async with dyno.connect(*three.addresses) as client:
        bucket = client.bucket("vectors")
        first = await bucket.put("k", "v1")
        second = await bucket.put("k", "v2", context=first.context)
        await bucket.put("k", "v3", context=second.context)
        assert (await bucket.get("k", r=3)).siblings == ["v3"]
        await bucket.put("k", "v4", context=second.context)
        assert sorted((await bucket.get("k", r=3)).siblings) == ["v3", "v4"]

        ours = await bucket.put("l", "A1")
        await bucket.put("l", "B1")
        ours = await bucket.put("l", "A2", context=ours.context)
        await bucket.put("l", "A3", context=ours.context)
        assert sorted((await bucket.get("l", r=3)).siblings) == ["A3", "B1"]


async def test_a_context_of_another_key_is_refused(three: Any) -> None:
    async with dyno.connect(three.addresses[0]) as client:
        stored = await client.bucket("b").put("one", 1)
        refusals: list[Callable[[], Any]] = [
            lambda: client.bucket("b").put("other", 2, context=stored.context),
            lambda: client.bucket("c").put("one", 2, context=stored.context),
            lambda: client.bucket("b").put("one", 2, context=stored.context[:-1]),
        ]
        for refused in refusals:
            with pytest.raises(dyno.InvalidRequest):
                await refused()
        assert (await client.bucket("b").get("one")).value == 1


async def test_update_from_many_sides_loses_no_increment(three: Any) -> None:
    async def count(address: str) -> None:
        async with dyno.connect(address, timeout=30) as client:
            for _ in range(10):
                await client.bucket("b").update("n", lambda siblings: max(siblings, default=0) + 1)

    async with trio.open_nursery() as nursery:
        for address in three.addresses[:1] * 4:
            nursery.start_soon(count, address)
    async with dyno.connect(three.addresses[0]) as client:
        assert (await client.bucket("b").get("n", r=3)).value == 40


async def test_batches_go_on_while_one_of_three_is_killed(three: Any) -> None:
    values = {f"key{number}": number for number in range(1000)}
    async with dyno.connect(*three.addresses, timeout=10) as client:
        bucket = client.bucket("many")
        results = await bucket.put_many(values, w=3)
        assert [result.error for result in results.values()] == [None] * 1000
        three.nodes[2].kill()
        for _ in range(5):
            records = await bucket.get_many(values)
            assert {key: record.value for key, record in records.items()} == values
        contexts = {key: record.context for key, record in records.items()}
        later = {key: -value for key, value in values.items()}
        results = await bucket.put_many(later, contexts=contexts)
        done = [key for key, result in results.items() if result.error is None]
        assert len(done) == 1000
        three.nodes[2].start()
        await liveness_when(client, "n3", "alive")
        records = await bucket.get_many(later, r=3)
        assert {key: record.value for key, record in records.items()} == later
