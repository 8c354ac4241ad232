"""What a replica answers to other nodes: reads, pages of records, copies to store, hints to keep and to take.

Every such request says under which ring it was planned, and its slot under which n of the bucket. Where
either differs from what is known here nothing is done, and the answer says so ("ring"): the two nodes then
show each other what they know. What is answered is on this node's disk.

Whoever was told that a write is not known here may do it elsewhere; so its first attempt, should it come
later, is not begun here any more (`requests_seen`).

In: requests on inbound links. Out: exactly one answer each, but for read repair, which wants none. Raises
ValueError for what no node sends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from dyno.causality.record import REQUEST_BYTES
from dyno.config import COPIES, KEY_BYTES_MAX
from dyno.placement.hashing import BUCKET_IN_SLOT, COPIES_IN_SLOT, PREFIX_BYTES, SLOT_BYTES
from dyno.protocol.group_commit import Refusal
from dyno.protocol.overload import HINTS_ROOM, PEERS_ROOM
from dyno.protocol.recovery import SOUND
from dyno.wire.messages import (
    READ_MANY_BYTES_MAX,
    READ_MANY_SLOTS_MAX,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_WEAK,
    HandOver,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Recall,
    Recalled,
    Scan,
    ScanAnswer,
    Store,
    Stored,
    StoreHint,
)
from dyno.wire.pages import is_page
from dyno.wire.rows import pack_row

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.generations import Generations
    from dyno.protocol.handoff import Handoff
    from dyno.protocol.hints import Hints
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Weakness
    from dyno.protocol.replica import Replica, Written


class PeerRequests:
    """me: this node's name. copies: the n of the buckets that were created, by their ids. weakness: of its
    copies."""

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        membership: Membership,
        planner: Planner,
        replica: Replica,
        copies: Mapping[bytes, int],
        hints: Hints,
        handoff: Handoff,
        generations: Generations,
        weakness: Weakness = SOUND,
    ) -> None:
        self._me = me
        self._config = config
        self._membership = membership
        self._planner = planner
        self._replica = replica
        self._copies = copies
        self._weakness = weakness
        self._hints = hints
        self._handoff = handoff
        self._generations = generations

    def doors(self) -> dict[type, Callable[..., None]]:
        """Who takes a message of which class: (inbound link, message, now, out)."""
        return {
            Read: self._read,
            ReadMany: self._read_many,
            Scan: self._scan,
            Store: self._store,
            StoreHint: self._store_hint,
            HandOver: self._hand_over,
            Recall: self._recall,
        }

    def _read_many(self, link: int, message: ReadMany, now: float, out: Outbox) -> None:
        """Answer with the records as they are stored, undecoded."""
        slots = slots_of(message)
        one_of_each = {slot[COPIES_IN_SLOT:PREFIX_BYTES]: slot for slot in slots}.values()
        if not self._planner.is_planned_with(message.ring) or not all(map(self._same_copies, one_of_each)):
            out.replies.append((link, ReadManyAnswer(message.id, STATUS_RING, b"")))
            return
        records = self._replica.read_many(slots, bytes_max=READ_MANY_BYTES_MAX)
        if self._weakness.doubtful:  # weak ones are asked for alone, and then said to be weak
            is_weak = self._weakness.is_weak
            records = [None if is_weak(s) else r for s, r in zip(slots, records, strict=True)]
        out.replies.append((link, ReadManyAnswer(message.id, STATUS_OK, pack_row(records))))

    def _same_copies(self, slot: bytes) -> bool:
        """Whether whoever planned for this slot, or for all that begin so, knows of its bucket what is known
        here."""
        return self._copies.get(slot[BUCKET_IN_SLOT:PREFIX_BYTES], COPIES) == slot[COPIES_IN_SLOT]

    def _read(self, link: int, message: Read, now: float, out: Outbox) -> None:
        """Answer with the record as it is stored, undecoded."""
        _check_slot(message.slot)
        if not self._planner.is_planned_with(message.ring) or not self._same_copies(message.slot):
            out.replies.append((link, ReadAnswer(message.id, STATUS_RING, b"")))
            return
        assert self._planner.ring is not None
        owners = self._planner.ring.owners(message.slot)
        try:
            if self._me in owners:
                record, batch = self._replica.read(message.slot)
            else:  # a fallback answers with what it keeps for them
                record, batch = self._hints.read(message.slot, owners)
        except Refusal as refusal:
            out.events.append(("error", str(refusal)))
            out.replies.append((link, ReadAnswer(message.id, refusal.status, b"")))
            return
        if batch is None:
            out.replies.append((link, ReadAnswer(message.id, self._status_of(message.slot), record)))
        elif self._replica.crowded:
            out.replies.append((link, ReadAnswer(message.id, STATUS_OVERLOADED, b"")))
        else:
            batch.waiters.append(partial(self._read_waited, link, message, record))

    def _read_waited(
        self, link: int, message: Read, record: bytes, status: int, now: float, out: Outbox
    ) -> None:
        if status == STATUS_OK:
            out.replies.append((link, ReadAnswer(message.id, self._status_of(message.slot), record)))
        else:
            self._read(link, message, now, out)  # what never got to the disk was never there

    def _recall(self, link: int, message: Recall, now: float, out: Outbox) -> None:
        """Answer whether this replica stored a write, and with what has become of it."""
        _check_slot(message.slot)
        if len(message.request) != REQUEST_BYTES:
            raise ValueError(f"a request id of {len(message.request)} bytes")
        if not self._planner.is_planned_with(message.ring) or not self._same_copies(message.slot):
            out.replies.append((link, Recalled(message.id, STATUS_RING, b"", 0, b"")))
            return
        assert self._planner.ring is not None
        owners = self._planner.ring.owners(message.slot)
        try:
            if self._me in owners:
                known = self._replica.recall(message.slot, message.request)
            else:  # it may have stood in for them
                record, batch = self._hints.read(message.slot, owners)
                known = self._replica.recall_in(record, batch, message.slot, message.request)
        except Refusal as refusal:
            if refusal.is_news:
                out.events.append(("error", str(refusal)))
            out.replies.append((link, Recalled(message.id, refusal.status, b"", 0, b"")))
            return
        if known is None:
            self._replica.seen.bar(message.request, now)
            out.replies.append((link, Recalled(message.id, STATUS_OK, b"", 0, b"")))
        elif known.batch is None:
            self._recall_waited(link, message, known, STATUS_OK, now, out)
        elif self._replica.crowded:
            out.replies.append((link, Recalled(message.id, STATUS_OVERLOADED, b"", 0, b"")))
        else:
            known.batch.waiters.append(partial(self._recall_waited, link, message, known))

    def _recall_waited(
        self, link: int, message: Recall, known: Written, status: int, now: float, out: Outbox
    ) -> None:
        if status == STATUS_OK:
            actor, counter = known.dot
            out.replies.append((link, Recalled(message.id, STATUS_OK, actor, counter, known.record)))
        else:
            self._recall(link, message, now, out)  # what never got to the disk was never there

    def _scan(self, link: int, message: Scan, now: float, out: Outbox) -> None:
        """Answer with a page of what is on the disk."""
        if not is_scan(message):
            raise ValueError("a scan that no node asks for")
        if self._planner.is_planned_with(message.ring) and self._same_copies(message.prefix):
            entries, end = self._replica.scan(message.prefix, message.after, message.limit)
            status = self._status_of(message.prefix)
            out.replies.append((link, ScanAnswer(message.id, status, entries, end)))
        else:
            out.replies.append((link, ScanAnswer(message.id, STATUS_RING, b"", b"")))

    def _status_of(self, slot: bytes) -> int:
        """With which a copy is answered."""
        weakness = self._weakness
        return STATUS_WEAK if weakness.doubtful and weakness.is_weak(slot) else STATUS_OK

    def _store(self, link: int, message: Store, now: float, out: Outbox) -> None:
        # Read repair, which nobody waits for, yields to clients.
        self._merge(link, message, PEERS_ROOM if message.id else 1.0, now, out)

    def _hand_over(self, link: int, message: HandOver, now: float, out: Outbox) -> None:
        """A hint for this node, unless it is older than what was reaped since."""
        if not message.id:
            raise ValueError("a hint that is handed over without asking for an answer")
        _check_slot(message.slot)
        if message.generation < self._generations.of(message.slot):
            self._answer_store(link, message.id, STATUS_REAPED, out)
        else:
            self._merge(link, message, HINTS_ROOM, now, out)

    def _merge(self, link: int, message: Store | HandOver, room: float, now: float, out: Outbox) -> None:
        """room: how much more delay before the disk it may add to than a client's write."""
        if not self._is_welcome(link, message, self._me, room, now, out):
            return
        try:
            batch = self._replica.merge(message.slot, message.key, message.record)
        except Refusal as refusal:
            self._refuse_store(link, message.id, refusal, out)
            return
        if batch is None:
            self._answer_store(link, message.id, STATUS_OK, out)
        elif message.id:
            batch.copies.append((link, message.id))

    def _store_hint(self, link: int, message: StoreHint, now: float, out: Outbox) -> None:
        """Keep a record for somebody else."""
        if not message.id or message.target == self._me:
            raise ValueError("a hint that no node sends")
        room = PEERS_ROOM if message.needed else HINTS_ROOM
        if not self._is_welcome(link, message, message.target, room, now, out):
            return
        try:
            batch = self._hints.keep(
                message.target,
                message.slot,
                message.key,
                message.record,
                generation=max(message.generation, self._generations.stamp(message.slot)),
                needed=message.needed,
            )
        except Refusal as refusal:
            self._refuse_store(link, message.id, refusal, out)
            return
        if batch is None:
            self._answer_store(link, message.id, STATUS_OK, out)
        else:
            batch.copies.append((link, message.id))
            self._handoff.kept(message.target, batch)

    def _is_welcome(
        self,
        link: int,
        message: Store | HandOver | StoreHint,
        owner: str,
        room: float,
        now: float,
        out: Outbox,
    ) -> bool:
        """Whether a record may be stored here, for an owner of its key; if not, that is answered."""
        slot, key, ring = message.slot, message.key, self._planner.ring
        _check_slot(slot)
        if not 1 <= len(key) <= KEY_BYTES_MAX:
            raise ValueError(f"a key of {len(key)} bytes")
        if (
            ring is None
            or ring.fingerprint != message.ring
            or not self._same_copies(slot)
            or self._membership.admitting
        ):
            self._answer_store(link, message.id, STATUS_RING, out)
            return False
        if not ring.places(slot, key, owner):
            out.events.append(("error", f"a peer sent key {key!r} to where it does not belong"))
            self._answer_store(link, message.id, STATUS_REFUSED, out)
            return False
        if self._replica.crowded or self._replica.delay_s(now) > self._config.write_delay_max_s * room:
            self._answer_store(link, message.id, STATUS_OVERLOADED, out)
            return False
        return True

    def _refuse_store(self, link: int, id: int, refusal: Refusal, out: Outbox) -> None:
        if refusal.is_news:
            out.events.append(("error", f"a record from a peer was refused: {refusal}"))
        self._answer_store(link, id, refusal.status, out)

    def _answer_store(self, link: int, id: int, status: int, out: Outbox) -> None:
        if id:
            commit = self._replica.commit_number if status == STATUS_OK else 0
            out.replies.append((link, Stored(id, status, commit)))


def _check_slot(slot: bytes) -> None:
    """An engine would not take it."""
    if len(slot) != SLOT_BYTES:
        raise ValueError(f"a slot of {len(slot)} bytes")


def slots_of(message: ReadMany) -> list[bytes]:
    """Raises ValueError for what no node sends."""
    slots = message.slots
    count, rest = divmod(len(slots), SLOT_BYTES)
    if rest or not 1 <= count <= READ_MANY_SLOTS_MAX:
        raise ValueError(f"slots of {len(slots)} bytes in all")
    return [slots[at : at + SLOT_BYTES] for at in range(0, len(slots), SLOT_BYTES)]


def is_scan(message: Scan) -> bool:
    """Whether a node may have sent it."""
    return len(message.prefix) == PREFIX_BYTES and is_page(message.after, message.limit)
