"""This node's own copies: what is on the disk, and what is on its way there.

Writes gather in a *batch*; the runner commits one batch at a time while the next one gathers, so a commit
is shared by everybody who came in the meantime (group commit) without any artificial delay. Only the write
path sees what is not committed yet; a read that meets such a record is answered after its commit, and
every acknowledgement is a *waiter* that runs when the disk has spoken.

A failed commit fails all that was built on it: the batch itself and the one that gathers. Dots that were
minted for it may have left this node already, so minting goes on under a new start id (DESIGN, Identity).
Then the disk rests for a second, in which writes are refused, and until it has taken a batch without records:
a disk may stay full for days, and every attempt with records would cost these a new actor.

In go slots and packed records; out come packed records and the batch, if any, to wait for. Raises
`Refusal` with the wire status when the answer is no; nothing was changed then.

Every write that is stored here is known by its request for a while (`requests_seen`). So a value that was
written again is dropped where its first dot was overwritten: a retry of a write does not bring back what
somebody has read and replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot, dot_of_request
from dyno.causality.mint import Minter, Note
from dyno.causality.record import DotConflict, OtherKind, Record, is_live
from dyno.config import RECORD_BYTES_MAX, SIBLINGS_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import slot_bucket, slot_prefix, slot_range
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.identity import CLOSING, COMMITS, RECOVERING, ROUNDS
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ALWAYS_PAGES, PAGE_BYTES, PEERS_ROOM, DiskPace
from dyno.protocol.requests_seen import RequestsSeen
from dyno.protocol.rows import is_row, rows_of
from dyno.protocol.trees import Trees
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
_DAMAGED_MAX = 1000  # met again, they are noted again
_NOTES = (CLOSING, COMMITS, RECOVERING, ROUNDS)  # facts that nobody waits for
NO_DOT = Dot(b"", 0)
_REST_S = 1.0  # after a failed commit, until the disk is tried again


class Refusal(Exception):
    """status: one of the wire's STATUS_ constants; the text is for people. is_news: whether it should be in
    the log, once for every refusal."""

    def __init__(self, status: int, text: str, *, is_news: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.is_news = is_news


class Batch:
    """Cells and small facts that are committed together, and who waits for that. before: the packed records
    that are replaced, b"" for none, as far as they were read. seen: packed, which writes are among
    them. taken_at: when the disk got it, None before that or where nobody measures. own: whether a write of
    this node's own is in it, of which no answer tells other nodes."""

    __slots__ = (
        "before",
        "bytes",
        "meta",
        "own",
        "replies",
        "seen",
        "sends",
        "taken_at",
        "waiters",
        "writes",
    )

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}  # cells by slot, and rows; None deletes
        self.before: dict[bytes, bytes] = {}
        self.meta: dict[str, bytes] = {}
        self.bytes = 0
        self.seen: list[bytes] = []
        self.own = False
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
    """A write: the merged record (to be replicated), the context that was there before, the dot (a delete has
    none) and where it is waiting; None: it is on the disk, or nothing is stored here (`substitute`)."""

    record: bytes
    before: Context
    dot: Dot
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
        self._probes = False  # whether the disk has to take the next batch before anybody writes
        self._holds_data = not engine.empty()
        # What nobody may read or write now, by (partition, n) as slots begin (`quarantine`).
        self.closed: dict[bytes, None] = {}
        self.damaged: dict[bytes, bool] = {}  # slots of which a corrupt record was met
        self.trees = Trees(empty=not self._holds_data)
        self.seen = RequestsSeen(engine, window_s=config.retry_window_s, count_max=config.requests_seen_max)

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
        """True while facts about this node or its cluster are not on the disk yet."""
        batches = (self._gathering, self._committing)
        return any(name not in _NOTES for batch in batches if batch is not None for name in batch.meta)

    @property
    def rests(self) -> bool:
        """Whether the disk is given a moment after a failed commit, or tried without records."""
        return self._rests_until is not None or self._probes

    @property
    def crowded(self) -> bool:
        """Whether as many wait for a commit as may."""
        committing, most = self._committing, self._waiters_max
        return len(self._gathering.waiters) >= most or (
            committing is not None and len(committing.waiters) >= most
        )

    @property
    def gathers_records(self) -> bool:
        """Whether the next commit has records or rows to write."""
        return bool(self._gathering.writes)

    def waits(self, key: bytes) -> bool:
        """Whether something under exactly this key, a slot or a row, is on its way to the disk."""
        committing = self._committing
        return key in self._gathering.writes or (committing is not None and key in committing.writes)

    def holds(self, prefix: bytes) -> bool:
        """Whether anything is kept, or on its way to the disk, under keys (slots or rows) that begin so; what
        is on its way out is still there. The last byte of a prefix is below 0xff."""
        return bool(self._engine.scan(*rows_of(prefix), limit=1)[0] or self.waiting(prefix))

    def waiting(self, prefix: bytes) -> list[bytes]:
        """Keys that begin so whose values are on their way to the disk."""
        return [
            key
            for batch in (self._gathering, self._committing)
            if batch is not None
            for key, value in batch.writes.items()
            if value is not None and key.startswith(prefix)
        ]

    # ── reading ──

    def read(self, slot: bytes) -> tuple[bytes, Batch | None]:
        """The packed record (b"" for none) and the batch to wait for before anyone may be told of it."""
        if self.closed and slot[:HEAD_BYTES] in self.closed:
            return b"", None
        for batch in (self._gathering, self._committing):
            if batch is not None and slot in batch.writes:
                cell = batch.writes[slot]
                return b"" if cell is None else record_of(cell), batch
        cell = self._committed(slot)
        return (b"", None) if cell is None else (record_of(cell), None)

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

    def note_damage(self, slot: bytes) -> None:
        """A record is corrupt; whoever heals it takes it out of `damaged`."""
        if len(self.damaged) < _DAMAGED_MAX:
            self.damaged[slot] = True

    # ── writing ──

    def merge(self, slot: bytes, key: bytes, incoming: bytes) -> Batch | None:
        """Merge a record that another node sent. None: it was all here and on the disk already."""
        self.check_open(slot)
        cell, batch = self._newest(slot)
        if cell is None:
            theirs = _unpack(incoming)  # strict: what passes is canonical already
            merged = self._without_replaced(slot, theirs)
            self._take_in(slot, key, b"", before=Record.EMPTY, theirs=theirs, merged=merged)
            return self._gathering
        own_key, note, own = unpack_cell(cell)
        if own_key != key:
            raise Refusal(STATUS_REFUSED, f"the slot of key {own_key!r} was given for key {key!r}")
        if own == incoming:
            return batch
        before, theirs = _unpack(own), _unpack(incoming)
        merged = self._without_replaced(slot, _merged(before, theirs, key), before, theirs)
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
        context = self._with_doubles(slot, record, context)
        packed, dot, note = self.compose(
            record, note, context=context, request=request, value=value, again=again
        )
        self._store(slot, key, note.pack() if note else b"", packed, before=record)
        self.seen.note(self._gathering.seen, slot, request, dot)
        self._gathering.own = True
        return Written(packed, record.context, dot, self._gathering)

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
        packed = record.delete(self._with_doubles(slot, record, context)).pack()
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
            if slot not in self._gathering.writes:
                self._gathering.before[slot] = packed
            self._gathering.writes[slot] = None
        return self._gathering

    def heal(self, slot: bytes, key: bytes, record: bytes) -> Batch | None:
        """Write a record over one that is corrupt on the disk, or merge it with what is there by now."""
        try:
            self._engine.get(slot)
        except CorruptRecord:
            if slot not in self._gathering.writes and (
                self._committing is None or slot not in self._committing.writes
            ):
                _unpack(record)
                self._store(slot, key, b"", record, before=None)
                return self._gathering
        return self.merge(slot, key, record)

    def keep_facts(self, facts: Mapping[str, bytes]) -> None:
        """The same as `keep`, for facts that nothing waits for."""
        self._gathering.meta.update(facts)

    def keep(self, out: Outbox) -> Batch:
        """Take small durable facts, and what may leave only after them, into the gathering batch: the batch
        to wait for. If its commit fails, they are tried again with the next one."""
        batch = self._gathering
        batch.meta.update(out.meta)
        out.meta.clear()
        batch.sends += out.durable_sends[: max(0, _DURABLE_MAX - len(batch.sends))]
        out.durable_sends.clear()
        batch.replies += out.durable_replies[: max(0, _DURABLE_MAX - len(batch.replies))]
        out.durable_replies.clear()
        return batch

    # ── rows beside the records ──

    def row(self, key: bytes) -> bytes | None:
        """The newest, be it on the disk or on its way there. Raises Refusal where it is corrupt."""
        return self._newest(key)[0]

    def rows(self, start: bytes, end: bytes, *, limit: int) -> Scanned:
        """A page of what is on the disk, as `Engine.scan` gives it."""
        return self._engine.scan(start, end, limit=limit)

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
        if self._committing is not None or self._rests_until is not None or not (batch or self._probes):
            return None
        batch.taken_at = now
        self.seen.take(batch.seen, batch.writes, now)
        self._committing, self._gathering = batch, Batch()
        return batch

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> bool:
        """took_s: how long the disk was at it, None where nobody measures. Gives whether a write of
        this node's own is on the disk now."""
        batch = self._committing
        assert batch is not None
        self._committing = None
        self._probes = False
        if took_s is not None:
            self._pace.committed(batch.pages, took_s)
            at_once = max(self._pace.pages_in(self._commit_max_s), ALWAYS_PAGES)
            self._gathers_max = int(min(at_once, self._batch_count_max))
        self._holds_data = self._holds_data or bool(batch.writes)
        self.trees.committed(batch.writes, batch.before, now)
        out.sends += batch.sends
        out.replies += batch.replies
        for waiter in batch.waiters:
            waiter(STATUS_OK, now, out)
        return batch.own

    def commit_failed(self, new_start: bytes, now: float, out: Outbox) -> None:
        """The disk refused a batch. Facts about the cluster are tried again with the next one; records are
        not, for those who wait for them are told so."""
        failed, queued = self._committing, self._gathering
        assert failed is not None
        self._committing, self._gathering = None, Batch()
        self._minter.restart(new_start)
        self._rests_until = now + _REST_S
        for batch in (failed, queued):
            self.seen.failed(batch.seen, batch.writes)
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
            self._probes = True

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
            self.note_damage(slot)
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

    def _with_doubles(self, slot: bytes, record: Record, context: Context) -> Context:
        """What a caller had read, with the live writes that he knows as they were done first: he replaces or
        deletes them as they were done again, too."""
        for dot, request, _ in record.siblings:
            if dot[0] == request and any(context.covers(first) for first in self.seen.dots(slot, request)):
                context = context.add(dot)
        return context

    def _without_replaced(self, slot: bytes, merged: Record, *parts: Record) -> Record:
        """Without what was written again and had been read and replaced as it was written first. parts: of
        which it was merged."""
        for dot, request, _ in merged.siblings:
            if dot[0] == request and self._was_replaced(slot, request, merged, parts):
                merged = merged.delete(Context.EMPTY.add(dot))
        return merged

    def _was_replaced(self, slot: bytes, request: bytes, merged: Record, parts: Sequence[Record]) -> bool:
        """Whether the ordinary dot of a write, which is known here or from one of the parts, is covered and
        not live while that of its request is: whoever covered it had read it, and did not know the other."""
        live = [sibling.dot for sibling in merged.siblings]
        known = [
            *self.seen.dots(slot, request),
            *(sibling.dot for part in parts for sibling in part.siblings if sibling.request == request),
        ]
        return any(merged.context.covers(dot) and dot not in live for dot in known)

    def _store(self, slot: bytes, key: bytes, note: bytes, record: bytes, *, before: Record | None) -> None:
        """before: what it replaces; None where that could not be read."""
        self._admit(len(record) + len(key))
        batch = self._gathering
        if before is not None and slot not in batch.writes:  # else it is not what the commit replaces
            batch.before[slot] = b"" if before is Record.EMPTY else before.pack()
        batch.writes[slot] = pack_cell(key, note, record)

    def _admit(self, size: int) -> None:
        """Make room for so many bytes in the gathering batch. Raises Refusal."""
        if self.rests:
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
