"""Whether the trees of a simulated node say what its disk has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.merkle.places import ELEMENT_MASK, HEAD_BYTES, element_of, element_of_damage
from dyno.protocol.rows import RECORDS_END
from dyno.storage.cell import record_of

if TYPE_CHECKING:
    from dyno.simulator.machine import Machine

_ALL = 1_000_000


def wrong_trees(machine: Machine) -> list[str]:
    """A sentence for each that does not, and one where they are not ready."""
    trees = machine.node._replica.trees
    if not trees.ready:
        return ["the trees are not ready"]
    totals: dict[bytes, int] = {}
    records, onward = machine.engine.scan(b"", RECORDS_END, limit=_ALL)
    while True:
        for slot, cell in records:
            damaged = cell is None
            element = (
                element_of_damage(slot, machine.birth.name) if damaged else element_of(slot, record_of(cell))
            )
            head = slot[:HEAD_BYTES]
            totals[head] = totals.get(head, 0) + element & ELEMENT_MASK
        if onward is None:
            break
        records, onward = machine.engine.scan(onward, RECORDS_END, limit=_ALL)
    told = {head: tree.total for head, tree in trees.by_head.items() if tree.count}
    return [
        f"the tree of {head.hex()} does not say what the disk has"
        for head in sorted({**totals, **told})
        if totals.get(head, 0) != told.get(head, 0)
    ]
