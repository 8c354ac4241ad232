"""Which writes this node has stored lately, by their requests, so that a write sent again is not done again.

In: the request and the dot of every write that is stored here, minted or taken over from another replica,
with the slot that it is in; the batches that the disk gets. Out: the dots of a request. What a batch carries
is one row in it (rows.SEEN ‖ a number that only grows), appended in the order of time: a row for every write
would cost it a second random page. Rows are read back at the start, and go with the batches that follow:
those that are older than the window, those of earlier starts once this one is as old, and the oldest where
there are too many, a few with each batch.

A node that was asked for a write and did not know it is *barred* from doing it at its first word: whoever
asked may have gone on without it.

Guarantees: a write is known from the moment that it is on its way to the disk, and for `window_s` from then,
be there restarts between or not, unless more than `count_max` came after it; one whose commit failed is not.
"""

from __future__ import annotations

import math
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from dyno.causality.dots import Dot
from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.rows import SEEN, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dyno.storage.engine import Engine

_ENTRY: Final = struct.Struct(f">16s{SLOT_BYTES}s16sQ")  # request, slot, actor and counter of the dot
_ENTRY_BYTES: Final = _ENTRY.size
_REQUEST_BYTES: Final = 16
_NUMBER_BYTES: Final = 8
_PAGE_ROWS: Final = 256  # read at once, at the start
_DROPPED_MAX: Final = 16  # rows, with one batch
_BARRED_MAX: Final = 10_000

_pack = _ENTRY.pack


class _Row:
    """The entries of one batch. until: when they may be forgotten."""

    __slots__ = ("count", "entries", "key", "until")

    def __init__(self, key: bytes, entries: bytes) -> None:
        self.key = key
        self.entries = entries
        self.count = len(entries) // _ENTRY_BYTES
        self.until = math.inf


class RequestsSeen:
    """engine: read once, for what earlier starts remembered. window_s: how long a write is known."""

    def __init__(self, engine: Engine, *, window_s: float, count_max: int) -> None:
        self._window_s = window_s
        self._count_max = count_max
        self._known: dict[bytes, bytes] = {}  # request → its entries, nearly always one
        self._rows: deque[_Row] = deque()  # oldest first
        self._undated: list[_Row] = []  # those that came since a time was last known
        self._count = 0  # of entries in rows
        self._next = 0
        self._dropped: deque[bytes] = deque()  # keys of rows that are forgotten, and still on the disk
        self._barred: dict[bytes, float] = {}
        self._load(engine)

    # ── what is known ──

    def knows(self, request: bytes) -> bool:
        """Whether any write of this request was stored, under whatever key."""
        return request in self._known

    def dots(self, slot: bytes, request: bytes) -> list[Dot]:
        """Under which a write was stored: one, or more where it was done again elsewhere."""
        known = self._known.get(request)
        if known is None:
            return []
        return [Dot(actor, counter) for _, its, actor, counter in _ENTRY.iter_unpack(known) if its == slot]

    def note(self, entries: list[bytes], slot: bytes, request: bytes, dot: Dot) -> None:
        """A write is on its way to the disk, with the batch that carries these entries."""
        entry = _pack(request, slot, dot[0], dot[1])
        entries.append(entry)
        known = self._known.setdefault(request, entry)
        if known is not entry and entry not in _each(known):
            self._known[request] = known + entry

    # ── what was asked ──

    def bar(self, request: bytes, now: float) -> None:
        """Another node was told that this request is not known here, and goes by that."""
        self._barred.pop(request, None)
        self._barred[request] = now
        if len(self._barred) > _BARRED_MAX:
            del self._barred[next(iter(self._barred))]

    def barred_at(self, request: bytes) -> float | None:
        """When that was last, None for never."""
        return self._barred.get(request) if self._barred else None

    # ── batches ──

    def take(self, entries: list[bytes], writes: dict[bytes, bytes | None], now: float | None) -> None:
        """The disk gets a batch now: add its row to the batch's writes, and drop what is too old. now: None
        where nobody measures."""
        if entries:
            row = _Row(SEEN + self._next.to_bytes(_NUMBER_BYTES, "big"), b"".join(entries))
            self._next += 1
            self._append(row)
            writes[row.key] = row.entries
        self._drop_surplus()
        if now is not None:
            self._drop_old(now)
        for _ in range(min(len(self._dropped), _DROPPED_MAX)):
            writes[self._dropped.popleft()] = None

    def failed(self, entries: list[bytes], writes: dict[bytes, bytes | None]) -> None:
        """A batch with these did not get to the disk, nor perhaps to be taken for it."""
        for entry in entries:
            self._forget(entry)
        for key, row in writes.items():
            if key.startswith(SEEN):
                if row is None:
                    self._dropped.append(key)
                else:
                    self._count -= self._rows.pop().count  # the newest: no other was taken since

    # ── inside ──

    def _append(self, row: _Row) -> None:
        self._rows.append(row)
        self._undated.append(row)
        self._count += row.count

    def _drop_old(self, now: float) -> None:
        """What has no time yet is at most as old as now."""
        for row in self._undated:
            row.until = now + self._window_s
        self._undated.clear()
        for _ in range(min(len(self._rows), _DROPPED_MAX)):
            if self._rows[0].until > now:
                break
            self._drop_oldest()

    def _drop_surplus(self) -> None:
        while self._count > self._count_max and len(self._rows) > 1:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        row = self._rows.popleft()
        self._count -= row.count
        self._dropped.append(row.key)
        for entry in _each(row.entries):
            self._forget(entry)

    def _forget(self, entry: bytes) -> None:
        request = entry[:_REQUEST_BYTES]
        known = self._known.pop(request, entry)
        if known != entry:
            self._known[request] = b"".join(other for other in _each(known) if other != entry)

    def _load(self, engine: Engine) -> None:
        start, end = rows_of(SEEN)
        onward: bytes | None = start
        while onward is not None:
            items, onward = engine.scan(onward, end, limit=_PAGE_ROWS)
            for key, entries in items:
                self._next = int.from_bytes(key[len(SEEN) :], "big") + 1
                sound = entries if entries is not None and len(entries) % _ENTRY_BYTES == 0 else b""
                self._append(_Row(key, sound))
                for request, slot, actor, counter in _ENTRY.iter_unpack(sound):
                    self.note([], slot, request, Dot(actor, counter))
            self._drop_surplus()


def _each(entries: bytes) -> Iterator[bytes]:
    return (entries[at : at + _ENTRY_BYTES] for at in range(0, len(entries), _ENTRY_BYTES))
