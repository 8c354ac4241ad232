"""Pass a request on to a node that owns the key, and its answer back.

Only a primary coordinates, so a node that was asked for a key of others hands the request on, once: the
request is marked, and a marked one is never handed on again. The answer goes back as it is.
"""

from __future__ import annotations

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.wire.messages import ClientAnswer, Delete, Failed, Get, ListKeys, Put


class Forwarding:
    """One request under way at another node. needed: how many owners must do it. owners: whom to try, best
    first."""

    __slots__ = ("_link", "_needed", "_owners", "_peers", "_request", "_target", "deadline", "finished", "id")

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
    ) -> None:
        self.id = id
        self.deadline = deadline
        self.finished = False
        self._link = link
        self._request = request
        self._needed = needed
        self._owners = owners
        self._peers = peers
        self._target = ""

    def start(self, out: Outbox) -> None:
        while self._owners:
            target = self._owners.pop(0)
            if self._peers.send(target, self._request._replace(id=self.id, forwarded=True), out):
                self._target = target
                return
        self._fail(out, "no owner of the key can be reached", indeterminate=False)

    def answer(self, node: str, answer: ClientAnswer, out: Outbox) -> None:
        if not self.finished and node == self._target:
            self.finished = True
            out.replies.append((self._link, answer._replace(id=self._request.id)))

    def lost(self, node: str, out: Outbox) -> None:
        """The link broke: a read is asked elsewhere; a write may have been done, and is not done twice."""
        if self.finished or node != self._target:
            return
        if isinstance(self._request, Get | ListKeys):
            self.start(out)
        else:
            self._fail(out, f"the link to {node}, which had the write, broke", indeterminate=True)

    def expire(self, out: Outbox) -> None:
        if not self.finished:
            is_write = not isinstance(self._request, Get | ListKeys)
            self._fail(out, f"{self._target} did not answer in time", indeterminate=is_write)

    def _fail(self, out: Outbox, text: str, *, indeterminate: bool) -> None:
        self.finished = True
        failed = Failed(self._request.id, str(Code.QUORUM), text, self._needed, "", indeterminate, 0, b"")
        out.replies.append((self._link, failed))
