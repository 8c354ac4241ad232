"""A trial of its own for anti-entropy: writes that a node missed, and that nobody keeps for it.

Again and again one of three nodes is cut off or killed while keys are written and deleted; hints have no
room. Some of its records rot meanwhile, and now and then the others die with it. Nobody reads, so only
exchanges can bring the copies together, and whoever believes a wrong tree does not. In the end all disks are
compared, and each tree with its disk.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from dyno.protocol.rows import RECORDS_END
from dyno.simulator import checkers
from dyno.simulator.checkers import Ending, Violation
from dyno.simulator.history import GET, Operation
from dyno.simulator.scenario import CONFIG, Outcome, Scenario
from tests.protocol.tree_check import wrong_trees
from tests.simulator.planted.script import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS: Final = 4
WRITES: Final = 6  # of a round
DELETES: Final = 2
ROTTEN_MAX: Final = 3
AWAY_S: Final = (1.0, 2.0)  # longer than a write waits for an owner
BACK_S: Final = (0.5, 3.0)
REST_S: Final = 20.0
RECORDS_MAX: Final = 1000
TREES_ALONE: Final = replace(CONFIG, hints_bytes_max=1, put_timeout_s=0.5, scrub_s=86_400.0)


class MissedTrial(NamedTuple):
    """Run as `Trial` is."""

    rounds: int = ROUNDS

    def run(self, seed: int) -> Outcome:
        script = _Script(Scenario(seed, nodes=3, config=TREES_ALONE), Random(f"{seed}/missed"))
        script.write(script.scenario.keys)
        for _ in range(self.rounds):
            script.miss()
        return script.judged(seed)


class _Script(Script):
    def miss(self) -> None:
        sim, random = self.sim, self.random
        away, *others = random.sample(list(sim.machines), 3)
        killed = [away] if random.random() < 0.5 else []
        if killed:
            sim.kill(away)
        else:
            self.leave_alone(away)
        written = self.write(random.sample(self.scenario.keys, WRITES))
        self.delete(random.sample(written, min(DELETES, len(written))))
        sim.run_for(random.uniform(*AWAY_S))
        if killed:
            self._rot(away)
            if random.random() < 0.5:
                killed += others
                for name in others:
                    sim.kill(name)
        for name in killed:
            sim.restart(name)
        sim.heal_all()
        sim.run_for(random.uniform(*BACK_S))

    def _rot(self, name: str) -> None:
        engine = self.sim.machines[name].engine
        records, _ = engine.scan(b"", RECORDS_END, limit=RECORDS_MAX)
        slots = [slot for slot, cell in records if cell is not None]
        for slot in self.random.sample(slots, self.random.randint(0, min(ROTTEN_MAX, len(slots)))):
            engine.corrupt(slot)

    def judged(self, seed: int) -> Outcome:
        """Nothing is read, for that would repair it."""
        sim, scenario = self.sim, self.scenario
        sim.run_for(REST_S)
        reads = {key: Operation(0, "judge", GET, key, began=sim.now, quorum=0) for key in scenario.keys}
        for read in reads.values():
            read.succeed(sim.now, returned=b"", answered=())
        ending = Ending(
            reads=reads,
            owners={key: scenario.owners(key) for key in scenario.keys},
            copies={key: scenario.copies(key) for key in scenario.keys},
            left=(),
            starts=sum(machine.starts for machine in sim.machines.values()),
            holders_lost=0,
        )
        history = scenario.history
        violations = (
            *checkers.settled(history, ending),
            *checkers.dots(history, ending),
            *self._wrong_trees(),
        )
        acknowledged = sum(one.writes and one.acknowledged for one in history.operations)
        return Outcome(
            seed, sim.digest(), violations, len(history.operations), acknowledged, sim.now, {"missed": ROUNDS}
        )

    def _wrong_trees(self) -> Iterator[Violation]:
        for name, machine in self.sim.machines.items():
            for wrong in wrong_trees(machine):
                yield Violation("trees", None, self.sim.now, f"{name}: {wrong}")
