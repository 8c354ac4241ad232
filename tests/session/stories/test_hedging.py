"""Reads while one node is slow or stopped: somebody else answers, after the time that is usual."""

from __future__ import annotations

import pytest

from dyno.simulator.client import Client
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import Get

SLOW_S = (0.2, 0.2)
READS = 60


def a_cluster() -> tuple[Simulation, Client]:
    """Three nodes that are usually quick, and a client that knows it."""
    sim = Simulation(seed=1)
    sim.add_cluster(3)
    client = sim.client("n1", "n2", "n3")
    for number in range(READS):
        client.put("bucket", f"key {number}", number)
    for _ in range(40):
        read_all(client)
    return sim, client


def read_all(client: Client) -> list[float]:
    """The seconds that each read took, in order; a third of the keys has each node as first primary."""
    took = []
    for number in range(READS):
        pending = client.begin_get("bucket", f"key {number}")
        assert client.wait(pending)[0].value == number
        took.append(pending.ended - pending.began)
    return sorted(took)


def test_a_slow_coordinator_is_overtaken() -> None:
    sim, client = a_cluster()
    assert read_all(client)[-1] < 0.01
    sim.set_latency(client.machine, "n2", SLOW_S)
    assert read_all(client)[-1] < 0.03
    sim.set_latency(client.machine, "n2", (0.0002, 0.001))
    sim.run_for(1.0)
    assert read_all(client)[-1] < 0.01


def test_a_slow_replica_is_overtaken() -> None:
    sim, client = a_cluster()
    for name in ("n1", "n3"):
        sim.set_latency(name, "n2", SLOW_S)
    client.begin_get("bucket", "the first of them may be asked at n2")
    sim.run_for(1.0)
    took = read_all(client)
    assert took[-1] < 0.06, "both others may be asked for each other, and n2 itself asks one of them"
    assert took[len(took) // 2] < 0.02


def test_a_node_that_is_cut_off_is_asked_no_more() -> None:
    sim, client = a_cluster()
    sim.isolate("n2")
    assert read_all(client)[-1] < 0.6
    assert read_all(client)[-1] < 0.1, "n1 and n3 know by now that it is silent, and so does the client"


@pytest.mark.parametrize("seed", range(3))
def test_hedges_are_few_while_all_is_well(seed: int) -> None:
    """One node takes longer than the others, and always has."""
    sim = Simulation(seed)
    sim.add_cluster(3)
    client = sim.client("n1", "n2", "n3")
    sim.set_latency(client.machine, "n3", (0.02, 0.03))
    sent = 0
    send = client._send

    def count() -> None:
        nonlocal sent
        sent += sum(isinstance(request, Get) for _, request in client._out.sends)
        send()

    client._send = count  # type: ignore[method-assign]
    for number in range(1500):
        client.get("bucket", f"key {number % 50}")
    before, sent = sent, 0
    assert 1500 <= before <= 1700
    for number in range(1000):
        client.get("bucket", f"key {number % 50}")
    assert 1000 <= sent <= 1080, "one in twenty at most, of those that n3 is asked"
