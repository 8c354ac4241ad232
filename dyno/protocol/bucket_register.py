"""The table of buckets of one node, with what its protocol has to know of cluster and disk.

Shared by a member's side of creations (`bucket_reservations`) and a coordinator's (`bucket_creations`): the
table itself, what is kept of it in the engine's meta, the members that have to agree, and the one rule for
speaking of it: *nobody is told what a crash could take back*. A decision is seen by others only once it is on
the disk, so what shows the table goes out behind the facts that still wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dyno.buckets.table import Table, unpack
from dyno.wire.messages import SwapBuckets

if TYPE_CHECKING:
    from dyno.buckets.table import Entry
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.replica import Replica
    from dyno.wire.messages import ClientAnswer, ClientRequest, PeerMessage

BUCKETS: Final = "buckets"  # the name of the fact


class Register:
    """remembered: the packed table as it was kept, b"" for none. Raises ProtocolError if it is damaged.
    table: what is known now."""

    def __init__(
        self, *, remembered: bytes, membership: Membership, peers: Peers, replica: Replica, buckets_max: int
    ) -> None:
        self.membership = membership
        self._peers = peers
        self._replica = replica
        self._buckets_max = buckets_max
        self.table = Table(unpack(remembered))
        for entry in self.table.reserved():
            if entry.coordinator == membership.me.directory:
                # A creation that this node began and had not decided when it ended is withdrawn by that.
                self.table.withdraw(entry.name)
        self.table.changed.clear()

    # ── the cluster ──

    @property
    def me(self) -> str:
        return self.membership.me.name

    @property
    def directory(self) -> bytes:
        return self.membership.me.directory

    def members(self) -> list[tuple[str, bytes]]:
        """Who has to agree to a creation: the whole ring, by name and directory, this node among them."""
        return [(member.name, member.directory) for member in self.membership.ring_members()]

    def others(self) -> list[str]:
        return [name for name, _ in self.members() if name != self.me]

    def is_abandoned(self, entry: Entry) -> bool:
        """Whether a reserved bucket's coordinator will never say what became of it: its directory is not in
        the ring any more."""
        return all(directory != entry.coordinator for _, directory in self.members())

    def why_not(self, entry: Entry) -> str:
        """Why a reserved bucket cannot be served yet."""
        names = [name for name, directory in self.members() if directory == entry.coordinator]
        if not names:
            return f"the creation of bucket {entry.name!r} was broken off; create it again to settle it"
        if not self.membership.is_live(names[0]):
            return (
                f"bucket {entry.name!r} was being created when {names[0]} died; start that again to settle it"
            )
        return f"bucket {entry.name!r} is being created by {names[0]}; try again in a moment"

    def has_room(self) -> bool:
        return len(self.table) < self._buckets_max

    @property
    def buckets_max(self) -> int:
        return self._buckets_max

    # ── speaking ──

    def keep(self, out: Outbox) -> None:
        """After every change of the table."""
        out.meta[BUCKETS] = self.table.pack()

    def sends(self, out: Outbox) -> list[tuple[str, PeerMessage | ClientRequest]]:
        """Where to put what shows the table to others."""
        return out.durable_sends if out.meta or self._replica.facts_wait else out.sends

    def replies(self, out: Outbox) -> list[tuple[int, ClientAnswer | PeerMessage]]:
        return out.durable_replies if out.meta or self._replica.facts_wait else out.replies

    def show(self, name: str, out: Outbox) -> None:
        """The whole table to one node, if it can be asked now, and its own is wanted back."""
        address = self._peers.address_of(name)
        if address is not None:
            self.sends(out).append((address, SwapBuckets(self.table.pack(), True)))

    def ask(self, name: str, message: PeerMessage, out: Outbox) -> bool:
        """False when that node cannot be asked now."""
        return self._peers.send(name, message, out)
