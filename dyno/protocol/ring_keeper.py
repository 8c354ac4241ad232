"""The ring log in step with the cluster: it is founded, and what comes to be is written into it.

As yet the membership decides who belongs to the ring ([joining], while nothing is stored), and creations of
buckets are agreed by all (buckets); the log records both, decided by a majority. So every cluster has a log,
those of earlier versions too, as soon as all of their members know how to talk about it.

    no log yet               one begins with all members and created buckets, once all agree what those are
    this member is new       it wishes to be in it, as `Join` and `Become`
    its directory is new     it wishes to have its vote again, as `Renew`
    a bucket is new          the first member by name that can be asked wishes that it is in it, as `Create`

In: the membership, the table of buckets, who can be asked, greetings, the time. Out: wishes. What is wished
already is not wished twice, and one that cannot be is looked at again when anything changes. What another
member should wish is looked at again after a while, for that one may have died.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

from dyno.protocol.peers import Able
from dyno.protocol.ring_log import RingLog
from dyno.ringlog.changes import Become, Change, Create, Join, Renew
from dyno.ringlog.entry import first
from dyno.wire.members import DEAD, LEFT, NORMAL

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from dyno.buckets.table import Table
    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.ring_proposals import Outcome
    from dyno.ringlog.entry import Entry

CAPABILITY: Final = "ring_log"
LOOK_AGAIN_S: Final = 2.0  # whether what another member should have wished is written by now

_NOTHING: Final = (-1, -1, -1)


class RingKeeper:
    """remembered, keep: as of RingLog. table: of buckets."""

    def __init__(
        self,
        *,
        membership: Membership,
        table: Table,
        peers: Peers,
        remembered: Callable[[str], bytes | None],
        keep: Callable[[Outbox], Batch],
        config: Config,
        random: Random,
    ) -> None:
        self._membership = membership
        self._table = table
        self._able = Able(peers, CAPABILITY)
        self._wished: dict[tuple[Change, ...], bool] = {}
        self._seen: tuple[int, int, int] = _NOTHING
        self._look_at = math.inf
        me = membership.me
        self.log = RingLog(
            name=me.name,
            directory=me.directory,
            start=me.start,
            cluster=lambda: membership.cluster,
            remembered=remembered,
            peers=self._able,
            keep=keep,
            is_dead=self._is_dead,
            config=config,
            random=random,
        )

    def settle(self, now: float, out: Outbox) -> None:
        """After anything that may have changed the members, the buckets or the log."""
        membership = self._membership
        if not membership.joined or membership.letting_in:
            return
        seen = (membership.ring_version, self._table.version, self.log.number)
        if seen == self._seen:
            return
        self._seen = seen
        self._look_at = math.inf
        entry = self.log.entry
        if entry is None:
            created = {bucket.name: bucket.properties for bucket in self._table.created()}
            self.log.found(first(membership.ring_members(), created, membership.cluster), now)
            return
        creations = self._creations(entry)
        if creations and not self._speaks_for_all:
            creations = []  # all of them at once would be in each other's way
            self._look_at = now + LOOK_AGAIN_S
        for changes in (self._own(entry), *creations):
            if changes and changes not in self._wished:
                self._wished[changes] = True
                self.log.wish(*changes, then=partial(self._answered, changes), now=now, out=out)

    def renewed(self, directory: bytes, now: float, out: Outbox) -> None:
        """This node's directory has another id."""
        self.log.renewed(directory, out)
        self._seen = _NOTHING
        self.settle(now, out)

    def tick(self, now: float, out: Outbox) -> None:
        self.log.tick(now, out)
        if self._look_at <= now:
            self._look_at = math.inf  # while somebody is let in it is not looked, and that is a change
            self._seen = _NOTHING
            self.settle(now, out)

    def deadline(self) -> float:
        """Infinity for none."""
        at = self.log.deadline()
        return self._look_at if at is None or self._look_at < at else at

    # ── inside ──

    def _wanted(self, entry: Entry) -> list[tuple[Change, ...]]:
        return [self._own(entry), *self._creations(entry)]

    def _own(self, entry: Entry) -> tuple[Change, ...]:
        me = self._membership.me
        row = entry.row(me.name)
        if row is None or row.state == LEFT:
            join = Join(me.name, me.directory, me.seat, me.zone, me.weight)
            return (join, Become(me.name, me.directory, NORMAL))
        if row.directory != me.directory:
            return (Renew(me.name, row.directory, me.directory),)
        return ()

    def _creations(self, entry: Entry) -> list[tuple[Change, ...]]:
        known = dict(entry.buckets)
        return [
            (Create(bucket.name, bucket.properties),)
            for bucket in self._table.created()
            if known.get(bucket.name) != bucket.properties
        ]

    @property
    def _speaks_for_all(self) -> bool:
        """Whether this is the first by name of all that can talk about it."""
        me = self._membership.me.name
        others = [member.name for member in self._membership.ring_members() if member.name != me]
        return all(me < name for name in others if self._able.can_ask(name))

    def _answered(self, changes: tuple[Change, ...], outcome: Outcome, now: float, out: Outbox) -> None:
        del self._wished[changes]
        entry = self.log.entry
        assert entry is not None
        if outcome.why and changes in self._wanted(entry):  # else it is of no matter any more
            out.events.append(("warning", f"not in the ring's log: {outcome.why}"))

    def _is_dead(self, name: str) -> bool:
        member = self._membership.table.seated(name)
        return member is not None and member.liveness == DEAD
