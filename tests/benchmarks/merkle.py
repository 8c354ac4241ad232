"""What anti-entropy costs: bytes and messages for d differences in n keys, memory, processor time.

    python tests/benchmarks/merkle.py [--keys 100000 1000000] [--differences 0 1 10 100 1000 10000]

Two nodes in one process, engines in memory, 1024 partitions, n=3, so both own all. Of the keys that differ a
third is known to the one alone, a third to the other alone, and a third is newer at the other. One exchange
is run to its end; each message counts with the bytes of a frame of its own. *beside the records*: without
keys and records themselves. Memory is what trees of so many keys take, by tracemalloc. The trees' share of a
put is measured at one replica, for a put over a record, with values of 1000 bytes.
"""

from __future__ import annotations

import argparse
import gc
import os
import time
import tracemalloc
from collections.abc import Callable
from random import Random
from typing import Any

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.merkle.places import element_of
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol.outbox import Outbox
from dyno.protocol.recount import Recount
from dyno.protocol.replica import Replica
from dyno.protocol.trees import Trees
from dyno.storage.cell import pack_cell
from dyno.storage.memory import MemoryEngine
from dyno.wire import codec
from dyno.wire.messages import Fetched, Store
from tests.protocol.exchange_harness import Owners

PARTITIONS = 1024
SPACE = Keyspace(b"c" * 16, PARTITIONS)
BUCKET = bucket_id("bucket")


def record(value: bytes, counter: int = 1) -> bytes:
    context = Context.EMPTY
    one = Record.EMPTY
    for number in range(1, counter + 1):
        one = one.write(context, Dot(actor(b"start 77", 0), number), bytes(15) + bytes((number,)), value)
        context = one.context
    return one.pack()


def owners(n: int, d: int) -> Owners:
    """Two that differ in d of n keys."""
    both = Owners("n1", "n2", config=Config(exchange_rate_bytes_max=1 << 40), partitions=PARTITIONS)
    plain, newer = record(b"value"), record(b"newer", 2)
    differ = Random(n).sample(range(n), d)
    mine, yours, common = (
        dict[bytes, bytes | None](),
        dict[bytes, bytes | None](),
        dict[bytes, bytes | None](),
    )
    for number in range(n):
        key = b"key %d" % number
        common[SPACE.slot(BUCKET, key, 3)] = pack_cell(key, b"", plain)
    for place, number in enumerate(differ):
        key = b"key %d" % number
        slot = SPACE.slot(BUCKET, key, 3)
        mine[slot] = None if place % 3 == 0 else pack_cell(key, b"", plain)
        yours[slot] = None if place % 3 == 1 else pack_cell(key, b"", newer if place % 3 else plain)
    both.n1.engine.write_batch(common, {})
    both.n2.engine = both.n1.engine.copy()
    both.n2.replica._engine = both.n2.engine
    for owner, own in ((both.n1, mine), (both.n2, yours)):
        owner.engine.write_batch(own, {})
        owner.replica.trees.edge = b""
        while not owner.replica.trees.ready:
            owner.count(max(owner.now, owner.due()))
    return both


def size(message: Any) -> int:
    fields: list[object] = []
    codec.append(message, fields)
    return len(codec.encode_frame(fields))


def contents(message: Any) -> int:
    """Bytes of keys and records."""
    if isinstance(message, Store):
        return len(message.key) + len(message.record)
    return len(message.entries) if isinstance(message, Fetched) else 0


def exchange(n: int, d: int) -> str:
    both = owners(n, d)
    n1 = both.n1
    n1.taken()
    messages = total = carried = 0
    now = 1000.0
    n1.tick(now)
    while sent := n1.taken():
        for name, message in sent:
            answer = both.by_name[name].serve(message)
            n1.exchange.answer(name, answer, now, n1.out)
            for one in (message, answer):
                messages += 1
                total += size(one)
                carried += contents(one)
        n1.commit()
    assert n1.exchange.compared_with("n2") == now
    assert n1.exchange.shared.root("n2") == both.n2.exchange.shared.root("n1")
    beside = total - carried
    each = f"{beside / d:,.0f}" if d else "–"
    return f"| {n:,} | {d:,} | {messages:,} | {beside:,} | {each} | {carried:,} |"


def memory(n: int) -> str:
    engine = MemoryEngine()
    plain = record(b"value")
    engine.write_batch(
        {SPACE.slot(BUCKET, b"key %d" % k, 3): pack_cell(b"key", b"", plain) for k in range(n)}, {}
    )
    replica = Replica(engine=engine, minter=Minter(b"start..."), config=Config())
    recount, out, now = Recount(me="n1", config=Config(), replica=replica), Outbox(), 0.0
    engine._ordered()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    while not replica.trees.ready:
        now = max(now, recount.deadline())
        recount.tick(now, out)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    again = Replica(engine=engine, minter=Minter(b"start..."), config=Config())
    recount, began, now = Recount(me="n1", config=Config(), replica=again), time.process_time(), 0.0
    while not again.trees.ready:
        now = max(now, recount.deadline())
        recount.tick(now, out)
    took = time.process_time() - began
    return f"{n:,} keys: {used / n:.2f} bytes each; counted in {took:.2f} s of processor time and {now:.1f} s"


def per_call(action: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        for _ in range(times):
            action()
        best = min(best, time.process_time() - began)
    return best / times * 1e6


def put_costs() -> str:
    """Microseconds for a put: of the replica, and of the trees in that."""
    value, slots = os.urandom(1000), [SPACE.slot(BUCKET, b"key %d" % k, 3) for k in range(1000)]
    engine = MemoryEngine()
    replica = Replica(engine=engine, minter=Minter(b"start..."), config=Config())
    out, requests = Outbox(), Random(1)
    contexts = dict.fromkeys(slots, Context.EMPTY)
    fed = 0.0
    feed = Trees.committed

    def measured(self: Trees, *given: Any) -> None:
        nonlocal fed
        began = time.perf_counter()
        feed(self, *given)
        fed += time.perf_counter() - began

    def round_of_puts() -> None:
        for at in range(0, len(slots), 100):
            for slot in slots[at : at + 100]:
                replica.put(slot, b"key", context=contexts[slot], request=requests.randbytes(16), value=value)
                contexts[slot] = Record.unpack(replica.read(slot)[0]).context
            batch = replica.take_batch(0.0)
            assert batch is not None
            engine.write_batch(batch.writes, batch.meta)
            replica.committed(0.0, out)

    round_of_puts()
    Trees.committed = measured  # type: ignore[method-assign]
    fed, best, rounds = 0.0, float("inf"), 10
    for _ in range(rounds):
        fed = 0.0
        round_of_puts()
        best = min(best, fed)
    Trees.committed = feed  # type: ignore[method-assign]
    packed = Record.unpack(replica.read(slots[0])[0]).pack()
    return (
        f"trees: {best / len(slots) * 1e6:.2f} µs for a put over a record, of 1000 bytes each; "
        f"an element: {per_call(lambda: element_of(slots[0], packed), 20_000):.2f} µs"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--keys", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--differences", type=int, nargs="+", default=[0, 1, 10, 100, 1000, 10_000])
    options = parser.parse_args()
    print(put_costs(), flush=True)
    print("| keys | differences | messages | bytes beside the records | for each | of keys and records |")
    print("| --- | --- | --- | --- | --- | --- |")
    for n in options.keys:
        for d in options.differences:
            print(exchange(n, d), flush=True)
            gc.collect()
    for n in options.keys:
        print(memory(n), flush=True)


if __name__ == "__main__":
    main()
