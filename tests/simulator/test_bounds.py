"""What a hot key costs whose coordinator dies again and again: every start is a new actor of its context."""

from __future__ import annotations

from typing import Final

import msgspec

from dyno.causality.record import Record
from dyno.simulator.checkers import check
from dyno.simulator.history import PUT, Operation
from dyno.simulator.scenario import CONFIG, Scenario

RESTARTS: Final = 1000
WRITES: Final = 2  # by the coordinator, between two restarts
BYTES_MAX: Final = 30_000  # of a record with an actor for each start


def test_a_thousand_restarts_of_a_hot_keys_coordinator() -> None:
    # All that is remembered of requests is read at every start, and nobody sends one again here.
    config = msgspec.structs.replace(CONFIG, requests_seen_max=100)
    scenario = Scenario(1, nodes=3, config=config)
    sim, history, key = scenario.sim, scenario.history, scenario.keys[0]
    names = list(sim.machines)
    last: Operation | None = None
    for number in range(RESTARTS):
        name = names[number % len(names)]
        client = sim.client(name, timeout=2.0)
        for _ in range(WRITES):
            put = history.begin(client.machine, PUT, key, now=sim.now, quorum=2, basis=last)
            result = client.put(key.bucket, key.key, put.value, context=put.token, w=2)
            put.succeed(sim.now, returned=result.context, answered=result.replicas.answered)
            last = put
        client.close()
        sim.kill(name)
        sim.restart(name)
        assert sim.run_until(sim.agreed, limit_s=60.0)
    ending = scenario.settle()
    assert check(history, ending) == []
    assert ending.starts == RESTARTS + len(names)
    copies = [packed for packed in ending.copies[key].values() if packed]
    assert len(copies) == len(names)
    assert Record.unpack(copies[0]).siblings[0].value
    assert max(map(len, copies)) < BYTES_MAX
