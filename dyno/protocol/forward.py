"""Pass a request on to a node that owns the key, and its answer back.

Only a primary coordinates, so a node that was asked for a key of others hands the request on, once: the
request is marked, and a marked one is never handed on again. The answer goes back as it is.

Where the link to that node breaks another owner is asked, and but for a page of keys also where it says
nothing for long. A write may have been done then; so a put says that it is sent again, and whoever gets it
asks first whether it was done. From then on a failure is indeterminate, whatever the second node knows of
itself; only its word that the record is not at the context that was given holds, for it has asked the others.
The first node asked nobody: what it says of a failure counts for nothing once another one has the put as
well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.wire.messages import ClientAnswer, Delete, Failed, Get, ListKeys, Put

StandIn: TypeAlias = Callable[[float, Outbox], bool]  # False: it is too late for that


class Forwarding:
    """One request under way at another node. needed: how many owners must do it. owners: whom to try, best
    first. stand_in: what may be done instead when none of them answers; whoever calls it sets `finished`, or
    lets it expire."""

    __slots__ = (
        "_asked",
        "_doubtful",
        "_link",
        "_needed",
        "_owners",
        "_peers",
        "_request",
        "_unmarked",
        "deadline",
        "finished",
        "id",
        "is_write",
        "stand_in",
    )

    def __init__(
        self,
        *,
        id: int,
        link: int,
        request: Get | Put | Delete | ListKeys,
        needed: int,
        owners: list[str],
        deadline: float,
        peers: Peers,
        stand_in: StandIn | None = None,
    ) -> None:
        self.id = id
        self.deadline = deadline
        self.finished = False
        self.is_write = isinstance(request, Put | Delete)
        self.stand_in = stand_in
        self._link = link
        self._request = request
        self._needed = needed
        self._owners = owners
        self._peers = peers
        self._asked: list[str] = []  # those whose answer may still come
        self._doubtful = False  # somebody may have done the write whose answer did not come
        self._unmarked = ""  # who has a put that does not say that it was sent before, while others have it

    def start(self, out: Outbox) -> None:
        if not self._ask_next(out):
            self._fail(out, "no owner of the key can be reached", indeterminate=False)

    def answer(self, node: str, answer: ClientAnswer, out: Outbox) -> None:
        if self.finished or node not in self._asked:
            return
        if node == self._unmarked and isinstance(answer, Failed):
            self._asked.remove(node)
            if not self._asked:
                text = (
                    f"the link to a node which had the write broke, and {node} refused it: {answer.message}"
                )
                self._fail(out, text, indeterminate=True)
            return
        self.finished = True
        if self._doubtful and isinstance(answer, Failed) and answer.code != Code.CONFLICT:
            answer = answer._replace(indeterminate=True)
        out.replies.append((self._link, answer._replace(id=self._request.id)))

    def lost(self, node: str, out: Outbox) -> None:
        """The link broke."""
        if self.finished or node not in self._asked:
            return
        self._asked.remove(node)
        self._doubtful = self.is_write
        if self._asked or self._ask_next(out):
            return
        if self.is_write:
            self._fail(out, f"the link to {node}, which had the write, broke", indeterminate=True)
        else:
            self._fail(out, "no owner of the key can be reached", indeterminate=False)

    def overdue(self, out: Outbox) -> bool:
        """No answer for long. True: it was given to one more owner, who may be overdue as well."""
        if self.finished or isinstance(self._request, ListKeys):
            return False
        self._doubtful = self.is_write
        return self._ask_next(out)

    def expire(self, out: Outbox) -> None:
        if not self.finished:
            silent = ", ".join(self._asked)
            self._fail(out, f"{silent} did not answer in time", indeterminate=self.is_write)

    def _ask_next(self, out: Outbox) -> bool:
        """False: nobody is left."""
        request = self._request._replace(id=self.id, forwarded=True)
        if self._doubtful and isinstance(request, Put):
            request = request._replace(again=True)
        while self._owners:
            target = self._owners.pop(0)
            if self._peers.send(target, request, out):
                if self._asked and isinstance(self._request, Put) and not self._request.again:
                    self._unmarked = self._unmarked or self._asked[0]
                self._asked.append(target)
                return True
        return False

    def _fail(self, out: Outbox, text: str, *, indeterminate: bool) -> None:
        self.finished = True
        failed = Failed(self._request.id, str(Code.QUORUM), text, self._needed, "", indeterminate, 0, b"")
        out.replies.append((self._link, failed))
