"""One question to many nodes, bounded in time: who answered what, and who did not.

In go the nodes to ask, their answers, and links that break. Out come the answers by name, once all who could
be asked have answered or been lost, or when the time is over. A node's first answer counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.wire.messages import PeerMessage

A = TypeVar("A")


class Survey(Generic[A]):
    """id: of all its questions. answers: by name. owing: who was asked and has not answered. lost: who could
    not be asked, or not until it answered."""

    __slots__ = ("answers", "deadline", "id", "lost", "owing")

    def __init__(self, id: int, *, deadline: float) -> None:
        self.id = id
        self.deadline = deadline
        self.answers: dict[str, A] = {}
        self.owing: dict[str, None] = {}
        self.lost: dict[str, None] = {}

    def ask(self, names: Iterable[str], question: PeerMessage, peers: Peers, out: Outbox) -> None:
        for name in names:
            if peers.send(name, question, out):
                self.owing[name] = None
            else:
                self.lost[name] = None

    def take(self, name: str, answer: A) -> None:
        if name in self.owing:
            del self.owing[name]
            self.answers[name] = answer

    def link_down(self, name: str) -> None:
        """Whoever was asked over it will not answer any more."""
        if name in self.owing:
            del self.owing[name]
            self.lost[name] = None

    def is_over(self, now: float) -> bool:
        return not self.owing or self.deadline <= now
