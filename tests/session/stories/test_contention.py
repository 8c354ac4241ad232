"""Many clients update one key at once: nothing is lost, and nobody starves or goes round and round."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.errors import QuorumNotMet, RequestTimeout
from dyno.simulator.simulation import Simulation


class Contest:
    """clients: how many. tasks: of each, that all update one key of a cluster of three. updates: of each,
    one after another."""

    def __init__(self, clients: int, tasks: int, *, updates: int, seed: int) -> None:
        self.sim = Simulation(seed)
        self.sim.add_cluster(3)
        self.clients = [self.sim.client("n1", "n2", "n3", timeout=5.0) for _ in range(clients)]
        self.sim.run_for(0.5)
        self.changes = 0
        self.added: list[str] = []
        self.doubtful: list[str] = []
        self.slowest_s = 0.0
        self._left = {(c, t): updates for c in range(clients) for t in range(tasks)}
        self._pending: dict[tuple[int, int], Any] = {}

    def run(self, *, limit_s: float = 120.0) -> None:
        for who in self._left:
            self._next(who)
        assert self.sim.run_until(self._all_through, limit_s=limit_s)

    def there(self) -> list[str]:
        """What the updates left, siblings and all."""
        (client, *_) = self.clients
        siblings = client.get("bucket", "key", r=3, timeout=30).siblings
        return sorted({name for sibling in siblings for name in sibling})

    def _next(self, who: tuple[int, int]) -> None:
        name = f"{who[0]}.{who[1]}.{self._left[who]}"

        def add(siblings: list[Any]) -> set[str]:
            self.changes += 1
            return set().union(*siblings) | {name}

        self._pending[who] = (name, self.clients[who[0]].begin_update("bucket", "key", add))

    def _all_through(self) -> bool:
        for who, (name, pending) in list(self._pending.items()):
            if not pending.done:
                continue
            del self._pending[who]
            self.slowest_s = max(self.slowest_s, pending.ended - pending.began)
            if pending.error is None:
                self.added.append(name)
            else:
                assert isinstance(pending.error, QuorumNotMet | RequestTimeout), pending.error
                self.doubtful.append(name)
            self._left[who] -= 1
            if self._left[who]:
                self._next(who)
        return not self._pending


@pytest.mark.parametrize(("clients", "tasks"), [(16, 1), (4, 4), (64, 1)])
def test_no_update_is_lost_and_rounds_are_few(clients: int, tasks: int) -> None:
    contest = Contest(clients, tasks, updates=5, seed=1)
    contest.run()
    assert contest.doubtful == []
    assert contest.there() == sorted(contest.added)
    assert contest.changes / len(contest.added) < 6
    assert contest.slowest_s < 4.0


@pytest.mark.parametrize("seed", range(3))
def test_no_acknowledged_update_is_lost_while_nodes_come_and_go(seed: int) -> None:
    contest = Contest(8, 2, updates=30, seed=seed)
    sim, began = contest.sim, contest.sim.now
    for at, name in ((0.1, "n1"), (1.1, "n2")):
        sim._kernel.after(at, sim.kill, name)
        sim._kernel.after(at + 0.4, sim.restart, name)
    sim._kernel.after(0.6, sim.isolate, "n3")
    sim._kernel.after(1.0, sim.heal_all)
    contest.run()
    assert sim.now > began + 1.5
    sim.run_for(10.0)
    there = contest.there()
    assert set(contest.added) <= set(there)
    assert set(there) <= {*contest.added, *contest.doubtful}
    assert len(contest.added) > len(contest.doubtful)
