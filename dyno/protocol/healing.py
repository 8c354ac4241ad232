"""Heal corrupt records: with the merge of what all their other owners have.

A corrupt record is no answer, and nothing is written onto it, for nobody knows what was acknowledged here.
Whatever that was is on other owners too, on any of them; so the merge of what *all* of them have is written
over it, and only that. Until then, be it because one of them is away, it stays what it is. Where none of them
has anything, there is nothing to heal it with, and it is looked at again when it is met again.

In: the slots that the replica met as corrupt, and answers. Out: `Fetch`es of single slots, and records that
are whole. A slot is asked for at every owner once, and again after a refusal or when its link is back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dyno.causality.context import Malformed
from dyno.causality.record import DotConflict, Record
from dyno.protocol.group_commit import Refusal
from dyno.wire.messages import STATUS_OK, Fetch, Fetched
from dyno.wire.rows import unpack_row

if TYPE_CHECKING:
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica

PATIENTS_MAX: Final = 100  # at once; others wait, noted by the replica
HOPELESS_S: Final = 5.0  # until one that could not be healed is tried again


class Healing:
    """me: this node's name. next_id: for requests. retry_s: after a refusal."""

    def __init__(
        self,
        *,
        me: str,
        planner: Planner,
        replica: Replica,
        peers: Peers,
        next_id: Callable[[], int],
        retry_s: float,
    ) -> None:
        self._me = me
        self._planner = planner
        self._replica = replica
        self._peers = peers
        self._next_id = next_id
        self._retry_s = retry_s
        self._patients: dict[bytes, _Patient] = {}
        self._asked: dict[int, tuple[_Patient, str]] = {}
        self._look_at = math.inf

    def answer(self, node: str, message: Fetched, now: float, out: Outbox) -> None:
        """Raises ValueError for what cannot be an answer to what was asked."""
        patient, owner = self._asked.get(message.id, (None, ""))
        if patient is None or owner != node:
            return
        del self._asked[message.id]
        patient.asked.pop(owner, None)
        if message.status != STATUS_OK:
            self._look_at = min(self._look_at, now + self._retry_s)
            return
        items = unpack_row(message.entries, items_max=2)
        if len(items) != 2:
            raise ValueError("a slot has a key and a record")
        patient.answers[owner] = (items[0] or b"", items[1] or b"")
        self._try(patient, now, out)

    def link_up(self, node: str) -> None:
        if self._patients:
            self._look_at = -math.inf

    def link_down(self, node: str) -> None:
        for id, (patient, owner) in list(self._asked.items()):
            if owner == node:
                del self._asked[id]
                patient.asked.pop(owner, None)

    def tick(self, now: float, out: Outbox) -> None:
        self._admit()
        if now < self._look_at:
            return
        self._look_at = math.inf
        for patient in list(self._patients.values()):
            if patient.wait_until > now:
                self._look_at = min(self._look_at, patient.wait_until)
            else:
                self._treat(patient, now, out)

    def deadline(self) -> float:
        """Infinity for none."""
        if self._replica.damaged and len(self._patients) < PATIENTS_MAX:
            return -math.inf
        return self._look_at

    # ── inside ──

    def _admit(self) -> None:
        damaged = self._replica.damaged
        while damaged and len(self._patients) < PATIENTS_MAX:
            slot = next(iter(damaged))
            del damaged[slot]
            if slot not in self._patients and self._others(slot):
                self._patients[slot] = _Patient(slot)
                self._look_at = -math.inf

    def _others(self, slot: bytes) -> list[str]:
        """The other owners; none for what is no copy of this node's."""
        ring = self._planner.ring
        owners = ring.owners(slot) if ring is not None and ring.is_slot(slot) else ()
        return [name for name in owners if name != self._me] if self._me in owners else []

    def _treat(self, patient: _Patient, now: float, out: Outbox) -> None:
        ring = self._planner.ring
        assert ring is not None
        for owner in self._others(patient.slot):
            if owner in patient.answers or owner in patient.asked or not self._peers.can_ask(owner):
                continue
            id = self._next_id()
            self._asked[id] = (patient, owner)
            patient.asked[owner] = id
            self._peers.send(owner, Fetch(id, ring.fingerprint, patient.slot), out)
        self._try(patient, now, out)

    def _try(self, patient: _Patient, now: float, out: Outbox) -> None:
        """Once all have answered."""
        others = self._others(patient.slot)
        if not all(owner in patient.answers for owner in others):
            return
        try:
            key, merged = self._merged(patient)
            if merged:
                self._replica.heal(patient.slot, key, merged)
                self._replica.mended.healed += 1
                self._replica.damaged.pop(patient.slot, None)
                del self._patients[patient.slot]
                out.events.append(("warning", f"the record of key {key!r} was corrupt and is healed"))
                return
        except (Refusal, Malformed, DotConflict) as error:
            out.events.append(("error", f"a corrupt record, {patient.slot.hex()}, is not healed: {error}"))
        patient.answers.clear()
        patient.wait_until = now + HOPELESS_S
        self._look_at = min(self._look_at, patient.wait_until)

    def _merged(self, patient: _Patient) -> tuple[bytes, bytes]:
        ring = self._planner.ring
        assert ring is not None
        key, merged = b"", Record.EMPTY
        for its_key, packed in patient.answers.values():
            if packed and ring.places(patient.slot, its_key, self._me):
                key, merged = its_key, merged.merge(Record.unpack(packed))
        return key, merged.pack() if key else b""


class _Patient:
    """One corrupt record. answers: key and record, by owner; asked: who was, under which id."""

    __slots__ = ("answers", "asked", "slot", "wait_until")

    def __init__(self, slot: bytes) -> None:
        self.slot = slot
        self.answers: dict[str, tuple[bytes, bytes]] = {}
        self.asked: dict[str, int] = {}
        self.wait_until = -math.inf
