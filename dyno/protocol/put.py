"""Copy a record to its owners; answer once W of them hold it durably.

The replica at hand minted the dot and has the merged record on its way to the disk; the others get the
same record, merge and store it (DESIGN, A put and a get). The local commit and the copies run side by
side, so a write costs one disk and one round trip at once. An owner whose link is down gets the record
when the link is back in time; one that refused for its view of the ring is asked again.

A write that fails may have been kept by somebody: its failure says indeterminate. Deletes copy a record
without values in just the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from dyno.errors import Code
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.quorum import Tally, Verdict
from dyno.protocol.sink import Failure, WriteSink
from dyno.wire.messages import STATUS_OK, STATUS_RING, STATUS_STORAGE, Store


class PutCoordinator:
    """One write on its way to its owners. context: packed, what the client is given at the end."""

    __slots__ = (
        "_context",
        "_me",
        "_needed",
        "_others",
        "_peers",
        "_refusals",
        "_sent",
        "_sink",
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
    ) -> None:
        self.id = store.id
        self.deadline = deadline
        self.finished = False
        self._store = store
        self._context = context
        self._me = me
        self._others = [name for name in owners if name != me]
        self._needed = needed
        self._peers = peers
        self._sink = sink
        self._sent: dict[str, bool] = dict.fromkeys(self._others, False)
        self._refusals: dict[str, int] = {}  # owner -> status
        self._tally = Tally(needed=needed, candidates=len(owners))

    def start(self, out: Outbox) -> None:
        """The owner at hand stores by itself and calls `stored` for `me` after its commit."""
        for name in self._others:
            self._sent[name] = self._peers.send(name, self._store, out)

    def stored(self, node: str, status: int, now: float, out: Outbox) -> bool:
        """A replica has it on disk, or says why not. True: worth asking again after a moment."""
        if self.finished or (node != self._me and node not in self._sent):
            return False
        if status == STATUS_OK:
            self._tally.did(node)
        elif status == STATUS_RING:
            was_sent = self._sent[node]
            self._sent[node] = False
            return was_sent  # if not, it is going to be asked again already
        else:
            self._refusals[node] = status
            self._tally.cannot(node)
        verdict = self._tally.verdict
        if verdict is Verdict.MET:
            self.finished = True
            self._sink.done(self._context, self._tally.yes, out)
        elif verdict is Verdict.LOST:
            self._fail(out, "")
        return False

    def lost(self, node: str) -> None:
        """The link broke before an answer came; storing twice is harmless, so it is sent again later."""
        if node in self._sent and node not in self._tally.yes and node not in self._refusals:
            self._sent[node] = False

    def retry(self, node: str, out: Outbox) -> None:
        if not self.finished and self._sent.get(node) is False and node not in self._tally.yes:
            self._sent[node] = self._peers.send(node, self._store, out)

    def expire(self, out: Outbox) -> None:
        if not self.finished:
            self._fail(out, " in time")

    def _fail(self, out: Outbox, how: str) -> None:
        self.finished = True
        nodes = tuple(self._tally.yes)
        refusals = self._refusals.values()
        if len(refusals) > len(self._others) and all(status == STATUS_STORAGE for status in refusals):
            text = "no owner of the key can write to its disk"
            self._sink.failed(Failure(Code.STORAGE, text, self._needed), out)
            return
        silent = [name for name in (self._me, *self._others) if name not in self._tally.yes]
        text = f"{len(nodes)} of {self._needed} needed nodes stored the write{how}; "
        text += f"not on {', '.join(silent)}"
        self._sink.failed(Failure(Code.QUORUM, text, self._needed, nodes, indeterminate=True), out)
