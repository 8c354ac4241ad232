"""How a request is planned: the ring as it is now, how its owners stand, how many of them it takes.

In: the ring, whenever it changes, what is known of buckets, and what membership says of who is alive. Out:
for the owners of a key whom to ask first, how many answers a quorum comes to, and why it cannot be met,
before anything is done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.errors import Code
from dyno.protocol import quorum
from dyno.protocol.sink import Failure
from dyno.wire.messages import DEFAULT, QUORUM, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dyno.buckets.properties import Properties
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.ring import Ring
    from dyno.protocol.sink import AnySink
    from dyno.wire.messages import Get, GetMany, ListKeys

    Request: TypeAlias = Get | GetMany | ListKeys | Put | Delete


class Intent(NamedTuple):
    """What a request comes to: a key, its slot, and the nodes that own it under the ring `ring`."""

    key: bytes
    slot: bytes
    owners: tuple[str, ...]
    ring: int


class Standing(NamedTuple):
    """live: how many owners are alive or suspect. alive: those that are surely alive, this node left out.
    others: the owners but this node: those alive, then the suspects, then the dead, in preference order
    each. readers: this node, then those."""

    live: int
    alive: tuple[str, ...]
    others: tuple[str, ...]
    readers: tuple[str, ...]


class Planner:
    """me: this node's name. ring: None until it joined. serving: properties of buckets by name, None while
    nobody can say, for the reason that why_not(name) gives; others have the defaults."""

    def __init__(
        self,
        *,
        me: str,
        membership: Membership,
        serving: Mapping[str, Properties | None],
        why_not: Callable[[str], str],
    ) -> None:
        self.ring: Ring | None = None
        self.serving = serving
        self.why_not = why_not
        self._me = me
        self._membership = membership
        self._standings: dict[tuple[str, ...], Standing] = {}  # at most one per partition of the ring
        self._standings_version = -1

    def is_planned_with(self, fingerprint: int) -> bool:
        """Whether another node that planned with the ring of this fingerprint planned with ours."""
        return self.ring is not None and self.ring.fingerprint == fingerprint

    def standing(self, owners: tuple[str, ...]) -> Standing:
        """How owners stand now. Every request asks and the answer changes rarely, so it is kept."""
        version = self._membership.version
        if version != self._standings_version:
            self._standings_version = version
            self._standings.clear()
        standing = self._standings.get(owners)
        if standing is None:
            standing = self._standings[owners] = self._stand(owners)
        return standing

    def _stand(self, owners: tuple[str, ...]) -> Standing:
        is_alive, is_live = self._membership.is_alive, self._membership.is_live
        others = [name for name in owners if name != self._me]
        others.sort(key=lambda name: 0 if is_alive(name) else 1 if is_live(name) else 2)
        alive = tuple(filter(is_alive, others))
        return Standing(sum(map(is_live, owners)), alive, tuple(others), (self._me, *others))

    def needed(self, owners: tuple[str, ...], request: Request) -> int:
        """R of what reads, W of a put or delete, as a count. Raises InvalidRequest."""
        if isinstance(request, Put | Delete):
            return self.count(request.bucket, owners, "w", request.w, request.pw)
        return self.count(request.bucket, owners, "r", request.r, request.pr)

    def count(self, bucket: str, owners: tuple[str, ...], what: str, answers: int, primaries: int) -> int:
        """R or W as a count. Without fallbacks every answer is a primary's: PR and PW only raise it."""
        properties = self.serving.get(bucket) or DEFAULTS
        default = properties.r if what == "r" else properties.w
        if answers == DEFAULT == primaries and default == QUORUM:
            return len(owners) // 2 + 1
        resolve = partial(quorum.count, copies=properties.n, owners=len(owners))
        return max(
            resolve(answers, what=what, default=default, least=1),
            resolve(primaries, what=f"p{what}", default=0, least=0),
        )

    def shortage(self, owners: tuple[str, ...], needed: int) -> Failure | None:
        """Why a quorum of these owners cannot be met; None when it can. Asked before anything is done."""
        live = self.standing(owners).live
        if live >= needed:
            return None
        text = f"{needed} owners of the key are needed, {live} of {len(owners)} are alive"
        dead = [name for name in owners if not self._membership.is_live(name)]
        if dead:
            text += f"; dead: {', '.join(dead)}"
        return Failure(Code.QUORUM, text, needed)

    def meets(self, owners: tuple[str, ...], needed: int, sink: AnySink, out: Outbox) -> bool:
        """Whether the quorum can be met, as far as is known beforehand; if not, the sink hears why. A quorum
        that cannot be met is not begun."""
        shortage = self.shortage(owners, needed)
        if shortage is not None:
            sink.failed(shortage, out)
        return shortage is None
