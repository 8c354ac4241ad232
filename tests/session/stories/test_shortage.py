"""Too few nodes: told at once where that is certain, waited for where nodes come and go."""

from __future__ import annotations

import pytest

from dyno.errors import QuorumNotMet
from dyno.session.changes import SETTLED_S
from dyno.session.upkeep import REFRESH_S
from dyno.simulator.client import Client, Pending
from dyno.simulator.simulation import Simulation

PROMPT_S = 0.2
DEAD_AFTER_S = 20.0  # by then everybody knows, and it is no news any more


def a_cluster(size: int = 3) -> tuple[Simulation, Client]:
    sim = Simulation(seed=1)
    sim.add_cluster(size)
    client = sim.client(*sim.machines, timeout=15.0)
    client.put("bucket", "key", "value")
    return sim, client


def refused(client: Client, pending: Pending) -> QuorumNotMet:
    with pytest.raises(QuorumNotMet) as caught:
        client.wait(pending)
    assert pending.ended - pending.began < PROMPT_S
    assert not caught.value.indeterminate
    return caught.value


def test_more_than_a_small_cluster_has_is_refused_at_once() -> None:
    _, client = a_cluster(2)
    assert refused(client, client.begin_put("bucket", "key", 1, w=3)).needed == 3
    assert refused(client, client.begin_get("bucket", "key", r=3)).needed == 3


def test_more_than_live_is_refused_at_once_to_clients_old_and_new() -> None:
    sim, client = a_cluster()
    sim.kill("n3")
    for _ in range(int(DEAD_AFTER_S)):
        sim.run_for(1.0)
        client.get("bucket", "key")
    refused(client, client.begin_put("bucket", "key", 1, w=3))
    refused(client, client.begin_delete("bucket", "key", w=3))
    fresh = sim.client("n1", "n2", "n3")
    refused(fresh, fresh.begin_get("bucket", "key", r=3))
    fresh = sim.client("n3", "n2")
    refused(fresh, fresh.begin_put("bucket", "key", 1, w=3))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_two_of_three_are_restarted_within_the_timeout(how: str) -> None:
    sim, client = a_cluster()
    for name in ("n1", "n2"):
        getattr(sim, how)(name)
    sim.run_for(0.1)
    read = client.begin_get("bucket", "key")
    write = client.begin_put("bucket", "other", 1)
    sim.run_for(3.0)
    assert not read.done
    late = client.begin_put("bucket", "third", 1, timeout=20)
    for name in ("n1", "n2"):
        sim.restart(name)
    assert client.wait(read)[0].value == "value"
    client.wait(late)
    if how == "stop":
        client.wait(write)
    else:  # n3 may have taken it, as long as it held the others for alive
        assert write.error is None or write.error.indeterminate


def test_two_of_three_that_stay_away_are_not_waited_for_until_the_timeout() -> None:
    sim, client = a_cluster()
    for name in ("n1", "n2"):
        sim.stop(name)
    sim.run_for(REFRESH_S + 0.5)  # what changes while a call is under way, it does wait for
    read = client.begin_get("bucket", "key")
    with pytest.raises(QuorumNotMet):
        client.wait(read)
    assert SETTLED_S - REFRESH_S - 1.0 < read.ended - read.began < SETTLED_S + 1.0
    refused(client, client.begin_get("bucket", "key"))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_all_are_restarted_within_the_timeout(how: str) -> None:
    sim, client = a_cluster()
    before = [client.begin_get("bucket", "key") for _ in range(20)]
    for name in sim.machines:
        getattr(sim, how)(name)
    sim.run_for(0.1)  # a write that is sent to a node as it ends may have been done
    during = [client.begin_put("bucket", f"key {number}", number) for number in range(20)]
    sim.run_for(5.0)
    during += [client.begin_get("bucket", "key") for number in range(20)]
    for name in sim.machines:
        sim.restart(name)
    client.wait(*before, *during)
    assert all(pending.error is None for pending in (*before, *during))
