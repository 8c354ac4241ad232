"""Containers by where they hang."""

from __future__ import annotations

from collections import deque

from dyno.causality.mint import Note
from dyno.protocol.quorum import Tally
from dyno.simulator.census import census
from dyno.simulator.simulation import Simulation


class Holder:
    """As far as its module's name goes, one of ours."""

    __module__ = "dyno.tests"
    __slots__ = ("__dict__", "few", "nothing")

    def __init__(self) -> None:
        self.few = deque([1, 2, 3])
        self.by_name = {"a": Tally(needed=1, candidates=3), "b": Tally(needed=1, candidates=3)}
        self.note = Note(b"12345678", 0, 1)
        self.again = self
        self.does = self.__init__  # type: ignore[misc]


def test_it_counts_what_hangs_on_attributes_and_in_containers() -> None:
    holder = Holder()
    holder.by_name["b"].did("n1")
    assert census(holder) == {
        "Holder.few": 3,
        "Holder.by_name": 2,
        "Holder.by_name[].yes": 1,
        "Holder.by_name[].no": 0,
        "Holder.by_name[].stand_ins": 0,
    }


def test_it_finds_the_tables_of_a_node() -> None:
    sim = Simulation(seed=1)
    sim.add_cluster(3)
    client = sim.client("n1")
    client.put("b", "k", 1)
    found = census(sim.machines["n1"].node)
    assert found["Node._coordinator.writes.replication._puts"] == 0
    assert found["Node.membership.table._ring"] == 3
