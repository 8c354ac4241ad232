"""The records that this node keeps for others, who could not take them: its hints.

A hint is a row (`rows.HINTS ‖ target ‖ 0 ‖ slot`) with the generation under which it was made (`generations`)
and a cell with key and record. There is one per target and slot: what comes later is merged into it. It is
kept until its target has it durably, and then deleted only if it is unchanged since it was sent.

How many there are for each target, and how many bytes, is a row as well (`rows.HELD`), written with the hints
that it counts; so a start need not look at them all, and a commit that fails takes hint and count along.

In: records with the name of whom they are for. Out: batches to wait for, what is kept for a key (to be read
where its owners cannot be), pages to be handed over. A hint that no write counted on is refused beyond
`hints_bytes_max`. Raises `Refusal`, and nothing was changed then.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from dyno.causality.context import Malformed
from dyno.causality.record import DotConflict, Record
from dyno.protocol.aside import row_aside
from dyno.protocol.group_commit import Refusal
from dyno.protocol.rows import HELD, HINTS, rows_of
from dyno.storage.cell import pack_cell, record_of, unpack_cell
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, STATUS_REFUSED

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.replica import Replica

_GENERATION_BYTES = 8
_COUNT_BYTES = 8
_PAGE = 1000


class Held(NamedTuple):
    """What is kept for one target. size: bytes of keys and values of its rows."""

    hints: int
    size: int


class Hint(NamedTuple):
    """One that was read from the disk, as it is there. row, value: by which it is known again; value None: it
    is damaged, and the other fields are empty then."""

    row: bytes
    value: bytes | None
    slot: bytes
    key: bytes
    record: bytes
    generation: int


class Hints:
    """All hints of one node, for whomever."""

    def __init__(self, *, config: Config, replica: Replica) -> None:
        self._bytes_max = config.hints_bytes_max
        self._replica = replica
        self._held: dict[str, Held] = {}  # with what is on its way to the disk
        self._watched: Batch | None = None  # the batch that tells of its end already
        self._load()

    def held(self) -> dict[str, int]:
        """How many hints are kept for which node."""
        return {target: held.hints for target, held in self._held.items()}

    def bytes_held(self) -> int:
        """Of all hints."""
        return sum(held.size for held in self._held.values())

    def has(self, target: str) -> bool:
        return target in self._held

    # ── keeping ──

    def keep(
        self, target: str, slot: bytes, key: bytes, record: bytes, *, generation: int, needed: bool
    ) -> Batch | None:
        """Keep a record for a node. needed: a write counts on it. None: it was all here and on the disk."""
        row = _row_of(target, slot)
        before, batch = self._replica.newest(row)
        if before is None:
            _unpack(record)  # strict: what passes is canonical
        else:
            generation = min(generation, _generation_of(before))
            record = _merge(before[_GENERATION_BYTES:], key, record)
        after = generation.to_bytes(_GENERATION_BYTES, "big") + pack_cell(key, b"", record)
        if after == before:
            return batch
        if not needed and self.bytes_held() + len(row) + len(after) > self._bytes_max:
            raise Refusal(STATUS_OVERLOADED, "as many hints are kept as may be", is_news=False)
        return self._write(target, row, before, after)

    def read(self, slot: bytes, owners: Sequence[str]) -> tuple[bytes, Batch | None]:
        """The merge of all that is kept for the owners of a slot (b"" for nothing), and the batch to wait for
        before anyone may be told of it."""
        merged = b""
        last: Batch | None = None
        for owner in owners:
            if owner not in self._held:
                continue
            value, batch = self._replica.newest(_row_of(owner, slot))
            if value is not None:
                record = record_of(value[_GENERATION_BYTES:])
                if record != merged:
                    merged = _merged(_unpack(merged), _unpack(record)).pack() if merged else record
                last = self._replica.later(last, batch)
        return merged, last

    def kept(self, slot: bytes) -> list[tuple[str, bytes | None]]:
        """What is on the disk under a slot, and for whom; None for a damaged one."""
        found: list[tuple[str, bytes | None]] = []
        for target in sorted(self._held):
            row = _row_of(target, slot)
            for _, value in self._replica.rows(row, row + b"\0", limit=1)[0]:
                found.append((target, None if value is None else record_of(value[_GENERATION_BYTES:])))
        return found

    # ── handing over ──

    def page(self, target: str, after: bytes, *, limit: int) -> tuple[list[Hint], bytes | None]:
        """What is on the disk for a target, in key order. after: b"" for the beginning, then what came with
        the page before; None when there is no more."""
        start, end = rows_of(_prefix_of(target))
        rows, onward = self._replica.rows(after or start, end, limit=limit)
        return [_hint_of(row, value, len(start)) for row, value in rows], onward

    def is_newest(self, hint: Hint) -> bool:
        """Whether nothing else is on its way to the disk in its place."""
        return self._replica.newest(hint.row)[0] == hint.value

    def delete(self, target: str, hint: Hint) -> Batch | None:
        """The target has it. None: it changed since then, and is kept."""
        return self._write(target, hint.row, hint.value, None) if self.is_newest(hint) else None

    def set_aside(self, target: str, hint: Hint) -> Batch | None:
        """The target must not have it, or will never take it: out of the way, but kept. None: it changed."""
        if not self.is_newest(hint):
            return None
        aside, cell = row_aside(self._replica, hint.slot, pack_cell(hint.key, b"", hint.record))
        return self._write(target, hint.row, hint.value, None, {aside: cell})

    def drop_damaged(self, target: str, hint: Hint) -> Batch:
        """One that nobody can read any more. How many bytes it had is unknown; they are given back with the
        last one."""
        return self._write(target, hint.row, b"", None)

    # ── inside ──

    def _write(
        self,
        target: str,
        row: bytes,
        before: bytes | None,
        after: bytes | None,
        more: dict[bytes, bytes] | None = None,
    ) -> Batch:
        count, size = self._held.get(target, (0, 0))
        if before is not None:
            count, size = count - 1, size - len(row) - len(before)
        if after is not None:
            count, size = count + 1, size + len(row) + len(after)
        held = Held(max(count, 0), max(size, 0))
        batch = self._replica.write_rows(
            {row: after, HELD + target.encode(): _pack_held(held) if held.hints else None, **(more or {})}
        )
        if held.hints:
            self._held[target] = held
        else:
            self._held.pop(target, None)
        if batch is not self._watched:
            self._watched = batch
            batch.waiters.append(partial(self._ended, batch))
        return batch

    def _ended(self, batch: Batch, status: int, now: float, out: Outbox) -> None:
        """A batch with hints is on the disk, or never will be: then the counts are what they were."""
        if batch is self._watched:
            self._watched = None  # nobody else needs it any more
        if status != STATUS_OK:
            self._load()

    def _load(self) -> None:
        self._held.clear()
        start: bytes | None
        start, end = rows_of(HELD)
        while start is not None:
            rows, start = self._replica.rows(start, end, limit=_PAGE)
            for row, value in rows:
                target = row[len(HELD) :].decode()
                if value is None:
                    self._held[target] = self._counted(target)
                else:
                    self._held[target] = _unpack_held(value)

    def _counted(self, target: str) -> Held:
        """One by one, since the count is damaged."""
        count = size = 0
        onward: bytes | None
        onward, end = rows_of(_prefix_of(target))
        while onward is not None:
            rows, onward = self._replica.rows(onward, end, limit=_PAGE)
            count += len(rows)
            size += sum(len(row) + len(value or b"") for row, value in rows)
        return Held(max(count, 1), size)  # one at least: who looks for them finds out


def _prefix_of(target: str) -> bytes:
    return HINTS + target.encode() + b"\0"


def _row_of(target: str, slot: bytes) -> bytes:
    return HINTS + target.encode() + b"\0" + slot


def _generation_of(value: bytes) -> int:
    return int.from_bytes(value[:_GENERATION_BYTES], "big")


def _hint_of(row: bytes, value: bytes | None, slot_at: int) -> Hint:
    if value is None:
        return Hint(row, None, row[slot_at:], b"", b"", 0)
    key, _, record = unpack_cell(value[_GENERATION_BYTES:])
    return Hint(row, value, row[slot_at:], key, record, _generation_of(value))


def _pack_held(held: Held) -> bytes:
    return held.hints.to_bytes(_COUNT_BYTES, "big") + held.size.to_bytes(_COUNT_BYTES, "big")


def _unpack_held(value: bytes) -> Held:
    return Held(int.from_bytes(value[:_COUNT_BYTES], "big"), int.from_bytes(value[_COUNT_BYTES:], "big"))


def _merge(cell: bytes, key: bytes, incoming: bytes) -> bytes:
    """What a cell has, with a record of the same key."""
    own_key, _, own = unpack_cell(cell)
    if own_key != key:
        raise Refusal(STATUS_REFUSED, f"a hint for key {own_key!r} was given key {key!r}")
    return own if own == incoming else _merged(_unpack(own), _unpack(incoming)).pack()


def _unpack(packed: bytes) -> Record:
    try:
        return Record.unpack(packed)
    except Malformed as error:
        raise Refusal(STATUS_REFUSED, f"a malformed record: {error}") from error


def _merged(one: Record, other: Record) -> Record:
    try:
        return one.merge(other)
    except DotConflict as error:
        raise Refusal(STATUS_REFUSED, f"hints contradict each other: {error}") from error
