"""Ask slow nodes for more than they can do, and see what becomes of it.

    python tests/benchmarks/overload.py [--seconds 4] [--rounds 3] [--operations 1000] [--reads 0.0]

Starts three dyno nodes (N=3, R=W=2, each a process of its own on a real disk) whose engines are slowed to so
many operations a second: every read of a record and every record of a commit takes its share of a second on
top of what it takes anyway. Then requests come over 12 connections, in an open loop: at a rate, whatever
becomes of those before. Nobody asks again when refused. First the peak is looked for (the best of several
rates around what the disks should do), then 1, 2, 5 and 10 times that rate is asked for, each on a cluster
of its own. Prints for each, as medians over the rounds: how many were done a second and how long that took,
how many were refused and how long that took, how many failed otherwise, and by how much the largest node
grew. Exits 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from dyno.config import Config
from dyno.protocol.birth import Birth, node_on
from dyno.server.reads import MeteredEngine
from dyno.server.runner import Runner
from dyno.server.sockets import bind
from dyno.storage.engine import Engine, Scanned
from dyno.storage.lmdb.directory import open_directory
from dyno.wire.link import LinkCodec
from dyno.wire.messages import DEFAULT, PROTOCOL_VERSION, Done, Failed, Found, Get, Hello, Put

CLIENT = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "client", b"", 0, "", b"", b"", "")
CONNECTIONS_PER_NODE = 4
STEP_S = 0.01
WARM_S = 2.5
KEYS = 5000
TIMES = (1, 2, 5, 10)


class SlowEngine(Engine):
    """Another engine, at so many operations a second. As a disk does, it leaves the processor to others."""

    __slots__ = ("_engine", "_seconds", "commit_number")

    def __init__(self, engine: Engine, operations_per_s: float) -> None:
        self._engine = engine
        self._seconds = 1 / operations_per_s
        self.commit_number = engine.commit_number

    def get(self, key: bytes) -> bytes | None:
        time.sleep(self._seconds)
        return self._engine.get(key)

    def write_batch(self, writes: Mapping[bytes, bytes | None], meta: Mapping[str, bytes]) -> int:
        time.sleep(self._seconds * len(writes))
        self.commit_number = self._engine.write_batch(writes, meta)
        return self.commit_number

    def get_meta(self, name: str) -> bytes | None:
        return self._engine.get_meta(name)

    def scan(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        return self._engine.scan(start, end, limit=limit)

    def empty(self) -> bool:
        return self._engine.empty()

    def close(self) -> None:
        self._engine.close()


class SlowWrites(SlowEngine):
    """The same, with reads as fast as memory."""

    __slots__ = ()

    def get(self, key: bytes) -> bytes | None:
        return self._engine.get(key)

    def get_many(self, keys: Sequence[bytes], *, bytes_max: int) -> list[bytes | None]:
        return self._engine.get_many(keys, bytes_max=bytes_max)


async def run_node(
    name: str, path: str, seeds: Sequence[str], operations: float, *, slow_reads: bool
) -> None:
    """Until the process is ended."""
    sys.setswitchinterval(0.001)
    config = Config()
    listener, gossip = await bind("127.0.0.1", 0)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    directory = open_directory(path, size_max=1 << 36, reserve_bytes=1 << 20)
    engine = MeteredEngine((SlowEngine if slow_reads else SlowWrites)(directory.engine, operations))
    core = node_on(
        engine, Birth(name, address, "", 1.0, 64, tuple(seeds)), config=config, random=random.Random()
    )
    async with trio.open_nursery() as nursery:
        runner = Runner(
            core=core,
            engine=engine,
            config=config,
            listener=listener,
            gossip=gossip,
            random=random.Random(),
            spawn=nursery.start_soon,
            log=lambda _level, _text: None,
        )
        nursery.start_soon(runner.run)
        nursery.start_soon(runner.run_timer)
        await runner.joined.wait()
        print(f"ready {address}", flush=True)
        await trio.sleep_forever()


class Figures(NamedTuple):
    """Per second, and in milliseconds."""

    asked: float
    done: float
    done_p50: float
    done_p99: float
    refused: float
    refused_p99: float
    failed: float
    grown_mib: float


class Load:
    """Requests at a rate over raw connections, and what is answered after WARM_S."""

    def __init__(self, per_s: float, *, reads: float, value: bytes, salt: int) -> None:
        self._per_s = per_s
        self._reads = reads
        self._value = value
        self._random = random.Random(salt)
        self._salt = salt
        self._last_id = 0
        self._asked: dict[int, float] = {}
        self._warm_at = 0.0
        self._end = 0.0
        self.asked = 0
        self.done: list[float] = []
        self.refused: list[float] = []
        self.failed = 0

    async def run(self, addresses: Sequence[str], seconds: float) -> None:
        async with trio.open_nursery() as nursery:
            streams = []
            for address in addresses:
                host, port = address.rsplit(":", 1)
                for _ in range(CONNECTIONS_PER_NODE):
                    stream = await trio.open_tcp_stream(host, int(port))
                    codec = LinkCodec()
                    codec.send(CLIENT)
                    await stream.send_all(codec.drain())
                    streams.append((stream, codec))
                    nursery.start_soon(self._hear, stream)
            began = trio.current_time()
            self._warm_at, self._end = began + WARM_S, began + WARM_S + seconds
            sent = 0
            while (now := trio.current_time()) < self._end:
                due = int((now - began) * self._per_s)
                while sent < due:
                    sent += 1
                    self._ask(self._random.choice(streams)[1], now)
                for stream, codec in streams:
                    if data := codec.drain():
                        await stream.send_all(data)
                await trio.sleep(STEP_S)
            nursery.cancel_scope.cancel()
        for stream, _ in streams:
            await stream.aclose()

    def _ask(self, codec: LinkCodec, now: float) -> None:
        number = self._last_id = self._last_id + 1
        key = b"key %d" % self._random.randrange(KEYS)
        self._asked[number] = now
        if now >= self._warm_at:
            self.asked += 1
        if self._random.random() < self._reads:
            codec.send(Get(number, "bench", key, DEFAULT, DEFAULT, 5000, False))
        else:
            # Keys of their own: here nobody reads what he overwrites, and siblings would pile up.
            key, identity = b"key %d %d" % (self._salt, number), os.urandom(16)
            codec.send(
                Put(number, "bench", key, self._value, b"", False, DEFAULT, DEFAULT, identity, 5000, False)
            )

    async def _hear(self, stream: trio.SocketStream) -> None:
        codec = LinkCodec()
        while data := await stream.receive_some(1 << 18):
            now = trio.current_time()
            for answer in codec.feed(data):
                if isinstance(answer, Done | Found | Failed):
                    asked_at = self._asked.pop(answer.id)
                    if now < self._warm_at:
                        continue
                    if not isinstance(answer, Failed):
                        self.done.append(now - asked_at)
                    elif answer.code == "overloaded":
                        self.refused.append(now - asked_at)
                    else:
                        self.failed += 1


def measure(options: argparse.Namespace, per_s: float, salt: int) -> Figures:
    """On a new cluster, whose disks nobody knows yet."""
    with tempfile.TemporaryDirectory() as directory, cluster(Path(directory), options) as (addresses, pids):
        load = Load(per_s, reads=options.reads, value=os.urandom(options.value_bytes), salt=salt)
        before = [resident_mib(pid) for pid in pids]
        trio.run(load.run, addresses, options.seconds)
        grown = max(resident_mib(pid) - size for pid, size in zip(pids, before, strict=True))
    return Figures(
        load.asked / options.seconds,
        len(load.done) / options.seconds,
        1000 * quantile(load.done, 0.5),
        1000 * quantile(load.done, 0.99),
        len(load.refused) / options.seconds,
        1000 * quantile(load.refused, 0.99),
        load.failed / options.seconds,
        grown,
    )


@contextlib.contextmanager
def cluster(directory: Path, options: argparse.Namespace) -> Iterator[tuple[list[str], list[int]]]:
    addresses: list[str] = []
    children: list[subprocess.Popen[str]] = []
    try:
        for number in range(1, 4):
            command = [
                sys.executable,
                __file__,
                "--node",
                f"n{number}",
                "--data",
                str(directory / f"n{number}"),
            ]
            command += [
                "--operations",
                str(options.operations),
                "--reads",
                str(options.reads),
                "--join",
                *addresses,
            ]
            child = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
            children.append(child)
            assert child.stdout is not None
            words = child.stdout.readline().split()
            if not words:
                raise SystemExit("a node ended before it was ready")
            addresses.append(words[1])
        yield addresses, [child.pid for child in children]
    finally:
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.wait(10)


def resident_mib(pid: int) -> float:
    """Memory of its own, not what LMDB maps: 0.0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)] if seconds else 0.0


def medians(rounds: Sequence[Figures]) -> Figures:
    return Figures(*(statistics.median(column) for column in zip(*rounds, strict=True)))


def show(title: str, figures: Figures) -> None:
    done = f"done {figures.done:6,.0f}/s, p50 {figures.done_p50:4.0f} ms, p99 {figures.done_p99:5.0f} ms"
    refused = f"refused {figures.refused:6,.0f}/s, p99 {figures.refused_p99:3.0f} ms"
    rest = f"failed {figures.failed:4.1f}/s   memory +{figures.grown_mib:.0f} MiB"
    print(f"{title:>8}: asked {figures.asked:6,.0f}/s   {done}   {refused}   {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--operations", type=float, default=1000.0, help="of every engine, a second")
    parser.add_argument(
        "--reads", type=float, default=0.0, help="share of gets; 0 leaves reads of the engine fast"
    )
    parser.add_argument("--value-bytes", type=int, default=1000)
    parser.add_argument("--node", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--join", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        run = run_node(
            options.node, options.data, options.join, options.operations, slow_reads=options.reads > 0
        )
        trio.run(lambda: run)
        return
    peaks = []
    for share in (0.5, 0.7, 0.85, 1.0, 1.2):
        figures = measure(options, share * options.operations, salt=int(share * 100))
        show("looking", figures)
        peaks.append(figures.done)
    peak = max(peaks)
    print(f"peak {peak:,.0f}/s; medians of {options.rounds}:")
    for times in TIMES:
        figures = medians([measure(options, times * peak, salt=1000 + n) for n in range(options.rounds)])
        show(f"{times}x", figures)
        print(f"{'':>12}  goodput {figures.done / peak:.0%} of the peak", flush=True)


if __name__ == "__main__":
    main()
