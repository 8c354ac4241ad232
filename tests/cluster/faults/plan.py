"""What goes wrong in a trial, and when: drawn from a seed before it begins, so that it can be drawn again.

Faults come at any time, last for a moment or for long, and overlap: but no more than `DOWN_MAX` nodes are
down, paused or cut off at once, or there would be nothing to see, except where half of all are; a node has
one fault of its own at a time; and a second disk is destroyed only long after the first, when others have
made up for it.

In: a Random, the number of nodes and the kinds that can be had. Out: faults in the order of their times.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

# Of one node: its process or disk.
KILL, PAUSE, FULL, WIPE, RESTORE, ROT = "kill", "pause", "full", "wipe", "restore", "rot"
# Of half of all nodes: their processes, at once.
HALF = "half"
# Of the network: `PART` cuts one cable, `ISOLATE` all of a node, clients' too.
PART, ISOLATE, ONE_WAY, NARROW, LOSSY = "part", "isolate", "one way", "narrow", "lossy"

PROCESS: Final = (KILL, PAUSE, HALF)
DESTRUCTIVE: Final = (WIPE, RESTORE, ROT)
NETWORK: Final = (PART, ISOLATE, ONE_WAY, NARROW, LOSSY)
KINDS: Final = (*PROCESS, FULL, *NETWORK, *DESTRUCTIVE)
OF_A_NODE: Final = (KILL, PAUSE, FULL, WIPE, RESTORE, ROT, ISOLATE, HALF)

DOWN_MAX: Final = 2
EVERY_S: Final = 2.5  # on average
LASTS_S: Final = (0.3, 8.0)
DESTROY_AGAIN_S: Final = 120.0  # after the last disk that was destroyed

_WEIGHTS: Final = {
    KILL: 4,
    PAUSE: 3,
    FULL: 1,
    WIPE: 1,
    RESTORE: 1,
    ROT: 1,
    HALF: 1,
    ISOLATE: 2,
    PART: 3,
    ONE_WAY: 2,
    NARROW: 1,
    LOSSY: 2,
}


class Fault(NamedTuple):
    """at: seconds from the beginning. nodes: all that it strikes; of a cable, both; of what goes one way,
    from and to. 0 is where the clients are."""

    at: float
    seconds: float
    kind: str
    nodes: tuple[int, ...]

    @property
    def until(self) -> float:
        return self.at + self.seconds


def draw(random: Random, *, nodes: int, seconds: float, kinds: Sequence[str]) -> list[Fault]:
    """All are over at `seconds`."""
    faults: list[Fault] = []
    weights = [_WEIGHTS[kind] for kind in kinds]
    at = random.expovariate(1 / EVERY_S)
    while kinds and at < seconds:
        lasts = min(random.uniform(*LASTS_S), seconds - at)
        kind = random.choices(kinds, weights)[0]
        fault = Fault(at, lasts, kind, _nodes(random, kind, nodes))
        if _may_come(fault, faults, nodes):
            faults.append(fault)
        at += random.expovariate(1 / EVERY_S)
    return faults


def counted(faults: Sequence[Fault]) -> dict[str, int]:
    kinds = sorted(fault.kind for fault in faults)
    return {kind: len(list(those)) for kind, those in itertools.groupby(kinds)}


def _nodes(random: Random, kind: str, nodes: int) -> tuple[int, ...]:
    if kind == HALF:
        return tuple(sorted(random.sample(range(1, nodes + 1), nodes // 2)))
    if kind in OF_A_NODE:
        return (random.randrange(1, nodes + 1),)
    if kind == PART:  # a cable between nodes; that of the clients is cut with all others of a node
        one, other = random.sample(range(1, nodes + 1), 2)
        return (min(one, other), max(one, other))
    one, other = random.sample(range(nodes + 1), 2)
    return (one, other)


def _may_come(fault: Fault, before: Sequence[Fault], nodes: int) -> bool:
    still = [one for one in before if one.until > fault.at]
    if fault.kind in DESTRUCTIVE and any(
        one.kind in DESTRUCTIVE and one.until + DESTROY_AGAIN_S > fault.at for one in before
    ):
        return False
    if fault.kind in OF_A_NODE:
        down = {node: None for one in still if one.kind in OF_A_NODE for node in one.nodes}
        if any(node in down for node in fault.nodes):
            return False
        if down and (fault.kind == HALF or len(down) >= min(DOWN_MAX, nodes - 1)):
            return False
    taken = {cable: None for one in still for cable in cables(one, nodes)}
    return not any(cable in taken for cable in cables(fault, nodes))


def cables(fault: Fault, nodes: int) -> list[tuple[int, int]]:
    """Those that it does something to, each with the lower number first."""
    if fault.kind == ISOLATE:
        node = fault.nodes[0]
        return [(min(node, other), max(node, other)) for other in range(nodes + 1) if other != node]
    return [] if fault.kind in OF_A_NODE else [(min(fault.nodes), max(fault.nodes))]
