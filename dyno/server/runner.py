"""Runs one core on one reactor: the loop turn (PERFORMANCE, rules 1, 2, 7, 8).

A turn drains everything that is readable, lets the core handle it, starts the next commit if the disk is
idle, and flushes every link that got something, once. There is no task, timer or event per request: one
Trio task waits for the selector, one more for the next deadline.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from random import Random
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import trio

from dyno.errors import ConfigurationError, StorageFailed
from dyno.protocol.outbox import Outbox
from dyno.server.addresses import Addresses
from dyno.server.gossip import GossipSocket
from dyno.server.inbound import Inbound
from dyno.server.outbound import Outbound
from dyno.server.reads import ColdReads, MeteredEngine
from dyno.server.worker import Worker
from dyno.storage.engine import StorageFull
from dyno.transport.reactor import Reactor

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.node import Node as Core
    from dyno.wire.messages import Datagram, Hello, Message, Refuse

_DRAIN_TICK_S = 0.1
# A client that is told that this node stops pauses for longer than this before it tries again, so nothing of
# it is on the way when its link is closed; of a write that is, it could not know whether it was done.
_LINGER_S = 0.02
_TURNS_MAX = 4  # before Trio has its turn: looking once more costs less than waiting once more
# In a process that does nothing else nobody is held up by waiting here rather than in Trio, whose way from a
# socket to a task and back costs as much as reading ten records.
_DEDICATED_LINGER_S = 0.001
_DEDICATED_TURNS_MAX = 64
_TIMER_SLACK_S = 0.002  # deadlines this close to the timer's are left to it


class _Outcome(NamedTuple):
    """Of a commit. took_s: how long it took, where it went well."""

    error: Exception | None
    took_s: float


class Runner:
    """Owns the sockets and the storage thread of one node. log(level, text). dedicated: this process does
    nothing else. Raises OSError, and owns nothing then, when no descriptors are left."""

    def __init__(
        self,
        *,
        core: Core,
        engine: MeteredEngine,
        config: Config,
        listener: socket.socket,
        gossip: socket.socket,
        random: Random,
        spawn: Callable[..., None],
        log: Callable[[str, str], None],
        dedicated: bool = False,
    ) -> None:
        self._linger_s = _DEDICATED_LINGER_S if dedicated else 0.0
        self._turns_max = _DEDICATED_TURNS_MAX if dedicated else _TURNS_MAX
        self.joined = trio.Event()
        self._core = core
        self._log = log
        self._out = Outbox()
        self._now = trio.current_time()
        self._stop: Exception | None = None
        self._committing: Batch | None = None
        self._timer = trio.CancelScope()
        self._timer_at = math.inf
        self._engine = engine
        with ExitStack() as opened:  # descriptors may run out half-way
            self._reactor = Reactor(held_bytes_max=config.links_bytes_max)
            opened.callback(self._reactor.close)
            self._disk: Worker[Batch, _Outcome] = Worker(
                self._reactor, name="dyno-disk", do=self._commit, on_done=self._committed
            )
            opened.callback(self._disk.close)
            self._cold_reads = ColdReads(
                engine,
                self._reactor,
                line=core.read_line,
                now=lambda: self._now,
                receive=self._receive_warm,
            )
            opened.pop_all()
        self._addresses = Addresses(family=listener.family, spawn=spawn, log=log)
        self._gossip = GossipSocket(
            gossip,
            reactor=self._reactor,
            addresses=self._addresses,
            cluster=lambda: core.membership.cluster,
            receive=self._receive_datagram,
        )
        self._inbound = Inbound(
            listener,
            core=core,
            config=config,
            reactor=self._reactor,
            now=lambda: self._now,
            receive=self._receive,
            log=log,
        )
        self._outbound = Outbound(
            core=core,
            config=config,
            reactor=self._reactor,
            addresses=self._addresses,
            family=listener.family,
            random=random,
            now=lambda: self._now,
            up=self._link_up,
            down=self._link_down,
            refused=self._refused,
            answer=self._answer,
            log=log,
        )

    # ── the two tasks ──

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Serve until cancelled. Raises ConfigurationError when this node must not go on (superseded,
        refused by the cluster), StorageFailed when its disk fails."""
        self._now = trio.current_time()
        self._core.start(self._now, self._out)
        self._settle()
        self._set_timer()
        descriptor = self._reactor.fileno()
        while True:
            await trio.lowlevel.wait_readable(descriptor)
            for _ in range(self._turns_max):
                ready = self._reactor.poll(self._linger_s)
                if not ready:
                    break
                self._now = trio.current_time()
                self._disk.poll()  # first, so that nobody waits, or is refused, for a commit that is over
                self._reactor.visit(ready)
                self._settle()
            self._set_timer()

    @trio.lowlevel.enable_ki_protection
    async def run_timer(self) -> None:
        """Wakes at the next deadline; `run` moves it when an earlier one appears."""
        while True:
            with trio.CancelScope(deadline=self._timer_at) as self._timer:
                await trio.sleep_forever()
            self._timer_at = math.inf
            self._now = trio.current_time()
            self._reactor.turn()  # what arrived while the loop was busy came in time
            self._settle()
            self._set_timer()

    # ── a clean stop ──

    @trio.lowlevel.enable_ki_protection
    async def drain(self) -> None:
        """Take nothing new, say goodbye, finish what is under way and answer it."""
        self._addresses.close()
        self._inbound.stop_listening()
        self._now = trio.current_time()
        self._core.stop(self._now, self._out)
        self._settle()
        while self._committing is not None or self._core.busy:
            await self._turn_within(_DRAIN_TICK_S)  # some things are over only when their time is
        linger_until = trio.current_time() + (_LINGER_S if self._inbound.has_clients else 0)
        while (left := linger_until - trio.current_time()) > 0:
            await self._turn_within(left)

    async def _turn_within(self, seconds: float) -> None:
        """A turn as soon as there is something to do, or else when the time is over."""
        with trio.move_on_after(seconds):
            await trio.lowlevel.wait_readable(self._reactor.fileno())
        self._now = trio.current_time()
        self._reactor.turn()
        self._settle()

    def close(self) -> None:
        self._inbound.close()
        self._outbound.close()
        self._gossip.close()
        self._cold_reads.close()
        self._disk.close()
        self._reactor.close()

    # ── what the sockets and the disk tell ──

    def _receive(self, link: int, messages: Sequence[Message]) -> None:
        receive, now, out = self._core.receive, self._now, self._out
        for message in messages:
            if not self._engine.cold or not self._wait_for_pages(link, message):
                receive(link, message, now, out)

    def _wait_for_pages(self, link: int, message: Message) -> bool:
        """Whether a message joined the line before the cold disk, or was refused a place in it."""
        what = self._core.slots_read_by(message) or self._core.spans_read_by(message)
        if what and not self._cold_reads.take(what, link, message):
            self._core.overloaded(link, message, self._out)
        return bool(what)

    def _receive_warm(self, link: int, message: Message) -> None:
        try:
            self._core.receive(link, message, self._now, self._out)
        except ValueError as error:
            self._inbound.hang_up(link, f"not understood: {error}")

    def _commit(self, batch: Batch) -> _Outcome:
        """On the storage thread; the loop judges what comes of it."""
        started = perf_counter()
        try:
            self._engine.write_batch(batch.writes, batch.meta)
        except Exception as error:  # noqa: BLE001
            return _Outcome(error, 0.0)
        return _Outcome(None, perf_counter() - started)

    def _answer(self, address: str, message: Message) -> None:
        self._core.answer(address, message, self._now, self._out)

    def _link_up(self, address: str, hello: Hello) -> None:
        self._core.link_up(address, hello, self._now, self._out)

    def _link_down(self, address: str) -> None:
        self._core.link_down(address, self._now, self._out)

    def _refused(self, address: str, refuse: Refuse) -> None:
        self._core.refused(address, refuse, self._now, self._out)

    def _receive_datagram(self, source: str, datagram: Datagram) -> None:
        self._core.receive_datagram(source, datagram, self._now, self._out)

    def _committed(self, outcome: _Outcome) -> None:
        batch, self._committing = self._committing, None
        assert batch is not None
        self._cold_reads.committed(batch.writes)
        error = outcome.error
        if error is None:
            self._core.committed(self._now, self._out, outcome.took_s)
        elif isinstance(error, StorageFull):
            self._core.commit_failed(str(error), self._now, self._out)
        else:
            # An fsync that failed may have dropped pages, and is never tried again (fsyncgate). What became
            # of the batch nobody knows, so nobody is told anything: to all others this is a crash.
            self._stop = StorageFailed(f"the disk failed, and this node stops: {error}")

    # ── the end of a turn ──

    def _settle(self) -> None:
        core, out, now = self._core, self._out, self._now
        deadline = core.deadline()
        if deadline is not None and deadline <= now:
            core.tick(now, out)
        self._cold_reads.turn_ended()
        self._inbound.tick(now)
        self._outbound.tick(now)
        self._deliver()
        self._reactor.flush()
        while out:  # flushing may have closed a link, of which the core heard
            self._deliver()
            self._reactor.flush()
        if self._committing is None and (batch := core.take_batch(trio.current_time())) is not None:
            self._committing = batch
            self._disk.submit(batch)
        if out.stop is not None:
            self._stop = ConfigurationError(out.stop)
        if self._stop is not None:
            raise self._stop
        if not self.joined.is_set() and core.ready:
            self.joined.set()

    def _deliver(self) -> None:
        """Once through the outbox, most of which is empty most of the time."""
        out = self._out
        if out.events:
            for level, text in _taken(out.events):
                self._log(level, text)
        if out.disconnect:
            for address in _taken(out.disconnect):
                self._outbound.disconnect(address)
        if out.connect:
            for address in _taken(out.connect):
                self._outbound.connect(address)
        if out.replies:
            self._inbound.send(_taken(out.replies))
        if out.sends:
            for address, request in _taken(out.sends):
                self._outbound.send(address, request)
        if out.datagrams:
            for address, message in _taken(out.datagrams):
                self._gossip.send(address, message)

    def _set_timer(self) -> None:
        deadlines = (self._core.deadline(), self._inbound.deadline(), self._outbound.deadline())
        earliest = min((at for at in deadlines if at is not None), default=math.inf)
        if earliest < self._timer_at - _TIMER_SLACK_S:
            self._timer_at = earliest
            self._timer.deadline = earliest


_T = TypeVar("_T")


def _taken(items: list[_T]) -> list[_T]:
    """What a list of the outbox holds; the list is empty afterwards."""
    taken = items[:]
    items.clear()
    return taken
