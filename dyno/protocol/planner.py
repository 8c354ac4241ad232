"""How a request is planned: the ring as it is now, how its owners stand, how many of them it takes.

In: the ring, whenever it changes, what is known of buckets, and what membership says of who is alive. Out:
for the owners of a key whom to ask first and who may stand in for them, how many answers a quorum comes to,
and why it cannot be met, before anything is done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from dyno.buckets.properties import DEFAULTS
from dyno.errors import Code
from dyno.protocol import quorum
from dyno.protocol.generations import HEAD_BYTES
from dyno.protocol.sink import Failure
from dyno.wire.messages import DEFAULT, QUORUM, STRICT, Delete, Put

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dyno.buckets.properties import Properties
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.ring import Plan, Ring
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
        self._fallbacks: dict[bytes, tuple[str, ...]] = {}  # by partition and n, as slots begin
        self._fallbacks_of = (-1, -1)  # of which ring and membership

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

    def primaries(self, owners: tuple[str, ...], request: Request) -> int:
        """PR of what reads, PW of a put or delete, as a count. Raises InvalidRequest."""
        if isinstance(request, Put | Delete):
            return self.count_primaries(request.bucket, owners, "w", request.w, request.pw)
        return self.count_primaries(request.bucket, owners, "r", request.r, request.pr)

    def count(self, bucket: str, owners: tuple[str, ...], what: str, answers: int, primaries: int) -> int:
        """R or W as a count, which is never below PR or PW."""
        properties = self.serving.get(bucket) or DEFAULTS
        default = properties.r if what == "r" else properties.w
        if answers == DEFAULT == primaries and default == QUORUM:
            return len(owners) // 2 + 1
        resolve = partial(quorum.count, copies=properties.n, owners=len(owners))
        needed = resolve(answers, what=what, default=default, least=1)
        if primaries == STRICT:
            return needed
        return max(needed, resolve(primaries, what=f"p{what}", default=0, least=0))

    def count_primaries(
        self, bucket: str, owners: tuple[str, ...], what: str, answers: int, primaries: int
    ) -> int:
        """PR or PW as a count."""
        if primaries == DEFAULT:
            return 0
        if primaries == STRICT:
            return self.count(bucket, owners, what, answers, STRICT)
        copies = (self.serving.get(bucket) or DEFAULTS).n
        return quorum.count(primaries, what=f"p{what}", copies=copies, owners=len(owners), default=0, least=0)

    def fallbacks(self, slot: bytes) -> tuple[str, ...]:
        """The nodes but this one that may stand in for owners of a slot now: alive or suspect, in order."""
        ring, version = self.ring, self._membership.version
        assert ring is not None, "nothing is planned before"
        if self._fallbacks_of != (ring.fingerprint, version):
            self._fallbacks_of = (ring.fingerprint, version)
            self._fallbacks.clear()
        fallbacks = self._fallbacks.get(slot[:HEAD_BYTES])
        if fallbacks is None:
            is_live, me = self._membership.is_live, self._me
            fallbacks = tuple(name for name in ring.fallbacks(slot) if name != me and is_live(name))
            self._fallbacks[slot[:HEAD_BYTES]] = fallbacks
        return fallbacks

    @property
    def is_deaf(self) -> bool:
        """Whether this node has heard nobody for so long that nobody may hear it."""
        return self._membership.deaf

    def is_live(self, name: str) -> bool:
        """Alive or suspect."""
        return self._membership.is_live(name)

    def shortage(self, plan: Plan | Intent, needed: int, primaries: int) -> Failure | None:
        """Why a quorum cannot be met of the owners of a key and their fallbacks, of which `primaries` at
        least have to be owners; None when it can. Asked before anything is done."""
        owners = plan.owners
        live = self.standing(owners).live
        if live >= needed:
            return None
        assert self.ring is not None
        nodes = (*owners, *self.ring.fallbacks(plan.slot))
        dead = [name for name in nodes if not self._membership.is_live(name)]
        if live >= primaries and len(nodes) - len(dead) >= needed:
            return None
        if live < primaries or len(nodes) == len(owners):
            dead = [name for name in dead if name in owners]
            short = min(needed, primaries) if live < primaries else needed
            text = f"{short} owners of the key are needed, {live} of {len(owners)} are alive"
        else:
            text = (
                f"{needed} nodes are needed for the key, {len(nodes) - len(dead)} of {len(nodes)} are alive"
            )
        if dead:
            text += f"; dead: {', '.join(dead)}"
        return Failure(Code.QUORUM, text, needed)

    def meets(self, plan: Plan | Intent, needed: int, primaries: int, sink: AnySink, out: Outbox) -> bool:
        """Whether the quorum can be met, as far as is known beforehand; if not, the sink hears why. A quorum
        that cannot be met is not begun."""
        shortage = self.shortage(plan, needed, primaries)
        if shortage is not None:
            sink.failed(shortage, out)
        return shortage is None
