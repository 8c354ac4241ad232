"""Over which link a call should go.

Joins what is known of the ring (`Routing`) with the links that are up (`Links`): the first primary of the
key that is ready, in preference order; else one that asked to be spared; else any other node, which passes
the request on. A primary that is passed over because its link is down is dialled for the calls to come.
Gets that leave in one turn travel together, TOGETHER of them at most, to one primary
(docs/design/reading.md).

The table is only built for the second call that is routed: a client that makes one call and goes does not
pay for it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from dyno.placement.hashing import bucket_id
from dyno.session.dealing import deal
from dyno.session.links import LinkState
from dyno.wire.messages import Get, GetMany, ListKeys

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from dyno.session.calls import Call
    from dyno.session.links import Links, NodeLink
    from dyno.session.outbox import SessionOutbox
    from dyno.session.routing import Routing

TOGETHER = 24  # reads that leave in one turn and go to one node, before the next node has its turn


class Paths:
    def __init__(self, links: Links, routing: Routing, random: Random) -> None:
        self._links = links
        self._routing = routing
        self._random = random
        self._routed_before = False
        self._primaries: dict[int, list[NodeLink]] = {}
        self._latest: NodeLink | None = None  # where the last read went, and how many more may go along
        self._room = 0

    def pick(self, call: Call, now: float, out: SessionOutbox) -> NodeLink | None:
        """A link that can take the call now and was not tried, or None."""
        tried = call.trouble.tried if call.trouble is not None else ()
        if call.bucket:
            primaries = self._primary_links(call)
            if not tried and type(call.request) is Get:
                company = self._company(primaries, out)
                if company is not None:
                    return company
            for link in primaries:
                if link.ready and link not in tried:
                    return link
                if link.state is LinkState.DOWN:
                    self._links.dial(link, now, out)
            for link in primaries:  # whoever is asked instead would ask one of these
                if link.spared_until is not None and link.serves and link not in tried:
                    return link
        elif call.prefers is not None:
            if call.prefers.ready and call.prefers not in tried:
                return call.prefers
            return self._next_best(call, tried)
        return self._links.any_ready(tried)

    def grouped(
        self, bucket: bytes, keys: list[bytes], now: float, out: SessionOutbox
    ) -> list[tuple[NodeLink | None, list[bytes]]]:
        """Different keys by the message that asks for them, and the node that it should go to (`dealing`).
        None: whoever can take them. Primaries without a link are dialled for the calls to come."""
        if not self._routing.known:
            return deal([((), keys)], self._random)
        partition = self._routing.partition
        keys_of: dict[int, list[bytes]] = {}
        for key in keys:
            keys_of.setdefault(partition(bucket, key), []).append(key)
        piles = [(self._links_of(number), some) for number, some in keys_of.items()]
        for link in dict.fromkeys(link for links, _ in piles for link in links):
            if link.state is LinkState.DOWN:
                self._links.dial(link, now, out)
        return deal(piles, self._random)

    def _next_best(self, call: Call, tried: Sequence[NodeLink]) -> NodeLink | None:
        """For many keys, where the node that was chosen for them cannot be asked: whoever has the most of
        them, for the others have to be asked for one by one."""
        other = self._links.any_ready(tried)
        if other is None or not other.ready:
            return other
        assert isinstance(call.request, GetMany)
        partition, bucket = self._routing.partition, bucket_id(call.request.bucket)
        owners = (link for key in call.keys for link in self._links_of(partition(bucket, key)))
        counts = Counter(link for link in owners if link.ready and link not in tried)
        return max(counts, key=lambda link: (counts[link], -link.unanswered_bytes), default=other)

    def _company(self, links: Sequence[NodeLink], out: SessionOutbox) -> NodeLink | None:
        """A ready primary for a read, whichever. Reads that leave in one turn travel together to one node, as
        far as it has their keys, so that few frames carry them; every TOGETHER of them, and those of the next
        turn, look for the least busy primary again."""
        company = self._latest
        if out.sends and self._room and company is not None and company.ready and company in links:
            self._room -= 1
            return company
        least: NodeLink | None = None
        for link in links:
            if link.state is LinkState.DOWN:
                return None  # the ordinary way sees to its being dialled
            if link.ready and (least is None or link.unanswered_bytes < least.unanswered_bytes):
                least = link
        self._latest = least
        self._room = TOGETHER - 1
        return least

    def overtaking(self, call: Call, late: NodeLink) -> NodeLink | None:
        """A link to another primary that may overtake a late one. Whoever owns nothing of the key would only
        ask a primary, the late one perhaps."""
        tried = call.trouble.tried if call.trouble is not None else ()
        primaries = self._primary_links(call)
        for link in primaries:
            if link.ready and link is not late and link not in tried:
                return link
        if primaries:
            return None
        other = self._links.any_ready((*tried, late))
        return other if other is not None and other.ready else None

    def forget(self) -> None:
        """Members or links changed; what was looked up may be wrong."""
        self._primaries.clear()

    def _primary_links(self, call: Call) -> list[NodeLink]:
        routing = self._routing
        if not routing.known or not self._routed_before:
            self._routed_before = True
            return []
        request = call.request
        if isinstance(request, ListKeys):
            return self._links_of(request.partition)
        return self._links_of(routing.partition(call.bucket, request.key))  # type: ignore[union-attr]

    def _links_of(self, partition: int) -> list[NodeLink]:
        links = self._primaries.get(partition)
        if links is None:
            owners = self._routing.primaries(partition)
            found = [self._links.of_member(member.name, member.address) for member in owners]
            links = self._primaries[partition] = list(dict.fromkeys(found))  # two may be under one address
        return links
