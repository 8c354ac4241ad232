"""Trials in which one kind of trouble is much more frequent than in `dyno simulate`, so that they are short.

The load, the users and all checkers are those of `dyno simulate`; everything is drawn from the seed. `Rough`
takes its faults from there, too. `Outages` kills all nodes at once in the middle of commits, while some of
them do not reach the others; or the disks of some are full for a moment.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.simulator.faults import DESTRUCTIVE, FAULTS, Faults
from dyno.simulator.scenario import NODES, Outcome, play
from dyno.simulator.trial import HOLDERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.simulator.simulation import Simulation

COMMIT_S: Final = (0.05, 0.3)  # a write is answered meanwhile by whoever does not wait for it
CALM_S: Final = (1.0, 2.0)
TROUBLE_S: Final = (0.5, 1.5)


class Rough(NamedTuple):
    """kinds: of `FAULTS`. seconds: of load and faults. gap_s: from one fault to the next, on average."""

    kinds: tuple[str, ...] = FAULTS
    seconds: float = 12.0
    gap_s: float = 0.7
    nodes: int = NODES

    def run(self, seed: int) -> Outcome:
        destroys = any(kind in DESTRUCTIVE for kind in self.kinds)
        return play(
            seed,
            faults=self._plan,
            nodes=self.nodes,
            hours=self.seconds / 3600,
            holders_lost=HOLDERS_MAX if destroys else 0,
        ).outcome

    def _plan(self, simulation: Simulation, until_s: float) -> Faults:
        return Faults(
            simulation,
            kinds=self.kinds,
            until_s=until_s,
            holders_max=HOLDERS_MAX,
            mean_gap_s=self.gap_s,
        )


class Outages(NamedTuple):
    """kind: "outage", or "disk-full"."""

    kind: str = "outage"
    seconds: float = 10.0
    nodes: int = NODES

    def run(self, seed: int) -> Outcome:
        plan = partial(_Outages, self.kind)
        return play(seed, faults=plan, nodes=self.nodes, hours=self.seconds / 3600).outcome


class _Outages:
    """A plan of faults: again and again machines are split in two and then killed, or disks are full."""

    def __init__(self, kind: str, simulation: Simulation, until_s: float) -> None:
        self.counts = {kind: 0}
        self._kind = kind
        self._sim = simulation
        self._until_s = until_s
        self._random = simulation.random("outages")
        self._befallen: list[str] = []
        for name in simulation.machines:
            simulation.slow_disk(name, commit_s=COMMIT_S)
        self._after(CALM_S, self._begin)

    def end(self) -> None:
        self._until_s = self._sim.now
        self._mend()
        for name in self._sim.machines:
            self._sim.slow_disk(name)

    def _begin(self) -> None:
        if self._kind == "outage":
            self._split()
        self._after(TROUBLE_S, self._befall)

    def _split(self) -> None:
        names = list(self._sim.machines)
        self._random.shuffle(names)
        half = self._random.randrange(1, len(names))
        for one in names[:half]:
            for other in names[half:]:
                self._sim.cut(one, other)
                self._sim.drop_links(one, other)

    def _befall(self) -> None:
        self.counts[self._kind] += 1
        self._befallen = list(self._sim.machines)
        if self._kind == "disk-full":
            self._befallen = self._random.sample(self._befallen, self._random.randint(1, len(self._befallen)))
        for name in self._befallen:
            if self._kind == "outage":
                self._sim.kill(name)
            else:
                self._sim.fill_disk(name)
        self._after(TROUBLE_S, self._relieve)

    def _relieve(self) -> None:
        self._mend()
        self._after(CALM_S, self._begin)

    def _mend(self) -> None:
        self._sim.heal_all()
        befallen, self._befallen = self._befallen, []
        for name in befallen:
            if self._kind == "outage":
                self._sim.restart(name)
            else:
                self._sim.free_disk(name)

    def _after(self, seconds: tuple[float, float], action: Callable[[], None]) -> None:
        def act() -> None:
            if self._sim.now < self._until_s:
                action()

        self._sim.after(self._random.uniform(*seconds), act)
