"""Many members and nothing else: the product's own `Membership` machines on virtual time, to measure with.

What a whole simulated node has besides (a disk, requests, links that break) does not matter to failure
detection and would take most of the time, so it is left out: messages cross as values, on a network without
loss and with LATENCY_S, and all links are up. All members know each other from the start.

Some of them can be *frozen*, in one of three ways. What they are sent waits until the end of the freeze.

    blocked   as in the paper: whatever wants to send or has received something stops there. So timers ring
              until a probe begins; its ping waits, and by the end of the freeze its time is over.
    stopped   the process does not run: no timer rings.
    cut_off   the process runs, and all its timers ring, but what it sends waits. It cannot see that anything
              is wrong with itself.

In which order a process finds its timers and its mail when it goes on is for the `Detector` to say: its
timers first, as where each has a thread of its own (memberlist, which the paper measured); or as dyno's
runner does it, up to MAIL_PER_TURN messages before the timers.

In: a seed. Out: all failures that anybody declared, and what that cost in messages.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from heapq import heappop, heappush
from random import Random
from typing import Any, Final, NamedTuple

from dyno.config import Config
from dyno.protocol.membership import Membership
from dyno.protocol.outbox import Outbox
from dyno.wire import datagram
from dyno.wire.codec import append as append_message
from dyno.wire.codec import encode_frame
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import Ping

BLOCKED, STOPPED, CUT_OFF = KINDS = ("blocked", "stopped", "cut_off")
CLUSTER: Final = b"a cluster's id.."
LATENCY_S: Final = (0.0002, 0.001)  # least and most
MAIL_PER_TURN: Final = 128  # datagrams that a node reads before it looks at its timers (server.gossip)
SIZES_EVERY: Final = 16  # of so many messages of a class one is encoded, to know their sizes
_IS_DEAD: Final = " is dead"
_STAMP: Final = 2


class Detector(NamedTuple):
    """A way to detect failures: the configuration of all members, and what else a Membership is to be like.
    timers_first: see above."""

    config: Config
    nacks: bool
    buddy: bool
    careful: bool
    timers_first: bool


class Failure(NamedTuple):
    """At some time an observer came to hold a member dead. Both by number."""

    at: float
    observer: int
    member: int


class Cluster:
    """now: starts at 0. failures: in the order of time. messages: how many were sent, by class. bytes: what
    these take on the wire, without headers of UDP and TCP, about."""

    def __init__(self, members: int, *, detector: Detector, seed: str) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.failures: list[Failure] = []
        self.messages: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.detector = detector
        self._heap: list[tuple[float, int, Any, Any]] = []
        self._count = 0
        records = [_record(number) for number in range(members)]
        self.number_at = {record.address: number for number, record in enumerate(records)}
        self.number_of = {record.name: number for number, record in enumerate(records)}
        self.members = [_Process(self, number, records) for number in range(members)]
        for member in self.members:
            member.start()

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, what, arg = heappop(heap)
            what(arg)
        self.now = end

    def at(self, when: float, what: Any, arg: Any) -> None:
        self._count += 1
        heappush(self._heap, (when, self._count, what, arg))

    def freeze(self, members: Sequence[int], kind: str) -> None:
        for number in members:
            self.members[number].freeze(kind)

    def thaw(self, members: Sequence[int]) -> None:
        """In lock-step: nobody hears of what another one sent before all have read what waited for them."""
        for number in members:
            self.members[number].thaw()

    # ── what processes need ──

    def send(self, target: int, what: Any, message: Any, size_of: Any) -> None:
        kind = type(message).__name__
        count = self.messages[kind]
        self.messages[kind] = count + 1
        if count % SIZES_EVERY == 0:
            self.bytes[kind] += SIZES_EVERY * size_of(message)
        least, most = LATENCY_S
        self.at(self.now + least + (most - least) * self.random.random(), self._arrive, (target, what))

    def _arrive(self, arrival: tuple[int, Any]) -> None:
        target, (verb, source, message) = arrival
        self.members[target].got(verb, source, message)


class _Process:
    """A member and its runner."""

    def __init__(self, cluster: Cluster, number: int, records: Sequence[Member]) -> None:
        self._cluster = cluster
        self._number = number
        self._address = records[number].address
        self._peers = [record.address for record in records if record.address != self._address]
        detector = cluster.detector
        self._timers_first = detector.timers_first
        known = list(records)
        known[number] = records[number]._replace(stamp=_STAMP - 1)  # it takes the next one
        self.membership = Membership(
            me=known[number],
            cluster=CLUSTER,
            partitions=64,
            known=known,
            seeds=(),
            config=detector.config,
            random=Random(cluster.random.random()),
            holds_data=bool,
            nacks=detector.nacks,
            buddy=detector.buddy,
            careful=detector.careful,
        )
        self._out = Outbox()
        self._wake_at: float | None = None
        self._frozen = ""  # or the kind
        self._mail: deque[tuple[str, Any, Any]] = deque()
        self._unsent: list[tuple[int, Any, Any, Any]] = []

    def start(self) -> None:
        """All links are up, and whom they lead to is known to know this start."""
        self.membership.start(0.0, self._out)
        for address in self._peers:
            self.membership.link_up(address, 0.0, self._out)
        self._out = Outbox()
        self._set_alarm()

    # ── freezing ──

    def freeze(self, kind: str) -> None:
        self._frozen = kind

    def thaw(self) -> None:
        frozen, self._frozen = self._frozen, ""
        unsent, self._unsent = self._unsent, []
        for target, what, message, size_of in unsent:
            self._cluster.send(target, what, message, size_of)
        if self._timers_first and frozen != CUT_OFF:
            self._tick()
        turn = len(self._mail) if self._timers_first else MAIL_PER_TURN
        while self._mail:
            for _ in range(min(turn, len(self._mail))):
                self._read(*self._mail.popleft())
            self._tick()
        self._tick()

    # ── running ──

    def got(self, verb: str, source: Any, message: Any) -> None:
        if self._frozen:
            self._mail.append((verb, source, message))
        else:
            self._read(verb, source, message)
            self._set_alarm()

    def _read(self, verb: str, source: Any, message: Any) -> None:
        getattr(self.membership, verb)(source, message, self._cluster.now, self._out)
        self._empty()

    def _ring(self, due: float) -> None:
        if due == self._wake_at:
            self._wake_at = None
            if (
                not self._frozen
                or self._frozen == CUT_OFF
                or (
                    self._frozen == BLOCKED
                    and not any(type(message) is Ping for _, _, message, _ in self._unsent)
                )
            ):
                self._tick()

    def _tick(self) -> None:
        due = self.membership.deadline()
        if due is not None and due <= self._cluster.now:
            self.membership.tick(self._cluster.now, self._out)
            self._empty()
        self._set_alarm()

    def _set_alarm(self) -> None:
        due = self.membership.deadline()
        if due is not None and (self._wake_at is None or due < self._wake_at):
            self._wake_at = due
            self._cluster.at(due, self._ring, due)

    def _empty(self) -> None:
        out, cluster = self._out, self._cluster
        if out.datagrams:
            for address, message in out.datagrams:
                self._send(address, ("receive_datagram", self._address, message), message, _datagram_size)
            out.datagrams.clear()
        if out.events:
            for _, text in out.events:
                if text.endswith(_IS_DEAD):
                    number = cluster.number_of[text.removesuffix(_IS_DEAD)]
                    cluster.failures.append(Failure(cluster.now, self._number, number))
            out.events.clear()
        if out.sends or out.durable_sends:
            for address, request in (*out.sends, *out.durable_sends):
                self._send(address, ("receive", self._number, request), request, _frame_size)
            out.sends.clear()
            out.durable_sends.clear()
        if out.replies or out.durable_replies:
            for number, answer in (*out.replies, *out.durable_replies):
                address = cluster.members[number]._address
                self._send(address, ("answer", self._address, answer), answer, _frame_size)
            out.replies.clear()
            out.durable_replies.clear()
        out.meta.clear()

    def _send(self, address: str, what: Any, message: Any, size_of: Any) -> None:
        target = self._cluster.number_at[address]
        if self._frozen:
            self._unsent.append((target, what, message, size_of))
        else:
            self._cluster.send(target, what, message, size_of)


def _record(number: int) -> Member:
    """As members are called and addressed somewhere."""
    name = f"node-{number:04}"
    ids = Random(name)
    return Member(
        name=name,
        directory=ids.randbytes(16),
        seat=ids.randbytes(16),
        start=ids.randbytes(8),
        stamp=_STAMP,
        incarnation=0,
        state=NORMAL,
        liveness=ALIVE,
        address=f"10.1.{number // 250}.{number % 250 + 1}:7101",
        zone="",
        weight=1.0,
    )


def _datagram_size(message: Any) -> int:
    return len(datagram.encode(CLUSTER, message))


def _frame_size(message: Any) -> int:
    fields: list[object] = []
    append_message(message, fields)
    return len(encode_frame(fields))
