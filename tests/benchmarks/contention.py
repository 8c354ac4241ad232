"""How many updates of one key get through, and how long each takes, with many writers, in the simulator.

    python tests/benchmarks/contention.py [--writers 64] [--updates 10] [--pause-max 0.25]

Virtual time on three nodes, so the figures depend on the seed and on nothing else. A round is one read, one
call of the change and one conditional write.
"""

from __future__ import annotations

import argparse
from typing import Any

from dyno.session import update
from dyno.simulator.simulation import Simulation


def measure(writers: int, updates: int, seed: int) -> str:
    sim = Simulation(seed)
    sim.add_cluster(3)
    clients = [sim.client("n1", "n2", "n3", timeout=60) for _ in range(writers)]
    sim.run_for(0.5)
    began, rounds, took_s = sim.now, 0, []
    left = dict.fromkeys(range(writers), updates)

    def increment(siblings: list[int]) -> int:
        nonlocal rounds
        rounds += 1
        return max(siblings, default=0) + 1

    def begin(writer: int) -> Any:
        return clients[writer].begin_update("bucket", "count", increment)

    pending = {writer: begin(writer) for writer in left}

    def through() -> bool:
        for writer, one in list(pending.items()):
            if one.done:
                one.result()
                took_s.append(one.ended - one.began)
                left[writer] -= 1
                if left[writer]:
                    pending[writer] = begin(writer)
                else:
                    del pending[writer]
        return not pending

    assert sim.run_until(through, limit_s=600)
    seconds = sim.now - began
    assert clients[0].get("bucket", "count", r=3).value == writers * updates
    took_s.sort()
    half, most = took_s[len(took_s) // 2], took_s[len(took_s) * 99 // 100]
    return (
        f"seed {seed}: {len(took_s) / seconds:.0f} updates/s, {rounds / len(took_s):.1f} rounds each, "
        f"half within {half * 1000:.0f} ms, 99% within {most * 1000:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--writers", type=int, default=64)
    parser.add_argument("--updates", type=int, default=10, help="of each writer, one after another")
    parser.add_argument("--pause-max", type=float, default=update.PAUSE_MAX_S, help="seconds")
    given = parser.parse_args()
    update.PAUSE_MAX_S = given.pause_max
    for seed in (1, 2, 3):
        print(measure(given.writers, given.updates, seed))


if __name__ == "__main__":
    main()
