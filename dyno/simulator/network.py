"""A network between machines: connections that keep order, datagrams that do not, and cables to cut.

A *connection* is two ends, each held by one machine. What is queued at an end in one turn leaves as one frame
and arrives after a latency, never before an earlier frame of the same direction; a message too large for a
frame takes the time that its bytes need and may be overtaken, as in `wire.link`. Datagrams arrive each for
itself. Messages cross as values; every so many frames, and datagrams, one goes through the codec and must
come out equal.

A *cut* from one machine to another holds back all that connections would carry, as TCP does by sending it
again and again, until it is healed; datagrams and dials are lost in it. Closing an end tells the other one,
after all that was sent before.

In: machines with names, and what they send. Out: calls of `on_messages`, `on_closed`, `accept` and
`receive_datagram`, at their time. Every arrival goes to the trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from dyno.config import CHUNK_BYTES
from dyno.wire import datagram as datagrams
from dyno.wire.codec import LINK
from dyno.wire.link import LinkCodec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dyno.simulator.kernel import Kernel
    from dyno.simulator.trace import Trace
    from dyno.wire.messages import Datagram, Message

LATENCY_S: Final = (0.0002, 0.001)
BANDWIDTH_BYTES_PER_S: Final = 125_000_000
CODEC_EVERY: Final = 16  # frames, and datagrams, of which one is encoded and decoded

_ENCODERS = LINK.encoders


class Listener(Protocol):
    """A process that can be reached at an address."""

    def accept(self, end: End) -> None:
        """Somebody dialled; this is our end. Sets its `on_messages` and `on_closed`."""

    def receive_datagram(self, source: str, cluster: bytes, message: Datagram) -> None:
        """source: the sender's address. cluster: the id in the packet's head."""


class End:
    """One machine's end of a connection. queue: what leaves at the next `Network.flush`.

    on_messages(end, messages) · on_closed(end, reason); never called for an end that its owner closed."""

    __slots__ = (
        "_arrived_at",
        "_bulk_arrived_at",
        "machine",
        "on_closed",
        "on_messages",
        "open",
        "other",
        "queue",
    )

    on_messages: Callable[[End, Sequence[Message]], None]
    on_closed: Callable[[End, str], None]
    other: End

    def __init__(self, machine: str) -> None:
        self.machine = machine
        self.open = True
        self.queue: list[Message] = []
        self._arrived_at = 0.0  # when the last frame to this end arrives, and the last large message
        self._bulk_arrived_at = 0.0

    def next_arrival(self, at: float) -> float:
        self._arrived_at = max(self._arrived_at, at)
        return self._arrived_at

    def next_bulk_arrival(self, at: float) -> float:
        """A large message follows the small ones before it, whose successors may overtake it."""
        self._bulk_arrived_at = max(self._bulk_arrived_at, self._arrived_at, at)
        return self._bulk_arrived_at

    def last_arrival(self, at: float) -> float:
        return max(self._arrived_at, self._bulk_arrived_at, at)


class Network:
    """latency_s: least and most seconds of a frame's way."""

    def __init__(self, kernel: Kernel, trace: Trace, *, latency_s: tuple[float, float] = LATENCY_S) -> None:
        self._kernel = kernel
        self._trace = trace
        self._random = kernel.random("network").random
        self._latency_s = latency_s
        self._latencies: dict[tuple[str, str], tuple[float, float]] = {}
        self._machine_at: dict[str, str] = {}
        self._address_of: dict[str, str] = {}
        self._listeners: dict[str, Listener] = {}
        self._cuts: dict[tuple[str, str], list[tuple[Callable[[End, Any], None], End, object]]] = {}
        self._sent = 0
        self._ends: dict[str, dict[End, None]] = {}  # open ones, by machine

    # ── machines and cables ──

    def plug(self, machine: str, address: str) -> None:
        """A machine is there, whether a process listens on it or not."""
        self._machine_at[address] = machine
        self._address_of[machine] = address
        self._ends.setdefault(machine, {})

    def listen(self, address: str, listener: Listener | None) -> None:
        """None: nobody listens any more."""
        if listener is None:
            self._listeners.pop(address, None)
        else:
            self._listeners[address] = listener

    def machines(self) -> list[str]:
        """Those with an address, and those that ever dialled."""
        return list(self._ends)

    def set_latency(self, source: str, target: str, latency_s: tuple[float, float]) -> None:
        self._latencies[source, target] = latency_s

    def cut(self, source: str, target: str) -> None:
        """Nothing gets from source to target any more; the other direction has a cable of its own."""
        if (source, target) not in self._cuts:
            self._cuts[source, target] = []
            self._trace.note(self._kernel.now, source, target, "the cable is cut")

    def heal(self, source: str, target: str) -> None:
        """What was held back gets through now, in its order."""
        held = self._cuts.pop((source, target), None)
        if held is not None:
            self._trace.note(self._kernel.now, source, target, "the cable is whole again")
            for send, end, what in held:
                send(end, what)

    def drop(self, one: str, other: str) -> None:
        """Break every connection between two machines; both sides hear of it now."""
        for near in [end for end in self._ends[one] if end.other.machine == other]:
            far = near.other
            self._hang_up(near, "connection reset")
            self._hang_up(far, "connection reset")

    def cuts(self) -> list[tuple[str, str]]:
        return list(self._cuts)

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
        if target is None or (source, target) in self._cuts or (target, source) in self._cuts:
            return
        self._kernel.after(
            self._delay(source, target), self._dialled, source, target, on_connected, on_failed
        )

    def _dialled(
        self, source: str, target: str, on_connected: Callable[[End], None], on_failed: Callable[[str], None]
    ) -> None:
        back = self._delay(target, source)
        listener = self._listeners.get(self._address_of[target])
        if listener is None:
            self._kernel.after(back, on_failed, "connection refused")
            return
        near, far = End(source), End(target)
        near.other, far.other = far, near
        near.on_closed = lambda end, reason: None  # until its owner knows of it
        self._ends[source][near] = self._ends[target][far] = None
        listener.accept(far)
        at = near.next_arrival(self._kernel.now + back)
        self._kernel.at(at, self._connected, near, on_connected, on_failed)

    def _connected(
        self, near: End, on_connected: Callable[[End], None], on_failed: Callable[[str], None]
    ) -> None:
        if near.open:
            on_connected(near)
        else:
            on_failed("connection reset")

    def flush(self, end: End) -> None:
        """Send what is queued at an end: small messages in one frame, each large one for itself."""
        messages, end.queue = end.queue, []
        if not end.open:
            return
        large = [message for message in messages if _size(message) > CHUNK_BYTES]
        if large:
            messages = [message for message in messages if _size(message) <= CHUNK_BYTES]
        if messages:
            self._send(end, self._send_frame, messages)
        for message in large:
            self._send(end, self._send_large, [message])

    def close(self, end: End, reason: str) -> None:
        """The owner of an end is done with it; the other end hears of it. Idempotent."""
        if end.open:
            self._shut(end)
            self._send(end, self._send_close, reason)

    def _send(self, end: End, send: Callable[[End, Any], None], what: object) -> None:
        held = self._cuts.get((end.machine, end.other.machine)) if self._cuts else None
        if held is None:
            send(end, what)
        else:
            held.append((send, end, what))

    def _send_frame(self, end: End, messages: list[Message]) -> None:
        self._sample(messages)
        other = end.other
        at = other.next_arrival(self._kernel.now + self._delay(end.machine, other.machine))
        self._kernel.at(at, self._arrive, other, messages)

    def _send_large(self, end: End, messages: list[Message]) -> None:
        self._sample(messages)
        other = end.other
        way = self._delay(end.machine, other.machine) + _size(messages[0]) / BANDWIDTH_BYTES_PER_S
        self._kernel.at(other.next_bulk_arrival(self._kernel.now + way), self._arrive, other, messages)

    def _send_close(self, end: End, reason: str) -> None:
        other = end.other
        at = other.last_arrival(self._kernel.now + self._delay(end.machine, other.machine))
        self._kernel.at(at, self._hang_up, other, reason)

    def _arrive(self, end: End, messages: list[Message]) -> None:
        if end.open:
            now, source, target = self._kernel.now, end.other.machine, end.machine
            for message in messages:
                self._trace.note(now, source, target, message)
            end.on_messages(end, messages)

    def _hang_up(self, end: End, reason: str) -> None:
        if end.open:
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
        if target is None or (source, target) in self._cuts:
            return
        if self._is_sampled():
            decoded = datagrams.decode(cluster, datagrams.encode(cluster, message))
            assert decoded == message, f"{message} came out of the codec as {decoded}"
        at = self._kernel.now + self._delay(source, target)
        self._kernel.at(at, self._datagram, source, target, cluster, message)

    def _datagram(self, source: str, target: str, cluster: bytes, message: Datagram) -> None:
        listener = self._listeners.get(self._address_of[target])
        if listener is not None:
            self._trace.note(self._kernel.now, source, target, message)
            listener.receive_datagram(self._address_of[source], cluster, message)

    # ── inside ──

    def _delay(self, source: str, target: str) -> float:
        least, most = self._latencies.get((source, target), self._latency_s)
        return least + (most - least) * self._random()

    def _is_sampled(self) -> bool:
        self._sent += 1
        return self._sent % CODEC_EVERY == 0

    def _sample(self, messages: list[Message]) -> None:
        """What is sent as a value could have been sent as bytes."""
        if not self._is_sampled():
            return
        sender, receiver = LinkCodec(), LinkCodec()
        for message in messages:
            sender.send(message)
        received = receiver.feed(sender.drain())
        while sender.pending:
            received += receiver.feed(sender.drain())
        assert received == messages, f"{messages} came out of the codec as {received}"


def _size(message: Message) -> int:
    """Bytes on the wire, at most."""
    return _ENCODERS[type(message)][1](message)
