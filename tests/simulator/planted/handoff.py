"""A trial of its own for hints: a node that only one other reaches gets all its copies from there.

The others write to fallbacks in its place, and the one that reaches it hands hints over while the same keys
are written on, which takes long, for its disk is slow. Nobody reads, so nothing is repaired on the side. In
the end, when all reach it again, its copies are those of the other owners.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from dyno.config import Config
from dyno.simulator import checkers
from dyno.simulator.checkers import Ending
from dyno.simulator.history import GET, PUT, Operation
from dyno.simulator.scenario import Outcome, Scenario

COMMIT_S: Final = (0.3, 1.2)  # longer than a coordinator waits before it asks a fallback
HOT: Final = 6  # keys
WRITES_PER_S: Final = 20.0
DEATHS_PER_WRITE: Final = 0.02
REST_S: Final = 30.0
ALONE: Final = Config(exchange_interval_s=86_400.0)  # nobody compares copies


class HandoffTrial(NamedTuple):
    """seconds: of load. dies: whether the remote node is killed now and then. Run as `Trial` is."""

    seconds: float = 20.0
    dies: bool = False

    def run(self, seed: int) -> Outcome:
        scenario = Scenario(seed, config=ALONE)
        sim, history = scenario.sim, scenario.history
        random = Random(f"{seed}/handoff")
        keys = scenario.keys[:HOT]
        client = sim.client(*sim.machines, timeout=3.0)
        remote, _, *others = random.sample(list(sim.machines), len(sim.machines))
        sim.slow_disk(remote, commit_s=COMMIT_S)
        for name in (*others, client.machine):
            sim.cut(remote, name)
            sim.drop_links(remote, name)
        until = sim.now + self.seconds
        while sim.now < until:
            sim.run_for(random.expovariate(WRITES_PER_S))
            if self.dies and random.random() < DEATHS_PER_WRITE:
                sim.kill(remote)
                sim.restart(remote)
            key = random.choice(keys)
            put = history.begin(client.machine, PUT, key, now=sim.now, quorum=2)
            client.begin_put(key.bucket, key.key, put.value, w=2)
        sim.slow_disk(remote)
        sim.heal_all()
        sim.run_for(REST_S)
        reads = {key: Operation(0, "judge", GET, key, began=sim.now, quorum=0) for key in keys}
        for read in reads.values():
            read.succeed(sim.now, returned=b"", answered=())
        ending = Ending(
            reads=reads,
            owners={key: scenario.owners(key) for key in keys},
            copies={key: scenario.copies(key) for key in keys},
            left=(),
            starts=len(sim.machines),
            holders_lost=0,
        )
        violations = (*checkers.settled(history, ending), *checkers.dots(history, ending))
        return Outcome(seed, sim.digest(), violations, len(history.operations), 0, sim.now, {"disk-slow": 1})
