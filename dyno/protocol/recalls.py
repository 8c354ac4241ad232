"""Ask the owners of a key whether they know a write that is sent again.

A put that was sent before may have been done by anybody who owns the key, under a dot that only they know. So
before it is done here all of them that can be asked are. The first that knows it decides: with its record
comes all that the write has become since. Else it takes the answers of all, but a silent one is not waited
for longer than `patience_s`; it may know the write all the same.

In: questions, answers, links that break, the time. Out: one word to whoever asked: the answer that knows, or
None and whether everybody said that they do not. All wait equally long, so they end in the order in which
they began.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from dyno.causality.dots import ACTOR_BYTES, Dot
from dyno.causality.record import Record
from dyno.wire.messages import STATUS_OK, Recall, Recalled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers

# (who knows it, or None; whether all others said that they do not; now; out)
Then: TypeAlias = Callable[[Recalled | None, bool, float, "Outbox"], None]


class _Question:
    """asked: who has not answered yet. certain: whether all others did, and know nothing."""

    __slots__ = ("asked", "certain", "id", "then", "until")

    def __init__(self, id: int, until: float, then: Then) -> None:
        self.id = id
        self.until = until
        self.then = then
        self.asked: list[str] = []
        self.certain = True


class Recalls:
    def __init__(self, *, peers: Peers, patience_s: float) -> None:
        self._peers = peers
        self._patience_s = patience_s
        self._last_id = 0
        self._questions: dict[int, _Question] = {}  # by the time until which they wait
        self._ripe: list[_Question] = []  # nobody is left whose answer could come

    @property
    def under_way(self) -> int:
        return len(self._questions) + len(self._ripe)

    def begin(self, recall: Recall, others: Sequence[str], then: Then, now: float, out: Outbox) -> None:
        """recall: but for its id. others: the owners of the key without this node."""
        self._last_id += 1
        question = _Question(self._last_id, now + self._patience_s, then)
        for node in others:
            if self._peers.send(node, recall._replace(id=question.id), out):
                question.asked.append(node)
            else:
                question.certain = False
        if question.asked:
            self._questions[question.id] = question
        else:
            then(None, question.certain, now, out)

    def answer(self, node: str, message: Recalled, now: float, out: Outbox) -> None:
        """One that is late or doubled means nothing. Raises ValueError for what no node sends."""
        knows = bool(message.actor)
        if knows:
            _check(message)
        question = self._questions.get(message.id)
        if question is None or node not in question.asked:
            return
        question.asked.remove(node)
        if message.status != STATUS_OK:
            question.certain = False
            knows = False
        if knows or not question.asked:
            del self._questions[question.id]
            question.then(message if knows else None, question.certain, now, out)

    def link_down(self, node: str) -> None:
        for question in list(self._questions.values()):
            if node in question.asked:
                question.asked.remove(node)
                question.certain = False
                if not question.asked:
                    self._ripe.append(self._questions.pop(question.id))

    def tick(self, now: float, out: Outbox) -> None:
        ripe, self._ripe = self._ripe, []
        while self._questions and (question := next(iter(self._questions.values()))).until <= now:
            ripe.append(self._questions.pop(question.id))
        for question in ripe:
            question.then(None, question.certain and not question.asked, now, out)

    def deadline(self) -> float:
        """Infinity for none; a time that is over for what can end now."""
        if self._ripe:
            return self._ripe[0].until - self._patience_s  # when it began
        return next(iter(self._questions.values())).until if self._questions else math.inf


def dot_of(message: Recalled) -> Dot:
    """Of the write that an answer knows."""
    return Dot(message.actor, message.counter)


def _check(message: Recalled) -> None:
    if len(message.actor) != ACTOR_BYTES or not 1 <= message.counter < 1 << 64:
        raise ValueError("a write under no dot")
    if not Record.unpack(message.record).context.covers(dot_of(message)):
        raise ValueError("a write that its own record does not cover")
