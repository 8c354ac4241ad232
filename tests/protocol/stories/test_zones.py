"""Copies lie in distinct zones, so a zone that is lost as a whole takes one copy of anything."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dyno.simulator.client import Client
from dyno.simulator.simulation import Simulation
from tests.protocol.stories.cluster_harness import on_disk, slot_of

Simulate = Callable[..., Simulation]
ZONES = ("east", "north", "west")
KEYS = [f"key{number}" for number in range(60)]


def zoned(simulate: Simulate, nodes: int, **options: float) -> Simulation:
    """n1 in the first zone, n2 in the second and so on, round the zones."""
    sim = simulate(partitions=1024)
    names = [f"n{number + 1}" for number in range(nodes)]
    for at, name in enumerate(names):
        join = names[:1] if at else []
        sim.add_node(name, join=join, zone=ZONES[at % len(ZONES)], weight=options.get(name, 1.0))
    assert sim.run_until(sim.agreed, limit_s=60)
    return sim


def in_zone(sim: Simulation, zone: str) -> list[str]:
    return [name for name, machine in sim.machines.items() if machine.birth.zone == zone]


def write(client: Client, value: str) -> None:
    for key in KEYS:
        context = client.get("bucket", key, r="quorum", sloppy=False).context
        client.put("bucket", key, value, context=context, w="quorum", sloppy=False)


def read(client: Client) -> list[object]:
    return [client.get("bucket", key, r="quorum", sloppy=False).value for key in KEYS]


@pytest.mark.parametrize("lost", ZONES)
def test_a_lost_zone_leaves_strict_majorities_for_reads_and_writes(simulate: Simulate, lost: str) -> None:
    """sloppy=False: nobody stands in for the owners that are gone."""
    sim = zoned(simulate, 6)
    for key in KEYS:
        _, owners = slot_of(sim, key.encode())
        assert sorted(sim.machines[name].birth.zone for name in owners) == sorted(ZONES)
    (here, *_) = [name for name in sim.machines if name not in in_zone(sim, lost)]
    client = sim.client(here)
    write(client, "before")
    for name in in_zone(sim, lost):
        sim.isolate(name)  # nobody is told
    assert read(client) == ["before"] * len(KEYS)
    write(client, "during")
    assert read(client) == ["during"] * len(KEYS)
    sim.heal_all()
    for key in KEYS:  # those that were gone catch up by themselves
        copies = on_disk(sim, key.encode())
        assert sim.run_until(lambda key=key: all_equal(sim, key), limit_s=120), copies  # type: ignore[misc]


def all_equal(sim: Simulation, key: str) -> bool:
    """On the disks of all owners there is the same record, and on no others any."""
    _, owners = slot_of(sim, key.encode())
    copies = on_disk(sim, key.encode())
    return len({copies[name] for name in owners}) == 1 and all(
        bool(record) == (name in owners) for name, record in copies.items()
    )


def test_a_node_of_twice_the_weight_holds_twice_the_share(simulate: Simulate) -> None:
    sim = zoned(simulate, 6, n1=2.0, n2=2.0, n3=2.0)  # one in each zone
    shares = {member["name"]: member["share"] for member in sim.client("n1").status()["members"]}
    for name, share in shares.items():
        assert share == pytest.approx(2 / 9 if name in ("n1", "n2", "n3") else 1 / 9, rel=0.05)
