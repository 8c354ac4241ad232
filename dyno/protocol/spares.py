"""What a write can fall back on where a primary does not take it: other nodes, and in the end this one.

In: a write and the primary that it could not reach. Out: a `StoreHint` to the next fallback in the
preference list that lives, is linked and does not take part in this write yet; where there is none, a hint
that this node keeps itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, TypeAlias

from dyno.protocol.group_commit import Refusal
from dyno.wire.messages import STATUS_OK, StoreHint

if TYPE_CHECKING:
    from dyno.protocol.generations import Generations
    from dyno.protocol.handoff import Handoff
    from dyno.protocol.hints import Hints
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.wire.messages import Store

# (status, now, out): once this node's disk has a hint, or never will.
Ended: TypeAlias = Callable[[int, float, "Outbox"], None]


class Spares:
    """Shared by all writes of one node."""

    def __init__(
        self, *, hints: Hints, handoff: Handoff, generations: Generations, planner: Planner, peers: Peers
    ) -> None:
        self._hints = hints
        self._handoff = handoff
        self._generations = generations
        self._planner = planner
        self._peers = peers

    def is_live(self, name: str) -> bool:
        return self._planner.is_live(name)

    def ask_next(
        self, store: Store, target: str, used: Collection[str], out: Outbox, *, needed: bool
    ) -> str | None:
        """The fallback that is asked to keep this for the target; None when there is none. used: those that
        are asked for this write already. needed: whether the write counts on it."""
        for name in self._planner.fallbacks(store.slot):
            if name not in used and self._peers.can_ask(name):
                id, ring, slot, key, record = store
                generation = self._generations.stamp(slot)
                hint = StoreHint(id, ring, slot, key, record, target, generation, needed)
                self._peers.send(name, hint, out)
                return name
        return None

    def keep(self, store: Store, target: str, ended: Ended, *, needed: bool) -> int | None:
        """Keep it here. None: `ended` is told how that went; else the status at once."""
        try:
            batch = self._hints.keep(
                target,
                store.slot,
                store.key,
                store.record,
                generation=self._generations.stamp(store.slot),
                needed=needed,
            )
        except Refusal as refusal:
            return refusal.status
        if batch is None:
            return STATUS_OK
        batch.own |= needed
        batch.waiters.append(ended)
        self._handoff.kept(target, batch)
        return None
