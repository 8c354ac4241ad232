"""A trial of its own for what brings deleted values back once their tombstones are reaped.

Keys are written and deleted, and their owners forget that. Meanwhile the values are kept somewhere: as hints
of a node that does not reach the owner for whom they are, or on a copy of a disk that is put back later.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dyno.simulator import checkers
from dyno.simulator.history import DELETE, PUT, Key, Operation
from dyno.simulator.scenario import CONFIG, PLAIN, Outcome, Scenario

if TYPE_CHECKING:
    from dyno.simulator.client import Pending

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
        ending = scenario.settle(holders_lost=0 if self.hints else 1)
        history = scenario.history
        violations = checkers.check(history, ending)
        kind = "partition" if self.hints else "old-copy"
        return Outcome(
            seed,
            scenario.sim.digest(),
            tuple(violations),
            len(history.operations),
            sum(one.acknowledged for one in history.operations),
            scenario.sim.now,
            {kind: 1},
        )


class _Script:
    def __init__(self, scenario: Scenario, random: Random) -> None:
        self._scenario = scenario
        self._sim = scenario.sim
        self._random = random
        self._client = scenario.sim.client(*scenario.sim.machines, timeout=3.0)

    def keep_hints(self) -> None:
        """Of one node for one owner of the keys."""
        sim = self._sim
        owner, keeper = self._random.sample(list(sim.machines), 2)
        places = {key: self._scenario.owners(key) for key in self._scenario.keys}
        keys = [key for key in places if owner in places[key] and keeper not in places[key]]
        sim.isolate(owner)
        for name in sim.machines:
            if name != owner:
                sim.drop_links(owner, name)
        written = self._write(self._random.sample(keys, min(KEYS, len(keys))))
        sim.heal_all()
        sim.cut(owner, keeper)
        sim.run_for(MOMENT_S)
        self._delete(written)
        sim.run_for(REAPED_S)
        sim.heal_all()
        sim.run_for(MOMENT_S)

    def keep_a_copy(self) -> None:
        sim = self._sim
        victim = self._random.choice(list(sim.machines))
        keys = [key for key in self._scenario.keys if key.bucket == PLAIN]
        written = self._write(self._random.sample(keys, KEYS))
        sim.run_for(MOMENT_S)
        copy = sim.copy_disk(victim)
        self._delete(written)
        sim.run_for(REAPED_S)
        sim.kill(victim)
        sim.restore_disk(victim, copy)
        sim.restart(victim)
        sim.run_for(MOMENT_S)

    def _write(self, keys: list[Key]) -> list[Operation]:
        begun = []
        for key in keys:
            put = self._begin(PUT, key, None)
            begun.append((put, self._client.begin_put(key.bucket, key.key, put.value, w=2)))
        return self._ended(begun)

    def _delete(self, written: list[Operation]) -> None:
        begun = []
        for put in written:
            key, delete = put.key, self._begin(DELETE, put.key, put)
            options: dict[str, Any] = {"context": delete.token, "w": 2}
            begun.append((delete, self._client.begin_delete(key.bucket, key.key, **options)))
        self._ended(begun)

    def _begin(self, kind: str, key: Key, basis: Operation | None) -> Operation:
        client = self._client
        return self._scenario.history.begin(
            client.machine, kind, key, now=client.now, quorum=2, basis=basis
        )

    def _ended(self, begun: list[tuple[Operation, Pending]]) -> list[Operation]:
        """Those that succeeded."""
        results = self._client.wait(*(pending for _, pending in begun))
        for (operation, pending), result in zip(begun, results, strict=True):
            if isinstance(result, Exception):
                operation.fail(pending.ended, result)
            else:
                operation.succeed(
                    pending.ended, returned=result.context, answered=result.replicas.answered
                )
        return [operation for operation, _ in begun if operation.acknowledged]
