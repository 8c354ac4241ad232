"""What trials that follow a script of their own do: write, delete, and read as users, and be judged.

Their calls are in the scenario's history like those of its users, of whom there are none here.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final

from dyno.simulator import checkers
from dyno.simulator.history import DELETE, GET, PUT, Key, Operation
from dyno.simulator.scenario import Outcome, Scenario

if TYPE_CHECKING:
    from dyno.simulator.client import Client, Pending

QUORUM: Final = 2  # of all calls
TIMEOUT_S: Final = 3.0


class Script:
    """random: what is left to chance."""

    def __init__(self, scenario: Scenario, random: Random) -> None:
        self.scenario = scenario
        self.sim = scenario.sim
        self.random = random
        self._client = self.client()

    def client(self) -> Client:
        return self.sim.client(*self.sim.machines, timeout=TIMEOUT_S)

    def leave_alone(self, name: str) -> None:
        """Cut a machine off, and let the others notice at once."""
        self.sim.isolate(name)
        for other in self.sim.machines:
            if other != name:
                self.sim.drop_links(name, other)

    def write(self, keys: list[Key]) -> list[Operation]:
        """Those that succeeded."""
        begun = []
        for key in keys:
            put = self._begin(self._client, PUT, key, None)
            begun.append((put, self._client.begin_put(key.bucket, key.key, put.value, w=QUORUM)))
        self.wait(begun)
        return [put for put, _ in begun if put.acknowledged]

    def delete(self, written: list[Operation]) -> None:
        begun = []
        for put in written:
            key, delete = put.key, self._begin(self._client, DELETE, put.key, put)
            pending = self._client.begin_delete(key.bucket, key.key, context=delete.token, w=QUORUM)
            begun.append((delete, pending))
        self.wait(begun)

    def begin_read(self, client: Client, key: Key) -> tuple[Operation, Pending]:
        """From owners alone."""
        get = self._begin(client, GET, key, None)
        return get, client.begin_get(key.bucket, key.key, r=QUORUM, sloppy=False)

    def wait(self, begun: list[tuple[Operation, Pending]]) -> None:
        for operation, pending in begun:
            self.sim.run_until(lambda pending=pending: pending.done, limit_s=2 * TIMEOUT_S)  # type: ignore[misc]
            outcome = pending.outcome
            if isinstance(outcome, Exception):
                operation.fail(pending.ended, outcome)
                continue
            answered = outcome.replicas.answered
            operation.succeed(pending.ended, returned=outcome.context, answered=answered)
            if operation.kind == GET:
                operation.siblings = tuple(outcome.siblings)

    def outcome(self, seed: int, *, holders_lost: int) -> Outcome:
        history = self.scenario.history
        ending = self.scenario.settle(holders_lost=holders_lost)
        return Outcome(
            seed,
            self.sim.digest(),
            tuple(checkers.check(history, ending)),
            len(history.operations),
            sum(one.writes and one.acknowledged for one in history.operations),
            self.sim.now,
            {},
        )

    def _begin(self, client: Client, kind: str, key: Key, basis: Operation | None) -> Operation:
        return self.scenario.history.begin(
            client.machine, kind, key, now=client.now, quorum=QUORUM, strict=kind != DELETE, basis=basis
        )
