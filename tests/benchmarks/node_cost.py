"""What a put or a get costs the processors of all three nodes together, without sockets and processes.

    python tests/benchmarks/node_cost.py [put|get] [--engine memory|lmdb] [--wire] [--outstanding 64]
                                         [--against TREE] [--rounds 5] [--profile]

Three nodes in one process, N=3, R=W=2, are handed their messages by a loop that does as the server does: a
turn takes all that has arrived, then what is due, then a flush, then the next commit, which is over when the
next turn begins. Callers are as in `loops.py`: 10,000 keys, 1000-byte values, every put with the context of
the one before. Time is virtual, a millisecond for every turn of all three.

Prints µs of processor time for one operation: *core*, the machines of the nodes; *wire*, the codecs of their
ends of all links (without --wire messages are handed over as they are); *disk*, what commits take, the
kernel's part included. --against: another checkout; both are then measured in turn, each round in a process
of its own, and medians printed for both, for others use the processors as well. --profile prints what takes
the time instead.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import os
import pstats
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

KEYS = 10_000
VALUE_BYTES = 1000
NAMES = ("n1", "n2", "n3")
TURN_S = 0.001
WARM_UP = 20_000  # operations
PARTS = ("core", "wire", "disk")
_CLIENT = 1_000_000  # the number of the client's link at every node; peers' are below


class Side:
    """One end of a link: what was sent to it waits here, as bytes or as messages. to: the address that it
    was dialled at, or the number of an inbound link."""

    def __init__(self, to: Any, wire: bool) -> None:
        from dyno.wire.link import LinkCodec

        self.to = to
        self.codec = LinkCodec() if wire else None
        self.arrived: list[Any] = []
        self.other: Side | None = None

    def send(self, message: Any) -> None:
        if self.codec is None:
            assert self.other is not None
            self.other.arrived.append(message)
        else:
            self.codec.send(message)

    def flush(self) -> None:
        if self.codec is not None:
            while data := self.codec.drain():
                assert self.other is not None
                self.other.arrived.append(data)

    def take(self) -> list[Any]:
        taken, self.arrived = self.arrived, []
        if self.codec is None:
            return taken
        return [message for data in taken for message in self.codec.feed(data)]


def joined(one: Side, other: Side) -> None:
    one.other, other.other = other, one


class Machine:
    """A node, its engine and its ends of links."""

    def __init__(self, name: str, engine: Any, spent: dict[str, float]) -> None:
        from dyno.config import Config
        from dyno.protocol.birth import Birth, node_on
        from dyno.protocol.outbox import Outbox

        seeds = () if name == NAMES[0] else (f"{NAMES[0]}:1",)
        birth = Birth(name, f"{name}:1", "", 1.0, 1024, seeds)
        self.address = birth.address
        self.engine = engine
        self.node = node_on(engine, birth, config=Config(), random=random.Random(name))
        self.out = Outbox()
        self.batch: Any = None
        self.outbound: dict[str, Side] = {}
        self.inbound: dict[int, Side] = {}
        self._spent = spent

    def turn(self, now: float) -> None:
        spent = self._spent
        node, out = self.node, self.out
        began = process_time()
        requests = [(side.to, side.take()) for side in self.inbound.values()]
        answers = [(side.to, side.take()) for side in self.outbound.values()]
        fed = process_time()
        if self.batch is not None:
            self.batch = None
            node.committed(now, out, TURN_S)
        for link, messages in requests:
            for message in messages:
                node.receive(link, message, now, out)
        for address, messages in answers:
            for message in messages:
                node.answer(address, message, now, out)
        deadline = node.deadline()
        if deadline is not None and deadline <= now:
            node.tick(now, out)
        done = process_time()
        for link, message in out.replies:
            if link in self.inbound:
                self.inbound[link].send(message)
        for address, message in out.sends:
            if address in self.outbound:
                self.outbound[address].send(message)
        out.replies.clear()
        out.sends.clear()
        for side in (*self.inbound.values(), *self.outbound.values()):
            side.flush()
        flushed = process_time()
        self.batch = node.take_batch(now)
        node.deadline()  # for the timer
        taken = process_time()
        if self.batch is not None:
            self.engine.write_batch(self.batch.writes, self.batch.meta)
        spent["wire"] += fed - began + flushed - done
        spent["core"] += done - fed + taken - flushed
        spent["disk"] += process_time() - taken


class Cluster:
    """Three machines and whoever asks them, over one link to each."""

    def __init__(self, engines: list[Any], *, wire: bool) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.now = 0.0
        self._wire = wire
        self._links = 0
        machines = [Machine(name, engine, self.spent) for name, engine in zip(NAMES, engines, strict=True)]
        self.machines = {machine.address: machine for machine in machines}
        for machine in self.machines.values():
            machine.node.start(self.now, machine.out)
            for _ in range(3000):
                self.turn()
                if machine.node.ready:
                    break
            else:
                raise SystemExit(f"{machine.address} has not joined")
        for _ in range(1000):
            self.turn()
        self.clients = []
        for machine in self.machines.values():
            ours, theirs = Side(None, wire), Side(_CLIENT, wire)
            joined(ours, theirs)
            machine.inbound[_CLIENT] = theirs
            self.clients.append(ours)

    def turn(self) -> None:
        self.now += TURN_S
        for machine in self.machines.values():
            machine.turn(self.now)
            if machine.out:
                self._carry(machine)

    def _carry(self, machine: Machine) -> None:
        """What is no message on a link."""
        out = machine.out
        for address in out.disconnect:
            machine.outbound.pop(address, None)
        for address in out.connect:
            if address not in machine.outbound and address in self.machines:
                self._dial(machine, self.machines[address])
        for address, datagram in out.datagrams:
            other = self.machines[address]
            other.node.receive_datagram(machine.address, datagram, self.now, other.out)
        for wanted in (out.disconnect, out.connect, out.datagrams, out.events):
            wanted.clear()  # type: ignore[attr-defined]

    def _dial(self, machine: Machine, other: Machine) -> None:
        hello = machine.node.hello()
        if other.node.accept(hello, self.now) is not None:
            return
        self._links += 1
        one, two = Side(other.address, self._wire), Side(self._links, self._wire)
        joined(one, two)
        machine.outbound[other.address] = one
        other.inbound[self._links] = two
        machine.node.link_up(other.address, other.node.hello(hello), self.now, machine.out)


class Load:
    """So many callers, each of whom owns a share of the keys and asks the node that its key belongs to."""

    def __init__(self, what: str, cluster: Cluster, outstanding: int) -> None:
        self._what = what
        self._cluster = cluster
        self._dice = random.Random(1)
        self._value = self._dice.randbytes(VALUE_BYTES)
        self._tokens: dict[int, bytes] = {}
        self._asked: dict[int, tuple[int, int]] = {}
        self._last = 0
        self._shares = [range(caller, KEYS, outstanding) for caller in range(outstanding)]

    def fill(self) -> None:
        """Every key once."""
        what, self._what = self._what, "put"
        for begin in range(0, KEYS, 64):
            for key in range(begin, min(begin + 64, KEYS)):
                self._ask(key, -1)
            while self._asked:
                self._hear()
        self._what = what

    def run(self, operations: int) -> None:
        for caller in range(len(self._shares)):
            self._begin(caller)
        done = 0
        while done < operations:
            for caller in self._hear():
                done += 1
                self._begin(caller)
        while self._asked:
            self._hear()

    def _begin(self, caller: int) -> None:
        self._ask(self._dice.choice(self._shares[caller]), caller)

    def _ask(self, key: int, caller: int) -> None:
        from dyno.wire.messages import DEFAULT, Get, Put

        self._last += 1
        name = b"key%d" % key
        request: Any
        if self._what == "put":
            id, token = self._dice.randbytes(16), self._tokens.get(key, b"")
            request = Put(
                self._last, "bench", name, self._value, token, False, DEFAULT, DEFAULT, id, 5000, False
            )
        else:
            request = Get(self._last, "bench", name, DEFAULT, DEFAULT, 5000, False)
        self._asked[self._last] = (key, caller)
        self._cluster.clients[key % len(NAMES)].send(request)

    def _hear(self) -> list[int]:
        """After a turn: the callers that were answered."""
        from dyno.causality import token
        from dyno.causality.context import Context
        from dyno.wire.messages import Done, Found

        cluster = self._cluster
        for side in cluster.clients:
            side.flush()
        cluster.turn()
        id = next(iter(cluster.machines.values())).node.membership.cluster
        heard = []
        for side in cluster.clients:
            for answer in side.take():
                key, caller = self._asked.pop(answer.id)
                if isinstance(answer, Done):
                    context = Context.unpack(answer.context)
                    name = b"key%d" % key
                    self._tokens[key] = token.encode(context, cluster=id, bucket="bench", key=name)
                elif not isinstance(answer, Found):
                    raise SystemExit(f"not answered: {answer}")
                heard.append(caller)
        return heard


class Options(NamedTuple):
    what: str
    engine: str
    wire: bool
    outstanding: int
    operations: int
    profile: bool


@contextmanager
def engines(kind: str) -> Iterator[list[Any]]:
    if kind == "memory":
        from dyno.storage.memory import MemoryEngine

        yield [MemoryEngine() for _ in NAMES]
        return
    from dyno.storage.lmdb.engine import LmdbEngine

    with tempfile.TemporaryDirectory() as path:
        opened = []
        for name in NAMES:
            directory = Path(path, name)
            directory.mkdir()
            opened.append(LmdbEngine(str(directory), size_max=1 << 32, reserve_bytes=0))
        yield opened
        for engine in opened:
            engine.close()


def measure(options: Options) -> dict[str, float]:
    """µs for one operation."""
    with engines(options.engine) as opened:
        cluster = Cluster(opened, wire=options.wire)
        load = Load(options.what, cluster, options.outstanding)
        load.fill()
        load.run(WARM_UP)
        gc.collect()
        gc.freeze()  # as a node does after its start
        cluster.spent.update(dict.fromkeys(PARTS, 0.0))
        profile = cProfile.Profile() if options.profile else None
        if profile is not None:
            profile.enable()
        load.run(options.operations)
        if profile is not None:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        return {part: cluster.spent[part] / options.operations * 1e6 for part in PARTS}


def compare(options: argparse.Namespace, arguments: list[str]) -> None:
    script = Path(__file__).resolve()
    here = str(script.parents[2])
    trees = [options.against, here] if options.against else [here]
    found: dict[str, list[dict[str, float]]] = {tree: [] for tree in trees}
    for _ in range(options.rounds):
        for tree in trees:
            environment = {**os.environ, "PYTHONPATH": tree}
            command = [sys.executable, str(script), *arguments, "--once"]
            ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            found[tree].append(json.loads(ran.stdout))
    for tree, rounds in found.items():
        medians = [statistics.median(one[part] for one in rounds) for part in PARTS]
        whole = statistics.median(sum(one.values()) for one in rounds)
        parts = ", ".join(f"{part} {took:5.1f}" for part, took in zip(PARTS, medians, strict=True))
        print(f"{options.what}: {whole:5.1f} µs ({parts})  {tree}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["put", "get"], default="put")
    parser.add_argument("--engine", choices=["memory", "lmdb"], default="memory")
    parser.add_argument("--wire", action="store_true", help="encode and decode what nodes say and hear")
    parser.add_argument("--outstanding", type=int, default=64)
    parser.add_argument("--operations", type=int, default=60_000)
    parser.add_argument("--against", metavar="TREE", help="another checkout, to be measured in turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    options = Options(
        given.what, given.engine, given.wire, given.outstanding, given.operations, given.profile
    )
    if given.once:
        print(json.dumps(measure(options)))
    elif given.profile:
        measure(options)
    else:
        arguments = [given.what, "--engine", given.engine, *["--wire"] * given.wire]
        arguments += ["--outstanding", str(given.outstanding), "--operations", str(given.operations)]
        compare(given, arguments)


if __name__ == "__main__":
    main()
