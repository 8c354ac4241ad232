"""Many reads in one question: how every get begins.

The gets that arrive within one turn of the loop, and the keys of a `GetMany`, are read together: this node
reads its own copies, and the R - 1 other owners that most of the keys share are asked by one `ReadMany` each.
Where all R copies of a key are equal its bytes are the answer, undecoded. Nothing but equality is decided
here. A key that is not so plain is begun anew as a read of its own, which merges, repairs, hedges and
forwards (`GetCoordinator`, `Forwarding`): when copies differ, when one is corrupt or on its way to the disk,
when an owner is late, out of reach or plans with another ring, and when this node owns no copy. Of a
`GetMany` such keys are left out of the answer, and the client asks for them one by one.

Which owners are asked is up to the keys that come first in a turn, so that one turn speaks with few nodes and
all get their share of questions over time; those that are slow lately come last (`Patience`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, TypeAlias

from dyno.errors import Code, InvalidRequest
from dyno.placement.hashing import slot_bucket
from dyno.protocol.patience import Patience
from dyno.protocol.read_groups import Groups
from dyno.protocol.recovery import SOUND
from dyno.protocol.sink import Failure, LinkSink, invalid
from dyno.wire.messages import (
    GET_MANY_KEYS_MAX,
    READ_MANY_BYTES_MAX,
    STATUS_OK,
    STATUS_OVERLOADED,
    Found,
    FoundMany,
    Get,
    GetMany,
    ReadMany,
    ReadManyAnswer,
)
from dyno.wire.rows import pack_row, unpack_keys, unpack_row

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.overload import ReadLine
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.recovery import Weakness
    from dyno.protocol.replica import Replica

_new = tuple.__new__  # half the price of calling the class of a named tuple

# Begins a read of its own: (inbound link, request, the owner to be asked last or "", now, out).
Singly: TypeAlias = Callable[[int, Get, str, float, "Outbox"], None]


class BulkReads:
    """All reads of one node that are still plain. read_line: before its own disk. singly: takes the others.
    elsewhere: how many requests are under way there, which count towards `requests_max` as well. weakness: of
    this node's copies; weak ones are not plain."""

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        planner: Planner,
        replica: Replica,
        peers: Peers,
        read_line: ReadLine,
        singly: Singly,
        elsewhere: Callable[[], int],
        weakness: Weakness = SOUND,
    ) -> None:
        self.pending = 0  # keys that are being read
        self.held_bytes = 0  # of the records of this node that wait for those of others
        self._me = me
        self._config = config
        self._planner = planner
        self._replica = replica
        self._peers = peers
        self._read_line = read_line
        self._singly = singly
        self._elsewhere = elsewhere
        self._weakness = weakness
        self._patience = Patience(hedge_after_s=config.hedge_after_s, most_s=config.get_timeout_s / 4)
        self._last_id = 0
        self._gathered: list[tuple[int, Get]] = []
        self._gathered_at = 0.0
        self._stopping = False
        self._rounds: dict[int, _Round] = {}  # by id
        self._late: list[tuple[float, int]] = []  # a heap: when which of them will be late

    def stop(self) -> None:
        """Begin nothing any more; what is under way goes on."""
        self._stopping = True

    @property
    def busy(self) -> bool:
        """Whether anybody waits for an answer."""
        return bool(self._gathered or self._rounds)

    # ── what comes in ──

    def get(self, link: int, request: Get, now: float, out: Outbox) -> None:
        """A client's request. It waits for those that come in the same turn: `tick` is due at once."""
        if self._stopping:
            self._singly(link, request, "", now, out)  # where it is refused
        elif request.budget_ms:
            self._gathered.append((link, request))
            self._gathered_at = now

    def get_many(self, link: int, request: GetMany, now: float, out: Outbox) -> None:
        """Raises ValueError when its keys are no row of keys."""
        keys = unpack_keys(request.keys, items_max=GET_MANY_KEYS_MAX)
        if not request.budget_ms:
            return
        many = _Many(link, request.id, len(keys))
        if self._planner.ring is None or self._stopping:
            many.failed(Failure(Code.RING, f"{self._me} is not serving"), out)
        elif self._room() < (len(keys) if self.pending else 1):
            many.failed(self._overload("too many requests are under way"), out)
        else:
            try:
                self._begin_many(many, request, keys, now, out)
            except InvalidRequest as error:
                many.failed(invalid(str(error)), out)

    def answer(self, node: str, message: ReadManyAnswer, now: float, out: Outbox) -> None:
        """A replica's records. Raises ValueError for what cannot be an answer to what it was asked."""
        round = self._rounds.get(message.id)
        if round is None:
            self._patience.came_late(message.id, node, now)
            return
        if node not in round.waiting:
            return  # twice
        if message.status == STATUS_OVERLOADED:
            self._patience.refused(node, now)
            self._refused(round, node, now, out)
            return
        if message.status != STATUS_OK:
            self._give_up(round, "", now, out)
            return
        count = len(round.plain)
        records = unpack_row(message.records, items_max=count)
        if len(records) != count:
            raise ValueError(f"{len(records)} records for {count} slots")
        round.waiting.remove(node)
        self._patience.took(node, now - round.began_at, now)
        round.plain = _common(round.plain, records)
        if not round.waiting:
            self._conclude(round, now, out)

    def lost(self, node: str, now: float, out: Outbox) -> None:
        """The link to a node broke."""
        self._patience.lost(node)
        for round in [round for round in self._rounds.values() if node in round.waiting]:
            self._give_up(round, node, now, out)

    def replan(self, now: float, out: Outbox) -> None:
        """The ring is another one now."""
        for round in list(self._rounds.values()):
            self._give_up(round, "", now, out)

    def replan_bucket(self, bucket: bytes, now: float, out: Outbox) -> None:
        """A bucket, given by its id, has other properties than a moment ago."""
        for round in [round for round in self._rounds.values() if round.reads_of(bucket)]:
            self._give_up(round, "", now, out)

    def tick(self, now: float, out: Outbox) -> None:
        if self._gathered:
            self._begin_gathered(now, out)
        while (round := self._next_late()) is not None and round.late_at <= now:
            if self._is_over(round, now):
                self._patience.overdue(round.id, round.waiting, round.began_at, now)
                self._give_up(round, round.waiting[0], now, out)
            else:
                self._await(round, now, self._config.hedge_after_s)

    def deadline(self) -> float | None:
        if self._gathered:
            return self._gathered_at
        if not self._late:
            return None
        round = self._next_late()
        return None if round is None else round.late_at

    # ── beginning ──

    def _begin_gathered(self, now: float, out: Outbox) -> None:
        gathered, self._gathered = self._gathered, []
        if self._patience.slow:
            self._patience.forget_old(now)
        groups = Groups(self._choose)
        room = self._room()
        for link, request in gathered[:room]:
            try:
                placed = groups.place(self._planner, request, request.key, (link, request))
            except InvalidRequest:
                placed = False  # whoever takes it says so
            if not placed:
                self._singly(link, request, "", now, out)
        for link, request in gathered[room:]:
            LinkSink(link, request.id).failed(self._overload("too many requests are under way"), out)
        for peers, slots, askers in groups.all():
            self._begin(None, peers, slots, askers, now, out)

    def _begin_many(
        self, many: _Many, request: GetMany, keys: Sequence[bytes], now: float, out: Outbox
    ) -> None:
        if self._patience.slow:
            self._patience.forget_old(now)
        groups = Groups(self._choose)
        left_out = [
            index for index, key in enumerate(keys) if not groups.place(self._planner, request, key, index)
        ]
        for peers, slots, indices in groups.all():
            self._begin(many, peers, slots, indices, now, out)
        self._leave_out(many, len(left_out), out)

    def _begin(
        self,
        many: _Many | None,
        peers: tuple[str, ...],
        slots: list[bytes],
        askers: list[Any],
        now: float,
        out: Outbox,
    ) -> None:
        """Read what is here, and ask the others for the same."""
        ring = self._planner.ring
        assert ring is not None
        mine = self._read_here(many, slots)
        if None in mine:
            there = [index for index, record in enumerate(mine) if record is not None]
            missing = [asker for asker, record in zip(askers, mine, strict=True) if record is None]
            self._pass_on(many, missing, "", now, out)
            if not there:
                return
            mine, slots = [mine[index] for index in there], [slots[index] for index in there]
            askers = [askers[index] for index in there]
        self._last_id += 1
        round = _Round(self._last_id, self._me, peers, many, slots, askers, mine)
        self.pending += len(askers)
        self.held_bytes += round.held_bytes
        if not peers:
            self._conclude(round, now, out)
            return
        round.began_at = now
        self._await(round, now, self._patience.wait_s(peers))
        question = ReadMany(round.id, ring.fingerprint, b"".join(slots))
        for peer in peers:
            self._peers.send(peer, question, out)

    def _await(self, round: _Round, now: float, seconds: float) -> None:
        round.late_at = now + seconds
        self._rounds[round.id] = round
        heappush(self._late, (round.late_at, round.id))

    def _next_late(self) -> _Round | None:
        """The round that will be late first. What ended, or is waited for longer by now, is passed over."""
        late = self._late
        while late:
            at, id = late[0]
            round = self._rounds.get(id)
            if round is not None and round.late_at == at:
                return round
            heappop(late)
        return None

    def _read_here(self, many: _Many | None, slots: list[bytes]) -> list[bytes | None]:
        """A GetMany makes a node hold no more than fits its answer, by however many rounds it is read."""
        if many is not None and many.room <= 0:
            return [None] * len(slots)
        room = READ_MANY_BYTES_MAX if many is None else many.room
        records = self._replica.read_many(slots, bytes_max=room)
        if self._weakness.doubtful:
            is_weak = self._weakness.is_weak
            records = [None if is_weak(s) else r for s, r in zip(slots, records, strict=True)]
        if many is not None:
            many.room -= sum(len(record) for record in records if record is not None)
        return records

    def _room(self) -> int:
        """How many more keys may be read now."""
        config = self._config
        if self.held_bytes >= config.read_bytes_max:
            return 0
        return max(0, config.requests_max - self.pending - self._elsewhere())

    def _overload(self, text: str) -> Failure:
        retry_after_s = self._config.retry_after_s
        return Failure(Code.OVERLOADED, f"{self._me}: {text}", retry_after_s=retry_after_s)

    def _choose(self, owners: tuple[str, ...], request: Get | GetMany, favourites: dict[str, bool]) -> Any:
        """The owners to be asked beside this node, the favourites first; None where it is not that plain."""
        if self._me not in owners:
            return None
        others = self._planner.needed(owners, request) - 1
        if not others:
            return ()
        can_ask = self._peers.can_ask
        alive = [name for name in self._planner.standing(owners).alive if can_ask(name)]
        if len(alive) < others:
            return None
        if slow := self._patience.slow:
            alive.sort(key=lambda name: (name in slow, name not in favourites))
        else:
            alive.sort(key=lambda name: name not in favourites)
        chosen = tuple(sorted(alive[:others]))  # whatever a key prefers: the same nodes are one group
        favourites.update(dict.fromkeys(chosen, True))
        return chosen

    # ── ending ──

    def _conclude(self, round: _Round, now: float, out: Outbox) -> None:
        """Everybody has answered."""
        self._forget(round)
        if round.many is not None:
            # What its other keys still wait for keeps these records in memory.
            self.held_bytes += round.many.found(round.askers, round.plain, round.nodes)
            self._leave_out(round.many, len(round.askers), out)
            return
        nodes, reply = round.nodes, out.replies.append
        for (link, request), record in zip(round.askers, round.plain, strict=True):
            if record is None:
                self._singly(link, request, "", now, out)
            else:
                reply((link, _new(Found, (request.id, record, nodes, ""))))

    def _refused(self, round: _Round, node: str, now: float, out: Outbox) -> None:
        """A replica has read nothing, for it is overloaded. The keys of a GetMany are not to come back one by
        one for that, if there is nothing else to tell of it: the whole is refused."""
        if round.many is not None:
            round.many.overload = self._overload(f"{node} is overloaded")
        self._give_up(round, node, now, out)

    def _is_over(self, round: _Round, now: float) -> bool:
        """Whether what is late is begun anew. Where that cannot be afforded it goes on waiting, but no longer
        than a read may take: others may have the answer."""
        if round.began_at + self._config.get_timeout_s <= now:
            return True
        return not self._is_late_for_the_load(round, now) and self._patience.is_over(now)

    def _is_late_for_the_load(self, round: _Round, now: float) -> bool:
        """This node's own disk has a long line, so the others' probably have, too: beginning anew would make
        them longer. Who is not heard of for half the time of a read is late for another reason."""
        return self._read_line.hurries_nobody and now < round.began_at + self._config.get_timeout_s / 2

    def _give_up(self, round: _Round, late: str, now: float, out: Outbox) -> None:
        self._forget(round)
        self._pass_on(round.many, round.askers, late, now, out)

    def _pass_on(self, many: _Many | None, askers: Sequence[Any], late: str, now: float, out: Outbox) -> None:
        if many is not None:
            self._leave_out(many, len(askers), out)
        else:
            for link, request in askers:
                self._singly(link, request, late, now, out)

    def _leave_out(self, many: _Many, keys: int, out: Outbox) -> None:
        """Nothing more will come for so many of its keys."""
        if many.leave_out(keys, out):
            self.held_bytes -= many.held_bytes

    def _forget(self, round: _Round) -> None:
        self._rounds.pop(round.id, None)
        self.pending -= len(round.askers)
        self.held_bytes -= round.held_bytes


class _Round:
    """One set of slots, read by one set of nodes. plain: their records as far as all who answered so far have
    the same, else None. askers: for each of them (link, request), or its index in `many`. waiting: who has
    not answered."""

    __slots__ = (
        "_slots",
        "askers",
        "began_at",
        "held_bytes",
        "id",
        "late_at",
        "many",
        "nodes",
        "plain",
        "waiting",
    )

    def __init__(
        self,
        id: int,
        me: str,
        peers: tuple[str, ...],
        many: _Many | None,
        slots: list[bytes],
        askers: list[Any],
        mine: list[bytes | None],
    ) -> None:
        self._slots = slots
        self.id = id
        self.nodes = ",".join((me, *peers))
        self.waiting = list(peers)
        self.many = many
        self.askers = askers
        self.plain = mine
        self.held_bytes = sum([len(record) for record in mine if record])
        self.began_at = self.late_at = 0.0

    def reads_of(self, bucket: bytes) -> bool:
        """Whether a key of that bucket is among them."""
        return any(slot_bucket(slot) == bucket for slot in self._slots)


class _Many:
    """One GetMany on its way: an item for each key, until nothing is missing any more. held_bytes: of the
    records that were found so far. overload: how it fails if nothing was found then, because a replica is
    overloaded."""

    __slots__ = (
        "_answered",
        "_id",
        "_link",
        "_missing",
        "_records",
        "_which",
        "held_bytes",
        "overload",
        "room",
    )

    def __init__(self, link: int, id: int, keys: int) -> None:
        self._link = link
        self._id = id
        self._missing = keys
        self._records: list[bytes | None] = [None] * keys
        self._answered: list[str] = []
        self._which = bytearray(keys)
        self.held_bytes = 0
        self.overload: Failure | None = None
        self.room = READ_MANY_BYTES_MAX  # that the records read so far leave in the answer

    def found(self, indices: Sequence[int], records: Sequence[bytes | None], nodes: str) -> int:
        """Gives how many bytes they are."""
        before = self.held_bytes
        group = len(self._answered)
        self._answered.append(nodes)
        for index, record in zip(indices, records, strict=True):
            if record is not None:
                self._records[index] = record
                self._which[index] = group
                self.held_bytes += len(record)
        return self.held_bytes - before

    def leave_out(self, keys: int, out: Outbox) -> bool:
        """Nothing more will come for so many. True when this was the end of it."""
        self._missing -= keys
        if not keys or self._missing:
            return False
        if self.overload is not None and not self._answered:
            self.failed(self.overload, out)
        else:
            answered, which = ";".join(self._answered), bytes(self._which)
            answer = FoundMany(self._id, pack_row(self._records), answered, which)
            out.replies.append((self._link, answer))
        return True

    def failed(self, failure: Failure, out: Outbox) -> None:
        LinkSink(self._link, self._id).failed(failure, out)


def _common(one: list[bytes | None], other: list[bytes | None]) -> list[bytes | None]:
    """What both say, None where they differ."""
    return [mine if mine == theirs else None for mine, theirs in zip(one, other, strict=True)]
