"""YCSB's mixes on virtual time, drawn as `dyno bench` draws them: every record keeps one value."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from dyno.simulator.simulation import Simulation
from dyno.workload.mixes import INSERT, MIXES, READ, RMW, UPDATE, Workload

if TYPE_CHECKING:
    from dyno.simulator.client import Client
    from dyno.workload.mixes import Operation

BUCKET = "bench"


class Caller:
    """Does one operation after another, and knows the context of every record that it saw."""

    def __init__(self, client: Client, workload: Workload) -> None:
        self._client = client
        self._workload = workload
        self._contexts: dict[str, bytes] = {}
        self._writes = 0

    def load(self) -> None:
        for key in self._workload.keys_to_load():
            self._put(key)

    def do(self, operation: Operation) -> None:
        kind, key, _ = operation
        if kind in (READ, RMW):
            record = self._client.get(BUCKET, key)
            assert len(record.siblings) == 1
            self._contexts[key] = record.context
        if kind in (UPDATE, INSERT, RMW):
            self._put(key)
        if kind == INSERT:
            self._workload.acknowledge(operation)

    def _put(self, key: str) -> None:
        self._writes += 1
        context = self._contexts.get(key)
        self._contexts[key] = self._client.put(BUCKET, key, self._writes, context=context).context


@pytest.mark.parametrize("name", MIXES)
def test_a_workload_runs_on_virtual_time(name: str) -> None:
    sim = Simulation(seed=7)
    sim.add_cluster(3)
    client = sim.client("n1", "n2", "n3")
    workload = Workload(MIXES[name], records=50, random=Random(7), run="run")
    caller = Caller(client, workload)
    caller.load()
    done = dict.fromkeys(workload.mix.kinds, 0)
    for _ in range(300):
        operation = workload.next()
        caller.do(operation)
        done[operation.kind] += 1
    assert all(done.values()), done
    keys = client.keys(BUCKET, r="all")
    assert len(keys) == 50 + done.get(INSERT, 0)
    assert all(len(record.siblings) == 1 for record in client.get_many(BUCKET, keys).values())
