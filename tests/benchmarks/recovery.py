"""What a node lacks comes back with nobody reading: how long that takes, and what clients notice of it.

    python -m tests.benchmarks.recovery [--keys 100000] [--rate 300] [wiped away corrupt half]

Starts dyno nodes (N=3, R=W=2, each a process of its own on a real disk) with so many records of 1 KB, and a
steady load in an open loop: half gets, half puts, of keys of their own in another bucket. Then

    wiped     one of three is killed, its directory removed, and started again
    away      one of three is killed; a hundredth of the records are written anew; it is started 10 s later
    corrupt   one of three is killed; a bit of every hundredth record is flipped in its file; it is started
    half      two of four are killed at once, and started 2 s later

each by kill -9 and on a cluster of its own. *whole* is from the start of the process until all copies are on
the disks and equal, of everything that was there before: the disks are read beside the nodes, not the store.
When the load has ended all disks are compared, record by record. A call's time counts from when its turn was.
Prints for each case the time, and p50 and p99 of the clients: before; down, from the kill to the start;
starting, until all nodes see each other; repairing, until all is whole; and afterwards. *ratio*: p99 while
repairing to that before. Exits 1 where copies differ in the end, 0 whatever the figures are.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import trio

import dyno
from tests.cluster.faults.glimpse import Glimpse, glimpses, rot
from tests.cluster.faults.node import FaultyNode
from tests.ports import HOST, free_ports

RECORDS, LOAD = "records", "load"  # buckets
COPIES: Final = 3
VALUE_BYTES: Final = 1000
BATCH: Final = 200
LOAD_KEYS: Final = 1000
AFTERWARDS_S: Final = 5.0
WHOLE_WITHIN_S: Final = 300.0
LOOK_EVERY_S: Final = 0.1
LOOKS: Final = 50  # slots between two turns of the load
SHARE: Final = 100  # one of so many differs
PHASES: Final = ("before", "down", "starting", "repairing", "afterwards")


class Load:
    """Calls at a rate, whatever becomes of those before. phase: what they are counted under."""

    def __init__(self, client: dyno.Client, per_s: float) -> None:
        self._bucket = client.bucket(LOAD)
        self._per_s = per_s
        self._random = random.Random(0)
        self._contexts: dict[str, bytes] = {}
        self.keys = keys_of("before")
        self.phase = ""
        self.took: dict[str, list[float]] = {}
        self.failed: dict[str, int] = {}

    async def fill(self) -> None:
        for phase in ("before", "after"):
            await fill(self._bucket, keys_of(phase))

    async def run(self) -> None:
        turn = trio.current_time()
        async with trio.open_nursery() as calls:
            while True:
                turn += self._random.expovariate(self._per_s)
                await trio.sleep_until(turn)
                calls.start_soon(self._call, turn, self.phase)

    async def _call(self, turn: float, phase: str) -> None:
        key = self._random.choice(self.keys)
        try:
            if self._random.random() < 0.5:
                self._contexts[key] = (await self._bucket.get(key)).context
            else:
                value = self._random.randbytes(VALUE_BYTES)
                stored = await self._bucket.put(key, value, context=self._contexts.get(key))
                self._contexts[key] = stored.context
        except dyno.DynoError as error:
            self.failed[phase] = self.failed.get(phase, 0) + 1
            print(f"  {phase}: {error}", file=sys.stderr)
        else:
            self.took.setdefault(phase, []).append(trio.current_time() - turn)


class Figures(NamedTuple):
    """whole_s: infinity where it was not in time. p50, p99: by phase, in ms. failed: calls in all."""

    whole_s: float
    p50: dict[str, float]
    p99: dict[str, float]
    failed: int
    differing: int


class Stage:
    """One cluster, with its load."""

    def __init__(self, nodes: list[FaultyNode], client: dyno.Client, options: argparse.Namespace) -> None:
        self.nodes = nodes
        self.client = client
        self.options = options
        self.load = Load(client, options.rate)
        self.records = client.bucket(RECORDS)
        self.keys = [f"key{number}" for number in range(options.keys)]
        self.every: list[bytes] = []  # slots of all that was loaded and does not change in the end, in order
        self.some: list[bytes] = []  # of one of so many records, and of what the load wrote before
        self.suspects: list[bytes] = []  # those that are looked at until they are whole

    def note(self, slots: dict[bytes, bytes]) -> None:
        """By key. Beforehand, for to sort so many takes long enough to be noticed by the load."""
        loaded = [slots[key.encode()] for key in keys_of("before")]
        self.every = sorted([*loaded, *(slots[key.encode()] for key in self.keys)])
        self.some = sorted([*loaded, *(slots[key.encode()] for key in self.keys[::SHARE])])


# ── the cases: each gives back the nodes that it took down ──


async def wiped(stage: Stage) -> list[FaultyNode]:
    node = stage.nodes[-1]
    await trio.to_thread.run_sync(node.kill)
    await trio.to_thread.run_sync(node.wipe)
    stage.suspects = stage.every
    return [node]


async def away(stage: Stage) -> list[FaultyNode]:
    node = stage.nodes[-1]
    await trio.to_thread.run_sync(node.kill)
    stage.suspects = stage.some
    until = trio.current_time() + 10.0
    await fill(stage.records, stage.keys[::SHARE])
    await trio.sleep_until(until)
    return [node]


async def corrupt(stage: Stage) -> list[FaultyNode]:
    node = stage.nodes[-1]
    await trio.to_thread.run_sync(node.kill)
    rotten = partial(rot, node.directory, RECORDS, share=SHARE)
    stage.suspects = stage.some + await trio.to_thread.run_sync(rotten)
    return [node]


async def half(stage: Stage) -> list[FaultyNode]:
    nodes = stage.nodes[len(stage.nodes) // 2 :]
    stage.suspects = stage.some
    async with trio.open_nursery() as at_once:
        for node in nodes:
            at_once.start_soon(trio.to_thread.run_sync, node.kill)
    await trio.sleep(2.0)
    return nodes


class Case(NamedTuple):
    nodes: int
    strike: Callable[[Stage], Awaitable[list[FaultyNode]]]


CASES: Final = {
    "wiped": Case(3, wiped),
    "away": Case(3, away),
    "corrupt": Case(3, corrupt),
    "half": Case(4, half),
}


# ── one case ──


async def measure(case: Case, nodes: list[FaultyNode], options: argparse.Namespace) -> Figures:
    for node in nodes:
        node.start()
    addresses = [node.address for node in nodes]
    await until_all_alive(nodes)
    async with dyno.connect(*addresses, timeout=30) as client, trio.open_nursery() as nursery:
        stage = Stage(nodes, client, options)
        await stage.load.fill()
        await fill(stage.records, stage.keys)
        with glimpses([node.directory for node in nodes]) as disks:
            slots = slots_on(disks)
            await until_whole(disks, list(slots.values()))
            stage.note(slots)
        load = stage.load
        load.phase = "warm"
        nursery.start_soon(load.run)
        await trio.sleep(2.0)
        load.phase = "before"
        await trio.sleep(options.seconds)
        load.phase = "down"
        struck = await case.strike(stage)
        load.keys = keys_of("after")  # what it wrote so far changes no more
        load.phase = "starting"
        began = trio.current_time()
        for node in struck:
            await trio.to_thread.run_sync(node.start)
        await until_all_alive(nodes)
        load.phase = "repairing"
        with glimpses([node.directory for node in nodes]) as disks:
            stage.suspects.reverse()  # the first are looked at first, from the end
            is_whole = await until_whole(disks, stage.suspects)
            whole_s = trio.current_time() - began if is_whole else float("inf")
            load.phase = "afterwards"
            await trio.sleep(AFTERWARDS_S)
            nursery.cancel_scope.cancel()
            differing = sum(
                copies.count(copies[0]) != len(copies) or len(copies) != COPIES
                for copies in all_copies(disks).values()
            )
    for node in nodes:
        node.stop()
    return Figures(
        whole_s,
        {phase: 1000 * quantile(took, 0.5) for phase, took in load.took.items()},
        {phase: 1000 * quantile(took, 0.99) for phase, took in load.took.items()},
        sum(load.failed.values()),
        differing,
    )


async def until_all_alive(nodes: Sequence[FaultyNode]) -> None:
    for node in nodes:
        while True:
            try:
                async with dyno.connect(node.address, timeout=2) as client:
                    members = (await client.status())["members"]
            except dyno.DynoError:
                members = []
            if sum(member["liveness"] == "alive" for member in members) == len(nodes):
                break
            await trio.sleep(LOOK_EVERY_S)


async def until_whole(disks: Sequence[Glimpse], waiting: list[bytes]) -> bool:
    """Whether all of these slots have their copies in time, equal."""
    with trio.move_on_after(WHOLE_WITHIN_S):
        while waiting:
            for _ in range(LOOKS):
                if not waiting or not is_equal([disk.record(waiting[-1]) for disk in disks]):
                    break
                waiting.pop()
            else:
                await trio.lowlevel.checkpoint()
                continue
            await trio.sleep(LOOK_EVERY_S)
    return not waiting


def is_equal(copies: Sequence[bytes | None]) -> bool:
    """Of one slot on all disks."""
    there = [copy for copy in copies if copy is not None]
    return len(there) == COPIES and bool(there[0]) and there.count(there[0]) == COPIES


def slots_on(disks: Sequence[Glimpse]) -> dict[bytes, bytes]:
    """By key."""
    return {
        key: slot for disk in disks for bucket in (RECORDS, LOAD) for slot, key in disk.keys(bucket).items()
    }


def all_copies(disks: Sequence[Glimpse]) -> dict[bytes, list[bytes]]:
    copies: dict[bytes, list[bytes]] = {}
    for disk in disks:
        for slot, record in disk.records(RECORDS).items():
            copies.setdefault(slot, []).append(record)
    return copies


async def fill(bucket: dyno.Bucket, keys: Sequence[str]) -> None:
    """With new values, at all owners that there are."""
    for at in range(0, len(keys), BATCH):
        some = keys[at : at + BATCH]
        found = await bucket.get_many(some)
        values = {key: os.urandom(VALUE_BYTES) for key in some}
        contexts = {key: record.context for key, record in found.items()}
        stored = await bucket.put_many(values, contexts=contexts)
        errors = [str(result.error) for result in stored.values() if result.error is not None]
        if errors:
            raise SystemExit(f"the records could not be loaded: {errors[0]}")


def keys_of(phase: str) -> list[str]:
    return [f"{phase}{number}" for number in range(LOAD_KEYS)]


def quantile(seconds: list[float], share: float) -> float:
    return sorted(seconds)[int(len(seconds) * share)] if seconds else 0.0


# ── the whole ──


@contextmanager
def cluster(count: int) -> Iterator[list[FaultyNode]]:
    """Nodes that are not started yet; whatever of them runs in the end is ended."""
    with ExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dyno-recovery-")))
        lifeline, keep = os.pipe()
        stack.callback(os.close, lifeline)
        stack.callback(os.close, keep)
        addresses = [f"{HOST}:{port}" for port in free_ports(count)]
        nodes = []
        for number, address in enumerate(addresses, 1):
            node = FaultyNode(
                f"n{number}",
                address=address,
                path=path,
                join=[other for other in addresses if other != address],
                words=(),
                lifeline=lifeline,
                own_disk=False,
                founds=number == 1,
                config="",
            )
            stack.callback(node.close)
            nodes.append(node)
        yield nodes


def show(name: str, figures: Figures) -> None:
    times = [f"{figures.p50.get(phase, 0):.1f}, {figures.p99.get(phase, 0):.1f}" for phase in PHASES]
    ratio = figures.p99.get("repairing", 0) / max(figures.p99.get("before", 0), 0.001)
    row(name, f"{figures.whole_s:.1f}", *times, f"{ratio:.2f}", figures.failed, figures.differing)


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=[], metavar="CASE", help=f"of {', '.join(CASES)}")
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=300.0, help="calls of clients a second")
    parser.add_argument("--seconds", type=float, default=15.0, help="that are measured before")
    options = parser.parse_args()
    for name in options.cases:
        if name not in CASES:
            parser.error(f"no case {name!r}: {', '.join(CASES)}")
    print(f"{options.keys:,} records of {VALUE_BYTES} bytes, {options.rate:g} calls/s; p50, p99 in ms")
    print(f"load average of the machine before: {os.getloadavg()[0]:.2f} ({time.strftime('%H:%M')})\n")
    row("case", "whole after s", *PHASES, "ratio", "failed", "differing")
    row(*["---"] * 10)
    is_bad = False
    for name in options.cases or CASES:
        case = CASES[name]
        with cluster(case.nodes) as nodes:
            figures = trio.run(measure, case, nodes, options)
        show(name, figures)
        is_bad = is_bad or figures.differing > 0
    sys.exit(1 if is_bad else 0)


if __name__ == "__main__":
    main()
