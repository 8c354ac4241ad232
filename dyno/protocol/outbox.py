"""What a machine wants to happen: filled by the pure core, emptied by whoever runs it.

The server sends, stores and answers; the simulator does the same on virtual time. Nothing in here calls out.

Every node dials a link of its own to every peer and asks over it; answers come back on the same link. So
there are two directions: *outbound* links, known by the peer's address, and *inbound* links, known by a
number that the runner gave them, whether a peer, a client or a node that wants to join is at the other end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.wire.messages import ClientAnswer, ClientRequest, Datagram, PeerMessage


class Outbox:
    """sends: (address "host:port", request) for outbound links; dropped when that link is not up.
    replies: (inbound link id, answer). durable_sends, durable_replies: the same, but only to be let go once
    all that was in `meta` with them is on disk. meta: small durable facts by name. datagrams: (address,
    message). disconnect, connect: addresses to give up, and after that addresses to keep an outbound link to
    (redialled by the runner until disconnected). events: (level, text) for the log. stop: why this process
    must end, or None."""

    __slots__ = (
        "connect",
        "datagrams",
        "disconnect",
        "durable_replies",
        "durable_sends",
        "events",
        "meta",
        "replies",
        "sends",
        "stop",
    )

    def __init__(self) -> None:
        self.sends: list[tuple[str, PeerMessage | ClientRequest]] = []
        self.replies: list[tuple[int, ClientAnswer | PeerMessage]] = []
        self.durable_sends: list[tuple[str, PeerMessage | ClientRequest]] = []
        self.durable_replies: list[tuple[int, ClientAnswer | PeerMessage]] = []
        self.meta: dict[str, bytes] = {}
        self.datagrams: list[tuple[str, Datagram]] = []
        self.connect: list[str] = []
        self.disconnect: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.stop: str | None = None

    def __bool__(self) -> bool:
        """Whether the runner still has something to carry out (durable things wait in the replica)."""
        return bool(
            self.sends or self.replies or self.datagrams or self.connect or self.disconnect or self.events
        )
