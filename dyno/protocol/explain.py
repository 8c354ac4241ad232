"""What the nodes hold of one key: `dyno explain`.

The node that a client asks works out the preference list of the key, looks at what it holds itself, and asks
all other members, for anybody may keep a hint or a copy that has no business there. Each says what is on its
disk, under whatever ring it plans with: this is for finding out what is wrong. Nothing is changed by it.

In: Explain of clients, Examine of other nodes, Examined. Out: one Explained, or Failed, for each Explain,
within `EXPLAIN_S`. Nodes that could not be asked, or did not answer, are named as such, but for dead ones
that are no owners; nodes that hold nothing and need not are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.buckets.properties import DEFAULTS
from dyno.config import COPIES_MAX
from dyno.errors import Code, InvalidRequest
from dyno.placement.hashing import COPIES_IN_SLOT, SLOT_BYTES, slot_copies, slot_partition
from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.sink import Failure, failed, invalid, overloaded
from dyno.protocol.survey import Survey
from dyno.storage.cell import record_of
from dyno.wire.explanations import (
    HEARD,
    HINTS_SHOWN_MAX,
    SILENT,
    UNREACHABLE,
    Explanation,
    Report,
    absent,
    pack_explanation,
    pack_report,
    unpack_report,
    view_of,
)
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import STATUS_OK, STATUS_RING, Examine, Examined, Explain, Explained

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers
    from dyno.protocol.planner import Planner
    from dyno.protocol.replica import Replica

EXPLAIN_S: Final = 1.0
EXPLAINS_MAX: Final = 64  # under way at once on one node


class Examiner:
    """What this node holds under a slot. kept: the hints for a slot, as (for whom, packed record or None for
    a damaged one). weak: whether the copy of a slot's (partition, n) is not complete again yet. compared_at:
    when it was last compared with another owner's, None where that is not known."""

    def __init__(
        self,
        *,
        me: str,
        replica: Replica,
        kept: Callable[[bytes], Sequence[tuple[str, bytes | None]]] = lambda slot: (),
        weak: Callable[[bytes], bool] = lambda slot: False,
        compared_at: Callable[[bytes], float | None] = lambda slot: None,
    ) -> None:
        self._me = me
        self._replica = replica
        self._kept = kept
        self._weak = weak
        self._compared_at = compared_at

    def report(self, slot: bytes, now: float) -> Report:
        """Of what is on the disk; what is on its way there nobody was told of yet."""
        cells, _ = self._replica.rows(slot, slot + b"\0", limit=1)
        copy = absent()
        for _, cell in cells:
            copy = view_of(None if cell is None else record_of(cell))
        hints = [view_of(record, target) for target, record in self._kept(slot)[:HINTS_SHOWN_MAX]]
        at = self._compared_at(slot)
        compared_ms = 0 if at is None else 1 + int(max(now - at, 0.0) * 1000)
        return Report(self._me, HEARD, self._weak(slot), compared_ms, (copy, *hints))


class _Question:
    """An Explain under way."""

    __slots__ = ("fallbacks", "id", "link", "others", "owners", "slot", "survey")

    def __init__(
        self,
        *,
        link: int,
        id: int,
        slot: bytes,
        owners: tuple[str, ...],
        fallbacks: tuple[str, ...],
        others: list[str],
        survey: Survey[Report],
    ) -> None:
        self.link = link
        self.id = id
        self.slot = slot
        self.owners = owners
        self.fallbacks = fallbacks
        self.others = others
        self.survey = survey

    def answer(self) -> Explained:
        survey, copies = self.survey, slot_copies(self.slot)
        reports: list[Report] = []
        for name in (*self.owners, *self.others):
            report = survey.answers.get(name)
            if report is None:
                report = Report(name, SILENT if name in survey.owing else UNREACHABLE)
            if name in self.owners or report.views[:1] != (absent(),) or len(report.views) > 1:
                reports.append(report)
        explanation = Explanation(
            slot_partition(self.slot), copies, self.owners, self.fallbacks[:copies], tuple(reports)
        )
        return Explained(self.id, pack_explanation(explanation))


class Explainer(Background):
    """me: this node's name. examiner: looks at its own disk."""

    number: ClassVar[int] = 8

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        membership: Membership,
        peers: Peers,
        planner: Planner,
        examiner: Examiner,
    ) -> None:
        self._me = me
        self._config = config
        self._membership = membership
        self._peers = peers
        self._planner = planner
        self._examiner = examiner
        self._last_id = self.number << ID_BITS
        self._under_way: dict[int, _Question] = {}  # in the order of their deadlines

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {Explain: self._explain, Examine: self._examine}

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """Raises ProtocolError for what is no answer of this node."""
        if not isinstance(message, Examined):
            raise ProtocolError(f"a {type(message).__name__} is no answer about a key")
        question = self._under_way.get(message.id)
        if question is None or node not in question.survey.owing:
            return
        report = unpack_report(message.report)
        if report.node != node or report.reach != HEARD:
            raise ProtocolError(f"{node} tells of what {report.node} holds")
        question.survey.take(node, report)
        self._advance(now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """The next question goes to it, too."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        for question in self._under_way.values():
            question.survey.link_down(node)
        self._advance(now, out)

    def replan(self, now: float, out: Outbox) -> None:
        """A question goes on with the preference list that it began with."""

    def tick(self, now: float, out: Outbox) -> None:
        self._advance(now, out)

    def deadline(self) -> float:
        if self._under_way:
            return next(iter(self._under_way.values())).survey.deadline
        return math.inf

    # ── inside ──

    def _explain(self, link: int, message: Explain, now: float, out: Outbox) -> None:
        failure = self._begin(link, message, now, out) if message.budget_ms else None
        if failure is not None:
            out.replies.append((link, failed(message.id, failure)))
        self._advance(now, out)

    def _begin(self, link: int, message: Explain, now: float, out: Outbox) -> Failure | None:
        """None: it is under way."""
        ring = self._planner.ring
        if ring is None:
            return Failure(Code.RING, f"{self._me} has not joined a cluster yet")
        if len(self._under_way) >= EXPLAINS_MAX:
            return overloaded(f"{self._me}: too many keys are being explained", self._config.retry_after_s)
        bucket = self._planner.serving.get(message.bucket, DEFAULTS)
        if bucket is None:
            return Failure(Code.RING, self._planner.why_not(message.bucket))
        try:
            slot, owners = ring.plan(message.bucket, message.key, bucket.n)
        except InvalidRequest as error:
            return invalid(str(error))
        self._last_id += 1
        survey: Survey[Report] = Survey(self._last_id, deadline=now + EXPLAIN_S)
        fallbacks = ring.fallbacks(slot)
        is_live, can_ask = self._membership.is_live, self._peers.can_ask
        others = [name for name in fallbacks if name == self._me or is_live(name) or can_ask(name)]
        asked = [name for name in (*owners, *others) if name != self._me]
        survey.ask(asked, Examine(survey.id, ring.fingerprint, slot), self._peers, out)
        survey.answers[self._me] = self._examiner.report(slot, now)
        self._under_way[survey.id] = _Question(
            link=link,
            id=message.id,
            slot=slot,
            owners=owners,
            fallbacks=fallbacks,
            others=others,
            survey=survey,
        )
        return None

    def _examine(self, link: int, message: Examine, now: float, out: Outbox) -> None:
        slot = message.slot
        if len(slot) != SLOT_BYTES or not 1 <= slot[COPIES_IN_SLOT] <= COPIES_MAX:
            raise ValueError("a slot that is none")
        status = STATUS_OK if self._planner.is_planned_with(message.ring) else STATUS_RING
        report = pack_report(self._examiner.report(slot, now))
        out.replies.append((link, Examined(message.id, status, report)))

    def _advance(self, now: float, out: Outbox) -> None:
        over = [question for question in self._under_way.values() if question.survey.is_over(now)]
        for question in over:
            del self._under_way[question.survey.id]
            out.replies.append((question.link, question.answer()))
