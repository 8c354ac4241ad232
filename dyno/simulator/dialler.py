"""The links that a node dials, on virtual time: what `server.outbound` is on real sockets.

An address that the node asked for is dialled, greeted, and dialled again after a jittered, growing pause for
as long as the node wants it. What is sent over a link that is not up is dropped, for the node was told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.wire.messages import Hello, Refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

    from dyno.config import Config
    from dyno.simulator.end import End
    from dyno.simulator.network import Network
    from dyno.wire.messages import Message


class _Peer:
    """One address. attempt: grows with every dial and every pause, so that each knows when it is over."""

    __slots__ = ("attempt", "end", "failures", "up")

    def __init__(self) -> None:
        self.attempt = 0
        self.failures = 0
        self.end: End | None = None
        self.up = False


class Dialler:
    """hello: what this node says first. after(seconds, action, …): the process's timers. up(address, hello),
    down(address), refused(address, refuse) and answers(address, messages), which raises ValueError for what
    is no answer."""

    def __init__(
        self,
        *,
        machine: str,
        hello: Callable[[], Hello],
        config: Config,
        after: Callable[..., None],
        network: Network,
        random: Random,
        up: Callable[[str, Hello], None],
        down: Callable[[str], None],
        refused: Callable[[str, Refuse], None],
        answers: Callable[[str, Sequence[Message]], None],
    ) -> None:
        self._machine = machine
        self._hello = hello
        self._config = config
        self._after = after
        self._network = network
        self._random = random
        self._up = up
        self._down = down
        self._refused = refused
        self._answers = answers
        self._peers: dict[str, _Peer] = {}
        self._address_of: dict[End, str] = {}

    def connect(self, address: str) -> None:
        if address not in self._peers:
            peer = self._peers[address] = _Peer()
            self._dial(address, peer)

    def disconnect(self, address: str) -> None:
        peer = self._peers.pop(address, None)
        if peer is not None:
            was_up = peer.up
            peer.attempt += 1
            self._drop(peer, "not wanted any more")
            if was_up:
                self._down(address)

    def end_at(self, address: str) -> End | None:
        """The link to send over, if it is up."""
        peer = self._peers.get(address)
        return peer.end if peer is not None and peer.up else None

    def close(self, reason: str) -> None:
        for peer in self._peers.values():
            peer.attempt += 1
            self._drop(peer, reason)
        self._peers.clear()

    # ── one link's life ──

    def _dial(self, address: str, peer: _Peer) -> None:
        peer.attempt += 1
        attempt = peer.attempt

        def connected(end: End) -> None:
            if peer.attempt != attempt:
                self._network.close(end, "given up")
                return
            peer.end = end
            self._address_of[end] = address
            end.on_messages = self._first_messages
            end.on_closed = self._closed
            end.queue.append(self._hello())
            self._network.flush(end)

        def failed(reason: str) -> None:
            if peer.attempt == attempt and not peer.up:
                self._drop(peer, reason)
                self._pause(address, peer)

        self._network.dial(self._machine, address, on_connected=connected, on_failed=failed)
        self._after(self._config.handshake_timeout_s, failed, "no hello in time")

    def _first_messages(self, end: End, messages: Sequence[Message]) -> None:
        address = self._address_of[end]
        first, *rest = messages
        if isinstance(first, Hello):
            peer = self._peers[address]
            peer.failures = 0
            peer.up = True
            end.on_messages = self._messages
            self._up(address, first)
            if rest and end.open:
                self._messages(end, rest)
            return
        if isinstance(first, Refuse):
            self._refused(address, first)
        self._give_up(end, "refused")

    def _messages(self, end: End, messages: Sequence[Message]) -> None:
        try:
            self._answers(self._address_of[end], messages)
        except ValueError as error:
            self._give_up(end, f"not understood: {error}")

    def _closed(self, end: End, reason: str) -> None:
        self._give_up(end, reason)

    def _give_up(self, end: End, reason: str) -> None:
        """This link is over; another one to the same address may follow."""
        address = self._address_of.get(end)
        if address is None:
            return  # the node that heard of it last has ended, or wants the address no more
        peer = self._peers[address]
        was_up = peer.up
        self._drop(peer, reason)
        self._pause(address, peer)
        if was_up:
            self._down(address)

    def _drop(self, peer: _Peer, reason: str) -> None:
        peer.up = False
        if peer.end is not None:
            self._network.close(peer.end, reason)
            self._address_of.pop(peer.end, None)
            peer.end = None

    def _pause(self, address: str, peer: _Peer) -> None:
        """Dial again after 50 ms, 100 ms, … up to reconnect_max_s, each ± half of it."""
        config = self._config
        pause = min(config.reconnect_max_s, config.reconnect_min_s * 2 ** min(peer.failures, 16))
        peer.failures += 1
        peer.attempt += 1
        self._after(pause * (0.5 + self._random.random()), self._redial, address, peer, peer.attempt)

    def _redial(self, address: str, peer: _Peer, attempt: int) -> None:
        if peer.attempt == attempt:
            self._dial(address, peer)
