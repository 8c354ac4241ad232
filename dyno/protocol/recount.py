"""Count what the disk has, head by head: for trees that are not there, are wrong or shallow, and for rot.

A head is counted in pages, in the order of its slots, while writes go on: what is committed behind the page
that was read last is told to the count, what is beyond will be read. Its tree is then exchanged for the new
one. This is done

    after a start          for all heads, one after another, before anything is compared by trees
    where a head is unsure at once
    where a tree is crowded, so that it gets deeper
    all the time           slowly, for all of the disk in `scrub_s`: a record whose checksum is wrong is
                           healed, and a tree that says something else than the disk is replaced

In: the replica, its trees, time. Out: right trees, and corrupt records noted at the replica. A step reads a
page, a fraction of a millisecond's work where the disk is warm, and pauses; while clients wait for the disk
it pauses for longer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.merkle.places import HEAD_BYTES
from dyno.placement.hashing import slot_copies, slot_partition, slot_range
from dyno.protocol.background import Background
from dyno.protocol.rows import RECORDS_END
from dyno.protocol.trees import Count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.replica import Replica

PAGE_RECORDS: Final = 128
PAUSE_S: Final = 0.002
YIELD_S: Final = 0.05  # while clients wait for the disk


class Recount(Background):
    """A part of the background. me: this node's name. wrong: trees that did not say what the disk has.
    scrubbed_at: when the last round through all of the disk was over, by this node's clock."""

    number: ClassVar[int] = 11

    def __init__(self, *, me: str, config: Config, replica: Replica) -> None:
        self._me = me
        self._replica = replica
        self._trees = replica.trees
        self._scrub_s = config.scrub_s
        self._write_delay_s = config.write_delay_max_s / 2
        self._next_at = -math.inf  # of the next step of what is urgent
        self._scrub_at = -math.inf
        self._after = b""  # heads up to here are scrubbed
        self._scrubbing: bytes | None = None  # the head that is being counted for that
        self.wrong = 0
        self.scrubbed_at: float | None = None

    # ── a part of the background ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {}

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """Nobody is asked anything."""

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """It is about this disk alone."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        """Likewise."""

    def replan(self, now: float, out: Outbox) -> None:
        """Likewise: what is on the disk is counted, whoever owns it."""

    def tick(self, now: float, out: Outbox) -> None:
        if self._is_urgent():
            if self._next_at <= now:
                if self._must_yield(now):
                    self._next_at = now + YIELD_S
                else:
                    self._next_at = now + PAUSE_S
                    self._step(self._urgent_head, out)
        elif self._scrub_at <= now:
            if self._must_yield(now):
                self._scrub_at = now + YIELD_S
            else:
                self._scrub(now, out)

    def deadline(self) -> float:
        return self._next_at if self._is_urgent() else self._scrub_at

    # ── inside ──

    def _is_urgent(self) -> bool:
        trees = self._trees
        return trees.edge is not None or bool(trees.unsure or trees.crowded)

    def _must_yield(self, now: float) -> bool:
        replica = self._replica
        return replica.crowded or replica.delay_s(now) > self._write_delay_s

    def _scrub(self, now: float, out: Outbox) -> None:
        if self._scrub_at == -math.inf:  # all was counted just now, or there is nothing
            self._scrub_at = now + self._pause_s(PAGE_RECORDS)
            return
        read = self._step(self._begin_scrub, out)
        is_under_way = self._trees.counting is not None
        if not is_under_way and self._next_to_scrub() is None:
            self._after = b""
            self.scrubbed_at = now
        if read == 0 and is_under_way:
            self._scrub_at = now + YIELD_S  # a commit is waited for
        else:
            self._scrub_at = now + self._pause_s(read or PAGE_RECORDS)

    def _pause_s(self, read: int) -> float:
        """For so many records and heads, so that all of them take `scrub_s`."""
        trees = self._trees.by_head
        records = sum(tree.count for tree in trees.values())  # there may be many more than a moment ago
        return max(PAUSE_S, self._scrub_s * min(1.0, read / (records + len(trees) + 1)))

    def _step(self, next_head: Callable[[], bytes | None], out: Outbox) -> int:
        """As many heads, or as much of one, as a page holds. Gives what was read: records and heads."""
        trees, read = self._trees, 0
        while read < PAGE_RECORDS:
            if trees.counting is None:
                head = next_head()
                if head is None:
                    break
                trees.counting = Count(head)
            count = trees.counting
            page = self._page(count, PAGE_RECORDS - read, out)
            if page is None:
                break
            read += 1 + page
        return read

    def _urgent_head(self) -> bytes | None:
        self._scrubbing = None
        trees = self._trees
        if trees.unsure:
            return next(iter(trees.unsure))
        if trees.edge is None:
            return next(iter(trees.crowded), None)
        page = self._replica.settled(trees.edge, RECORDS_END, limit=1)
        if page is None:
            return None
        records, onward = page
        first = records[0][0] if records else onward
        trees.edge = None if first is None else first[:HEAD_BYTES]
        return trees.edge

    def _next_to_scrub(self) -> bytes | None:
        return min((head for head in self._trees.by_head if head > self._after), default=None)

    def _begin_scrub(self) -> bytes | None:
        self._scrubbing = self._next_to_scrub()
        return self._scrubbing

    def _page(self, count: Count, limit: int, out: Outbox) -> int | None:
        """Count some of a head; how many records. None: it has to wait for a commit."""
        end = slot_range(count.head)[1]
        page = self._replica.settled(count.beyond, end, limit=limit)
        if page is None:
            return None
        records, onward = page
        for slot, record in records:
            if record is None:
                self._replica.note_damage(slot)
            count.add(slot, record, me=self._me)
        if onward is not None:
            count.beyond = onward
        else:
            count.beyond = end
            self._counted(count, out)
        return len(records)

    def _counted(self, count: Count, out: Outbox) -> None:
        head = count.head
        if not self._trees.counted(count):
            self.wrong += 1
            where = f"partition {slot_partition(head)}, n={slot_copies(head)}"
            out.events.append(("error", f"the disk holds something else than was written: {where}"))
        if self._scrubbing == head:
            self._after = head
