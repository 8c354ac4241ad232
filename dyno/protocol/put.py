"""Copy a record to its owners; answer once W nodes hold it durably.

The replica at hand minted the dot and has the merged record on its way to the disk; the others get the
same record, merge and store it (DESIGN, A put and a get). The local commit and the copies run side by
side, so a write costs one disk and one round trip at once. One that refused for its view of the ring is
asked again, and so is one whose link comes up while the write is not met.

For a primary that is dead, cannot be reached, refuses or stays silent the next fallback keeps the record as a
hint, which counts towards W but not PW; where no fallback is left the node at hand keeps it, and that counts
for nothing. After its client was answered a write goes on until every primary has it or a hint is kept for
it (*settled*), or its time is over. A primary that is merely slow then gets most of that time, and one that
is overloaded no hint at all: where there is too much load, a hint is more of it, and an exchange will do.

A write that fails may have been kept by somebody: its failure says indeterminate. Deletes copy a record
without values in just the same way. A node that owns no copy keeps its part as a hint, too (`substitute`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from dyno.errors import Code
from dyno.protocol.quorum import Tally, Verdict
from dyno.protocol.sink import Failure
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, STATUS_RING, STATUS_STORAGE, Store

if TYPE_CHECKING:
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.sink import WriteSink
    from dyno.protocol.spares import Spares

_ROUNDS: Final = 3  # how often fallbacks are asked for the silent while the write is not met


class PutCoordinator:
    """One write on its way to its owners. context: packed, what the client is given at the end. needed,
    primaries: W and PW. patience_s: how long before the deadline a hint is made for who is merely slow,
    once the client was answered."""

    __slots__ = (
        "_context",
        "_copies",
        "_cover",
        "_failed",
        "_looks",
        "_me",
        "_needed",
        "_others",
        "_owns",
        "_patience_s",
        "_peers",
        "_primaries",
        "_refusals",
        "_sent",
        "_sink",
        "_spares",
        "_store",
        "_tally",
        "deadline",
        "finished",
        "id",
    )

    def __init__(
        self,
        *,
        store: Store,
        context: bytes,
        owners: Sequence[str],
        needed: int,
        deadline: float,
        me: str,
        peers: Peers,
        sink: WriteSink,
        primaries: int = 0,
        spares: Spares | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self.id = store.id
        self.deadline = deadline
        self.finished = False
        self._store = store
        self._context = context
        self._me = me
        self._others = [name for name in owners if name != me]
        self._copies = len(owners)
        self._owns = len(self._others) < len(owners)
        self._needed = needed
        self._primaries = primaries
        self._peers = peers
        self._sink = sink
        self._spares = spares
        self._patience_s = patience_s
        self._failed = False
        self._looks = 0
        self._sent: dict[str, bool] = dict.fromkeys(self._others, False)
        self._refusals: dict[str, int] = {}  # owner -> status
        self._tally = Tally(needed=needed, candidates=self._copies, primaries=primaries)
        self._cover: _Cover | None = None  # most writes need none

    def start(self, out: Outbox, *, all_live: bool = True) -> None:
        """The owner at hand stores by itself and calls `stored` for `me` after its commit. all_live: no owner
        is known to be dead."""
        all_sent = True
        for name in self._others:
            self._sent[name] = sent = self._peers.send(name, self._store, out)
            all_sent = all_sent and sent
        if self._spares is not None and not (all_live and all_sent):
            for name in self._others:
                if not self._sent[name] or not self._spares.is_live(name):
                    self._stand_in_for(name, out)

    def stored(self, node: str, status: int, now: float, out: Outbox) -> bool:
        """A replica has it on disk, or says why not. True: worth asking again after a moment."""
        if node in self._sent or (node == self._me and self._owns):
            if status == STATUS_OK:  # as nearly all are
                self._tally.did(node)
                if not self.finished:
                    self._judge(out)
                return False
            return self._primary_refused(node, status, out)
        cover = self._cover
        if cover is not None and node in cover.asked:
            target = cover.asked.pop(node)
            if status == STATUS_OK:
                cover.kept[target] = node
                self._tally.stood_in(node)
            else:
                self._stand_in_for(target, out)
            self._judge(out)
        return False

    def lost(self, node: str, out: Outbox) -> None:
        """The link broke before an answer came. Storing twice is harmless, so it is sent again when the link
        is back in time; meanwhile somebody else keeps it."""
        if node in self._sent:
            if node not in self._tally.yes and node not in self._refusals:
                self._sent[node] = False
                self._stand_in_for(node, out)
        elif self._cover is not None and node in self._cover.asked:
            self._stand_in_for(self._cover.asked.pop(node), out)
            self._judge(out)

    def retry(self, node: str, out: Outbox) -> None:
        if self._sent.get(node) is not False or node in self._tally.yes or node in self._refusals:
            return
        if not self.finished or (self._spares is not None and not self._is_covered(node)):
            self._sent[node] = self._peers.send(node, self._store, out)

    def look(self, now: float, out: Outbox) -> None:
        """Called again and again until it is settled: who is silent for so long gets somebody who stands in
        for it."""
        if self.settled:
            return
        self._looks += 1
        silent = [name for name in self._others if name not in self._tally.yes]
        if self.finished:
            if self.deadline - now <= self._patience_s:
                for name in silent:
                    self._stand_in_for(name, out)
        elif self._looks > 1 or not self._owns or self._me in self._tally.yes or self._me in self._refusals:
            # else this disk is no faster than theirs: it is the load, and a hint would be more of it
            if self._looks <= _ROUNDS + 1:
                for name in silent:
                    self._stand_in_for(name, out, again=True)
            self._judge(out)

    def is_owner(self, node: str) -> bool:
        """Another node than the one at hand."""
        return node in self._sent

    @property
    def bytes(self) -> int:
        """Of the record."""
        return len(self._store.record)

    def expire(self, out: Outbox) -> None:
        if not self.finished:
            self._fail(out, " in time")

    def give_up(self, out: Outbox) -> None:
        """Nobody will look at it any more: leave hints for those who still have nothing."""
        for name in self._others:
            if name not in self._tally.yes:
                self._stand_in_for(name, out)

    @property
    def patient(self) -> bool:
        """Whether a look does nothing before `patience_s` begins."""
        return self.finished or self._looks > _ROUNDS

    @property
    def settled(self) -> bool:
        """Answered, and nothing is left to be done."""
        if not self.finished:
            return False
        done = self._tally.yes
        if self._failed or len(done) == self._copies:
            return True
        if self._cover is None and not self._refusals:
            return False
        return all(
            name in done or self._is_covered(name) or self._is_hopeless(name)
            for name in (*self._others, *((self._me,) if self._owns else ()))
        )

    def kept_here(self, target: str, status: int, out: Outbox) -> None:
        """The hint that this node keeps itself is on its disk, or why it is not. It counts only where this
        node is no owner."""
        cover = self._cover
        assert cover is not None
        if status == STATUS_OK:
            cover.kept[target] = self._me
            if not self._owns:
                self._tally.stood_in(self._me)
        elif self._owns or not self._ask_next(cover, target, out):
            cover.hopeless[target] = True
        self._judge(out)

    # ── inside ──

    def _primary_refused(self, node: str, status: int, out: Outbox) -> bool:
        if status == STATUS_RING:
            was_sent = self._sent[node]
            self._sent[node] = False
            return was_sent  # if not, it is going to be asked again already
        self._refusals[node] = status
        self._tally.cannot(node)
        if not self.finished and status in (STATUS_OVERLOADED, STATUS_STORAGE):
            self._stand_in_for(node, out)
        self._judge(out)
        return False

    def _judge(self, out: Outbox) -> None:
        if self.finished:
            return
        if self._cover is not None:
            self._tally.may_stand_in = len(self._cover.asked) + (not self._owns)
        verdict = self._tally.verdict
        if verdict is Verdict.MET:
            self.finished = True
            self._sink.done(self._context, self._tally.who, out, self._tally.stand_ins)
        elif verdict is Verdict.LOST:
            self._fail(out, "")

    def _stand_in_for(self, target: str, out: Outbox, *, again: bool = False) -> None:
        """Have the next fallback keep it for a primary, unless that is done or under way already. again: even
        if it is under way, for whoever was asked is silent as well."""
        if self._spares is None or self._failed or self._is_covered(target) or self._is_hopeless(target):
            return
        cover = self._cover
        if cover is None:
            cover = self._cover = _Cover()
        is_asked = target in cover.asked.values()
        if target in cover.here or (is_asked and not again):
            return
        # A node that owns nothing of the key is the first of the fallbacks itself, for one of the targets.
        if (self._owns or cover.here) and self._ask_next(cover, target, out):
            return
        if target == self._me or (self._owns and self._refusals.get(target) == STATUS_OVERLOADED):
            cover.hopeless[target] = True  # this disk said no; or all have enough to do, and it would be more
        elif not is_asked and not self._may_answer_yet(target):
            self._keep_here(cover, target, out)

    def _ask_next(self, cover: _Cover, target: str, out: Outbox) -> bool:
        """False: there is no fallback left."""
        assert self._spares is not None
        name = self._spares.ask_next(self._store, target, cover.used, out, needed=not self.finished)
        if name is not None:
            cover.used.append(name)
            cover.asked[name] = target
        return name is not None

    def _may_answer_yet(self, target: str) -> bool:
        """Whether a hint here, which counts for nothing, can wait."""
        assert self._spares is not None
        return (
            self._owns
            and not self.finished
            and self._sent[target]
            and target not in self._refusals
            and self._spares.is_live(target)
        )

    def _keep_here(self, cover: _Cover, target: str, out: Outbox) -> None:
        assert self._spares is not None
        cover.here[target] = True
        needed = not self._owns and not self.finished
        ended = partial(self._ended_here, target)
        status = self._spares.keep(self._store, target, ended, needed=needed)
        if status is not None:
            self.kept_here(target, status, out)

    def _ended_here(self, target: str, status: int, now: float, out: Outbox) -> None:
        self.kept_here(target, status, out)

    def _is_covered(self, target: str) -> bool:
        return self._cover is not None and target in self._cover.kept

    def _is_hopeless(self, target: str) -> bool:
        """Whether nobody can keep it for that primary, or it would not take it from anybody."""
        if self._cover is not None and target in self._cover.hopeless:
            return True
        status = self._refusals.get(target, STATUS_OK)
        if status == STATUS_OVERLOADED:
            return self.finished
        return status not in (STATUS_OK, STATUS_STORAGE)

    def _fail(self, out: Outbox, how: str) -> None:
        self.finished = self._failed = True
        did = self._tally.who
        nodes = tuple(did)
        refusals = self._refusals.values()
        if (
            len(refusals) == self._copies
            and all(status == STATUS_STORAGE for status in refusals)
            and not (self._cover is not None and self._cover.used)
        ):
            text = "no owner of the key can write to its disk"
            self._sink.failed(Failure(Code.STORAGE, text, self._needed), out)
            return
        silent = [name for name in (self._me, *self._others) if name not in did]
        if len(did) < self._needed:
            text = f"{len(did)} of {self._needed} needed nodes stored the write{how}"
        else:
            text = f"{len(self._tally.yes)} of {self._primaries} needed owners stored the write{how}"
        text += f"; not on {', '.join(silent)}"
        self._sink.failed(Failure(Code.QUORUM, text, self._needed, nodes, indeterminate=True), out)


class _Cover:
    """Who stands in for whom. asked: fallback → target, while its answer is awaited. kept: target → who has a
    hint for it on its disk. here: targets for which this node was to keep one. used: all that were asked.
    hopeless: targets for which nobody can keep one."""

    __slots__ = ("asked", "here", "hopeless", "kept", "used")

    def __init__(self) -> None:
        self.asked: dict[str, str] = {}
        self.kept: dict[str, str] = {}
        self.here: dict[str, bool] = {}
        self.hopeless: dict[str, bool] = {}
        self.used: list[str] = []
