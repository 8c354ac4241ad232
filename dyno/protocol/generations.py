"""How often each (partition, n) was reaped here, as far as this node had a part in it.

Every reaping of dead context entries raises the number at all owners, durably with the drop itself. What
carries a lower number than an owner knows was kept, as a hint or on an old copy of a disk, since before that
and could bring back what was deleted (docs/design/survival.md, Reaping).

In: the rows of the replica. Out: a number for a slot, 0 where nothing was ever reaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dyno.protocol.rows import GENERATIONS, rows_of

if TYPE_CHECKING:
    from dyno.protocol.replica import Batch, Replica

HEAD_BYTES: Final = 3  # of a slot: partition and n

_PAGE = 10_000


class Generations:
    """Read whole at the start: there are as many rows as owned partitions, times the n in use."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._numbers: dict[bytes, int] = {}
        start: bytes | None
        start, end = rows_of(GENERATIONS)
        while start is not None:
            rows, start = replica.rows(start, end, limit=_PAGE)
            for key, number in rows:
                if number is not None:
                    self._numbers[key[len(GENERATIONS) :]] = int.from_bytes(number, "big")

    def of(self, slot: bytes) -> int:
        """slot: or whatever begins with partition and n."""
        return self._numbers.get(slot[:HEAD_BYTES], 0)

    def rise(self, head: bytes, number: int) -> Batch:
        """A (partition, n), as slots begin, was reaped for the number-th time; the batch to wait for. A lower
        number changes nothing. Raises Refusal."""
        number = max(number, self.of(head))
        batch = self._replica.write_row(GENERATIONS + head, number.to_bytes(8, "big"))
        self._numbers[head] = number
        return batch
