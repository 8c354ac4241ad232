"""What this node is not sure to hold: copies that may lack something that was acknowledged in its name.

A directory that turned out to be an old copy, or that is new under a known name, is *recovering*: of every
(partition, n) it may lack what others hold, until it has compared it with each of its other owners once
(`exchange`). A node that has just started is *unproven* for what it shares with a member that has not greeted
it yet and is not thought dead: that one may know of a later state of this directory. The answers of such
copies are *weak* (docs/design/survival.md, Lost state). They take writes as ever.

In: what was remembered, greetings, finished exchanges, the ring. Out: whether a copy is weak, which exchanges
are missing, and one fact, "recovering": the n of which all is complete, and for the others which exchanges
were finished, written at most once a second. What was lost of it is done again, which is harmless.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from dyno.config import COPIES
from dyno.placement.hashing import COPIES_IN_SLOT
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.identity import LOST_ALL, RECOVERING
from dyno.wire.flat import ProtocolError
from dyno.wire.rows import pack_row, unpack_row

if TYPE_CHECKING:
    from dyno.protocol.membership import Membership
    from dyno.protocol.planner import Planner

KEEP_INTERVAL_S: Final = 1.0

Pair = tuple[bytes, str]  # a (partition, n), as slots begin, and another owner of it


class Weakness:
    """What readers ask; of a node that holds all that it should, as it is here.

    doubtful: whether any copy may be weak."""

    doubtful = False

    def is_weak(self, slot: bytes) -> bool:
        return False


SOUND: Final = Weakness()


class Recovery(Weakness):
    """me: this node's name. copies: the n of the buckets that were created. remembered: as it was kept, b""
    for a directory that never lost anything. Raises ProtocolError if that is damaged."""

    def __init__(
        self,
        *,
        me: str,
        membership: Membership,
        planner: Planner,
        copies: Mapping[bytes, int],
        remembered: bytes,
    ) -> None:
        self._me = me
        self._membership = membership
        self._planner = planner
        self._copies = copies
        self._greeted: dict[str, bool] = {}
        self._ungreeted: dict[str, bool] = {}
        self._lost = bool(remembered)
        self.losses = 0  # since the start: an exchange that began before the last one counts for nothing
        self._whole: dict[int, bool] = {}  # n of which every (partition, n) is complete
        self._finished: dict[Pair, bool] = {}
        self._missing: dict[Pair, bool] | None = None  # None: to be found out
        self._open: dict[int, int] = {}  # how many of those there are, by n
        self._changed_at = math.inf
        self.doubtful = True
        if remembered not in (b"", LOST_ALL):
            self._unpack(remembered)

    # ── what is weak ──

    def is_weak(self, slot: bytes) -> bool:
        """slot: or whatever begins with partition and n. False where this node owns no copy."""
        ring = self._planner.ring
        if ring is None:
            return True
        owners = ring.owners(slot)
        if self._me not in owners:
            return False
        lost = self._lost and slot[COPIES_IN_SLOT] not in self._whole
        head = slot[:HEAD_BYTES]
        for name in owners:
            if name == self._me:
                continue
            if lost and (head, name) not in self._finished:
                return True
            if name in self._ungreeted and self._membership.is_live(name):
                return True
        return False

    @property
    def recovering(self) -> bool:
        """Whether any copy is weak."""
        is_live = self._membership.is_live
        return bool(self.missing()) or any(
            is_live(name) and any(pair[1] == name for pair in self.pairs()) for name in self._ungreeted
        )

    # ── what is missing ──

    def pairs(self) -> Iterator[Pair]:
        """All that this node shares with others."""
        ring = self._planner.ring
        if ring is None:
            return
        for copies in self.copies_in_use():
            for partition in range(ring.partitions):
                head = (partition << 8 | copies).to_bytes(HEAD_BYTES, "big")
                owners = ring.owners(head)
                if self._me in owners:
                    for name in owners:
                        if name != self._me:
                            yield head, name

    def copies_in_use(self) -> list[int]:
        """Every n that a bucket has."""
        return sorted({COPIES, *(n for n in self._copies.values() if n > 0)})  # less while one is reserved

    def missing(self) -> Mapping[Pair, bool]:
        """The exchanges without which this node is not complete."""
        if self._missing is None:
            self._missing = {}
            if self._lost and self._planner.ring is not None:
                whole, finished = self._whole, self._finished
                self._missing = {
                    pair: True
                    for pair in self.pairs()
                    if pair[0][COPIES_IN_SLOT] not in whole and pair not in finished
                }
                self._open = dict.fromkeys(self.copies_in_use(), 0)
                for head, _ in self._missing:
                    self._open[head[COPIES_IN_SLOT]] += 1
                for copies, count in self._open.items():
                    if not count:
                        self._conclude(copies)
        return self._missing

    # ── news ──

    def lose(self) -> None:
        """Nothing is known to be complete any more; whoever says so has it remembered."""
        self._lost = True
        self.losses += 1
        self._whole.clear()
        self._finished.clear()
        self._changed_at = math.inf
        self._look_again()

    def greeted(self, name: str) -> None:
        """A member had its chance to say that this directory is an old copy."""
        self._greeted[name] = True
        if self._ungreeted.pop(name, False):
            self._judge()

    def finished(self, pair: Pair, now: float) -> None:
        """All that the other owner held is on this node's disk."""
        missing = self.missing()
        if pair in missing:
            del self._missing[pair]  # type: ignore[union-attr]
            self._finished[pair] = True
            self._changed_at = min(self._changed_at, now)
            copies = pair[0][COPIES_IN_SLOT]
            self._open[copies] -= 1
            if not self._open[copies]:
                self._conclude(copies)
            self._judge()

    def replan(self) -> None:
        """The ring is another one, or buckets are."""
        assert self._planner.ring is not None
        names = [name for name in self._planner.ring.names if name != self._me]
        self._ungreeted = {name: True for name in names if name not in self._greeted}
        self._look_again()

    # ── remembering ──

    def due(self, now: float) -> bool:
        return self._changed_at + KEEP_INTERVAL_S <= now

    def kept(self) -> dict[str, bytes]:
        """The fact to be written."""
        self._changed_at = math.inf
        return {RECOVERING: self._pack()}

    def deadline(self) -> float:
        """Infinity for none."""
        return self._changed_at + KEEP_INTERVAL_S

    # ── inside ──

    def _look_again(self) -> None:
        self._missing = None
        self._judge()

    def _judge(self) -> None:
        self.doubtful = bool(self._ungreeted) or bool(self.missing())

    def _conclude(self, copies: int) -> None:
        """Where an n has nothing missing any more, its finished exchanges need not be told one by one."""
        self._whole[copies] = True
        self._finished = {pair: True for pair in self._finished if pair[0][COPIES_IN_SLOT] != copies}

    def _pack(self) -> bytes:
        """A row: the whole n, a byte each, then for every other owner its name and all heads finished."""
        heads: dict[str, list[bytes]] = {}
        for head, name in self._finished:
            heads.setdefault(name, []).append(head)
        items = [bytes(sorted(self._whole))]
        for name in sorted(heads):
            items += [name.encode(), b"".join(sorted(heads[name]))]
        return pack_row(items)

    def _unpack(self, remembered: bytes) -> None:
        whole, *rest = unpack_row(remembered, items_max=0xFFFF)
        if whole is None or None in rest or len(rest) % 2:
            raise ProtocolError("what was recovered is malformed")
        self._whole = dict.fromkeys(whole, True)
        names, lists = rest[::2], rest[1::2]
        for name, heads in zip(names, lists, strict=True):
            assert name is not None and heads is not None
            for at in range(0, len(heads) - HEAD_BYTES + 1, HEAD_BYTES):
                self._finished[heads[at : at + HEAD_BYTES], name.decode()] = True
