"""This node's own copies: what is on the disk, and what is on its way there.

Writes gather in a *batch*; the runner commits one batch at a time while the next one gathers, so a commit
is shared by everybody who came in the meantime (group commit) without any artificial delay. Only the write
path sees what is not committed yet; a read that meets such a record is answered after its commit, and
every acknowledgement is a *waiter* that runs when the disk has spoken.

A failed commit fails all that was built on it: the batch itself and the one that gathers. Dots that were
minted for it may have left this node already, so minting goes on under a new start id (DESIGN, Identity).
Then the disk rests for a second, in which writes are refused: a disk that is full says so at once, and every
attempt would cost the records of this node a new actor.

In go slots and packed records; out come packed records and the batch, if any, to wait for. Raises
`Refusal` with the wire status when the answer is no; nothing was changed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot
from dyno.causality.mint import Minter, Note
from dyno.causality.record import DotConflict, OtherKind, Record, is_live
from dyno.config import RECORD_BYTES_MAX, SIBLINGS_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import slot_bucket, slot_prefix, slot_range
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ALWAYS_PAGES, PAGE_BYTES, PEERS_ROOM, DiskPace
from dyno.protocol.rows import is_row
from dyno.storage.cell import pack_cell, record_of, unpack_cell
from dyno.storage.engine import CorruptRecord, Engine, Scanned, Span
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_STORAGE,
    ClientAnswer,
    ClientRequest,
    PeerMessage,
)
from dyno.wire.pages import HASH_BYTES, PAGE_KEYS_MAX, Entry, entry, pack_entries, unreadable

if TYPE_CHECKING:
    from dyno.config import Config

Waiter: TypeAlias = Callable[[int, float, Outbox], object]  # (status, now, out); the result is not looked at

_CELL_OVERHEAD_BYTES = 128  # what the engine adds to a cell, roughly, when a batch is weighed
_DURABLE_MAX = 1024  # messages that wait for the facts they are about; who gets none asks again
_ABOVE = b"\xff" * (HASH_BYTES + 1)  # what follows a prefix is below it
_REST_S = 1.0  # after a failed commit, until the disk is tried again


class Refusal(Exception):
    """status: one of the wire's STATUS_ constants; the text is for people. is_news: whether it should be in
    the log, once for every refusal."""

    def __init__(self, status: int, text: str, *, is_news: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.is_news = is_news


class Batch:
    """Cells and small facts that are committed together, and who waits for that. taken_at: when the disk got
    it, None before that or where nobody measures."""

    __slots__ = ("bytes", "meta", "replies", "sends", "taken_at", "waiters", "writes")

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}  # cells by slot, and rows; None deletes
        self.meta: dict[str, bytes] = {}
        self.bytes = 0
        self.waiters: list[Waiter] = []
        self.sends: list[tuple[str, PeerMessage | ClientRequest]] = []
        self.replies: list[tuple[int, ClientAnswer | PeerMessage]] = []
        self.taken_at: float | None = None

    @property
    def pages(self) -> float:
        """How much work it is for the disk: one page for a record, and one for every so many bytes."""
        return len(self.writes) + self.bytes / PAGE_BYTES

    def __bool__(self) -> bool:
        return bool(self.writes or self.meta or self.sends or self.replies)


class Written(NamedTuple):
    """A write of this node's own: the merged record (to be replicated), the dot and where it is waiting, None
    where nothing is stored here (`substitute`)."""

    record: bytes
    before: Context
    dot: Dot | None
    batch: Batch | None


class Replica:
    """The copies of one node. `minter` gives new dots; `config` bounds what may wait for the disk."""

    def __init__(self, *, engine: Engine, minter: Minter, config: Config) -> None:
        self._engine = engine
        self._minter = minter
        self._batch_bytes_max = config.batch_bytes_max
        self._batch_count_max = config.batch_count_max
        self._waiters_max = config.batch_waiters_max
        self._gathers_max = config.batch_count_max  # the same, or less where that many would take too long
        self._commit_max_s = config.write_delay_max_s * PEERS_ROOM
        self._pace = DiskPace(config.write_delay_max_s)
        self._gathering = Batch()
        self._committing: Batch | None = None
        self._rests_until: float | None = None
        self._holds_data = not engine.empty()

    @property
    def holds_data(self) -> bool:
        """True once any record is stored or on its way to the disk."""
        committing = self._committing
        return (
            self._holds_data
            or bool(self._gathering.writes)
            or (committing is not None and bool(committing.writes))
        )

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

    @property
    def facts_wait(self) -> bool:
        """True while facts of `keep` are not on the disk yet."""
        committing = self._committing
        return bool(self._gathering.meta) or (committing is not None and bool(committing.meta))

    @property
    def crowded(self) -> bool:
        """Whether as many wait for a commit as may."""
        committing, most = self._committing, self._waiters_max
        return len(self._gathering.waiters) >= most or (
            committing is not None and len(committing.waiters) >= most
        )

    # ── reading ──

    def read(self, slot: bytes) -> tuple[bytes, Batch | None]:
        """The packed record (b"" for none) and the batch to wait for before anyone may be told of it."""
        for batch in (self._gathering, self._committing):
            if batch is not None and slot in batch.writes:
                cell = batch.writes[slot]
                return b"" if cell is None else record_of(cell), batch
        cell = self._committed(slot)
        return (b"", None) if cell is None else (record_of(cell), None)

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
        span = listing_span(prefix, after, limit)
        items, onward = self._engine.scan(span.start, span.end, limit=span.limit)
        end = b"" if onward is None else items[-1][0][-HASH_BYTES:]
        return pack_entries([_entry(slot[-HASH_BYTES:], cell) for slot, cell in items]), end

    # ── writing ──

    def merge(self, slot: bytes, key: bytes, incoming: bytes) -> Batch | None:
        """Merge a record that another node sent. None: it was all here and on the disk already."""
        cell, batch = self._newest(slot)
        if cell is None:
            _unpack(incoming)  # strict: what passes is canonical already
            self._store(slot, key, b"", incoming)
            return self._gathering
        own_key, note, own = unpack_cell(cell)
        if own_key != key:
            raise Refusal(STATUS_REFUSED, f"the slot of key {own_key!r} was given for key {key!r}")
        if own == incoming:
            return batch
        packed = _merged(_unpack(own), _unpack(incoming), key).pack()
        if packed == own:
            return batch
        self._store(slot, key, note, packed)
        return self._gathering

    def put(self, slot: bytes, key: bytes, *, context: Context, request: bytes, value: bytes) -> Written:
        """Mint a dot for a client's value and write it over what `context` covers.

        Raises InvalidRequest where that would leave too many siblings or too large a record, and where the
        record is of another kind.
        """
        record, note = self._own(slot)
        packed, dot, new_note = self.compose(record, note, context=context, request=request, value=value)
        self._store(slot, key, new_note.pack(), packed)
        return Written(packed, record.context, dot, self._gathering)

    def compose(
        self, record: Record, note: Note | None, *, context: Context, request: bytes, value: bytes
    ) -> tuple[bytes, Dot, Note]:
        """What a put makes of a record, its dot and the note to keep of that; nothing is stored. Raises as
        `put` does."""
        # The caller may know more of this key than we do, dots of our own start among it if we lost some.
        dot, new_note = self._minter.mint(record.context.union(context), note)
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
        return packed, dot, new_note

    def delete(self, slot: bytes, key: bytes, *, context: Context, read: bytes) -> Written:
        """Drop what `context` covers, having merged the record that the coordinator read (b"": none). Raises
        InvalidRequest where the record is of another kind."""
        record, note = self._own(slot)
        merged = _merged(record, _unpack(read), key) if read else record
        deleted = merged.delete(context)
        packed = deleted.pack()
        self._store(slot, key, note.pack() if note else b"", packed)
        return Written(packed, record.context, None, self._gathering)

    def keep(self, out: Outbox) -> None:
        """Take small durable facts, and what may leave only after them, into the gathering batch."""
        batch = self._gathering
        batch.meta.update(out.meta)
        out.meta.clear()
        batch.sends += out.durable_sends[: max(0, _DURABLE_MAX - len(batch.sends))]
        out.durable_sends.clear()
        batch.replies += out.durable_replies[: max(0, _DURABLE_MAX - len(batch.replies))]
        out.durable_replies.clear()

    # ── rows beside the records ──

    def row(self, key: bytes) -> bytes | None:
        """The newest, be it on the disk or on its way there. Raises Refusal where it is corrupt."""
        return self._newest(key)[0]

    def rows(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        """A page of what is on the disk, as `Engine.scan` gives it."""
        return self._engine.scan(start, end, limit=limit)

    def write_row(self, key: bytes, value: bytes | None) -> Batch:
        """Write a row (`rows`), or delete it, with the next commit: the batch to wait for. A commit that
        fails takes it along, as it does records. Raises Refusal."""
        return self.write_rows({key: value})

    def write_rows(self, rows: Mapping[bytes, bytes | None]) -> Batch:
        """The same for several rows, which are written together or not at all."""
        self._admit(sum(len(key) + len(value or b"") for key, value in rows.items()))
        self._gathering.writes.update(rows)
        return self._gathering

    def newest(self, key: bytes) -> tuple[bytes | None, Batch | None]:
        """A row as `row` gives it, and the batch to wait for before anyone may be told of it."""
        return self._newest(key)

    def later(self, one: Batch | None, other: Batch | None) -> Batch | None:
        """Which of two batches is committed last; None for what is on the disk."""
        if one is self._gathering or other is None:
            return one
        return other if other is self._gathering or one is None else one

    def gathers_rows(self, prefix: bytes) -> bool:
        """Whether any row that begins so is on its way to the disk."""
        return any(
            value is not None and key.startswith(prefix)
            for batch in (self._gathering, self._committing)
            if batch is not None
            for key, value in batch.writes.items()
        )

    # ── the disk ──

    @property
    def commit_number(self) -> int:
        """That of the last commit."""
        return self._engine.commit_number

    def delay_s(self, now: float) -> float:
        """How long it will probably take until what is written now is on the disk; 0.0 where that need not
        be asked, for little gathers."""
        gathering = self._gathering
        pages = len(gathering.writes) + gathering.bytes / PAGE_BYTES  # as `pages`, for every write asks
        if pages < ALWAYS_PAGES:
            return 0.0
        committing = self._committing
        if committing is None or committing.taken_at is None:
            return self._pace.delay_s(pages)
        return self._pace.delay_s(pages, ahead=committing.pages, elapsed_s=now - committing.taken_at)

    def take_batch(self, now: float | None = None) -> Batch | None:
        """The next batch to commit; None while one is being committed or nothing waits."""
        batch = self._gathering
        if self._committing is not None or not batch or self._rests_until is not None:
            return None
        batch.taken_at = now
        self._committing, self._gathering = batch, Batch()
        return batch

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> None:
        """took_s: how long the disk was at it, None where nobody measures."""
        batch = self._committing
        assert batch is not None
        self._committing = None
        if took_s is not None:
            self._pace.committed(batch.pages, took_s)
            at_once = max(self._pace.pages_in(self._commit_max_s), ALWAYS_PAGES)
            self._gathers_max = int(min(at_once, self._batch_count_max))
        self._holds_data = self._holds_data or bool(batch.writes)
        out.sends += batch.sends
        out.replies += batch.replies
        for waiter in batch.waiters:
            waiter(STATUS_OK, now, out)

    def commit_failed(self, new_start: bytes, now: float, out: Outbox) -> None:
        """The disk refused a batch. Facts about the cluster are tried again with the next one; records are
        not, for those who wait for them are told so."""
        failed, queued = self._committing, self._gathering
        assert failed is not None
        self._committing, self._gathering = None, Batch()
        self._minter.restart(new_start)
        self._rests_until = now + _REST_S
        for batch in (failed, queued):
            self._gathering.meta.update(batch.meta)
            self._gathering.sends += batch.sends
            self._gathering.replies += batch.replies
        del self._gathering.sends[_DURABLE_MAX:], self._gathering.replies[_DURABLE_MAX:]
        for batch in (failed, queued):
            for waiter in batch.waiters:
                waiter(STATUS_STORAGE, now, out)

    def tick(self, now: float) -> None:
        if self._rests_until is not None and self._rests_until <= now:
            self._rests_until = None

    def deadline(self) -> float | None:
        return self._rests_until

    # ── inside ──

    def _newest(self, slot: bytes) -> tuple[bytes | None, Batch | None]:
        for batch in (self._gathering, self._committing):
            if batch is not None and slot in batch.writes:
                return batch.writes[slot], batch
        return self._committed(slot), None

    def _committed(self, slot: bytes) -> bytes | None:
        try:
            return self._engine.get(slot)
        except CorruptRecord as error:
            raise Refusal(STATUS_STORAGE, str(error)) from error

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

    def _store(self, slot: bytes, key: bytes, note: bytes, record: bytes) -> None:
        self._admit(len(record) + len(key))
        self._gathering.writes[slot] = pack_cell(key, note, record)

    def _admit(self, size: int) -> None:
        """Make room for so many bytes in the gathering batch. Raises Refusal."""
        if self._rests_until is not None:
            raise Refusal(STATUS_STORAGE, "the disk refused the last writes", is_news=False)
        batch = self._gathering
        size += _CELL_OVERHEAD_BYTES
        if batch.bytes + size > self._batch_bytes_max or len(batch.writes) >= self._gathers_max:
            raise Refusal(STATUS_OVERLOADED, "too many writes wait for the disk", is_news=False)
        batch.bytes += size


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
