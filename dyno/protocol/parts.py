"""The machines that a node is made of, each with those that it needs.

    membership, buckets          who belongs to the cluster, and which buckets there are
    planner, peers               what follows from that, and who can be asked
    replica, lineage             this node's copies, and whether they are the latest
    hints, generations           what it keeps for others, and what was reaped
    ring_keeper                  the log of what the ring was and is
    coordinator, bulk_reads,     the requests of clients, and of other nodes
      peer_requests
    background                   what it does by itself, in this order

In: what a node is given at its start. Out: the machines; who takes which message and event, and when, is the
node's (`node`). Nothing happens here but that what the engine remembers is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.protocol.bucket_register import BUCKETS
from dyno.protocol.buckets import BucketKeeper
from dyno.protocol.bulk_read import BulkReads
from dyno.protocol.coordinator import Coordinator
from dyno.protocol.exchange import Exchange
from dyno.protocol.explain import Examiner, Explainer
from dyno.protocol.generations import Generations
from dyno.protocol.handoff import Handoff
from dyno.protocol.hints import Hints
from dyno.protocol.identity import CLOSING, ROUNDS
from dyno.protocol.lineage import Lineage
from dyno.protocol.merging import Merging
from dyno.protocol.overload import ReadLine
from dyno.protocol.overview import Overview
from dyno.protocol.peer_requests import PeerRequests
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.quarantine import Quarantine
from dyno.protocol.reaping import Reaping
from dyno.protocol.recount import Recount
from dyno.protocol.repairs import Repairs
from dyno.protocol.replica import Replica
from dyno.protocol.ring_keeper import RingKeeper
from dyno.protocol.spares import Spares

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from dyno.causality.mint import Minter
    from dyno.config import Config
    from dyno.protocol.background import Background
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.storage.engine import Engine
    from dyno.wire.messages import Get


class Parts:
    """membership: built with a word on whether this node holds data. The rest is as of `Node`."""

    def __init__(
        self,
        *,
        membership: Callable[[Callable[[], bool]], Membership],
        engine: Engine,
        minter: Minter,
        config: Config,
        random: Random,
    ) -> None:
        self._config = config
        self.replica = Replica(engine=engine, minter=minter, config=config)
        self.membership = membership(lambda: self.replica.holds_data)
        self._me = self.membership.me.name
        self.peers = Peers()
        self.read_line = ReadLine(config)
        self.buckets = BucketKeeper(
            remembered=engine.get_meta(BUCKETS) or b"",
            membership=self.membership,
            peers=self.peers,
            replica=self.replica,
            config=config,
            random=random,
        )
        self.planner = Planner(
            me=self._me,
            membership=self.membership,
            serving=self.buckets.table.serving,
            why_not=self.buckets.why_not,
        )
        self.lineage = Lineage(
            remembered=engine.get_meta,
            membership=self.membership,
            planner=self.planner,
            replica=self.replica,
            peers=self.peers,
            copies=self.buckets.table.copies,
            random=random,
        )
        self.ring_keeper = RingKeeper(
            membership=self.membership,
            table=self.buckets.table,
            peers=self.peers,
            remembered=engine.get_meta,
            keep=self.replica.keep,
            config=config,
            random=random,
        )
        self.lineage.on_renewed = self.ring_keeper.renewed
        self.hints = Hints(config=config, replica=self.replica)
        self.generations = Generations(self.replica, remembered=engine.get_meta(ROUNDS) or b"")
        self.handoff = Handoff(
            config=config,
            hints=self.hints,
            replica=self.replica,
            peers=self.peers,
            planner=self.planner,
        )
        self.coordinator = self._build_coordinator()
        self.bulk_reads = self._build_bulk_reads()
        self.peer_requests = self._build_peer_requests()
        self.exchanges = Exchange(
            me=self._me,
            config=config,
            planner=self.planner,
            replica=self.replica,
            peers=self.peers,
            recovery=self.lineage.recovery,
            generations=self.generations,
        )
        self.recount = Recount(me=self._me, config=config, replica=self.replica)
        self.reaping = self._build_reaping()
        self.quarantine = self._build_quarantine(engine.get_meta(CLOSING) or b"")
        self.merging = Merging(
            me=self._me,
            config=config,
            planner=self.planner,
            peers=self.peers,
            replica=self.replica,
            quarantine=self.quarantine,
        )
        self.background: list[Background] = [
            self.handoff,
            self.recount,
            self.exchanges,
            self.reaping,
            self.quarantine,
            self._build_overview(),
            self._build_explainer(),
            self.merging,
            self._build_repairs(),
        ]

    # ── requests ──

    def _build_coordinator(self) -> Coordinator:
        return Coordinator(
            me=self._me,
            config=self._config,
            replica=self.replica,
            peers=self.peers,
            membership=self.membership,
            read_line=self.read_line,
            planner=self.planner,
            weakness=self.lineage.recovery,
            hints=self.hints,
            spares=Spares(
                hints=self.hints,
                handoff=self.handoff,
                generations=self.generations,
                planner=self.planner,
                peers=self.peers,
            ),
        )

    def _build_bulk_reads(self) -> BulkReads:
        return BulkReads(
            me=self._me,
            config=self._config,
            planner=self.planner,
            replica=self.replica,
            peers=self.peers,
            singly=self._read_singly,
            read_line=self.read_line,
            elsewhere=lambda: self.coordinator.under_way,
            weakness=self.lineage.recovery,
        )

    def _build_peer_requests(self) -> PeerRequests:
        return PeerRequests(
            me=self._me,
            config=self._config,
            membership=self.membership,
            planner=self.planner,
            replica=self.replica,
            copies=self.buckets.table.copies,
            weakness=self.lineage.recovery,
            hints=self.hints,
            handoff=self.handoff,
            generations=self.generations,
        )

    def _read_singly(self, link: int, get: Get, late: str, now: float, out: Outbox) -> None:
        self.coordinator.request(link, get, now, out, late=late)

    # ── the background ──

    def _build_reaping(self) -> Reaping:
        return Reaping(
            me=self._me,
            config=self._config,
            membership=self.membership,
            planner=self.planner,
            peers=self.peers,
            replica=self.replica,
            generations=self.generations,
            is_complete=self._is_complete,
        )

    def _build_quarantine(self, closing: bytes) -> Quarantine:
        """It is told as soon as this disk turns out to be an old copy."""
        quarantine = Quarantine(
            me=self._me,
            config=self._config,
            planner=self.planner,
            peers=self.peers,
            replica=self.replica,
            generations=self.generations,
            closing=closing,
            is_complete=self._is_complete,
        )
        self.lineage.on_old_copy = quarantine.begin
        return quarantine

    def _build_overview(self) -> Overview:
        return Overview(
            me=self._me,
            config=self._config,
            membership=self.membership,
            peers=self.peers,
            held=self.hints.held,
        )

    def _build_explainer(self) -> Explainer:
        return Explainer(
            me=self._me,
            config=self._config,
            membership=self.membership,
            peers=self.peers,
            planner=self.planner,
            examiner=Examiner(
                me=self._me,
                replica=self.replica,
                kept=self.hints.kept,
                weak=self.lineage.recovery.is_weak,
                compared_at=self.exchanges.compared_at,
            ),
        )

    def _build_repairs(self) -> Repairs:
        return Repairs(
            me=self._me,
            config=self._config,
            planner=self.planner,
            peers=self.peers,
            replica=self.replica,
            recovery=self.lineage.recovery,
            exchanges=self.exchanges,
            quarantine=self.quarantine,
            merging=self.merging,
        )

    def _is_complete(self, head: bytes) -> bool:
        return head not in self.replica.closed and not self.lineage.recovery.is_weak(head)
