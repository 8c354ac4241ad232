"""What `dyno bench` itself costs: its loop against a store that answers at once.

    python tests/benchmarks/bench_overhead.py [--operations 200000]

Prints the CPU time per operation that is not the client's: drawing the operation, making the value, calling,
and recording the latency. It is part of the client CPU that `dyno bench` reports.
"""

from __future__ import annotations

import argparse
import random
import time

import trio

from dyno.cli.bench.loop import ClosedLoop, Tally
from dyno.workload.mixes import MIXES, Workload
from dyno.workload.payload import Payload


class Answer:
    exists = True
    context = b"context"


class Immediate:
    """All keys are there, and every write is done when it is asked for."""

    answer = Answer()

    async def get(self, key: str) -> Answer:
        return self.answer

    async def put(self, key: str, value: bytes, *, context: bytes | None = None) -> Answer:
        return self.answer


def overhead_us(name: str, operations: int) -> float:
    """CPU time per operation. The loop's clock ends it after so many."""
    mix, source = MIXES[name], random.Random(1)
    workload = Workload(mix, records=10_000, random=source, run="run")
    contexts = dict.fromkeys(workload.keys_to_load(), b"context")
    readings = 0

    def clock() -> int:
        nonlocal readings
        readings += 1
        return 0 if readings < 2 * operations else 1_000_000_000

    loop = ClosedLoop(Immediate(), workload, Payload(source, 1000), contexts, clients=1, clock=clock)
    tally = Tally(mix.kinds)
    began = time.process_time()
    trio.run(loop.run, 1.0, tally)
    return (time.process_time() - began) / tally.operations * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--operations", type=int, default=200_000)
    options = parser.parse_args()
    for name, mix in MIXES.items():
        print(f"{name}  {overhead_us(name, options.operations):5.2f} µs  {mix.what}")


if __name__ == "__main__":
    main()
