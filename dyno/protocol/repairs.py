"""Compare all copies now, because an operator asks for it: `dyno repair`; and what every node mended so far.

A *run* has an id that the operator's client drew. Whichever node the client asks passes the question on to
all others, and each of them, when it hears of a run for the first time, remembers when that was: it is done
when exchanges with all other owners are finished that began since then (`exchange`). Of two nodes the one
whose name comes first asks the other; both are told of the run, and either may know that the two were
compared. The client asks again and again, and is told how far it is. A run that nobody asks about any more
is forgotten, and with it the urgency. So a question that is lost, late or doubled does no harm, nor does a
client or a node that dies, and runs of several operators share the same exchanges.

In: AskRepair of clients, Repair of other nodes, Repaired. Out: one RepairTold, or Failed, for each AskRepair,
within `ROUND_S`; nodes that did not answer are named in it. The work itself stays within the bandwidth and
yields to clients, as exchanges always do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.buckets.properties import DEFAULTS
from dyno.config import BUCKET_NAME_BYTES_MAX, COPIES_MAX
from dyno.errors import Code
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.sink import Failure, failed, invalid, overloaded
from dyno.protocol.survey import Survey
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    AskRepair,
    Repair,
    Repaired,
    RepairTold,
)
from dyno.wire.repairs import (
    BUSY,
    CLOSED,
    COUNTING,
    CUT_OFF,
    DONE,
    HEARD,
    MERGING,
    OTHER_RING,
    PEERS_MAX,
    READY,
    RECOVERING,
    RUN_BYTES,
    RUNS,
    SILENT,
    UNREACHABLE,
    WAITS,
    Mends,
    Peer,
    Report,
    pack_reports,
    unpack_report,
)

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.exchange import Exchange
    from dyno.protocol.merging import Merging
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.quarantine import Quarantine
    from dyno.protocol.recovery import Recovery
    from dyno.protocol.replica import Replica

ROUND_S: Final = 0.4  # less than a client waits before it thinks that the node is silent
QUESTIONS_MAX: Final = 64  # under way at once on one node
RUNS_MAX: Final = 16
RUN_KEPT_S: Final = 10.0  # after the last question about it


class _Run:
    """copies: of which n; 0 for all. since: exchanges that began earlier do not count; infinity while what is
    set aside is merged. before: what had been mended when it began. keys: how many were compared with each
    other node, where this one is the first of the two."""

    __slots__ = ("before", "copies", "heard_at", "keys", "since")

    def __init__(self, copies: int, *, now: float, before: Mends) -> None:
        self.copies = copies
        self.since = self.heard_at = now
        self.before = before
        self.keys: dict[str, int] = {}


class Repairs(Background):
    """A part of the background. me: this node's name."""

    number: ClassVar[int] = 9

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        planner: Planner,
        peers: Peers,
        replica: Replica,
        recovery: Recovery,
        exchanges: Exchange,
        quarantine: Quarantine,
        merging: Merging,
    ) -> None:
        self._me = me
        self._config = config
        self._planner = planner
        self._peers = peers
        self._replica = replica
        self._recovery = recovery
        self._exchanges = exchanges
        self._quarantine = quarantine
        self._merging = merging
        self._last_id = self.number << ID_BITS
        self._runs: dict[bytes, _Run] = {}
        self._asked: dict[int, tuple[int, int, Report | None, Survey[Report]]] = {}  # in order of deadlines

    # ── a part of the background ──

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {AskRepair: self._ask, Repair: self._repair}

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """Raises ProtocolError for what is no answer of this node."""
        if not isinstance(message, Repaired):
            raise ProtocolError(f"a {type(message).__name__} is no answer about repairs")
        _, _, _, survey = self._asked.get(message.id, (0, 0, None, None))
        if survey is None or node not in survey.owing:
            return
        if message.status == STATUS_OK:
            report = unpack_report(message.report)
            if report.node != node or report.reach != HEARD:
                raise ProtocolError(f"{node} tells of the repairs of {report.node}")
        else:
            report = Report(node, OTHER_RING if message.status == STATUS_RING else BUSY)
        survey.take(node, report)
        self._advance(now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """The next question goes to it, too; exchanges begin by themselves."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        for _, _, _, survey in self._asked.values():
            survey.link_down(node)
        self._advance(now, out)

    def replan(self, now: float, out: Outbox) -> None:
        """A run goes on with what is shared now."""
        self._urge(now, out)

    def tick(self, now: float, out: Outbox) -> None:
        gone = [id for id, run in self._runs.items() if run.heard_at + RUN_KEPT_S <= now]
        for id in gone:
            del self._runs[id]
        if gone:
            self._urge(now, out)
        self._advance(now, out)

    def deadline(self) -> float:
        if not self._asked and not self._runs:  # as nearly always; every turn asks
            return math.inf
        at = next(iter(self._asked.values()))[3].deadline if self._asked else math.inf
        if self._runs:
            at = min(at, min(run.heard_at for run in self._runs.values()) + RUN_KEPT_S)
        return at

    # ── questions of clients ──

    def _ask(self, link: int, message: AskRepair, now: float, out: Outbox) -> None:
        _check_run(message.run)
        failure = self._begin(link, message, now, out)
        if failure is not None:
            out.replies.append((link, failed(message.id, failure)))
        self._advance(now, out)

    def _begin(self, link: int, message: AskRepair, now: float, out: Outbox) -> Failure | None:
        """None: it is under way."""
        ring = self._planner.ring
        if ring is None and not message.run:
            out.replies.append((link, RepairTold(message.id, b"")))
            return None
        if ring is None:
            return Failure(Code.RING, f"{self._me} has not joined a cluster yet")
        if len(self._asked) >= QUESTIONS_MAX:
            return overloaded(f"{self._me}: too many ask about repairs", self._config.retry_after_s)
        copies = 0
        if message.bucket:
            if len(message.bucket.encode()) > BUCKET_NAME_BYTES_MAX:
                return invalid(f"a bucket's name has at most {BUCKET_NAME_BYTES_MAX} bytes")
            bucket = self._planner.serving.get(message.bucket, DEFAULTS)
            if bucket is None:
                return Failure(Code.RING, self._planner.why_not(message.bucket))
            copies = bucket.n
        mine = self._report(message.run, copies, message.merge, now, out)
        self._last_id += 1
        survey: Survey[Report] = Survey(self._last_id, deadline=now + ROUND_S)
        others = [name for name in ring.names if name != self._me]
        question = Repair(survey.id, ring.fingerprint, message.run, copies, message.merge)
        survey.ask(others, question, self._peers, out)
        self._asked[survey.id] = link, message.id, mine, survey
        return None

    def _advance(self, now: float, out: Outbox) -> None:
        over = [entry for entry in self._asked.values() if entry[3].is_over(now)]
        for link, id, mine, survey in over:
            del self._asked[survey.id]
            reports = dict(survey.answers)
            reports[self._me] = Report(self._me, BUSY) if mine is None else mine
            reports |= {name: Report(name, SILENT) for name in survey.owing}
            reports |= {name: Report(name, UNREACHABLE) for name in survey.lost}
            ordered = [reports[name] for name in sorted(reports)]
            out.replies.append((link, RepairTold(id, pack_reports(_fitting(ordered)))))

    # ── questions of nodes ──

    def _repair(self, link: int, message: Repair, now: float, out: Outbox) -> None:
        _check_run(message.run)
        if message.copies > COPIES_MAX:
            raise ValueError(f"copies of n={message.copies}")
        status, report = STATUS_OK, None
        if not self._planner.is_planned_with(message.ring):
            status = STATUS_RING
        else:
            report = self._report(message.run, message.copies, message.merge, now, out)
            status = STATUS_OVERLOADED if report is None else STATUS_OK
        packed = b"" if report is None else pack_reports([report])
        out.replies.append((link, Repaired(message.id, status, packed)))

    def _report(self, id: bytes, copies: int, merge: bool, now: float, out: Outbox) -> Report | None:
        """Of this node, in a run or in general; the run begins, or goes on. None: there are too many."""
        mended, aside = self._replica.mended, self._quarantine.count
        if not id:
            everybody = tuple(self._peer(name, -math.inf, 0, now) for name in self._exchanges.sharers)
            return Report(self._me, HEARD, self._state(None), mended.since(Mends(), aside=aside), everybody)
        run = self._runs.get(id)
        if run is None:
            if len(self._runs) >= RUNS_MAX:
                return None
            run = self._runs[id] = _Run(copies, now=now, before=mended.since(Mends(), aside=0))
            if merge:
                run.since = math.inf
                self._merging.begin(id, now, out)
        if run.since == math.inf and not self._merging.is_under_way(id):
            run.since = now
        run.heard_at = now
        self._urge(now, out)
        every = [self._peer(name, run.since, run.copies, now) for name in self._exchanges.sharers]
        for peer in every:
            if peer.state == DONE and self._me < peer.name and peer.name not in run.keys:
                run.keys[peer.name] = self._exchanges.shared.count(peer.name)
        mends = mended.since(run.before, aside=aside)._replace(compared=sum(run.keys.values()))
        peers = tuple(peer for peer in every if peer.state != DONE)
        return Report(self._me, HEARD, self._state(run), mends, peers)

    def _urge(self, now: float, out: Outbox) -> None:
        """What all runs want. Of two nodes the first asks."""
        since: dict[str, float] = {}
        for run in self._runs.values():
            for name in self._exchanges.sharers if run.since < math.inf else ():
                if self._me < name and not self._is_done(name, run.since, run.copies):
                    since[name] = max(since.get(name, -math.inf), run.since)
        self._exchanges.urge(since, now, out)

    def _is_done(self, name: str, since: float, copies: int) -> bool:
        at = self._compared_at(name, copies)
        return at is not None and at >= since

    def _compared_at(self, name: str, copies: int) -> float | None:
        at = self._exchanges.compared_with(name)
        if not copies:
            return at
        return self._exchanges.compared_copies(name, copies)

    def _peer(self, name: str, since: float, copies: int, now: float) -> Peer:
        at = self._compared_at(name, copies)
        ago_ms = 0 if at is None else 1 + int(max(now - at, 0.0) * 1000)
        if at is not None and at >= since:
            state = DONE
        elif not self._peers.can_ask(name):
            state = CUT_OFF
        else:
            state = RUNS if self._exchanges.is_comparing(name) else WAITS
        return Peer(name, state, ago_ms)

    def _state(self, run: _Run | None) -> int:
        if run is not None and run.since == math.inf:
            return MERGING
        if self._replica.closed:
            return CLOSED
        if self._recovery.recovering:
            return RECOVERING
        return READY if self._replica.trees.ready else COUNTING


def _check_run(run: bytes) -> None:
    if len(run) not in (0, RUN_BYTES):
        raise ValueError(f"the id of a run of {len(run)} bytes")


def _fitting(reports: list[Report]) -> list[Report]:
    """As many as an answer can hold; of the others it is as if they had not been heard."""
    room = PEERS_MAX
    fitting = []
    for report in reports:
        room -= len(report.peers)
        fitting.append(report if room >= 0 else Report(report.node, SILENT))
    return fitting
