"""All reads of one node that are under way key by key, and the pages of its listings.

A read is a `GetCoordinator`, a page of keys a `ListingCoordinator`, under a number that the answers of other
nodes carry. They all have the same time, so they expire in the order in which they began and the head of an
insertion-ordered dict is the next deadline: no timer per request (PERFORMANCE, rule 7). `Hedges` says which
are late. A read that is answered *trails* until everybody asked has answered, for the sake of read repair.

In: what to read for whom, the answers of replicas, link and ring events, the time. Out: questions, and one
word to every sink.
"""

from __future__ import annotations

import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from dyno.errors import Code, InvalidRequest
from dyno.placement.hashing import slot_bucket
from dyno.protocol.get import GetCoordinator
from dyno.protocol.group_commit import Refusal
from dyno.protocol.hedges import Hedges
from dyno.protocol.listing import ListingCoordinator
from dyno.protocol.planner import Intent
from dyno.protocol.recovery import SOUND
from dyno.protocol.sink import Ending, Failure, overloaded
from dyno.wire.messages import STATUS_OK, STATUS_WEAK, ReadAnswer, ScanAnswer
from dyno.wire.pages import is_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.hints import Hints
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.overload import ReadLine
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Weakness
    from dyno.protocol.replica import Replica
    from dyno.protocol.ring import Plan, Ring
    from dyno.protocol.sink import ListSink, ReadSink
    from dyno.wire.messages import ListKeys

RETRY_AFTER_S = 0.05  # how long a replica is given to learn the ring before it is asked again
_TRAILING_MAX = 1000  # reads that are answered but still wait for somebody's copy, to repair it


class Reads:
    """me: this node's name. weakness: of its copies."""

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        replica: Replica,
        peers: Peers,
        planner: Planner,
        read_line: ReadLine,
        hints: Hints,
        weakness: Weakness = SOUND,
    ) -> None:
        self._me = me
        self._config = config
        self._replica = replica
        self._peers = peers
        self._planner = planner
        self._hints = hints
        self._weakness = weakness
        self._last_id = 0
        self._gets: dict[int, GetCoordinator] = {}
        self._trailing: dict[int, GetCoordinator] = {}
        self._listings = 0  # pages of keys that are being put together
        self._hedges = Hedges(config.hedge_after_s, read_line)
        self._retries: deque[tuple[float, str, GetCoordinator]] = deque()

    @property
    def under_way(self) -> int:
        """Reads that are not answered yet."""
        return len(self._gets)

    # ── what comes in ──

    def answer(self, node: str, message: ReadAnswer | ScanAnswer, now: float, out: Outbox) -> None:
        """A replica's; one to a read that is over is late and means nothing."""
        get = self._gets.get(message.id)
        if isinstance(message, ScanAnswer):
            self._hedges.heard(node, now)
            if isinstance(get, ListingCoordinator):
                self._scanned(get, node, message, now, out)
            return
        get = get or self._trailing.get(message.id)
        if get is not None and not isinstance(get, ListingCoordinator):
            self._hedges.answered(get, node, now)
            self._answered(get, node, message.status, message.record, now, out)

    def link_up(self, node: str, out: Outbox) -> None:
        """What could not be asked of a node is asked now."""
        for get in self._gets.values():
            get.retry(node, out)

    def link_down(self, node: str, out: Outbox) -> None:
        for get in self._gets.values():
            get.lost(node, out)
        for get in list(self._trailing.values()):
            get.lost(node, out)
            self._file(get)

    def replan(self, ring: Ring, out: Outbox) -> None:
        """The ring is another one now. What was found out under the old one counts no more: reads fail with
        "plan again", which harms nobody."""
        for get in list(self._gets.values()):
            if get.ring != ring.fingerprint:
                get.replan(out)
                self._file(get)

    def replan_bucket(self, bucket: bytes, out: Outbox) -> None:
        """A bucket, given by its id, has other properties than a moment ago: the same for its reads."""
        for get in list(self._gets.values()):
            if slot_bucket(get.slot) == bucket:
                get.replan(out)
                self._file(get)

    def tick(self, now: float, out: Outbox) -> None:
        self._hedges.tick(now, out)
        while self._retries and self._retries[0][0] <= now:
            _, node, get = self._retries.popleft()
            get.retry(node, out)
        while self._gets and (get := next(iter(self._gets.values()))).deadline <= now:
            del self._gets[get.id]
            get.expire(now, out)
        while self._trailing and (get := next(iter(self._trailing.values()))).deadline <= now:
            del self._trailing[get.id]

    def deadline(self) -> float:
        """Infinity for none. Reads that only trail wait for whichever tick comes next."""
        earliest = self._retries[0][0] if self._retries else math.inf
        for get in self._gets.values():  # the first one
            hedge = self._hedges.deadline()
            earliest = min(earliest, hedge, get.deadline)
            break
        return earliest

    # ── one key ──

    def begin(
        self,
        intent: Intent,
        needed: int,
        sink: ReadSink,
        now: float,
        out: Outbox,
        *,
        late: str = "",
        primaries: int = 0,
    ) -> None:
        """late: an owner that had better not be asked. primaries: PR."""
        standing = self._planner.standing(intent.owners)
        owns = self._me in intent.owners
        owners = standing.readers if owns else standing.others
        dead = len(owners) - standing.live
        if late:
            owners = (*(name for name in owners if name != late), late)
            dead = 0 if dead == 0 else dead + 1
        get = GetCoordinator(
            id=self._next_id(),
            slot=intent.slot,
            key=intent.key,
            owners=owners,
            needed=needed,
            ring=intent.ring,
            deadline=now + self._config.get_timeout_s,
            me=self._me,
            replica=self._replica,
            peers=self._peers,
            sink=sink,
            primaries=primaries,
            dead=dead,
            fallbacks=self._planner.fallbacks(intent.slot) if needed > primaries else (),
            patience_s=self._config.fallback_after_s,
        )
        self._gets[get.id] = get
        get.start(out)
        self._read_own(get, now, out)
        if not get.answered:
            self._hedges.began(get, now)

    def _read_own(self, get: GetCoordinator, now: float, out: Outbox) -> None:
        try:
            record, batch = self.read_here(get.slot, get.primary_names)
        except Refusal as refusal:
            out.events.append(("error", str(refusal)))
            self._answered(get, self._me, refusal.status, b"", now, out)
            return
        if batch is None:
            self._answered(get, self._me, self._status_of(get.slot), record, now, out)
        else:
            # Nobody is told of a record before it is on the disk.
            batch.waiters.append(partial(self._own_committed, get, record))

    def read_here(self, slot: bytes, owners: Sequence[str]) -> tuple[bytes, Batch | None]:
        """What this node has of a key, as `Replica.read` gives it: its copy, or what it keeps for the owners
        where it is none of them. Raises Refusal."""
        if self._me in owners:
            return self._replica.read(slot)
        return self._hints.read(slot, owners)

    def _own_committed(
        self, get: GetCoordinator, record: bytes, status: int, now: float, out: Outbox
    ) -> None:
        if status == STATUS_OK:
            self._answered(get, self._me, self._status_of(get.slot), record, now, out)
        else:
            self._read_own(get, now, out)  # what never got to the disk was never there

    def _status_of(self, slot: bytes) -> int:
        weakness = self._weakness
        return STATUS_WEAK if weakness.doubtful and weakness.is_weak(slot) else STATUS_OK

    def _answered(
        self, get: GetCoordinator, node: str, status: int, record: bytes, now: float, out: Outbox
    ) -> None:
        if get.answer(node, status, record, now, out):
            self._retries.append((now + RETRY_AFTER_S, node, get))
        self._file(get)

    def _file(self, get: GetCoordinator) -> None:
        """A read is under way until it is answered; then it trails until everybody asked has answered."""
        if not get.answered:
            return
        self._gets.pop(get.id, None)
        if get.finished:
            self._trailing.pop(get.id, None)
        elif get.id not in self._trailing:
            if len(self._trailing) >= _TRAILING_MAX:
                del self._trailing[next(iter(self._trailing))]
            self._trailing[get.id] = get

    # ── a page of keys ──

    def list_keys(
        self,
        request: ListKeys,
        plan: Plan,
        ring: Ring,
        sink: ListSink,
        now: float,
        out: Outbox,
    ) -> None:
        """A page of keys: every replica's scan costs as much as a hundred reads, so few are begun at once."""
        needed = self._planner.needed(plan.owners, request)
        # Hints are kept by key, for owners that are away; a page of all keys can only be asked of owners.
        if not self._planner.meets(plan, needed, needed, sink, out):
            return
        if not is_page(request.after, request.limit):
            raise InvalidRequest("a page of keys has a limit of 1 at least and begins behind a key's hash")
        if self._listings >= self._config.listings_max:
            text = f"{self._me}: too many listings of keys are under way"
            sink.failed(overloaded(text, self._config.retry_after_s), out)
            return
        self._listings += 1
        listing = ListingCoordinator(
            id=self._next_id(),
            prefix=plan.slot,
            after=request.after,
            limit=request.limit,
            owners=self._planner.standing(plan.owners).readers,
            needed=needed,
            ring=ring.fingerprint,
            deadline=now + self._config.get_timeout_s,
            me=self._me,
            replica=self._replica,
            peers=self._peers,
            read_key=partial(self._read_listed, plan, ring, needed),
            sink=Ending(sink, self._listing_ended),
        )
        self._gets[listing.id] = listing
        listing.start(out)
        entries, end = self._replica.scan(plan.slot, request.after, request.limit)
        answer = ScanAnswer(listing.id, self._status_of(plan.slot), entries, end)
        self._scanned(listing, self._me, answer, now, out)
        if not listing.answered:
            self._hedges.began_long(listing, now)

    def _scanned(
        self, listing: ListingCoordinator, node: str, answer: ScanAnswer, now: float, out: Outbox
    ) -> None:
        if listing.scanned(node, answer, now, out):
            self._retries.append((now + RETRY_AFTER_S, node, listing))
        self._file(listing)

    def _read_listed(
        self,
        plan: Plan,
        ring: Ring,
        needed: int,
        hash: bytes,
        key: bytes,
        sink: ReadSink,
        now: float,
        out: Outbox,
    ) -> None:
        """The ordinary read of a key of which the replicas' pages differ."""
        assert self._planner.ring is not None
        if self._planner.ring.fingerprint == ring.fingerprint:
            doubtful = Intent(key, plan.slot + hash, plan.owners, ring.fingerprint)
            self.begin(doubtful, needed, sink, now, out, primaries=needed)
        else:
            sink.failed(Failure(Code.RING, "the ring changed during the listing"), out)

    def _listing_ended(self) -> None:
        self._listings -= 1

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id
