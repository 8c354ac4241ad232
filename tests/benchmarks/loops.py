"""One closed loop of concurrent callers against running servers, in a process of its own.

    python tests/benchmarks/loops.py dyno get --at 127.0.0.1:7101 --outstanding 64 --seconds 3
    python tests/benchmarks/loops.py redis put --at 127.0.0.1:6379 --no-hiredis

Prints one JSON object: operations per second, the median and 99th percentile of their latency in ms, and the
client's own CPU per operation in µs (user and system time of the measured part over its operations). For
`batch` an operation is one key: batches of 100 keys, by `get_many` and by a pipeline of GETs.

Both sides run the same loop: every caller owns a share of the keys, draws one of them, waits for the
operation, draws the next. A dyno put carries the context of the put before it, as a caller who knows what it
overwrites does. A Redis put is SET and WAIT 1 in one pipeline, the fastest way, or with --separate-wait one
after the other; with appendfsync always it is then on the master's disk and in the memory of a replica.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

KEYS = 10_000
BATCH = 100
WAIT_MS = 5000
WARM_UP_S = 0.5

Operation = Callable[[list[str]], Awaitable[None]]  # one turn of a caller, given keys of its own


class Counter:
    """What the callers of one loop did. weight: operations in a turn."""

    def __init__(self, *, seconds: float, weight: int) -> None:
        self._seconds = seconds
        self._weight = weight
        self.latencies: list[float] = []

    async def caller(self, number: int, outstanding: int, operation: Operation) -> None:
        mine = [f"key{key}" for key in range(number, KEYS, outstanding)]
        sample = random.Random(number).choices
        count = 1 if self._weight == 1 else self._weight
        clock, end, note = time.perf_counter, self._end, self.latencies.append
        began = clock()
        while began < end:
            await operation(sample(mine, k=count))
            now = clock()
            note(now - began)
            began = now

    def start(self) -> None:
        self.latencies.clear()
        self._began = time.perf_counter()
        self._end = self._began + self._seconds
        self._cpu = time.process_time()

    def result(self) -> dict[str, float]:
        took = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        operations = len(self.latencies) * self._weight
        return {
            "ops_per_s": operations / took,
            "cpu_us": cpu / operations * 1e6,
            "p50_ms": statistics.median(self.latencies) * 1e3,
            "p99_ms": statistics.quantiles(self.latencies, n=100)[98] * 1e3,
        }


def run_dyno(what: str, addresses: list[str], options: argparse.Namespace) -> dict[str, float]:
    import trio

    import dyno

    value = os.urandom(options.value_bytes)
    contexts: dict[str, bytes] = {}

    async def loop(counter: Counter, operation: Operation) -> dict[str, float]:
        counter.start()
        async with trio.open_nursery() as nursery:
            for number in range(options.outstanding):
                nursery.start_soon(counter.caller, number, options.outstanding, operation)
        return counter.result()

    async def main() -> dict[str, float]:
        async with dyno.connect(*addresses, timeout=30) as client:
            bucket = client.bucket("bench")

            async def get(keys: list[str]) -> None:
                await bucket.get(keys[0])

            async def put(keys: list[str]) -> None:
                key = keys[0]
                contexts[key] = (await bucket.put(key, value, context=contexts.get(key))).context

            async def mixed(keys: list[str]) -> None:
                await (get if chance() < 0.5 else put)(keys)

            async def batch(keys: list[str]) -> None:
                await bucket.get_many(keys)

            async def load(keys: list[str]) -> None:
                key = keys[0]
                record = await bucket.get(key)
                contexts[key] = record.context
                if not record.exists:
                    contexts[key] = (await bucket.put(key, value)).context

            async with trio.open_nursery() as nursery:
                for number in range(64):
                    nursery.start_soon(each, load, [f"key{key}" for key in range(number, KEYS, 64)])
            operation = {"get": get, "put": put, "mixed": mixed, "batch": batch}[what]
            weight = BATCH if what == "batch" else 1
            await loop(Counter(seconds=WARM_UP_S, weight=weight), operation)
            return await loop(Counter(seconds=options.seconds, weight=weight), operation)

    chance = random.Random(0).random
    return trio.run(main)


def run_redis(what: str, addresses: list[str], options: argparse.Namespace) -> dict[str, float]:
    import asyncio

    import redis.asyncio

    value = os.urandom(options.value_bytes)
    host, _, port = addresses[0].rpartition(":")

    async def loop(counter: Counter, operation: Operation) -> dict[str, float]:
        counter.start()
        callers = [
            counter.caller(number, options.outstanding, operation) for number in range(options.outstanding)
        ]
        await asyncio.gather(*callers)
        return counter.result()

    async def main() -> dict[str, float]:
        connections = max(options.outstanding, 64)
        async with redis.asyncio.Redis(host=host, port=int(port), max_connections=connections) as client:

            async def get(keys: list[str]) -> None:
                await client.get(keys[0])

            async def put_and_wait(keys: list[str]) -> None:
                """As a user writes it: WAIT tells of the writes of its own connection, so it needs one."""
                async with client.client() as connection:
                    await connection.set(keys[0], value)
                    copies = await connection.wait(1, WAIT_MS)
                if copies < 1:
                    raise SystemExit(f"redis did not replicate a put: {copies} copies")

            async def put(keys: list[str]) -> None:
                if options.separate_wait:
                    await put_and_wait(keys)
                    return
                pipeline = client.pipeline(transaction=False)
                pipeline.set(keys[0], value)
                pipeline.execute_command("WAIT", 1, WAIT_MS)
                stored, copies = await pipeline.execute()
                if not stored or copies < 1:
                    raise SystemExit(f"redis did not replicate a put: {copies} copies")

            async def mixed(keys: list[str]) -> None:
                await (get if chance() < 0.5 else put)(keys)

            async def batch(keys: list[str]) -> None:
                pipeline = client.pipeline(transaction=False)
                for key in keys:
                    pipeline.get(key)
                await pipeline.execute()

            async def load(keys: list[str]) -> None:
                if not await client.exists(keys[0]):
                    await client.set(keys[0], value)

            await asyncio.gather(
                *(each(load, [f"key{key}" for key in range(number, KEYS, 64)]) for number in range(64))
            )
            operation = {"get": get, "put": put, "mixed": mixed, "batch": batch}[what]
            weight = BATCH if what == "batch" else 1
            await loop(Counter(seconds=WARM_UP_S, weight=weight), operation)
            return await loop(Counter(seconds=options.seconds, weight=weight), operation)

    chance = random.Random(0).random
    return asyncio.run(main())


async def each(operation: Operation, keys: list[str]) -> None:
    for key in keys:
        await operation([key])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", choices=["dyno", "redis"])
    parser.add_argument("what", choices=["get", "put", "mixed", "batch"])
    parser.add_argument("--at", action="append", required=True, metavar="HOST:PORT")
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--separate-wait", action="store_true", help="redis: WAIT after SET has returned")
    parser.add_argument("--no-hiredis", action="store_true", help="redis-py with its parser in Python")
    options = parser.parse_args()
    if options.no_hiredis:
        sys.modules["hiredis"] = None  # type: ignore[assignment]  # so that importing it fails
    run: dict[str, Any] = {"dyno": run_dyno, "redis": run_redis}
    print(json.dumps(run[options.store](options.what, options.at, options)))


if __name__ == "__main__":
    main()
