"""Whether the trees of a simulated node say what its disk has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.merkle.places import ELEMENT_MASK, HEAD_BYTES, element_of, element_of_damage
from dyno.protocol.rows import RECORDS_END
from dyno.storage.cell import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dyno.simulator.machine import Machine

_AT_ONCE = 10_000


def wrong_trees(machine: Machine) -> list[str]:
    """A sentence for each that does not, and one where they are not ready."""
    trees = machine.node._replica.trees
    if not trees.ready:
        return ["the trees are not ready"]
    totals: dict[bytes, int] = {}
    for slot, cell in records_of(machine):
        head, me = slot[:HEAD_BYTES], machine.birth.name
        element = element_of_damage(slot, me) if cell is None else element_of(slot, record_of(cell))
        totals[head] = totals.get(head, 0) + element & ELEMENT_MASK
    told = {head: tree.total for head, tree in trees.by_head.items() if tree.count}
    return [
        f"the tree of {head.hex()} does not say what the disk has"
        for head in sorted({**totals, **told})
        if totals.get(head, 0) != told.get(head, 0)
    ]


def records_of(machine: Machine) -> Iterator[tuple[bytes, bytes | None]]:
    """Slots and cells, None for a corrupt one."""
    start: bytes | None = b""
    while start is not None:
        records, start = machine.engine.scan(start, RECORDS_END, limit=_AT_ONCE)
        yield from records
