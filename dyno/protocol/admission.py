"""A member's side of a join: who may come in, under which name, and when.

In go the requests AskJoin and Admit of inbound links; out go Introduce, Assent (once the joining record is
on disk) or Reject. Two rules are kept here.

The name rule: one live process for a name. Where another holds the name and is not dead for certain, it is
pinged at its address, whatever its start, and an answer within the probe timeout refuses the newcomer. Of
two that are joining under one name the higher record wins, for one of them must.

The data rule: whoever assents refuses data from then on, until the joiner is seated or gave up; so a joiner
with everybody's assent takes its place in a cluster that is empty on every member. A member that holds
data assents only to whom the ring has room for as it is: a directory that sits there already, or a new one
that takes over the seat of its name, with the same zone and weight. Nobody's data waits for that one.

Checks under way are bounded by CHECKS_MAX; past it, come again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dyno.wire.members import DEAD, JOINING, LEFT, Member
from dyno.wire.messages import Admit, AskJoin, Assent, Introduce, Ping, PushPull, Reject

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.outbox import Outbox
    from dyno.protocol.probe import Prober
    from dyno.protocol.roster import Roster
    from dyno.wire.messages import Ack

CHECKS_MAX = 256
_PINGS = 4  # in one probe timeout, for some get lost

_DATA = (
    "the cluster holds data: until data can move to new nodes, they can only join while it is empty; "
    "a node that was a member comes back under its own name, with its data directory or a new one"
)


class _Request(NamedTuple):
    """Who asks for what, and on which inbound link."""

    link: int
    message: AskJoin | Admit
    newcomer: Member


@dataclass(slots=True)
class _Check:
    """Whether the holder of a name answers."""

    request: _Request
    holder: Member
    seq: int
    ping_at: float
    until: float


class Admission:
    def __init__(self, *, roster: Roster, prober: Prober, config: Config) -> None:
        self._roster = roster
        self._prober = prober
        self._timeout_s = config.probe_timeout_s
        self._checks: dict[int, _Check] = {}

    def asked(self, link: int, message: AskJoin | Admit, now: float, out: Outbox) -> None:
        me = self._roster.me
        newcomer = self._roster.unpack_joiner(message.member, out)
        if newcomer is None:
            return
        request = _Request(link, message, newcomer)
        if not self._roster.active or me.state == LEFT or (me.state, type(message)) == (JOINING, AskJoin):
            self._reject(request, "busy", f"{me.name} is not a member itself yet", out)
        elif newcomer.start == me.start:
            self._reject(request, "busy", "this is the very node that asks", out)
        elif newcomer.name == me.name:
            self._reject_name(request, me, out)
        elif isinstance(message, Admit) and self._is_admitted(newcomer):
            self._assent(request, out)
        else:
            holder = self._rival(request)
            if holder is None or holder.liveness == DEAD:
                self._settle(request, now, out)
            else:
                self._check(request, holder, now, out)

    def acked(self, ack: Ack, now: float, out: Outbox) -> None:
        """Somebody answers to a name that is being checked: the newcomer itself, or its holder."""
        check = self._checks.pop(ack.seq, None)
        if check is None:
            return
        request, holder = check.request, check.holder
        if ack.start == request.newcomer.start:
            self._settle(request, now, out)
        elif self._must_wait(request, holder):
            self._reject(request, "busy", f"another process is joining as {holder.name}", out)
        else:
            self._reject_name(request, holder, out)

    def tick(self, now: float, out: Outbox) -> None:
        for seq, check in list(self._checks.items()):
            if check.until <= now:
                del self._checks[seq]
                self._silent(check, now, out)
            elif check.ping_at <= now:
                self._ping(check, now, out)

    def deadline(self) -> float | None:
        if not self._checks:
            return None
        return min(min(check.ping_at, check.until) for check in self._checks.values())

    # ── the name rule ──

    def _silent(self, check: _Check, now: float, out: Outbox) -> None:
        """No ping was answered. While a link to the holder is up that proves little: wait until it is known
        to be dead."""
        request, holder = check.request, check.holder
        there = holder.address != request.newcomer.address and self._roster.links.is_up(holder.address)
        held = self._roster.table.find(holder.name, holder.start)
        if there and held is not None and held.liveness != DEAD:
            self._reject(request, "busy", f"it is not certain yet that {holder.name} is gone", out)
        else:
            self._settle(request, now, out)

    def _rival(self, request: _Request) -> Member | None:
        """Who must be dead, or at least silent, for this newcomer to have the name."""
        newcomer, table = request.newcomer, self._roster.table
        candidate, seated = table.candidate(newcomer.name), table.seated(newcomer.name)
        if candidate is not None and candidate.state == JOINING and candidate.start != newcomer.start:
            # A directory is locked by one process: an earlier start of the same is gone.
            return candidate if candidate.directory != newcomer.directory else None
        return seated if seated is not None and seated.start != newcomer.start else None

    def _check(self, request: _Request, holder: Member, now: float, out: Outbox) -> None:
        if len(self._checks) >= CHECKS_MAX:
            self._reject(request, "busy", "too many nodes are joining at once", out)
            return
        check = _Check(request, holder, self._prober.next_seq(), now, now + self._timeout_s)
        self._checks[check.seq] = check
        self._ping(check, now, out)

    def _must_wait(self, request: _Request, holder: Member) -> bool:
        """Of two that are joining at once the lower is refused by whoever admitted the higher, and gives
        back its assents; until then the higher waits, for an assent must not be forgotten."""
        is_joining = holder.state == JOINING and isinstance(request.message, Admit)
        return is_joining and request.newcomer.order() > holder.order()

    def _ping(self, check: _Check, now: float, out: Outbox) -> None:
        check.ping_at = now + self._timeout_s / _PINGS
        holder = check.holder
        ping = Ping(check.seq, holder.name, b"", self._roster.me.name, b"")
        out.datagrams.append((holder.address, ping))

    # ── answers ──

    def _settle(self, request: _Request, now: float, out: Outbox) -> None:
        """No live process has the name."""
        newcomer = request.newcomer
        seated = self._roster.table.seated(newcomer.name)
        if isinstance(request.message, AskJoin) and seated is not None:
            newcomer = newcomer._replace(seat=seated.seat)  # as it will ask to be admitted
        if self._roster.refuses_for_data(newcomer):
            self._reject(request, "data", _DATA if seated is None else _other_place(seated, newcomer), out)
        elif isinstance(request.message, AskJoin):
            self._introduce(request, out)
        else:
            self._admit(request, now, out)

    def _introduce(self, request: _Request, out: Outbox) -> None:
        roster, name = self._roster, request.newcomer.name
        holder = roster.table.holder(name)
        introduce = Introduce(
            request.message.id,
            roster.cluster,
            roster.partitions,
            roster.table.highest_stamp(name),
            b"" if holder is None else holder.seat,
            roster.packed(),
        )
        roster.replies(out).append((request.link, introduce))

    def _admit(self, request: _Request, now: float, out: Outbox) -> None:
        roster, newcomer = self._roster, request.newcomer
        if self._is_outdated(newcomer):
            # Its claim is below a dead one's; with our table it can rise above it and come again.
            self._show_table(request, out)
            self._reject(request, "busy", f"a later start of {newcomer.name} is known", out)
            return
        roster.hear(newcomer, now, out, admitted=True)
        if self._is_admitted(newcomer):
            self._assent(request, out)
        else:
            self._reject(request, "busy", "the member table is full", out)

    def _assent(self, request: _Request, out: Outbox) -> None:
        """Written again with every answer: the one before may still be on its way to the disk."""
        self._roster.keep(out)
        out.durable_replies.append((request.link, Assent(request.message.id, self._roster.packed())))

    def _is_admitted(self, newcomer: Member) -> bool:
        """Under this stamp or a later one; it may even be seated by now."""
        held = self._roster.table.find(newcomer.name, newcomer.start)
        return held is not None and held.stamp >= newcomer.stamp and held.state != LEFT

    def _is_outdated(self, newcomer: Member) -> bool:
        table = self._roster.table
        held = (table.candidate(newcomer.name), table.seated(newcomer.name))
        return any(record is not None and record.order() >= newcomer.order() for record in held)

    def _reject_name(self, request: _Request, holder: Member, out: Outbox) -> None:
        if isinstance(request.message, Admit):
            # Whom it told of itself learn from it who has the name, together with its giving up.
            self._show_table(request, out)
        text = (
            f"the name {holder.name} is taken by a live process at {holder.address}; "
            f"stop that one, or choose another name"
        )
        self._reject(request, "name", text, out)

    def _show_table(self, request: _Request, out: Outbox) -> None:
        self._roster.replies(out).append((request.link, PushPull(self._roster.packed(), False)))

    def _reject(self, request: _Request, code: str, text: str, out: Outbox) -> None:
        self._roster.replies(out).append((request.link, Reject(request.message.id, code, text)))


def _other_place(seated: Member, newcomer: Member) -> str:
    return (
        f"the cluster holds data, so {seated.name} keeps its place in it, with zone {seated.zone!r} and "
        f"weight {seated.weight}, not zone {newcomer.zone!r} and weight {newcomer.weight}: "
        f"start it with those it had"
    )
