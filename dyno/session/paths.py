"""Over which link a call should go.

Joins what is known of the ring (`Routing`) with the links that are up (`Links`): the first primary of the
key that is ready, in preference order; else any other node, which passes the request on. A primary that is
passed over because its link is down is dialled for the calls to come.

The table is only built for the second call that is routed: a client that makes one call and goes does not
pay for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.session.links import LinkState
from dyno.wire.messages import ListKeys

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.links import Links, NodeLink
    from dyno.session.outbox import SessionOutbox
    from dyno.session.routing import Routing


class Paths:
    def __init__(self, links: Links, routing: Routing) -> None:
        self._links = links
        self._routing = routing
        self._routed_before = False
        self._primaries: dict[int, list[NodeLink]] = {}

    def pick(self, call: Call, now: float, out: SessionOutbox) -> NodeLink | None:
        """A link that can take the call now and was not tried, or None."""
        tried = call.trouble.tried if call.trouble is not None else ()
        if call.bucket:
            for link in self._primary_links(call):
                if link.ready and link not in tried:
                    return link
                if link.state is LinkState.DOWN:
                    self._links.dial(link, now, out)
        return self._links.any_ready(tried)

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
            partition = request.partition
        else:
            partition = routing.partition(call.bucket, request.key)  # type: ignore[union-attr]
        links = self._primaries.get(partition)
        if links is None:
            links = self._primaries[partition] = [
                self._links.of_member(member.name, member.address) for member in routing.primaries(partition)
            ]
        return links
