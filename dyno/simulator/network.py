"""A network between machines: connections that keep order, datagrams that do not, and cables that fail.

A *connection* is two ends, each held by one machine. What is queued at an end in one turn leaves as one frame
and arrives after a latency, never before an earlier frame of the same direction; a message too large for a
frame takes the time that its bytes need and may be overtaken, as in `wire.link`. Datagrams arrive each for
itself. Messages cross as values; every so many frames, and datagrams, one goes through the codec and must
come out equal. What a cable does to them is in `cable`.

A *cut* from one machine to another holds back all that connections would carry, as TCP does by sending it
again and again, until it is healed; who waits for longer than `stall_max_s` gives up, and both ends hear that
the connection timed out. Datagrams and dials are lost in a cut. Closing an end tells the other one, after all
that was sent before.

A machine that is *held* handles nothing: its kernel takes connections, frames and datagrams, as many as its
buffers hold, until it is released.

In: machines with names, and what they send. Out: calls of `on_messages`, `on_closed`, `accept` and
`receive_datagram`, at their time. Every arrival goes to the trace.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Protocol

from dyno.config import CHUNK_BYTES, DATAGRAM_BYTES_MAX
from dyno.simulator import codec_check
from dyno.simulator.cable import LATENCY_S, STALL_MAX_S, Cable, Quality, Waiting
from dyno.simulator.end import End, nobody_hears
from dyno.wire.codec import LINK

if TYPE_CHECKING:
    from collections.abc import Callable

    from dyno.simulator.kernel import Kernel
    from dyno.simulator.trace import Trace
    from dyno.wire.messages import Datagram, Message

CODEC_EVERY: Final = 64  # frames, and datagrams, of which one is encoded and decoded
UNSENT_BYTES_MAX: Final = 64 << 20  # behind a cut, before the sender hangs up, as a link of `transport` does
UNREAD_BYTES_MAX: Final = 6 << 20  # of one connection in a held machine's kernel
UNREAD_DATAGRAMS_MAX: Final = 256
UNACCEPTED_MAX: Final = 1024  # connections to a held machine; further dials hear nothing

_ENCODERS = LINK.encoders


class Listener(Protocol):
    """A process that can be reached at an address."""

    def accept(self, end: End) -> None:
        """Somebody dialled; this is our end. Sets its `on_messages` and `on_closed`."""

    def receive_datagram(self, source: str, cluster: bytes, message: Datagram) -> None:
        """source: the sender's address. cluster: the id in the packet's head."""


class _Held:
    """What a machine's kernel keeps for a process that handles nothing: actions, in their order."""

    __slots__ = ("actions", "datagrams", "dials")

    def __init__(self) -> None:
        self.actions: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.datagrams = 0
        self.dials = 0


class Network:
    """latency_s: least and most seconds of a frame's way. stall_max_s: how long a connection waits for a cut
    to be healed."""

    def __init__(
        self,
        kernel: Kernel,
        trace: Trace,
        *,
        latency_s: tuple[float, float] = LATENCY_S,
        stall_max_s: float = STALL_MAX_S,
    ) -> None:
        self._kernel = kernel
        self._trace = trace
        self._stall_max_s = stall_max_s
        self._random = kernel.random("network")
        self._sound = Quality(latency_s)
        self._common = self._sound
        self._own: dict[tuple[str, str], Quality] = {}
        self._cables: dict[tuple[str, str], Cable] = {}
        self._machine_at: dict[str, str] = {}
        self._address_of: dict[str, str] = {}
        self._listeners: dict[str, Listener] = {}
        self._held: dict[str, _Held] = {}
        self._off: dict[str, list[End]] = {}  # by machine: the ends of others to it
        self._sent = 0
        self._ends: dict[str, dict[End, None]] = {}  # open ones, by machine

    # ── machines ──

    def plug(self, machine: str, address: str) -> None:
        """A machine is there, whether a process listens on it or not."""
        self._machine_at[address] = machine
        self._address_of[machine] = address
        self._ends.setdefault(machine, {})

    def power_off(self, machine: str) -> None:
        """What is sent to it is lost, nobody refuses a dial, and none of its connections says goodbye: others
        give them up after `stall_max_s`, or when the machine is on again and knows nothing of them."""
        if machine not in self._off:
            near = list(self._ends[machine])
            self._off[machine] = [end.other for end in near]
            for end in near:
                self._shut(end)
                self._kernel.after(self._stall_max_s, self._hang_up, end.other, "connection timed out")

    def power_on(self, machine: str) -> None:
        for end in self._off.pop(machine, ()):
            self._send_close(end.other, "connection reset", 0)

    def listen(self, address: str, listener: Listener | None) -> None:
        """None: nobody listens any more."""
        if listener is None:
            self._listeners.pop(address, None)
        else:
            self._listeners[address] = listener

    def machines(self) -> list[str]:
        """Those with an address, and those that ever dialled."""
        return list(self._ends)

    def hold(self, machine: str) -> None:
        """The machine's process handles nothing until `release`."""
        self._held.setdefault(machine, _Held())

    def release(self, machine: str) -> None:
        """What its kernel kept is handled now, in its order; what a process that has ended left behind is
        refused."""
        held = self._held.pop(machine, None)
        if held is not None:
            for action, args in held.actions:
                action(*args)

    # ── cables ──

    def quality(self, source: str, target: str) -> Quality:
        return self._cable(source, target).quality

    def set_quality(self, source: str, target: str, quality: Quality) -> None:
        self._own[source, target] = quality
        self._requalify_one((source, target), self._cable(source, target))

    @property
    def common_quality(self) -> Quality:
        return self._common

    def set_common_quality(self, quality: Quality) -> None:
        """Of all cables that were not given one of their own."""
        self._common = quality
        self._requalify()

    def repair(self) -> None:
        """All cables are what they were in the beginning; cuts stay."""
        self._own.clear()
        self._common = self._sound
        self._requalify()

    def set_latency(self, source: str, target: str, latency_s: tuple[float, float]) -> None:
        self.set_quality(source, target, self.quality(source, target)._replace(latency_s=latency_s))

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from source to target any more; the other direction has a cable of its own."""
        cable = self._cable(source, target)
        if cable.held is None:
            cable.held = []
            self._line_up(cable, list(cable.queue))
            self._trace.note(self._kernel.now, source, target, "the cable is cut")

    def heal(self, source: str, target: str) -> None:
        """What was held back gets through now, in its order."""
        cable = self._cable(source, target)
        held, cable.held = cable.held, None
        if held is not None:
            self._trace.note(self._kernel.now, source, target, "the cable is whole again")
            for send, end, what, size in held:
                end.unsent_bytes = 0
                end.stalls += end.stalls % 2
                self._send(end, send, what, size)

    def drop(self, one: str, other: str) -> None:
        """Break every connection between two machines; both sides hear of it now."""
        for near in [end for end in self._ends[one] if end.other.machine == other]:
            self._break(near, "connection reset")

    def cuts(self) -> list[tuple[str, str]]:
        return [way for way, cable in self._cables.items() if cable.held is not None]

    # ── connections ──

    def dial(
        self,
        source: str,
        address: str,
        *,
        on_connected: Callable[[End], None],
        on_failed: Callable[[str], None],
    ) -> None:
        """Ends in one of the two calls, or in none while a cable is cut or nobody has that address."""
        self._ends.setdefault(source, {})
        target = self._machine_at.get(address)
        if target is None:
            return
        way, back = self._cable(source, target), self._cable(target, source)
        seconds = way.dial_s()
        if way.held is None and back.held is None and seconds < math.inf:
            self._kernel.after(seconds, self._dialled, source, target, on_connected, on_failed)

    def _dialled(
        self, source: str, target: str, on_connected: Callable[[End], None], on_failed: Callable[[str], None]
    ) -> None:
        way_back = self._cable(target, source)
        back = way_back.dial_s()
        if back == math.inf or target in self._off:
            return
        if self._address_of[target] not in self._listeners:
            self._kernel.after(back, self._failed, source, on_failed, "connection refused")
            return
        held = self._held.get(target)
        if held is not None:
            if held.dials >= UNACCEPTED_MAX:
                return
            held.dials += 1
        near, far = End(source, self._cable(source, target)), End(target, way_back)
        near.other, far.other = far, near
        # Until their owners know of them.
        near.on_closed = far.on_closed = nobody_hears
        self._ends[source][near] = self._ends[target][far] = None
        self._accept(far)
        near.arrived_at = max(near.arrived_at, self._kernel.now + back)
        self._kernel.at(near.arrived_at, self._connected, near, on_connected, on_failed)

    def _accept(self, end: End) -> None:
        if self._waits(end.machine, self._accept, end):
            return
        listener = self._listeners.get(self._address_of[end.machine])
        if listener is None:
            self.close(end, "connection reset")
        elif end.open:
            listener.accept(end)

    def _connected(
        self, near: End, on_connected: Callable[[End], None], on_failed: Callable[[str], None]
    ) -> None:
        if self._waits(near.machine, self._connected, near, on_connected, on_failed):
            return
        if near.open:
            on_connected(near)
        else:
            on_failed("connection reset")

    def _failed(self, source: str, on_failed: Callable[[str], None], reason: str) -> None:
        if not self._waits(source, self._failed, source, on_failed, reason):
            on_failed(reason)

    def flush(self, end: End) -> None:
        """Send what is queued at an end: small messages in one frame, each large one for itself."""
        messages, end.queue = end.queue, []
        if not end.open or not messages:
            return
        size = 0
        for message in messages:
            bytes_ = _ENCODERS[type(message)][1](message)
            if bytes_ > CHUNK_BYTES:
                self._flush_large(end, messages)
                return
            size += bytes_
        if end.cable.clear:
            self._send_frame(end, messages, size)
        else:
            self._send(end, self._send_frame, messages, size)

    def _flush_large(self, end: End, messages: list[Message]) -> None:
        small = [message for message in messages if _size(message) <= CHUNK_BYTES]
        if small:
            self._send(end, self._send_frame, small, sum(map(_size, small)))
        for message in messages:
            size = _size(message)
            if size > CHUNK_BYTES:
                if end.cable.held is None:
                    self._send_large(end, [message], size)  # nothing stands in line behind it
                else:
                    self._send(end, self._send_large, [message], size)

    def close(self, end: End, reason: str) -> None:
        """The owner of an end is done with it; the other end hears of it. Idempotent."""
        if end.open:
            self._shut(end)
            self._send(end, self._send_close, reason, 0)

    def _send(self, end: End, send: Callable[[End, Any, int], None], what: object, size: int) -> None:
        cable = end.cable
        if cable.clear:
            send(end, what, size)
        elif cable.held is not None:
            self._hold_back(cable.held, Waiting(send, end, what, size))
        else:
            cable.queue.append(Waiting(send, end, what, size))
            if len(cable.queue) == 1:
                self._transmit(cable)

    def _transmit(self, cable: Cable) -> None:
        """The first in line before a narrow cable begins to leave."""
        seconds = cable.transmission_s(cable.queue[0].size)
        self._kernel.after(seconds, self._transmitted, cable, cable.lines)

    def _transmitted(self, cable: Cable, line: int) -> None:
        if cable.lines != line:
            return
        send, end, what, size = cable.queue.popleft()
        send(end, what, size)
        if cable.queue:
            self._transmit(cable)

    def _hold_back(self, held: list[Waiting], waiting: Waiting) -> None:
        end = waiting.end
        held.append(waiting)
        end.unsent_bytes += waiting.size
        if not end.stalls % 2:
            end.stalls += 1
            self._kernel.after(self._stall_max_s, self._stalled, end, end.stalls)
        if end.unsent_bytes > UNSENT_BYTES_MAX and end.open:
            self._cut_off(end)

    def _send_frame(self, end: End, messages: list[Message], size: int) -> None:
        self._sent += 1
        if self._sent % CODEC_EVERY == 0:
            codec_check.check_frame(messages)
        other, kernel = end.other, self._kernel
        at = kernel.now + end.cable.frame_s()
        if at < other.arrived_at:
            at = other.arrived_at  # not before an earlier one
        else:
            other.arrived_at = at
        if at < math.inf:
            kernel.at(at, self._arrive, other, messages, size)
        else:
            self._give_up(end)

    def _send_large(self, end: End, messages: list[Message], size: int) -> None:
        self._sent += 1
        if self._sent % CODEC_EVERY == 0:
            codec_check.check_frame(messages)
        other, cable = end.other, end.cable
        at = other.next_bulk_arrival(self._kernel.now + cable.frame_s() + cable.transmission_s(size))
        if at < math.inf:
            self._kernel.at(at, self._arrive, other, messages, size)
        else:
            self._give_up(end)

    def _send_close(self, end: End, reason: str, size: int) -> None:
        other = end.other
        at = other.last_arrival(self._kernel.now + end.cable.frame_s())
        if at < math.inf:
            self._kernel.at(at, self._hang_up, other, reason)
        else:
            self._give_up(end)

    def _arrive(self, end: End, messages: list[Message], size: int) -> None:
        if not end.open:
            return
        if self._held and end.machine in self._held:
            self._keep_unread(end, messages, size)
            return
        now, source, target, note = self._kernel.now, end.other.machine, end.machine, self._trace.note
        for message in messages:
            note(now, source, target, message)
        end.on_messages(end, messages)

    def _keep_unread(self, end: End, messages: list[Message], size: int) -> None:
        """Past what the kernel holds the sender has to keep it, who hangs up when that is too much for him;
        where the limit between the two lies nobody can see."""
        end.unread_bytes += size
        if end.unread_bytes > UNREAD_BYTES_MAX + UNSENT_BYTES_MAX:
            self._cut_off(end.other)
            return
        self._held[end.machine].actions.append((self._read, (end, messages, size)))

    def _read(self, end: End, messages: list[Message], size: int) -> None:
        end.unread_bytes -= size
        self._arrive(end, messages, size)

    # ── ends of connections ──

    def _stalled(self, end: End, stall: int) -> None:
        if end.stalls == stall:
            self._break(end, "connection timed out")

    def _cut_off(self, sender: End) -> None:
        """What a sender has to keep is too much for him."""
        if sender.open:
            self._hang_up(sender, "the other side reads too slowly")
            self._send(sender, self._send_close, "the other side hung up", 0)

    def _give_up(self, end: End) -> None:
        """Something was lost again and again; what follows it waits in vain."""
        self._kernel.after(self._stall_max_s, self._break, end, "connection timed out")

    def _break(self, end: End, reason: str) -> None:
        """Both sides hear of it now; what was held back for either is dropped."""
        for side in (end, end.other):
            cable = side.cable
            if cable.held:
                cable.held = [waiting for waiting in cable.held if waiting.end is not side]
            if cable.queue:
                self._line_up(cable, [waiting for waiting in cable.queue if waiting.end is not side])
        self._hang_up(end, reason)
        self._hang_up(end.other, reason)

    def _hang_up(self, end: End, reason: str) -> None:
        if end.open and not self._waits(end.machine, self._hang_up, end, reason):
            self._shut(end)
            self._trace.note(self._kernel.now, end.other.machine, end.machine, f"closed: {reason}")
            end.on_closed(end, reason)

    def _shut(self, end: End) -> None:
        end.open = False
        end.queue.clear()
        del self._ends[end.machine][end]

    # ── datagrams ──

    def send_datagram(self, source: str, address: str, cluster: bytes, message: Datagram) -> None:
        target = self._machine_at.get(address)
        if target is None:
            return
        cable = self._cable(source, target)
        if cable.held is not None:
            return
        self._sent += 1
        if self._sent % CODEC_EVERY == 0:
            codec_check.check_datagram(cluster, message)
        for seconds in cable.datagram_s(DATAGRAM_BYTES_MAX):
            self._kernel.after(seconds, self._datagram, source, target, cluster, message)

    def _datagram(self, source: str, target: str, cluster: bytes, message: Datagram) -> None:
        held = self._held.get(target) if self._held else None
        if held is not None:
            if held.datagrams < UNREAD_DATAGRAMS_MAX:
                held.datagrams += 1
                held.actions.append((self._datagram, (source, target, cluster, message)))
            return
        listener = self._listeners.get(self._address_of[target])
        if listener is not None:
            self._trace.note(self._kernel.now, source, target, message)
            listener.receive_datagram(self._address_of[source], cluster, message)

    # ── inside ──

    def _cable(self, source: str, target: str) -> Cable:
        cable = self._cables.get((source, target))
        if cable is None:
            quality = self._own.get((source, target), self._common)
            cable = self._cables[source, target] = Cable(quality, self._random)
        return cable

    def _requalify(self) -> None:
        for way, cable in self._cables.items():
            self._requalify_one(way, cable)

    def _requalify_one(self, way: tuple[str, str], cable: Cable) -> None:
        cable.quality = self._own.get(way, self._common)
        if cable.queue:
            self._line_up(cable, list(cable.queue))

    def _line_up(self, cable: Cable, line: list[Waiting]) -> None:
        """A line before a cable begins anew: at once, where it is not narrow any more."""
        cable.queue.clear()
        cable.lines += 1
        for send, end, what, size in line:
            self._send(end, send, what, size)

    def _waits(self, machine: str, action: Callable[..., None], *args: Any) -> bool:
        """Whether a machine's process handles nothing now; the action then waits until it does."""
        held = self._held.get(machine) if self._held else None
        if held is None:
            return False
        held.actions.append((action, args))
        return True


def _size(message: Message) -> int:
    """Bytes on the wire, at most."""
    return _ENCODERS[type(message)][1](message)
