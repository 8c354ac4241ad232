"""What gathers for the disk of one node, and what is on its way there (group commit).

Writes gather in a *batch*; the runner commits one batch at a time while the next one gathers, so a commit
is shared by everybody who came in the meantime without any artificial delay. Only who writes sees what is not
committed yet; whoever reads it is answered after its commit, and every acknowledgement is a *waiter* that
runs when the disk has spoken.

A failed commit fails all that was built on it: the batch itself and the one that gathers. Then the disk
rests for a second, in which writes are refused, and until it has taken a batch without records: a disk may
stay full for days, and every attempt with records would cost these a new actor.

In go cells and rows by their keys, small facts by name, and who waits; out come the batches to commit, and
after each the word to all that waited. Raises `Refusal` with the wire status when the answer is no; nothing
was changed then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from dyno.protocol.identity import CLOSING, COMMITS, RECOVERING, ROUNDS
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ALWAYS_PAGES, PAGE_BYTES, PEERS_ROOM, DiskPace
from dyno.protocol.rows import rows_of
from dyno.storage.engine import CorruptRecord, Engine, Scanned
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_STORAGE,
    ClientAnswer,
    ClientRequest,
    PeerMessage,
    Stored,
)

if TYPE_CHECKING:
    from dyno.config import Config

Waiter: TypeAlias = Callable[[int, float, Outbox], object]  # (status, now, out); the result is not looked at

_CELL_OVERHEAD_BYTES = 128  # what the engine adds to a cell, roughly, when a batch is weighed
_DURABLE_MAX = 1024  # messages that wait for the facts they are about; who gets none asks again
_DAMAGED_MAX = 1000  # met again, they are noted again
_NOTES = (CLOSING, COMMITS, RECOVERING, ROUNDS)  # facts that nobody waits for
_REST_S = 1.0  # after a failed commit, until the disk is tried again

_new = tuple.__new__  # half the price of calling the class of a named tuple


class Refusal(Exception):
    """status: one of the wire's STATUS_ constants; the text is for people. is_news: whether it should be in
    the log, once for every refusal."""

    def __init__(self, status: int, text: str, *, is_news: bool = True) -> None:
        super().__init__(text)
        self.status = status
        self.is_news = is_news


class Batch:
    """Cells and small facts that are committed together, and who waits for that. before: the packed records
    that are replaced, b"" for none, as far as they were read. copies: of writes that other
    nodes coordinate, each as the inbound link and the id of the message that brought it, which is answered
    after the commit. seen: packed, which writes are in it. taken_at: when the disk got it, None before that
    or where nobody measures. own: whether a write of this node's own is in it, of which no answer tells other
    nodes."""

    __slots__ = (
        "before",
        "bytes",
        "copies",
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
        self.copies: list[tuple[int, int]] = []
        self.sends: list[tuple[str, PeerMessage | ClientRequest]] = []
        self.replies: list[tuple[int, ClientAnswer | PeerMessage]] = []
        self.taken_at: float | None = None

    @property
    def waiting(self) -> int:
        """How many are to be told of the commit."""
        return len(self.waiters) + len(self.copies)

    @property
    def pages(self) -> float:
        """How much work it is for the disk: one page for a record, and one for every so many bytes."""
        return len(self.writes) + self.bytes / PAGE_BYTES

    def __bool__(self) -> bool:
        return bool(self.writes or self.meta or self.sends or self.replies)


class GroupCommit:
    """config: bounds what may wait for the disk."""

    def __init__(self, *, engine: Engine, config: Config) -> None:
        self._engine = engine
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
        self.damaged: dict[bytes, bool] = {}  # keys of which a corrupt value was met

    # ── what waits ──

    @property
    def holds_data(self) -> bool:
        """True once any record is stored or on its way to the disk."""
        committing = self._committing
        return (
            self._holds_data
            or bool(self._gathering.writes)
            or (committing is not None and bool(committing.writes))
        )

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
        return self._gathering.waiting >= most or (committing is not None and committing.waiting >= most)

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

    # ── facts ──

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

    def note_damage(self, slot: bytes) -> None:
        """A record is corrupt on the disk; whoever heals it takes it out of `damaged`. One over which
        something is about to be written is as good as healed."""
        if len(self.damaged) < _DAMAGED_MAX and not self.waits(slot):
            self.damaged[slot] = True

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
        self._committing, self._gathering = batch, Batch()
        return batch

    def committed(self, now: float, out: Outbox, took_s: float | None = None) -> bool:
        """What is in the batch is on the disk now, and everybody may know. took_s: how long the disk was at
        it, None where nobody measures. Gives whether a write of this node's own is in it."""
        batch = self._committing
        assert batch is not None
        self._committing = None
        self._probes = False
        if took_s is not None:
            self._pace.committed(batch.pages, took_s)
            at_once = max(self._pace.pages_in(self._commit_max_s), ALWAYS_PAGES)
            self._gathers_max = int(min(at_once, self._batch_count_max))
        self._holds_data = self._holds_data or bool(batch.writes)
        out.sends += batch.sends
        out.replies += batch.replies
        number = self._engine.commit_number
        out.replies += [(link, _new(Stored, (id, STATUS_OK, number))) for link, id in batch.copies]
        for waiter in batch.waiters:
            waiter(STATUS_OK, now, out)
        return batch.own

    def _failed(self, now: float, out: Outbox) -> None:
        """The disk refused a batch. Facts about the cluster are tried again with the next one; records are
        not, for those who wait for them are told so."""
        failed, queued = self._committing, self._gathering
        assert failed is not None
        self._committing, self._gathering = None, Batch()
        self._rests_until = now + _REST_S
        for batch in (failed, queued):
            self._gathering.meta.update(batch.meta)
            self._gathering.sends += batch.sends
            self._gathering.replies += batch.replies
        del self._gathering.sends[_DURABLE_MAX:], self._gathering.replies[_DURABLE_MAX:]
        for batch in (failed, queued):
            out.replies += [(link, Stored(id, STATUS_STORAGE)) for link, id in batch.copies]
            for waiter in batch.waiters:
                waiter(STATUS_STORAGE, now, out)

    def tick(self, now: float) -> None:
        if self._rests_until is not None and self._rests_until <= now:
            self._rests_until = None
            self._probes = True

    def deadline(self) -> float | None:
        return self._rests_until

    # ── inside ──

    def _newest(self, key: bytes) -> tuple[bytes | None, Batch | None]:
        """A cell or row, and the batch that it waits in. Raises Refusal where it is corrupt."""
        gathering, committing = self._gathering, self._committing
        if key in gathering.writes:
            return gathering.writes[key], gathering
        if committing is not None and key in committing.writes:
            return committing.writes[key], committing
        try:
            return self._engine.get(key), None
        except CorruptRecord as error:
            self.note_damage(key)
            raise Refusal(STATUS_STORAGE, str(error)) from error

    def _admit(self, size: int) -> None:
        """Make room for so many bytes in the gathering batch. Raises Refusal."""
        if self._rests_until is not None or self._probes:
            raise Refusal(STATUS_STORAGE, "the disk refused the last writes", is_news=False)
        batch = self._gathering
        size += _CELL_OVERHEAD_BYTES
        if batch.bytes + size > self._batch_bytes_max or len(batch.writes) >= self._gathers_max:
            raise Refusal(STATUS_OVERLOADED, "too many writes wait for the disk", is_news=False)
        batch.bytes += size
