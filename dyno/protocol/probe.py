"""Ask one member after the other whether it lives.

Once every probe interval the next member of a shuffled round is pinged. When its ack is late, a few others
are asked to ping it and to relay its ack, and it is pinged once more over the link to it; when no ack has
come by the end of the interval, the member is suspected (SWIM, Das, Gupta, Motivala 2002, §3 and §4.3: round
robin bounds the time to the first probe). Who was asked and got no ack in time says so, with a nack: whoever
hears neither may be what is wrong (Lifeguard, Dadgar, Phillips, Currey 2018, §IV-A), and waits longer from
then on (local_health). A suspected member hears so with the ping, before anything else that there is to tell.
The other half is here too: pinging for somebody else.

In go acks, nacks, requests to relay and the time; out go pings with gossip aboard, and from `tick` the
member to suspect. A ping names its target's process start; only that process answers, so an ack is proof. At
most one probe is under way, and RELAYS_MAX relayed ones, each forgotten after an interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dyno.protocol.gossip import GossipQueue, choose
from dyno.wire.address import parse_address
from dyno.wire.members import DEAD, SUSPECT, Member, valid_name
from dyno.wire.messages import Ack, Nack, Ping, PingRequest

if TYPE_CHECKING:
    from random import Random

    from dyno.config import Config
    from dyno.protocol.local_health import LocalHealth
    from dyno.protocol.member_table import MemberTable
    from dyno.protocol.outbox import Outbox

RELAYS_MAX = 1024
START_BYTES = 8
NACK_SHARE: Final = 0.8  # of a probe timeout: so a nack comes before who asked stops waiting
_SEQ_BITS = 32


@dataclass(slots=True)
class _Probe:
    """target: its record when the probe began. others_at: when to ask others, None once they are. until:
    when it has failed. asked: who was, and has sent no nack yet. nacks: how many were to be expected."""

    seq: int
    target: Member
    others_at: float | None
    until: float
    asked: dict[str, None] = field(default_factory=dict)
    nacks: int = 0


@dataclass(slots=True)
class _Relay:
    """A ping sent for somebody else: to whom, and under which number, its ack goes. nack_at: None once he
    was told that there is none yet."""

    source: str
    seq: int
    target: str
    target_start: bytes
    nack_at: float | None
    until: float


class Prober:
    """me: this node's name. nacks: whether others are told, and are expected to tell, that no ack came.
    buddy: whether a suspect hears of it with the ping. Sequence numbers begin anywhere, so that acks meant
    for an earlier process at the same address match nothing."""

    def __init__(
        self,
        *,
        me: str,
        table: MemberTable,
        gossip: GossipQueue,
        health: LocalHealth,
        config: Config,
        random: Random,
        nacks: bool = True,
        buddy: bool = True,
    ) -> None:
        self._me = me
        self._table = table
        self._gossip = gossip
        self._health = health
        self._config = config
        self._random = random
        self._nacks = nacks
        self._buddy = buddy
        self._seq = random.getrandbits(_SEQ_BITS)
        self._round: list[str] = []  # names left to probe, the next one last
        self._probe: _Probe | None = None
        self._next_at: float | None = None
        self._relays: dict[int, _Relay] = {}  # in the order in which they began
        self._nack_at: float | None = None

    def start(self, now: float) -> None:
        """Nodes that start together do not probe in step."""
        self._next_at = now + self._config.probe_interval_s * self._random.random()

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def tick(self, now: float, out: Outbox) -> Member | None:
        """Do what is due. Gives the target of a probe that nobody answered: suspect it."""
        if self._nack_at is not None and now >= self._nack_at:
            self._send_nacks(now, out)
        probe = self._probe
        if probe is None:
            if self._next_at is not None and now >= self._next_at:
                self._begin(now, out)
            return None
        if probe.others_at is not None and now >= probe.others_at:
            probe.others_at = None
            self._ask_others(probe, out)
        if now < probe.until:
            return None
        self._health.change(len(probe.asked) if probe.nacks else 1)
        self._begin(now, out)
        return probe.target

    def deadline(self) -> float | None:
        probe = self._probe
        if probe is None:
            earliest = self._next_at
        elif probe.others_at is None:
            earliest = probe.until
        else:
            earliest = probe.others_at
        if self._nack_at is None:
            return earliest
        return self._nack_at if earliest is None else min(earliest, self._nack_at)

    def acked(self, ack: Ack, now: float, out: Outbox) -> None:
        """The answer to our own probe, or one to relay; others (late, doubled, made up) are dropped."""
        seq, _, start, _ = ack
        probe = self._probe
        if probe is not None and probe.seq == seq and probe.target.start == start:
            self._probe = None
            self._health.change(-1)
            assert self._next_at is not None
            self._next_at = max(self._next_at, now)
            return
        relay = self._relays.get(seq)
        if relay is not None and relay.target_start == start:
            del self._relays[seq]
            gossip = self._fill(relay.target)
            out.datagrams.append((relay.source, Ack(relay.seq, relay.target, start, gossip)))

    def nacked(self, nack: Nack) -> None:
        """Somebody who was asked got no answer either, but hears us and is heard."""
        probe = self._probe
        if probe is not None and probe.seq == nack.seq:
            probe.asked.pop(nack.sender, None)

    def relay(self, source: str, request: PingRequest, now: float, out: Outbox) -> None:
        """Ping a member for somebody whose own ping got no answer."""
        self._forget_relays(now)
        if len(self._relays) >= RELAYS_MAX or not _is_proper(request):
            return
        config = self._config
        seq, target, start = self.next_seq(), request.target, request.target_start
        nack_at = now + NACK_SHARE * config.probe_timeout_s if self._nacks else None
        until = now + config.probe_interval_s
        self._relays[seq] = _Relay(source, request.seq, target, start, nack_at, until)
        if self._nack_at is None:
            self._nack_at = nack_at
        gossip = self._fill(target, about=self._table.find(target, start))
        out.datagrams.append((request.address, Ping(seq, target, start, self._me, gossip)))

    def joins_round(self, name: str) -> None:
        """A member that is new, or lives again: somewhere into the present round, so that it is probed
        within one round and not by everybody at once."""
        if name not in self._round:
            self._round.insert(self._random.randint(0, len(self._round)), name)

    def postpone(self, by_s: float) -> None:
        """This process was not running for so long: nobody's silence meant anything."""
        probe = self._probe
        if probe is not None:
            probe.until += by_s
            if probe.others_at is not None:
                probe.others_at += by_s
        if self._next_at is not None:
            self._next_at += by_s

    # ── inside ──

    def _begin(self, now: float, out: Outbox) -> None:
        config, factor = self._config, self._health.factor
        self._next_at = now + config.probe_interval_s
        self._forget_relays(now)
        self._probe = None
        target = self._next_target()
        if target is None:
            return
        others_at = now + config.probe_timeout_s * factor
        self._probe = _Probe(self.next_seq(), target, others_at, now + config.probe_interval_s * factor)
        out.datagrams.append((target.address, self._ping(self._probe)))

    def _ping(self, probe: _Probe) -> Ping:
        target = probe.target
        gossip = self._fill(target.name, about=self._table.find(target.name, target.start))
        return Ping(probe.seq, target.name, target.start, self._me, gossip)

    def _next_target(self) -> Member | None:
        while self._round:
            target = self._table.holder(self._round.pop())
            if target is not None and target.liveness != DEAD:
                return target
        self._round = [member.name for member in self._others()]
        self._random.shuffle(self._round)
        return self._table.holder(self._round.pop()) if self._round else None

    def _ask_others(self, probe: _Probe, out: Outbox) -> None:
        """And the member itself, by another way: packets may be lost where a link holds (memberlist)."""
        target = probe.target
        for other in self._choose(self._config.indirect_probes, target.name):
            gossip = self._fill(target.name, target.address)
            request = PingRequest(probe.seq, target.name, target.start, target.address, self._me, gossip)
            out.datagrams.append((other.address, request))
            if self._nacks:
                probe.asked[other.name] = None
        probe.nacks = len(probe.asked)
        out.sends.append((target.address, self._ping(probe)))

    def _choose(self, count: int, but: str) -> list[Member]:
        me = self._me

        def fits(member: Member) -> bool:
            return member.liveness != DEAD and member.name not in (me, but)

        return choose(self._random, self._table.current(), count, fits)

    def _others(self) -> list[Member]:
        """All that may live, without this node."""
        return [m for m in self._table.current() if m.liveness != DEAD and m.name != self._me]

    def _fill(self, *beside: str, about: Member | None = None) -> bytes:
        """about: whom the ping is for."""
        first = about if about is not None and about.liveness == SUSPECT and self._buddy else None
        return self._gossip.fill(self._me, *beside, members=len(self._table), first=first)

    def _send_nacks(self, now: float, out: Outbox) -> None:
        self._nack_at = None
        for relay in self._relays.values():
            if relay.nack_at is None:
                continue
            if relay.nack_at > now:  # all wait equally long, so no later one is due
                self._nack_at = relay.nack_at
                return
            relay.nack_at = None
            out.datagrams.append((relay.source, Nack(relay.seq, self._me)))

    def _forget_relays(self, now: float) -> None:
        """All wait equally long, so the oldest is always the first."""
        while self._relays:
            seq, relay = next(iter(self._relays.items()))
            if relay.until > now:
                return
            del self._relays[seq]


def _is_proper(request: PingRequest) -> bool:
    """Nothing is sent to what is no address, and nothing that outgrows a datagram."""
    try:
        parse_address(request.address)
    except ValueError:
        return False
    return valid_name(request.target) and len(request.target_start) == START_BYTES
