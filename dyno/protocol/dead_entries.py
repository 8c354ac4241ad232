"""Since when entries of contexts have been dead, on this node's disk.

An entry is all that a context holds of one actor. It is dead where no live value has that actor: it is there
only to keep covered values from coming back. Beside each record that has some there is a row of them with
the attended time at which they were first seen like that. Nothing of this is done where records are written:
a survey walks over the disk from time to time and compares. An entry can not have been alive in between: its
count would be another one, for what it covers never comes alive again while it is there.

In: the replica's records, and attended time. Out: rows, and those entries that have been dead for long enough
(*ripe*).

A row: for each time, oldest first, u64 big endian of it in ms, u32 bytes of the packed context, the context.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from dyno.causality.context import Context, Malformed
from dyno.causality.record import Record, head_of, surely_all_live
from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import DEAD, rows_of
from dyno.storage.cell import record_of

if TYPE_CHECKING:
    from dyno.protocol.attended import Attended
    from dyno.protocol.replica import Replica

Groups: TypeAlias = list[tuple[int, Context]]  # since when in attended ms, which; oldest first

STEPS: Final = 32  # of time within which entries count as dead since its end: so many groups in a row

_RECORDS_END: Final = rows_of(DEAD)[0][:3]  # where slots end and rows begin
_GROUP: Final = struct.Struct(">QI")


class Ripe(NamedTuple):
    """entries: that may be dropped from the record of a slot, as far as this node is concerned. bytes: of
    the record."""

    slot: bytes
    entries: Context
    bytes: int


class _Sound(NamedTuple):
    """A row that says what it should of a record, by what that has but for its values."""

    row: bytes | None
    head: bytes
    groups: Groups


class DeadEntries:
    """reap_after_s: how long they must have been dead. lead_s: how much longer where this node is the one to
    propose it, so that the others have noticed as well."""

    def __init__(self, replica: Replica, attended: Attended, *, reap_after_s: float, lead_s: float) -> None:
        self._replica = replica
        self._attended = attended
        self._reap_after_ms = int(reap_after_s * 1000)
        self._propose_after_ms = int((reap_after_s + lead_s) * 1000)
        self._step_ms = max(1, self._reap_after_ms // STEPS)
        # Of the page that was surveyed last: each round begins with the same page again.
        self._sound: dict[bytes, _Sound] = {}

    def survey(self, start: bytes, *, limit: int) -> tuple[list[Ripe], bytes | None]:
        """Bring the rows of a page of records up to date. Gives the ripe entries among them, and where the
        next page starts, None at the end. Raises Refusal where the rows cannot be written now."""
        records, onward = self._replica.rows(start, _RECORDS_END, limit=limit)
        end = _RECORDS_END if onward is None else onward
        rows, more = self._replica.rows(DEAD + start, DEAD + end, limit=4 * limit)
        if more is not None:  # rows of records that are gone; the page ends where they do
            end = onward = more[len(DEAD) :]
        known = {key[len(DEAD) :]: row for key, row in rows}
        known.pop(b"", None)  # attended time itself
        ripe = []
        sound: dict[bytes, _Sound] = {}
        changes: dict[bytes, bytes | None] = {}
        for slot, cell in records:
            if slot >= end:
                break
            row = known.pop(slot, None)
            if self._replica.waits(slot) or self._replica.waits(DEAD + slot):
                continue  # another time: what is written now must fit the record that is written with it
            head = b"" if cell is None else head_of(record_of(cell))
            before = self._sound.get(slot)
            if before is not None and before.row == row and before.head == head:
                groups = self._joined(before.groups)
            else:
                groups = self._compare(row, cell)
            packed = _pack(groups) if groups else None
            if packed != row:
                changes[slot] = packed
            elif head:
                sound[slot] = _Sound(row, head, groups)
            entries = self._older(groups, self._propose_after_ms)
            if entries:
                ripe.append(Ripe(slot, entries, len(cell or b"")))
        changes.update((slot, None) for slot in known if not self._replica.waits(DEAD + slot))
        self._sound = sound
        self._write(changes)
        return ripe, onward

    def ripe(self, slot: bytes) -> Context:
        """The ripe entries of one slot; they are surely in the newest record as well, or are skipped when
        they are to be forgotten."""
        try:
            row = self._replica.row(DEAD + slot)
            record = self._replica.read(slot)[0] if row else b""
        except Refusal:
            return Context.EMPTY  # what is damaged says nothing
        if not row or not record:
            return Context.EMPTY
        return self._older(_unpack(row), self._reap_after_ms).agreed(_dead(record))

    def forget(self, slot: bytes, entries: Context) -> int:
        """Drop those of these entries that are ripe here, too, with their row; gives how many. Raises
        Refusal."""
        entries = self.ripe(slot).agreed(entries)
        if not entries or self._replica.forget(slot, entries) is None:
            return 0
        groups = _unpack(self._replica.row(DEAD + slot) or b"")
        left = [(since, kept) for since, dead in groups if (kept := dead.without(entries))]
        self._replica.write_row(DEAD + slot, _pack(left) if left else None)
        return len(entries.actors())

    def _compare(self, row: bytes | None, cell: bytes | None) -> Groups:
        """What a row is to say, now that this is the record; a damaged record is left as it is."""
        groups = _unpack(row) if row else []
        if cell is None:
            return groups
        record = record_of(cell)
        if surely_all_live(record):
            return []
        rest = _dead(record)
        kept: Groups = []
        for since, entries in groups:
            still = rest.agreed(entries)
            if still:
                kept.append((since, still))
                rest = rest.without(still)
        if rest:
            steps = -(-self._attended.ms // self._step_ms)
            kept.append((steps * self._step_ms, rest))
        return self._joined(kept)

    def _joined(self, groups: Groups) -> Groups:
        """One group for each time, and one for all that are old enough in any case."""
        if len(groups) < 2:
            return groups
        by_time: dict[int, Context] = {}
        bound = self._attended.ms - self._propose_after_ms
        newest = max((since for since, _ in groups if since <= bound), default=0)
        for since, entries in groups:
            time = max(since, newest)
            by_time[time] = by_time.get(time, Context.EMPTY).union(entries)
        return sorted(by_time.items())

    def _older(self, groups: Groups, least_ms: int) -> Context:
        """All that have been dead for so long."""
        older = Context.EMPTY
        for since, entries in groups:
            if self._attended.ms - since >= least_ms:
                older = older.union(entries)
        return older

    def _write(self, changes: dict[bytes, bytes | None]) -> None:
        if changes:
            self._attended.write()
        for slot, row in changes.items():
            self._replica.write_row(DEAD + slot, row)


def _dead(record: bytes) -> Context:
    """Of a record that is not understood nothing is known to be dead."""
    try:
        return Record.unpack(record).dead()
    except Malformed:
        return Context.EMPTY


def _pack(groups: Groups) -> bytes:
    parts = []
    for since, entries in groups:
        packed = entries.pack()
        parts += [_GROUP.pack(since, len(packed)), packed]
    return b"".join(parts)


def _unpack(row: bytes) -> Groups:
    groups = []
    at = 0
    while at < len(row):
        since, size = _GROUP.unpack_from(row, at)
        at += _GROUP.size
        groups.append((since, Context.unpack(row[at : at + size])))
        at += size
    return groups
