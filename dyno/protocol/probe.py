"""Ask one member after the other whether it lives.

Once every probe interval the next member of a shuffled round is pinged. When its ack is late, a few others
are asked to ping it and to relay its ack; when none has come by the end of the interval, the member is
suspected (SWIM, Das, Gupta, Motivala 2002, §3 and §4.3: round robin bounds the time to the first probe).
The other half is here too: pinging for somebody else.

In go acks, requests to relay and the time; out go pings with gossip aboard, and from `tick` the member to
suspect. A ping names its target's process start; only that process answers, so an ack is proof. At most
one probe is under way, and RELAYS_MAX relayed ones, each forgotten after an interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dyno.protocol.gossip import GossipQueue, choose
from dyno.wire.address import parse_address
from dyno.wire.members import DEAD, Member, valid_name
from dyno.wire.messages import Ack, Ping, PingRequest

if TYPE_CHECKING:
    from random import Random

    from dyno.config import Config
    from dyno.protocol.member_table import MemberTable
    from dyno.protocol.outbox import Outbox

RELAYS_MAX = 1024
START_BYTES = 8
_SEQ_BITS = 32


@dataclass(slots=True)
class _Probe:
    """target: its record when the probe began. others_at: when to ask others, None once they are."""

    seq: int
    target: Member
    others_at: float | None


@dataclass(slots=True)
class _Relay:
    """A ping sent for somebody else: to whom, and under which number, its ack goes."""

    source: str
    seq: int
    target: str
    target_start: bytes
    until: float


class Prober:
    """me: this node's name. Sequence numbers begin anywhere, so that acks meant for an earlier process at
    the same address match nothing."""

    def __init__(
        self, *, me: str, table: MemberTable, gossip: GossipQueue, config: Config, random: Random
    ) -> None:
        self._me = me
        self._table = table
        self._gossip = gossip
        self._config = config
        self._random = random
        self._seq = random.getrandbits(_SEQ_BITS)
        self._round: list[str] = []  # names left to probe, the next one last
        self._probe: _Probe | None = None
        self._next_at: float | None = None
        self._relays: dict[int, _Relay] = {}

    def start(self, now: float) -> None:
        """Nodes that start together do not probe in step."""
        self._next_at = now + self._config.probe_interval_s * self._random.random()

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def tick(self, now: float, out: Outbox) -> Member | None:
        """Do what is due. Gives the target of a probe that nobody answered: suspect it."""
        probe = self._probe
        if probe is not None and probe.others_at is not None and now >= probe.others_at:
            probe.others_at = None
            self._ask_others(probe, out)
        if self._next_at is None or now < self._next_at:
            return None
        self._next_at = now + self._config.probe_interval_s
        self._forget_relays(now)
        self._begin(now, out)
        return None if probe is None else probe.target

    def deadline(self) -> float | None:
        if self._probe is not None and self._probe.others_at is not None and self._next_at is not None:
            return min(self._probe.others_at, self._next_at)
        return self._next_at

    def acked(self, ack: Ack, out: Outbox) -> None:
        """The answer to our own probe, or one to relay; others (late, doubled, made up) are dropped."""
        probe = self._probe
        if probe is not None and probe.seq == ack.seq and probe.target.start == ack.start:
            self._probe = None
            return
        relay = self._relays.get(ack.seq)
        if relay is not None and relay.target_start == ack.start:
            del self._relays[ack.seq]
            gossip = self._fill(relay.target)
            out.datagrams.append((relay.source, Ack(relay.seq, relay.target, ack.start, gossip)))

    def relay(self, source: str, request: PingRequest, now: float, out: Outbox) -> None:
        """Ping a member for somebody whose own ping got no answer."""
        self._forget_relays(now)
        if len(self._relays) >= RELAYS_MAX or not _is_proper(request):
            return
        seq = self.next_seq()
        until = now + self._config.probe_interval_s
        self._relays[seq] = _Relay(source, request.seq, request.target, request.target_start, until)
        ping = Ping(seq, request.target, request.target_start, self._me, self._fill(request.target))
        out.datagrams.append((request.address, ping))

    def joins_round(self, name: str) -> None:
        """A member that is new, or lives again: somewhere into the present round, so that it is probed
        within one round and not by everybody at once."""
        if name not in self._round:
            self._round.insert(self._random.randint(0, len(self._round)), name)

    def drop(self) -> None:
        """This process was not running: silence proves nothing about the present target."""
        self._probe = None

    # ── inside ──

    def _begin(self, now: float, out: Outbox) -> None:
        self._probe = None
        target = self._next_target()
        if target is None:
            return
        seq = self.next_seq()
        self._probe = _Probe(seq, target, now + self._config.probe_timeout_s)
        ping = Ping(seq, target.name, target.start, self._me, self._fill(target.name))
        out.datagrams.append((target.address, ping))

    def _next_target(self) -> Member | None:
        while self._round:
            target = self._table.holder(self._round.pop())
            if target is not None and target.liveness != DEAD:
                return target
        self._round = [member.name for member in self._others("")]
        self._random.shuffle(self._round)
        return self._table.holder(self._round.pop()) if self._round else None

    def _ask_others(self, probe: _Probe, out: Outbox) -> None:
        target = probe.target
        for other in choose(self._random, self._others(target.name), self._config.indirect_probes):
            gossip = self._fill(target.name, target.address)
            request = PingRequest(probe.seq, target.name, target.start, target.address, self._me, gossip)
            out.datagrams.append((other.address, request))

    def _others(self, but: str) -> list[Member]:
        """All that may live, without this node and one more."""
        return [m for m in self._table.current() if m.liveness != DEAD and m.name not in (self._me, but)]

    def _fill(self, *beside: str) -> bytes:
        return self._gossip.fill(self._me, *beside, members=len(self._table))

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
