"""A few faults for tests that are about something else: processes die, cables are cut, disks are full.

One thing at a time is wrong, and is put right before the next. The same interface as `simulator.faults`.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.simulator.simulation import Simulation

KINDS = ("kill", "stop", "drop", "cut", "isolate", "full", "slow")
_PAUSE_S = (0.5, 6.0)


class Mishaps:
    """counts: how often each kind struck."""

    def __init__(self, sim: Simulation, until_s: float, kinds: tuple[str, ...] = KINDS) -> None:
        self.counts = dict.fromkeys(kinds, 0)
        self._sim = sim
        self._until_s = until_s
        self._random = Random(f"{sim.seed}/mishaps")
        self._plan()

    def _plan(self) -> None:
        kernel = self._sim._kernel
        pause = self._random.uniform(*_PAUSE_S)
        if kernel.now + pause < self._until_s:
            kernel.after(pause, self._next)

    def _next(self) -> None:
        self.end()
        if self._sim.now < self._until_s:
            self._strike()
            self._plan()

    def _strike(self) -> None:
        sim = self._sim
        one, other = self._random.sample(list(sim.machines), 2)
        machine = sim.machines[one]
        kind = self._random.choice(list(self.counts))
        self.counts[kind] += 1
        match kind:
            case "kill":
                sim.kill(one)
            case "stop":
                machine.stop()
            case "drop":
                sim.drop_links(one, other)
            case "cut":
                sim.cut(one, other)
            case "isolate":
                sim.isolate(one)
            case "full":
                machine.engine.full = True
            case "slow":
                machine.commit_s = (0.1, 0.3)

    def end(self) -> None:
        sim = self._sim
        sim.heal_all()
        for name, machine in sim.machines.items():
            machine.engine.full = False
            machine.commit_s = (0.0005, 0.004)
            if not machine.running:
                sim.restart(name)
