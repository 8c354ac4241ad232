"""A trial of its own for what brings deleted values back once their tombstones are reaped.

Keys are written and deleted, and their owners forget that. Meanwhile the values are kept somewhere: as hints
of a node that does not reach the owner for whom they are, or on a copy of a disk that is put back later.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from dyno.simulator.scenario import CONFIG, PLAIN, Outcome, Scenario
from tests.simulator.planted.script import Script

KEYS: Final = 5
MOMENT_S: Final = 2.0  # for what is done in the background
REAPED_S: Final = CONFIG.reap_after_s * 1.6


class ReapTrial(NamedTuple):
    """hints: whether hints keep the values, or else an old copy of a disk. Run as `Trial` is."""

    hints: bool = True

    def run(self, seed: int) -> Outcome:
        scenario = Scenario(seed, nodes=5 if self.hints else 3)
        script = _Script(scenario, Random(f"{seed}/reaped"))
        if self.hints:
            script.keep_hints()
        else:
            script.keep_a_copy()
        return script.outcome(seed, holders_lost=0 if self.hints else 1)


class _Script(Script):
    def keep_hints(self) -> None:
        """Of one node for one owner of the keys."""
        sim = self.sim
        owner, keeper = self.random.sample(list(sim.machines), 2)
        places = {key: self.scenario.owners(key) for key in self.scenario.keys}
        keys = [key for key in places if owner in places[key] and keeper not in places[key]]
        self.leave_alone(owner)
        written = self.write(self.random.sample(keys, min(KEYS, len(keys))))
        sim.heal_all()
        sim.cut(owner, keeper)
        sim.run_for(MOMENT_S)
        self.delete(written)
        sim.run_for(REAPED_S)
        sim.heal_all()
        sim.run_for(MOMENT_S)

    def keep_a_copy(self) -> None:
        sim = self.sim
        victim = self.random.choice(list(sim.machines))
        keys = [key for key in self.scenario.keys if key.bucket == PLAIN]
        written = self.write(self.random.sample(keys, KEYS))
        sim.run_for(MOMENT_S)
        copy = sim.copy_disk(victim)
        self.delete(written)
        sim.run_for(REAPED_S)
        sim.kill(victim)
        sim.restore_disk(victim, copy)
        sim.restart(victim)
        sim.run_for(MOMENT_S)
