"""A machine that greets whoever dials it in a way that no node would."""

from __future__ import annotations

from collections.abc import Sequence

from dyno.simulator.end import End
from dyno.simulator.simulation import Simulation, address_of
from dyno.wire.messages import Datagram, Message


class FakeNode:
    """greeting: what it answers to the first message. greeted: how often."""

    def __init__(self, sim: Simulation, name: str, *greeting: Message) -> None:
        self.greeted = 0
        self.heard: list[Message] = []
        self.ends: list[End] = []
        self.closed: list[str] = []
        self._greeting = greeting
        self._network = sim._network
        self._network.plug(name, address_of(name))
        self._network.listen(address_of(name), self)

    def accept(self, end: End) -> None:
        end.on_messages = self._first
        end.on_closed = self._closed
        self.ends.append(end)

    def receive_datagram(self, source: str, cluster: bytes, message: Datagram) -> None:
        raise AssertionError("nobody sends datagrams to it")

    def send(self, *messages: Message) -> None:
        """On the last link."""
        self.ends[-1].queue += messages
        self._network.flush(self.ends[-1])

    def _first(self, end: End, messages: Sequence[Message]) -> None:
        self.greeted += 1
        self.heard += messages
        end.on_messages = self._further
        end.queue += self._greeting
        self._network.flush(end)

    def _further(self, end: End, messages: Sequence[Message]) -> None:
        self.heard += messages

    def _closed(self, end: End, reason: str) -> None:
        self.closed.append(reason)
