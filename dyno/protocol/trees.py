"""The Merkle trees of this node's copies, one for each (partition, n), over what its disk has.

In: every batch once it is committed, and what `recount` read from the disk. Out: trees by *head* (the first
three bytes of slots: partition and n). Only what is committed is in them, so whoever compares them compares
disks. A batch tells what its records replaced, so a write costs two hashes here and no reading.

After a start with records nothing is known: the heads are counted one after another, and `edge` says how far
that is; what is committed beyond needs no notice. A head becomes *unsure* where a batch wrote over something
that it had not read (a corrupt record, one that is set aside); it is counted anew, and until then nobody
compares by it.

What was committed within the last moments is known by its slot: a difference there is most likely a write
that is still on its way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dyno.merkle.places import HEAD_BYTES, element_of, element_of_damage, place_of
from dyno.merkle.tree import Counting, Tree
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.rows import is_row
from dyno.storage.cell import record_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABOVE: Final = b"\xff" * SLOT_BYTES  # behind a head: above all of its slots
RECENT_S: Final = 1.0  # longer than a write takes to all its owners, where nothing is wrong


class Trees:
    """edge: heads from here on are not counted yet; None once all are. counting: the one that is being
    counted now. unsure, crowded: heads that should be counted, for a wrong tree or a deeper one. touched:
    heads whose total changed since somebody cleared this."""

    def __init__(self, *, empty: bool) -> None:
        """empty: the disk has no records."""
        self.by_head: dict[bytes, Tree] = {}
        self.edge: bytes | None = None if empty else b""
        self.counting: Count | None = None
        self.unsure: dict[bytes, None] = {}
        self.crowded: dict[bytes, None] = {}
        self.touched: dict[bytes, None] = {}
        self._recent: deque[tuple[float, dict[bytes, None]]] = deque()

    @property
    def ready(self) -> bool:
        """Whether all trees say what the disk has."""
        return self.edge is None and not self.unsure

    def committed(
        self, writes: Mapping[bytes, bytes | None], before: Mapping[bytes, bytes], now: float
    ) -> None:
        """writes: cells by slot, and rows. before: the packed records that they replaced, b"" for none."""
        for slot, cell in writes.items():
            was = before.get(slot)
            if was is None:
                if not is_row(slot):
                    self._doubt(slot[:HEAD_BYTES])
                continue
            difference = records = 0
            if cell is not None:
                difference, records = element_of(slot, record_of(cell)), 1
            if was:
                difference, records = difference - element_of(slot, was), records - 1
            if difference:
                self._add(slot, difference, records)
        self._remember(writes, now)

    def forget_recent(self, now: float) -> None:
        """What was committed a while ago is no longer recent, though nothing was since."""
        recent = self._recent
        while recent and recent[0][0] <= now - RECENT_S:
            recent.popleft()

    def is_recent(self, slot: bytes) -> bool:
        """Whether it was committed here just now."""
        return any(slot in slots for _, slots in self._recent)

    def counted(self, count: Count) -> bool:
        """All of a head is counted. Gives whether its tree was right, as far as anybody had relied on it."""
        head, counting = count.head, count.counting
        had = self.by_head.get(head)
        is_known = self._is_counted(head) and head not in self.unsure and not count.damaged
        is_right = not is_known or (counting.total, counting.count) == (
            (had.total, had.count) if had is not None else (0, 0)
        )
        self.counting = None
        self.unsure.pop(head, None)
        self.crowded.pop(head, None)
        if counting.count:
            self.by_head[head] = counting.tree()
        elif had is not None:
            del self.by_head[head]
        self.touched[head] = None
        if not self._is_counted(head):
            self.edge = head + _ABOVE
        return is_right

    # ── inside ──

    def _add(self, slot: bytes, difference: int, records: int) -> None:
        """With few calls, for every write of every replica comes through here."""
        head, place = slot[:HEAD_BYTES], place_of(slot)
        count = self.counting
        if count is not None and count.head == head and slot < count.beyond:
            count.counting.add(place, difference, records)
        if self.edge is not None and head >= self.edge:
            return  # not counted yet
        tree = self.by_head.get(head)
        if tree is None:
            tree = self.by_head[head] = Tree()
        tree.add(place, difference, records)
        self.touched[head] = None
        if records and tree.crowded:
            self.crowded[head] = None

    def _doubt(self, head: bytes) -> None:
        if self.counting is not None and self.counting.head == head:
            self.counting = None  # it begins anew
        if self._is_counted(head):
            self.unsure[head] = None

    def _is_counted(self, head: bytes) -> bool:
        return self.edge is None or head < self.edge

    def _remember(self, writes: Mapping[bytes, object], now: float) -> None:
        if writes:
            self._recent.append((now, dict.fromkeys(writes)))
        self.forget_recent(now)


class Count:
    """One head that is being counted. beyond: all slots below are in it. damaged: whether a corrupt record
    is."""

    __slots__ = ("beyond", "counting", "damaged", "head")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.counting = Counting()
        self.beyond = head
        self.damaged = False

    def add(self, slot: bytes, record: bytes | None, *, me: str) -> None:
        """record: packed, None for one that is corrupt. me: this node's name."""
        if record is None:
            self.damaged = True
        element = element_of_damage(slot, me) if record is None else element_of(slot, record)
        self.counting.add(place_of(slot), element, 1)
