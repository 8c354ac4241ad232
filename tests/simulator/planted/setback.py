"""Trials of their own for disks that lack what was acknowledged: three nodes, of which one is away a while.

The writes of that time are on the other two alone. Then one of these loses its disk, or gets an older copy of
it back, at the moment when the one that was away returns. So there are two who do not know those writes, and
a quorum of both would be wrong. The third is not reached by the one that was away for a moment longer, and is
far from the other. In `ProofTrial` it is nearer, but the node with the older copy is read from at once.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.simulator.scenario import PLAIN, Outcome, Scenario, play
from tests.simulator.planted.script import Script

if TYPE_CHECKING:
    from dyno.simulator.simulation import Simulation

SECONDS: Final = 7.0
AWAY_AT_S: Final = (1.0, 2.0)
AWAY_S: Final = (1.0, 2.0)
APART_S: Final = (1.5, 2.5)
FAR_S: Final = (0.1, 0.2)  # of a message's way; farther than others may be without being suspected
NEAR_S: Final = (0.03, 0.05)  # as far as they may be
KEYS: Final = 8
READS: Final = 50
READS_PER_S: Final = 150.0


class SetbackTrial(NamedTuple):
    """With the users and the load of `dyno simulate`. wiped: whether the disk is a new one, or an older
    copy."""

    wiped: bool = False

    def run(self, seed: int) -> Outcome:
        return play(seed, faults=self._plan, nodes=3, hours=SECONDS / 3600, holders_lost=1).outcome

    def _plan(self, simulation: Simulation, until_s: float) -> _Setback:
        return _Setback(simulation, wiped=self.wiped)


class _Setback:
    """A plan of faults."""

    def __init__(self, simulation: Simulation, *, wiped: bool) -> None:
        self._kind = "wipe" if wiped else "old-copy"
        self.counts = {self._kind: 0}
        self._sim = simulation
        self._random = simulation.random("setback")
        self._away, self._victim, self._third = self._random.sample(list(simulation.machines), 3)
        simulation.after(self._random.uniform(*AWAY_AT_S), self._leave)

    def end(self) -> None:
        self._sim.heal_all()
        self._sim.repair_cables()

    def _leave(self) -> None:
        sim, away = self._sim, self._away
        sim.isolate(away)
        for name in sim.machines:
            if name != away:
                sim.drop_links(away, name)
        self._copy = sim.copy_disk(self._victim)
        sim.after(self._random.uniform(*AWAY_S), self._return)

    def _return(self) -> None:
        sim, victim, third = self._sim, self._victim, self._third
        self.counts[self._kind] += 1
        sim.heal_all()
        sim.kill(victim)
        if self._kind == "wipe":
            sim.wipe(victim)
        else:
            sim.restore_disk(victim, self._copy)
        sim.cut(self._away, third)
        sim.drop_links(self._away, third)
        sim.set_latency(victim, third, FAR_S)
        sim.restart(victim)
        sim.after(self._random.uniform(*APART_S), self.end)


class ProofTrial(NamedTuple):
    """A few keys and many reads, through the node that was away."""

    def run(self, seed: int) -> Outcome:
        script = _Proof(Scenario(seed, nodes=3), Random(f"{seed}/proof"))
        script.play()
        return script.outcome(seed, holders_lost=1)


class _Proof(Script):
    def play(self) -> None:
        sim = self.sim
        away, victim, third = self.random.sample(list(sim.machines), 3)
        reader = self.client()
        keys = [key for key in self.scenario.keys if key.bucket == PLAIN]
        self.leave_alone(away)
        copy = sim.copy_disk(victim)
        written = self.write(self.random.sample(keys, KEYS))
        sim.run_for(self.random.uniform(*AWAY_S))
        sim.heal_all()
        for one, other in ((away, third), (reader.machine, victim), (reader.machine, third)):
            sim.cut(one, other)
        sim.drop_links(away, third)
        sim.kill(victim)
        sim.restore_disk(victim, copy)
        sim.set_latency(victim, third, NEAR_S)
        sim.restart(victim)
        reads = []
        for _ in range(READS):
            sim.run_for(self.random.expovariate(READS_PER_S))
            reads.append(self.begin_read(reader, self.random.choice(written).key))
        self.wait(reads)
        sim.heal_all()
        sim.repair_cables()
