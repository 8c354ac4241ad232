"""Reaping: dropping tombstones and other dead entries of contexts, at all owners, when nothing can need them.

A dead entry keeps values that it covers from coming back. So it goes only in a *round* in which every owner
has held the same for `reap_after_s`, and every other member keeps nothing of that (partition, n), hints
included; that any of them is away holds the round up. The first owner leads: it surveys its own records
(`dead_entries`), asks all members, and tells the owners to drop what all agree to. Each drops what is still
so, together with a higher *generation* (`generations`). Whoever misses that has the entries a while longer,
and others get them back from it; that does no harm.

What is on its way is covered by time. A member agrees only when it has run without a gap for `quiet_s`: by
then all that it had begun before has ended, links that stood still are broken (transport.link), and whatever
any of them sent has arrived while the entries were still there. `reap_after_s` has to be well above that.

In: answers, links, time. Out: rounds, one at a time, of bounded size; the survey stands still meanwhile, and
yields to clients. `held_up` says why the last round did not take place.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.causality.context import Context
from dyno.config import COPIES_MAX
from dyno.protocol.attended import Attended
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.candidates import NUMBER_MAX, SLOTS_MAX, pack_candidates, unpack_candidates
from dyno.protocol.dead_entries import STEPS, DeadEntries
from dyno.protocol.group_commit import Refusal
from dyno.protocol.holdings import what_is_held
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_REAPED,
    STATUS_REFUSED,
    STATUS_RING,
    AskReap,
    Reap,
    Reapable,
    Stored,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dyno.config import Config
    from dyno.protocol.dead_entries import Ripe
    from dyno.protocol.generations import Generations
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica

NUMBER: Final = 4

LOOK_S: Final = 1.0  # the longest time between two looks at the clock
KEEP_S: Final = 60.0  # of attended time, that a restart may lose
QUIET_S: Final = 150.0  # three times as long as a link may stand still, and the timeouts of requests
CYCLE_S: Final = 3600.0  # from one survey of all records to the next, at most
ROUND_S: Final = 5.0  # for answers, at most
PAGE_RECORDS: Final = 64
PAGE_PAUSE_S: Final = 0.02
_RECORD_BYTES_MAX: Final = 4 << 20  # of the records of one round, unless one has more
_NUMBER_BYTES: Final = 8


class _Round:
    """entries: what all agree to drop so far. waiting: whose answers are missing. dropping: it is decided."""

    def __init__(self, *, id: int, head: bytes, number: int, entries: dict[bytes, Context], until: float):
        self.id = id
        self.head = head
        self.number = number
        self.entries = entries
        self.until = until
        self.waiting: dict[str, None] = {}
        self.dropping = False


class Reaping(Background):
    """A part of the background. me: this node's name. is_complete: whether this node's copy of a (partition,
    n) has all that was ever acknowledged here, so that its word counts. reaped: entries dropped here."""

    number: ClassVar[int] = NUMBER

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        membership: Membership,
        planner: Planner,
        peers: Peers,
        replica: Replica,
        generations: Generations,
        is_complete: Callable[[bytes], bool],
    ) -> None:
        after_s = config.reap_after_s
        self._me = me
        self._membership = membership
        self._planner = planner
        self._peers = peers
        self._replica = replica
        self._generations = generations
        self._is_complete = is_complete
        self._look_s = min(LOOK_S, after_s / 20)
        self._quiet_s = min(QUIET_S, after_s / 2)
        self._cycle_s = min(CYCLE_S, after_s / 8)
        self._round_s = min(ROUND_S, after_s / 8)
        keep_s = min(KEEP_S, after_s / 20)
        self._attended = Attended(replica, look_s=self._look_s, keep_s=keep_s)
        lead_s = self._cycle_s + after_s / STEPS
        self._dead = DeadEntries(replica, self._attended, reap_after_s=after_s, lead_s=lead_s)
        self._last_id = NUMBER << ID_BITS
        self._round: _Round | None = None
        self._tried: dict[bytes, int] = {}  # number of a round that somebody knew already; by head, one each
        self._look_at = self._page_at = math.inf
        self._page = b""  # where the survey goes on
        self._ripe: dict[bytes, Context] = {}  # of one (partition, n) that this node leads
        self._ripe_bytes = 0
        self.reaped = 0
        self.held_up = ""

    # ── a part of the background ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {AskReap: self._asked, Reap: self._reap}

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """Nothing waits for it: the next survey comes by."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        round = self._round
        if round is not None and node in round.waiting:
            self._lost(round, node, f"{node} was lost", now, out)

    def replan(self, now: float, out: Outbox) -> None:
        if self._look_at == math.inf:
            self._attended.look(now)
            self._look_at = now + self._look_s
        self._round = None
        self._tried.clear()
        self._begin_survey(now)

    def tick(self, now: float, out: Outbox) -> None:
        self._attended.look(now)
        if self._look_at <= now:
            self._attended.keep()
            self._look_at = now + self._look_s
        round = self._round
        if round is not None and round.until <= now:
            self._end(f"{next(iter(round.waiting))} did not answer", now)
        if self._round is None and self._page_at <= now:
            self._survey(now, out)

    def deadline(self) -> float:
        at = self._page_at if self._round is None else self._round.until
        return at if at < self._look_at else self._look_at

    # ── the survey ──

    def _begin_survey(self, now: float) -> None:
        self._page = b""
        self._forget_ripe()
        self._page_at = now + self._cycle_s

    def _forget_ripe(self) -> None:
        self._ripe = {}
        self._ripe_bytes = 0

    def _survey(self, now: float, out: Outbox) -> None:
        """A page of records, and a round when it found enough."""
        self._page_at = now + PAGE_PAUSE_S
        if self._replica.crowded or self._replica.delay_s(now):
            return  # clients first
        try:
            ripe, onward = self._dead.survey(self._page, limit=PAGE_RECORDS)
        except Refusal:  # rows cannot be written now; looking again at once would not help the disk
            self._page_at = now + self._round_s
            return
        for found in ripe:
            if self._gather(found):
                continue
            self._begin_round(now, out)
            if self._round is not None:
                self._page = found.slot  # from here on when that round is over
                return
            self._gather(found)
        if onward is not None:
            self._page = onward
            return
        if self._ripe:
            self._begin_round(now, out)
        self._page, self._page_at = b"", now + self._cycle_s

    def _gather(self, found: Ripe) -> bool:
        """Whether it belongs to the round that is next."""
        ring = self._planner.ring
        head = found.slot[:3]
        if ring is None or ring.owners(head)[:1] != (self._me,):
            return True  # others see to it
        size = found.bytes + len(found.entries.pack())
        if self._ripe and (
            not found.slot.startswith(next(iter(self._ripe))[:3])
            or len(self._ripe) >= SLOTS_MAX
            or self._ripe_bytes + size > _RECORD_BYTES_MAX
        ):
            return False
        self._ripe[found.slot] = found.entries
        self._ripe_bytes += size
        return True

    # ── a round, as who leads it ──

    def _begin_round(self, now: float, out: Outbox) -> None:
        entries = self._ripe
        self._forget_ripe()
        head = next(iter(entries))[:3]
        others = [member.name for member in self._membership.ring_members() if member.name != self._me]
        reason = self._why_not(head, now, as_owner=True)
        for name in others:
            if not self._membership.is_alive(name) or not self._peers.can_ask(name):
                reason = f"{name} is away"
        if reason:
            self.held_up = reason
            return
        self._last_id += 1
        number = max(self._generations.stamp(head), self._tried.pop(head, 0)) + 1
        try:
            batch = self._generations.agree(head, number)
        except Refusal as refusal:
            self.held_up = str(refusal)
            return
        round = self._round = _Round(
            id=self._last_id, head=head, number=number, entries=entries, until=now + self._round_s
        )
        round.waiting = dict.fromkeys((self._me, *others))
        batch.waiters.append(partial(self._own_word, round))
        ask = AskReap(
            round.id, self._ring(), head[0] << 8 | head[1], head[2], pack_candidates(number, entries)
        )
        for name in others:
            self._peers.send(name, ask, out)

    def _own_word(self, round: _Round, status: int, now: float, out: Outbox) -> None:
        if round is not self._round:
            return
        if status == STATUS_OK:
            self._agreed(round, self._me, now, out)
        else:
            self._lost(round, self._me, "the disk refused", now, out)

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        round = self._round
        if round is None or message.id != round.id or node not in round.waiting:
            return
        if isinstance(message, Stored):
            if round.dropping:
                self._dropped(round, node, now)
        elif isinstance(message, Reapable) and not round.dropping:
            self._heard(round, node, message, now, out)

    def _heard(self, round: _Round, node: str, message: Reapable, now: float, out: Outbox) -> None:
        if message.status == STATUS_REAPED and len(message.agreed) == _NUMBER_BYTES:
            self._tried[round.head] = min(int.from_bytes(message.agreed, "big"), NUMBER_MAX - 1)
        if message.status != STATUS_OK:
            self._end(f"{node}: {message.reason}", now)
            return
        number, agreed = unpack_candidates(message.agreed, head=round.head)
        if number != round.number:
            raise ValueError("an answer about another round")
        round.entries = {
            slot: both
            for slot, entries in round.entries.items()
            if (both := entries.agreed(agreed.get(slot, Context.EMPTY)))
        }
        if round.entries:
            self._agreed(round, node, now, out)
        else:
            self._end(f"{node} has not held them as long", now)

    def _agreed(self, round: _Round, node: str, now: float, out: Outbox) -> None:
        del round.waiting[node]
        if not round.waiting:
            self._drop_everywhere(round, now, out)

    def _drop_everywhere(self, round: _Round, now: float, out: Outbox) -> None:
        round.dropping = True
        round.until = now + self._round_s
        ring = self._planner.ring
        assert ring is not None
        owners = ring.owners(round.head)
        head, number = round.head, round.number
        agreed = pack_candidates(number, round.entries)
        reap = Reap(round.id, self._ring(), head[0] << 8 | head[1], head[2], number, agreed)
        round.waiting = dict.fromkeys(owners)
        for name in owners:
            if name != self._me and not self._peers.send(name, reap, out):
                del round.waiting[name]
        try:
            batch = self._drop(head, number, round.entries)
        except Refusal as refusal:
            self.held_up = str(refusal)
            self._dropped(round, self._me, now)
            return
        batch.waiters.append(lambda status, now, out: self._dropped(round, self._me, now))

    def _dropped(self, round: _Round, node: str, now: float) -> None:
        round.waiting.pop(node, None)
        if not round.waiting and round is self._round:
            self._end("", now)

    def _lost(self, round: _Round, node: str, reason: str, now: float, out: Outbox) -> None:
        if round.dropping:
            self._dropped(round, node, now)
        else:
            self._end(reason, now)

    def _end(self, reason: str, now: float) -> None:
        self._round = None
        self.held_up = reason
        self._page_at = max(self._page_at, now)

    # ── a round, as who is asked ──

    def _asked(self, link: int, message: AskReap, now: float, out: Outbox) -> None:
        head = _head(message.partition, message.copies)
        number, entries = unpack_candidates(message.candidates, head=head)
        self._attended.look(now)  # a process that wakes up may hear this first
        ring = self._planner.ring
        if ring is None or not self._planner.is_planned_with(message.ring):
            out.replies.append((link, Reapable(message.id, STATUS_RING, b"", "it knows another ring")))
            return
        owns = self._me in ring.owners(head)
        reason = self._why_not(head, now, as_owner=owns)
        if reason:
            out.replies.append((link, Reapable(message.id, STATUS_REFUSED, b"", reason)))
            return
        known = self._generations.stamp(head)
        if number <= known:
            told = known.to_bytes(_NUMBER_BYTES, "big")
            answer = Reapable(message.id, STATUS_REAPED, told, "it knows a later round")
            out.replies.append((link, answer))
            return
        if owns:
            ripe = {slot: self._dead.ripe(slot).agreed(wanted) for slot, wanted in entries.items()}
            entries = {slot: agreed for slot, agreed in ripe.items() if agreed}
            if not entries:
                nothing = Reapable(message.id, STATUS_OK, pack_candidates(number, {}), "")
                out.replies.append((link, nothing))
                return
        self._promise(link, message.id, head, number, entries, out)

    def _promise(
        self, link: int, id: int, head: bytes, number: int, entries: dict[bytes, Context], out: Outbox
    ) -> None:
        """Say yes once it is on the disk that hints which come from now on are younger than this round."""
        try:
            batch = self._generations.agree(head, number)
        except Refusal as refusal:
            out.replies.append((link, Reapable(id, refusal.status, b"", str(refusal))))
            return
        answer = Reapable(id, STATUS_OK, pack_candidates(number, entries), "")

        def promised(status: int, now: float, out: Outbox) -> None:
            no = Reapable(id, status, b"", "its disk refused")
            out.replies.append((link, answer if status == STATUS_OK else no))

        batch.waiters.append(promised)

    def _reap(self, link: int, message: Reap, now: float, out: Outbox) -> None:
        head = _head(message.partition, message.copies)
        number, entries = unpack_candidates(message.agreed, head=head)
        if number != message.generation:
            raise ValueError("entries of another round")
        ring = self._planner.ring
        if ring is None or not self._planner.is_planned_with(message.ring):
            out.replies.append((link, Stored(message.id, STATUS_RING)))
        elif self._me not in ring.owners(head):
            out.replies.append((link, Stored(message.id, STATUS_REFUSED)))
        elif message.generation <= self._generations.of(head):
            out.replies.append((link, Stored(message.id, STATUS_OK)))  # doubled, or late
        else:
            self._attended.look(now)
            self._reap_here(link, message, head, entries, out)

    def _reap_here(
        self, link: int, message: Reap, head: bytes, entries: dict[bytes, Context], out: Outbox
    ) -> None:
        try:
            batch = self._drop(head, message.generation, entries)
        except Refusal as refusal:
            out.replies.append((link, Stored(message.id, refusal.status)))
            return
        batch.waiters.append(partial(self._reaped, link, message.id))

    def _reaped(self, link: int, id: int, status: int, now: float, out: Outbox) -> None:
        commit = self._replica.commit_number if status == STATUS_OK else 0
        out.replies.append((link, Stored(id, status, commit)))

    # ── both ──

    def _drop(self, head: bytes, number: int, entries: Mapping[bytes, Context]) -> Any:
        """The generation first: where the disk has no room for all, what was dropped is under the new one.
        All of it waits for one batch, which is given. Raises Refusal."""
        batch = self._generations.rise(head, number)
        for slot, wanted in entries.items():
            self.reaped += self._dead.forget(slot, wanted)
        return batch

    def _why_not(self, head: bytes, now: float, *, as_owner: bool) -> str:
        """Why this node cannot agree to any round of a (partition, n); "" if it can."""
        if not self._attended.is_steady(now, self._quiet_s):
            return "it stood still a while ago"
        if self._membership.admitting:
            return "somebody joins"
        if self._replica.crowded:
            return "its disk is behind"
        if as_owner and not self._is_complete(head):
            return "its copy is not complete again yet"
        return what_is_held(self._replica, head, as_owner=as_owner)

    def _ring(self) -> int:
        ring = self._planner.ring
        assert ring is not None
        return ring.fingerprint


def _head(partition: int, copies: int) -> bytes:
    """As slots begin. Raises ValueError for what none does."""
    if not 0 <= partition < 1 << 16 or not 1 <= copies <= COPIES_MAX:
        raise ValueError(f"no partition {partition} with {copies} copies")
    return (partition << 8 | copies).to_bytes(3, "big")
