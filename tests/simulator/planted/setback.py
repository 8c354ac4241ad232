"""A trial of its own for disks that lack what was acknowledged: three nodes, of which one is away for a while.

The writes of that time are on the other two alone. Then one of these loses its disk, or gets an older copy of
it back, at the moment when the one that was away returns. So there are two who do not know those writes, and
a quorum of both would be wrong. The third is not reached by the one that was away for a moment longer, and is
far from the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.simulator.scenario import Outcome, play

if TYPE_CHECKING:
    from dyno.simulator.simulation import Simulation

SECONDS: Final = 7.0
AWAY_AT_S: Final = (1.0, 2.0)
AWAY_S: Final = (1.0, 2.0)
APART_S: Final = (1.5, 2.5)
FAR_S: Final = (0.1, 0.2)  # of a message's way; farther than others may be without being suspected


class SetbackTrial(NamedTuple):
    """wiped: whether the disk is a new one, or an older copy. latency_s: between its node and the third."""

    wiped: bool = False
    latency_s: tuple[float, float] = FAR_S

    def run(self, seed: int) -> Outcome:
        return play(seed, faults=self._plan, nodes=3, hours=SECONDS / 3600, holders_lost=1).outcome

    def _plan(self, simulation: Simulation, until_s: float) -> _Setback:
        return _Setback(simulation, wiped=self.wiped, latency_s=self.latency_s)


class _Setback:
    """A plan of faults."""

    def __init__(self, simulation: Simulation, *, wiped: bool, latency_s: tuple[float, float]) -> None:
        self._kind = "wipe" if wiped else "old-copy"
        self.counts = {self._kind: 0}
        self._sim = simulation
        self._latency_s = latency_s
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
        sim.set_latency(victim, third, self._latency_s)
        sim.restart(victim)
        sim.after(self._random.uniform(*APART_S), self.end)
