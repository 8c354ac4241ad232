"""Compare copies with their other owners, and bring both up to date: anti-entropy.

An exchange is with one other node, about all that both own: a walk down their Merkle trees (`walks`) finds
out where they differ, for a few hundred bytes where they do not. What the other has and this node has not is
fetched (`Fetch`), merged into its own and the merge sent back where the other lacks something (`Store`). The
exchange is *finished* when all of that is on both disks. A (partition, n) of which something could not be
brought up to date (corrupt, refused, written just now) is left out of that.

    asker    CompareRoots ─►   equal: finished     not equal: sums, further and further down
             Fetch        ─►   keys and records    as much as fits; the rest is asked for again
             Store        ─►   Stored, from its disk

Every node does this all the time, with another one each `exchange_interval_s`, least recently compared first;
with one that is back, at once. A recovering node (`recovery`) does not wait for its turn either, and where
there are no trees yet it goes through one (partition, n) after another, several at a time. What is sent and
received is bounded by `exchange_rate_bytes_max`, and clients go first. Nothing of an exchange is remembered
but that it was finished: one that was broken off, by a link, a refusal or a restart, begins anew, which is
harmless. So is every message that comes late or twice: an answer counts once, and only for the exchange that
asked.

Corrupt records that are met on the way are healed (`healing`). What others ask is answered in `comparisons`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, TypeAlias

from dyno.placement.hashing import SLOT_BYTES
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.candidates import NUMBER_MAX
from dyno.protocol.compared_times import ComparedTimes
from dyno.protocol.comparisons import FETCH_SLOTS_MAX, Comparisons
from dyno.protocol.exchange_run import Run, size_of
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.group_commit import Refusal
from dyno.protocol.healing import Healing
from dyno.protocol.shared import Shared
from dyno.protocol.urgency import Urgency
from dyno.protocol.walks import ANSWERS, Answer, StretchWalk, TreeWalk
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_WEAK,
    Branches,
    Compared,
    Fetch,
    Fetched,
    LeavesCompared,
    RootsCompared,
    Store,
    Stored,
)
from dyno.wire.rows import unpack_row

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.generations import Generations
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Pair, Recovery
    from dyno.protocol.replica import Replica
    from dyno.protocol.walks import Question

PARALLEL_MAX: Final = 4  # exchanges of a recovering node
ANSWER_TIMEOUT_S: Final = 10.0
RETRY_AFTER_S: Final = 0.5  # after a refusal, before that node is asked again
TREELESS_S: Final = 1.0  # likewise, for its trees, where it has none yet
RETURNED_SHARE: Final = 0.1  # of the interval, until a node that is back is asked: its other links come up
BURST_S: Final = 0.05  # of the rate, that may be moved at once
YIELD_S: Final = 0.05  # while clients wait for the disk
UNWRITTEN_MAX: Final = 64  # commits and answers that are waited for while more is looked for
GIVE_BYTES_MAX: Final = 256 << 10  # of records that are given at one go, but for the last

_Answered: TypeAlias = Answer | Fetched | Stored


class Exchange(Background):
    """number: as of Background. me: this node's name."""

    number: ClassVar[int] = 2

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
        self._asked: dict[int, Run] = {}  # who waits for the answer under an id
        self._runs: dict[Pair, Run] = {}
        self._times = ComparedTimes()
        self._patience: dict[str, dict[bytes, int]] = {}  # see TreeWalk
        self._turns: dict[str, float] = {}  # when each node was asked last; least recent first
        self._returned: dict[str, bool] = {}  # nodes that are back, and are not asked yet
        self._treeless: dict[str, float] = {}  # nodes without trees, until when they are not asked for them
        self._paused: dict[str, float] = {}  # nodes that refused, until when they are left alone
        self._urgency = Urgency()
        self._next_at = math.inf  # of the slow round
        self._free_at = -math.inf  # what was moved so far is paid for then
        self.shared = Shared(me=me, planner=planner, trees=replica.trees)
        self._comparisons = Comparisons(
            me=me,
            planner=planner,
            replica=replica,
            recovery=recovery,
            generations=generations,
            shared=self.shared,
        )
        self._healing = Healing(
            me=me, planner=planner, replica=replica, peers=peers, next_id=self._next_id, retry_s=RETRY_AFTER_S
        )

    @property
    def compared_since(self) -> float:
        """When the least recent of the latest finished exchanges of each (partition, n) and other owner
        began; -inf where one was not finished since this start, inf where nothing is shared."""
        return self._times.since

    def compared_at(self, slot: bytes) -> float | None:
        """When the latest finished exchange of a slot's (partition, n) began; None before the first."""
        return self._times.of_head(slot[:HEAD_BYTES])

    def compared_with(self, node: str) -> float | None:
        """The same for all that is shared with a node."""
        return self._times.of_node(node)

    def compared_copies(self, node: str, copies: int) -> float | None:
        """The same for what is shared of one n; None also where nothing is."""
        return self._times.of_copies(node, copies)

    @property
    def sharers(self) -> list[str]:
        """The nodes that there is anything to compare with, by name."""
        return sorted(self._turns)

    def is_comparing(self, node: str) -> bool:
        return any(run.peer == node for run in self._runs.values())

    def urge(self, since: Mapping[str, float], now: float, out: Outbox) -> None:
        """Compare with these nodes at once, until an exchange is finished that began since then. This takes
        the place of what was urged before."""
        self._urgency.want(since)
        self._begin_some(now, out)

    # ── what comes in ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return self._comparisons.doors()

    def answer(self, node: str, message: _Answered, now: float, out: Outbox) -> None:
        """Raises ValueError for what cannot be an answer to what was asked."""
        if not isinstance(message, Compared | RootsCompared | Branches | LeavesCompared | Fetched | Stored):
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
            self._stored_there(run, run.given.pop(message.id), message.status, now, out)
            return
        run.waits_for = 0
        self._spend(size_of(message), now)
        if message.status == STATUS_WEAK and run.by_trees:
            self._treeless[node] = now + TREELESS_S
            self._forget(run)
        elif message.status != STATUS_OK:
            self._break_off(run, now)
        elif isinstance(message, Fetched):
            self._fetched(run, message, now, out)
        else:
            self._walked(run, message, now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        self._paused.pop(node, None)
        self._healing.link_up(node)
        self._treeless.pop(node, None)
        if node in self._turns:
            self._returned[node] = True
            self._turns = {node: -math.inf, **self._turns}
        # One of the two asks at once, the other soon: else all that differs would be moved twice.
        share = RETURNED_SHARE if self._me < node else 1.0
        self._next_at = min(self._next_at, now + share * self._config.exchange_interval_s)
        self._begin_some(now, out)

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        self._healing.link_down(node)
        for run in [run for run in self._runs.values() if run.peer == node]:
            self._forget(run)
        self._returned.pop(node, None)
        if not any(map(self._peers.can_ask, self._turns)):
            self._next_at = math.inf

    def replan(self, now: float, out: Outbox) -> None:
        """The ring is another one, or buckets are."""
        for run in list(self._runs.values()):
            self._forget(run)
        self.shared.replan()
        nodes = self._times.replan(self._recovery.pairs())
        self._turns = {node: self._turns.get(node, -math.inf) for node in nodes}
        self._next_at = self._next_round(now)
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
        for node in [node for node, until in self._treeless.items() if until <= now]:
            del self._treeless[node]
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
        if self._urgency and len(self._runs) < PARALLEL_MAX and not self._recovery.missing():
            earliest = min(earliest, self._urgency.deadline(self._may_be_urged))
        if self._paused:
            earliest = min(earliest, *self._paused.values())
        if self._treeless:
            earliest = min(earliest, *self._treeless.values())
        return earliest

    # ── beginning ──

    def _begin_some(self, now: float, out: Outbox) -> None:
        missing = self._recovery.missing()
        if missing:
            self._begin_missing(missing, now, out)
        elif self._urgency:
            self._begin_urgent(now, out)
        if now < self._next_at:
            return
        self._next_at = self._next_round(now)
        for node in self._turns:
            if self._may_compare_trees(node) and (
                not self._runs or (self._returned.get(node) and not missing)
            ):
                self._begin_trees(node, now, out)
                return

    def _begin_urgent(self, now: float, out: Outbox) -> None:
        """Whoever was compared longest ago goes first."""
        for node in [*self._turns]:
            if len(self._runs) >= PARALLEL_MAX:
                return
            if self._may_compare_trees(node) and self._urgency.due(node, self.compared_with(node), now):
                self._begin_trees(node, now, out)

    def _begin_missing(self, missing: Mapping[Pair, bool], now: float, out: Outbox) -> None:
        """By trees, with one node after another, for what comes from the first need not come from others
        again; where there are no trees yet, by stretches, several at a time."""
        if any(run.by_trees for run in self._runs.values()):
            return
        for node in dict.fromkeys(node for _, node in missing):
            if self._may_compare_trees(node):
                self._begin_trees(node, now, out)
                return
        if self._replica.trees.edge is None and not self._treeless:
            return  # they will be there in a moment
        for pair in missing:
            if len(self._runs) >= PARALLEL_MAX:
                return
            head, node = pair
            if pair not in self._runs and self._may_ask(node) and head not in self._replica.closed:
                walk = StretchWalk(head, replica=self._replica)
                self._begin(Run(pair, walk, now, losses=self._recovery.losses), now, out)

    def _begin_trees(self, node: str, now: float, out: Outbox) -> None:
        self._turns.pop(node)
        self._turns[node] = now
        self._urgency.asked(node, now)
        self._returned.pop(node, None)
        walk = TreeWalk(
            node,
            me=self._me,
            lost=any(name == node for _, name in self._recovery.missing()),
            replica=self._replica,
            shared=self.shared,
            patience=self._patience.setdefault(node, {}),
            is_moving=self._is_moving,
        )
        self._begin(Run((b"", node), walk, now, losses=self._recovery.losses), now, out)

    def _begin(self, run: Run, now: float, out: Outbox) -> None:
        self._runs[run.pair] = run
        self._go_on(run, now, out)

    def _next_round(self, now: float) -> float:
        """Never, until a node can be asked, of those that there is anything to compare with."""
        if any(map(self._peers.can_ask, self._turns)):
            return now + self._config.exchange_interval_s
        return math.inf

    def _may_ask(self, node: str) -> bool:
        return self._peers.can_ask(node) and node not in self._paused

    def _may_compare_trees(self, node: str) -> bool:
        return (
            self._may_ask(node)
            and (b"", node) not in self._runs
            and node not in self._treeless
            and self._replica.trees.ready
            and not self._replica.closed
        )

    def _may_be_urged(self, node: str) -> bool:
        return self._may_compare_trees(node) and self._urgency.due(node, self.compared_with(node), math.inf)

    def _is_moving(self, slot: bytes) -> bool:
        return self._replica.waits(slot) or self._replica.trees.is_recent(slot)

    # ── one exchange, as its asker ──

    def _go_on(self, run: Run, now: float, out: Outbox) -> None:
        """Take the next step, unless an answer, a disk or the time is waited for."""
        if run.over or run.waits_for:
            return
        closed = self._replica.closed
        if closed and (run.by_trees or run.pair[0] in closed):
            self._forget(run)
            return
        is_full = run.unwritten >= UNWRITTEN_MAX
        if run.unwritten and (run.walk.done or is_full) and not run.wanted and (is_full or not run.missing):
            run.rests = False
            return
        run.rests = not self._may_go_on(now)
        if run.rests:
            return
        if run.missing and not is_full:
            self._give_some(run, now, out)
            self._go_on(run, now, out)
        elif run.wanted:
            self._ask(run, partial(self._question, run), now, out)
        elif run.walk.done:
            self._finish(run, now, out)
        else:
            self._ask(run, run.walk.question, now, out)

    def _may_go_on(self, now: float) -> bool:
        if self._free_at > now:
            return False
        if self._replica.crowded or self._replica.delay_s(now) > self._config.write_delay_max_s / 2:
            self._free_at = now + YIELD_S
            return False
        return True

    def _question(self, run: Run, id: int, ring: int) -> Fetch:
        run.fetching = [run.wanted.popleft() for _ in range(min(run.at_once, len(run.wanted)))]
        return Fetch(id, ring, b"".join(run.fetching))

    def _ask(
        self,
        run: Run,
        question: Callable[[int, int], Question | Fetch],
        now: float,
        out: Outbox,
    ) -> None:
        ring = self._planner.ring
        assert ring is not None
        run.waits_for = self._next_id()
        run.until = now + ANSWER_TIMEOUT_S
        self._asked[run.waits_for] = run
        asked = question(run.waits_for, ring.fingerprint)
        run.answered_by = Fetched if isinstance(asked, Fetch) else ANSWERS[type(asked)]
        self._spend(size_of(asked), now)
        self._peers.send(run.peer, asked, out)

    def _walked(self, run: Run, answer: Answer, now: float, out: Outbox) -> None:
        self._replica.trees.forget_recent(now)
        found = run.walk.answer(answer)
        run.wanted.extend(found.wanted)
        run.missing.extend(found.missing)
        self._give_some(run, now, out)
        self._go_on(run, now, out)

    def _fetched(self, run: Run, answer: Fetched, now: float, out: Outbox) -> None:
        slots = run.fetching
        items = unpack_row(answer.entries, items_max=2 * len(slots))
        if len(items) != 2 * len(slots):
            raise ValueError(f"{len(items)} items for {len(slots)} slots")
        fitted = sum(key is not None for key in items[::2])
        run.at_once = max(1, fitted) if fitted < len(slots) else min(2 * fitted, FETCH_SLOTS_MAX)
        for place, slot in enumerate(slots):
            key, record = items[2 * place], items[2 * place + 1]
            if key is None or record is None:
                if place:
                    run.wanted.append(slot)  # too much for one answer, perhaps
                else:
                    run.flawed[slot[:HEAD_BYTES]] = None  # alone it is never too much: it is corrupt there
            elif not run.over:
                if record:
                    self._take(run, slot, key, record, now, out)
                self._give(run, slot, record, now, out)
        self._go_on(run, now, out)

    def _take(self, run: Run, slot: bytes, key: bytes, record: bytes, now: float, out: Outbox) -> None:
        """Merge what the other has into what is here."""
        ring = self._planner.ring
        assert ring is not None
        if len(slot) != SLOT_BYTES or not ring.places(slot, key, self._me):
            raise ValueError(f"{run.peer} has key {key!r} where it does not belong")
        try:
            batch = self._replica.merge(slot, key, record)
        except Refusal as refusal:
            self._refused(run, slot[:HEAD_BYTES], refusal, now, out)
            return
        if batch is not None:
            self._replica.mended.received += 1
        if batch is not None and batch is not run.batch:
            run.batch = batch
            run.unwritten += 1
            batch.waiters.append(partial(self._stored_here, run))

    def _give_some(self, run: Run, now: float, out: Outbox) -> None:
        """As much of what it lacks as may go at once."""
        size = 0
        while run.missing and not run.over and size < GIVE_BYTES_MAX:
            size += self._give(run, run.missing.popleft(), b"", now, out)

    def _give(self, run: Run, slot: bytes, theirs: bytes, now: float, out: Outbox) -> int:
        """Send the other what is here, where that is more than it has. Gives its size."""
        ring = self._planner.ring
        assert ring is not None
        try:
            copy = self._replica.newest_copy(slot)
        except Refusal as refusal:
            self._refused(run, slot[:HEAD_BYTES], refusal, now, out)
            return 0
        if copy is None or copy[1] == theirs or run.over:
            return 0
        key, record = copy
        run.unwritten += 1
        id = self._next_id()
        self._asked[id] = run
        run.given[id] = slot[:HEAD_BYTES]
        run.until = now + ANSWER_TIMEOUT_S
        self._spend(len(record), now)
        self._peers.send(run.peer, Store(id, ring.fingerprint, slot, key, record), out)
        return len(record)

    def _refused(self, run: Run, head: bytes, refusal: Refusal, now: float, out: Outbox) -> None:
        """This disk does not take it, or does not give it: now, or ever."""
        if refusal.status == STATUS_REFUSED:
            run.flawed[head] = None
            out.events.append(("error", f"an exchange with {run.peer}: {refusal}"))
        elif refusal.status == STATUS_OVERLOADED:
            self._break_off(run, now)
        else:
            run.flawed[head] = None  # corrupt, or a disk that is full: healing, or the next exchange

    def _stored_here(self, run: Run, status: int, now: float, out: Outbox) -> None:
        if run.over:
            return
        run.unwritten -= 1
        if status != STATUS_OK:
            self._break_off(run, now)
        else:
            self._go_on(run, now, out)

    def _stored_there(self, run: Run, head: bytes, status: int, now: float, out: Outbox) -> None:
        run.unwritten -= 1
        if status == STATUS_OK:
            self._replica.mended.sent += 1
            self._go_on(run, now, out)
        elif status in (STATUS_OVERLOADED, STATUS_RING):
            self._break_off(run, now)
        else:  # the others of the stretch are stored all the same
            run.flawed[head] = None
            self._go_on(run, now, out)

    def _finish(self, run: Run, now: float, out: Outbox) -> None:
        self._forget(run)
        if run.losses != self._recovery.losses:
            self._pause(run.peer, now)  # what was compared may be set aside since
            return
        unfinished = {**run.walk.unfinished, **run.flawed}
        self._count_finished(run, unfinished, now, out)
        if isinstance(run.walk, TreeWalk):
            self._note_trees(run, run.walk, unfinished)
            unfinished = {head: None for head in unfinished if head not in run.walk.puzzling}
        elif not unfinished:
            self._times.finished_alone(run.pair, run.began)
        if unfinished:
            self._pause(run.peer, now)
        self._begin_some(now, out)

    def _count_finished(self, run: Run, unfinished: dict[bytes, None], now: float, out: Outbox) -> None:
        """What counts towards being complete again."""
        missing = self._recovery.missing()
        if not missing:
            return
        head = run.pair[0]
        for pair in [pair for pair in missing if pair[1] == run.peer and head in (b"", pair[0])]:
            if pair[0] not in unfinished:
                if self._learn_generation(pair[0], run.walk.generations.get(pair[0], 0)):
                    self._recovery.finished(pair, now)
                else:
                    unfinished[pair[0]] = None
        if not self._recovery.missing():
            out.events.append(("info", "what this disk may have lacked is complete again"))

    def _note_trees(self, run: Run, walk: TreeWalk, unfinished: dict[bytes, None]) -> None:
        self._times.finished(run.peer, run.began, but_for=unfinished)
        self._replica.mended.compared += self.shared.count(run.peer)
        patience = self._patience[run.peer]
        self._patience[run.peer] = {head: patience.get(head, 0) + 1 for head in walk.puzzling}

    def _learn_generation(self, head: bytes, number: int) -> bool:
        """A node that lost something does not know what was reaped, and would take hints that are older.
        Whether it knows it now."""
        number = min(number, NUMBER_MAX - 1)
        if number > self._generations.of(head):
            try:
                self._generations.rise(head, number)
            except Refusal:
                return False
        return True

    def _break_off(self, run: Run, now: float) -> None:
        """It begins anew after a moment."""
        self._forget(run)
        self._pause(run.peer, now)

    def _pause(self, node: str, now: float) -> None:
        self._paused[node] = now + RETRY_AFTER_S

    def _forget(self, run: Run) -> None:
        run.over = True
        self._runs.pop(run.pair, None)
        for id in (run.waits_for, *run.given):
            self._asked.pop(id, None)

    def _spend(self, size: int, now: float) -> None:
        paid_at = max(self._free_at, now - BURST_S)
        self._free_at = paid_at + size / self._config.exchange_rate_bytes_max

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
