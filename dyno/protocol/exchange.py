"""Compare copies with their other owners, and bring both up to date: the plain exchange.

Two owners of a (partition, n) compare it in stretches, one after another. The asker sends a digest over what
its disk has in the next one (`Compare`). If the other has just the same, that is all; else the other lists
its slots and digests there, and the asker fetches what differs (`Fetch`), merges it into its own and sends
the merge back where the other lacks something (`Store`). A stretch is done when all of that is on both disks,
and the exchange is *finished* when all its stretches are.

    asker    Compare ─► other    equal: next stretch        not equal: its slots and digests
             Fetch   ─►          keys and records           as much as fits; the rest is asked for again
             Store   ─►          Stored, from its disk

A recovering node (`recovery`) does this at once, several at a time; every node does it all the time, one
every `exchange_interval_s`, least recently compared first. What is moved is bounded by
`exchange_rate_bytes_max`, and clients go first. Nothing of an exchange is remembered but that it was
finished: one that was broken off, by a link, a refusal or a restart, begins anew, which is harmless. So is
every message that comes late or twice: an answer counts once, and only for the exchange that asked.

Corrupt records that are met on the way are healed (`healing`); an exchange that met one is not finished.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from dyno.config import COPIES_MAX
from dyno.placement.hashing import SLOT_BYTES, slot_copies, slot_partition
from dyno.protocol.background import ID_BITS
from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.group_commit import Refusal
from dyno.protocol.healing import Healing
from dyno.protocol.stretch import KEYS_MAX, Stretch, bounds, read_stretch
from dyno.storage.engine import Span
from dyno.wire.entries import DAMAGED, digest_of_stretch, pack_slots, unpack_slots
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    Compare,
    Compared,
    Fetch,
    Fetched,
    Store,
    Stored,
)
from dyno.wire.rows import pack_row, unpack_row

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.generations import Generations
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Pair, Recovery
    from dyno.protocol.replica import Replica

FETCH_SLOTS_MAX: Final = 256  # of one Fetch
FETCH_BYTES_MAX: Final = 256 << 10  # of records in one answer, but for the first
STRETCH_BYTES_MAX: Final = 256 << 10  # of records that an asker reads for one stretch, roughly
LISTED_BYTES_MAX: Final = 8 << 20  # that are read to answer
PARALLEL_MAX: Final = 4  # exchanges of a recovering node
ANSWER_TIMEOUT_S: Final = 10.0
RETRY_AFTER_S: Final = 0.5  # after a refusal, before that node is asked again
BURST_S: Final = 0.05  # of the rate, that may be moved at once
YIELD_S: Final = 0.05  # while clients wait for the disk


class Exchange:
    """number: as of Background. me: this node's name."""

    number = 2

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        planner: Planner,
        replica: Replica,
        peers: Peers,
        recovery: Recovery,
        generations: Generations,
    ) -> None:
        self._me = me
        self._config = config
        self._planner = planner
        self._replica = replica
        self._peers = peers
        self._recovery = recovery
        self._generations = generations
        self._last_id = self.number << ID_BITS
        self._asked: dict[int, _Run] = {}  # who waits for the answer under an id
        self._runs: dict[Pair, _Run] = {}
        self._queue: dict[Pair, float] = {}  # when each was compared last; least recent first
        self._others: tuple[str, ...] = ()  # all nodes in it
        self._paused: dict[str, float] = {}  # nodes that refused, until when they are left alone
        self._next_at = math.inf  # of the slow round
        self._free_at = -math.inf  # what was moved so far is paid for then
        self._healing = Healing(
            me=me, planner=planner, replica=replica, peers=peers, next_id=self._next_id, retry_s=RETRY_AFTER_S
        )

    @property
    def compared_since(self) -> float:
        """When the least recent of the latest finished exchanges of each (partition, n) and other owner
        began; -inf where one was not finished since this start, inf where nothing is shared."""
        return min(self._queue.values(), default=math.inf)

    def compared_at(self, slot: bytes) -> float | None:
        """When the latest finished exchange of a slot's (partition, n) began; None before the first."""
        at = max((at for (head, _), at in self._queue.items() if slot.startswith(head)), default=-math.inf)
        return None if at == -math.inf else at

    # ── what comes in ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {Compare: self._compare, Fetch: self._fetch}

    def answer(self, node: str, message: Compared | Fetched | Stored, now: float, out: Outbox) -> None:
        """Raises ValueError for what cannot be an answer to what was asked."""
        if not isinstance(message, Compared | Fetched | Stored):
            raise ValueError(f"a {type(message).__name__} is no answer in an exchange")
        run = self._asked.get(message.id)
        if run is None:
            if isinstance(message, Fetched):
                self._healing.answer(node, message, now, out)
            return
        if run.peer != node:
            return
        if type(message) is not run.expects(message.id):
            raise ValueError(f"a {type(message).__name__} does not answer what was asked under its id")
        del self._asked[message.id]
        if isinstance(message, Stored):
            self._stored_there(run, message.status, now, out)
        elif message.status != STATUS_OK:
            self._break_off(run, now)
        elif isinstance(message, Compared):
            run.waits_for = 0
            self._compared(run, message, now, out)
        else:
            run.waits_for = 0
            self._fetched(run, message, now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        self._paused.pop(node, None)
        self._healing.link_up(node)
        self._next_at = min(self._next_at, now + self._config.exchange_interval_s)
        self._begin_some(now, out)

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        self._healing.link_down(node)
        for run in [run for run in self._runs.values() if run.peer == node]:
            self._forget(run)
        if not self._may_ask_any():
            self._next_at = math.inf

    def replan(self, now: float, out: Outbox) -> None:
        """The ring is another one, or buckets are."""
        for run in list(self._runs.values()):
            self._forget(run)
        compared = self._queue
        pairs = sorted((compared.get(pair, -math.inf), pair) for pair in self._recovery.pairs())
        self._queue = {pair: at for at, pair in pairs}
        self._others = tuple(dict.fromkeys(node for _, node in self._queue))
        self._plan_next(now)
        self._begin_some(now, out)

    def tick(self, now: float, out: Outbox) -> None:
        self._healing.tick(now, out)
        for run in list(self._runs.values()):
            if (run.waits_for or run.unwritten) and run.until <= now:
                self._break_off(run, now)
            else:
                self._go_on(run, now, out)
        for node in [node for node, until in self._paused.items() if until <= now]:
            del self._paused[node]
        self._begin_some(now, out)

    def deadline(self) -> float:
        earliest = self._healing.deadline()
        if self._runs:
            for run in self._runs.values():
                if run.waits_for or run.unwritten:
                    earliest = min(earliest, run.until)
                if run.rests:
                    earliest = min(earliest, self._free_at)
        elif self._next_at < earliest:
            earliest = self._next_at
        if self._paused:
            earliest = min(earliest, *self._paused.values())
        return earliest

    # ── beginning ──

    def _begin_some(self, now: float, out: Outbox) -> None:
        missing = self._recovery.missing()
        if missing:
            for pair in missing:
                if len(self._runs) >= PARALLEL_MAX:
                    return
                if pair not in self._runs and self._may_begin(pair):
                    self._begin(pair, now, out)
        if self._runs or now < self._next_at:
            return
        self._plan_next(now)
        for pair in self._queue:
            if self._may_begin(pair):
                self._begin(pair, now, out)
                return

    def _plan_next(self, now: float) -> None:
        """Never, until a node can be asked, of those that there is anything to compare with."""
        self._next_at = now + self._config.exchange_interval_s if self._may_ask_any() else math.inf

    def _may_ask_any(self) -> bool:
        return any(map(self._peers.can_ask, self._others))

    def _begin(self, pair: Pair, now: float, out: Outbox) -> None:
        run = self._runs[pair] = _Run(pair, now, losses=self._recovery.losses)
        self._go_on(run, now, out)

    def _may_begin(self, pair: Pair) -> bool:
        head, node = pair
        return self._peers.can_ask(node) and node not in self._paused and head not in self._replica.closed

    # ── one exchange, as its asker ──

    def _go_on(self, run: _Run, now: float, out: Outbox) -> None:
        """Take the next step, unless an answer, a disk or the time is waited for."""
        if run.over or run.waits_for:
            return
        if run.pair[0] in self._replica.closed:
            self._forget(run)
            return
        if not run.wanted and run.unwritten:
            run.rests = False
            return
        run.rests = not self._may_go_on(now)
        if run.rests:
            return
        if run.wanted:
            self._ask(run, partial(self._question, run), now, out)
        elif run.done:
            self._finish(run, now, out)
        else:
            head, after = run.pair[0], run.after
            run.mine = read_stretch(
                self._replica, head, after=after, end=b"", keys_max=KEYS_MAX, bytes_max=STRETCH_BYTES_MAX
            )
            run.flawed |= bool(run.mine.damaged)
            self._ask(run, partial(self._comparison, run), now, out)

    def _may_go_on(self, now: float) -> bool:
        if self._free_at > now:
            return False
        if self._replica.crowded or self._replica.delay_s(now) > self._config.write_delay_max_s / 2:
            self._free_at = now + YIELD_S
            return False
        return True

    def _comparison(self, run: _Run, id: int, ring: int) -> Compare:
        head = run.pair[0]
        mine = run.mine
        run.fetching = []
        digest = digest_of_stretch(mine.entries)
        return Compare(id, ring, slot_partition(head), slot_copies(head), run.after, mine.end, digest)

    def _question(self, run: _Run, id: int, ring: int) -> Fetch:
        run.fetching = [run.wanted.popleft() for _ in range(min(FETCH_SLOTS_MAX, len(run.wanted)))]
        return Fetch(id, ring, b"".join(run.fetching))

    def _ask(
        self, run: _Run, question: Callable[[int, int], Compare | Fetch], now: float, out: Outbox
    ) -> None:
        ring = self._planner.ring
        assert ring is not None
        run.waits_for = self._next_id()
        run.until = now + ANSWER_TIMEOUT_S
        self._asked[run.waits_for] = run
        self._peers.send(run.peer, question(run.waits_for, ring.fingerprint), out)

    def _compared(self, run: _Run, answer: Compared, now: float, out: Outbox) -> None:
        mine, head = run.mine, run.pair[0]
        run.generation = max(run.generation, min(answer.generation, NUMBER_MAX - 1))
        if answer.equal:
            end = mine.end
        else:
            end = answer.end
            if mine.end and not run.after < end <= mine.end:
                raise ValueError("a comparison that ends outside of its stretch")
            if end and not end > run.after:
                raise ValueError("a comparison that goes back")
            theirs = unpack_slots(answer.entries, head=head, after=run.after, end=end)
            self._spend(len(answer.entries), now)
            for slot, digest in theirs.items():
                if digest == DAMAGED:
                    run.flawed = True
                elif mine.entries.get(slot) != digest:
                    run.wanted.append(slot)
            for slot in mine.entries:
                if end and slot > end:
                    break
                if slot not in theirs:
                    self._give(run, slot, b"", now, out)
        run.after, run.done = end, not end
        self._go_on(run, now, out)

    def _fetched(self, run: _Run, answer: Fetched, now: float, out: Outbox) -> None:
        slots = run.fetching
        items = unpack_row(answer.entries, items_max=2 * len(slots))
        if len(items) != 2 * len(slots):
            raise ValueError(f"{len(items)} items for {len(slots)} slots")
        self._spend(len(answer.entries), now)
        for place, slot in enumerate(slots):
            key, record = items[2 * place], items[2 * place + 1]
            if key is None or record is None:
                if place:
                    run.wanted.append(slot)  # too much for one answer, perhaps
                else:
                    run.flawed = True  # alone it is never too much: it is corrupt there
            elif not run.over:
                if record:
                    self._take(run, slot, key, record, now, out)
                self._give(run, slot, record, now, out)
        self._go_on(run, now, out)

    def _take(self, run: _Run, slot: bytes, key: bytes, record: bytes, now: float, out: Outbox) -> None:
        """Merge what the other has into what is here."""
        ring = self._planner.ring
        assert ring is not None
        if len(slot) != SLOT_BYTES or not ring.places(slot, key, self._me):
            raise ValueError(f"{run.peer} has key {key!r} where it does not belong")
        try:
            batch = self._replica.merge(slot, key, record)
        except Refusal as refusal:
            self._refused(run, refusal, now, out)
            return
        if batch is not None and batch is not run.batch:
            run.batch = batch
            run.unwritten += 1
            batch.waiters.append(partial(self._stored_here, run))

    def _give(self, run: _Run, slot: bytes, theirs: bytes, now: float, out: Outbox) -> None:
        """Send the other what is here, where that is more than it has."""
        ring = self._planner.ring
        assert ring is not None
        try:
            copy = self._replica.newest_copy(slot)
        except Refusal as refusal:
            self._refused(run, refusal, now, out)
            return
        if copy is None or copy[1] == theirs or run.over:
            return
        key, record = copy
        run.unwritten += 1
        id = self._next_id()
        self._asked[id] = run
        run.until = now + ANSWER_TIMEOUT_S
        self._spend(len(record), now)
        self._peers.send(run.peer, Store(id, ring.fingerprint, slot, key, record), out)

    def _refused(self, run: _Run, refusal: Refusal, now: float, out: Outbox) -> None:
        """This disk does not take it, or does not give it: now, or ever."""
        if refusal.status == STATUS_REFUSED:
            run.flawed = True
            out.events.append(("error", f"an exchange with {run.peer}: {refusal}"))
        elif refusal.status == STATUS_OVERLOADED:
            self._break_off(run, now)
        else:
            run.flawed = True  # corrupt, or a disk that is full: healing, or the next exchange

    def _stored_here(self, run: _Run, status: int, now: float, out: Outbox) -> None:
        if run.over:
            return
        run.unwritten -= 1
        if status != STATUS_OK:
            self._break_off(run, now)
        else:
            self._go_on(run, now, out)

    def _stored_there(self, run: _Run, status: int, now: float, out: Outbox) -> None:
        run.unwritten -= 1
        if status == STATUS_OK:
            self._go_on(run, now, out)
        elif status in (STATUS_OVERLOADED, STATUS_RING):
            self._break_off(run, now)
        else:  # the others of the stretch are stored all the same
            run.flawed = True
            self._go_on(run, now, out)

    def _finish(self, run: _Run, now: float, out: Outbox) -> None:
        self._forget(run)
        if run.losses == self._recovery.losses:
            self._learn_generation(run)
        else:
            run.flawed = True  # what was compared may be set aside since
        self._queue.pop(run.pair, None)
        if run.flawed:
            self._queue[run.pair] = -math.inf
            self._paused[run.peer] = now + RETRY_AFTER_S
        else:
            self._queue[run.pair] = run.began
            lacking = len(self._recovery.missing())
            self._recovery.finished(run.pair, now)
            if lacking and not self._recovery.missing():
                out.events.append(("info", "what this disk may have lacked is complete again"))
        self._begin_some(now, out)

    def _learn_generation(self, run: _Run) -> None:
        """A node that lost something does not know what was reaped, and would take hints that are older."""
        head = run.pair[0]
        if run.pair in self._recovery.missing() and run.generation > self._generations.of(head):
            try:
                self._generations.rise(head, run.generation)
            except Refusal:
                run.flawed = True

    def _break_off(self, run: _Run, now: float) -> None:
        """It begins anew after a moment."""
        self._forget(run)
        self._paused[run.peer] = now + RETRY_AFTER_S

    def _forget(self, run: _Run) -> None:
        run.over = True
        self._runs.pop(run.pair, None)
        for id in [id for id, asker in self._asked.items() if asker is run]:
            del self._asked[id]

    def _spend(self, size: int, now: float) -> None:
        paid_at = max(self._free_at, now - BURST_S)
        self._free_at = paid_at + size / self._config.exchange_rate_bytes_max

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    # ── what others ask ──

    def _compare(self, link: int, message: Compare, now: float, out: Outbox) -> None:
        head = _head_of(message)
        if not self._owns(message.ring, head):
            out.replies.append((link, Compared(message.id, STATUS_RING, False, b"", b"", 0)))
            return
        if head in self._replica.closed:
            out.replies.append((link, Compared(message.id, STATUS_OVERLOADED, False, b"", b"", 0)))
            return
        here = read_stretch(
            self._replica,
            head,
            after=message.after,
            end=message.end,
            keys_max=KEYS_MAX,
            bytes_max=LISTED_BYTES_MAX,
        )
        equal = (
            here.end == message.end and not here.damaged and digest_of_stretch(here.entries) == message.digest
        )
        entries = b"" if equal else pack_slots(here.entries)
        generation = self._generations.of(head)
        out.replies.append((link, Compared(message.id, STATUS_OK, equal, entries, here.end, generation)))

    def _fetch(self, link: int, message: Fetch, now: float, out: Outbox) -> None:
        slots = slots_fetched(message)
        if not all(self._owns(message.ring, head) for head in dict.fromkeys(s[:HEAD_BYTES] for s in slots)):
            out.replies.append((link, Fetched(message.id, STATUS_RING, b"")))
            return
        if any(slot[:HEAD_BYTES] in self._replica.closed for slot in slots):
            out.replies.append((link, Fetched(message.id, STATUS_OVERLOADED, b"")))
            return
        items: list[bytes | None] = []
        for copy in self._replica.copies_of(slots, bytes_max=FETCH_BYTES_MAX):
            items += (None, None) if copy is None else copy
        out.replies.append((link, Fetched(message.id, STATUS_OK, pack_row(items))))

    def _owns(self, fingerprint: int, slot: bytes) -> bool:
        """Whether this node has a copy of that (partition, n), as whoever asks believes."""
        ring = self._planner.ring
        return (
            ring is not None
            and ring.fingerprint == fingerprint
            and slot_partition(slot) < ring.partitions
            and slot_copies(slot) in self._recovery.copies_in_use()
            and self._me in ring.owners(slot)
        )


def span_compared(message: Compare) -> Span:
    """What is read to answer. Raises ValueError for what no node sends."""
    start, stop = bounds(_head_of(message), after=message.after, end=message.end)
    return Span(start, stop, KEYS_MAX)


def slots_fetched(message: Fetch) -> list[bytes]:
    """Raises ValueError for what no node sends."""
    count, rest = divmod(len(message.slots), SLOT_BYTES)
    if rest or not 1 <= count <= FETCH_SLOTS_MAX:
        raise ValueError(f"slots of {len(message.slots)} bytes in all")
    return [message.slots[at : at + SLOT_BYTES] for at in range(0, len(message.slots), SLOT_BYTES)]


def _head_of(message: Compare) -> bytes:
    if not 1 <= message.copies <= COPIES_MAX or message.partition >> 16:
        raise ValueError(f"a comparison of partition {message.partition}, n={message.copies}")
    head = (message.partition << 8 | message.copies).to_bytes(HEAD_BYTES, "big")
    for bound in (message.after, message.end):
        if bound and (len(bound) != SLOT_BYTES or not bound.startswith(head)):
            raise ValueError("a stretch that is none")
    return head


class _Run:
    """One exchange on its way. began: by this node's clock. after: up to where it is done. mine: what was
    here of the present stretch. wanted, fetching: slots to be fetched, and those asked for now. unwritten:
    commits here and answers from there that are waited for. waits_for: the id of the question that is not
    answered, or 0; until: how long an answer or a disk is waited for. rests: until it may go on. done: the
    last stretch is at hand. flawed: not all could be brought up to date. generation: of the other owner.
    losses: how often this node had found out that it lacks something."""

    __slots__ = (
        "after",
        "batch",
        "began",
        "done",
        "fetching",
        "flawed",
        "generation",
        "losses",
        "mine",
        "over",
        "pair",
        "peer",
        "rests",
        "until",
        "unwritten",
        "waits_for",
        "wanted",
    )

    def __init__(self, pair: Pair, now: float, *, losses: int) -> None:
        self.pair = pair
        self.losses = losses
        self.peer = pair[1]
        self.began = now
        self.after = b""
        self.mine = Stretch({}, b"", False)
        self.wanted: deque[bytes] = deque()
        self.fetching: list[bytes] = []
        self.batch: Batch | None = None
        self.unwritten = 0
        self.waits_for = 0
        self.until = now
        self.rests = False
        self.done = False
        self.flawed = False
        self.generation = 0
        self.over = False

    def expects(self, id: int) -> type[Compared | Fetched | Stored]:
        """The class of the answer to what was asked under an id that is waited for."""
        if id != self.waits_for:
            return Stored
        return Fetched if self.fetching else Compared
