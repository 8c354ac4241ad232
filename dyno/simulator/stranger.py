"""A hand-made link to a node: says exactly what it is told to, and keeps what it hears.

For tests of what no session would ever do, and of what one certain node answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.wire.messages import PROTOCOL_VERSION, Hello

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.simulator.end import End
    from dyno.simulator.kernel import Kernel
    from dyno.simulator.network import Network
    from dyno.wire.messages import Message

CLIENT_HELLO = Hello(PROTOCOL_VERSION, PROTOCOL_VERSION, "client", b"", 0, "", b"", b"", "")


class Stranger:
    """machine: the name under which cables to it can be cut. heard: all messages so far, the other side's
    Hello first. closed: why the link is no more, or None."""

    def __init__(self, machine: str, address: str, *, kernel: Kernel, network: Network) -> None:
        self.machine = machine
        self.heard: list[Message] = []
        self.closed: str | None = None
        self._kernel = kernel
        self._network = network
        self._end: End | None = None
        self._unsent: list[Message] = []
        network.dial(machine, address, on_connected=self._connected, on_failed=self._failed)

    def send(self, *messages: Message) -> None:
        """All in one frame; as soon as the link is there."""
        self._unsent += messages
        if self._end is not None:
            self._end.queue += self._unsent
            self._unsent.clear()
            self._network.flush(self._end)

    def ask(self, *messages: Message, answers: int = 1, limit_s: float = 10.0) -> list[Message]:
        """Send, and let the simulation run until so many more messages came, the link is closed, or the time
        is up. What came meanwhile."""
        before = len(self.heard)
        self.send(*messages)
        self._kernel.run_until(
            lambda: len(self.heard) - before >= answers or self.closed is not None, limit_s=limit_s
        )
        return self.heard[before:]

    def close(self) -> None:
        if self._end is not None:
            self._network.close(self._end, "closed by the stranger")

    def _connected(self, end: End) -> None:
        self._end = end
        end.on_messages = self._messages
        end.on_closed = self._closed
        self.send()

    def _failed(self, reason: str) -> None:
        self.closed = reason

    def _messages(self, end: End, messages: Sequence[Message]) -> None:
        self.heard += messages

    def _closed(self, end: End, reason: str) -> None:
        self.closed = reason
