"""The cluster in numbers, for whoever asks one node: the members, and how many hints each keeps for whom.

Hints are known where they are kept, so all living members are asked, once for all questions that came
together. A question that comes while a round is under way waits for the next one: what others said before it
was asked may not be true any more when it was. A member that does not answer soon, or cannot be asked, is
missing in the answer.

In: AskStatus of clients, AskHints of other nodes, HintsHeld. Out: one Members for each question, at the
latest after two rounds. `members_of` is also what every other question for the members is answered with, at
once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from dyno.protocol.background import ID_BITS, Background
from dyno.protocol.sink import failed, overloaded
from dyno.protocol.survey import Survey
from dyno.wire.flat import ProtocolError
from dyno.wire.hints import ROWS_MAX, Held, pack_hints, rows_of, unpack_hints
from dyno.wire.members import DEAD, pack_members
from dyno.wire.messages import AskHints, AskStatus, HintsHeld, Members

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.membership import Membership
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.peers import Peers

ROUND_S: Final = 0.4  # less than a client waits before it thinks that the node is silent
QUESTIONS_MAX: Final = 1000  # that wait for a round


def members_of(membership: Membership, id: int, hints: bytes = b"") -> Members:
    """The answer to a question for the members, as they are known now."""
    packed = pack_members(membership.table.members())
    return Members(id, membership.cluster, membership.partitions, membership.fingerprint, packed, hints)


class Overview(Background):
    """held: how many hints this node keeps, by the name of the one that they are for."""

    number: ClassVar[int] = 3

    def __init__(
        self,
        *,
        me: str,
        config: Config,
        membership: Membership,
        peers: Peers,
        held: Callable[[], Mapping[str, int]],
    ) -> None:
        self._me = me
        self._config = config
        self._membership = membership
        self._peers = peers
        self._held = held
        self._last_id = self.number << ID_BITS
        self._round: Survey[list[Held]] | None = None
        self._asking: list[tuple[int, int]] = []  # link and id of those whom the round is for
        self._next: list[tuple[int, int]] = []  # and of those who came since it began

    def doors(self) -> Mapping[type, Callable[..., None]]:
        return {AskStatus: self._ask_status, AskHints: self._ask_hints}

    def answer(self, node: str, message: Any, now: float, out: Outbox) -> None:
        """Raises ProtocolError for what is no answer of this node."""
        if not isinstance(message, HintsHeld):
            raise ProtocolError(f"a {type(message).__name__} is no answer about hints")
        survey = self._round
        if survey is None or message.id != survey.id or node not in survey.owing:
            return
        rows = unpack_hints(message.hints)
        if not rows or any(row.holder != node for row in rows):
            raise ProtocolError(f"{node} tells of other hints than its own")
        if sum(map(len, survey.answers.values())) + len(rows) > ROWS_MAX:
            survey.link_down(node)  # more than an answer can hold: as if it had not been heard
        else:
            survey.take(node, rows)
        self._advance(now, out)

    def link_up(self, node: str, now: float, out: Outbox) -> None:
        """The next round asks it, too."""

    def link_down(self, node: str, now: float, out: Outbox) -> None:
        if self._round is not None:
            self._round.link_down(node)
            self._advance(now, out)

    def replan(self, now: float, out: Outbox) -> None:
        """Who is a member is looked up when a round begins."""

    def tick(self, now: float, out: Outbox) -> None:
        self._advance(now, out)

    def deadline(self) -> float:
        return math.inf if self._round is None else self._round.deadline

    # ── inside ──

    def _ask_status(self, link: int, message: AskStatus, now: float, out: Outbox) -> None:
        if len(self._next) >= QUESTIONS_MAX:
            text = f"{self._me}: too many ask for the state of the cluster"
            out.replies.append((link, failed(message.id, overloaded(text, self._config.retry_after_s))))
            return
        self._next.append((link, message.id))
        if self._round is None:
            self._begin(now, out)
            self._advance(now, out)

    def _ask_hints(self, link: int, message: AskHints, now: float, out: Outbox) -> None:
        out.replies.append((link, HintsHeld(message.id, pack_hints(rows_of(self._me, self._held())))))

    def _begin(self, now: float, out: Outbox) -> None:
        """A round for all that wait."""
        self._asking, self._next = self._next, []
        self._last_id += 1
        self._round = Survey(self._last_id, deadline=now + ROUND_S)
        names = [
            member.name
            for member in self._membership.table.members()
            if member.name != self._me and member.liveness != DEAD
        ]
        self._round.ask(dict.fromkeys(names), AskHints(self._last_id), self._peers, out)

    def _advance(self, now: float, out: Outbox) -> None:
        while self._round is not None and self._round.is_over(now):
            rows = rows_of(self._me, self._held())
            for answer in self._round.answers.values():
                rows += answer
            hints = pack_hints(sorted(rows)[:ROWS_MAX])
            for link, id in self._asking:
                out.replies.append((link, members_of(self._membership, id, hints)))
            self._round, self._asking = None, []
            if self._next:
                self._begin(now, out)
