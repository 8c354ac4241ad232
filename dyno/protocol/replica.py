"""This node's own copies: what a record becomes when it is written, merged, deleted, recalled or healed here.

Copies are cells of the engine, and gather for it in batches (`group_commit`). A read that meets a record
that is not committed yet is answered after its commit. Dots that were minted for a commit that failed may
have left this node already, so minting goes on under a new start id (DESIGN, Identity).

In go slots and packed records; out come packed records and the batch, if any, to wait for. Raises
`Refusal` with the wire status when the answer is no; nothing was changed then.

Every write that is stored here is known by its request for a while (`requests_seen`). So a value that was
written again is dropped where its first dot was overwritten: a retry of a write does not bring back what
somebody has read and replaced (`doubles`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot, dot_of_request
from dyno.causality.mint import Minter, Note
from dyno.causality.record import DotConflict, OtherKind, Record, is_live
from dyno.config import RECORD_BYTES_MAX, SIBLINGS_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import slot_bucket, slot_prefix, slot_range
from dyno.protocol.doubles import with_doubles, without_replaced
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.group_commit import Batch, GroupCommit, Refusal
from dyno.protocol.mended import Mended
from dyno.protocol.requests_seen import RequestsSeen
from dyno.protocol.rows import is_row
from dyno.protocol.trees import Trees
from dyno.storage.cell import pack_cell, record_of, unpack_cell
from dyno.storage.engine import CorruptRecord, Engine, Span
from dyno.wire.messages import STATUS_OVERLOADED, STATUS_REFUSED
from dyno.wire.pages import HASH_BYTES, PAGE_KEYS_MAX, Entry, entry, pack_entries, unreadable

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.outbox import Outbox

_ABOVE = b"\xff" * (HASH_BYTES + 1)  # what follows a prefix is below it
NO_DOT = Dot(b"", 0)

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Written(NamedTuple):
    """A write: the merged record (to be replicated), the context that was there before, the dot (a delete has
    none) and where it is waiting; None: it is on the disk, or nothing is stored here (`substitute`)."""

    record: bytes
    before: Context
    dot: Dot
    batch: Batch | None


class Replica(GroupCommit):
    """The copies of one node. `minter` gives new dots; `config` bounds what may wait for the disk."""

    def __init__(self, *, engine: Engine, minter: Minter, config: Config) -> None:
        super().__init__(engine=engine, config=config)
        self._minter = minter
        # What nobody may read or write now, by (partition, n) as slots begin (`quarantine`).
        self.closed: dict[bytes, None] = {}
        self.trees = Trees(empty=not self._holds_data)
        self.mended = Mended()
        self.seen = RequestsSeen(engine, window_s=config.retry_window_s, count_max=config.requests_seen_max)

    def gathers(self, bucket: bytes) -> bool:
        """Whether a record of a bucket, given by its id, is on its way to the disk."""
        batches = (self._gathering, self._committing)
        return any(
            slot_bucket(slot) == bucket and not is_row(slot)
            for batch in batches
            if batch is not None
            for slot in batch.writes
        )

    def stores(self, bucket: bytes, n: int, partition: int) -> bool:
        """Whether the disk has any record of a bucket of n copies in a partition; a damaged one counts."""
        start, end = slot_range(slot_prefix(bucket, partition, n))
        return bool(self._engine.scan(start, end, limit=1)[0])

    # ── reading ──

    def read(self, slot: bytes) -> tuple[bytes, Batch | None]:
        """The packed record (b"" for none) and the batch to wait for before anyone may be told of it."""
        if self.closed and slot[:HEAD_BYTES] in self.closed:
            return b"", None
        cell, batch = self._newest(slot)
        return b"" if cell is None else record_of(cell), batch

    def check_open(self, slot: bytes) -> None:
        """Raises Refusal where nobody may say yet what this copy has, or lacks."""
        if self.closed and slot[:HEAD_BYTES] in self.closed:
            text = "it is being found out how old this copy is"
            raise Refusal(STATUS_OVERLOADED, text, is_news=False)

    def read_many(self, slots: Sequence[bytes], *, bytes_max: int) -> list[bytes | None]:
        """Records as `read` gives them, but None for one that nobody may be told of yet, that is corrupt, or
        that comes after so many bytes of others: `read` tells which."""
        records: list[bytes | None]
        try:
            cells = self._engine.get_many(slots, bytes_max=bytes_max)
            records = [b"" if cell is None else record_of(cell) for cell in cells]
        except CorruptRecord:
            records = self._sound_of(slots, bytes_max=bytes_max)
        if len(records) < len(slots):
            records += [None] * (len(slots) - len(records))
        if self.closed:
            records = [
                None if slot[:HEAD_BYTES] in self.closed else record
                for slot, record in zip(slots, records, strict=True)
            ]
        for batch in (self._gathering, self._committing):
            if batch is not None and batch.writes:
                waiting = batch.writes
                for index, slot in enumerate(slots):
                    if slot in waiting:
                        records[index] = None
        return records

    def scan(self, prefix: bytes, after: bytes, limit: int) -> tuple[bytes, bytes]:
        """A page of what is committed in a stretch of slots, as the fields of a ScanAnswer: the entries
        behind the hash `after`, and the hash of the last one, b"" when there are no more.

        What is still on its way to the disk is not in it, and need not be: nobody was told of it yet."""
        if prefix[:HEAD_BYTES] in self.closed:
            return pack_entries([]), b""
        span = listing_span(prefix, after, limit)
        items, onward = self._engine.scan(span.start, span.end, limit=span.limit)
        end = b"" if onward is None else items[-1][0][-HASH_BYTES:]
        return pack_entries([_entry(slot[-HASH_BYTES:], cell) for slot, cell in items]), end

    def copies_of(self, slots: Sequence[bytes], *, bytes_max: int) -> list[tuple[bytes, bytes] | None]:
        """What is committed of these slots: key and record, two b"" where there is none, None for what is
        corrupt or comes after so many bytes of others."""
        copies: list[tuple[bytes, bytes] | None] = []
        for slot in slots:
            if bytes_max <= 0:
                copies.append(None)
                continue
            try:
                cell = self._engine.get(slot)
            except CorruptRecord:
                self.note_damage(slot)
                copies.append(None)
                continue
            key, _, record = (b"", b"", b"") if cell is None else unpack_cell(cell)
            copies.append((key, record))
            bytes_max -= len(key) + len(record)
        return copies

    def newest_copy(self, slot: bytes) -> tuple[bytes, bytes] | None:
        """Key and record, be they on the disk or on their way there; None where there is none. Raises Refusal
        where it is corrupt, or closed."""
        self.check_open(slot)
        cell = self._newest(slot)[0]
        if cell is None:
            return None
        key, _, record = unpack_cell(cell)
        return key, record

    # ── writing ──

    def merge(self, slot: bytes, key: bytes, incoming: bytes) -> Batch | None:
        """Merge a record that another node sent. None: it was all here and on the disk already."""
        if self.closed:
            self.check_open(slot)
        cell, batch = self._newest(slot)
        if cell is None:
            theirs = _unpack(incoming)  # strict: what passes is canonical already
            merged = without_replaced(self.seen, slot, theirs)
            self._take_in(slot, key, b"", before=Record.EMPTY, theirs=theirs, merged=merged)
            return self._gathering
        own_key, note, own = unpack_cell(cell)
        if own_key != key:
            raise Refusal(STATUS_REFUSED, f"the slot of key {own_key!r} was given for key {key!r}")
        if own == incoming:
            return batch
        before, theirs = _unpack(own), _unpack(incoming)
        merged = without_replaced(self.seen, slot, _merged(before, theirs, key), before, theirs)
        if merged.pack() == own:
            return batch
        self._take_in(slot, key, note, before=before, theirs=theirs, merged=merged)
        return self._gathering

    def put(
        self, slot: bytes, key: bytes, *, context: Context, request: bytes, value: bytes, again: bool = False
    ) -> Written:
        """Mint a dot for a client's value and write it over what `context` covers. again: the value was sent
        before, is not known here (`recall`), and gets the dot of its request. One that was done again
        elsewhere, and whose first attempt comes only now, is recalled instead.

        Raises InvalidRequest where that would leave too many siblings or too large a record, and where the
        record is of another kind.
        """
        record, note = self._own(slot)
        if not again and record.context.knows(request):
            done = self.recall(slot, request)
            if done is not None:
                return done
        context = with_doubles(self.seen, slot, record, context)
        packed, dot, note = self.compose(
            record, note, context=context, request=request, value=value, again=again
        )
        self._store(slot, key, note.pack() if note else b"", packed, before=record)
        batch = self._gathering
        self.seen.note(batch.seen, slot, request, dot)
        batch.own = True
        return _new(Written, (packed, record.context, dot, batch))

    def compose(
        self,
        record: Record,
        note: Note | None,
        *,
        context: Context,
        request: bytes,
        value: bytes,
        again: bool,
    ) -> tuple[bytes, Dot, Note | None]:
        """What a put makes of a record, its dot and the note to keep of that; nothing is stored. Raises as
        `put` does."""
        # The caller may know more of this key than we do, dots of our own start among it if we lost some.
        known = record.context.union(context)
        if again:
            dot = dot_of_request(request)
            if known.covers(dot):
                raise InvalidRequest("the context covers the write that it came with")
        elif known.knows(request):  # under another dot it would be a double in its own record
            raise InvalidRequest("the context has the request of the write that it came with")
        else:
            dot, note = self._minter.mint(known, note)
        written = record.write(context, dot, request, value)
        if len(written.siblings) > SIBLINGS_MAX:
            raise InvalidRequest(
                f"the key has {len(record.siblings)} siblings, more are refused: "
                f"get it, and put with its context"
            )
        packed = written.pack()
        if len(packed) > RECORD_BYTES_MAX:
            raise InvalidRequest(
                f"the record with its siblings would be {len(packed)} bytes, over {RECORD_BYTES_MAX}"
            )
        return packed, dot, note

    def delete(self, slot: bytes, key: bytes, *, context: Context) -> Written:
        """Drop what `context` covers. Raises InvalidRequest where the record is of another kind."""
        record, note = self._own(slot)
        packed = record.delete(with_doubles(self.seen, slot, record, context)).pack()
        self._store(slot, key, note.pack() if note else b"", packed, before=record)
        self._gathering.own = True
        return Written(packed, record.context, NO_DOT, self._gathering)

    # ── writes that are sent again ──

    def recall(self, slot: bytes, request: bytes) -> Written | None:
        """What became of a write, by its request: the record as it is now, live or not, which covers its dot.
        None: it is not known here. Raises Refusal, and does where it is closed: whoever hears that it is not
        known goes by that."""
        self.check_open(slot)
        packed, batch = self.read(slot)
        return self.recall_in(packed, batch, slot, request)

    def recall_in(self, packed: bytes, batch: Batch | None, slot: bytes, request: bytes) -> Written | None:
        """The same, of a record that is kept elsewhere, or for somebody else."""
        try:
            record = Record.unpack(packed) if packed else Record.EMPTY
        except OtherKind:
            return None
        except Malformed as error:
            raise Refusal(STATUS_REFUSED, f"a malformed record: {error}") from error
        for sibling in record.siblings:
            if sibling.request == request:
                return Written(packed, record.context, sibling.dot, batch)
        for dot in (dot_of_request(request), *self.seen.dots(slot, request)):
            if record.context.covers(dot):
                return Written(packed, record.context, dot, batch)
        return None

    def learn(self, slot: bytes, request: bytes, dot: Dot) -> None:
        """This write is known elsewhere, or kept for others, under a dot that what is here covers."""
        if dot not in self.seen.dots(slot, request):
            self.seen.note(self._gathering.seen, slot, request, dot)

    def forget(self, slot: bytes, entries: Context) -> Batch | None:
        """Drop those of these entries of the record's context that are dead and still exactly so, and the
        record itself where nothing is left of it; the batch to wait for. None: no entry is so. A note that
        goes with it, or lacks its count in the context, makes the next mint open a new epoch."""
        cell, _ = self._newest(slot)
        if cell is None:
            return None
        key, note, packed = unpack_cell(cell)
        record = _unpack(packed)
        left = record.forget(entries)
        if left is record:
            return None
        if left.siblings or left.context:
            self._store(slot, key, note, left.pack(), before=record)
        else:
            self._admit(len(key))
            batch = self._gathering
            if slot not in batch.writes:
                batch.before[slot] = packed
            batch.writes[slot] = None
        return self._gathering

    def heal(self, slot: bytes, key: bytes, record: bytes) -> Batch | None:
        """Write a record over one that is corrupt on the disk, or merge it with what is there by now."""
        try:
            self._engine.get(slot)
        except CorruptRecord:
            if not self.waits(slot):
                _unpack(record)
                self._store(slot, key, b"", record, before=None)
                return self._gathering
        return self.merge(slot, key, record)

    # ── the disk ──

    def settled(
        self, start: bytes, end: bytes, *, limit: int
    ) -> tuple[list[tuple[bytes, bytes | None]], bytes | None] | None:
        """A page of packed records (None: corrupt) as the last commit left them that this node was told of,
        which is what the trees know, and where the next page starts. Of a commit that is under way it is not
        known what of it the engine shows already. None: ask again after that commit."""
        cells, onward = self._engine.scan(start, end, limit=limit)
        records = {slot: None if cell is None else record_of(cell) for slot, cell in cells}
        batch, stop = self._committing, end if onward is None else onward
        if batch is not None:
            flying = [slot for slot in batch.writes if start <= slot < stop]
            for slot in flying:
                before = batch.before.get(slot)
                if before is None:
                    return None
                if before:
                    records[slot] = before
                else:
                    records.pop(slot, None)
            if flying:
                return sorted(records.items()), onward
        return list(records.items()), onward

    def take_batch(self, now: float | None = None) -> Batch | None:
        """The next batch to commit, with what writes are in it; None while one is being committed or nothing
        waits."""
        batch = super().take_batch(now)
        if batch is not None:
            self.seen.take(batch.seen, batch.writes, now)
        return batch

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> bool:
        """The same, and the trees follow, before anybody who waited asks them."""
        batch = self._committing
        assert batch is not None
        self.trees.committed(batch.writes, batch.before, now)
        return super().committed(now, out, took_s)

    def commit_failed(self, new_start: bytes, now: float, out: Outbox) -> None:
        """The disk refused a batch, and with it what was built upon that."""
        self._minter.restart(new_start)
        for batch in (self._committing, self._gathering):
            if batch is not None:
                self.seen.failed(batch.seen, batch.writes)
        self._failed(now, out)

    # ── inside ──

    def _sound_of(self, slots: Sequence[bytes], *, bytes_max: int) -> list[bytes | None]:
        """One by one, as `read_many` gives them, with None for the corrupt ones among them."""
        records: list[bytes | None] = []
        for slot in slots:
            try:
                cell = self._engine.get(slot)
            except CorruptRecord:
                records.append(None)
                continue
            records.append(b"" if cell is None else record_of(cell))
            bytes_max -= len(cell or b"")
            if bytes_max <= 0:
                break
        return records

    def _own(self, slot: bytes) -> tuple[Record, Note | None]:
        if self.closed:
            self.check_open(slot)
        cell, _ = self._newest(slot)
        if cell is None:
            return Record.EMPTY, None
        key, note, packed = unpack_cell(cell)
        try:
            record = _unpack(packed)
        except Refusal as refusal:
            if isinstance(refusal.__cause__, OtherKind):
                raise InvalidRequest(f"key {key!r} holds no siblings: {refusal.__cause__}") from None
            raise
        return record, Note.unpack(note) if note else None

    def _take_in(
        self, slot: bytes, key: bytes, note: bytes, *, before: Record, theirs: Record, merged: Record
    ) -> None:
        """Store what the record of another replica comes to here, and remember the writes that are new."""
        self._store(slot, key, note, merged.pack(), before=before)
        seen, covers, entries = self.seen, before.context.covers, self._gathering.seen
        for dot, request, _ in theirs.siblings:
            if not covers(dot):
                seen.note(entries, slot, request, dot)

    def _store(self, slot: bytes, key: bytes, note: bytes, record: bytes, *, before: Record | None) -> None:
        """before: what it replaces; None where that could not be read."""
        self._admit(len(record) + len(key))
        batch = self._gathering
        if before is not None and slot not in batch.writes:  # else it is not what the commit replaces
            batch.before[slot] = b"" if before is Record.EMPTY else before.pack()
        batch.writes[slot] = pack_cell(key, note, record)


def listing_span(prefix: bytes, after: bytes, limit: int) -> Span:
    """What `Replica.scan` reads of the engine."""
    behind = b"\0" if after else b""
    return Span(prefix + after + behind, prefix + _ABOVE, min(limit, PAGE_KEYS_MAX))


def _entry(hash: bytes, cell: bytes | None) -> Entry:
    if cell is None:
        return unreadable(hash)
    key, _, record = unpack_cell(cell)
    return entry(hash, key, record, live=is_live(record))


def _unpack(packed: bytes) -> Record:
    try:
        return Record.unpack(packed)
    except Malformed as error:
        raise Refusal(STATUS_REFUSED, f"a malformed record: {error}") from error


def _merged(mine: Record, theirs: Record, key: bytes) -> Record:
    try:
        return mine.merge(theirs)
    except DotConflict as error:
        raise Refusal(STATUS_REFUSED, f"{error} in the record of key {key!r}") from error
