"""Faults of the network: partitions of every shape, and cables that lose, repeat, delay and break.

Several may befall one cable: it is cut until the last cut of it has ended, and as bad as all that is wrong
with it now. Clients are on machines too, and are cut off like nodes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from dyno.simulator.fault import Begin, Fault

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from dyno.simulator.simulation import Simulation

_CUT_MEAN_S = 7.0
_CUT_MAX_S = 40.0
_BAD_MEAN_S = 8.0
_BAD_MAX_S = 30.0


class CableFaults:
    """begins: by kind."""

    def __init__(self, simulation: Simulation, random: Random) -> None:
        self._sim = simulation
        self._random = random
        self._cuts: dict[tuple[str, str], int] = {}  # how many faults cut a way
        self._bad: dict[
            int, tuple[tuple[str, str] | None, dict[str, Any]]
        ] = {}  # which cable (None: all), how
        self._last_bad = 0
        self.begins: dict[str, Begin] = {
            "partition": self._partition,
            "oneway": self._one_way,
            "flapping": self._flapping,
            "loss": self._loss,
            "duplicate": self._duplicates,
            "reorder": self._strays,
            "latency": self._latency,
            "bandwidth": self._bandwidth,
            "reset": self._reset,
        }

    # ── cuts ──

    def _partition(self) -> Fault | None:
        ways, what = self._split()
        return self._cut(ways, what) if ways else None

    def _one_way(self) -> Fault | None:
        """Nobody hears a node, or it hears nobody, or one does not hear one other."""
        roll, machines = self._random.random(), self._everybody()
        node = self._random.choice(list(self._sim.machines))
        others = [name for name in machines if name != node]
        if roll < 0.4:
            others = [self._random.choice(others)] if others else []
        if not others:
            return None
        if roll < 0.7:
            return self._cut([(node, other) for other in others], f"{node} is not heard by {_told(others)}")
        return self._cut([(other, node) for other in others], f"{node} does not hear {_told(others)}")

    def _flapping(self) -> Fault | None:
        """A partition that comes and goes."""
        ways, what = self._split()
        if not ways:
            return None
        over: list[bool] = []
        cut = [False]

        def flap() -> None:
            if not over:
                self._cut_ways(ways) if not cut[0] else self._heal_ways(ways)
                cut[0] = not cut[0]
                self._sim.after(self._random.uniform(0.05, 2.5), flap)

        def end() -> None:
            over.append(True)
            if cut[0]:
                self._heal_ways(ways)

        flap()
        return Fault(f"{what}, off and on", self._seconds(_CUT_MEAN_S, _CUT_MAX_S), end)

    def _split(self) -> tuple[list[tuple[str, str]], str]:
        """A node alone, two sides, or two sides and a bridge between them; clients on any side."""
        nodes = list(self._sim.machines)
        if len(nodes) < 2:
            return [], ""
        self._random.shuffle(nodes)
        roll = self._random.random()
        first = 1 if roll < 0.4 else self._random.randint(1, len(nodes) - 1)
        one, other = nodes[:first], nodes[first:]
        bridge = other.pop() if roll > 0.8 and len(other) > 1 else None
        for client in self._everybody():
            if client not in self._sim.machines:
                self._random.choice((one, other)).append(client)
        ways = [way for near in one for far in other for way in ((near, far), (far, near))]
        what = f"{_told(one)} | {_told(other)}"
        return ways, what if bridge is None else f"{what}, bridged by {bridge}"

    def _cut(self, ways: list[tuple[str, str]], what: str) -> Fault:
        self._cut_ways(ways)
        return Fault(what, self._seconds(_CUT_MEAN_S, _CUT_MAX_S), partial(self._heal_ways, ways))

    def _cut_ways(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._cuts[way] = self._cuts.get(way, 0) + 1
            self._sim.cut_one_way(*way)

    def _heal_ways(self, ways: list[tuple[str, str]]) -> None:
        for way in ways:
            self._cuts[way] -= 1
            if not self._cuts[way]:
                del self._cuts[way]
                self._sim.heal_one_way(*way)

    @property
    def whole(self) -> bool:
        """Whether no way is cut now."""
        return not self._cuts

    # ── bad cables ──

    def _loss(self) -> Fault | None:
        return self._worsen(loss=self._random.choice((0.01, 0.05, 0.1, 0.3)))

    def _duplicates(self) -> Fault | None:
        return self._worsen(duplicates=self._random.choice((0.05, 0.3, 1.0)))

    def _strays(self) -> Fault | None:
        return self._worsen(strays=self._random.choice((0.05, 0.3, 0.8)))

    def _latency(self) -> Fault | None:
        """Far away, or uneven."""
        if self._random.random() < 0.5:
            least = self._random.choice((0.005, 0.03, 0.15))
            return self._worsen(latency_s=(least, least * self._random.uniform(1.1, 4.0)))
        return self._worsen(
            spikes=self._random.choice((0.01, 0.1, 0.3)), spike_s=self._random.choice((0.05, 0.3, 1.0))
        )

    def _bandwidth(self) -> Fault | None:
        return self._worsen(bytes_per_s=self._random.choice((5e3, 30e3, 200e3)))

    def _worsen(self, **qualities: Any) -> Fault | None:
        """All cables, or one."""
        told = ", ".join(f"{name}={value}" for name, value in qualities.items())
        pair = None if self._random.random() < 0.4 else self._pair()
        self._last_bad += 1
        self._bad[self._last_bad] = (pair, qualities)
        self._requalify()
        what = f"{' ↔ '.join(pair) if pair else 'all cables'}: {told}"
        return Fault(what, self._seconds(_BAD_MEAN_S, _BAD_MAX_S), partial(self._improve, self._last_bad))

    def _improve(self, bad: int) -> None:
        del self._bad[bad]
        self._requalify()

    def _requalify(self) -> None:
        self._sim.repair_cables()
        for pair, qualities in self._bad.values():
            if pair is None:
                self._sim.degrade_all(**qualities)
        for pair, qualities in self._bad.values():
            if pair is not None:
                self._sim.degrade(*pair, **qualities)

    # ── broken connections ──

    def _reset(self) -> Fault | None:
        """All connections of some pairs break."""
        pairs = [pair for _ in range(self._random.randint(1, 4)) if (pair := self._pair()) is not None]
        for pair in pairs:
            self._sim.drop_links(*pair)
        return Fault(", ".join(" ↔ ".join(pair) for pair in pairs), 0.0, _nothing) if pairs else None

    # ── inside ──

    def _pair(self) -> tuple[str, str] | None:
        """A node, and another one or a client."""
        node = self._random.choice(list(self._sim.machines))
        others = [name for name in self._everybody() if name != node]
        return (node, self._random.choice(others)) if others else None

    def _everybody(self) -> list[str]:
        return self._sim.network.machines()

    def _seconds(self, mean: float, most: float) -> float:
        return min(most, 0.2 + self._random.expovariate(1.0 / mean))


def _told(machines: Sequence[str]) -> str:
    return " ".join(machines)


def _nothing() -> None:
    """There is nothing to undo."""
