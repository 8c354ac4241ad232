"""Read a record from R of its owners; bring those that were behind up to date.

The node at hand reads its own copy, and R - 1 others are asked; a further owner is asked when one cannot
answer, and one more whenever an answer is late (hedged reads: Dean, Barroso, The Tail at Scale, 2013). Where
too few owners live, can be reached or speak, fallbacks are asked, which answer with what they keep of the key
as hints; their "nothing" is an answer, too. They count towards R and never towards PR. An overloaded owner is
no reason to ask them: it would hide what it has. An owner that is not complete again yet says so
(`recovery`): its answer is merged with the others, but counts as a fallback's would, and only where too few
complete owners are left.

Equal bytes are answered without being decoded. Different ones are merged, the merge is answered and sent to
those that were behind (read repair, Dynamo §5). Owners that were asked but answer after the verdict are
compared too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dyno.causality.context import Malformed
from dyno.causality.record import DotConflict, Record
from dyno.errors import Code
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.quorum import Tally, Verdict
from dyno.protocol.replica import Replica
from dyno.protocol.sink import Failure, ReadSink
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, STATUS_RING, STATUS_WEAK, Read, Scan, Store

_RETRY_AFTER_S = 0.1  # where owners are overloaded: they answer at once, so this is a pause for them


class GetCoordinator:
    """One read. owners: the primaries in preference order, those in front that should be asked first. `me` is
    the first of them, or owns no copy and stands in for those that cannot be reached. dead: how many of the
    last ones are thought dead, so that fallbacks are asked before them. needed, primaries: R and PR.
    fallbacks: who else may be asked, in order; patience_s: only after so long, if owners are merely silent.
    ring: the fingerprint that the owners were planned with."""

    __slots__ = (
        "_answers",
        "_asked",
        "_dead",
        "_fallbacks",
        "_incomplete",
        "_key",
        "_late",
        "_me",
        "_needed",
        "_overloaded",
        "_owners",
        "_patience_s",
        "_peers",
        "_primaries",
        "_replica",
        "_sink",
        "_tally",
        "_weak",
        "answered",
        "began",
        "deadline",
        "id",
        "overdue",
        "ring",
        "slot",
    )

    def __init__(
        self,
        *,
        id: int,
        slot: bytes,
        key: bytes,
        owners: Sequence[str],
        needed: int,
        ring: int,
        deadline: float,
        me: str,
        replica: Replica,
        peers: Peers,
        sink: ReadSink,
        primaries: int = 0,
        dead: int = 0,
        fallbacks: Sequence[str] = (),
        patience_s: float = 0.0,
    ) -> None:
        self.id = id
        self.deadline = deadline
        self.answered = False
        self.began = 0.0  # these two are kept by `Hedges`: when its questions were asked,
        self.overdue = False  # and whether it has been found late
        self.slot = slot
        self.ring = ring
        self._key = key
        self._owners = owners
        self._needed = needed
        self._me = me
        self._replica = replica
        self._peers = peers
        self._sink = sink
        self._answers: dict[str, bytes] = {}
        self._asked: dict[str, bool] = {me: True}  # owner -> an answer is on its way
        self._late = False  # whether answers are so late that any owner may be asked
        self._primaries = primaries
        self._dead = dead
        self._fallbacks = fallbacks
        self._patience_s = patience_s
        self._tally = Tally(needed=needed, candidates=len(owners), primaries=primaries)
        self._overloaded = False  # whether an owner said so
        self._weak: dict[str, bytes] = {}  # answers that do not count yet
        self._incomplete: dict[str, bool] = {}  # owners whose answers are weak

    def start(self, out: Outbox) -> None:
        """Ask the others; `answer` for `me` follows as soon as its own copy is read."""
        self._ask_more(out)

    def answer(self, node: str, status: int, record: bytes, now: float, out: Outbox) -> bool:
        """A replica's answer; a second one from the same node changes nothing. True: the node has another
        view of the ring and is worth asking again after a moment."""
        if not self._asked.get(node):
            return False
        self._asked[node] = False
        if status == STATUS_OK:
            self._take(node, record, out)
        elif status == STATUS_WEAK:
            self._weak[node] = record
            self._incomplete[node] = True
            self._tally.cannot(node)
        elif node not in self._owners:
            pass  # a fallback that cannot answer is not asked again
        elif status != STATUS_RING:
            self._overloaded = self._overloaded or status == STATUS_OVERLOADED
            self._tally.cannot(node)
        if not self.answered:
            self._judge(now, out)
        elif status in (STATUS_OK, STATUS_WEAK):
            self._repair(out)
        return status == STATUS_RING and node in self._owners and not self.answered

    def lost(self, node: str, out: Outbox) -> None:
        """The link to a node broke: ask another one, and that one again when its link is back."""
        if self._asked.get(node):
            self._asked[node] = False
            if not self.answered:
                self._ask_more(out)

    def retry(self, node: str, out: Outbox) -> None:
        """A node that could not be asked, or was about to learn the ring, may be asked (again)."""
        wanted = self._late or self._waiting() < self._needed - len(self._tally.who)
        if wanted and not self.answered and self._may_be_asked(node):
            self._ask(node, out)
        elif node in self._fallbacks and not self.answered:
            self._ask_more(out)

    def waiting_for(self) -> list[str]:
        """The others that were asked and have not answered."""
        return [node for node, waits in self._asked.items() if waits and node != self._me]

    def hedge(self, out: Outbox, now: float = math.inf) -> bool:
        """Answers are late: ask one owner more, and then fallbacks. False: nobody is left to ask."""
        if self.answered:
            return False
        self._late = True
        if any(self._ask(node, out) for node in self._owners if self._may_be_asked(node)):
            return True
        left = self._spares()
        return bool(left) and (now < self.began + self._patience_s or self._ask(left[0], out))

    def replan(self, out: Outbox) -> None:
        """The ring that this was planned with is not the ring any more."""
        if not self.answered:
            self.answered = True
            self._sink.failed(Failure(Code.RING, "the ring changed during the read"), out)

    def expire(self, now: float, out: Outbox) -> None:
        if self.answered:
            return
        if self._weak:
            self._count_the_weak(out)
            self._judge(now, out)
        if not self.answered:
            self._fail(out, " in time")

    @property
    def primary_names(self) -> Sequence[str]:
        return self._owners

    @property
    def finished(self) -> bool:
        """Answered, and nobody who was asked is still to answer."""
        return self.answered and not self._waiting()

    # ── inside ──

    def _take(self, node: str, record: bytes, out: Outbox) -> None:
        self._answers[node] = record
        self._count(node)

    def _count(self, node: str) -> None:
        """An owner that is complete counts as a primary, any other node towards R alone."""
        if node in self._owners and node not in self._incomplete:
            self._tally.did(node)
        else:
            self._tally.stood_in(node)

    def _waiting(self) -> int:
        return sum(self._asked.values())

    def _ask_more(self, out: Outbox) -> None:
        """Have as many answers under way as are still missing, as far as owners can be reached."""
        missing = self._needed - len(self._tally.who) - self._waiting()
        if missing <= 0:
            return
        live = len(self._owners) - self._dead
        missing = self._ask_some(self._owners[:live], missing, out)
        if missing > 0 and self._fallbacks:
            missing = self._ask_some(self._spares(), missing, out)
        if missing > 0 and self._dead:
            self._ask_some(self._owners[live:], missing, out)

    def _ask_some(self, nodes: Sequence[str], missing: int, out: Outbox) -> int:
        """How many are missing still."""
        for node in nodes:
            if missing <= 0:
                break
            if node not in self._asked and self._ask(node, out):
                missing -= 1
        return missing

    def _spares(self) -> Sequence[str]:
        """The fallbacks that may be asked now, as many as there is something to be counted from."""
        most = self._needed - self._primaries
        if self._overloaded or most <= 0 or not self._fallbacks:
            return ()
        asked, answers = self._asked, self._answers
        most -= sum(1 for node in asked if node not in self._owners and (asked[node] or node in answers))
        can_ask = self._peers.can_ask
        return [node for node in self._fallbacks if node not in asked and can_ask(node)][: max(0, most)]

    def _may_be_asked(self, node: str) -> bool:
        return (
            node in self._owners
            and not self._asked.get(node)
            and node not in self._answers
            and node not in self._tally.no
        )

    def _ask(self, node: str, out: Outbox) -> bool:
        if self._peers.send(node, self._question(), out):
            self._asked[node] = True
            return True
        return False

    def _question(self) -> Read | Scan:
        return Read(self.id, self.ring, self.slot)

    def _judge(self, now: float, out: Outbox) -> None:
        if self._weak and self._sound_left() < self._needed:
            self._count_the_weak(out)
        if self._fallbacks:
            self._tally.may_stand_in = self._may_stand_in()
        verdict = self._tally.verdict
        if verdict is Verdict.MET:
            self.answered = True
            self._met(now, out)
        elif verdict is Verdict.LOST:
            self._fail(out, "")
        else:
            self._ask_more(out)

    def _sound_left(self) -> int:
        """How many owners have answered, or may, that are complete."""
        return len(self._tally.yes) + sum(
            self._asked.get(node, False) or (self._may_be_asked(node) and self._peers.can_ask(node))
            for node in self._owners
        )

    def _count_the_weak(self, out: Outbox) -> None:
        """Too few others can answer."""
        weak, self._weak = self._weak, {}
        for node, record in weak.items():
            self._take(node, record, out)

    def _may_stand_in(self) -> int:
        """How many fallbacks more may answer."""
        waiting = sum(1 for node, waits in self._asked.items() if waits and node not in self._owners)
        return waiting + len(self._spares())

    def _met(self, now: float, out: Outbox) -> None:
        merged = self._merged(out)
        if merged is None:
            text = f"the copies on {', '.join(self._answers)} contradict each other"
            self._sink.failed(Failure(Code.STORAGE, text, self._needed), out)
            return
        stand_ins = self._tally.stand_ins
        if self._incomplete:
            stand_ins = [node for node in stand_ins if node not in self._owners]
        self._sink.found(merged, list(self._answers), now, out, stand_ins)
        self._spread(merged, out)

    def _fail(self, out: Outbox, how: str) -> None:
        self.answered = True
        nodes = tuple(self._answers)
        silent = ", ".join(name for name in self._owners if name not in self._answers)
        text = f"{len(nodes)} of {self._needed} needed nodes answered the read{how}; no answer from {silent}"
        if self._incomplete:
            text += f"; not complete again yet: {', '.join(self._incomplete)}"
        if self._overloaded:
            text += ", some of which are overloaded"
            failure = Failure(Code.OVERLOADED, text, self._needed, nodes, retry_after_s=_RETRY_AFTER_S)
        else:
            failure = Failure(Code.QUORUM, text, self._needed, nodes)
        self._sink.failed(failure, out)

    def _merged(self, out: Outbox) -> bytes | None:
        """One record out of all answers; None where a dot has two values (already reported)."""
        answers = self._answers | self._weak if self._weak else self._answers
        first, *others = answers.values()
        if all(other == first for other in others):
            return first
        merged: Record | None = None
        try:
            for packed in answers.values():
                if packed:
                    record = Record.unpack(packed)
                    merged = record if merged is None else merged.merge(record)
        except (Malformed, DotConflict) as error:
            out.events.append(("error", f"replicas of key {self._key!r} contradict each other: {error}"))
            return None
        assert merged is not None  # at least one answer differed from an empty one
        return merged.pack()

    def _repair(self, out: Outbox) -> None:
        merged = self._merged(out)
        if merged is not None:
            self._spread(merged, out)

    def _spread(self, merged: bytes, out: Outbox) -> None:
        """Read repair: send the merge to those whose answer was behind it. No answer is wanted. Fallbacks
        keep what they were given."""
        for node, record in (*self._answers.items(), *self._weak.items()):
            if record == merged or node not in self._owners:
                continue
            (self._answers if node in self._answers else self._weak)[node] = merged
            self._replica.mended.read_repairs += 1
            if node == self._me:
                try:
                    self._replica.merge(self.slot, self._key, merged)
                except Refusal as refusal:
                    if refusal.is_news:
                        out.events.append(("warning", f"read repair of my own copy: {refusal}"))
            else:
                self._peers.send(node, Store(0, self.ring, self.slot, self._key, merged), out)
