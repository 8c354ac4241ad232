"""Which nodes own a key, as the last answer to AskMembers tells it.

The placement table is costly to build, so it is built when it is first asked for, and again only when seats
changed; liveness and addresses change without it. A client cannot know a bucket's own n,
so it plans for `COPIES` owners; where that is wrong, the node it asks passes the request on.

In: Members messages. Out: for a key, the members that own it: the living in preference order (Dynamo, §4.3),
then those under suspicion. Zones play no part here: the first owner coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.config import COPIES, PARTITIONS_MAX
from dyno.placement.hashing import Keyspace
from dyno.placement.table import Seat, build
from dyno.wire.codec import ProtocolError
from dyno.wire.members import ALIVE, LEAVING, NORMAL, SUSPECT, Member, unpack_members

if TYPE_CHECKING:
    from dyno.placement.table import Table
    from dyno.wire.messages import Members

MEMBERS_MAX = 10_000


class Routing:
    """members: the last that were learned, one per name, by name."""

    def __init__(self) -> None:
        self.members: tuple[Member, ...] = ()
        self._told: Members | None = None
        self._keyspace: Keyspace | None = None
        self._by_seat: dict[bytes, Member] = {}
        self._table: Table | None = None
        self._table_of: tuple[list[Seat], int] = ([], 0)  # what it was built from

    def learn(self, told: Members) -> bool:
        """Take in what a node knows; True when anything is new. Raises ProtocolError when malformed."""
        told = told._replace(id=0, hints=b"")
        if told == self._told:
            return False
        members: dict[str, Member] = {}
        for member in unpack_members(told.members, members_max=MEMBERS_MAX):
            # A name is listed twice while its next process joins; the one with a place in the ring counts.
            if member.name not in members or is_seated(member):
                members[member.name] = member
        _check(told, members)
        self._told = told
        self.members = tuple(members[name] for name in sorted(members))
        self._keyspace = Keyspace(told.cluster, told.partitions)
        self._by_seat = {member.seat: member for member in self.members if is_seated(member)}
        return True

    @property
    def known(self) -> bool:
        """Whether there is a ring to route by."""
        return self._told is not None

    @property
    def partitions(self) -> int:
        """How many the cluster has; 0 unless `known`."""
        return 0 if self._told is None else self._told.partitions

    def partition(self, bucket: bytes, key: bytes) -> int:
        """bucket: its id, 8 bytes. Only when `known`."""
        assert self._keyspace is not None
        return self._keyspace.partition(bucket, key)

    def primaries(self, partition: int) -> list[Member]:
        """The owners that are worth asking, best first; [] in a cluster without members."""
        table = self.table()
        owners = [self._by_seat[table.seats[seat].id] for seat in table.owners(partition, COPIES)]
        alive = [member for member in owners if member.liveness == ALIVE]
        return alive + [member for member in owners if member.liveness == SUSPECT]

    def table(self) -> Table:
        """The placement of all partitions. Building it takes milliseconds, or more in a large cluster."""
        assert self._told is not None
        seats = [Seat(m.seat, m.zone, m.weight) for m in self._by_seat.values()]
        if self._table is None or (seats, self._told.partitions) != self._table_of:
            self._table = build(seats, self._told.partitions)
            self._table_of = (seats, self._told.partitions)
        return self._table


def is_seated(member: Member) -> bool:
    """Whether it has a place in the ring."""
    return member.state in (NORMAL, LEAVING)


def _check(told: Members, members: dict[str, Member]) -> None:
    """Refuse what no table can be built from."""
    if not 1 <= told.partitions <= PARTITIONS_MAX:
        raise ProtocolError(f"a cluster of {told.partitions} partitions")
    seats = [member.seat for member in members.values() if is_seated(member)]
    if len(dict.fromkeys(seats)) < len(seats):
        raise ProtocolError("two members in one seat")
