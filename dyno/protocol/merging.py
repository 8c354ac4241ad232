"""Merge back what was set aside, because an operator wants it back: `dyno repair --quarantine`.

Every row of records that are set aside (`quarantine`) is looked at once. One of which this node owns a copy
is merged into that and dropped with the same commit; exchanges carry it on to the other owners. One that it
kept for others, a hint that was too old, is sent to an owner, and dropped when that one has it on its disk.
What fits nowhere stays: a damaged row, one that contradicts the copy, one whose owners cannot be asked. A
record that is merged may bring a value back that was deleted; that is what the operator decided.

In: the word to begin, with the id of the run that wants it; answers, links, time. Out: records, deleted rows,
and who is still waiting. Each row goes with a commit that has its record, or after it, so a process that dies
between two of them has lost nothing, and what was merged twice is there once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import ASIDE, rows_of
from dyno.storage.cell import unpack_cell
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, Store, Stored

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.quarantine import Quarantine
    from dyno.protocol.replica import Replica

PAGE_RECORDS: Final = 64
PAGE_PAUSE_S: Final = 0.005
AGAIN_S: Final = 0.5  # after a refusal, while the disk rests, or while copies are closed
ANSWER_TIMEOUT_S: Final = 10.0
WAITING_MAX: Final = 16  # runs


class _Sent(NamedTuple):
    """A row that was sent to an owner."""

    node: str
    row: bytes
    cell: bytes


class Merging(Background):
    """A part of the background. me: this node's name."""

    number: ClassVar[int] = 10

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        planner: Planner,
        peers: Peers,
        replica: Replica,
        quarantine: Quarantine,
    ) -> None:
        self._me = me
        self._config = config
        self._planner = planner
        self._peers = peers
        self._replica = replica
        self._quarantine = quarantine
        self._last_id = self.number << ID_BITS
        self._waiting: dict[bytes, None] = {}  # runs, until all rows were looked at since they began
        self._from = b""
        self._walked = True
        self._sent: dict[int, _Sent] = {}
        self._unwritten = 0  # rows that are deleted with a commit under way
        self._until = math.inf  # of what was sent
        self._due_at = math.inf

    def begin(self, run: bytes, now: float, out: Outbox) -> None:
        """Look at all rows, from the first one, for this run and all others that wait."""
        if len(self._waiting) >= WAITING_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[run] = None
        self._from, self._walked = b"", False
        self._due_at = now

    def is_under_way(self, run: bytes) -> bool:
        return run in self._waiting

    # ── a part of the background ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {}

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """Raises ValueError for what is no answer to a record."""
        if not isinstance(message, Stored):
            raise ValueError(f"a {type(message).__name__} is no answer to a record")
        sent = self._sent.get(message.id)
        if sent is None or sent.node != node:
            return
        del self._sent[message.id]
        if message.status == STATUS_OK:
            self._drop(sent, out)
        self._go_on(now)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """What could not be sent to it is for the next run."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        self._sent = {id: sent for id, sent in self._sent.items() if sent.node != node}
        self._go_on(now)

    def replan(self, now: float, out: Outbox) -> None:
        """Rows are judged by the ring of the moment."""

    def tick(self, now: float, out: Outbox) -> None:
        if self._until <= now:
            self._sent.clear()  # those rows stay
            self._go_on(now)
        if self._due_at <= now:
            self._page(now, out)

    def deadline(self) -> float:
        return self._due_at if self._due_at < self._until else self._until  # no call, for every turn asks

    # ── inside ──

    def _page(self, now: float, out: Outbox) -> None:
        """Of rows, unless clients or somebody's verdict go first."""
        self._due_at = math.inf
        if self._planner.ring is None or self._replica.closed or self._is_late(now):
            self._due_at = now + AGAIN_S
            return
        start, end = rows_of(ASIDE)
        rows, onward = self._replica.rows(self._from or start, end, limit=PAGE_RECORDS)
        for row, cell in rows:
            if cell is None or len(row) < len(ASIDE) + SLOT_BYTES:
                continue  # damaged, or it says what is closed
            try:
                self._merge(row, cell, now, out)
            except Refusal as refusal:
                if refusal.status == STATUS_OVERLOADED:
                    self._from, self._due_at = row, now + AGAIN_S
                    return
                text = f"a record that is set aside stays so: {refusal}"
                out.events.append(("error", text))
        self._from, self._walked = onward or b"", onward is None
        self._go_on(now)

    def _is_late(self, now: float) -> bool:
        replica = self._replica
        late_s = self._config.write_delay_max_s / 2
        return replica.rests or replica.crowded or replica.delay_s(now) > late_s

    def _merge(self, row: bytes, cell: bytes, now: float, out: Outbox) -> None:
        """Raises Refusal."""
        ring = self._planner.ring
        assert ring is not None
        slot = row[len(ASIDE) :][:SLOT_BYTES]
        if self._replica.newest(row)[0] != cell:
            return  # there is more by now
        owners = ring.owners(slot)
        key, _, record = unpack_cell(cell)
        if self._me in owners:
            self._replica.merge(slot, key, record)
            self._delete(row)
            return
        for name in owners:
            self._last_id += 1
            store = Store(self._last_id, ring.fingerprint, slot, key, record)
            if self._peers.send(name, store, out):
                self._sent[store.id] = _Sent(name, row, cell)
                self._until = now + ANSWER_TIMEOUT_S
                return

    def _drop(self, sent: _Sent, out: Outbox) -> None:
        """Its owner has it. A row that cannot be dropped now is sent once more by the next run."""
        try:
            if self._replica.newest(sent.row)[0] == sent.cell:
                self._delete(sent.row)
        except Refusal as refusal:
            out.events.append(("warning", f"a record that {sent.node} has now stays set aside: {refusal}"))

    def _delete(self, row: bytes) -> None:
        """With the commit that has its record, or after it."""
        self._replica.write_row(row, None).waiters.append(self._written)
        self._unwritten += 1

    def _written(self, status: int, now: float, out: Outbox) -> None:
        self._unwritten -= 1
        if status == STATUS_OK:
            self._replica.mended.merged += 1
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        """With the next page, once all answers are there and all of this one is on the disk."""
        if self._sent or self._unwritten:
            return
        self._until = math.inf
        if not self._waiting:
            return
        if self._walked:
            self._waiting.clear()
            self._quarantine.count_again(now)
        else:
            self._due_at = min(self._due_at, now + PAGE_PAUSE_S)
