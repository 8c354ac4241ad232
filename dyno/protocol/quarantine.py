"""What an old copy of a disk holds of what was reaped since, set aside so that it does not come back.

A directory that turns out to be an old copy may have values whose tombstones are reaped already: nobody could
tell any more that they were deleted. So it *closes* each (partition, n) of which it has records: nothing of
them is read, merged or sent. It asks the other owners for their *generation*. Where none has a higher one,
nothing was reaped since, and it opens again, records and all. Where one has, or where somebody cannot be
asked in time, all its records there are moved to rows (`rows.ASIDE`); then it opens empty, at the generation
of the others, and fills up as any copy that lost something does.

Whenever its copy is complete again, each row is compared with the present record: what adds no value to it is
dropped. What does, stays: it was written and is known nowhere else, or it was deleted and that is forgotten;
which of the two only people can say. Hints that were refused as too old are among the rows, too.

In: the word that this disk is an old copy, answers, links, time. Out: closed stretches of the replica, rows,
and how many of them there are. What is closed is kept on the disk, so all of it goes on after a restart. The
rows that say so may find no room at once; until they are there a fact (`identity.CLOSING`) stands for all.
"""

from __future__ import annotations

import math
from collections import deque
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.placement.hashing import SLOT_BYTES, slot_copies, slot_partition, slot_range
from dyno.protocol.aside import adds_nothing, row_aside
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.group_commit import Refusal
from dyno.protocol.identity import CLOSING
from dyno.protocol.rows import ASIDE, DEAD, rows_of
from dyno.storage.cell import record_of
from dyno.wire.messages import STATUS_OK, Compare, Compared

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dyno.config import Config
    from dyno.protocol.generations import Generations
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica

NUMBER: Final = 5

VERDICT_S: Final = 10.0  # for the answers of all other owners
ASK_AGAIN_S: Final = 0.5
SETTLE_S: Final = 5.0  # from one look at the rows to the next, while some wait for a complete copy
CYCLE_S: Final = 3600.0  # and else
PAGE_RECORDS: Final = 64
PAGE_PAUSE_S: Final = 0.005
_ASKED_MAX: Final = 64


class _Phase(Enum):
    """ASKED → MOVING → FREE → OPENING, or, where nothing was reaped since, ASKED → FREE → OPENING. After a
    commit that failed it begins anew."""

    ASKED = "the other owners are asked"
    MOVING = "its records are being set aside"
    FREE = "it may be opened"
    OPENING = "that is on its way to the disk"


class _Case:
    """One closed (partition, n). others: owners that were not heard yet. highest: of the generations heard.
    condemned: its records must not come back. after: up to where they are set aside."""

    __slots__ = ("after", "condemned", "highest", "others", "phase")

    def __init__(self, others: Iterable[str] = ()) -> None:
        self.phase = _Phase.ASKED
        self.others = dict.fromkeys(others)
        self.highest = 0
        self.condemned = False
        self.after = b""


class Quarantine(Background):
    """A part of the background. me: this node's name. closing: the fact of that name. is_complete: whether
    the copy of a (partition, n) has all again that was ever acknowledged here. count: rows set aside, as they
    were found last."""

    number: ClassVar[int] = NUMBER

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        planner: Planner,
        peers: Peers,
        replica: Replica,
        generations: Generations,
        closing: bytes,
        is_complete: Callable[[bytes], bool],
    ) -> None:
        self._me = me
        self._cycle_s = min(CYCLE_S, config.reap_after_s / 8)
        self._planner = planner
        self._peers = peers
        self._replica = replica
        self._generations = generations
        self._is_complete = is_complete
        self._last_id = NUMBER << ID_BITS
        self._cases: dict[bytes, _Case] = {}
        self._asked: dict[int, tuple[bytes, str]] = {}
        self._queue: deque[tuple[bytes, str]] = deque()  # whom to ask about what
        self._unkept: dict[bytes, None] = {}  # closed, and not on the disk nor on its way there
        self._keeping = 0  # closed, and on its way there
        self._verdict_at = self._ask_at = self._move_at = self._settle_at = math.inf
        self._settle_from = b""
        self._found = 0
        self._undecided = False
        self.count = 0
        for head in _closed_on_disk(replica):
            self._close(head)
        if closing:
            self._close_all()

    @property
    def closed(self) -> int:
        """How many (partition, n) are closed."""
        return len(self._cases)

    def count_again(self, now: float) -> None:
        """Rows were merged back (`merging`)."""
        self._settle_from, self._found = b"", 0
        self._settle_at = now

    # ── an old copy ──

    def begin(self, now: float, out: Outbox) -> None:
        """This disk is an old copy. Its records are closed from here on; that goes to the disk with the next
        commit."""
        self._close_all()
        if self._unkept:
            self._replica.keep_facts({CLOSING: b"\1"})
        self._keep(now)
        self._open_hearing(now, out)

    def _close_all(self) -> None:
        ring = self._planner.ring
        for head in _heads(self._replica):
            if ring is not None and ring.owners(head) == (self._me,):
                continue  # nobody else could have reaped anything, nor tell what is missing
            if head not in self._cases:
                self._close(head)
            self._unkept[head] = None

    def _close(self, head: bytes) -> None:
        self._cases[head] = _Case()
        self._replica.closed[head] = None

    def _keep(self, now: float) -> None:
        try:
            for head in [*self._unkept]:
                batch = self._replica.write_row(ASIDE + head, b"")
                batch.waiters.append(partial(self._kept, head))
                self._keeping += 1
                del self._unkept[head]
        except Refusal:
            self._move_at = min(self._move_at, now + ASK_AGAIN_S)

    def _kept(self, head: bytes, status: int, now: float, out: Outbox) -> None:
        self._keeping -= 1
        if status != STATUS_OK and head in self._cases:
            self._unkept[head] = None
            self._move_at = min(self._move_at, now + ASK_AGAIN_S)
        elif not self._unkept and not self._keeping:
            self._replica.keep_facts({CLOSING: b""})

    def _open_hearing(self, now: float, out: Outbox) -> None:
        """Ask about everything that is closed."""
        ring = self._planner.ring
        if ring is None:
            return
        self._queue.clear()
        self._asked.clear()
        for head, case in [*self._cases.items()]:
            if case.phase is _Phase.ASKED:
                others = [name for name in ring.owners(head) if name != self._me]
                self._cases[head] = _Case(others)
                self._queue.extend((head, name) for name in others)
                self._judge(head, now)
        self._verdict_at = now + VERDICT_S
        self._ask(now, out)

    # ── a part of the background ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {}

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        self._ask(now, out)

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        for id in [id for id, (_, name) in self._asked.items() if name == node]:
            self._queue.append(self._asked.pop(id))
        self._ask_at = min(self._ask_at, now + ASK_AGAIN_S) if self._queue else self._ask_at

    def replan(self, now: float, out: Outbox) -> None:
        if self._cases:
            self._open_hearing(now, out)
        if self._unkept:
            self._move_at = min(self._move_at, now)
        self._settle_from = b""
        self._settle_at = min(self._settle_at, now + min(SETTLE_S, self._cycle_s))

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        head, name = self._asked.get(message.id, (b"", ""))
        if name != node:
            return
        del self._asked[message.id]
        case = self._cases.get(head)
        if case is not None and case.phase is _Phase.ASKED:
            if isinstance(message, Compared) and message.status == STATUS_OK:
                case.others.pop(node, None)
                case.highest = max(case.highest, min(message.generation, NUMBER_MAX - 1))
                self._judge(head, now)
            else:
                self._queue.append((head, node))
                self._ask_at = min(self._ask_at, now + ASK_AGAIN_S)
                return
        self._ask(now, out)

    def tick(self, now: float, out: Outbox) -> None:
        if self._ask_at <= now:
            self._ask(now, out)
        if self._verdict_at <= now:
            self._verdict_at = math.inf
            for case in self._cases.values():
                if case.phase is _Phase.ASKED:
                    self._condemn(case, now)
        if self._move_at <= now:
            self._move(now)
        if self._settle_at <= now:
            self._settle(now)

    def deadline(self) -> float:
        at = self._settle_at  # the others are seldom anything but infinite; no call, for every turn asks
        at = self._move_at if self._move_at < at else at
        at = self._ask_at if self._ask_at < at else at
        return self._verdict_at if self._verdict_at < at else at

    # ── asking ──

    def _ask(self, now: float, out: Outbox) -> None:
        ring = self._planner.ring
        self._ask_at = math.inf
        later: list[tuple[bytes, str]] = []
        while ring is not None and self._queue and len(self._asked) < _ASKED_MAX:
            head, name = self._queue.popleft()
            case = self._cases.get(head)
            if case is None or case.phase is not _Phase.ASKED:
                continue
            self._last_id += 1
            partition, copies = slot_partition(head), slot_copies(head)
            beyond = head + b"\xff" * (SLOT_BYTES - HEAD_BYTES)  # nothing is behind it: only the generation
            ask = Compare(self._last_id, ring.fingerprint, partition, copies, beyond, b"", b"")
            if self._peers.send(name, ask, out):
                self._asked[ask.id] = head, name
            else:
                later.append((head, name))
        self._queue.extend(later)
        if later:
            self._ask_at = now + ASK_AGAIN_S

    def _judge(self, head: bytes, now: float) -> None:
        case = self._cases[head]
        if case.highest > self._generations.of(head):
            self._condemn(case, now)
        elif not case.others:
            case.phase = _Phase.FREE
            self._move_at = min(self._move_at, now)

    def _condemn(self, case: _Case, now: float) -> None:
        case.condemned = True
        case.phase = _Phase.MOVING
        self._move_at = min(self._move_at, now)

    # ── setting aside, and opening again ──

    def _move(self, now: float) -> None:
        """Open what may be opened, and set a page of records aside."""
        self._move_at = math.inf
        self._keep(now)
        try:
            for head, case in self._cases.items():
                if case.phase is _Phase.MOVING:
                    self._move_at = now + PAGE_PAUSE_S
                    if self._replica.delay_s(now) or self._replica.waiting(head):
                        return  # clients first; and what was on its way when it was closed is moved, too
                    self._set_aside(head, case)
                    return
                if case.phase is _Phase.FREE:
                    self._reopen(head, case)
        except Refusal:
            self._move_at = now + ASK_AGAIN_S

    def _set_aside(self, head: bytes, case: _Case) -> None:
        """A page of records."""
        start, end = slot_range(head)
        records, onward = self._replica.rows(case.after or start, end, limit=PAGE_RECORDS)
        batch = None
        for slot, cell in records:
            if cell is not None:  # a damaged one is healed by the copies of others, as ever
                key, value = row_aside(self._replica, slot, cell)
                batch = self._replica.write_rows({key: value, slot: None, DEAD + slot: None})
        if batch is not None:
            batch.waiters.append(partial(self._moved, head))
        case.after = onward or end
        if onward is None:
            case.phase = _Phase.FREE

    def _reopen(self, head: bytes, case: _Case) -> None:
        """With the commit that has the last of what was set aside, or one after it."""
        if case.condemned:
            self._generations.rise(head, case.highest)
        batch = self._replica.write_row(ASIDE + head, None)
        case.phase = _Phase.OPENING
        batch.waiters.append(partial(self._reopened, head))

    def _moved(self, head: bytes, status: int, now: float, out: Outbox) -> None:
        if status != STATUS_OK:
            self._begin_anew(head, now, out)

    def _reopened(self, head: bytes, status: int, now: float, out: Outbox) -> None:
        if status != STATUS_OK:
            self._begin_anew(head, now, out)
            return
        del self._cases[head]
        del self._replica.closed[head]
        self._unkept.pop(head, None)
        self._settle_at = min(self._settle_at, now + min(SETTLE_S, self._cycle_s))

    def _begin_anew(self, head: bytes, now: float, out: Outbox) -> None:
        """A commit failed: on the disk it is closed, and perhaps not all was set aside."""
        self._cases[head] = _Case()
        self._open_hearing(now, out)

    # ── what became of what is aside ──

    def _settle(self, now: float) -> None:
        """A page of rows."""
        self._settle_at = now + PAGE_PAUSE_S
        start, end = rows_of(ASIDE)
        rows, onward = self._replica.rows(self._settle_from or start, end, limit=PAGE_RECORDS)
        for row, cell in rows:
            slot = row[len(ASIDE) :][:SLOT_BYTES]
            if len(slot) == SLOT_BYTES and not self._is_dropped(row, slot, cell):
                self._found += 1
        self._settle_from = onward or b""
        if onward is None:
            self.count, self._found = self._found, 0
            undecided, self._undecided = self._undecided, False
            self._settle_at = now + (min(SETTLE_S, self._cycle_s) if undecided else self._cycle_s)

    def _is_dropped(self, row: bytes, slot: bytes, cell: bytes | None) -> bool:
        """Whether it adds no value to what is here now, and goes."""
        ring = self._planner.ring
        if cell is None or ring is None or self._me not in ring.owners(slot):
            return False
        if slot[:HEAD_BYTES] in self._cases or not self._is_complete(slot[:HEAD_BYTES]):
            self._undecided = True
            return False
        try:
            present, batch = self._replica.read(slot)
            if batch is None and adds_nothing(record_of(cell), present):
                self._replica.write_row(row, None)
                return True
        except Refusal:
            self._undecided = True
        return False


def _heads(replica: Replica) -> list[bytes]:
    """Every (partition, n) of which there is any record: a seek for each."""
    heads = []
    start = b""
    end = rows_of(ASIDE)[0][:3]
    while rows := replica.rows(start, end, limit=1)[0]:
        head = rows[0][0][:HEAD_BYTES]
        heads.append(head)
        start = (int.from_bytes(head, "big") + 1).to_bytes(HEAD_BYTES, "big")
    waiting = dict.fromkeys(key[:HEAD_BYTES] for key in replica.waiting(b"") if key < end)
    return [*dict.fromkeys((*heads, *waiting))]


def _closed_on_disk(replica: Replica) -> list[bytes]:
    """Rows with nothing but the first bytes of slots, which come before those of their slots."""
    heads = []
    start, end = rows_of(ASIDE)
    while rows := replica.rows(start, end, limit=1)[0]:
        key = rows[0][0]
        head = key[len(ASIDE) :][:HEAD_BYTES]
        if len(key) == len(ASIDE) + HEAD_BYTES:
            heads.append(head)
        start = ASIDE + (int.from_bytes(head, "big") + 1).to_bytes(HEAD_BYTES, "big")
    return heads
