"""One process of a node on virtual time: what `server.runner` is on a real machine.

It runs the very same `protocol.node.Node`: hands it messages, link events, finished commits and the time,
and carries out its outbox. Links are dialled, greeted and dialled again as in `server.outbound`; one batch
at a time is on its way to the disk, and written when its time has come; before a disk that reads slowly
requests stand in line, as in `server.reads`; it wakes by the node's deadline.
Everything that happens at one instant of one arrival is one turn.

In: a node that was not started, and the machine that it runs on. Out: frames, datagrams and commits. A
process ends by `stop` (says goodbye, finishes its commits), by `kill` (what is in memory is lost, and of a
commit under way the dice say whether the disk had it; it may come between any two effects of a turn), or by
the node's own will. `ended` says why. While it is *paused* it handles nothing: what comes waits in the
machine's kernel, timers ring late, and the disk finishes what it was given.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dyno.errors import StorageFailed
from dyno.protocol.outbox import Outbox
from dyno.simulator.dialler import Dialler
from dyno.storage.engine import StorageBroken, StorageFull
from dyno.wire.messages import Hello, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.protocol.group_commit import Batch
    from dyno.protocol.node import Node
    from dyno.simulator.end import End
    from dyno.simulator.kernel import Kernel
    from dyno.simulator.machine import Machine
    from dyno.simulator.network import Network
    from dyno.simulator.trace import Trace
    from dyno.wire.messages import Datagram, Refuse

# Not Final: compiled, a constant pair of floats reads as if it were not set (docs/design/compiled.md).
COMMIT_S: tuple[float, float] = (0.0005, 0.004)  # least and most that a commit takes
_TIMER_SLACK_S: Final = 1e-6  # a clock that is not true shows a time a little later than reckoned


class _Waiting(NamedTuple):
    """A request that waits for its records. until: when nobody waits for its answer any more."""

    number: int
    message: Message
    records: int
    until: float


class Process:
    """ended: why it is no more, or None while it runs. paused: whether it handles nothing."""

    def __init__(
        self,
        *,
        node: Node,
        machine: Machine,
        kernel: Kernel,
        network: Network,
        trace: Trace,
        random: Random,
    ) -> None:
        self.node = node
        self.ended: str | None = None
        self.paused = False
        self._machine = machine
        self._name = machine.name
        self._clock = machine.clock
        self._engine = machine.engine
        self._kernel = kernel
        self._network = network
        self._trace = trace
        self._random = random
        self._out = Outbox()
        self._wake_at = math.inf
        self._settling = False
        self._stopping = False
        self._late: list[tuple[Callable[..., None], tuple[Any, ...]]] = []  # what rang during a pause
        self._effects_left: int | None = None  # until it is killed
        self._kill_commits: bool | None = None
        self._committing: Batch | None = None
        self._reading: deque[_Waiting] = deque()
        self._inbound: dict[int, End] = {}
        self._number_of: dict[End, int] = {}  # 0 until its Hello was judged
        self._last_number = 0
        self._dialler = Dialler(
            machine=self._name,
            hello=node.hello,
            config=machine.config,
            after=self._after,
            network=network,
            random=random,
            up=self._link_up,
            down=self._link_down,
            refused=self._refused,
            answers=self._answers,
        )

    # ── its life ──

    def start(self) -> None:
        self._network.listen(self._machine.address, self)
        now = self._clock.now
        self.node.start(now, self._out)
        self._settle(now)

    def stop(self) -> None:
        """Begin a clean end: no new links, a goodbye, what is on its way to the disk. Ends by itself then."""
        if self.paused:
            self._late.append((self.stop, ()))
            return
        self._network.listen(self._machine.address, None)
        self._stopping = True
        now = self._clock.now
        self.node.stop(now, self._out)
        self._settle(now)

    def kill(self, *, commits: bool | None = None, after_effects: int = 0) -> None:
        """At once, or after so many more effects: messages, datagrams, links, batches that the disk gets.
        commits: whether the disk was done with a commit under way and just could not say so any more; None
        lets the dice decide."""
        if self.ended is not None:
            return
        if after_effects:
            self._effects_left, self._kill_commits = after_effects, commits
            return
        done = self._random.random() < 0.5 if commits is None else commits
        if self._committing is not None and done:
            self._write(self._committing)
        self._end("killed")

    def pause(self) -> None:
        if self.ended is None and not self.paused:
            self.paused = True
            self._trace.note(self._kernel.now, self._name, "", "paused")
            self._network.hold(self._name)

    def resume(self) -> None:
        """Handle all that came meanwhile, then all timers that should have rung."""
        if not self.paused:
            return
        self.paused = False
        self._trace.note(self._kernel.now, self._name, "", "goes on")
        self._network.release(self._name)
        late, self._late = self._late, []
        for action, args in late:
            if self.ended is None:
                action(*args)

    def _end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
            self._trace.note(self._kernel.now, self._name, "", f"ended: {reason}")
            self._network.listen(self._machine.address, None)
            self._dialler.close("the process ended")
            for end in self._number_of:
                self._network.close(end, "the process ended")
            if self.paused:
                self.paused = False
                self._network.release(self._name)

    # ── its timers ──

    def _after(self, seconds: float, action: Callable[..., None], *args: Any) -> None:
        self._kernel.after(seconds, self._ring, action, args)

    def _ring(self, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        if self.paused:
            self._late.append((action, args))
        elif self.ended is None:
            action(*args)

    def is_linked(self, address: str) -> bool:
        """Whether an outbound link is up."""
        return self._dialler.end_at(address) is not None

    # ── inbound links ──

    def accept(self, end: End) -> None:
        self._number_of[end] = 0
        end.on_messages = self._first_messages
        end.on_closed = self._inbound_closed

    def _first_messages(self, end: End, messages: Sequence[Message]) -> None:
        hello = messages[0]
        if not isinstance(hello, Hello) or len(messages) > 1:
            self._hang_up(end, "the first message was no hello")
            return
        refuse = self.node.accept(hello, self._clock.now)
        if refuse is not None:
            end.queue.append(refuse)
            self._network.flush(end)
            self._hang_up(end, "refused")
            return
        self._last_number += 1
        self._inbound[self._last_number] = end
        self._number_of[end] = self._last_number
        end.on_messages = self._requests
        end.queue.append(self.node.hello(hello))
        self._network.flush(end)

    def _requests(self, end: End, messages: Sequence[Message]) -> None:
        number, now, out = self._number_of[end], self._clock.now, self._out
        receive = self.node.receive if not self._machine.seconds_per_read else self._receive_slowly
        try:
            for message in messages:
                receive(number, message, now, out)
        except ValueError as error:
            self._hang_up(end, f"not understood: {error}")
        self._settle(now)

    def _receive_slowly(self, number: int, message: Message, now: float, out: Outbox) -> None:
        """What reads waits until the disk has done so, one after the other."""
        node = self.node
        records = len(node.slots_read_by(message) or node.spans_read_by(message))
        if not records:
            node.receive(number, message, now, out)
            return
        node.read_line.mean_s = self._machine.seconds_per_read
        until = node.read_line.join(message, now, records=records)
        if until is None:
            node.overloaded(number, message, out)
            return
        self._reading.append(_Waiting(number, message, records, until))
        if len(self._reading) == 1:
            self._read_on()

    def _read_on(self) -> None:
        self._after(self._machine.seconds_per_read * self._reading[0].records, self._read_next)

    def _read_next(self) -> None:
        now = self._clock.now
        number, waiting, records, until = self._reading.popleft()
        message = self.node.read_line.leave(waiting, until, now, records=records)
        if message is not None:
            try:
                self.node.receive(number, message, now, self._out)
            except ValueError as error:
                end = self._inbound.get(number)
                if end is not None:
                    self._hang_up(end, f"not understood: {error}")
        if self._reading:
            self._read_on()
        self._settle(now)

    def _hang_up(self, end: End, reason: str) -> None:
        self._network.close(end, reason)
        self._inbound_closed(end, reason)

    def _inbound_closed(self, end: End, reason: str) -> None:
        self._inbound.pop(self._number_of.pop(end), None)

    def receive_datagram(self, source: str, cluster: bytes, message: Datagram) -> None:
        if cluster == self.node.membership.cluster:
            now = self._clock.now
            self.node.receive_datagram(source, message, now, self._out)
            self._settle(now)

    # ── outbound links ──

    def _link_up(self, address: str, hello: Hello) -> None:
        now = self._clock.now
        self.node.link_up(address, hello, now, self._out)
        self._settle(now)

    def _link_down(self, address: str) -> None:
        if self.ended is None:
            now = self._clock.now
            self.node.link_down(address, now, self._out)
            self._settle(now)

    def _refused(self, address: str, refuse: Refuse) -> None:
        now = self._clock.now
        self.node.refused(address, refuse, now, self._out)
        self._settle(now)

    def _answers(self, address: str, messages: Sequence[Message]) -> None:
        """Raises ValueError for what is no answer."""
        now, answer, out = self._clock.now, self.node.answer, self._out
        try:
            for message in messages:
                answer(address, message, now, out)
        finally:
            self._settle(now)

    # ── the disk ──

    def _commit(self, batch: Batch, took_s: float) -> None:
        now = self._clock.now
        self._committing = None
        error = self._write(batch)
        if error is None:
            self.node.committed(now, self._out, took_s)
        elif isinstance(error, StorageFull):
            self.node.commit_failed(str(error), now, self._out)
        else:  # what became of the batch nobody knows, so nobody is told anything
            self._out.stop = str(StorageFailed(f"the disk failed, and this node stops: {error}"))
        self._settle(now)

    def _write(self, batch: Batch) -> Exception | None:
        try:
            self._engine.write_batch(batch.writes, batch.meta)
        except (StorageFull, StorageBroken) as error:
            return error
        return None

    # ── the end of a turn ──

    def _settle(self, now: float) -> None:
        if self._settling or self.ended is not None:
            return  # carrying out something closed a link, of which the node heard: the turn goes on
        node = self.node
        alive = self._carry_out(now)
        deadline = node.deadline()
        if alive and deadline is not None and deadline <= now:  # what was gathered in this turn begins now
            node.tick(now, self._out)
            alive = self._carry_out(now)
            deadline = node.deadline()
        if not alive:
            return
        if self._out.stop is not None:
            self._end(self._out.stop)
        elif self._stopping and self._committing is None and not node.busy:
            self._end("stopped")
        elif deadline is not None and deadline < self._wake_at:
            self._wake_at = deadline
            self._kernel.at(self._clock.true_time(deadline), self._wake, deadline)

    def _carry_out(self, now: float) -> bool:
        """Empty the outbox, and give the disk what waits for it. Whether the process survived that."""
        self._settling = True
        out = self._out
        while self.ended is None:
            if out.datagrams or out.connect or out.disconnect or out.events or self._effects_left is not None:
                if not out:
                    break
                self._deliver() if self._effects_left is None else self._deliver_singly()
            elif out.replies or out.sends:
                self._send()
            else:
                break
        self._settling = False
        if self._committing is None and self.ended is None:
            batch = self.node.take_batch(now)
            if batch is not None:
                self._hand_over(batch)
        return self.ended is None

    def _hand_over(self, batch: Batch) -> None:
        self._committing = batch
        least, most = self._machine.commit_s
        seconds = least + (most - least) * self._random.random()
        seconds += self._machine.seconds_per_record * len(batch.writes)
        self._after(seconds, self._commit, batch, seconds)
        if self._effects_left is not None:
            self._did_one()

    def _deliver(self) -> None:
        """Once through the outbox; what it leads to may fill it again."""
        out = self._out
        if out.events:
            self._tell_events()
        if out.disconnect:
            disconnect, out.disconnect = out.disconnect, []
            for address in disconnect:
                self._dialler.disconnect(address)
        if out.connect:
            connect, out.connect = out.connect, []
            for address in connect:
                self._dialler.connect(address)
        if out.replies or out.sends:
            self._send()
        if out.datagrams:
            datagrams, out.datagrams = out.datagrams, []
            cluster = self.node.membership.cluster
            for address, message in datagrams:
                self._network.send_datagram(self._name, address, cluster, message)

    def _tell_events(self) -> None:
        events, self._out.events = self._out.events, []
        for level, text in events:
            self._trace.note(self._kernel.now, self._name, "", f"{level}: {text}")

    def _send(self) -> None:
        """Everything for one link goes in one frame; what is for a link that is gone is dropped."""
        out = self._out
        dirty: dict[End, None] = {}
        if out.replies:
            replies, out.replies = out.replies, []
            for number, reply in replies:
                end = self._inbound.get(number)
                if end is not None:
                    end.queue.append(reply)
                    dirty[end] = None
        if out.sends:
            sends, out.sends = out.sends, []
            for address, request in sends:
                end = self._dialler.end_at(address)
                if end is not None:
                    end.queue.append(request)
                    dirty[end] = None
        for end in dirty:
            self._network.flush(end)

    def _wake(self, at: float) -> None:
        if at != self._wake_at or self.ended is not None:
            return
        if self.paused:
            self._late.append((self._wake, (at,)))
            return
        now = self._clock.now
        if now < at:  # by a rounding, or the clock runs slower since
            later = max(self._clock.true_time(at), self._kernel.now + _TIMER_SLACK_S)
            self._kernel.at(later, self._wake, at)
            return
        self._wake_at = math.inf
        self.node.tick(now, self._out)
        self._settle(now)

    # ── a turn that it does not survive ──

    def _deliver_singly(self) -> None:
        """As `_deliver`, one effect after the other, until that which is its last."""
        self._tell_events()
        for effect, args in self._effects():
            effect(*args)
            if self._did_one():
                return

    def _effects(self) -> list[tuple[Callable[..., None], tuple[Any, ...]]]:
        """All of the outbox, which is empty then."""
        out, cluster = self._out, self.node.membership.cluster
        effects: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
            *((self._dialler.disconnect, (address,)) for address in out.disconnect),
            *((self._dialler.connect, (address,)) for address in out.connect),
            *((self._send_one, (self._inbound.get(number), reply)) for number, reply in out.replies),
            *((self._send_one, (self._dialler.end_at(address), ask)) for address, ask in out.sends),
            *(
                (self._network.send_datagram, (self._name, address, cluster, message))
                for address, message in out.datagrams
            ),
        ]
        for done in (out.disconnect, out.connect, out.replies, out.sends, out.datagrams):
            done.clear()
        return effects

    def _send_one(self, end: End | None, message: Message) -> None:
        if end is not None:
            end.queue.append(message)
            self._network.flush(end)

    def _did_one(self) -> bool:
        """Whether that effect was its last."""
        assert self._effects_left is not None
        self._effects_left -= 1
        if self._effects_left == 0:
            self.kill(commits=self._kill_commits)
        return self.ended is not None
