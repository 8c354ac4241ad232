"""What a node remembers of itself and its cluster across restarts.

Small durable facts in the engine's meta, written through `Outbox.meta`:

    "cluster"     the cluster's id, 16 bytes; present as soon as the node was introduced to one
    "partitions"  their number, 4 bytes, big-endian
    "stamp"       the highest start stamp that this node ever took, 8 bytes, big-endian
    "members"     the member table, packed (wire.members), this node's own record first
    "directory"   the id of the data directory, born with it (birth) and drawn anew for an old copy
    "former"      the id that an old copy had before that
    "recovering"  what is not known to be complete (recovery)
    "commits"     the commit numbers of others (commits)
    "closing"     present and not empty: an old copy of which not all may be closed on the disk (quarantine)

A node whose own record among them is seated under its present directory returns to its cluster; one that
remembers a cluster but no such record began to join it and never finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dyno.wire.members import Member, unpack_members

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.protocol.outbox import Outbox

CLUSTER, PARTITIONS, STAMP, MEMBERS = "cluster", "partitions", "stamp", "members"
DIRECTORY, FORMER, RECOVERING, COMMITS = "directory", "former", "recovering", "commits"
CLOSING = "closing"
ROUNDS = "rounds"
LOST_ALL = b"\xf6"  # of RECOVERING: nothing is known to be complete; CBOR's null
CLUSTER_ID_BYTES = 16
RECORDS_PER_NAME = 2  # one seated, one that wants to be


class Remembered(NamedTuple):
    """Everything empty or 0: a directory that never met a cluster."""

    cluster: bytes
    partitions: int
    stamp: int
    members: list[Member]

    def own(self, name: str) -> Member | None:
        """This node's own record as it was last kept: seat, zone and weight stay as they were born."""
        return self.members[0] if self.members and self.members[0].name == name else None


def remembered(get: Callable[[str], bytes | None], *, members_max: int) -> Remembered:
    """Read the facts back. get: a meta value by name. Raises ProtocolError for a damaged member table."""
    members = get(MEMBERS)
    return Remembered(
        get(CLUSTER) or b"",
        int.from_bytes(get(PARTITIONS) or b"", "big"),
        int.from_bytes(get(STAMP) or b"", "big"),
        unpack_members(members, members_max=members_max * RECORDS_PER_NAME) if members else [],
    )


def remember_stamp(stamp: int, out: Outbox) -> None:
    out.meta[STAMP] = stamp.to_bytes(8, "big")


def remember_loss(out: Outbox) -> None:
    """Whatever this directory holds, others may have more."""
    out.meta[RECOVERING] = LOST_ALL


def remember_renewal(*, directory: bytes, former: bytes, out: Outbox) -> None:
    """This directory turned out to be an old copy and has another id now. The member table may still have
    the former one when the node starts next."""
    out.meta[DIRECTORY], out.meta[FORMER] = directory, former
    remember_loss(out)


def remember(*, cluster: bytes, partitions: int, stamp: int, members: bytes, out: Outbox) -> None:
    """members: packed, this node's own record first."""
    out.meta[CLUSTER] = cluster
    out.meta[PARTITIONS] = partitions.to_bytes(4, "big")
    out.meta[MEMBERS] = members
    remember_stamp(stamp, out)
