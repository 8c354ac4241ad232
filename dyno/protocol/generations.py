"""How often each (partition, n) was reaped here, as far as this node had a part in it.

Every reaping of dead context entries raises the number at all owners, durably with the drop itself. What
carries a lower number than an owner knows was kept, as a hint or on an old copy of a disk, since before that
and could bring back what was deleted (docs/design/survival.md, Reaping).

Every member, owner or not, also keeps the number of the last round that it agreed to, for which it kept no
hint of the (partition, n). A hint is stamped with that, for it came after; so what is kept for an owner while
a round is under way, or by somebody whom the reaping itself never concerned, is not taken for an old one.

A new directory, or an old copy, has not heard of the rounds so far, and what it keeps from now on must not be
taken for old either. So greetings tell the highest number that the speaker knows of, in any (partition, n);
whoever hears it stamps no hint with less from then on, and agrees to no round below.

In: the rows of the replica, and what is said in greetings. Out: numbers for a slot, 0 where nothing was ever
reaped.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.identity import ROUNDS
from dyno.protocol.rows import GENERATIONS, rows_of

if TYPE_CHECKING:
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.replica import Replica

HEAD_BYTES: Final = 3  # of a slot: partition and n

_PAGE = 10_000
_NUMBERS = struct.Struct(">QQ")
_HIGHEST_BYTES = 8


class _Numbers(NamedTuple):
    reaped: int
    agreed: int


_NONE: Final = _Numbers(0, 0)


class Generations:
    """Read whole at the start: there are at most as many rows as partitions, times the n in use. remembered:
    what was heard in greetings, as it was kept. highest: of all numbers that are known."""

    def __init__(self, replica: Replica, *, remembered: bytes = b"") -> None:
        self._replica = replica
        self._heard = self.highest = int.from_bytes(remembered, "big")
        self._numbers: dict[bytes, _Numbers] = {}
        start: bytes | None
        start, end = rows_of(GENERATIONS)
        while start is not None:
            rows, start = replica.rows(start, end, limit=_PAGE)
            for key, numbers in rows:
                if numbers is not None:
                    known = _Numbers._make(_NUMBERS.unpack(numbers))
                    self._numbers[key[len(GENERATIONS) :]] = known
                    self.highest = max(self.highest, *known)

    def of(self, slot: bytes) -> int:
        """Of the last reaping here. slot: or whatever begins with partition and n."""
        return self._numbers.get(slot[:HEAD_BYTES], _NONE).reaped

    def stamp(self, slot: bytes) -> int:
        """What a hint carries that is made, or arrives, now: of the last round that was reaped or agreed to
        here, or what was heard in greetings. Whoever keeps a hint for a sender stamps it with the higher of
        both."""
        return max(self._heard, *self._numbers.get(slot[:HEAD_BYTES], _NONE))

    def learn(self, number: int) -> None:
        """The highest that another member knows of. It is on the disk no later than a hint that is stamped
        with it."""
        number = min(number, NUMBER_MAX - 1)
        if number > self._heard:
            self._heard = number
            self.highest = max(self.highest, number)
            self._replica.keep_facts({ROUNDS: number.to_bytes(_HIGHEST_BYTES, "big")})

    def rise(self, head: bytes, number: int) -> Batch:
        """A (partition, n), as slots begin, was reaped for the number-th time; the batch to wait for. A lower
        number changes nothing. Raises Refusal."""
        known = self._numbers.get(head, _NONE)
        return self._write(head, known._replace(reaped=max(number, known.reaped)))

    def agree(self, head: bytes, number: int) -> Batch:
        """This node agrees to the number-th reaping, whatever becomes of it; likewise. Others are told of
        that commit: a disk that loses it must be found out."""
        known = self._numbers.get(head, _NONE)
        batch = self._write(head, known._replace(agreed=max(number, known.agreed)))
        batch.own = True
        return batch

    def _write(self, head: bytes, numbers: _Numbers) -> Batch:
        batch = self._replica.write_row(GENERATIONS + head, _NUMBERS.pack(*numbers))
        self._numbers[head] = numbers
        self.highest = max(self.highest, *numbers)
        return batch
