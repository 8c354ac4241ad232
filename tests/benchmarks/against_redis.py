"""Compare dyno with redis-py asyncio, side by side in one run.

    python tests/benchmarks/against_redis.py [--seconds 3] [--rounds 3] [--outstanding 64]
                                             [--value-bytes 1000]

Starts three dyno nodes (N=3, R=W=2, every write fsynced on W of them) and, where redis-server and the
redis package are installed, one Redis master without replicas and without persistence, all on loopback.
The same closed loop of `outstanding` concurrent callers runs from one Python process against both in turn,
and the medians over the rounds are printed with their ratio. Exits 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import trio

import dyno

KEYS = 2000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def process(*command: str, ready: str, said_on: str = "stdout") -> Iterator[subprocess.Popen[str]]:
    """A child that has said the line that means ready; ended by its own id."""
    child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert child.stdout is not None
        for line in child.stdout:
            if ready in line:
                break
        else:
            raise SystemExit(f"{command[0]} ended before it was ready")
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(10)


@contextlib.contextmanager
def dyno_cluster(directory: Path) -> Iterator[list[str]]:
    addresses: list[str] = []
    with contextlib.ExitStack() as stack:
        for number in range(1, 4):
            address = f"127.0.0.1:{free_port()}"
            command = [sys.executable, "-m", "dyno", "node", "--name", f"n{number}", "--listen", address]
            command += ["--data", str(directory / f"n{number}")]
            for known in addresses:
                command += ["--join", known]
            stack.enter_context(process(*command, ready="ready on"))
            addresses.append(address)
        yield addresses


@contextlib.contextmanager
def redis_master() -> Iterator[int]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"]
    with process(*command, ready="eady to accept connections"):
        yield port


def dyno_rates(addresses: list[str], *, outstanding: int, seconds: float, value: bytes) -> dict[str, float]:
    async def main() -> dict[str, float]:
        async with dyno.connect(*addresses) as client:
            bucket = client.bucket("bench")
            contexts: dict[str, bytes] = {}
            for number in range(KEYS):
                key = f"key{number}"
                contexts[key] = (await bucket.get(key)).context

            async def put(key: str) -> None:
                contexts[key] = (await bucket.put(key, value, context=contexts[key])).context

            async def get(key: str) -> None:
                await bucket.get(key)

            await trio_loop(put, outstanding=outstanding, seconds=0.5)
            return {
                "put": await trio_loop(put, outstanding=outstanding, seconds=seconds),
                "get": await trio_loop(get, outstanding=outstanding, seconds=seconds),
            }

    return trio.run(main)


async def trio_loop(operation: Callable, *, outstanding: int, seconds: float) -> float:
    """Operations per second of `outstanding` callers, each with its own share of the keys."""
    counts = [0] * outstanding
    started = time.perf_counter()
    end = started + seconds

    async def caller(number: int) -> None:
        mine = [f"key{key}" for key in range(number, KEYS, outstanding)]
        pick = random.Random(number).choice
        while time.perf_counter() < end:
            await operation(pick(mine))
            counts[number] += 1

    async with trio.open_nursery() as nursery:
        for number in range(outstanding):
            nursery.start_soon(caller, number)
    return sum(counts) / (time.perf_counter() - started)


def redis_rates(port: int, *, outstanding: int, seconds: float, value: bytes) -> dict[str, float]:
    import redis.asyncio

    async def loop(operation: Callable, seconds: float) -> float:
        counts = [0] * outstanding
        started = time.perf_counter()
        end = started + seconds

        async def caller(number: int) -> None:
            mine = [f"key{key}" for key in range(number, KEYS, outstanding)]
            pick = random.Random(number).choice
            while time.perf_counter() < end:
                await operation(pick(mine))
                counts[number] += 1

        await asyncio.gather(*(caller(number) for number in range(outstanding)))
        return sum(counts) / (time.perf_counter() - started)

    async def main() -> dict[str, float]:
        async with redis.asyncio.Redis(port=port, max_connections=outstanding) as client:
            for number in range(KEYS):
                await client.set(f"key{number}", value)
            return {"get": await loop(client.get, seconds)}

    return asyncio.run(main())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--value-bytes", type=int, default=1000)
    options = parser.parse_args()
    value = os.urandom(options.value_bytes)
    loop = {"outstanding": options.outstanding, "seconds": options.seconds, "value": value}
    has_redis = shutil.which("redis-server") and importlib.util.find_spec("redis")
    if not has_redis:
        print("redis-server or the redis package is not installed: dyno alone")
    ours: dict[str, list[float]] = {"get": [], "put": []}
    theirs: dict[str, list[float]] = {"get": []}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        addresses = stack.enter_context(dyno_cluster(directory))
        port = stack.enter_context(redis_master()) if has_redis else 0
        for number in range(options.rounds):
            for name, rate in dyno_rates(addresses, **loop).items():
                ours[name].append(rate)
            if port:
                for name, rate in redis_rates(port, **loop).items():
                    theirs[name].append(rate)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    print(f"{options.outstanding} outstanding, {options.value_bytes} byte values, median of {options.rounds}")
    for name, rates in ours.items():
        line = f"dyno {name:4} {statistics.median(rates):9,.0f}/s"
        if theirs.get(name):
            median = statistics.median(theirs[name])
            line += (
                f"   redis-py asyncio {name} {median:9,.0f}/s   ratio {statistics.median(rates) / median:.2f}"
            )
        print(line)


if __name__ == "__main__":
    main()
