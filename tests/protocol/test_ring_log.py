"""The ring log of a few nodes: stories of one entry after the other."""

from __future__ import annotations

from dyno.buckets.properties import DEFAULTS
from dyno.protocol.ring_proposals import Outcome
from dyno.ringlog.changes import Create
from tests.protocol.ring_log_harness import World, on_disk


def a_ring(count: int = 3) -> World:
    """Nodes that know the first entry."""
    world = World(1, count=count)
    world.start()
    world.run(10)
    assert world.numbers() == [1] * count
    return world


def wish_bucket(world: World, node: str, bucket: str, *, deadline_s: float | None = None) -> list[Outcome]:
    world.checks.wished[bucket] = None
    return world.wish(node, Create(bucket, DEFAULTS), deadline_s=deadline_s)


def test_a_cluster_without_a_log_finds_the_first_entry() -> None:
    world = a_ring()
    entry = world.log("n2").entry
    assert entry is not None
    assert [row.name for row in entry.rows] == ["n1", "n2", "n3"]
    assert all(on_disk(machine) == entry for machine in world.machines.values())


def test_a_wish_becomes_an_entry_that_all_know() -> None:
    world = a_ring()
    outcomes = wish_bucket(world, "n1", "b")
    world.run(1)
    assert outcomes == [Outcome(2)]
    assert world.numbers() == [2, 2, 2]
